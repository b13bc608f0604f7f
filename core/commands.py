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

from redis.exceptions import RedisError

from core import (
    catalog,
    choosing,
    editing,
    enhancing,
    flags,
    keys,
    marks,
    options,
    parts,
    phrases,
    registry,
    reports,
    writing,
)
from core.asking import Ask, Reply, generation_id, index_of, picture_number, which_one
from core.cards import DECISIONS, PAGES, PAINT, QUESTIONS, status_line, waiting_line
from core.choosing import MENTIONING
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
from core.engine import MARK
from core.errors import NotAllowed, NotFound, TryAgain, UserError, nearest
from core.export import export, let_go
from core.forgetting import FORGET, forget
from core.generations import FIRST
from core.history import ANSWERS, HISTORY, MODES, YES, delete, history, stats, tree, turn
from core.house import House
from core.languages import LANGUAGES, mark, speaking, spoken, tr, trc, trn
from core.lifecycle import PENDING, RUNNING, State
from core.offers import KINDS
from core.options import COMMAND_OF, OPTIONS, Mode, Option
from core.people import Asker
from core.policy import policy
from core.providers import PROVIDERS, provider_of
from core.queue import DRAW
from core.rows import Generation
from core.writers import writers

log = logging.getLogger("drawqueue")

# How long somebody who asked waits for a busy database before they are told to ask again.
ANSWER_SECONDS = 6.0
# So many of a model's LoRAs and VAEs are named; autocomplete knows them all.
FEW_PARTS = 8
# What begins the summary of what only moderators may do, who alone see it in /help.
MODERATORS = "Moderators:"
NOTHING_TO_CANCEL = mark("You have nothing to cancel.")
MODERATING = "moderators"
# As many lines as the shortest of the chats' messages holds.
LISTED = 15
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


def _status(house: House, one: Generation) -> str:
    status = status_line(one, house.generations.standing(one), house.generations.progress(one))
    prompt = one.request.prompt[:60]
    return tr("#{number} {status}: {prompt}", number=one.id, status=status, prompt=prompt)


def _queue(house: House, ask: Ask) -> Reply:
    mine = house.generations.pending(ask.asker)
    lines = [_status(house, one) for one in mine[:LISTED]]
    if len(mine) > LISTED:
        lines.append(tr("… and {number} more.", number=len(mine) - LISTED))
    counts = house.generations.counts()
    running = sum(counts.get(state, 0) for state in RUNNING)
    everybody = tr(
        "In all: {queued} queued, {running} running.",
        queued=counts.get(State.QUEUED, 0), running=running,
    )  # fmt: skip
    return Reply("\n".join([*(lines or [tr("You have nothing in the queue.")]), everybody]))


def _show(house: House, ask: Ask) -> Reply:
    place = None
    if ask.given.get("id"):
        which, place = picture_number(ask.given["id"])
    else:
        which = which_one(house, ask, frozenset(State), mark("You have nothing to show."))
    found = house.generations.visible(which, ask.asker)
    if place and found.state == State.DONE:
        # Its card shows them all; one that is not there is told.
        found.picture(place - 1)
    if found.state in PENDING:
        # Its card stands elsewhere and moves there; a second one would stand still.
        return Reply(_status(house, found))
    return Reply(generation=found, fresh=True)


def _identify(house: House, ask: Ask) -> Reply:
    """What made a picture: by the recipe in its file, or by its looks among the asker's own."""
    if ask.given.get("id"):
        return _show(house, ask)
    if not ask.pictures:
        raise UserError(tr("Which picture? Send one along, or answer one with this command."))
    # Decoders of pictures, which few commands need.
    from core import receipts

    brought = ask.pictures[0]
    receipt = receipts.read(brought.receipt)
    if receipt and receipt.generation:
        with contextlib.suppress(NotFound):
            one = house.generations.visible(receipt.generation, ask.asker)
            if one.request.prompt == receipt.given.get("prompt"):
                return Reply(generation=one, fresh=True)
    known = [
        receipts.Known(number, str(one["look"]), int(one["width"]), int(one["height"]))
        for number, results in house.generations.finished(ask.asker)
        for one in results
        if one.get("look")
    ]
    number = receipts.nearest(house.uploads.opened(brought), known)
    if number:
        return Reply(generation=house.generations.get(number), fresh=True)
    if receipt is None:
        raise UserError(
            tr(
                "I do not know that picture: it is none of yours that I keep, and its file says "
                "nothing of how it was made."
            )
        )
    says = tr("Its file says how it was made. To draw it here:")
    if receipt.begun:
        says = tr(
            "Its file says how it was made. It began with another picture, which no file holds. To "
            "draw it here:"
        )
    return Reply(f"{says}\n{receipt.line()}")


def _cancel(house: House, ask: Ask) -> Reply:
    if str(ask.given.get("id") or "").strip().lower() == ALL:
        ended = house.generations.cancel_all(ask.asker)
        if not ended:
            raise UserError(tr(NOTHING_TO_CANCEL))
        return Reply(trn("{n} picture is cancelled.", "{n} pictures are cancelled.", ended))
    which = which_one(house, ask, PENDING, NOTHING_TO_CANCEL)
    return Reply(generation=house.generations.cancel(which, ask.asker))


def _retry(house: House, ask: Ask) -> Reply:
    nothing = mark("You have nothing to retry.")
    which = which_one(house, ask, frozenset(State) - PENDING, nothing)
    return _again(house, ask, house.generations.visible(which, ask.asker))


def _again(house: House, ask: Ask, old: Generation, *, new_seed: bool = False) -> Reply:
    if old.request.mode == Mode.ENHANCE:
        return enhancing.again(house, ask, old)
    # The same words from the same seed would be no other.
    new_seed = new_seed or (old.request.mode.words and old.state == State.DONE)
    made = house.generations.redo(
        old.id, ask.asker, ask.event, new_seed=new_seed, address=ask.address or None,
        message=ask.message, manner=house.tastes.manner(ask.asker),
    )  # fmt: skip
    return Reply(generation=made, fresh=made.id != old.id)


def _models(house: House, ask: Ask) -> Reply:
    loaded: frozenset[str] = frozenset()
    with contextlib.suppress(RedisError):
        loaded = house.queue.draw.loaded()
    shown = list(catalog.models().values())
    lines = [_told_of(model, model.name in loaded) for model in shown[:LISTED]]
    if len(shown) > LISTED:
        others = ", ".join(model.name for model in shown[LISTED:])
        lines.append(tr("Also: {names}", names=others[:300]))
    return Reply("\n".join(lines), samples=registry.samples())


def _told_of(model: catalog.Model, loaded: bool) -> str:
    """What one model can do, in a line."""
    # What an engine elsewhere does not know is not its own to tell.
    steered = {"steps": trn("{n} step", "{n} steps", model.steps), "sampler": model.sampler}
    what = [
        f"{model.size}×{model.size}",
        *(told for name, told in steered.items() if told and name not in model.family.lacks),
        tr("up to {number} pixels a side", number=model.largest),
    ]  # fmt: skip
    ways = [f"/{COMMAND_OF[mode]}" for mode in Mode if mode in model.modes and mode != Mode.UPSCALE]
    name = tr("{model} (loaded)", model=model.name) if loaded else model.name
    if elsewhere := PROVIDERS.get(model.engine):
        # Translators: of a model that a service or a server draws with, such as kie.ai.
        name = tr("{model} (elsewhere, by {engine})", model=model.name, engine=elsewhere.title)
    words = f"{name}: {', '.join(what)}; {' '.join(ways)}"
    for title, kind in (("LoRAs", parts.loras), ("VAEs", parts.vaes)):
        if fitting := [one.name for one in kind(model).values()]:
            known, more = ", ".join(fitting[:FEW_PARTS]), len(fitting) - FEW_PARTS
            if more > 0:
                known = tr("{names} and {number} more", names=known, number=more)
            words += f"; {title}: {known}"
    if lacks := [one.flags[0] for one in OPTIONS if one.name in model.family.lacks]:
        without = tr("without {flags}", flags=" ".join(f"--{flag}" for flag in lacks))
        words += f"; {without}"
    note = registry.note("model", model.name)
    return f"{words}. {note}".strip() if note else words


def _quiet(house: House, ask: Ask) -> Reply:
    if ask.asker.platform not in MENTIONING:
        return Reply(tr(choosing.NOBODY))
    if house.people.turn_quiet(ask.asker):
        return Reply(
            tr("I will not mention you any more when a picture took long. /quiet again to undo.")
        )
    return Reply(tr("I will mention you again when a picture took long."))


def _quota(house: House, ask: Ask) -> Reply:
    told = house.generations.admission.quota(ask.asker)
    account = tr(
        "Your account is {account}; settings, policies and /grant call it so.",
        account=ask.asker.account,
    )
    return Reply(f"{told}\n{account}")


def _priority(house: House, ask: Ask) -> Reply:
    nothing = mark("You have nothing to move.")
    which = which_one(house, ask, frozenset({State.QUEUED}), nothing)
    level = options.PRIORITIES.index(ask.given["level"])
    moved = house.generations.move(which, ask.asker, level)
    return Reply(_status(house, moved))


def _first(house: House, ask: Ask) -> Reply:
    if not ask.asker.trusted:
        raise NotAllowed(tr("Only a moderator whom the host lists can put a picture first."))
    moved = house.generations.move(generation_id(ask.given["id"]), ask.asker, FIRST)
    return Reply(_status(house, moved))


def _model(house: House, ask: Ask) -> Reply:
    """What moderators do with what draws; see core/registry.py."""
    if not ask.asker.trusted:
        raise NotAllowed(tr("Only a moderator whom the host lists can change what draws."))
    do, kind, what, name = (
        str(ask.given.get(option.name) or "").strip() for option in (DO, OF, WHAT, DETAIL)
    )
    kept = house.registry
    if do == "list":
        lines = [one for one in kept.listed() if not kind or one.startswith(f"{kind} ")]
        if len(lines) > LISTED:
            more = tr("… and {number} more: /model list lora", number=len(lines) - LISTED)
            lines = [*lines[:LISTED], more]
        nothing = tr("Nobody added anything yet: /models lists what draws.")
        return Reply("\n".join(lines) or nothing)
    if not kind or not what:
        raise UserError(
            tr(
                "/model {act} needs kind and what, such as /model {example}.",
                act=do, example=EXAMPLES[do],
            )
        )  # fmt: skip
    match do:
        case "add":
            return Reply(kept.add(kind, what, name, ask.asker, workers=_workers(house, what)))
        case "hide" | "unhide":
            return Reply(kept.hide(kind, what, ask.asker, do == "hide"))
        case "default":
            return Reply(kept.choose(kind, what, ask.asker))
        case "picture":
            return Reply(_sampled(house, ask, kind, what, name))
        case "note":
            return Reply(kept.describe(kind, what, name, ask.asker))
        case _:
            picture = registry.picture_of(kind, what)
            said = kept.remove(kind, what)
            if picture:
                house.media.delete(picture)
            return Reply(said)


def _sampled(house: House, ask: Ask, kind: str, what: str, number: str) -> str:
    """Let one's own finished picture show what a model or a LoRA draws."""
    generation, place = picture_number(number)
    one = house.generations.own(generation, ask.asker)
    result = one.picture(index_of(one, place))
    drawn = [one.request.model] if kind == "model" else [name for name, _ in one.request.loras]
    if kind not in ("model", "lora"):
        raise UserError(tr("Only models and LoRAs have a picture of what they draw."))
    if what.lower() not in [name.lower() for name in drawn] or one.request.mode == Mode.UPSCALE:
        raise UserError(tr("#{number} was not drawn with {what}.", number=one.id, what=what[:60]))
    if result.get(MARK):
        raise UserError(
            tr(
                "#{number} is not for everybody: it is marked as {label}.",
                number=one.id, label=result[MARK],
            )
        )  # fmt: skip
    what = house.registry.named(kind, what)
    try:
        small = house.uploads.small(house.media.load(str(result["key"])))
    except FileNotFoundError:
        told = tr("The picture of #{number} is no longer kept.", number=one.id)
        raise NotFound(told) from None
    old = registry.picture_of(kind, what)
    house.registry.picture(kind, what, house.media.save_sample(one.id, small), ask.asker)
    if old:
        house.media.delete(old)
    return tr(
        "Everybody sees a small copy of #{number} beside {what} in /models now.",
        number=one.id, what=what,
    )  # fmt: skip


def _workers(house: House, source: str) -> bool:
    """Whether somebody is on line who sees, or asks, what a source names."""
    elsewhere = provider_of(source)
    with contextlib.suppress(RedisError):
        return house.queue.line(elsewhere[0] if elsewhere else DRAW).workers() > 0
    return False


def _class(house: House, ask: Ask) -> Reply:
    person = house.people.get(ask.asker.platform, ask.asker.id)
    choice = person.classes(policy(), ask.asker)
    wanted = str(ask.given.get("choice") or "").strip().lower()
    if not wanted:
        if len(choice) == 1:
            return Reply(tr("Your class is {name}.", name=choice[0]))
        return Reply(
            tr(
                "Your class is {name}. Yours to choose: {names}.",
                name=choice[0], names=", ".join(choice),
            )
        )  # fmt: skip
    if wanted not in choice:
        raise NotAllowed(
            tr(
                "Class {name} is not yours here. Yours: {names}.",
                name=wanted[:40], names=", ".join(choice),
            )
        )  # fmt: skip
    house.people.choose(ask.asker, wanted)
    return Reply(
        tr("Your class is {name} from now on; what is in line keeps the one it has.", name=wanted)
    )


def _grant(house: House, ask: Ask) -> Reply:
    if not ask.asker.trusted:
        raise NotAllowed(tr("Only a moderator whom the host lists can give somebody a class."))
    name = str(ask.given["choice"]).strip().lower()
    if name not in policy().classes and name != "none":
        raise UserError(
            tr(
                "There is no class {name}. Known: {names}.",
                name=name[:40], names=", ".join(policy().classes),
            )
        )  # fmt: skip
    who = str(ask.given["who"]).strip()
    mention = re.fullmatch(r"<@!?([0-9]{1,20})>|@?([0-9]{1,20})", who)
    platform, id_ = ask.asker.platform, mention and (mention[1] or mention[2])
    if account := re.fullmatch(r"(discord|telegram|web):(?:user:)?([\w-]{1,64})", who):
        platform, id_ = account[1], account[2]
    if not id_:
        raise UserError(
            tr(
                "Say to whom by their account, which /quota tells them, for example telegram:123, "
                "or just 123 for somebody of this platform."
            )
        )
    house.people.grant(platform, id_, "" if name == "none" else name)
    granted = f"{platform}:{id_}"
    if name == "none":
        return Reply(tr("{account} has no granted class any more.", account=granted))
    return Reply(tr("{account} is in class {name} now.", account=granted, name=name))


def _link(house: House, ask: Ask) -> Reply:
    code = str(ask.given.get("code") or "").strip()
    if not code:
        return Reply(
            tr(
                "Write /link {code} to me on your other platform within ten minutes. Pictures, "
                "quota and place in line are then one. Give the code to nobody: whoever enters it "
                "shares all that.",
                code=house.people.code(ask.asker),
            )
        )
    if str(ask.given.get("sure") or "").strip().lower() != "yes":
        other = house.people.offered(ask.asker, code)
        return Reply(
            tr(
                "That is the code of {account}. If that account is yours, write /link {code} yes: "
                "pictures, quota and place in line are then one. If somebody else gave you the "
                "code, leave it: they would see your pictures.",
                account=other, code=code,
            )
        )  # fmt: skip
    linked = house.people.link(ask.asker, code)
    # What was packed for one of them is not all of theirs.
    let_go(house, house.people.get(ask.asker.platform, ask.asker.id).everyone)
    return Reply(tr("Linked with {account}. /unlink undoes it.", account=linked))


def _unlink(house: House, ask: Ask) -> Reply:
    together = house.people.get(ask.asker.platform, ask.asker.id).everyone
    if not house.people.unlink(ask.asker):
        raise UserError(tr("This account is linked to no other. /link does that."))
    # What was packed for all of them holds what is another's now.
    let_go(house, together)
    return Reply(tr("Unlinked: this account is by itself again, with the pictures it asked for."))


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


def _option(name: str, help_: str, *, required: bool = False,
            choices: tuple[str, ...] = ()) -> Option:  # fmt: skip
    return Option(name, help_, str, (), None, None, choices, None, required)


ID = _option("id", mark("The picture's number."))
PICTURE = _option("id", mark("The picture's number, such as 12 or 12.2; empty: your newest."))
PICTURE_IN_LINE = replace(PICTURE, help=mark("The picture's number; empty: your newest in line."))
# What moderators do with what draws, and how that is typed.
EXAMPLES = {
    "add": "add model owner/name",
    "hide": "hide model sdxl",
    "unhide": "unhide model sdxl",
    "default": "default model sdxl",
    "note": "note model sdxl Good with faces.",
    "picture": "picture model sdxl 12",
    "remove": "remove model sdxl",
    "list": "list",
}
DO = _option("do", f"{', '.join(EXAMPLES)}.", required=True, choices=tuple(EXAMPLES))
OF = _option("kind", f"{', '.join(KINDS)}.", choices=KINDS)
WHAT = _option(
    "what", mark("Its name; when adding, the folder, file or hub id, as the worker has it.")
)
DETAIL = _option(
    "detail", mark("What to call it when adding; the words of a note; a picture's number.")
)
REASON = _option("reason", mark("What is wrong with it."))
ALL = "all"
WHICH = replace(ID, help=mark("The picture's number, or all."))
LEVEL = _option("level", mark("low, normal or high."), required=True, choices=options.PRIORITIES)

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
            _option("prompt", mark("What to write."), required=True),
            _option("model", mark("Which model writes.")),
        ),
        writing.write, example=mark("a poem about the sea"), card=True, line=True,
    ),
    Command(
        COMMAND_OF[Mode.DESCRIBE], mark("Have a picture described, as a prompt."), (PICTURE,),
        writing.describe, example="12", card=True, pictures=(IMAGE,), menu=mark("Describe this"),
    ),
    Command(
        "vary", mark("Draw others like a picture."),
        (PICTURE, _option("how", mark("subtle or strong."), choices=tuple(dict(STRENGTHS)))), vary,
        example="12.2 strong", card=True,
    ),
    Command(
        COMMAND_OF[Mode.UPSCALE], mark("Make a picture two or four times larger."),
        (PICTURE, _option("factor", mark("2 or 4."), choices=FACTORS)), upscale, example="12.2 4",
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
    Command("queue", mark("See your pictures in line, and how busy it is."), (), _queue),
    Command(
        "show", mark("Show a picture again by its number."), (ID,), _show,
        example="12", shows=True, card=True, beside=True,
    ),
    Command(
        "identify", mark("Tell what made a picture that you send, by its file or its looks."),
        (replace(ID, help=mark("Its number, where you know it.")),), _identify, ("info",),
        pictures=(IMAGE,), menu=mark("What made this?"), shows=True, beside=True,
    ),
    Command(
        "history", mark("Find your pictures again."),
        (
            _option("words", mark("Words in the prompt, such as lighthouse storm, or light*.")),
            _option("mode", mark("How it was made."), choices=tuple(MODES)),
            _option("state", mark("What became of it."), choices=tuple(map(str, State))),
            _option("model", mark("What drew it.")),
            _option("since", mark("A date such as 2026-11-01, or how long ago, such as 7d.")),
            _option("until", mark("A date such as 2026-11-01, or how long ago, such as 7d.")),
            _option("before", mark("Go on from this picture's number, such as 120.")),
            _option("chat", mark("yes: everybody's of this chat, where the host allows it."),
                    choices=ANSWERS),
            _option("tag", mark("What you put on it with /tag.")),
            _option("favourite", mark("yes: those alone that you keep with /favourite."),
                    choices=YES),
        ),
        history, example="lighthouse storm state:done since:7d", line=True,
    ),
    Command(
        "favourite", mark("Keep a picture among your favourites."),
        (PICTURE, _option("keep", mark("no, to keep it no longer."), choices=ANSWERS)),
        marks.favourite, example="12", private=True, beside=True,
    ),
    Command(
        "tag", mark("Put tags on a picture, to find it again."),
        (
            replace(PICTURE, help=mark("The picture's number, such as 12 or 12.2."), required=True),
            _option("words", mark("Tags with commas between; one after a minus is taken away.")),
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
        (_option("sure", mark("yes, to be asked no more."), choices=YES),), forget,
        private=True, personal=True,
    ),
    Command(
        "cancel", mark("Cancel your newest picture, one by its number, or all."), (WHICH,), _cancel
    ),
    Command(
        "edit", mark("Change your picture while it waits in line."),
        (PICTURE_IN_LINE, editing.WORDS), editing.edit, example="12 a blue crown --steps 30",
    ),
    Command("retry", mark("Draw a picture again by its number."), (ID,), _retry, card=True),
    Command("models", mark("List what can draw."), (), _models),
    Command(
        "quota", mark("See what you may still ask for today, and your account."), (), _quota,
        beside=True,
    ),
    Command(
        "priority", mark("Move a picture among your own in line."), (LEVEL, ID), _priority,
        example="high 12", beside=True,
    ),
    Command(
        "class", mark("See your class, or choose another that is yours."),
        (_option("choice", mark("The class to be in.")),), _class,
        example="relax", personal=True, beside=True,
    ),
    Command(
        "link", mark("Be one person on several platforms, by a code."),
        (
            _option("code", mark("The code from the other platform.")),
            _option("sure", mark("yes, when that account is yours.")),
        ),
        _link, private=True, personal=True,
    ),
    Command(
        "unlink", mark("Let this account be by itself again."), (), _unlink, personal=True,
        beside=True,
    ),
    Command(
        "key", mark("Make, list or take back keys for programs of yours."),
        (
            _option("task", f"{', '.join(keys.DOES)}.", choices=keys.DOES),
            _option(
                "which", mark("A new one's name, read or draw before it; an old one's number.")
            ),
        ),
        keys.command, example="new draw my script", private=True, personal=True, beside=True,
    ),
    Command(
        "settings", mark("See or change how your pictures are drawn where you say nothing."),
        (
            _option("change", mark("set or reset; empty: see them all.")),
            _option("setting", f"{', '.join(choosing.OFFERED['setting'])}."),
            _option("value", mark("What it shall be.")),
            _option("where", mark("channel, to set it for everybody in this one.")),
        ),
        choosing.settings, example="set sampler Euler a", personal=True,
    ),
    Command(
        "preset", mark("Use, save and share ready-made looks for pictures."),
        (
            _option("act", f"{', '.join(choosing.ACTS)}."),
            _option("name", mark("The preset's name.")),
            _option("words", mark("A prompt to draw; to save, a picture's number and a template.")),
        ),
        choosing.preset, example=choosing.ACTS["use"],
    ),
    Command(
        "quiet", mark("Turn the mention after a long wait off, or on again."), (), _quiet,
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
        (_option("stays", mark("The number of a picture that may stay.")),), reports.listed,
        example="12", private=True, personal=True,
    ),
    Command(
        "first", mark("Moderators: put a picture before everybody's."),
        (replace(ID, required=True),), _first, example="12",
    ),
    Command(
        "grant", mark("Moderators: give somebody a class, or none."),
        (
            _option("who", mark("Their account, as /quota tells it to them."), required=True),
            _option("choice", mark("The class, or none."), required=True),
        ),
        _grant, example="discord:123 fast",
    ),
    Command(
        "model", mark("Moderators: change what draws."), (DO, OF, WHAT, DETAIL), _model,
        example=EXAMPLES["add"], private=True,
    ),
    Command(
        "help", mark("What I can do."),
        (_option("about", mark("A command, or flags; empty: all commands.")),), _help, ("start",),
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
            return Reply(_status(house, old))
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
    return _again(house, ask, old, new_seed=action == "reseed")


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
