"""A picture's family: what it was drawn again, varied, enlarged or begun from, and what came of it.

Every row knows one parent. Of a blend that is the first of its pictures that was drawn here.
"""

from collections import defaultdict, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import literal, select

from core.cards import show_of
from core.database import generations
from core.errors import NotFound
from core.house import House
from core.languages import mark, tr
from core.lifecycle import State
from core.people import Asker
from core.policy import Audience, Show
from core.rows import Generation

# So many are drawn, and so many are looked at for them; ancestors come first.
SHOWN, LOOKED_AT = 20, 500
# What is told of one that the asker may not see, and of one that was deleted.
STRANGE, DELETED = mark("not yours"), mark("#{number} deleted")


@dataclass(frozen=True)
class Member:
    """One of a family: `row` is None for one that is not the asker's to see, of which nothing
    but its place is told."""

    id: int
    parent: int | None
    row: Generation | None
    # Whether its picture may be shown to who reads.
    plain: bool = False

    @property
    def label(self) -> str:
        """What stands under it."""
        if self.row is None:
            return tr(STRANGE)
        return tr(DELETED, number=self.id) if self.row.deleted else f"#{self.id}"

    @property
    def key(self) -> str:
        """The stored picture that shows it; empty where none may."""
        return str(self.row.results[0]["key"]) if self.plain and self.row else ""


@dataclass(frozen=True)
class Family:
    """Members, each after its parent, and how many more there are; `asked` is the one meant."""

    asked: int
    members: tuple[Member, ...]
    more: int = 0

    @property
    def levels(self) -> dict[int, int]:
        """How many steps each member stands below the first."""
        found: dict[int, int] = {}
        for one in self.members:
            found[one.id] = found[one.parent] + 1 if one.parent in found else 0
        return found

    def lines(self) -> list[str]:
        """The family in words, one member a line, children below their parents."""
        children: dict[int | None, list[Member]] = defaultdict(list)
        ids = {one.id for one in self.members}
        for one in self.members:
            children[one.parent if one.parent in ids else None].append(one)
        lines: list[str] = []

        def tell(one: Member, depth: int) -> None:
            words = one.label
            if one.row and not one.row.deleted:
                prompt = " ".join(one.row.request.prompt.split())[:40]
                words += f" {one.row.request.mode}, {one.row.state.said}"
                words += prompt and f": {prompt}"
            here = " ◀" if one.id == self.asked else ""
            lines.append("· " * depth + words + here)
            for child in children[one.id]:
                tell(child, depth + 1)

        for first in children[None]:
            tell(first, 0)
        if self.more:
            lines.append(tr("… and {number} more.", number=self.more))
        return lines


def family(house: House, asked: Generation, asker: Asker, audience: Audience) -> Family:
    """The family of one that the asker may see, as an audience sees it."""
    line = _above(house, asked)
    rows = {one.id: one for one in (asked, *line)}
    rows |= _below(house, line[-1] if line else asked) | _below(house, asked)
    person = house.people.get(asker.platform, asker.id).id
    mine = {
        id_ for id_, row in rows.items()
        if row.user == person or house.generations.may_see(row, asker)
    }  # fmt: skip
    # Of others' those alone are told of that stand above the asker's own, or came of those.
    kept = mine | {id_ for id_, row in rows.items() if row.parent in mine}
    for id_ in mine:
        while (parent := rows[id_].parent) in rows and parent not in kept:
            kept.add(parent)
            id_ = parent
    shown = _shown(rows, kept, [asked.id, *(one.id for one in line)])
    return Family(
        asked.id,
        tuple(_member(rows[id_], id_ in mine, audience) for id_ in sorted(shown)),
        len(kept) - len(shown),
    )


def _member(row: Generation, mine: bool, audience: Audience) -> Member:
    if not mine:
        return Member(row.id, row.parent, None)
    drawn = row.state == State.DONE and bool(row.results)
    return Member(row.id, row.parent, row, drawn and show_of(row, audience) == Show.PLAIN)


def _above(house: House, one: Generation) -> list[Generation]:
    """The ancestors of one, its parent in front."""
    found: list[Generation] = []
    while one.parent and len(found) < LOOKED_AT:
        try:
            one = house.generations.get(one.parent)
        except NotFound:
            break  # It was forgotten in time.
        found.append(one)
    return found


def _below(house: House, first: Generation) -> dict[int, Generation]:
    """One and what came of it, the nearest first, by number."""
    columns = generations.c
    come = (
        select(columns.id, literal(0).label("depth"))
        .where(columns.id == first.id)
        .cte("come", recursive=True)
    )
    child = generations.alias()
    come = come.union_all(
        # A child is always younger, so this ends.
        select(child.c.id, come.c.depth + 1).where(
            child.c.parent == come.c.id, child.c.id > come.c.id
        )
    )
    found = house.generations.found(
        select(generations)
        .join(come, come.c.id == columns.id)
        .order_by(come.c.depth, columns.id)
        .limit(LOOKED_AT)
    )
    return {one.id: one for one in found}


def _shown(rows: Mapping[int, Generation], kept: Collection[int], line: list[int]) -> set[int]:
    """Which are drawn: the line above the one that was asked for, what came of it, then others."""
    line = line[: SHOWN // 2]
    children: dict[int | None, list[int]] = defaultdict(list)
    for id_ in sorted(kept):
        children[rows[id_].parent].append(id_)
    order = dict.fromkeys(line)
    for start in (line[0], line[-1]):
        waiting = deque([start])
        while waiting:
            id_ = waiting.popleft()
            order[id_] = None
            waiting.extend(children[id_])
    return set(list(order)[:SHOWN])
