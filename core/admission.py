"""What lets requests in: the host's rules, and what has been spent by now."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from redis.exceptions import RedisError
from sqlalchemy import ColumnElement, Connection, func, select

from core.database import Database, generations, now, one_at_a_time, usage
from core.errors import TooMuch, duration
from core.languages import trn
from core.lifecycle import PENDING, State
from core.options import Mode, Request
from core.pace import FIRST_GUESS_SECONDS
from core.people import Asker, People, Person
from core.policy import Policy, Spent, policy, told
from core.queue import WorkQueue
from core.rows import BLANK, Generation, read_row


class Admission:
    """Says of requests whether they are let in, and what they will cost."""

    def __init__(self, database: Database, queue: WorkQueue, people: People) -> None:
        self._database = database
        self._queue = queue
        self._people = people

    def check(self, requests: Sequence[Request], asker: Asker) -> None:
        """Raises what `accept` would raise for these now, and changes nothing."""
        policy().drawable(requests)
        person = self._people.get(asker.platform, asker.id)
        costs, full = self.costs(requests), self.full(len(requests))
        cost = sum(costs[one] for one in requests)
        with self._database.read() as connection:
            self.admit(connection, person, asker, requests, cost, full, now())

    def admit(
        self, connection: Connection, person: Person, asker: Asker, requests: Sequence[Request],
        cost: float, full: TooMuch | None, moment: datetime,
    ) -> None:  # fmt: skip
        """Raises UserError where they are more than the rules allow; `cost` and `full` are found
        before a transaction begins."""
        rules = policy()
        class_name = person.classes(rules, asker)[0]
        rules.open_to(person.names(asker))
        if not requests:
            return
        rules.suits(class_name, requests)
        if full:
            raise full
        rules.room(
            class_name, len(requests), cost,
            *self.spent(connection, person.id, asker.chat, moment),
            moment, cost=sum(map(rules.price, requests)),
        )  # fmt: skip

    def affords(self, connection: Connection, one: Generation, request: Request) -> bool:
        """Whether person and chat have the money left for a request in the place of one's own,
        beside what other machines have begun of that."""
        rules = policy()
        row = connection.execute(select(generations).where(generations.c.id == one.id)).one()
        more = rules.price(request) - rules.price(one.request) + begun(read_row(row))
        if more <= 0 or not rules.price(request):
            return True
        one_at_a_time(connection, one.user, one.chat)
        person, chat = self.spent(connection, one.user, one.chat, one.created)
        try:
            rules.dearer(one.class_name, 0.0, person, chat, now(), cost=more)
        except TooMuch:
            return False
        return True

    def quota(self, asker: Asker) -> str:
        """What is left to the asker today, in words for them."""
        rules, moment = policy(), now()
        person = self._people.get(asker.platform, asker.id)
        choice = person.classes(rules, asker)
        with self._database.read() as connection:
            spent = self.spent(connection, person.id, asker.chat, moment)
        return told(rules, choice[0], choice, *spent, moment)

    def costs(self, requests: Sequence[Request]) -> dict[Request, float]:
        """The seconds that each will be drawn, as far as one can tell."""
        known = {one: self.expect(one) for one in {replace(r, seed=0) for r in requests}}
        return {request: known[replace(request, seed=0)] for request in requests}

    def expect(self, request: Request) -> float:
        """The seconds that one will be drawn, as far as one can tell."""
        try:
            return self._queue.pace.whole(request)
        except RedisError:
            return FIRST_GUESS_SECONDS

    def full(self, jobs: int) -> TooMuch | None:
        """Why so many more do not fit into the line; None when they do."""
        longest = policy().line.longest
        with contextlib.suppress(RedisError):
            if longest and (length := self._queue.length()) + jobs > longest:
                wait = max(10.0, self._queue.room_in(length + jobs - longest))
                words = trn(
                    "The queue is full: {n} picture waits. Please come back in about {wait}.",
                    "The queue is full: {n} pictures wait. Please come back in about {wait}.",
                    length, wait=duration(wait),
                )  # fmt: skip
                return TooMuch(words, wait)
        return None

    def spent(
        self, connection: Connection, person: str, chat: str, moment: datetime
    ) -> tuple[Spent, Spent]:
        """What a person, and a chat, have spent of the day of a moment."""
        columns = generations.c
        return (
            _spent(connection, columns.person, person, moment),
            _spent(connection, columns.chat, chat, moment),
        )


def begun(one: Generation) -> float:
    """What is to be paid for what other machines have begun of one by now."""
    return policy().step(replace(one.request, count=one.begun)) if one.begun else 0.0


def _spent(connection: Connection, column: ColumnElement[str], who: str, moment: datetime) -> Spent:
    if not who:
        return Spent()
    rules = policy()
    # Before the day's sum: what is over in between counts twice for once, and never not at all.
    due = _due(connection, rules, column == who, moment)
    day = connection.execute(
        select(usage).where(usage.c.who == who, usage.c.day == rules.day(moment))
    ).one_or_none()
    queued = connection.execute(
        select(func.count()).where(column == who, generations.c.state == State.QUEUED)
    ).scalar_one()
    last = connection.execute(select(func.max(usage.c.last)).where(usage.c.who == who)).scalar_one()
    spent = (day.jobs, day.seconds, day.cost) if day else (0, 0.0, 0.0)
    return Spent(queued, spent[0], spent[1], last, spent[2], due)


def _due(
    connection: Connection, rules: Policy, whose: ColumnElement[bool], moment: datetime
) -> float:
    """What those of a day will cost that are not over."""
    if not rules.prices:
        return 0.0
    columns, asked = generations.c, generations.c.request
    rows = connection.execute(
        select(
            asked["model"].as_string().label("model"), asked["mode"].as_string().label("mode"),
            asked["enhance"].as_string().label("enhance"),
            func.sum(asked["count"].as_integer()).label("pictures"), func.count().label("jobs"),
        )
        .where(
            whose, columns.state.in_(list(PENDING)), columns.created >= rules.began(moment),
            columns.created < rules.began(moment) + timedelta(days=1),
        )
        .group_by("model", "mode", "enhance")
    ).all()  # fmt: skip
    total = 0.0
    for row in rows:
        # What writes is asked once for each job, what draws for each picture.
        drawn = replace(BLANK, model=row.model, mode=Mode(row.mode or Mode.TEXT))
        total += rules.step(drawn) * row.pictures
        total += rules.step(replace(drawn, enhance=row.enhance)) * row.jobs if row.enhance else 0.0
    return total
