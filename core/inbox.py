"""Updates that a chat platform was told we have: stored first, worked off once, then forgotten."""

import contextlib
from datetime import timedelta
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from core.database import Database, now, updates
from core.queue import WorkQueue

# A platform sends an update again for a day at most (Telegram: core.telegram.org/bots/api).
KEPT = timedelta(days=2)


class Inbox:
    """One platform's updates, filled by whoever receives them and emptied by its bot."""

    def __init__(self, database: Database, queue: WorkQueue, platform: str) -> None:
        self.database = database
        self.redis = queue.redis
        self.platform = platform
        self._bell = f"drawqueue:inbox:{platform}"

    def record(self, event: str, body: Any) -> bool:
        """Store an update; False when it was stored before."""
        row = {"platform": self.platform, "event": event, "body": body, "received": now()}
        try:
            with self.database.write() as connection:
                connection.execute(insert(updates).values(row))
        except IntegrityError:
            return False
        # Without Redis the bot finds it a little later, by looking.
        with contextlib.suppress(RedisError):
            self.redis.lpush(self._bell, event)
            self.redis.ltrim(self._bell, 0, 99)
        return True

    def unhandled(self) -> list[Any]:
        """The bodies of what is left to do, oldest first."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(updates.c.body)
                .where(updates.c.platform == self.platform, updates.c.handled.is_(None))
                .order_by(updates.c.received)
            ).all()
        return [body for (body,) in rows]

    def handled(self, event: str) -> None:
        """Note that an update is done; what a person wrote is then kept in the generation alone."""
        with self.database.write() as connection:
            connection.execute(
                update(updates)
                .where(updates.c.platform == self.platform, updates.c.event == event)
                .values(handled=now(), body={})
            )

    def wait(self, seconds: float) -> None:
        """Return when something was stored, or after a while. Raises RedisError."""
        self.redis.blpop([self._bell], timeout=seconds)


def prune(database: Database) -> int:
    """Forget handled updates that no platform would send again; answers how many."""
    with database.write() as connection:
        gone = connection.execute(delete(updates).where(updates.c.handled < now() - KEPT))
    return gone.rowcount
