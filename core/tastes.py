"""What people and chats want where nothing is said, and how that meets what was said.

What may be set is declared in TASTES. Flags win over the person's, the person's over the chat's,
the chat's over the host's. What does not work (any more) is left out, and the asker told.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from sqlalchemy import delete, select

from core import catalog
from core.database import AWAY, Database, now, tastes, upsert
from core.errors import InvalidOptions, NotFound, UserError, nearest
from core.languages import LANGUAGES, mark, named, tr
from core.options import OPTIONS, Mode
from core.people import Asker, People
from core.presets import NONE, Preset, Presets, key_of
from core.rows import LEFT
from core.settings import Drawing, read

# Whose a value is.
YOURS, HERE, HOST = mark("yours"), mark("this chat's"), mark("the host's")
# What a row's manner calls whether previews are shown, the preset, and what came of settings.
PREVIEWS, PRESET, SET = "previews", "preset", "set"
LANGUAGE, ENHANCE = "language", "enhance"
# As the person's app has it.
AUTO = "auto"
ON_OFF = ("on", "off")
# How long a process remembers which language somebody set, how long it does without asking while
# the database is away, and of how many it knows.
SPOKEN_SECONDS, AWAY_SECONDS = 60.0, 5.0
SPOKEN_MOST = 10_000
# Of these, whoever says one has said them all.
SIZE = ("aspect", "width", "height")
_PIXELS = re.compile(r"(\d{2,4})\s*[x×*]\s*(\d{2,4})", re.IGNORECASE)
VIDEO = mark("{preset} is for video, which I do not draw yet. For pictures: /preset lists others.")
_BY_NAME = {one.name: one for one in OPTIONS}


@dataclass(frozen=True)
class Taste:
    """One thing that may be set: the drawing options it gives, and some values to choose from.

    `about` says what it is where no single option does.
    """

    name: str
    options: tuple[str, ...] = ()
    values: Callable[[], Iterable[str]] = tuple
    about: str = ""

    @property
    def help(self) -> str:
        return tr(self.about or _BY_NAME[self.options[0]].help)

    @property
    def known_as(self) -> frozenset[str]:
        """Its names: also those of its options and their flags."""
        flags = (flag for name in self.options for flag in (name, *_BY_NAME[name].flags))
        return frozenset((self.name, *flags))

    @property
    def switch(self) -> bool:
        """Whether it is but on or off."""
        return not self.options or _BY_NAME[self.options[0]].kind is bool

    @property
    def open(self) -> bool:
        """Whether there may be more values than are offered to choose from."""
        return any(_BY_NAME[name].kind is str for name in self.options)

    def given(self, value: str) -> dict[str, Any]:
        """The drawing options that a value gives."""
        if self.options == SIZE:
            if pixels := _PIXELS.fullmatch(value.strip()):
                return {"width": pixels[1], "height": pixels[2]}
            return {"aspect": value}
        return dict.fromkeys(self.options, value)

    def read(self, value: str) -> str:
        """A value as it is kept, however it was typed. Raises UserError."""
        value = value.strip()
        if self.name == LANGUAGE:
            return _language(value)
        if self.switch:
            if value.lower() not in ON_OFF:
                raise UserError(
                    tr(
                        "“{setting}” is on or off; got {value}.",
                        setting=self.name,
                        value=value[:40],
                    )
                )
            return value.lower()
        given = self.given(value)
        # Every other option is as nobody said anything.
        made = catalog.requested({"prompt": "-", **given})
        if len(made.each) > 1:
            raise UserError(
                tr("“{setting}” has one value; got {value}.", setting=self.name, value=value[:40])
            )
        if self.options == ("model",):
            names = {name.lower(): name for name in catalog.models()}
            return names[value.lower()]
        return "×".join(str(getattr(made, name)) for name in given)

    def said(self, value: str) -> str:
        """A value as a person reads it: a language by what it calls itself."""
        return LANGUAGES.get(value, value) if self.name == LANGUAGE else value


def _language(value: str) -> str:
    if value.lower() == AUTO:
        return AUTO
    if found := named(value):
        return found
    raise UserError(
        tr(
            "I do not speak “{language}”. I speak {known}; auto is what your app speaks.",
            language=value[:40],
            known=", ".join(LANGUAGES.values()),
        )
    )


def _counts() -> list[str]:
    option = _BY_NAME["count"]
    return [str(one) for one in range(int(option.minimum or 1), int(option.maximum or 1) + 1)]


TASTES = (
    Taste("model", ("model",), lambda: catalog.models()),
    Taste(
        "size", SIZE, lambda: ("1:1", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16"),
        mark("Shape of a picture, such as 3:2, or its pixels, such as 512x768."),
    ),
    Taste("sampler", ("sampler",), lambda: _BY_NAME["sampler"].choices),
    Taste("count", ("count",), _counts),
    Taste(ENHANCE, ("enhance",), lambda: ON_OFF),
    Taste(PRESET, ("preset",)),
    Taste(PREVIEWS, (), lambda: ON_OFF, mark("Whether a card shows what is drawn by now.")),
    Taste(
        LANGUAGE, (), lambda: (AUTO, *LANGUAGES),
        mark("The language that I answer in; auto is what your app speaks."),
    ),
)  # fmt: skip
QUIET = Taste(
    "quiet", (), lambda: ON_OFF, mark("Whether I do not mention you when a picture took long.")
)


def taste(name: str) -> Taste:
    """What a name, or a flag, stands for. Raises UserError."""
    name = name.strip().lower().removeprefix("--")
    for one in (*TASTES, QUIET):
        if name in one.known_as:
            return one
    known = [one.name for one in (*TASTES, QUIET)]
    near = nearest(name, known)
    name = name[:40]
    if near:
        raise UserError(
            tr("There is no setting “{name}”. Did you mean {near}?", name=name, near=near)
        )
    raise UserError(
        tr("There is no setting “{name}”. Known: {names}.", name=name, names=", ".join(known))
    )


@dataclass(frozen=True)
class Value:
    """What counts for one setting, and whose it is."""

    value: str
    origin: str


Faults = Callable[[Mapping[str, Any]], list[str]]


class Tastes:
    """The rows, and what becomes of a request under them."""

    def __init__(self, database: Database, people: People, presets: Presets) -> None:
        self.database = database
        self.people = people
        self.presets = presets
        # By account and chat, until when it counts.
        self._spoken: dict[tuple[str, str], tuple[float, str]] = {}

    # Keeping

    def of(self, asker: Asker) -> dict[str, dict[str, str]]:
        """What was set, by whose it is and name."""
        accounts = self.people.get(asker.platform, asker.id).everyone
        with self.database.read() as connection:
            rows = connection.execute(
                select(tastes)
                .where(tastes.c.who.in_([*accounts, asker.chat]))
                # What was set last counts.
                .order_by(tastes.c.changed)
            ).all()
        found: dict[str, dict[str, str]] = {YOURS: {}, HERE: {}}
        for row in rows:
            found[HERE if row.who == asker.chat else YOURS][row.name] = row.value
        return found

    def set(self, asker: Asker, name: str, value: str, *, here: bool = False) -> None:
        """Keep a value that was read before, for the asker or for the chat."""
        who = asker.chat if here else asker.account
        with self.database.write() as connection:
            told = {"value": value, "changed": now()}
            new = upsert(connection)(tastes).values(who=who, name=name, **told)
            connection.execute(
                new.on_conflict_do_update(index_elements=["who", "name"], set_=told)
            )  # fmt: skip
        self._spoken.clear()

    def reset(self, asker: Asker, names: Iterable[str], *, here: bool = False) -> bool:
        """Forget values; False where there were none."""
        who = [asker.chat] if here else self.people.get(asker.platform, asker.id).everyone
        with self.database.write() as connection:
            gone = connection.execute(
                delete(tastes).where(tastes.c.who.in_(who), tastes.c.name.in_(list(names)))
            )
        self._spoken.clear()
        return bool(gone.rowcount)

    # Telling

    def language(self, asker: Asker) -> str:
        """The language that the asker, or else the chat, has set; empty where their app decides.

        From memory for a minute, and never at the price of an answer.
        """
        who, moment = (asker.account, asker.chat), time.monotonic()
        until, language = self._spoken.get(who, (0.0, ""))
        if moment < until:
            return language
        try:
            language = self.values(asker)[LANGUAGE].value
            language, lasts = "" if language == AUTO else language, SPOKEN_SECONDS
        except AWAY:
            # As it was: whoever asks for something else will be told what is wrong.
            lasts = AWAY_SECONDS
        if len(self._spoken) >= SPOKEN_MOST:
            self._spoken.clear()
        self._spoken[who] = moment + lasts, language
        return language

    def values(self, asker: Asker, *, here: bool = False) -> dict[str, Value]:
        """What counts for the asker here where nothing is said, or what the chat has, by name."""
        kept = self.of(asker)
        if here:
            kept[YOURS] = {}
        return {one.name: self._counts(one, kept) for one in TASTES}

    def _counts(self, one: Taste, kept: Mapping[str, Mapping[str, str]]) -> Value:
        for origin in (YOURS, HERE):
            if one.name in kept[origin]:
                return Value(kept[origin][one.name], origin)
        return Value(_usual(one, kept), HOST)

    def manner(self, asker: Asker) -> dict[str, Any]:
        """What settings have to do with a picture that is drawn as it was."""
        return _manner(self.of(asker))

    # Drawing

    def settle(
        self, asker: Asker, said: Mapping[str, Any], inherited: Mapping[str, Any], mode: Mode,
        faults: Faults,
    ) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
        """What is drawn, with what was left open filled in, and the row's manner.

        What was said wins, then the preset that was said, then what a picture brings along, then
        what is set. `faults` tells what would be wrong with some options. Raises UserError for a
        preset that cannot be used.
        """
        kept = self.of(asker)
        manner = _manner(kept)
        asked = str(said.get(PRESET) or "").strip()
        words = {name: value for name, value in said.items() if name != PRESET}
        made = _Filling({**inherited, **words}, faults, mode)
        if asked and key_of(asked) != NONE:
            one = self._drawable(asker, asked)
            prompt = made.given.get("prompt")
            if isinstance(prompt, str) and prompt.strip():
                made.given["prompt"] = one.prompt(prompt.strip())
            left = mark("Left out of the preset: {what}. {why}")
            made.look(one, words, partial(tr, left))
            manner[PRESET] = _named(one)
        # The model comes first: the others are looked at beside the one that counts.
        plain = [one for one in TASTES if one.options and one.name != PRESET]
        worded = isinstance(words.get("prompt"), str) and bool(words["prompt"].strip())
        if not worded:
            # What a picture brings along was written already.
            plain = [one for one in plain if one.name != ENHANCE]
        for what, origin in product(plain, (YOURS, HERE)):
            self._fill(made, manner, what, kept[origin].get(what.name), origin)
        if not asked and worded:
            # What a picture brings along had its template already.
            self._usual_preset(asker, made, manner, kept)
        if made.left:
            manner[LEFT] = made.left
        return made.given, manner

    def _fill(
        self, made: "_Filling", manner: dict[str, Any], one: Taste, value: str | None, origin: str
    ) -> None:
        if value is None or not made.open_to(one.options):
            return
        if why := made.take(one.given(value)):
            made.left.append(_left_out(one.name, origin, why))
        elif not (one.switch and value == ON_OFF[1]):
            manner.setdefault(SET, {}).setdefault(origin, []).append(one.name)

    def _usual_preset(
        self, asker: Asker, made: "_Filling", manner: dict[str, Any],
        kept: Mapping[str, Mapping[str, str]],
    ) -> None:  # fmt: skip
        origin = next((one for one in (YOURS, HERE) if PRESET in kept[one]), "")
        name = kept[origin][PRESET] if origin else NONE
        if key_of(name) == NONE:
            return
        try:
            one = self.presets.find(asker, name, own=origin == YOURS)
        except NotFound:
            # Whose it was may not want it named any more.
            made.left.append(_left_out(PRESET, origin, tr("It is not there any more.")))
            return
        why = made.take({"prompt": one.prompt(made.given["prompt"].strip())})
        if why:
            made.left.append(_left_out(PRESET, origin, why))
            return
        made.look(one, made.given, partial(_left_out_of, PRESET, origin))
        manner[PRESET] = _named(one)
        manner.setdefault(SET, {}).setdefault(origin, []).append(PRESET)

    def _drawable(self, asker: Asker, name: str) -> Preset:
        try:
            one = self.presets.find(asker, name)
        except NotFound as error:
            raise InvalidOptions([str(error)]) from None
        if one.video:
            raise InvalidOptions([tr(VIDEO, preset=one.name)])
        return one


class _Filling:
    """Options that are filled in one by one, as far as they work together."""

    def __init__(self, given: dict[str, Any], faults: Faults, mode: Mode) -> None:
        self.given = given
        self.left: list[str] = []
        self._find, self._mode = faults, mode
        self._faults: list[str] | None = None

    def open_to(self, names: Iterable[str], closed: Mapping[str, Any] | None = None) -> bool:
        """Whether nobody said anything about these, and they are not the picture's own affair."""
        names = set(names)
        if names.intersection(SIZE):
            names |= set(SIZE)
            if self._mode != Mode.TEXT:
                return False
        modes = [_BY_NAME[name].modes for name in names]
        return names.isdisjoint(self.given if closed is None else closed) and all(
            not one or self._mode in one for one in modes
        )

    def take(self, more: Mapping[str, Any]) -> str:
        """Take options in; where they make something wrong, leave them and say what, in words."""
        if self._faults is None:
            self._faults = self._find(self.given)
        tried = {**self.given, **more}
        found = self._find(tried)
        if len(found) > len(self._faults):
            new = next(one for one in found if one not in self._faults)
            return f"{new.partition('. ')[0].rstrip('.')}."
        self.given, self._faults = tried, found
        return ""

    def look(self, one: Preset, closed: Mapping[str, Any], left: Callable[..., str]) -> None:
        """Take in a preset's options but for those that are `closed`; `left` says what is left
        out."""
        # What was said before the preset is no reason to leave its options out.
        self._faults = None
        closed = dict(closed)
        size = {name: value for name, value in one.given.items() if name in SIZE}
        alone = [{name: value} for name, value in one.given.items() if name not in SIZE]
        for more in sorted(filter(None, [size, *alone]), key=lambda part: "model" not in part):
            what = next(iter(more))
            why = self.take(more) if self.open_to(more, closed) else ""
            # A model that knows no negative prompt is none the worse for it.
            if why and what != "negative_prompt":
                self.left.append(left(what=what.replace("_", " "), why=why))


def _manner(kept: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    shown = kept[YOURS].get(PREVIEWS) or kept[HERE].get(PREVIEWS)
    return {PREVIEWS: shown != "off"}


def _named(one: Preset) -> str:
    """What others may read of a preset that was used."""
    return "" if one.private else one.name


def _left_out(name: str, origin: str, why: str) -> str:
    if origin == HERE:
        return tr(
            "Left out: this chat's {setting} setting. {why} A moderator can change it: /settings "
            "reset {setting} channel",
            setting=name, why=why,
        )  # fmt: skip
    return tr(
        "Left out: your {setting} setting. {why} To change it: /settings reset {setting}, or "
        "/settings set {setting} …",
        setting=name, why=why,
    )  # fmt: skip


def _left_out_of(name: str, origin: str, *, what: str, why: str) -> str:
    """The same of a part of what is set."""
    if origin == HERE:
        return tr(
            "Left out: {what} of this chat's {setting} setting. {why} A moderator can change it: "
            "/settings reset {setting} channel",
            what=what, setting=name, why=why,
        )  # fmt: skip
    return tr(
        "Left out: {what} of your {setting} setting. {why} To change it: /settings reset "
        "{setting}, or /settings set {setting} …",
        what=what, setting=name, why=why,
    )  # fmt: skip


def _usual(one: Taste, kept: Mapping[str, Mapping[str, str]]) -> str:
    """The host's value, of the model that counts."""
    match one.name:
        case "previews":
            return "on" if read(Drawing).previews else "off"
        case "preset":
            return NONE
        case "language":
            return AUTO
        case "enhance":
            return ON_OFF[1]
        case "count":
            return str(_BY_NAME["count"].default)
    named = kept[YOURS].get("model") or kept[HERE].get("model") or ""
    known = catalog.models()
    model = known.get(named) or next(iter(known.values()))
    if one.name == "size":
        return f"{model.size}×{model.size}"
    return model.name if one.name == "model" else model.sampler


def credits(manner: Mapping[str, Any]) -> list[str]:
    """Which preset was used and what settings gave, as a card tells it to everybody."""
    parts = []
    if PRESET in manner:
        name = manner[PRESET]
        parts.append(tr("preset {name}", name=name) if name else tr("a preset of their own"))
    called = {YOURS: mark("their own {settings}"), HERE: mark("this chat's {settings}")}
    if by := [
        tr(called[origin], settings=", ".join(names))
        for origin, names in manner.get(SET, {}).items()
    ]:
        parts.append(tr("by /settings: {settings}", settings="; ".join(by)))
    return parts
