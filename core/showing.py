"""Which card shows less than its row, who redraws it, and what it shows by then."""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import and_, func, or_, select, update

from core.database import generations, now
from core.generations import EDITOR_LEASE, FIRST_EDITOR, Generations, part
from core.lifecycle import FINAL, RUNNING, State
from core.rows import Generation, read_row

# How many cards of one chat are looked at in one round of redrawing.
PER_CHAT = 60


class Showing:
    """The cards of all generations, as rows know them."""

    def __init__(self, kept: Generations) -> None:
        self._generations = kept

    def stale(self, platforms: Iterable[str], limit: int = 200) -> list[Generation]:
        """Cards that show less than their row, finals first; moving ones come along.

        One that no message shows yet is a poster's when nobody else holds its lease.
        """
        moment = now()
        nearest: list[int] = []
        with contextlib.suppress(RedisError):
            nearest = self._generations.queue.moving()
        behind = and_(
            generations.c.platform.in_(list(platforms)),
            or_(
                generations.c.message.is_not(None),
                generations.c.editor_until.is_(None),
                generations.c.editor_until < moment,
            ),
            generations.c.undeliverable.is_(None),
            or_(
                generations.c.shown_version < generations.c.version,
                generations.c.state.in_(list(RUNNING)),
                generations.c.id.in_(nearest),
            ),
        )
        order = (
            generations.c.state.in_(list(FINAL)).desc(),
            (generations.c.shown_version < generations.c.version).desc(),
            (generations.c.state != State.QUEUED).desc(),
            generations.c.id,
        )
        # Some of every chat's, so that one chat's flood hides nobody else's cards.
        turn = func.row_number().over(
            partition_by=(generations.c.platform, generations.c.chat), order_by=order
        )
        some = select(generations.c.id, turn.label("turn")).where(behind).subquery()
        with self._generations.database.read() as connection:
            rows = connection.execute(
                select(generations)
                .join(some, some.c.id == generations.c.id)
                .where(some.c.turn <= PER_CHAT)
                .order_by(*order)
                .limit(limit)
            ).all()
        places = {one: place for place, one in enumerate(nearest)}
        found = [read_row(row) for row in rows]
        # The database has put finals, news and drawings in front; a stable sort keeps that.
        return sorted(
            found,
            key=lambda one: (
                places.get(one.id, -1)
                if one.state == State.QUEUED and one.shown_version == one.version
                else -1
            ),
        )

    def place(
        self, generation: Generation, message: str, address: Mapping[str, Any] | None = None
    ) -> bool:
        """Note which message is the generation's card, and what it showed when it was sent.

        False when it has another one already.
        """
        values: dict[str, Any] = {"address": dict(address)} if address else {}
        with self._generations.database.write() as connection:
            placed = connection.execute(
                update(generations)
                .where(
                    generations.c.id == generation.id,
                    or_(generations.c.message.is_(None), generations.c.message == message),
                )
                .values(
                    message=message,
                    shown_version=generation.version,
                    undeliverable=None,
                    editor=None,
                    editor_until=None,
                    **values,
                )
            )
        self._generations.publish(generation.id)
        return placed.rowcount == 1

    def lease(self, generation_id: int, editor: str) -> bool:
        """Become the one editor of a card for a short while; whether that was granted."""
        moment = now()
        with self._generations.database.write() as connection:
            taken = connection.execute(
                update(generations)
                .where(
                    generations.c.id == generation_id,
                    or_(
                        generations.c.editor_until.is_(None),
                        generations.c.editor_until < moment,
                        generations.c.editor == editor,
                    ),
                )
                .values(editor=editor, editor_until=moment + EDITOR_LEASE)
            )
        return taken.rowcount == 1

    def release(self, ids: Iterable[int]) -> None:
        """Leave the cards of these to a poster."""
        mine = generations.c.id.in_(list(ids)), generations.c.editor == FIRST_EDITOR
        with self._generations.database.write() as connection:
            connection.execute(update(generations).where(*mine).values(editor_until=None))

    def shown(
        self, generation_id: int, editor: str, version: int | None = None,
        message: str | None = None, media: int | None = None, mentioned: int | None = None,
        undeliverable: str | None = None, address: Mapping[str, Any] | None = None,
    ) -> bool:  # fmt: skip
        """Note what the card now shows, and give the lease back; False when it was lost."""
        told = {
            "shown_version": version,
            "message": message,
            "shown_media": media,
            "mentioned": mentioned,
            "undeliverable": undeliverable,
            "address": dict(address) if address else None,
        }
        values = {name: value for name, value in told.items() if value is not None}
        with self._generations.database.write() as connection:
            noted = connection.execute(
                update(generations)
                .where(generations.c.id == generation_id, generations.c.editor == editor)
                .values(**values, editor=None, editor_until=None)
            )
        return noted.rowcount == 1

    def parted(self, generation_id: int, editor: str) -> None:
        """Note that no message shows one any more that was forgotten, and where it stood."""
        with self._generations.database.write() as connection:
            held = connection.execute(
                select(generations.c.id).where(
                    generations.c.id == generation_id, generations.c.editor == editor
                )
            ).scalars()
            part(connection, list(held))
