"""Drawings that other machines have taken on: handed out, waited for, taken up again, or given to
another engine that stands in.

No worker waits meanwhile: the row is *waiting*, and says when to ask. News of it may come early,
late, twice or never; what proves them is the hash in the row of a secret that only the other
machine was told.
"""

import contextlib
import hashlib
import hmac
import json
import logging
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import func, or_, select, update

from core import catalog
from core.database import generations, now
from core.engine import Task
from core.generations import Generations, described
from core.languages import tr
from core.lifecycle import PENDING, RUNNING, State
from core.lines import line_of
from core.options import Request
from core.rows import BUSY_SINCE, INSTEAD, NOTED, Generation, read_row
from core.settings import Remote, Web, read

log = logging.getLogger("drawqueue")

# Where news come in, below DRAWQUEUE_PUBLIC_URL: then the engine, the number and the secret.
DOOR = "/webhook/"
# How long one worker may take to fetch what is done, before another one does.
COLLECT = timedelta(seconds=180)
# So many are looked after in one round.
AT_ONCE = 200
# So long news of a task are waited for whose name nobody noted: its worker died too early.
UNNAMED = timedelta(minutes=3)
# Whatever takes longer elsewhere is not expected any more.
PATIENCE = timedelta(hours=1)
# So long one waits for an engine that has reached a limit, in all.
BUSY = timedelta(minutes=20)
# Waits longer than this are another engine's, where one stands in.
SHORT = 15.0
# What may stand for a number of a row.
_NUMBER = re.compile(r"[1-9]\d{0,8}", re.ASCII)


class Elsewhere:
    """The drawings that other machines have, over the rows."""

    def __init__(self, kept: Generations) -> None:
        self._generations = kept
        self._database = kept.database
        self._queue = kept.queue

    def announce(self, claimed: Generation, engine: str) -> str | None:
        """Note that another machine is about to be asked, and answer where its news shall go: an
        address, empty where the house has none. None where the attempt is no longer the row's."""
        secret = secrets.token_urlsafe(24)
        task = {**_busy(claimed), "engine": engine, "proof": _proof(secret)}
        won = self._generations.change(claimed, {State.GENERATING}, State.GENERATING, task=task)
        public = read(Web).public_url.rstrip("/")
        address = f"{public}{DOOR}{engine}/{claimed.id}/{secret}" if public else ""
        return address if won else None

    def hand_out(self, claimed: Generation, task: Task) -> Generation | None:
        """Let a drawing wait for another machine; None when the attempt is no longer the row's.

        News that came already are looked at once.
        """
        with self._database.write() as connection:
            known = connection.execute(
                select(generations.c.task).where(generations.c.id == claimed.id).with_for_update()
            ).scalar()
            told = {"name": task.name, "begun": task.begun, **(known or {})}
            due = now() if told.get("news") else now() + timedelta(seconds=task.again)
            # One may have been taken for dead meanwhile: its row waits, for nobody knew what.
            won = self._generations.set(
                connection, claimed, RUNNING, State.WAITING, task=told, due=due
            )
        if won:
            self._generations.publish(won.id)
            if told.get("news"):
                self.look_after(won)
        return won

    def adopt(self, odd: Generation) -> bool:
        """Let a drawing wait whose worker died between asking and noting what the task is called,
        where the other machine sends news; whether it does so. Another sweep may have been first:
        then it is nobody's to be drawn anew, either."""
        if not (odd.task or {}).get("proof") or not read(Web).public_url:
            return False
        with self._database.write() as connection:
            mine = generations.c.id == odd.id
            known = connection.execute(select(generations.c.task).where(mine).with_for_update())
            # News that came since one looked are not kept waiting.
            due = now() if (known.scalar() or {}).get("news") else now() + UNNAMED
            won = self._generations.set(connection, odd, {State.GENERATING}, State.WAITING, due=due)
        if won:
            self._generations.publish(won.id)
        return True

    def news(self, engine: str, generation: str, secret: str, body: Mapping[str, Any]) -> bool:
        """Take in what another machine says of its task, as the address has it that it was given;
        False where it does not prove itself.

        Said twice, or after all is over, it changes nothing.
        """
        number = int(generation) if _NUMBER.fullmatch(generation) else 0
        with self._database.write() as connection:
            row = connection.execute(
                select(generations).where(generations.c.id == number).with_for_update()
            ).one_or_none()
            one = read_row(row) if row else None
            task = one.task or {} if one else {}
            proof = str(task.get("proof", ""))
            if not hmac.compare_digest(proof, _proof(secret)) or task.get("engine") != engine:
                return False
            if one is None or one.state not in RUNNING or task.get("news"):
                return True
            # Some say again where they were to send their news; what proves them is kept nowhere.
            told = json.loads(json.dumps(body).replace(secret, "…"))
            values: dict[str, Any] = {"task": {**task, "news": told}}
            if one.state == State.WAITING:
                values["due"] = now()
            connection.execute(
                update(generations).where(generations.c.id == one.id).values(**values)
            )
        if one.state == State.WAITING:
            self.look_after(one)
        return True

    def look_after(self, waiting: Generation) -> None:
        """Let a worker fetch a drawing soon; the sweep does so where Redis is away."""
        with contextlib.suppress(RedisError):
            line = self._queue.line(waiting.line)
            line.collect(waiting.id, waiting.attempt, described(waiting))

    def due(self) -> list[Generation]:
        """The drawings that it is time to ask for."""
        return self._generations.readable(
            select(generations)
            .where(
                generations.c.state == State.WAITING,
                or_(generations.c.due.is_(None), generations.c.due <= now()),
            )
            .order_by(generations.c.due, generations.c.id)
            .limit(AT_ONCE)
        )

    def take_up(self, generation_id: int) -> Generation | None:
        """A drawing to fetch now, as the one who does so; None where it is not time, or over."""
        mine = generations.c.id == generation_id, generations.c.state == State.WAITING
        with self._database.write() as connection:
            row = connection.execute(
                update(generations)
                .where(*mine, or_(generations.c.due.is_(None), generations.c.due <= now()))
                .values(due=now() + COLLECT)
                .returning(generations)
            ).one_or_none()
        if row:
            # Or news of it would have another worker fetch it at the same time.
            with contextlib.suppress(RedisError):
                self._queue.beat(row.id, row.attempt, None)
        return read_row(row) if row else None

    def ask_again(
        self, waiting: Generation, seconds: float, *, found: Task | None = None, stale: bool = False
    ) -> None:
        """Look after a drawing again in so many seconds, or at once where news came since it was
        taken up; `stale` news of it are forgotten, and `found` is what its task is by now."""
        mine = (
            generations.c.id == waiting.id, generations.c.attempt == waiting.attempt,
            generations.c.state == State.WAITING,
        )  # fmt: skip
        with self._database.write() as connection:
            row = connection.execute(
                select(generations.c.task).where(*mine).with_for_update()
            ).one_or_none()
            if row is None:
                return
            task = {**(row.task or {})}
            fresh = task.get("news") and task.get("news") != (waiting.task or {}).get("news")
            if stale and not fresh:
                task.pop("news", None)
            if found:
                task |= {"name": found.name, "begun": found.begun}
            due = now() if fresh else now() + timedelta(seconds=seconds)
            connection.execute(update(generations).where(*mine).values(due=due, task=task))

    def too_late(self, waiting: Generation) -> bool:
        """Whether a drawing is not expected any more."""
        return now() - (waiting.started or waiting.created) > PATIENCE

    # Limits, and engines that stand in

    def postpone(self, claimed: Generation, seconds: float, words: str) -> Generation | None:
        """Draw an attempt so many seconds later, as its engine has reached a limit; where that is
        long, another engine stands in."""
        since = _busy(claimed).get(BUSY_SINCE) or now().isoformat()
        waited = now() - datetime.fromisoformat(since)
        if (seconds > SHORT or waited > BUSY) and (other := self.stand_in(claimed, words)):
            return other
        if waited > BUSY:
            return self._generations.fail(claimed, words)
        again = self._generations.change(
            claimed, RUNNING, State.QUEUED, attempt=claimed.attempt + 1, started=None, enqueued=0,
            task={BUSY_SINCE: since}, due=now() + timedelta(seconds=seconds),
            error=f"{words} {tr('I ask it again soon.')}",
        )  # fmt: skip
        if again:
            self._queue.forget(claimed.id, claimed.attempt)
        return again

    def stand_in(
        self, one: Generation, words: str, manned: Collection[str] | None = None
    ) -> Generation | None:
        """Give a drawing to the next engine of the host's list that can draw it, was not tried for
        it yet, and that its person's money is left for; None where there is none, or the row has
        gone on.

        `words` say why. What was asked for first is kept for its card. Where the lines are given
        that somebody works on, only these count; an engine before it in the list counts only so.
        """
        if one.request.enhance:
            return None
        working: Collection[str] = manned or ()
        if manned is None:
            with contextlib.suppress(RedisError):
                working = {name for name, workers in self._queue.workers().items() if workers}
        before = one.manner.get(INSTEAD) or {}
        for found, further in stand_ins(one.request, before.get("tried", ())):
            there = line_of(found) in working or (further and manned is None)
            if there and (again := self._give(one, found, words)):
                return again
        return None

    def _give(self, one: Generation, found: Request, words: str) -> Generation | None:
        before = one.manner.get(INSTEAD) or {}
        instead = {
            "model": before.get("model", one.request.model),
            "request": before.get("request", asdict(one.request)),
            "tried": [*before.get("tried", ()), one.request.model],
            "why": words,
        }
        again = self._generations.change(
            one, PENDING, State.QUEUED, attempt=one.attempt + 1, started=None, enqueued=0, due=None,
            restarts=0, task=None, request=asdict(found), line=line_of(found), error=None,
            manner={**one.manner, INSTEAD: instead},
            only_if=lambda connection: self._generations.admission.affords(connection, one, found),
        )  # fmt: skip
        if again:
            log.warning("#%d: %s stands in for %s", one.id, found.model, one.request.model)
            self._queue.forget(one.id, one.attempt)
            # Its turn has come already.
            self._generations.line_up(again, first=one.state in RUNNING)
        return again

    def stranded(self, line: str) -> list[Generation]:
        """What stands in a line that nobody works on, and could be drawn by another engine."""
        if not read(Remote).stand_ins:
            return []
        return self._generations.readable(
            select(generations).where(
                generations.c.state == State.QUEUED, generations.c.line == line,
                generations.c.enqueued == NOTED,
            )
        )  # fmt: skip

    def given_up(self, line: str) -> list[Generation]:
        """What other machines have had for too long, of a line that nobody works on."""
        columns = generations.c
        return self._generations.readable(
            select(generations).where(
                columns.state == State.WAITING, columns.line == line,
                func.coalesce(columns.started, columns.created) < now() - PATIENCE,
            )
        )  # fmt: skip


def stand_ins(request: Request, tried: Any = ()) -> Iterator[tuple[Request, bool]]:
    """The same for each model of the host's list that can draw it and was not `tried`, and whether
    it comes after the one that was asked: those do first, then those before it."""
    names = [name.lower() for name in read(Remote).stand_ins]
    if request.model.lower() not in names:
        return
    place = names.index(request.model.lower())
    gone = {request.model.lower(), *(str(name).lower() for name in tried)}
    for further, some in ((True, names[place + 1 :]), (False, names[:place])):
        for name in some:
            if name not in gone and (found := catalog.instead(request, name)):
                gone.add(name)
                yield found, further


def _busy(one: Generation) -> dict[str, str]:
    """Since when its engine has reached a limit, where it has."""
    return {name: since for name, since in (one.task or {}).items() if name == BUSY_SINCE}


def _proof(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
