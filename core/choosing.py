"""/settings and /preset: what people say of how they like their pictures, typed or chosen."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from core import catalog, presets, tastes
from core.asking import Ask, Choice, Reply, index_of, one_picture
from core.drawing import draw
from core.errors import NotAllowed, UserError
from core.flags import split_flags
from core.house import House
from core.languages import mark, speak, tr
from core.options import COMMAND_OF, Mode
from core.people import Asker
from core.policy import Audience
from core.presets import NONE
from core.settings import Drawing, read
from core.tastes import ENHANCE, HOST, PRESET, PREVIEWS, QUIET, TASTES, YOURS, Taste
from core.writers import writer

# What the id of every choice begins with; the rest is whose, of what, which setting and value.
PREFIX = "set:"
MINE, CHAT = "m", "c"
# What stands for a value in an id: as if nothing had been set.
RESET = "-"
CHANGES = ("set", "reset")
# The last word that says whose settings are meant.
CHANNEL = ("channel", "chat")
ALL = "all"
ACTS = {
    "list": "list",
    "use": "use Anime a fox",
    "show": "show Anime",
    "save": "save misty 12 {prompt} in thick mist",
    "share": "share misty",
    "unshare": "unshare misty",
    "delete": "delete misty",
}
# The platforms on which who waited long is mentioned.
MENTIONING = ("discord", "telegram")
WHO_MAY = mark("Only who may manage this chat, or a moderator whom the host lists, can set that.")
ALONE = mark("You are alone in this chat: your own settings do the same, without “channel”.")
THEIRS = mark("These are somebody else's settings. Write /settings to see yours.")
GONE = mark("That is not on offer any more. Choose again.")
NOBODY = mark("Nobody is mentioned in this chat, so there is nothing to turn off.")


# Settings


def settings(house: House, ask: Ask) -> Reply:
    """See what counts where nothing is said, and change it."""
    given = (str(ask.given.get(name) or "") for name in ("change", "setting", "value", "where"))
    words = " ".join(given).split()
    here = bool(words) and words[-1].lower() in CHANNEL
    if here:
        words.pop()
    if words and words[-1].lower() == "me":
        words.pop()
    if not words:
        return _overview(house, ask, here=here or _read_along(ask))
    change, *rest = words if words[0].lower() in CHANGES else ["set", *words]
    if not rest:
        raise UserError(
            tr(
                "Write for example /settings set sampler Euler a, or /settings reset sampler. "
                "/settings alone shows them all."
            )
        )
    if change.lower() == "reset":
        if rest[0].lower() == ALL:
            return Reply(_reset(house, ask, list(TASTES), here=here))
        return Reply(_reset(house, ask, [tastes.taste(rest[0])], here=here))
    one = tastes.taste(rest[0])
    if len(rest) < 2:
        some = " ".join(list(_values(house, ask, one, here=here))[:1])
        raise UserError(
            tr(
                "What shall {setting} be? For example /settings set {setting} {value}",
                setting=one.name, value=some,
            )
        )  # fmt: skip
    return Reply(_set(house, ask, one, " ".join(rest[1:]), here=here))


def _read_along(ask: Ask) -> bool:
    """Whether others read what is answered here: Telegram has no answers for one alone."""
    asker = ask.asker
    return asker.platform == "telegram" and not Audience.of(asker.platform, ask.address).alone


def _may(ask: Ask) -> None:
    """Raises NotAllowed for those who may not set what counts for a whole chat."""
    if not ask.asker.chat or Audience.of(ask.asker.platform, ask.address).alone:
        raise NotAllowed(tr(ALONE))
    if not (ask.asker.trusted or ask.asker.keeper):
        raise NotAllowed(tr(WHO_MAY))


def _set(house: House, ask: Ask, one: Taste, value: str, *, here: bool) -> str:
    if here:
        _may(ask)
    if one is QUIET:
        return _hush(house, ask, QUIET.read(value) == "on", here=here)
    value = _preset(house, ask.asker, value, here=here) if one.name == PRESET else one.read(value)
    house.tastes.set(ask.asker, one.name, value, here=here)
    # Where that was the language, this is said in it already.
    speak(house.speaks(ask.asker))
    for_you = mark("{setting} is {value} from now on, for you.")
    for_all = mark(
        "{setting} is {value} from now on, for whoever has set nothing else in this chat."
    )
    told = tr(for_all if here else for_you, setting=one.name, value=one.said(value))
    if one.name == PREVIEWS and value == "on" and not read(Drawing).previews:
        told += f" {tr('The host of this bot makes no previews, though.')}"
    if one.name == ENHANCE and value == "on" and not writer(Mode.ENHANCE):
        told += f" {tr('Nothing here writes prompts, though.')}"
    return told


def _preset(house: House, asker: Asker, name: str, *, here: bool) -> str:
    """A preset's name as a setting keeps it; a chat's must be one that all there may use."""
    if presets.key_of(name) in (NONE, "off"):
        return NONE
    one = house.presets.find(asker, name, own=not here)
    if one.video:
        raise UserError(tr(tastes.VIDEO, preset=one.name))
    return one.name


def _hush(house: House, ask: Ask, quiet: bool, *, here: bool) -> str:
    if here:
        raise UserError(tr("quiet is each person's own. Leave out “channel”."))
    if ask.asker.platform not in MENTIONING:
        return tr(NOBODY)
    if house.people.get(ask.asker.platform, ask.asker.id).quiet != quiet:
        house.people.turn_quiet(ask.asker)
    if quiet:
        return tr("quiet is on: I will not mention you any more when a picture took long.")
    return tr("quiet is off: I will mention you when a picture took long.")


def _reset(house: House, ask: Ask, which: list[Taste], *, here: bool) -> str:
    if here:
        _may(ask)
    if QUIET in which:
        return _hush(house, ask, False, here=here)
    gone = house.tastes.reset(ask.asker, [one.name for one in which], here=here)
    speak(house.speaks(ask.asker))
    if not gone:
        if here:
            return tr("This chat has not set that: nothing changed.")
        return tr("You have not set that: nothing changed.")
    if len(which) > 1:
        if here:
            return tr("Everything is as the host has it again.")
        return tr("Everything is as this chat or the host has it again.")
    one = which[0]
    now = house.tastes.values(ask.asker, here=here)[one.name]
    return tr(
        "{setting} is {value} again ({whose}).",
        setting=one.name, value=one.said(now.value), whose=tr(now.origin),
    )  # fmt: skip


def _overview(house: House, ask: Ask, *, here: bool, first: str = "") -> Reply:
    """Every value with whose it is, and what may be changed."""
    values = house.tastes.values(ask.asker, here=here)
    lines = [first] if first else []
    if here:
        lines.append(tr("This chat's settings, for whoever has none of their own:"))
    else:
        lines.append(tr("Where you say nothing else, your pictures are drawn with:"))
    lines += [
        f"{one.name}: {one.said(values[one.name].value)} ({tr(values[one.name].origin)})"
        for one in TASTES
    ]
    quiet = house.people.get(ask.asker.platform, ask.asker.id).quiet
    if not here and ask.asker.platform in MENTIONING:
        value, origin = ("on", YOURS) if quiet else ("off", HOST)
        lines.append(f"{QUIET.name}: {value} ({tr(origin)})")
    whose = " channel" if here else ""
    lines.append(
        tr(
            "To change one: {first}, {second}",
            first=f"/settings set sampler Euler a{whose}",
            second=f"/settings reset sampler{whose}",
        )
    )
    if here and _read_along(ask):
        lines.append(tr("Yours: write /settings to me alone."))
    may = True
    if here:
        try:
            _may(ask)
        except NotAllowed:
            may = False
    if not may:
        return Reply("\n".join(lines))
    shown = [*TASTES, *([QUIET] if not here and ask.asker.platform in MENTIONING else [])]
    return Reply(
        "\n".join(lines),
        choices=tuple(
            Choice(_id(ask.asker, here=here, name=one.name), one.name, one.help) for one in shown
        ),
    )


def _id(asker: Asker, *, here: bool, name: str = "", mark: str = "") -> str:
    return f"{PREFIX}{asker.id}:{CHAT if here else MINE}:{name}:{mark}"


def _mark(value: str) -> str:
    """What stands for a value, which may be too long for an id."""
    return hashlib.sha256(value.encode()).hexdigest()[:8]


def _values(house: House, ask: Ask, one: Taste, *, here: bool) -> list[str]:
    """What may be chosen for a setting."""
    if one.name == PRESET:
        known = [one for one in house.presets.of(ask.asker, own=not here) if not one.video]
        return [*dict.fromkeys(one.name for one in known), NONE]
    if one.name == "sampler":
        model = catalog.models().get(house.tastes.values(ask.asker, here=here)["model"].value)
        fits = model.family.samplers if model else ()
        return [name for name in one.values() if not fits or name in fits]
    return list(one.values())


_CHOSEN = re.compile(rf"{PREFIX}([\w-]{{1,32}}):([{MINE}{CHAT}]):([a-z]{{0,16}}):(\S{{0,8}})")


def chosen(house: House, id_: str, ask: Ask) -> Reply:
    """What choosing something does: the next thing to choose, in the same message.

    Raises UserError.
    """
    match = _CHOSEN.fullmatch(id_)
    if not match:
        raise UserError(tr("That button is not one I know."))
    owner, whose, name, mark = match.groups()
    here = whose == CHAT
    if owner != ask.asker.id:
        raise NotAllowed(tr(THEIRS))
    if not name:
        return _overview(house, ask, here=here)
    one = tastes.taste(name)
    if mark == RESET:
        return _overview(house, ask, here=here, first=_reset(house, ask, [one], here=here))
    values = _values(house, ask, one, here=here)
    if mark:
        value = next((value for value in values if _mark(value) == mark), None)
        if value is None:
            raise UserError(tr(GONE))
        return _overview(house, ask, here=here, first=_set(house, ask, one, value, here=here))
    make = partial(_id, ask.asker, here=here)
    choices = [Choice(make(), tr("‹ Back"))]
    if one is QUIET:
        now = "on" if house.people.get(ask.asker.platform, ask.asker.id).quiet else "off"
    else:
        now = house.tastes.values(ask.asker, here=here)[name].value
        choices += [
            Choice(make(name=name, mark=RESET), tr("As it was"), tr("Take the setting back."))
        ]
    choices += [
        Choice(make(name=name, mark=_mark(value)), one.said(value), now=value == now)
        for value in values
    ]
    told = tr("Now: {value}.", value=one.said(now))
    if one.open:
        typed = f"/settings set {one.name} …"
        told += f" {tr('Others can be typed: {line}', line=typed)}"
    return Reply(f"{one.name}: {one.help}\n{told}", choices=tuple(choices))


# Presets


def preset(house: House, ask: Ask) -> Reply:
    """What one does with presets; `/preset use` draws."""
    act = str(ask.given.get("act") or "list").strip().lower()
    name, words = (str(ask.given.get(one) or "").strip() for one in ("name", "words"))
    # Where it has a field of its own, its words belong together.
    text = f"“{name}” {words}".strip() if " " in name else f"{name} {words}".strip()
    if act not in ACTS:
        raise UserError(
            tr("/preset {acts}: “{act}” is none of these.", acts=", ".join(ACTS), act=act[:30])
        )
    if act == "list":
        return Reply(_listed(house, ask))
    if not text:
        raise UserError(tr("Which preset? For example /preset {example}", example=ACTS[act]))
    plain = text.strip("“”\"' ")
    match act:
        case "use":
            return use(house, ask, text)
        case "save":
            return Reply(_save(house, ask, text))
        case "show":
            return Reply(house.presets.find(ask.asker, plain, own=not _read_along(ask)).told)
        case "delete":
            one = house.presets.own(ask.asker, plain)
            house.presets.delete(one)
            return Reply(
                tr(
                    "The preset {preset} is deleted. What was drawn with it stays.",
                    preset=one.name,
                )
            )
        case "share":
            return Reply(_share(house, ask, plain))
        case _:
            return Reply(_unshare(house, ask, plain))


def use(house: House, ask: Ask, text: str) -> Reply:
    """Draw with a preset: its name, and the prompt with its flags after it."""
    one, rest = house.presets.begun(ask.asker, text)
    given, faults = split_flags(rest)
    if not given.get("prompt"):
        raise UserError(
            tr("What shall be drawn? For example /preset use {preset} a red fox", preset=one.name)
        )
    asked = replace(ask, given={**given, PRESET: one.name}, faults=(*ask.faults, *faults))
    return draw(house, asked, Mode.TEXT)


def meant(name: str, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The command that a line with a field for each part stands for: `/preset use` draws."""
    if name == PRESET and given.get("act") == "use" and given.get("name") and given.get("words"):
        return COMMAND_OF[Mode.TEXT], {"prompt": given["words"], PRESET: given["name"]}
    return name, dict(given)


def _listed(house: House, ask: Ask) -> str:
    hidden = _read_along(ask)
    known = house.presets.of(ask.asker, own=not hidden)
    groups = {
        mark("Yours: {names}"): [one for one in known if one.own],
        mark("Shared here: {names}"): [one for one in known if one.id and not one.own],
        mark("For everybody: {names}"): [one for one in known if not one.id and not one.video],
        mark("For video, later: {names}"): [one for one in known if one.video],
    }
    lines = [
        tr(title, names=", ".join(one.name for one in found))
        for title, found in groups.items() if found
    ]  # fmt: skip
    if hidden:
        lines.append(tr("Yours: write /preset to me alone."))
    lines.append(
        tr(
            "To use one: --preset Anime, or /preset use Anime a red fox. What one does: /preset "
            "show Anime. Your own, from a picture of yours: /preset save misty 12"
        )
    )
    return "\n".join(lines)


_SAVED = re.compile(
    r"(?:[“„«\"'](?P<quoted>[^“”»\"']*)[“”»\"']|(?P<name>.+?))"
    r"(?:\s+#?(?P<id>\d{1,12}(?:\.[1-9])?)(?:\s+(?P<words>.*))?)?",
    re.DOTALL,
)


def _save(house: House, ask: Ask, text: str) -> str:
    """Keep how a finished picture was drawn, under a name."""
    found = _SAVED.fullmatch(text)
    name = (found["quoted"] or found["name"] or "") if found else text
    name, words = presets.named(name), presets.template(str(found["words"] or "") if found else "")
    number, place = one_picture(
        house, replace(ask, given={"id": found["id"] if found else ""}),
        mark("You have nothing to save a preset from."),
    )  # fmt: skip
    one = house.generations.visible(number, ask.asker)
    one.picture(index_of(one, place or 1))
    if one.request.mode == Mode.UPSCALE:
        raise UserError(
            tr(
                "#{number} was made larger. Take the picture that it was made from.",
                number=one.id,
            )
        )
    made = house.presets.save(ask.asker, name, words, presets.kept_of(one.request))
    told = tr(
        "Saved {preset}, drawn like #{number}. Use it: --preset {preset}",
        preset=made.name, number=one.id,
    )  # fmt: skip
    if words == "{prompt}":
        example = "{prompt} in thick mist"
        more = tr(
            "It adds no words to a prompt; /preset save takes some after the number: {example}",
            example=example,
        )
        told += f" {more}"
    return told


def _share(house: House, ask: Ask, name: str) -> str:
    one = house.presets.own(ask.asker, name)
    place = presets.place_of(ask.asker)
    alone = Audience.of(ask.asker.platform, ask.address).alone and ask.asker.platform != "web"
    if not place or alone:
        raise UserError(
            tr(
                "Nobody else is here. Write /preset share {preset} in a group or on a server.",
                preset=one.name,
            )
        )
    house.presets.share(ask.asker, one, place)
    if ":guild:" in place:
        return tr(
            "Everybody on this server can use {preset} now. /preset unshare {preset} undoes it.",
            preset=one.name,
        )
    return tr(
        "Everybody in this chat can use {preset} now. /preset unshare {preset} undoes it.",
        preset=one.name,
    )


def _unshare(house: House, ask: Ask, name: str) -> str:
    place, key = presets.place_of(ask.asker), presets.key_of(name)
    mine = ask.asker.trusted or ask.asker.keeper
    shared = [
        one for one in house.presets.of(ask.asker)
        if one.id and not one.private and one.key == key and (one.own or mine)
    ]  # fmt: skip
    if not shared or not house.presets.unshare(shared[0], place):
        raise UserError(
            tr("You share no preset “{name}” here. /preset lists them.", name=name[:40])
        )
    return tr("{preset} is not shared here any more.", preset=shared[0].name)


# What may be written


# By option, as far as it is the same for all.
OFFERED: Mapping[str, tuple[str, ...]] = {
    "change": CHANGES,
    "setting": tuple(one.name for one in (*TASTES, QUIET)),
    "value": tastes.ON_OFF,
    "where": ("me", CHANNEL[0]),
    "act": tuple(ACTS),
    "name": tuple(one.name for one in presets.built_in()),
    PRESET: tuple(one.name for one in presets.built_in() if not one.video),
}
# Those for which a person has more of their own.
PERSONAL = (PRESET, "name", "value")


def suggestions(house: House, option: str, asker: Asker, given: Mapping[str, Any]) -> list[str]:
    """What may be written for a personal option by this asker, who gave others already."""
    if option in (PRESET, "name"):
        names = house.presets.names(asker)
        return [*names, NONE] if option == PRESET else names
    if option == "value" and given.get("setting"):
        try:
            one = tastes.taste(str(given["setting"]))
        except UserError:
            return []
        ask = Ask(asker, "", {}, {})
        return [
            one.said(value)
            for value in _values(house, ask, one, here=str(given.get("where")) in CHANNEL)
        ]
    return list(OFFERED[option])
