"""Favourites and tags: what a person keeps pictures of their own under, to find them again.

They belong to the picture, and so to whoever it belongs to: linked accounts share them, they go
with the picture, and nobody else is told of them.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable

from sqlalchemy import ColumnElement, delete, exists, func, select

from core.asking import Ask, Reply, index_of, picture_number
from core.database import generations, marks, upsert
from core.errors import NotFound, UserError
from core.house import House
from core.languages import tr, trn
from core.lifecycle import State
from core.people import Asker
from core.rows import Generation

# A favourite's mark is the one without a name.
FAVOURITE = ""
# Characters of a tag, and tags of a picture.
LONGEST, MOST = 32, 20
# What parts tags, and what no tag can be written with where it is looked for.
PARTED, UNWRITABLE = ",", '"“”'
# What joins the signs of an emoji, and is none by itself.
JOINER = "\u200d"
# What takes a tag away where it is said.
AWAY = "-"


def tag_of(words: str) -> str:
    """A tag as it is kept and compared. Raises UserError."""
    plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", words).casefold())
    shown = "".join(
        " " if sign.isspace() else sign
        for sign in plain
        if sign == JOINER or sign.isspace() or unicodedata.category(sign)[0] != "C"
    )
    tag = " ".join(shown.split()).removeprefix("#").strip()
    if not tag.strip(JOINER):
        raise UserError(tr("A tag needs at least one letter, number or emoji."))
    if len(tag) > LONGEST:
        raise UserError(
            tr(
                "A tag has at most {most} characters; that one has {length}.",
                most=LONGEST,
                length=len(tag),
            )
        )
    if any(sign in tag for sign in PARTED + UNWRITABLE):
        raise UserError(tr("A tag has no commas and no quotation marks in it."))
    return tag


def tags_of(words: Iterable[str]) -> list[str]:
    """Several tags as they are kept, each once. Raises UserError."""
    return list(dict.fromkeys(tag_of(one) for one in words))


# Keeping


def put(house: House, one: Generation, place: int, tags: Collection[str]) -> None:
    """Mark a picture. Raises UserError beyond the most, NotFound where it has just gone."""
    mine = marks.c.generation == one.id, marks.c.place == place
    with house.database.write() as connection:
        there = select(generations.c.id).where(
            generations.c.id == one.id, generations.c.deleted.is_(None)
        )
        # Held until this is done, so that no mark comes after its picture has gone.
        if connection.execute(there.with_for_update()).one_or_none() is None:
            raise NotFound(tr("There is no #{id} any more.", id=one.id))
        for tag in tags:
            new = upsert(connection)(marks).values(generation=one.id, place=place, tag=tag)
            connection.execute(new.on_conflict_do_nothing())
        number = select(func.count()).where(*mine, marks.c.tag != FAVOURITE)
        if connection.execute(number).scalar_one() > MOST:
            raise UserError(
                tr("A picture has at most {most} tags. Take one away first.", most=MOST)
            )


def take(house: House, one: Generation, place: int, tags: Collection[str]) -> None:
    """Take marks from a picture; one that it does not have is no fault."""
    with house.database.write() as connection:
        connection.execute(
            delete(marks).where(
                marks.c.generation == one.id, marks.c.place == place, marks.c.tag.in_(tags)
            )
        )


def of(house: House, ids: Collection[int]) -> dict[tuple[int, int], set[str]]:
    """The marks of all pictures of some generations, by id and place."""
    found: dict[tuple[int, int], set[str]] = defaultdict(set)
    with house.database.read() as connection:
        for row in connection.execute(select(marks).where(marks.c.generation.in_(ids))).all():
            found[row.generation, row.place].add(row.tag)
    return found


def having(tag: str) -> ColumnElement[bool]:
    """Rows that have a picture under a mark."""
    return exists().where(marks.c.generation == generations.c.id, marks.c.tag == tag)


# Saying


def mine(house: House, asker: Asker, given: object) -> tuple[Generation, int]:
    """A finished picture of the asker's own by its number, or their newest, and its place."""
    if given:
        number, place = picture_number(given)
    else:
        newest = house.generations.of(asker, {State.DONE}, 1, drawn=True)
        if not newest:
            raise UserError(tr("You have no pictures yet. /imagine draws one."))
        number, place = newest[0].id, None
    one = house.generations.own(number, asker)
    index = index_of(one, place)
    one.picture(index)
    return one, index


def name_of(one: Generation, place: int) -> str:
    """A picture as people say it."""
    return f"#{one.id}.{place + 1}" if len(one.results) > 1 else f"#{one.id}"


def favourite(house: House, ask: Ask) -> Reply:
    """`/favourite`: keep a picture among the favourites, or not any more."""
    one, place = mine(house, ask.asker, ask.given.get("id"))
    name = name_of(one, place)
    if ask.given.get("keep") == "no":
        take(house, one, place, [FAVOURITE])
        return Reply(tr("{picture} is no favourite any more.", picture=name))
    put(house, one, place, [FAVOURITE])
    return Reply(
        tr("{picture} is a favourite now. /history favourite:yes finds them all.", picture=name)
    )


def tag(house: House, ask: Ask) -> Reply:
    """`/tag`: put tags on a picture, take some away, or tell them."""
    one, place = mine(house, ask.asker, ask.given.get("id"))
    name = name_of(one, place)
    said = [word.strip() for word in str(ask.given.get("words") or "").split(PARTED)]
    said = [word for word in said if word]
    away = tags_of(word.removeprefix(AWAY) for word in said if word.startswith(AWAY))
    new = tags_of(word for word in said if not word.startswith(AWAY))
    if away:
        take(house, one, place, away)
    if new:
        put(house, one, place, new)
    tags = sorted(of(house, [one.id])[one.id, place] - {FAVOURITE})
    if not tags:
        told = tr("{picture} has no tags. /tag {id} sea, night gives it two.",
                  picture=name, id=name[1:])  # fmt: skip
        return Reply(told)
    example = f'"{tags[0]}"' if " " in tags[0] else tags[0]
    return Reply(
        trn("{picture} has {n} tag: {tags}.", "{picture} has {n} tags: {tags}.", len(tags),
            picture=name, tags=f"{PARTED} ".join(tags))
        + " " + tr("/history tag:{tag} finds it.", tag=example)
    )  # fmt: skip
