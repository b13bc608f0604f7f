"""Ready-made looks: a template around the prompt, a negative prompt, and options, under a name.

Some are built in (presets.toml); others people saved of their pictures, for themselves or shared
with a chat. One's own counts before one that is shared, and that before one that is built in.
"""

import re
import time
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from core.database import Database, now, presets, shares, upsert
from core.errors import NotFound, UserError, nearest
from core.languages import tr, trn
from core.options import OPTIONS, PROMPT_LIMIT, Mode, Request
from core.people import Asker, People

BUILT_IN = Path(__file__).with_name("presets.toml")
NAME_LIMIT = 32
# Of one person's own.
MOST = 100
# What a name in a setting or a flag means that no preset may have.
NONE = "none"
PLACEHOLDERS = ("prompt",)
# Double braces are emphasis, and braces with a comma are several prompts; see core/proposals.py.
_PLACEHOLDER = re.compile(r"(?<![\\{])\{\s*([^\W\d][\w-]*(?:\s+[\w-]+)*)\s*\}(?!\})")
_NAME = re.compile(r"\w[\w '&+.-]*")
# What shapes any other picture, too: neither words nor a seed, nor what a picture began with.
KEPT = tuple(
    one.name
    for one in OPTIONS
    if one.name in Request.__dataclass_fields__
    and one.name not in ("prompt", "seed", "count", "enhance")
    and (not one.modes or Mode.TEXT in one.modes)
)  # fmt: skip
# How long a process offers the names that somebody had, to who types.
KNOWN_SECONDS = 20.0
KNOWN_MOST = 1000


def key_of(name: str) -> str:
    """A name as it is compared."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


@dataclass(frozen=True)
class Preset:
    """One preset; `id` is 0 for those that are built in.

    `own` says that it is the asker's, `private` that nobody else here knows its name.
    """

    name: str
    template: str = "{prompt}"
    given: Mapping[str, Any] = field(default_factory=dict)
    video: bool = False
    id: int = 0
    own: bool = False
    private: bool = False

    @property
    def key(self) -> str:
        return key_of(self.name)

    def prompt(self, words: str) -> str:
        """The prompt with the template around it; what it holds itself stays as it is."""
        return _PLACEHOLDER.sub(lambda _: words, self.template)

    @property
    def told(self) -> str:
        """What it does, in words."""
        parts = [tr("prompt: {prompt}", prompt=self.template)]
        for name, value in self.given.items():
            flag = next((one.flags[0] for one in OPTIONS if one.name == name and one.flags), name)
            parts.append(f"--{flag} {value}" if value is not True else f"--{flag}")
        title = tr("{name} (for video)", name=self.name) if self.video else self.name
        return "\n".join([title, *parts])


@cache
def built_in() -> tuple[Preset, ...]:
    """Those that everybody has."""
    told = tomllib.loads(BUILT_IN.read_text("utf-8"))["preset"]
    found = []
    for one in told:
        name, template, video = one.pop("name"), one.pop("template"), one.pop("video", False)
        found.append(Preset(name, template, one, video))
    return tuple(found)


def named(name: str) -> str:
    """A name for a preset as it is kept. Raises UserError."""
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if not name or name.isdecimal():
        raise UserError(tr("Give the preset a name first, such as /preset save misty 12"))
    if len(name) > NAME_LIMIT:
        raise UserError(
            tr(
                "That name has {number} characters; {most} is the most. Take a shorter one.",
                number=len(name), most=NAME_LIMIT,
            )
        )  # fmt: skip
    if not _NAME.fullmatch(name) or "--" in name or len(key_of(name)) > 4 * NAME_LIMIT:
        raise UserError(
            tr(
                "A preset's name is made of letters, digits, spaces and ' & + . - _, without "
                "emoji, and begins with a letter or digit. For example: misty morning"
            )
        )
    if key_of(name) in (NONE, "off"):
        raise UserError(tr("“{name}” means no preset at all. Take another name.", name=name))
    return name


def template(text: str) -> str:
    """A template as it is kept; without words it is the prompt alone. Raises UserError."""
    # What no database holds: half a character, and none at all.
    text = text.encode(errors="replace").decode().replace("\0", "").strip() or "{prompt}"
    if len(text) > PROMPT_LIMIT // 2:
        raise UserError(
            tr(
                "That template has {number} characters; {most} is the most.",
                number=len(text), most=PROMPT_LIMIT // 2,
            )
        )  # fmt: skip
    found = [match[1] for match in _PLACEHOLDER.finditer(text)]
    known = ", ".join(f"{{{one}}}" for one in PLACEHOLDERS)
    if unknown := [one for one in found if one.lower() not in PLACEHOLDERS]:
        raise UserError(
            tr(
                "There is no placeholder {unknown}. Known: {known}, where the words of whoever "
                "uses the preset go.",
                unknown=f"{{{unknown[0][:40]}}}", known=known,
            )
        )  # fmt: skip
    if not found:
        raise UserError(
            tr(
                "Say with {known} where the words of whoever uses it go, for example: {example}",
                known=known, example="{prompt} in thick mist",
            )
        )  # fmt: skip
    depth = 0
    for match in re.finditer(r"\\.|(?P<place>(?<!\{)\{\s*\w+\s*\}(?!\}))|[{}]", text):
        if match["place"] and depth:
            raise UserError(
                tr(
                    "{known} cannot stand in other braces. Put it before or after them.",
                    known=known,
                )
            )
        depth = max(0, depth + {"{": 1, "}": -1}.get(match[0], 0))
    return text


def kept_of(request: Request) -> dict[str, Any]:
    """The options that make other pictures look like one, for JSON."""
    given = {name: getattr(request, name) for name in KEPT}
    usual = {one.name: one.default for one in OPTIONS}
    given = {name: value for name, value in given.items() if value not in (usual[name], None, "")}
    if request.loras:
        given["lora"] = ", ".join(f"{name}:{weight:g}" for name, weight in request.loras)
    return given


class Presets:
    """The rows; who reads along is never told of what is private."""

    def __init__(self, database: Database, people: People) -> None:
        self.database = database
        self.people = people
        # By account and place, when they were read: the names alone, for who types.
        self._known: dict[tuple[str, ...], tuple[float, list[str]]] = {}

    def of(self, asker: Asker, *, own: bool = True) -> list[Preset]:
        """All that somebody may use here, in the order in which a name is looked for.

        Without their `own` these are what everybody in the chat may use.
        """
        accounts = self.people.get(asker.platform, asker.id).everyone if own else ()
        with self.database.read() as connection:
            mine = connection.execute(
                select(presets).where(presets.c.owner.in_(accounts)).order_by(presets.c.id)
            ).all()
            shared = connection.execute(
                select(presets)
                .join(shares, shares.c.preset == presets.c.id)
                .where(shares.c.place == place_of(asker))
                .order_by(presets.c.id)
            ).all()
        here, own_ones = {row.id for row in shared}, {row.id for row in mine}
        return [
            *(
                Preset(
                    row.name, row.template, row.given, id=row.id, own=True,
                    private=row.id not in here,
                )
                for row in mine
            ),
            *(
                Preset(row.name, row.template, row.given, id=row.id)
                for row in shared if row.id not in own_ones
            ),
            *built_in(),
        ]  # fmt: skip

    def find(self, asker: Asker, name: str, *, own: bool = True) -> Preset:
        """The preset that a name means here. Raises NotFound."""
        known = self.of(asker, own=own)
        key = key_of(name)
        if found := next((one for one in known if one.key == key), None):
            return found
        # Others may read the answer: what is private is not named.
        keys = {one.key: one.name for one in known if not one.private}
        near = keys.get(nearest(key, keys))
        name = name.strip()[:40]
        if near:
            raise NotFound(
                tr(
                    "There is no preset “{name}”. Did you mean {near}? /preset lists them.",
                    name=name, near=near,
                )
            )  # fmt: skip
        raise NotFound(tr("There is no preset “{name}”. /preset lists them.", name=name))

    def begun(self, asker: Asker, text: str) -> tuple[Preset, str]:
        """The preset whose name a text begins with, and the rest. Raises NotFound.

        A name may be in quotes; else the longest one counts.
        """
        if quoted := re.match(r"[\"“„«']([^\"“”»']+)[\"“”»']\s*", text):
            return self.find(asker, quoted[1]), text[quoted.end() :]
        words = text.split()
        known = self.of(asker)
        for number in range(len(words), 0, -1):
            key = key_of(" ".join(words[:number]))
            if found := next((one for one in known if one.key == key), None):
                return found, text.split(maxsplit=number)[number] if len(words) > number else ""
        return self.find(asker, words[0] if words else ""), ""

    def save(self, asker: Asker, name: str, words: str, given: Mapping[str, Any]) -> Preset:
        """Keep a preset of one's own. Raises UserError."""
        name, words = named(name), template(words)
        mine = [one for one in self.of(asker) if one.own]
        if any(one.key == key_of(name) for one in mine):
            raise UserError(
                tr(
                    "You have a preset {name} already. Take another name, or /preset delete {name} "
                    "first.",
                    name=name,
                )
            )
        if len(mine) >= MOST:
            raise UserError(
                trn(
                    "You have {n} preset, which is the most. Delete one.",
                    "You have {n} presets, which is the most. Delete one.",
                    MOST,
                )
            )
        row = {
            "owner": asker.account, "key": key_of(name), "name": name, "template": words,
            "given": dict(given), "created": now(),
        }  # fmt: skip
        try:
            with self.database.write() as connection:
                connection.execute(insert(presets).values(row))
        except IntegrityError:
            raise UserError(tr("You have a preset {name} already.", name=name)) from None
        self._known.clear()
        return Preset(name, words, given, own=True, private=True)

    def own(self, asker: Asker, name: str) -> Preset:
        """One of the asker's own. Raises NotFound, which names nobody else's."""
        key = key_of(name)
        for one in self.of(asker):
            if one.own and one.key == key:
                return one
        raise NotFound(
            tr(
                "You have no preset “{name}” of your own. /preset lists them.",
                name=name.strip()[:40],
            )
        )

    def share(self, asker: Asker, one: Preset, place: str) -> None:
        """Let everybody in a place use a preset. Raises UserError when the name is taken there."""
        with self.database.write() as connection:
            new = upsert(connection)(shares).values(place=place, key=one.key, preset=one.id)
            connection.execute(new.on_conflict_do_nothing())
            holder = connection.execute(
                select(shares.c.preset).where(shares.c.place == place, shares.c.key == one.key)
            ).scalar_one()
        self._known.clear()
        if holder != one.id:
            raise UserError(
                tr(
                    "Somebody shares a preset {name} here already. Save yours under another name.",
                    name=one.name,
                )
            )

    def unshare(self, one: Preset, place: str) -> bool:
        """Take a preset from a place; False when it was not shared there."""
        with self.database.write() as connection:
            gone = connection.execute(
                delete(shares).where(shares.c.place == place, shares.c.preset == one.id)
            )
        self._known.clear()
        return bool(gone.rowcount)

    def delete(self, one: Preset) -> None:
        """Forget a preset, wherever it was shared."""
        with self.database.write() as connection:
            connection.execute(delete(shares).where(shares.c.preset == one.id))
            connection.execute(delete(presets).where(presets.c.id == one.id))
        self._known.clear()

    def names(self, asker: Asker) -> list[str]:
        """What may be written for a preset by this asker here, as of some seconds ago."""
        who = asker.account, place_of(asker)
        at, found = self._known.get(who, (0.0, []))
        if not found or time.monotonic() - at > KNOWN_SECONDS:
            found = list(dict.fromkeys(one.name for one in self.of(asker) if not one.video))
            if len(self._known) >= KNOWN_MOST:
                self._known.clear()
            self._known[who] = time.monotonic(), found
        return found


def place_of(asker: Asker) -> str:
    """Where what somebody shares can be used: in the whole guild, else in the chat."""
    guild = next((one for one in asker.places if ":guild:" in one), "")
    # Everybody who comes to the web chat comes to the same one.
    return guild or asker.chat or (f"{asker.platform}:chat" if asker.platform == "web" else "")
