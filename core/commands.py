"""Every command, declared once: its name, aliases, summary, and what it takes and answers.

Chats register, parse and describe their commands from this table.
"""

import contextlib
import logging
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from core import (
    catalog,
    choosing,
    editing,
    enhancing,
    flags,
    keys,
    marks,
    membership,
    options,
    parts,
    phrases,
    registry,
    reports,
    steering,
    stock,
    writing,
)
from core.asking import Ask, Reply
from core.cards import DECISIONS, PAGES, PAINT, QUESTIONS, waiting_line
from core.database import AWAY, PATIENCE, is_away
from core.drawing import (
    BEGUN,
    FACTORS,
    IMAGE,
    STRENGTHS,
    draw,
    paint,
    picked,
    upscale,
    upscaled,
    varied,
    vary,
)
from core.errors import NotAllowed, NotFound, TryAgain, UserError, nearest
from core.export import export
from core.forgetting import FORGET, forget
from core.history import ANSWERS, HISTORY, MODES, YES, delete, history, stats, tree, turn
from core.house import House
from core.languages import LANGUAGES, mark, speaking, spoken, tr, trc
from core.lifecycle import State
from core.offers import KINDS
from core.options import COMMAND_OF, OPTIONS, Mode, Option
from core.people import Asker
from core.policy import policy
from core.writers import writers

log = logging.getLogger("drawqueue")

# How long somebody who asked waits for a busy database before they are told to ask again.
ANSWER_SECONDS = 6.0
# What begins the summary of what only moderators may do, who alone see it in /help.
MODERATORS = "Moderators:"
MODERATING = "moderators"
# What a command's name is in the catalogs of core/languages.py.
NAME = "command"
# What /help tells of beside commands.
FLAGS = "flags"


@dataclass(frozen=True)
class Command:
    """One command of every chat; `private` ones are answered where nobody else reads along.

    `example` is what one might type after its name; `mode`, what it draws from; `pictures` can be
    sent along; `menu` is its name where a chat offers it on a picture that stands there.
    """

    name: str
    summary: str
    takes: tuple[Option, ...]
    run: Callable[[House, Ask], Reply]
    aliases: tuple[str, ...] = ()
    private: bool = False
    example: str = ""
    mode: Mode | None = None
    pictures: tuple[Option, ...] = ()
    menu: str = ""
    # Whether it shows again what has its card elsewhere.
    shows: bool = False
    # Whether its answer is a card for everybody in the chat, as is that of what draws.
    card: bool = False
    # Whether all that is typed after its name is its first option, which holds the others.
    line: bool = False
    # Whether flags may follow what it takes first.
    flags: bool = False
    # Whether it may be said of a picture that one sees, whoever asked for it.
    anybodys: bool = False
    # Whether /help tells no more than its name: one message holds what most people want.
    beside: bool = False
    # Whether it changes what is remembered of a person: they say it themselves, no key of theirs.
    personal: bool = False

    @property
    def draws(self) -> bool:
        """Whether it takes a prompt and flags."""
        return self.mode is not None

    @property
    def public(self) -> bool:
        """Whether everybody in the chat sees its answer."""
        return self.draws or self.card

    @property
    def usage(self) -> str:
        """The command as it is typed: what it takes in order, in brackets what may be left out."""
        words = [option.name if option.required else f"[{option.name}]" for option in self.takes]
        if self.flags:
            words = [words[0], "[--flags]"]
        if self.draws:
            words = ["prompt", "[--flags]"]
        if self.line:
            words = [words[0], "[filters]" if self.name == HISTORY else f"[--{self.takes[1].name}]"]
        return " ".join([f"/{self.name}", *words])

    @property
    def typed(self) -> str:
        """An example of it."""
        return f"/{self.name} {self.example}".strip()


def _help(house: House, ask: Ask) -> Reply:
    about = str(ask.given.get("about") or "").strip().lstrip("/-").lower()
    if about == FLAGS:
        rare = " ".join(f"--{one.flags[0]}" for one in OPTIONS if one.flags and one.rare)
        each = [
            f"--{one.flags[0]}: {tr(one.help)}" for one in OPTIONS if one.flags and not one.rare
        ]
        return Reply("\n".join([
            *each, tr("Also: {names}", names=rare),
            tr("/help and a flag's name tells of that one."),
        ]))  # fmt: skip
    # One message holds what everybody can do, another what moderators can.
    theirs = ask.asker.trusted and about == MODERATING
    if about and not theirs:
        return Reply(_told(about))
    shown = [one for one in COMMANDS if one.summary.startswith(MODERATORS) == theirs]
    lines = [f"/{one.name}: {tr(one.summary)}" for one in shown if not one.beside]
    if not theirs:
        beside = " ".join(f"/{one.name}" for one in shown if one.beside)
        lines += [
            tr("Also: {names}", names=beside), "",
            tr("For example: {line}", line=COMMANDS[0].typed),
            tr("/help {command} tells more of a command, /help {flags} all the flags.",
               command=COMMANDS[0].name, flags=FLAGS),
        ]  # fmt: skip
        if ask.asker.trusted:
            lines.append(tr("/help {word} tells what you can do besides.", word=MODERATING))
    return Reply("\n".join(lines))


def _told(about: str) -> str:
    """All there is to say of one command. Raises UserError."""
    command = called(about)
    flag = next((one for one in OPTIONS if about in one.flags), None)
    if command is None and flag:
        return f"{' '.join(f'--{name}' for name in flag.flags)}: {tr(flag.help)}"
    if command is None:
        near = nearest(about, [*_suggested(), FLAGS], 0.5) or COMMANDS[0].name
        raise UserError(
            tr("There is no /{name}. Did you mean /help {near}?", name=about[:30], near=near)
        )
    lines = [command.usage, tr(command.summary)]
    also = [*command.aliases, *filter(None, [names(command).get(spoken())])]
    if also:
        lines.append(tr("Also: {names}", names=", ".join(f"/{name}" for name in also)))
    lines += [f"{one.name}: {tr(one.help)}" for one in command.takes if not one.flags]
    if flags := " ".join(f"--{one.flags[0]}" for one in command.takes if one.flags):
        lines.append(tr("Flags: {flags}", flags=flags))
        lines.append(tr("/help {flags} tells what they do.", flags=FLAGS))
    if command.example:
        lines.append(tr("For example: {line}", line=command.typed))
    return "\n".join(lines)


ID = Option("id", mark("The picture's number."))
PICTURE = Option("id", mark("The picture's number, such as 12 or 12.2; empty: your newest."))
PICTURE_IN_LINE = replace(PICTURE, help=mark("The picture's number; empty: your newest in line."))
REASON = Option("reason", mark("What is wrong with it."))
WHICH = replace(ID, help=mark("The picture's number, or all."))
LEVEL = Option("level", mark("low, normal or high."), required=True, choices=options.PRIORITIES)

COMMANDS: tuple[Command, ...] = (
    Command(
        COMMAND_OF[Mode.TEXT], mark("Draw a picture from a prompt."), options.of(Mode.TEXT),
        partial(draw, mode=Mode.TEXT), ("generate", "draw"),
        example="a red crown on a blue background --seed 7", mode=Mode.TEXT,
    ),
    Command(
        COMMAND_OF[Mode.REMIX], mark("Draw a picture anew, from a prompt and the picture."),
        options.of(Mode.REMIX), partial(draw, mode=Mode.REMIX),
        example="a green crown --from 12 --strength 0.6", mode=Mode.REMIX,
        pictures=BEGUN[Mode.REMIX], menu=mark("Remix this"),
    ),
    Command(
        COMMAND_OF[Mode.INPAINT], mark("Paint over what a mask shows, or around a picture."),
        options.of(Mode.INPAINT), partial(draw, mode=Mode.INPAINT),
        example="a blue sea --from 12 --zoom 1.5", mode=Mode.INPAINT, pictures=BEGUN[Mode.INPAINT],
    ),
    Command(
        COMMAND_OF[Mode.STYLE],
        mark("Draw in the style of a picture: of the last, where there are two."),
        options.of(Mode.STYLE), partial(draw, mode=Mode.STYLE),
        example="a castle --from 12 --style-strength 0.8", mode=Mode.STYLE,
        pictures=BEGUN[Mode.STYLE],
    ),
    Command(
        COMMAND_OF[Mode.BLEND], mark("Draw one picture from two to five."), options.of(Mode.BLEND),
        partial(draw, mode=Mode.BLEND), example="a castle in the sea --from 12 13.2",
        mode=Mode.BLEND, pictures=BEGUN[Mode.BLEND],
    ),
    Command(
        COMMAND_OF[Mode.WRITE], mark("Have something written."),
        (
            Option("prompt", mark("What to write."), required=True),
            Option("model", mark("Which model writes.")),
        ),
        writing.write, example=mark("a poem about the sea"), card=True, line=True,
    ),
    Command(
        COMMAND_OF[Mode.DESCRIBE], mark("Have a picture described, as a prompt."), (PICTURE,),
        writing.describe, example="12", card=True, pictures=(IMAGE,), menu=mark("Describe this"),
    ),
    Command(
        "vary", mark("Draw others like a picture."),
        (PICTURE, Option("how", mark("subtle or strong."), choices=tuple(dict(STRENGTHS)))), vary,
        example="12.2 strong", card=True,
    ),
    Command(
        COMMAND_OF[Mode.UPSCALE], mark("Make a picture two or four times larger."),
        (PICTURE, Option("factor", mark("2 or 4."), choices=FACTORS)), upscale, example="12.2 4",
        pictures=(IMAGE,), menu=mark("Upscale this"), card=True,
    ),
    Command(
        "paint", mark("Paint with a brush over what shall change in a picture."), (PICTURE,), paint,
        example="12", private=True, beside=True,
    ),
    Command(
        "random", mark("Draw a prompt made by chance; with a seed, the same one."), phrases.RANDOM,
        phrases.at_random, example="subjects styles --seed 7", card=True, flags=True,
    ),
    Command(
        "words", mark("See words that help to write a prompt."), (phrases.CATEGORY, phrases.PROMPT),
        phrases.words, example="styles a castle",
    ),
    Command("queue", mark("See your pictures in line, and how busy it is."), (), steering.queue),
    Command(
        "show", mark("Show a picture again by its number."), (ID,), steering.show,
        example="12", shows=True, card=True, beside=True,
    ),
    Command(
        "identify", mark("Tell what made a picture that you send, by its file or its looks."),
        (replace(ID, help=mark("Its number, where you know it.")),), steering.identify, ("info",),
        pictures=(IMAGE,), menu=mark("What made this?"), shows=True, beside=True,
    ),
    Command(
        "history", mark("Find your pictures again."),
        (
            Option("words", mark("Words in the prompt, such as lighthouse storm, or light*.")),
            Option("mode", mark("How it was made."), choices=tuple(MODES)),
            Option("state", mark("What became of it."), choices=tuple(map(str, State))),
            Option("model", mark("What drew it.")),
            Option("since", mark("A date such as 2026-11-01, or how long ago, such as 7d.")),
            Option("until", mark("A date such as 2026-11-01, or how long ago, such as 7d.")),
            Option("before", mark("Go on from this picture's number, such as 120.")),
            Option("chat", mark("yes: everybody's of this chat, where the host allows it."),
                    choices=ANSWERS),
            Option("tag", mark("What you put on it with /tag.")),
            Option("favourite", mark("yes: those alone that you keep with /favourite."),
                    choices=YES),
        ),
        history, example="lighthouse storm state:done since:7d", line=True,
    ),
    Command(
        "favourite", mark("Keep a picture among your favourites."),
        (PICTURE, Option("keep", mark("no, to keep it no longer."), choices=ANSWERS)),
        marks.favourite, example="12", private=True, beside=True,
    ),
    Command(
        "tag", mark("Put tags on a picture, to find it again."),
        (
            replace(PICTURE, help=mark("The picture's number, such as 12 or 12.2."), required=True),
            Option("words", mark("Tags with commas between; one after a minus is taken away.")),
        ),
        marks.tag, example="12 sea, night", private=True, beside=True,
    ),
    Command("stats", mark("Count your pictures and their time."), (), stats, beside=True),
    Command(
        "tree", mark("Show a picture's family."), (PICTURE,), tree, example="12", private=True,
        beside=True,
    ),
    Command(
        "delete", mark("Delete a picture of yours."), (replace(ID, required=True),), delete,
        example="12", personal=True,
    ),
    Command(
        "export", mark("Take all of yours away as a ZIP."),
        (), export, private=True, personal=True, beside=True,
    ),
    Command(
        FORGET, mark("Forget everything of yours, for good."),
        (Option("sure", mark("yes, to be asked no more."), choices=YES),), forget,
        private=True, personal=True,
    ),
    Command(
        "cancel", mark("Cancel your newest picture, one by its number, or all."), (WHICH,),
        steering.cancel,
    ),
    Command(
        "edit", mark("Change your picture while it waits in line."),
        (PICTURE_IN_LINE, editing.WORDS), editing.edit, example="12 a blue crown --steps 30",
    ),
    Command("retry", mark("Draw a picture again by its number."), (ID,), steering.retry, card=True),
    Command("models", mark("List what can draw."), (), stock.models),
    Command(
        "quota", mark("See what you may still ask for today, and your account."), (),
        membership.quota, beside=True,
    ),
    Command(
        "priority", mark("Move a picture among your own in line."), (LEVEL, ID), steering.priority,
        example="high 12", beside=True,
    ),
    Command(
        "class", mark("See your class, or choose another that is yours."),
        (Option("choice", mark("The class to be in.")),), membership.choose,
        example="relax", personal=True, beside=True,
    ),
    Command(
        "link", mark("Be one person on several platforms, by a code."),
        (
            Option("code", mark("The code from the other platform.")),
            Option("sure", mark("yes, when that account is yours.")),
        ),
        membership.link, private=True, personal=True,
    ),
    Command(
        "unlink", mark("Let this account be by itself again."), (), membership.unlink,
        personal=True, beside=True,
    ),
    Command(
        "key", mark("Make, list or take back keys for programs of yours."),
        (
            Option("task", f"{', '.join(keys.DOES)}.", choices=keys.DOES),
            Option(
                "which", mark("A new one's name, read or draw before it; an old one's number.")
            ),
        ),
        keys.command, example="new draw my script", private=True, personal=True, beside=True,
    ),
    Command(
        "settings", mark("See or change how your pictures are drawn where you say nothing."),
        (
            Option("change", mark("set or reset; empty: see them all.")),
            Option("setting", f"{', '.join(choosing.OFFERED['setting'])}."),
            Option("value", mark("What it shall be.")),
            Option("where", mark("channel, to set it for everybody in this one.")),
        ),
        choosing.settings, example="set sampler Euler a", personal=True,
    ),
    Command(
        "preset", mark("Use, save and share ready-made looks for pictures."),
        (
            Option("act", f"{', '.join(choosing.ACTS)}."),
            Option("name", mark("The preset's name.")),
            Option("words", mark("A prompt to draw; to save, a picture's number and a template.")),
        ),
        choosing.preset, example=choosing.ACTS["use"],
    ),
    Command(
        "quiet", mark("Turn the mention after a long wait off, or on again."), (), membership.quiet,
        personal=True, beside=True,
    ),
    Command(
        "report", mark("Tell the moderators of a picture."),
        (replace(ID, help=mark("The picture's number.")), REASON), reports.report,
        example=mark("12 it shows me"), menu=mark("Report this"), anybodys=True,
    ),
    Command(
        "takedown", mark("Moderators: take a picture away for everybody."), (ID, REASON),
        reports.takedown, example=mark("12 it shows somebody"), anybodys=True, personal=True,
    ),
    Command(
        "reports", mark("Moderators: see what was reported, or keep it."),
        (Option("stays", mark("The number of a picture that may stay.")),), reports.listed,
        example="12", private=True, personal=True,
    ),
    Command(
        "first", mark("Moderators: put a picture before everybody's."),
        (replace(ID, required=True),), steering.first, example="12",
    ),
    Command(
        "grant", mark("Moderators: give somebody a class, or none."),
        (
            Option("who", mark("Their account, as /quota tells it to them."), required=True),
            Option("choice", mark("The class, or none."), required=True),
        ),
        membership.grant, example="discord:123 fast",
    ),
    Command(
        "model", mark("Moderators: change what draws."), stock.CHANGES, stock.change,
        example=stock.EXAMPLES["add"], private=True,
    ),
    Command(
        "help", mark("What I can do."),
        (Option("about", mark("A command, or flags; empty: all commands.")),), _help, ("start",),
        example="imagine",
    ),
)  # fmt: skip
BY_NAME: Mapping[str, Command] = {
    name: command for command in COMMANDS for name in (command.name, *command.aliases)
}


def names(command: Command) -> dict[str, str]:
    """What a command is called in each language that has a name of its own for it."""
    known = _localised()
    return {
        language: name for language, name in _said(command).items() if known[name] is command
    }  # fmt: skip


def called(name: str) -> Command | None:
    """The command that a name means, in whatever language; a name of two means none."""
    # Many a keyboard has no accents at hand.
    return BY_NAME.get(name) or _localised().get(name) or _localised(plain=True).get(_bare(name))


def _bare(name: str) -> str:
    """A name without accents."""
    parts = unicodedata.normalize("NFD", name)
    return "".join(one for one in parts if not unicodedata.combining(one))


def _localised(*, plain: bool = False) -> dict[str, Command | None]:
    """Every name that only another language has."""
    found: dict[str, Command | None] = {}
    for command in COMMANDS:
        for said in _said(command).values():
            name = _bare(said) if plain else said
            other = name in BY_NAME or found.get(name, command) is not command
            found[name] = None if other else command
    return found


def _suggested() -> dict[str, Command]:
    """Every command by the names that who is spoken to may have meant."""
    known, mine = _localised(), (_said(one).get(spoken(), "") for one in COMMANDS)
    return {**{name: one for name in mine if (one := known.get(name))}, **BY_NAME}


def _said(command: Command) -> dict[str, str]:
    """A command's name in each language that calls it differently."""
    found = {}
    for language in LANGUAGES:
        with speaking(language):
            found[language] = trc(NAME, command.name)
    return {language: name for language, name in found.items() if name != command.name}


@contextlib.contextmanager
def _answering(house: House, asker: Asker) -> Iterator[None]:
    """Speak the asker's language, give the database a few seconds, and then say so.

    Raises TryAgain.
    """
    before = PATIENCE.set(ANSWER_SECONDS)
    try:
        with speaking(house.speaks(asker)):
            try:
                yield
            except AWAY as error:
                if not is_away(error):
                    raise
                log.warning("could not do what was asked: %s", error.orig)
                told = tr("I could not do that just now. Please try again.")
                raise TryAgain(told) from error
    finally:
        PATIENCE.reset(before)


def run(house: House, name: str, ask: Ask) -> Reply:
    """Run a command. Raises UserError with words for the asker, in their language."""
    with _answering(house, ask.asker):
        return _run(house, name, ask)


def _run(house: House, name: str, ask: Ask) -> Reply:
    command = called(name)
    if command is None:
        # What somebody mistyped, signs and all.
        known = _suggested()
        near = nearest(re.sub(r"[\W\d_]", "", name.lower()), known, 0.5) or COMMANDS[0].name
        meant = f"/{near}" + (" …" if known[near].takes else "")
        raise UserError(
            tr(
                "There is no “/{name}”. Did you mean {meant}? /help tells what I can do.",
                name=name[:30], meant=meant,
            )
        )  # fmt: skip
    if command.personal:
        _themselves(ask)
    if command.draws or command.flags:
        return command.run(house, ask)
    given = dict(ask.given)
    for option in command.takes:
        value = str(given.get(option.name) or "").strip()
        if option.required and not value:
            needed = [one.name for one in command.takes if one.required]
            raise UserError(_needs(name, needed, command.typed))
        if option.choices and value:
            given[option.name] = value.lower()
            if value.lower() not in option.choices:
                raise UserError(
                    tr(
                        "“{option}” must be one of {choices}; got {value}.",
                        option=option.name, choices=", ".join(option.choices), value=value[:40],
                    )
                )  # fmt: skip
    return command.run(house, replace(ask, given=given))


def _needs(name: str, needed: Sequence[str], example: str) -> str:
    if len(needed) == 1:
        return tr(
            "/{name} needs {what}, such as {example}.", name=name, what=needed[0], example=example
        )
    return tr(
        "/{name} needs {some} and {last}, such as {example}.",
        name=name, some=", ".join(needed[:-1]), last=needed[-1], example=example,
    )  # fmt: skip


def _themselves(ask: Ask) -> None:
    if ask.asker.program:
        raise NotAllowed(tr("A key may not do that for you: write it to me in a chat yourself."))


# A command in front of a line, in letters of any script.
TYPED = re.compile(r"/([^\W\d][\w-]*)(?:@\w+)?(?:\s+|$)")
# What may be written for these changes while a bot runs.
CHANGING = ("model", "lora", "what")


def suggestions(option: str, command: str = "") -> list[str]:
    """What may be written for an option, of a command where those differ, if the house knows."""
    if option == "model" and command == COMMAND_OF[Mode.WRITE]:
        return list(writers())
    if option == "about":
        return [FLAGS, MODERATING, *BY_NAME]
    if option == "model":
        return list(catalog.models())
    if option == "lora":
        return catalog.known_parts(parts.loras)
    if option == "vae":
        return catalog.known_parts(parts.vaes)
    if option == "what":
        return sorted({name for kind in KINDS for name in registry.known(kind)})
    if option == "category":
        return list(phrases.phrases())
    if option == "choice":
        return list(policy().classes)
    if option in choosing.OFFERED:
        return list(choosing.OFFERED[option])
    known = (*OPTIONS, *(one for command in COMMANDS for one in command.takes))
    return next((list(o.choices) for o in known if o.name == option), [])


def press(house: House, action: str, generation: int, ask: Ask) -> Reply:
    """What a button does; only for who asked, or a moderator. Raises UserError."""
    with _answering(house, ask.asker):
        return _press(house, action, generation, ask)


def _press(house: House, action: str, generation: int, ask: Ask) -> Reply:
    if action == phrases.WORDS:
        return phrases.pressed(house, generation, ask)
    if action in QUESTIONS:
        return _answered(house, action, generation, ask)
    if action in DECISIONS:
        return reports.decided(house, action, generation, ask)
    if action in PAGES:
        return turn(house, action, generation, ask)
    old = house.generations.touchable(generation, ask.asker)
    if action == "why":
        if old.state != State.QUEUED:
            return Reply(steering.status(house, old))
        return Reply(waiting_line(old, house.generations.standing(old)))
    if action == "edit":
        return Reply(editing.line(house.generations.editable(generation, ask.asker)),
                     edits=generation)  # fmt: skip
    if action == "enhance":
        return enhancing.propose(house, ask, generation)
    if action == "use":
        return enhancing.use(house, ask, old)
    if action == "cancel":
        return Reply(generation=house.generations.cancel(generation, ask.asker))
    if action == "more":
        return writing.go_on(house, ask, old)
    if action == "picture":
        return draw(house, replace(ask, given=writing.drawn_from(old)), Mode.TEXT)
    if action == PAINT:
        return paint(house, replace(ask, given={"id": str(generation)}))
    if action in dict(STRENGTHS):
        return varied(house, ask, old, 0, action)
    if made := re.fullmatch(r"([uv]|up)(\d)", action):
        number = int(made[2])
        match made[1]:
            case "u":
                return picked(house, ask, old, number - 1)
            case "v":
                return varied(house, ask, old, number - 1, "strong")
            case _:
                return upscaled(house, ask, old, 0, number)
    return steering.again(house, ask, old, new_seed=action == "reseed")


def choose(house: House, id_: str, ask: Ask) -> Reply:
    """What choosing something does; only for who was asked. Raises UserError."""
    with _answering(house, ask.asker):
        _themselves(ask)
        return choosing.chosen(house, id_, ask)


def change(
    house: House, number: int, words: str, ask: Ask, *, whole: bool = False, enhance: bool = False
) -> Reply:
    """Draw a queued picture from other words; see `editing.change`. To `enhance` them a better
    prompt is written besides, and shown. Raises UserError."""
    with _answering(house, ask.asker):
        told = editing.change(house, ask, number, words, whole=whole)
        return enhancing.propose(house, ask, number) if enhance else told


def _answered(house: House, action: str, number: int, ask: Ask) -> Reply:
    asked = house.proposals.get(number, ask.asker)
    if asked.command == HISTORY:
        raise NotFound(tr("That question is not known any more."))
    if asked.answer not in (None, action):
        agreed_to = asked.answer == "agree"
        raise NotAllowed(
            tr("That was agreed to already.") if agreed_to else tr("That was declined already.")
        )
    if action == "refuse":
        house.proposals.answer(number, action)
        if asked.command == FORGET:
            return Reply(tr("Nothing is forgotten."))
        return Reply(tr("Nothing was queued."))
    # Noted first: what was agreed to is queued at the next press, whatever died in between.
    house.proposals.answer(number, action)
    if not all(house.media.has(one.key) for one in asked.pictures):
        raise UserError(tr("The picture you sent is not kept any more. Ask again, please."))
    agreed = Ask(
        ask.asker, f"agreed:{number}", ask.address, asked.given, agreed=True,
        pictures=asked.pictures, settled=True,
    )  # fmt: skip
    if asked.command == phrases.WORDS:
        return phrases.drawn(house, replace(agreed, settled=False), asked.given)
    return BY_NAME[asked.command].run(house, agreed)


def from_text(text: str) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Split a typed line into command, given options and faults; plain text is a prompt.

    A line that begins with a slash is never one: its command may be none that there is.
    """
    text = text.strip()
    name, rest = "imagine", text
    if text.startswith("/"):
        match = TYPED.match(text)
        name = _as_called(match[1]) if match else (text[1:].split() or [""])[0]
        if not match and called(name):
            name = f" {name}"
        rest = text[match.end() :] if match else ""
    command = BY_NAME.get(name)
    if command is None or not command.takes:
        return name, {}, ()
    if command.draws:
        given, faults = flags.split_flags(rest)
        return name, given, tuple(faults)
    if command.line:
        return name, {command.takes[0].name: rest.strip()} if rest.strip() else {}, ()
    if command.flags:
        given, faults = flags.split_flags(rest)
        return name, {command.takes[0].name: given.pop("prompt"), **given}, tuple(faults)
    words = rest.split(maxsplit=len(command.takes) - 1)
    names = (option.name for option in command.takes)
    return name, {what: word.strip() for what, word in zip(names, words, strict=False)}, ()


def _as_called(name: str) -> str:
    """A name as the table has it, or as it was typed where there is none."""
    name = unicodedata.normalize("NFC", name).lower()
    command = None if name in BY_NAME else called(name)
    return command.name if command else name


def completions(text: str, most: int) -> list[str]:
    """What a prompt that is being typed may become, from memory; nothing of another command's."""
    if len(text) > options.PROMPT_LIMIT:
        return []
    if text.startswith("/"):
        match = TYPED.match(text)
        command = called(match[1].lower()) if match else None
        if command is None or not command.draws or not re.search(r"\s", text):
            return []
    return phrases.completions(text, most)


def table() -> str:
    """The commands as the Markdown table that stands in the README."""
    rows = ["| command | what it does |", "| --- | --- |"]
    for command in COMMANDS:
        also = "".join(f", `/{name}`" for name in command.aliases)
        rows.append(f"| `{command.usage}`{also} | {command.summary} |")
    return "\n".join(rows)
