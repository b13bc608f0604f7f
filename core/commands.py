"""Every command, declared once: its name, aliases, summary, and what it takes and answers.

Chats register, parse and describe their commands from this table.
"""

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from redis.exceptions import RedisError

from core import (
    catalog,
    choosing,
    editing,
    flags,
    keys,
    options,
    parts,
    phrases,
    registry,
    reports,
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
from core.errors import NotAllowed, NotFound, TryAgain, UserError, many, nearest
from core.export import export
from core.forgetting import FORGET, YES, forget
from core.generations import FIRST, Generation
from core.history import ANSWERS, HISTORY, MODES, delete, history, stats, tree, turn
from core.house import House
from core.languages import mark, tr
from core.lifecycle import PENDING, RUNNING, State
from core.offers import KINDS
from core.options import COMMAND_OF, OPTIONS, Mode, Option
from core.policy import policy

log = logging.getLogger("drawqueue")

# How long somebody who asked waits for a busy database before they are told to ask again.
ANSWER_SECONDS = 6.0
# So many of a model's LoRAs and VAEs are named; autocomplete knows them all.
FEW_PARTS = 8
# What begins the summary of what only moderators may do, who alone see it in /help.
MODERATORS = "Moderators:"
MODERATING = "moderators"
# As many lines as the shortest of the chats' messages holds.
LISTED = 15
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
            words = [words[0], "[filters]"]
        return " ".join([f"/{self.name}", *words])

    @property
    def typed(self) -> str:
        """An example of it."""
        return f"/{self.name} {self.example}".strip()


def _status(house: House, one: Generation) -> str:
    status = status_line(one, house.generations.standing(one), house.generations.progress(one))
    return f"#{one.id} {status}: {one.request.prompt[:60]}"


def _queue(house: House, ask: Ask) -> Reply:
    mine = house.generations.pending(ask.asker)
    lines = [_status(house, one) for one in mine[:LISTED]]
    if len(mine) > LISTED:
        lines.append(f"… and {len(mine) - LISTED} more.")
    counts = house.generations.counts()
    running = sum(counts.get(state, 0) for state in RUNNING)
    everybody = f"In all: {counts.get(State.QUEUED, 0)} queued, {running} running."
    return Reply("\n".join(lines or ["You have nothing in the queue."]) + f"\n{everybody}")


def _show(house: House, ask: Ask) -> Reply:
    place = None
    if ask.given.get("id"):
        which, place = picture_number(ask.given["id"])
    else:
        which = which_one(house, ask, frozenset(State), "show")
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
        raise UserError("Which picture? Send one along, or answer one with this command.")
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
            "I do not know that picture: it is none of yours that I keep, and its file says "
            "nothing of how it was made."
        )
    begun = " It began with another picture, which no file holds." if receipt.begun else ""
    return Reply(f"Its file says how it was made.{begun} To draw it here:\n{receipt.line()}")


def _cancel(house: House, ask: Ask) -> Reply:
    if str(ask.given.get("id") or "").strip().lower() == ALL:
        ended = house.generations.cancel_all(ask.asker)
        if not ended:
            raise UserError("You have nothing to cancel.")
        return Reply(f"{ended} pictures are cancelled." if ended > 1 else "1 picture is cancelled.")
    return Reply(
        generation=house.generations.cancel(which_one(house, ask, PENDING, "cancel"), ask.asker)
    )


def _retry(house: House, ask: Ask) -> Reply:
    which = which_one(house, ask, frozenset(State) - PENDING, "retry")
    return _again(house, ask, house.generations.visible(which, ask.asker), new_seed=False)


def _again(house: House, ask: Ask, old: Generation, *, new_seed: bool) -> Reply:
    made = house.generations.redo(
        old.id, ask.asker, ask.event, new_seed=new_seed, address=ask.address or None,
        message=ask.message, manner=house.tastes.manner(ask.asker),
    )  # fmt: skip
    return Reply(generation=made, fresh=made.id != old.id)


def _models(house: House, ask: Ask) -> Reply:
    loaded: frozenset[str] = frozenset()
    with contextlib.suppress(RedisError):
        loaded = house.queue.loaded()
    shown = list(catalog.models().values())
    lines = [_told_of(model, model.name in loaded) for model in shown[:LISTED]]
    if len(shown) > LISTED:
        others = ", ".join(model.name for model in shown[LISTED:])
        lines.append(f"Also: {others[:300]}")
    return Reply("\n".join(lines), samples=registry.samples())


def _told_of(model: catalog.Model, loaded: bool) -> str:
    """What one model can do, in a line."""
    what = [
        f"{model.size}×{model.size}", many(model.steps, "step"), model.sampler,
        f"up to {model.largest} pixels a side",
    ]  # fmt: skip
    ways = [f"/{COMMAND_OF[mode]}" for mode in Mode if mode in model.modes and mode != Mode.UPSCALE]
    words = f"{model.name}{' (loaded)' if loaded else ''}: {', '.join(what)}; {' '.join(ways)}"
    for called, kind in (("LoRAs", parts.loras), ("VAEs", parts.vaes)):
        if fitting := [one.name for one in kind(model).values()]:
            more = f" and {len(fitting) - FEW_PARTS} more" if len(fitting) > FEW_PARTS else ""
            words += f"; {called}: {', '.join(fitting[:FEW_PARTS])}{more}"
    if lacks := [one.flags[0] for one in OPTIONS if one.name in model.family.lacks]:
        words += f"; without {' '.join(f'--{flag}' for flag in lacks)}"
    note = registry.note("model", model.name)
    return f"{words}. {note}".strip() if note else words


def _quiet(house: House, ask: Ask) -> Reply:
    if ask.asker.platform not in MENTIONING:
        return Reply("Nobody is mentioned in this chat, so there is nothing to turn off.")
    if house.people.turn_quiet(ask.asker):
        return Reply(
            "I will not mention you any more when a picture took long. /quiet again to undo."
        )
    return Reply("I will mention you again when a picture took long.")


def _quota(house: House, ask: Ask) -> Reply:
    told = house.generations.quota(ask.asker)
    return Reply(
        f"{told}\nYour account is {ask.asker.account}; settings, policies and /grant call it so."
    )


def _priority(house: House, ask: Ask) -> Reply:
    which = which_one(house, ask, frozenset({State.QUEUED}), "move")
    level = options.PRIORITIES.index(ask.given["level"])
    moved = house.generations.move(which, ask.asker, level)
    return Reply(_status(house, moved))


def _first(house: House, ask: Ask) -> Reply:
    if not ask.asker.trusted:
        raise NotAllowed("Only a moderator whom the host lists can put a picture first.")
    moved = house.generations.move(generation_id(ask.given["id"]), ask.asker, FIRST)
    return Reply(_status(house, moved))


def _model(house: House, ask: Ask) -> Reply:
    """What moderators do with what draws; see core/registry.py."""
    if not ask.asker.trusted:
        raise NotAllowed("Only a moderator whom the host lists can change what draws.")
    do, kind, what, name = (
        str(ask.given.get(option.name) or "").strip() for option in (DO, OF, WHAT, DETAIL)
    )
    kept = house.registry
    if do == "list":
        lines = [one for one in kept.listed() if not kind or one.startswith(f"{kind} ")]
        if len(lines) > LISTED:
            lines = [*lines[:LISTED], f"… and {len(lines) - LISTED} more: /model list lora"]
        return Reply("\n".join(lines) or "Nobody added anything yet: /models lists what draws.")
    if not kind or not what:
        raise UserError(f"/model {do} needs kind and what, such as /model {EXAMPLES[do]}.")
    match do:
        case "add":
            return Reply(kept.add(kind, what, name, ask.asker, workers=_workers(house)))
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
        raise UserError("Only models and LoRAs have a picture of what they draw.")
    if what.lower() not in [name.lower() for name in drawn] or one.request.mode == Mode.UPSCALE:
        raise UserError(f"#{one.id} was not drawn with {what[:60]}.")
    if result.get(MARK):
        raise UserError(f"#{one.id} is not for everybody: it is marked as {result[MARK]}.")
    what = house.registry.named(kind, what)
    try:
        small = house.uploads.small(house.media.load(str(result["key"])))
    except FileNotFoundError:
        raise NotFound(f"The picture of #{one.id} is no longer kept.") from None
    old = registry.picture_of(kind, what)
    house.registry.picture(kind, what, house.media.save_sample(small), ask.asker)
    if old:
        house.media.delete(old)
    return f"Everybody sees a small copy of #{one.id} beside {what} in /models now."


def _workers(house: House) -> bool:
    with contextlib.suppress(RedisError):
        return house.queue.workers() > 0
    return False


def _class(house: House, ask: Ask) -> Reply:
    person = house.people.get(ask.asker.platform, ask.asker.id)
    choice = person.classes(policy(), ask.asker)
    wanted = str(ask.given.get("choice") or "").strip().lower()
    if not wanted:
        others = f" Yours to choose: {', '.join(choice)}." if len(choice) > 1 else ""
        return Reply(f"Your class is {choice[0]}.{others}")
    if wanted not in choice:
        raise NotAllowed(f"Class {wanted[:40]} is not yours here. Yours: {', '.join(choice)}.")
    house.people.choose(ask.asker, wanted)
    return Reply(f"Your class is {wanted} from now on; what is in line keeps the one it has.")


def _grant(house: House, ask: Ask) -> Reply:
    if not ask.asker.trusted:
        raise NotAllowed("Only a moderator whom the host lists can give somebody a class.")
    name = str(ask.given["choice"]).strip().lower()
    if name not in policy().classes and name != "none":
        raise UserError(f"There is no class {name[:40]}. Known: {', '.join(policy().classes)}.")
    who = str(ask.given["who"]).strip()
    mention = re.fullmatch(r"<@!?([0-9]{1,20})>|@?([0-9]{1,20})", who)
    platform, id_ = ask.asker.platform, mention and (mention[1] or mention[2])
    if account := re.fullmatch(r"(discord|telegram|web):(?:user:)?([\w-]{1,64})", who):
        platform, id_ = account[1], account[2]
    if not id_:
        raise UserError(
            "Say to whom by their account, which /quota tells them, for example telegram:123, or "
            "just 123 for somebody of this platform."
        )
    house.people.grant(platform, id_, "" if name == "none" else name)
    if name == "none":
        return Reply(f"{platform}:{id_} has no granted class any more.")
    return Reply(f"{platform}:{id_} is in class {name} now.")


def _link(house: House, ask: Ask) -> Reply:
    code = str(ask.given.get("code") or "").strip()
    if not code:
        return Reply(
            f"Write /link {house.people.code(ask.asker)} to me on your other platform within ten "
            "minutes. Pictures, quota and place in line are then one. Give the code to nobody: "
            "whoever enters it shares all that."
        )
    if str(ask.given.get("sure") or "").strip().lower() != "yes":
        other = house.people.offered(ask.asker, code)
        return Reply(
            f"That is the code of {other}. If that account is yours, write /link {code} yes: "
            "pictures, quota and place in line are then one. If somebody else gave you the code, "
            "leave it: they would see your pictures."
        )
    return Reply(f"Linked with {house.people.link(ask.asker, code)}. /unlink undoes it.")


def _unlink(house: House, ask: Ask) -> Reply:
    if not house.people.unlink(ask.asker):
        raise UserError("This account is linked to no other. /link does that.")
    return Reply("Unlinked: this account is by itself again, with the pictures it asked for.")


def _help(house: House, ask: Ask) -> Reply:
    about = str(ask.given.get("about") or "").strip().lstrip("/-").lower()
    if about == FLAGS:
        return Reply("\n".join(f"--{one.flags[0]}: {one.help}" for one in OPTIONS if one.flags))
    # One message holds what everybody can do, another what moderators can.
    theirs = ask.asker.trusted and about == MODERATING
    if about and not theirs:
        return Reply(_told(about))
    shown = [one for one in COMMANDS if one.summary.startswith(MODERATORS) == theirs]
    lines = [f"/{one.name}: {one.summary}" for one in shown]
    if not theirs:
        lines += [
            "", f"For example: {COMMANDS[0].typed}",
            f"/help {COMMANDS[0].name} tells more of a command, /help {FLAGS} all the flags.",
        ]  # fmt: skip
        if ask.asker.trusted:
            lines.append(tr("/help {word} tells what you can do besides.", word=MODERATING))
    return Reply("\n".join(lines))


def _told(about: str) -> str:
    """All there is to say of one command. Raises UserError."""
    command = BY_NAME.get(about)
    if command is None:
        near = nearest(about, [*BY_NAME, FLAGS], 0.5) or COMMANDS[0].name
        raise UserError(f"There is no /{about[:30]}. Did you mean /help {near}?")
    lines = [command.usage, command.summary]
    if command.aliases:
        lines.append("Also: " + ", ".join(f"/{name}" for name in command.aliases))
    lines += [f"{one.name}: {one.help}" for one in command.takes if not one.flags]
    if flags := " ".join(f"--{one.flags[0]}" for one in command.takes if one.flags):
        lines.append(f"Flags: {flags}\n/help {FLAGS} tells what they do.")
    if command.example:
        lines.append(f"For example: {command.typed}")
    return "\n".join(lines)


def _option(name: str, help_: str, *, required: bool = False,
            choices: tuple[str, ...] = ()) -> Option:  # fmt: skip
    return Option(name, help_, str, (), None, None, choices, None, required)


ID = _option("id", "The picture's number.")
PICTURE = _option("id", "The picture's number, such as 12 or 12.2; empty: your newest.")
PICTURE_IN_LINE = replace(PICTURE, help="The picture's number; empty: your newest in line.")
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
WHAT = _option("what", "Its name; when adding, the folder, file or hub id, as the worker has it.")
DETAIL = _option("detail", "What to call it when adding; the words of a note; a picture's number.")
REASON = _option("reason", mark("What is wrong with it."))
ALL = "all"
WHICH = replace(ID, help=f"The picture's number, or {ALL}.")
LEVEL = _option("level", "low, normal or high.", required=True, choices=options.PRIORITIES)

COMMANDS: tuple[Command, ...] = (
    Command(
        COMMAND_OF[Mode.TEXT], "Draw a picture from a prompt.", options.of(Mode.TEXT),
        partial(draw, mode=Mode.TEXT), ("generate", "draw"),
        example="a red crown on a blue background --seed 7", mode=Mode.TEXT,
    ),
    Command(
        COMMAND_OF[Mode.REMIX], "Draw a picture anew, from a prompt and the picture.",
        options.of(Mode.REMIX), partial(draw, mode=Mode.REMIX),
        example="a green crown --from 12 --strength 0.6", mode=Mode.REMIX,
        pictures=BEGUN[Mode.REMIX], menu="Remix this",
    ),
    Command(
        COMMAND_OF[Mode.INPAINT], "Paint over what a mask shows, or around a picture.",
        options.of(Mode.INPAINT), partial(draw, mode=Mode.INPAINT),
        example="a blue sea --from 12 --zoom 1.5", mode=Mode.INPAINT, pictures=BEGUN[Mode.INPAINT],
    ),
    Command(
        COMMAND_OF[Mode.STYLE], "Draw in the style of a picture: of the last, where there are two.",
        options.of(Mode.STYLE), partial(draw, mode=Mode.STYLE),
        example="a castle --from 12 --style-strength 0.8", mode=Mode.STYLE,
        pictures=BEGUN[Mode.STYLE],
    ),
    Command(
        COMMAND_OF[Mode.BLEND], "Draw one picture from two to five.", options.of(Mode.BLEND),
        partial(draw, mode=Mode.BLEND), example="a castle in the sea --from 12 13.2",
        mode=Mode.BLEND, pictures=BEGUN[Mode.BLEND],
    ),
    Command(
        "vary", "Draw others like a picture.",
        (PICTURE, _option("how", "subtle or strong.", choices=tuple(dict(STRENGTHS)))), vary,
        example="12.2 strong", card=True,
    ),
    Command(
        COMMAND_OF[Mode.UPSCALE], "Make a picture two or four times larger.",
        (PICTURE, _option("factor", "2 or 4.", choices=FACTORS)), upscale, example="12.2 4",
        pictures=(IMAGE,), menu="Upscale this", card=True,
    ),
    Command(
        "paint", "Paint with a brush over what shall change in a picture.", (PICTURE,), paint,
        example="12", private=True,
    ),
    Command(
        "random", "Draw a prompt made by chance; with a seed, the same one.", phrases.RANDOM,
        phrases.at_random, example="subjects styles --seed 7", card=True, flags=True,
    ),
    Command(
        "words", "See words that help to write a prompt.", (phrases.CATEGORY,), phrases.words,
        example="styles",
    ),
    Command("queue", "See your pictures in line, and how busy it is.", (), _queue),
    Command(
        "show", "Show a picture again by its number.", (ID,), _show,
        example="12", shows=True, card=True,
    ),
    Command(
        "identify", "Tell what made a picture that you send, by its file or its looks.",
        (replace(ID, help="Its number, where you know it."),), _identify, ("info",),
        pictures=(IMAGE,), menu="What made this?", shows=True,
    ),
    Command(
        "history", "Find your pictures again.",
        (
            _option("words", "Words in the prompt, such as lighthouse storm, or light*."),
            _option("mode", "How it was made.", choices=tuple(MODES)),
            _option("state", "What became of it.", choices=tuple(map(str, State))),
            _option("model", "What drew it."),
            _option("since", "A date such as 2026-11-01, or how long ago, such as 7d."),
            _option("until", "A date such as 2026-11-01, or how long ago, such as 7d."),
            _option("before", "Go on from this picture's number, such as 120."),
            _option("chat", "yes: everybody's of this chat, where the host allows it.",
                    choices=ANSWERS),
        ),
        history, example="lighthouse storm state:done since:7d", line=True,
    ),
    Command("stats", "Count your pictures and their time.", (), stats),
    Command("tree", "Show a picture's family.", (PICTURE,), tree, example="12", private=True),
    Command(
        "delete", "Delete a picture of yours.", (replace(ID, required=True),), delete,
        example="12", personal=True,
    ),
    Command(
        "export", mark("Take all of yours away as a ZIP."),
        (), export, private=True, personal=True,
    ),
    Command(
        FORGET, mark("Forget everything of yours, for good."),
        (_option("sure", mark("yes, to be asked no more."), choices=YES),), forget,
        private=True, personal=True,
    ),
    Command("cancel", "Cancel your newest picture, one by its number, or all.", (WHICH,), _cancel),
    Command(
        "edit", "Change your picture while it waits in line.",
        (PICTURE_IN_LINE, editing.WORDS), editing.edit, example="12 a blue crown --steps 30",
    ),
    Command("retry", "Draw a picture again by its number.", (ID,), _retry, card=True),
    Command("models", "List what can draw.", (), _models),
    Command("quota", "See what you may still ask for today, and your account.", (), _quota),
    Command(
        "priority", "Move a picture among your own in line.", (LEVEL, ID), _priority,
        example="high 12",
    ),
    Command(
        "class", "See your class, or choose another that is yours.",
        (_option("choice", "The class to be in."),), _class,
        example="relax", personal=True,
    ),
    Command(
        "link", "Be one person on several platforms, by a code.",
        (
            _option("code", "The code from the other platform."),
            _option("sure", "yes, when that account is yours."),
        ),
        _link, private=True, personal=True,
    ),
    Command("unlink", "Let this account be by itself again.", (), _unlink, personal=True),
    Command(
        "key", "Make, list or take back keys for programs of yours.",
        (
            _option("do", f"{', '.join(keys.DOES)}.", choices=keys.DOES),
            _option("which", "A new one's name, read or draw before it; an old one's number."),
        ),
        keys.command, example="new draw my script", private=True, personal=True,
    ),
    Command(
        "settings", "See or change how your pictures are drawn where you say nothing.",
        (
            _option("change", "set or reset; empty: see them all."),
            _option("setting", f"{', '.join(choosing.OFFERED['setting'])}."),
            _option("value", "What it shall be."),
            _option("where", "channel, to set it for everybody in this one."),
        ),
        choosing.settings, example="set sampler Euler a", personal=True,
    ),
    Command(
        "preset", "Use, save and share ready-made looks for pictures.",
        (
            _option("act", f"{', '.join(choosing.ACTS)}."),
            _option("name", "The preset's name."),
            _option("words", "A prompt to draw; to save, a picture's number and a template."),
        ),
        choosing.preset, example=choosing.ACTS["use"],
    ),
    Command(
        "quiet", "Turn the mention after a long wait off, or on again.", (), _quiet, personal=True
    ),
    Command(
        "report", mark("Tell the moderators of a picture."),
        (replace(ID, help=mark("The picture's number.")), REASON), reports.report,
        example=mark("12 it shows me"), menu="Report this", anybodys=True,
    ),
    Command(
        "takedown", mark("Moderators: take a picture away for everybody."), (ID, REASON),
        reports.takedown, example=mark("12 it shows somebody"), anybodys=True, personal=True,
    ),
    Command(
        "reports", mark("Moderators: see what was reported, or keep it."),
        (_option("keep", mark("The number of a picture that may stay.")),), reports.listed,
        example="12", private=True, personal=True,
    ),
    Command(
        "first", "Moderators: put a picture before everybody's.", (replace(ID, required=True),),
        _first, example="12",
    ),
    Command(
        "grant", "Moderators: give somebody a class, or none.",
        (
            _option("who", "Their account, as /quota tells it to them.", required=True),
            _option("choice", "The class, or none.", required=True),
        ),
        _grant, example="discord:123 fast",
    ),
    Command(
        "model", "Moderators: change what draws.", (DO, OF, WHAT, DETAIL), _model,
        example=EXAMPLES["add"], private=True,
    ),
    Command(
        "help", "What I can do.",
        (_option("about", f"A command, or {FLAGS}; empty: all commands."),), _help, ("start",),
        example="imagine",
    ),
)  # fmt: skip
BY_NAME: Mapping[str, Command] = {
    name: command for command in COMMANDS for name in (command.name, *command.aliases)
}


@contextlib.contextmanager
def _somebody_waits() -> Iterator[None]:
    """Give the database a few seconds, and then say so. Raises TryAgain."""
    before = PATIENCE.set(ANSWER_SECONDS)
    try:
        yield
    except AWAY as error:
        if not is_away(error):
            raise
        log.warning("could not do what was asked: %s", error.orig)
        raise TryAgain("I could not do that just now. Please try again.") from error
    finally:
        PATIENCE.reset(before)


@_somebody_waits()
def run(house: House, name: str, ask: Ask) -> Reply:
    """Run a command. Raises UserError with words for the asker."""
    command = BY_NAME.get(name)
    if command is None:
        # What somebody mistyped, signs and all.
        near = nearest(re.sub("[^a-z]", "", name.lower()), BY_NAME, 0.5) or COMMANDS[0].name
        meant = f"/{near}" + (" …" if BY_NAME[near].takes else "")
        raise UserError(
            f"There is no “/{name[:30]}”. Did you mean {meant}? /help tells what I can do."
        )
    if command.personal:
        _themselves(ask)
    if command.draws or command.flags:
        return command.run(house, ask)
    given = dict(ask.given)
    for option in command.takes:
        value = str(given.get(option.name) or "").strip()
        if option.required and not value:
            needed = " and ".join(one.name for one in command.takes if one.required)
            raise UserError(f"/{name} needs {needed}, such as {command.typed}.")
        if option.choices and value:
            given[option.name] = value.lower()
            if value.lower() not in option.choices:
                raise UserError(
                    f"“{option.name}” must be one of {', '.join(option.choices)}; got {value[:40]}."
                )
    return command.run(house, replace(ask, given=given))


def _themselves(ask: Ask) -> None:
    if ask.asker.program:
        raise NotAllowed("A key may not do that for you: write it to me in a chat yourself.")


# What may be written for these changes while a bot runs.
CHANGING = ("model", "lora", "what")


def suggestions(option: str) -> list[str]:
    """What may be written for an option, where the house knows."""
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


@_somebody_waits()
def press(house: House, action: str, generation: int, ask: Ask) -> Reply:
    """What a button does; only for who asked, or a moderator. Raises UserError."""
    if action == "words":
        return phrases.page(generation)
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
    if action == "cancel":
        return Reply(generation=house.generations.cancel(generation, ask.asker))
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


@_somebody_waits()
def choose(house: House, id_: str, ask: Ask) -> Reply:
    """What choosing something does; only for who was asked. Raises UserError."""
    _themselves(ask)
    return choosing.chosen(house, id_, ask)


@_somebody_waits()
def change(house: House, number: int, words: str, ask: Ask, *, whole: bool = False) -> Reply:
    """Draw a queued picture from other words; see `editing.change`. Raises UserError."""
    return editing.change(house, ask, number, words, whole=whole)


def _answered(house: House, action: str, number: int, ask: Ask) -> Reply:
    asked = house.proposals.get(number, ask.asker)
    if asked.command == HISTORY:
        raise NotFound("That question is not known any more.")
    if asked.answer not in (None, action):
        said = "agreed to" if asked.answer == "agree" else "declined"
        raise NotAllowed(f"That was {said} already.")
    if action == "refuse":
        house.proposals.answer(number, action)
        if asked.command == FORGET:
            return Reply(tr("Nothing is forgotten."))
        return Reply("Nothing was queued.")
    # Noted first: what was agreed to is queued at the next press, whatever died in between.
    house.proposals.answer(number, action)
    if not all(house.media.has(one.key) for one in asked.pictures):
        raise UserError("The picture you sent is not kept any more. Ask again, please.")
    agreed = Ask(
        ask.asker, f"agreed:{number}", ask.address, asked.given, agreed=True,
        pictures=asked.pictures, settled=True,
    )  # fmt: skip
    return BY_NAME[asked.command].run(house, agreed)


def from_text(text: str) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Split a typed line into command, given options and faults; plain text is a prompt.

    A line that begins with a slash is never one: its command may be none that there is.
    """
    text = text.strip()
    name, rest = "imagine", text
    if text.startswith("/"):
        match = re.match(r"/([A-Za-z_]+)(?:@\w+)?(?:\s+|$)", text)
        name = match[1].lower() if match else (text[1:].split() or [""])[0]
        if not match and name in BY_NAME:
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


def completions(text: str, most: int) -> list[str]:
    """What a prompt that is being typed may become, from memory; nothing of another command's."""
    if len(text) > options.PROMPT_LIMIT:
        return []
    if text.startswith("/"):
        command = BY_NAME.get(re.match(r"/(\w*)", text)[1].lower())  # type: ignore[index]
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
