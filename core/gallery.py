"""A person's finished pictures, one by one: found, counted, and packed to be taken away."""

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, FromClause, cast, func, select

from core import marks
from core.asking import Ask
from core.cards import show_of
from core.database import generations
from core.database import marks as kept
from core.history import Filters, find
from core.house import House
from core.languages import tr
from core.lifecycle import State
from core.people import Asker
from core.policy import ALONE, Show
from core.rows import Generation

# Requests that are looked at together where all pictures are wanted.
BATCH = 50
# What the packed file tells of pictures that are not in it.
LEFT_OUT = "left-out.txt"


@dataclass(frozen=True)
class Picture:
    """One finished picture of somebody's, and what they keep it under."""

    one: Generation
    place: int
    favourite: bool = False
    tags: tuple[str, ...] = ()

    @property
    def number(self) -> str:
        """What it is called, whether or not it is the only one: `12.1`."""
        return f"{self.one.id}.{self.place + 1}"

    @property
    def result(self) -> Mapping[str, Any]:
        return self.one.results[self.place]

    @property
    def show(self) -> Show:
        """How its person is shown it where nobody else looks."""
        return show_of(self.one, ALONE)

    @property
    def recipe(self) -> dict[str, Any]:
        """All that is needed to draw it again, and what it is kept under."""
        drawn = self.one.request.alone(int(self.result.get("seed", 0)))
        return {
            **drawn.told, "id": self.one.id, "picture": self.number, "parent": self.one.parent,
            "created": self.one.created.isoformat(), "favourite": self.favourite,
            "tags": list(self.tags),
        }  # fmt: skip


@dataclass(frozen=True)
class Count:
    """What somebody has: pictures, the bytes that they take, favourites; tags and models, the most
    used first, with their numbers of pictures."""

    pictures: int
    bytes: int
    favourites: int
    tags: tuple[tuple[str, int], ...]
    models: tuple[tuple[str, int], ...]


# Finding


def page(
    house: House, ask: Ask, filters: Filters, limit: int, before: int | None = None
) -> tuple[list[Picture], int | None]:
    """The pictures of the next requests that fit, newest first; where to go on, if there is more.

    A request is never parted: a page may hold more pictures than requests.
    """
    done = replace(filters, state=State.DONE)
    found = find(house, ask, done, limit + 1, before=before, drawn=True)
    shown = found[:limit]
    pictures = [
        one for one in known(house, shown)
        if (not filters.favourite or one.favourite)
        and (not filters.tag or filters.tag in one.tags)
    ]  # fmt: skip
    return pictures, shown[-1].id if len(found) > limit else None


def known(house: House, found: Iterable[Generation]) -> list[Picture]:
    """All pictures of some finished requests, with what they are kept under."""
    rows = list(found)
    under = marks.of(house, [one.id for one in rows])
    return [
        Picture(
            one, place, marks.FAVOURITE in under[one.id, place],
            tuple(sorted(under[one.id, place] - {marks.FAVOURITE})),
        )
        for one in rows for place in range(len(one.results))
    ]  # fmt: skip


def picture(house: House, asker: Asker, number: int, place: int) -> Picture:
    """One picture of the asker's own. Raises NotFound."""
    one = house.generations.own(number, asker)
    one.picture(place)
    return known(house, [one])[place]


def every(house: House, ask: Ask, filters: Filters) -> Iterator[Picture]:
    """All pictures that fit, newest first, looked for as they are wanted."""
    before = None
    while True:
        found, before = page(house, ask, filters, BATCH, before)
        yield from found
        if before is None:
            return


# Counting


def count(house: House, asker: Asker) -> Count:
    """What somebody has; a file that several requests share takes its bytes once."""
    person = house.people.get(asker.platform, asker.id).id
    columns = generations.c
    mine = (
        columns.person == person, columns.state == State.DONE, columns.deleted.is_(None),
        columns.text.is_(None),
    )  # fmt: skip
    each, key, size = _results(house)
    files = (
        select(key, func.max(size), func.count())
        .select_from(generations, each).where(*mine).group_by(key)
    )  # fmt: skip
    tagged = (
        select(kept.c.tag, func.count())
        .join(generations, columns.id == kept.c.generation).where(*mine).group_by(kept.c.tag)
    )  # fmt: skip
    model = columns.request["model"].as_string()
    number = func.sum(func.json_array_length(columns.results))
    drawn = select(model, number).where(*mine).group_by(model).having(number > 0)
    with house.database.read() as connection:
        stored = connection.execute(files).all()
        tags = {tag: int(number) for tag, number in connection.execute(tagged).all()}
        models = [(str(name), int(number)) for name, number in connection.execute(drawn).all()]
    favourites = tags.pop(marks.FAVOURITE, 0)
    return Count(
        sum(number for _, _, number in stored),
        sum(_measured(house, key) if size is None else size for key, size, _ in stored),
        favourites, _most_first(tags.items()), _most_first(models),
    )  # fmt: skip


def _results(house: House) -> tuple[FromClause, ColumnElement[str], ColumnElement[int]]:
    """The single results of rows, each with its key and the size it was stored with."""
    results = generations.c.results
    if house.database.engine.dialect.name == "postgresql":
        each = func.json_array_elements(results).table_valued("value", joins_implicitly=True)
        key, size = (each.c.value.op("->>")(name) for name in ("key", "bytes"))
        return each, key, cast(size, BigInteger)
    each = func.json_each(results).table_valued("value", joins_implicitly=True)
    told = [func.json_extract(each.c.value, f"$.{name}") for name in ("key", "bytes")]
    return each, told[0], told[1]


def _measured(house: House, key: str) -> int:
    """The size of a stored picture whose row does not tell it; none where it is gone."""
    try:
        return house.media.size(key)
    except FileNotFoundError:
        return 0


def _most_first(counted: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counted, key=lambda one: (-one[1], one[0])))


# Taking away


def packed(house: House, pictures: Iterable[Picture]) -> Iterator[bytes]:
    """A ZIP of pictures, each with its recipe, made as it is read: one picture is held at once.

    What may not be shown, or is no longer kept, is named in it.
    """
    parts = _Parts()
    missing = []
    with zipfile.ZipFile(parts, "w") as made:
        for one in pictures:
            data = _shown(house, one)
            if data is None:
                missing.append(one.number)
                continue
            made.writestr(_member(one, "png"), data)
            recipe = json.dumps(one.recipe, ensure_ascii=False, indent=2)
            made.writestr(_member(one, "json"), recipe, zipfile.ZIP_DEFLATED)
            yield parts.taken()
        if missing:
            words = tr("These pictures are not shown here, or are no longer kept:")
            made.writestr(LEFT_OUT, "\n".join([words, *missing]))
    yield parts.taken()


def _shown(house: House, one: Picture) -> bytes | None:
    if one.show == Show.WITHHOLD:
        return None
    try:
        return house.media.load(str(one.result["key"]))
    except FileNotFoundError:
        return None


def _member(one: Picture, kind: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(f"{one.number}.{kind}", one.one.created.timetuple()[:6])
    member.external_attr = 0o644 << 16  # Unix would let nobody read it.
    return member


class _Parts(io.RawIOBase):
    """Takes what is written, for who reads it meanwhile."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held += data
        return len(data)

    def taken(self) -> bytes:
        """What was written since it was last asked."""
        held, self._held = bytes(self._held), bytearray()
        return held
