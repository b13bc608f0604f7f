"""A generation as its row has it, and how rows are found and read by whom.

Nothing here changes one: core/generations.py does.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import Connection, Row, Select, false, func, or_, select, true

from core import catalog
from core.database import AWAY, Database, files, generations, now, reports
from core.engine import MARK, UNCHECKED
from core.errors import NotAllowed, NotFound, report
from core.languages import ENGLISH, tr, trn
from core.lifecycle import PENDING, RUNNING, State
from core.media import Media
from core.options import Mode, Request
from core.people import Asker, People
from core.queue import Standing, WorkQueue, job_id
from core.settings import Drawing, read

# What a row knows of its place in line, besides 0 for none yet: HELD waits for its own person's
# (or chat's) other drawings, and so stands in none.
NOTED, LOST, HELD = 1, -1, 2
# So many earlier answers a talk remembers.
TALK = 12
# Where an address keeps the message that was asked with, which its writer may edit for so long.
ASKED = "asked"
EDITABLE = timedelta(days=3)
# What a row's manner calls the sentences about settings that were left out.
LEFT = "left"
# What it calls the request that was asked for, where another engine stands in, and who tried.
INSTEAD = "instead"
# What it calls why a prompt is drawn as it was asked for, though a better one was to be written.
PLAINLY = "plainly"
# What it calls the language of who asked, where that is not English.
LANGUAGE = "language"
# What a row's task says while its engine has reached a limit: since when.
BUSY_SINCE = "busy"
# Who took everything out of a row that says it was deleted: a moderator, or its asker with all
# that was theirs; empty for its asker alone.
TAKEN_DOWN, FORGOTTEN = "moderator", "forgotten"
# What comes of reading a row that another version wrote.
UNREADABLE = (TypeError, ValueError, KeyError)
# What is left of a request that was forgotten: nothing that anybody chose.
BLANK = Request("", "", 1, 1, 1, 0.0, 0, "", "", 1)


@dataclass(frozen=True)
class Generation:
    """One row, frozen."""

    id: int
    platform: str
    asker: str
    asker_name: str
    address: Mapping[str, Any]
    request: Request
    parent: int | None
    state: State
    attempt: int
    version: int
    enqueued: int
    error: str | None
    results: tuple[Mapping[str, Any], ...]
    seconds: float | None
    created: datetime
    started: datetime | None
    ended: datetime | None
    message: str | None
    shown_version: int
    shown_media: int
    mentioned: int
    undeliverable: str | None
    restarts: int
    due: datetime | None
    person: str
    chat: str
    class_name: str
    priority: int
    charged: float
    deleted: datetime | None
    removed: str
    manner: Mapping[str, Any]
    line: str
    task: Mapping[str, Any] | None
    text: str | None
    cost: float

    def picture(self, index: int) -> Mapping[str, Any]:
        """One of its finished pictures, counted from 0. Raises NotFound."""
        if self.state != State.DONE:
            raise NotFound(
                tr(
                    "#{number} has no picture yet: it is {state}.",
                    number=self.id, state=self.state.said,
                )
            )  # fmt: skip
        if not 0 <= index < len(self.results):
            raise NotFound(
                trn(
                    "#{number} has {n} picture; there is no {number}.{place}.",
                    "#{number} has {n} pictures; there is no {number}.{place}.",
                    len(self.results), number=self.id, place=index + 1,
                )
            )  # fmt: skip
        return self.results[index]

    @property
    def language(self) -> str:
        """The language that its card, and what else is said of it, is in."""
        return str(self.manner.get(LANGUAGE, ENGLISH))

    @property
    def first_asked(self) -> Request:
        """What was asked for, before another engine stood in."""
        kept = self.manner.get(INSTEAD)
        return Request.read(kept["request"]) if kept else self.request

    @property
    def begun(self) -> int:
        """How many pictures of this attempt another machine is known to have taken on."""
        task = self.task if self.state in RUNNING and self.task else {}
        known = task.get("name") or task.get("news")
        return int(task.get("begun") or self.request.count) if known else 0

    @property
    def job(self) -> str:
        return job_id(self.id, self.attempt)

    @property
    def user(self) -> str:
        """Who is served fairly: one person, with all accounts they linked."""
        return self.person or f"{self.platform}:{self.asker}"


def read_row(row: Row[Any]) -> Generation:
    """A generation as its row has it."""
    values = {name: row._mapping[name] for name in Generation.__dataclass_fields__}
    values["request"] = Request.read(values["request"])
    values["state"] = State(values["state"])
    values["results"] = tuple(values["results"])
    return Generation(**values)


class Rows:
    """All rows, as they are read."""

    def __init__(self, database: Database, queue: WorkQueue, media: Media) -> None:
        self.database = database
        self.queue = queue
        self.media = media
        self.people = People(database, queue.redis)
        # What was told of already.
        self._unreadable: set[int] = set()

    def get(self, generation_id: int) -> Generation:
        """One generation. Raises NotFound."""
        if not 0 < generation_id < 2**31:  # The column's own bound.
            raise NotFound(tr("There is no #{number}.", number=generation_id))
        with self.database.read() as connection:
            row = connection.execute(
                select(generations).where(generations.c.id == generation_id)
            ).one_or_none()
        if row is None:
            raise NotFound(tr("There is no #{number}.", number=generation_id))
        return read_row(row)

    def visible(self, generation_id: int, asker: Asker) -> Generation:
        """One generation of the asker's own (or any, for a moderator). Raises NotFound."""
        found = self.get(generation_id)
        if not self.may_see(found, asker):
            raise NotFound(tr("There is no #{number} of yours.", number=generation_id))
        return _there(found)

    def may_see(self, found: Generation, asker: Asker) -> bool:
        """Whether one is the asker's own, or of a chat that they moderate."""
        return self._own(found, asker) or moderates(found, asker)

    def own(self, generation_id: int, asker: Asker) -> Generation:
        """One generation of the asker's own, whoever they are. Raises NotFound."""
        found = self.get(generation_id)
        if not self._own(found, asker):
            raise NotFound(tr("There is no #{number} of yours.", number=generation_id))
        return _there(found)

    def touchable(self, generation_id: int, asker: Asker) -> Generation:
        """One generation that the asker may cancel or retry. Raises NotFound and NotAllowed."""
        found = self.get(generation_id)
        self._may_touch(found, asker)
        return _there(found)

    def found(self, query: Select[Any]) -> list[Generation]:
        """The generations that a query for their rows finds, in its order."""
        with self.database.read() as connection:
            return [read_row(row) for row in connection.execute(query).all()]

    def readable(self, query: Select[Any]) -> list[Generation]:
        """The same for who looks after them: one that nobody can read keeps no other waiting."""
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        found = []
        for row in rows:
            try:
                found.append(read_row(row))
            except UNREADABLE as error:
                if row.id not in self._unreadable:
                    self._unreadable.add(row.id)
                    report(f"#{row.id} could not be read", error)
        return found

    def of(
        self, asker: Asker, states: Iterable[State] = State, limit: int = 50,
        before: int | None = None, *, taken: bool = False, drawn: bool = False,
    ) -> list[Generation]:  # fmt: skip
        """The asker's generations in these states, newest first, older than `before`.

        With those that were `taken` down, where their cards have to say so; without what is
        written, where it shall be `drawn`.
        """
        person = self.people.get(asker.platform, asker.id).id
        with self.database.read() as connection:
            rows = connection.execute(
                select(generations)
                .where(
                    generations.c.person == person,
                    generations.c.state.in_(list(states)),
                    or_(
                        generations.c.deleted.is_(None),
                        generations.c.removed == TAKEN_DOWN if taken else false(),
                    ),
                    generations.c.id < before if before else true(),
                    generations.c.text.is_(None) if drawn else true(),
                )
                .order_by(generations.c.id.desc())
                .limit(limit)
            ).all()
        return [read_row(row) for row in rows]

    def asked_in(
        self, platform: str, asker: str, chat: str, message: int
    ) -> list[Generation]:  # fmt: skip
        """What somebody asked for with one message, lately."""
        columns = generations.c
        with self.database.read() as connection:
            rows = connection.execute(
                select(generations)
                .where(
                    columns.platform == platform,
                    columns.asker == asker,
                    columns.chat == chat,
                    columns.created > now() - EDITABLE,
                    columns.address[ASKED].as_string() == str(message),
                )
                .order_by(columns.id)
            ).all()
        return [read_row(row) for row in rows]

    def known(
        self, connection: Connection, platform: str, names: Sequence[str]
    ) -> list[Generation]:
        rows = connection.execute(
            select(generations)
            .where(generations.c.platform == platform, generations.c.event.in_(names))
            .order_by(generations.c.id)
        ).all()
        return [read_row(row) for row in rows]

    def talk(self, last: Generation) -> list[Generation]:
        """What was written before in a talk that goes on with this one, the oldest first."""
        found: list[Generation] = []
        one = last
        while one.parent and len(found) < TALK:
            with contextlib.suppress(NotFound):
                parent = self.get(one.parent)
                if parent.request.mode == Mode.WRITE and parent.text and not parent.deleted:
                    found.append(parent)
                    one = parent
                    continue
            break
        return found[::-1]

    def finished(self, asker: Asker) -> list[tuple[int, Sequence[Mapping[str, Any]]]]:
        """The results of every finished generation of the asker's own, by id, oldest first."""
        person = self.people.get(asker.platform, asker.id).id
        columns = generations.c
        with self.database.read() as connection:
            rows = connection.execute(
                select(columns.id, columns.results)
                .where(
                    columns.person == person, columns.state == State.DONE, columns.deleted.is_(None)
                )
                .order_by(columns.id)
            ).all()
        return [(row.id, row.results) for row in rows]

    def marked(self, keys: Iterable[str]) -> set[str]:
        """Those of some stored pictures that were drawn here and marked."""
        wanted = set(keys)
        if not wanted:
            return set()
        with self.database.read() as connection:
            rows = connection.execute(
                select(generations.c.results)
                .join(files, files.c.generation == generations.c.id)
                .where(files.c.key.in_(wanted), generations.c.state == State.DONE)
            ).all()
        return {
            str(one["key"]) for row in rows for one in row.results if one.get(MARK)
        } & wanted  # fmt: skip

    def drawn_before(self, requests: Sequence[Request]) -> dict[Request, list[dict[str, Any]]]:
        """The pictures of those requests that were drawn before, by the models that draw now."""
        if not read(Drawing).reuse:
            return {}
        prints: dict[str, Request] = {}
        with contextlib.suppress(RedisError):
            revisions = self.queue.revisions()
            prints = {
                one.fingerprint(revisions[one.model]): one
                for one in requests
                if one.model in revisions and catalog.repeats(one)
            }
        if not prints:
            return {}
        columns = generations.c
        with contextlib.suppress(*AWAY), self.database.read() as connection:
            rows = connection.execute(
                select(columns.fingerprint, columns.results)
                .where(
                    columns.fingerprint.in_(prints),
                    columns.state == State.DONE,
                    # What a moderator took down comes back from no other's either.
                    columns.fingerprint.not_in(
                        select(reports.c.fingerprint).where(reports.c.fingerprint.in_(prints))
                    ),
                )
                .order_by(columns.id)
            ).all()
            return {
                prints[row.fingerprint]: [{**one, "reused": True} for one in row.results]
                for row in rows
                if all(self.media.has(str(one["key"])) for one in row.results)
                # Somebody may be there to look at it now.
                and all(one.get(MARK) != UNCHECKED for one in row.results)
            }
        return {}

    def pending(self, asker: Asker, limit: int | None = None) -> list[Generation]:
        """The asker's generations that are not over, those that are drawn first in front."""
        person = self.people.get(asker.platform, asker.id).id
        with self.database.read() as connection:
            rows = connection.execute(
                select(generations)
                .where(generations.c.person == person, generations.c.state.in_(list(PENDING)))
                .order_by(
                    generations.c.state == State.QUEUED,
                    generations.c.priority.desc(),
                    generations.c.id,
                )
                .limit(limit)
            ).all()
        return [read_row(row) for row in rows]

    def counts(self) -> dict[State, int]:
        """How many generations of everybody stand in each state that is not over."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(generations.c.state, func.count())
                .where(generations.c.state.in_(list(PENDING)))
                .group_by(generations.c.state)
            ).all()
        return {State(state): count for state, count in rows}

    def standing(self, generation: Generation) -> Standing | None:
        """Place and estimate while queued; None when Redis does not answer."""
        with contextlib.suppress(RedisError):
            return self.queue.line(generation.line).standing(
                generation.id, generation.attempt, generation.request, generation.user
            )
        return None

    def progress(self, generation: Generation) -> float:
        """The share drawn, 0 to 1; 0 when Redis does not answer."""
        with contextlib.suppress(RedisError):
            return self.queue.progress(generation.id, generation.attempt)
        return 0.0

    def said(self, generation: Generation) -> str:
        """What is written by now; empty where there is nothing, or Redis does not answer."""
        with contextlib.suppress(RedisError):
            return self.queue.said(generation.id, generation.attempt)
        return ""

    def previewed(self, generation: Generation) -> str:
        """The mark of what is drawn by now; empty where there is none, or Redis does not answer."""
        with contextlib.suppress(RedisError):
            return self.queue.previewed(generation.id, generation.attempt)
        return ""

    def _own(self, generation: Generation, asker: Asker) -> bool:
        if (generation.platform, generation.asker) == (asker.platform, asker.id):
            return True
        return generation.user == self.people.get(asker.platform, asker.id).id

    def _may_touch(self, generation: Generation, asker: Asker) -> None:
        if not moderates(generation, asker) and not self._own(generation, asker):
            raise NotAllowed(
                tr("Only the person who asked for this picture, or a moderator, can do that.")
            )


def _there(found: Generation) -> Generation:
    if found.removed == TAKEN_DOWN:
        raise NotFound(tr("#{number} was taken down by a moderator.", number=found.id))
    if found.deleted:
        raise NotFound(tr("#{number} was deleted.", number=found.id))
    return found


def moderates(generation: Generation, asker: Asker) -> bool:
    """Whether one is of a chat that the asker moderates."""
    return asker.moderates(generation.chat, str(generation.address.get("guild") or ""))
