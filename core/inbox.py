"""Updates that a chat platform was told we have: stored first, worked off once, then forgotten."""

import contextlib
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from core.database import Database, now, updates
from core.queue import WorkQueue

# A platform sends an update again for a day at most (Telegram: core.telegram.org/bots/api).
KEPT = timedelta(days=2)
# For how long an update is one process's to work off, unless it says again that it is.
CLAIM_SECONDS = 5.0
# Where a body keeps the words of its answer; no platform's field is named so.
WORDS = "drawqueue_words"


@dataclass(frozen=True)
class Waiting:
    """An update that is left to do: its body, and the words of an answer that is all it needs."""

    body: Any
    words: str | None


class Inbox:
    """One platform's updates, filled by whoever receives them and emptied by its bot."""

    def __init__(self, database: Database, queue: WorkQueue, platform: str) -> None:
        self.database = database
        self.redis = queue.redis
        self.platform = platform
        self._bell = f"drawqueue:inbox:{platform}"
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"

    def record(self, arrived: Mapping[str, Any]) -> list[str]:
        """Store updates, bodies by event; answers the events that were not stored before."""
        try:
            fresh = self._store(arrived)
        except IntegrityError:
            # Another process stored one of them at the same moment.
            fresh = self._store(arrived)
        if fresh:
            # Without Redis the bot finds them a little later, by looking.
            with contextlib.suppress(RedisError):
                self.redis.lpush(self._bell, len(fresh))
                self.redis.ltrim(self._bell, 0, 9)
        return fresh

    def _store(self, arrived: Mapping[str, Any]) -> list[str]:
        mine = updates.c.platform == self.platform
        with self.database.write() as connection:
            known = connection.execute(
                select(updates.c.event).where(mine, updates.c.event.in_(list(arrived)))
            ).scalars()
            stored = set(known)
            fresh = [event for event in arrived if event not in stored]
            moment = now()
            rows = [
                {"platform": self.platform, "event": event, "body": arrived[event],
                 "received": moment}
                for event in fresh
            ]  # fmt: skip
            if rows:
                connection.execute(insert(updates), rows)
        return fresh

    def unhandled(self) -> list[str]:
        """The events that are left to do, oldest first."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(updates.c.event)
                .where(updates.c.platform == self.platform, updates.c.handled.is_(None))
                .order_by(updates.c.received, updates.c.event)
            ).scalars()
            return list(rows)

    def claim(self, event: str) -> bool:
        """Become the one process that works an update off; False while another is.

        Without Redis nobody can tell: rather twice, then, than never.
        """
        key, length = self._claim_of(event), round(CLAIM_SECONDS * 1000)
        with contextlib.suppress(RedisError):
            mine = self.redis.set(key, self._name, nx=True, px=length)
            return bool(mine) or self.redis.get(key) == self._name.encode()
        return True

    def keep(self, events: Iterable[str]) -> None:
        """Say that these are still worked off here. Raises RedisError."""
        with self.redis.pipeline(transaction=False) as pipe:
            for event in events:
                pipe.set(self._claim_of(event), self._name, px=round(CLAIM_SECONDS * 1000))
            pipe.execute()

    def _claim_of(self, event: str) -> str:
        return f"{self._bell}:{event}"

    def open(self, event: str) -> Waiting | None:
        """An update as it came; None when it is done."""
        with self.database.read() as connection:
            body: Any = connection.execute(
                select(updates.c.body).where(*self._of(event), updates.c.handled.is_(None))
            ).scalar()
        return None if body is None else Waiting(body, body.get(WORDS))

    def alike(self, path: tuple[str, ...], value: str) -> dict[str, Any]:
        """The bodies, by event, of what is left to do and says the same at a place in its body."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(updates.c.event, updates.c.body).where(
                    updates.c.platform == self.platform,
                    updates.c.handled.is_(None),
                    updates.c.body[path].as_string() == value,
                )
            ).all()
        return {row.event: row.body for row in rows}

    def acted(self, event: str, words: str) -> None:
        """Note that an update was acted upon and needs but to be answered, with these words."""
        with self.database.write() as connection:
            body: Any = connection.execute(select(updates.c.body).where(*self._of(event))).scalar()
            connection.execute(
                update(updates).where(*self._of(event)).values(body={**body, WORDS: words})
            )

    def handled(self, *events: str) -> None:
        """Note that updates are done, all of them or none.

        What a person wrote is then kept in the generation alone.
        """
        mine = updates.c.platform == self.platform, updates.c.event.in_(events)
        with self.database.write() as connection:
            connection.execute(update(updates).where(*mine).values(handled=now(), body={}))
        with contextlib.suppress(RedisError):
            self.redis.delete(*map(self._claim_of, events))

    def _of(self, event: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        return updates.c.platform == self.platform, updates.c.event == event

    def wait(self, seconds: float) -> None:
        """Return when something was stored, or after a while. Raises RedisError."""
        self.redis.blpop([self._bell], timeout=seconds)


def prune(database: Database) -> int:
    """Forget handled updates that no platform would send again; answers how many."""
    with database.write() as connection:
        gone = connection.execute(delete(updates).where(updates.c.handled < now() - KEPT))
    return gone.rowcount
