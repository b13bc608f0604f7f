"""What is forgotten in time, so that nothing grows for ever: rows, their pictures, stray files."""

import contextlib
import logging
from datetime import timedelta

from sqlalchemy import delete, or_, select

from core import inbox
from core.database import BESIDE, exports, files, generations, links, now, shared, usage
from core.house import House
from core.lifecycle import FINAL, PENDING
from core.media import SHARD, SMALL, small_of

log = logging.getLogger("drawqueue")

TURN = "drawqueue:keeping"
EVERY_SECONDS = 3600
# Quotas count by the day, wherever on earth that begins.
USAGE_KEPT = timedelta(days=40)
# A picture may be stored for a while before its row says so, where the database is away.
STRAY_AFTER = timedelta(hours=1)
# Files are looked at beside the rows that ended lately: nothing strays where nothing was drawn.
LATELY = timedelta(days=2)
# What somebody brought may wait for a question to be answered; then nobody begins with it any more.
UPLOAD_AFTER = timedelta(days=1)
UPLOADS_LATELY = timedelta(days=4)
EXPORT_KEPT = timedelta(days=1)
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
        connection.execute(delete(shared).where(shared.c.until < moment))
        oldest = (moment - USAGE_KEPT).date().isoformat()
        connection.execute(delete(usage).where(usage.c.day < oldest))
    forgotten = forget(house, timedelta(days=keep_days)) if keep_days else 0
    strays = sweep_files(house)
    forget_exports(house)
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
        ids = [row.id for row in rows]
        named = {str(result["key"]) for row in rows for result in row.results}
        for key in held_alone(house, ids, named):
            house.media.delete(key)
        with house.database.write() as connection:
            for table in BESIDE:
                connection.execute(delete(table).where(table.c.generation.in_(ids)))
            gone = connection.execute(
                delete(generations).where(
                    generations.c.id.in_(ids),
                    generations.c.state.in_(list(FINAL)),
                )
            )
        forgotten += gone.rowcount


def forget_exports(house: House) -> None:
    """Let go what people asked to take away a day ago, whether or not they did."""
    with house.database.write() as connection:
        connection.execute(delete(exports).where(exports.c.asked < now() - EXPORT_KEPT))
    for key in house.media.exports():
        with contextlib.suppress(FileNotFoundError):
            if now() - house.media.modified(key) >= EXPORT_KEPT:
                house.media.delete(key)


def held_alone(house: House, ids: list[int], named: set[str]) -> set[str]:
    """The pictures that these generations need and no other does."""
    mine = select(files.c.key).where(files.c.generation.in_(ids))
    with house.database.read() as connection:
        keys = named | set(connection.execute(mine).scalars())
        others = select(files.c.key).where(
            files.c.key.in_(keys), files.c.generation.not_in(ids)
        )  # fmt: skip
        return keys - set(connection.execute(others).scalars())


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
        named |= {small_of(key) for key in named}
        removed += _removed(house, [key for key in there if key not in named], age)
    today = now().date()
    for days in range(UPLOADS_LATELY.days + 1):
        brought = list(house.media.of_day(today - timedelta(days=days)))
        removed += _removed(house, brought, max(age, UPLOAD_AFTER))
    return removed


def _removed(house: House, keys: list[str], age: timedelta) -> int:
    """Remove those of some files that nobody holds, and that are old enough; how many."""
    removed = 0
    for start in range(0, len(keys), _BATCH):
        some = keys[start : start + _BATCH]
        with house.database.read() as connection:
            # A small copy is held with its picture.
            pictures = {key: key.removesuffix(SMALL) for key in some}
            found = select(files.c.key).where(files.c.key.in_(pictures.values()))
            kept = set(connection.execute(found).scalars())
        held = {key for key, picture in pictures.items() if picture in kept}
        for key in some:
            with contextlib.suppress(FileNotFoundError):
                if key not in held and now() - house.media.modified(key) >= age:
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
