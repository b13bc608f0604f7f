"""What is forgotten in time, so that nothing grows for ever: rows, their pictures, stray files."""

import contextlib
import logging
from datetime import timedelta

from sqlalchemy import delete, or_, select

from core import inbox
from core.database import generations, links, now, usage
from core.house import House
from core.lifecycle import FINAL, PENDING
from core.media import SHARD

log = logging.getLogger("drawqueue")

TURN = "drawqueue:keeping"
EVERY_SECONDS = 3600
# Quotas count by the day, wherever on earth that begins.
USAGE_KEPT = timedelta(days=40)
# A picture may be stored for a while before its row says so, where the database is away.
STRAY_AFTER = timedelta(hours=1)
# Files are looked at beside the rows that ended lately: nothing strays where nothing was drawn.
LATELY = timedelta(days=2)
_BATCH = 200


def keep_house(house: House, keep_days: int) -> None:
    """Forget what is over, once an hour whichever worker does it; 0 days: pictures stay."""
    if not house.queue.redis.set(TURN, 1, nx=True, ex=EVERY_SECONDS):
        return
    inbox.prune(house.database)
    house.proposals.prune()
    moment = now()
    with house.database.write() as connection:
        connection.execute(delete(links).where(links.c.until < moment))
        oldest = (moment - USAGE_KEPT).date().isoformat()
        connection.execute(delete(usage).where(usage.c.day < oldest))
    forgotten = forget(house, timedelta(days=keep_days)) if keep_days else 0
    strays = sweep_files(house)
    if forgotten or strays:
        log.info("forgot %d old generations, removed %d stray files", forgotten, strays)


def forget(house: House, age: timedelta) -> int:
    """Delete generations that ended longer ago, with their pictures; answers how many.

    The files go first: a row without its file can be forgotten again, a file without its row not.
    """
    forgotten = 0
    while True:
        with house.database.read() as connection:
            rows = connection.execute(
                select(generations.c.id, generations.c.results)
                .where(generations.c.state.in_(list(FINAL)), generations.c.ended < now() - age)
                .order_by(generations.c.id)
                .limit(_BATCH)
            ).all()
        if not rows:
            return forgotten
        for row in rows:
            for result in row.results:
                house.media.delete(str(result["key"]))
        with house.database.write() as connection:
            gone = connection.execute(
                delete(generations).where(
                    generations.c.id.in_([row.id for row in rows]),
                    generations.c.state.in_(list(FINAL)),
                )
            )
        forgotten += gone.rowcount


def sweep_files(house: House, age: timedelta = STRAY_AFTER) -> int:
    """Remove files that no row names, older than `age`; answers how many.

    A worker that is killed between storing a picture and noting it leaves one.
    """
    removed = 0
    for shard in _drawn_lately(house):
        first = shard * SHARD
        there = list(house.media.of_shard(shard))
        with house.database.read() as connection:
            rows = connection.execute(
                select(generations.c.results).where(
                    generations.c.id >= first, generations.c.id < first + SHARD
                )
            ).scalars()
            named = {str(result["key"]) for results in rows for result in results}
        for key in there:
            with contextlib.suppress(FileNotFoundError):
                if key not in named and now() - house.media.modified(key) >= age:
                    house.media.delete(key)
                    removed += 1
    return removed


def _drawn_lately(house: House) -> list[int]:
    columns = generations.c
    lately = or_(columns.state.in_(list(PENDING)), columns.ended > now() - LATELY)
    with house.database.read() as connection:
        return list(
            connection.execute(select(columns.id // SHARD).where(lately).distinct()).scalars()
        )
