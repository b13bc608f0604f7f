"""Links that show one picture to whoever has them, until they are taken back or too old."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select

from core.brush import BadLink, Expired
from core.database import now, shared, upsert
from core.engine import MARK
from core.errors import NotAllowed, NotFound
from core.house import House
from core.languages import tr
from core.lifecycle import State
from core.people import Asker
from core.rows import Generation

# Where such links lead, below DRAWQUEUE_PUBLIC_URL, and what their signature holds for.
SHARED = "/shared/"
# For how many days a link is good where nobody says it, and at most.
DAYS, MOST_DAYS = 30, 365


@dataclass(frozen=True)
class Link:
    """A picture's link: below the house's address, whether the prompt is shown, until when."""

    path: str
    prompt: bool
    until: datetime


def share(
    house: House, asker: Asker, number: int, place: int, *, prompt: bool = False, days: int = DAYS
) -> Link:
    """The link of a picture of the asker's own; asked for again, the same one from now on.

    Raises NotFound, and NotAllowed for what is not for everybody.
    """
    one = house.generations.own(number, asker)
    one.picture(place)
    if _marked(one):
        raise NotAllowed(
            tr("#{id} is marked as not for everybody, so it has no link to share.", id=one.id)
        )
    row = {"prompt": prompt, "until": now() + timedelta(days=min(days, MOST_DAYS))}
    name = secrets.token_urlsafe(12)
    new = {"generation": one.id, "place": place, "name": name, **row}
    mine = shared.c.generation == one.id, shared.c.place == place
    with house.database.write() as connection:
        # One that is too old stays dead.
        connection.execute(delete(shared).where(*mine, shared.c.until < now()))
        connection.execute(
            upsert(connection)(shared).values(new).on_conflict_do_update(
                index_elements=["generation", "place"], set_=row
            )
        )  # fmt: skip
    found = link(house, one.id, place)
    if found is None:  # It was taken back at the same moment.
        raise NotFound(_gone())
    return found


def unshare(house: House, asker: Asker, number: int, place: int) -> None:
    """Let the link of a picture of the asker's own be dead; without one, it is no fault."""
    one = house.generations.own(number, asker)
    with house.database.write() as connection:
        connection.execute(
            delete(shared).where(shared.c.generation == one.id, shared.c.place == place)
        )


def link(house: House, number: int, place: int) -> Link | None:
    """The link that a picture has now."""
    with house.database.read() as connection:
        row = connection.execute(
            select(shared).where(
                shared.c.generation == number, shared.c.place == place, shared.c.until >= now()
            )
        ).one_or_none()
    if row is None:
        return None
    told = house.brush.signed([number, place, row.name], SHARED)
    return Link(SHARED + told, row.prompt, row.until)


def opened(house: House, given: str) -> tuple[Generation, int, Link]:
    """The picture that a link shows, and its place. Raises BadLink; Expired where it was good."""
    told = house.brush.verified(given, SHARED)
    if told is None:
        raise BadLink(tr("That link is not one of mine. Ask who gave it to you for a new one."))
    number, place, _name = told
    found = link(house, number, place)
    if found is None or found.path != SHARED + given:
        raise Expired(_gone())
    try:
        one = house.generations.get(number)
    except NotFound:
        raise Expired(_gone()) from None
    there = one.state == State.DONE and place < len(one.results)
    if one.deleted or not there or _marked(one):
        raise Expired(_gone())
    return one, place, found


def visitor(house: House, network: str) -> Asker:
    """Whoever opens a link and is nobody here: the same one from the same network, not by name."""
    return Asker("web", f"visitor-{house.brush.signed([network], 'visitor')[-32:]}", "visitor")


def _marked(one: Generation) -> bool:
    return any(result.get(MARK) for result in one.results)


def _gone() -> str:
    return tr("This picture is not shared any more.")
