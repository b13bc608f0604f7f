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
from core.languages import speak
from core.options import COMMAND_OF, Mode
from core.people import Asker
from core.policy import Audience
from core.presets import NONE
from core.settings import Drawing, read
from core.tastes import HOST, PRESET, PREVIEWS, QUIET, TASTES, YOURS, Taste

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
WHO_MAY = "Only who may manage this chat, or a moderator whom the host lists, can set that."
ALONE = "You are alone in this chat: your own settings do the same, without “channel”."
THEIRS = "These are somebody else's settings. Write /settings to see yours."
GONE = "That is not on offer any more. Choose again."


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
            "Write for example /settings set sampler Euler a, or /settings reset sampler. "
            "/settings alone shows them all."
        )
    if change.lower() == "reset":
        if rest[0].lower() == ALL:
            return Reply(_reset(house, ask, list(TASTES), here=here))
        return Reply(_reset(house, ask, [tastes.taste(rest[0])], here=here))
    one = tastes.taste(rest[0])
    if len(rest) < 2:
        some = " ".join(list(_values(house, ask, one, here=here))[:1])
        raise UserError(f"What shall {one.name} be? For example /settings set {one.name} {some}")
    return Reply(_set(house, ask, one, " ".join(rest[1:]), here=here))


def _read_along(ask: Ask) -> bool:
    """Whether others read what is answered here: Telegram has no answers for one alone."""
    asker = ask.asker
    return asker.platform == "telegram" and not Audience.of(asker.platform, ask.address).alone


def _may(ask: Ask) -> None:
    """Raises NotAllowed for those who may not set what counts for a whole chat."""
    if not ask.asker.chat or Audience.of(ask.asker.platform, ask.address).alone:
        raise NotAllowed(ALONE)
    if not (ask.asker.trusted or ask.asker.keeper):
        raise NotAllowed(WHO_MAY)


def _set(house: House, ask: Ask, one: Taste, value: str, *, here: bool) -> str:
    if here:
        _may(ask)
    if one is QUIET:
        return _hush(house, ask, QUIET.read(value) == "on", here=here)
    value = _preset(house, ask.asker, value, here=here) if one.name == PRESET else one.read(value)
    house.tastes.set(ask.asker, one.name, value, here=here)
    # Where that was the language, this is said in it already.
    speak(house.speaks(ask.asker))
    told = f"{one.name} is {one.said(value)} from now on, for {_whose(here)}."
    if one.name == PREVIEWS and value == "on" and not read(Drawing).previews:
        told += " The host of this bot makes no previews, though."
    return told


def _whose(here: bool) -> str:
    return "whoever has set nothing else in this chat" if here else "you"


def _preset(house: House, asker: Asker, name: str, *, here: bool) -> str:
    """A preset's name as a setting keeps it; a chat's must be one that all there may use."""
    if presets.key_of(name) in (NONE, "off"):
        return NONE
    one = house.presets.find(asker, name, own=not here)
    if one.video:
        raise UserError(f"{one.name} is {tastes.VIDEO}")
    return one.name


def _hush(house: House, ask: Ask, quiet: bool, *, here: bool) -> str:
    if here:
        raise UserError("quiet is each person's own. Leave out “channel”.")
    if ask.asker.platform not in MENTIONING:
        return "Nobody is mentioned in this chat, so there is nothing to turn off."
    if house.people.get(ask.asker.platform, ask.asker.id).quiet != quiet:
        house.people.turn_quiet(ask.asker)
    mention = "not mention you any more" if quiet else "mention you"
    return f"quiet is {'on' if quiet else 'off'}: I will {mention} when a picture took long."


def _reset(house: House, ask: Ask, which: list[Taste], *, here: bool) -> str:
    if here:
        _may(ask)
    if QUIET in which:
        return _hush(house, ask, False, here=here)
    gone = house.tastes.reset(ask.asker, [one.name for one in which], here=here)
    speak(house.speaks(ask.asker))
    names = which[0].name if len(which) == 1 else "Everything"
    if not gone:
        return f"{'This chat has' if here else 'You have'} not set that: nothing changed."
    if len(which) > 1:
        return f"{names} is as {'the host' if here else 'this chat or the host'} has it again."
    now = house.tastes.values(ask.asker, here=here)[names]
    return f"{names} is {which[0].said(now.value)} again ({now.origin})."


def _overview(house: House, ask: Ask, *, here: bool, first: str = "") -> Reply:
    """Every value with whose it is, and what may be changed."""
    values = house.tastes.values(ask.asker, here=here)
    lines = [first] if first else []
    if here:
        lines.append("This chat's settings, for whoever has none of their own:")
    else:
        lines.append("Where you say nothing else, your pictures are drawn with:")
    lines += [
        f"{one.name}: {one.said(values[one.name].value)} ({values[one.name].origin})"
        for one in TASTES
    ]
    quiet = house.people.get(ask.asker.platform, ask.asker.id).quiet
    if not here and ask.asker.platform in MENTIONING:
        lines.append(f"quiet: {'on' if quiet else 'off'} ({YOURS if quiet else HOST})")
    whose = " channel" if here else ""
    lines.append(
        f"To change one: /settings set sampler Euler a{whose}, /settings reset sampler{whose}"
    )
    if here and _read_along(ask):
        lines.append("Yours: write /settings to me alone.")
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
        raise UserError("That button is not one I know.")
    owner, whose, name, mark = match.groups()
    here = whose == CHAT
    if owner != ask.asker.id:
        raise NotAllowed(THEIRS)
    if not name:
        return _overview(house, ask, here=here)
    one = tastes.taste(name)
    if mark == RESET:
        return _overview(house, ask, here=here, first=_reset(house, ask, [one], here=here))
    values = _values(house, ask, one, here=here)
    if mark:
        value = next((value for value in values if _mark(value) == mark), None)
        if value is None:
            raise UserError(GONE)
        return _overview(house, ask, here=here, first=_set(house, ask, one, value, here=here))
    make = partial(_id, ask.asker, here=here)
    choices = [Choice(make(), "‹ Back")]
    if one is QUIET:
        now = "on" if house.people.get(ask.asker.platform, ask.asker.id).quiet else "off"
    else:
        now = house.tastes.values(ask.asker, here=here)[name].value
        choices += [Choice(make(name=name, mark=RESET), "As it was", "Take the setting back.")]
    choices += [
        Choice(make(name=name, mark=_mark(value)), one.said(value), now=value == now)
        for value in values
    ]
    told = f"{one.name}: {one.help}\nNow: {one.said(now)}."
    if one.open:
        told += f" Others can be typed: /settings set {one.name} …"
    return Reply(told, choices=tuple(choices))


# Presets


def preset(house: House, ask: Ask) -> Reply:
    """What one does with presets; `/preset use` draws."""
    act = str(ask.given.get("act") or "list").strip().lower()
    name, words = (str(ask.given.get(one) or "").strip() for one in ("name", "words"))
    # Where it has a field of its own, its words belong together.
    text = f"“{name}” {words}".strip() if " " in name else f"{name} {words}".strip()
    if act not in ACTS:
        raise UserError(f"/preset {', '.join(ACTS)}: “{act[:30]}” is none of these.")
    if act == "list":
        return Reply(_listed(house, ask))
    if not text:
        raise UserError(f"Which preset? For example /preset {ACTS[act]}")
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
            return Reply(f"The preset {one.name} is deleted. What was drawn with it stays.")
        case "share":
            return Reply(_share(house, ask, plain))
        case _:
            return Reply(_unshare(house, ask, plain))


def use(house: House, ask: Ask, text: str) -> Reply:
    """Draw with a preset: its name, and the prompt with its flags after it."""
    one, rest = house.presets.begun(ask.asker, text)
    given, faults = split_flags(rest)
    if not given.get("prompt"):
        raise UserError(f"What shall be drawn? For example /preset use {one.name} a red fox")
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
        "Yours": [one for one in known if one.own],
        "Shared here": [one for one in known if one.id and not one.own],
        "For everybody": [one for one in known if not one.id and not one.video],
        "For video, later": [one for one in known if one.video],
    }
    lines = [
        f"{title}: {', '.join(one.name for one in found)}"
        for title, found in groups.items() if found
    ]  # fmt: skip
    if hidden:
        lines.append("Yours: write /preset to me alone.")
    lines.append(
        "To use one: --preset Anime, or /preset use Anime a red fox. What one does: /preset show "
        "Anime. Your own, from a picture of yours: /preset save misty 12"
    )
    return "\n".join(lines)


_SAVED = re.compile(
    r"(?:[“\"'](?P<quoted>[^“”\"']*)[”\"']|(?P<name>.+?))"
    r"(?:\s+#?(?P<id>\d{1,12}(?:\.[1-9])?)(?:\s+(?P<words>.*))?)?",
    re.DOTALL,
)


def _save(house: House, ask: Ask, text: str) -> str:
    """Keep how a finished picture was drawn, under a name."""
    found = _SAVED.fullmatch(text)
    name = (found["quoted"] or found["name"] or "") if found else text
    name, words = presets.named(name), presets.template(str(found["words"] or "") if found else "")
    number, place = one_picture(
        house, replace(ask, given={"id": found["id"] if found else ""}), "save a preset from"
    )
    one = house.generations.visible(number, ask.asker)
    one.picture(index_of(one, place or 1))
    if one.request.mode == Mode.UPSCALE:
        raise UserError(f"#{one.id} was made larger. Take the picture that it was made from.")
    made = house.presets.save(ask.asker, name, words, presets.kept_of(one.request))
    more = ""
    if words == "{prompt}":
        more = (
            " It adds no words to a prompt; /preset save takes some after the number: {prompt} in "
            "thick mist"
        )
    return f"Saved {made.name}, drawn like #{one.id}. Use it: --preset {made.name}{more}"


def _share(house: House, ask: Ask, name: str) -> str:
    one = house.presets.own(ask.asker, name)
    place = presets.place_of(ask.asker)
    alone = Audience.of(ask.asker.platform, ask.address).alone and ask.asker.platform != "web"
    if not place or alone:
        raise UserError(
            f"Nobody else is here. Write /preset share {one.name} in a group or on a server."
        )
    house.presets.share(ask.asker, one, place)
    where = "on this server" if ":guild:" in place else "in this chat"
    return f"Everybody {where} can use {one.name} now. /preset unshare {one.name} undoes it."


def _unshare(house: House, ask: Ask, name: str) -> str:
    place, key = presets.place_of(ask.asker), presets.key_of(name)
    mine = ask.asker.trusted or ask.asker.keeper
    shared = [
        one for one in house.presets.of(ask.asker)
        if one.id and not one.private and one.key == key and (one.own or mine)
    ]  # fmt: skip
    if not shared or not house.presets.unshare(shared[0], place):
        raise UserError(f"You share no preset “{name[:40]}” here. /preset lists them.")
    return f"{shared[0].name} is not shared here any more."


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
