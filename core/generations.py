"""A generation from asking to its end: the only writer of state.

Every change is one conditional UPDATE that also bumps `version`; who calls learns whether it
won. Two workers, double clicks and a cancel racing a finish settle themselves this way.
"""

import contextlib
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import (
    ColumnElement,
    Connection,
    String,
    and_,
    cast,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from core import events, lifecycle
from core.admission import Admission, begun
from core.catalog import settle
from core.database import (
    AWAY,
    BESIDE,
    Database,
    files,
    generations,
    now,
    offered,
    one_at_a_time,
    spend,
)
from core.errors import NotAllowed, TooLate, TryAgain
from core.fair import Claim
from core.languages import ENGLISH, spoken, tr, trn
from core.lifecycle import FINAL, PENDING, REDOABLE_IN_PLACE, RUNNING, State
from core.lines import line_of, still_offered
from core.media import Media, sample_of
from core.options import PRIORITIES, SEED_LIMIT, Mode, Options, Request
from core.people import Asker
from core.policy import Policy, policy
from core.providers import PROVIDERS
from core.queue import DRAW, WRITE, WorkQueue
from core.rows import (
    BLANK,
    BUSY_SINCE,
    FORGOTTEN,
    HELD,
    INSTEAD,
    LANGUAGE,
    LEFT,
    LOST,
    NOTED,
    PLAINLY,
    Generation,
    Rows,
    read_row,
)
from core.settings import Drawing, read

log = logging.getLogger("drawqueue")

# The waits before a lost or failed attempt is made again; after the last there is none.
PAUSES = (timedelta(seconds=1), timedelta(seconds=5))
ENQUEUE_GRACE = timedelta(seconds=2)
# The priority that a moderator gives: before everybody's.
FIRST = len(PRIORITIES)
FIRST_EDITOR = "first"
EDITOR_LEASE = timedelta(seconds=30)


class Generations(Rows):
    """All generations, over a database and a queue."""

    def __init__(self, database: Database, queue: WorkQueue, media: Media) -> None:
        super().__init__(database, queue, media)
        self.admission = Admission(database, queue, self.people)

    # Asking

    def submit(
        self,
        options: Options | Request,
        asker: Asker,
        event: str,
        address: Mapping[str, Any],
        parent: int | None = None,
        message: str | None = None,
        manner: Mapping[str, Any] | None = None,
    ) -> Generation:
        """Accept one request; see `accept`."""
        request, priority = options, PRIORITIES.index("normal")
        if isinstance(options, Options):
            request = settle(options, secrets.randbelow(SEED_LIMIT + 1))
            priority = PRIORITIES.index(options.priority)
        assert isinstance(request, Request)
        return self.accept(
            [request], asker, event, address, priority, parent, message, manner=manner
        )[0]

    def accept(
        self,
        requests: Sequence[Request],
        asker: Asker,
        event: str,
        address: Mapping[str, Any],
        priority: int,
        parent: int | None = None,
        message: str | None = None,
        *,
        posted: bool = False,
        manner: Mapping[str, Any] | None = None,
    ) -> list[Generation]:
        """Accept requests, all of them or none: commit their rows, then put them in line.

        `message` is the chat's message that will be the first one's card, where there is one
        already; `posted` leaves that card to a poster, too, as all the others are. `manner` is
        what settings and presets had to do with them; of what was left out the first one tells.

        An event seen before answers the generations it made. Raises UserError when a request
        cannot be met or is more than the policy allows, TryAgain when nothing could be stored.
        """
        rules, moment = policy(), now()
        rules.drawable(requests)
        still_offered(requests)
        before = self.drawn_before(requests)
        fresh = [one for one in requests if one not in before]
        events_ = [event, *(f"{event}+{index}" for index in range(1, len(requests)))]
        costs = self.admission.costs(fresh)
        full = self.admission.full(len(fresh))
        try:
            person = self.people.get(asker.platform, asker.id)
            class_name = person.classes(rules, asker)[0]
            shared = {
                "platform": asker.platform,
                "asker": asker.id,
                "asker_name": asker.name[:128],
                "address": dict(address),
                "parent": parent,
                "state": State.QUEUED,
                "created": moment,
                "person": person.id,
                "chat": asker.chat,
                "class_name": class_name,
                "priority": priority,
            }
            # Whoever asks draws the first card, in half a minute; a poster draws the others, but
            # not into a message that waits for the first.
            lease = {"editor": FIRST_EDITOR, "editor_until": moment + EDITOR_LEASE}
            first: dict[str, Any] = {} if posted else {"message": message, **lease}
            others: dict[str, Any] = dict(lease) if message else {}
            first["manner"] = {**(manner or {}), **_spoken()}
            others["manner"] = _kept(first["manner"])
            over = {"state": State.DONE, "ended": moment, "seconds": 0.0}
            rows = [
                {**shared, "event": name, "request": asdict(request),
                 "charged": costs.get(request, 0.0), "line": line_of(request),
                 **(others if index else first),
                 **({**over, "results": before[request]} if request in before else {})}
                for index, (name, request) in enumerate(zip(events_, requests, strict=True))
            ]  # fmt: skip
            with self.database.write() as connection:
                one_at_a_time(connection, person.id, asker.chat)
                known = self.known(connection, asker.platform, events_)
                if known:
                    return known
                cost = sum(costs[one] for one in fresh)
                self.admission.admit(connection, person, asker, fresh, cost, full, moment)
                made = [
                    read_row(
                        connection.execute(insert(generations).values(row).returning(generations))
                        .one()
                    )
                    for row in rows
                ]  # fmt: skip
                for one in made:
                    keys = [str(result["key"]) for result in one.results]
                    _hold(connection, one.id, [*one.request.held, *keys])
                for who in filter(None, (person.id, asker.chat) if fresh else ()):
                    spend(connection, who, rules.day(moment), len(fresh), cost, moment)
        except IntegrityError:
            # Another process accepted the same event at the same moment.
            with self.database.read() as connection:
                return self.known(connection, asker.platform, events_)
        except AWAY as error:
            log.warning("could not accept a request: %s", error.__class__.__name__)
            raise TryAgain(tr("I could not take that in just now. Please try again.")) from error
        for generation in made:
            if generation.state == State.DONE:
                self.publish(generation.id)
            elif not self.line_up(generation):
                break  # The sweep puts the others in line as well.
        return made

    def redo(
        self, generation_id: int, asker: Asker, event: str, *, new_seed: bool = False,
        address: Mapping[str, Any] | None = None, message: str | None = None,
        manner: Mapping[str, Any] | None = None,
    ) -> Generation:  # fmt: skip
        """Draw again: in place when it failed or was cancelled, else as a child of its own.

        Answers the generation that will run. Raises NotFound and NotAllowed.
        """
        old = self.get(generation_id)
        rules, moment = policy(), now()
        if old.state in REDOABLE_IN_PLACE and not new_seed:
            self._may_touch(old, asker)
            rules.open_to(self.people.get(asker.platform, asker.id).names(asker))
            # The same place, but what lets one speak there may be fresh (a new interaction).
            same = address and address.get("channel") == old.address.get("channel")
            wanted = old.first_asked
            rules.drawable([wanted])
            still_offered([wanted])
            cost, full = self.admission.expect(wanted), self.admission.full(1)
            person = self.people.get(asker.platform, asker.id)
            class_name = old.class_name
            if self._own(old, asker):
                class_name = person.classes(rules, asker)[0]
            rules.suits(class_name, [wanted])
            again_today = rules.day(old.created) == rules.day(moment)
            with self.database.write() as connection:
                one_at_a_time(connection, old.user, old.chat)
                if full:
                    raise full
                rules.room(
                    class_name, 1, cost,
                    *self.admission.spent(connection, old.user, old.chat, moment),
                    moment, again=again_today, cost=rules.price(wanted),
                )  # fmt: skip
                again = self.set(
                    connection, old, REDOABLE_IN_PLACE, State.QUEUED,
                    attempt=old.attempt + 1, restarts=0, due=None, error=None,
                    started=None, ended=None,
                    enqueued=0, seconds=None, created=moment, undeliverable=None, charged=cost,
                    class_name=class_name, request=asdict(wanted), line=line_of(wanted), task=None,
                    text=None, manner=_anew(old, wanted),
                    address={**old.address, **(address if address and same else {})},
                )  # fmt: skip
                if again:
                    for who in filter(None, (old.user, old.chat)):
                        jobs = 0 if again_today else 1
                        spend(connection, who, rules.day(moment), jobs, cost, moment)
            if again:
                self.publish(again.id)
                self.line_up(again)
            return again or self.get(generation_id)
        if old.state in PENDING and not new_seed:
            raise NotAllowed(
                tr(
                    "#{number} is still {state}; it can be retried when it is over.",
                    number=old.id, state=old.state.said,
                )
            )  # fmt: skip
        request = old.request
        if new_seed:
            request = replace(request, seed=secrets.randbelow(SEED_LIMIT + 1), subseed=-1)
        # Words that are written anew answer what those before did.
        parent = old.parent if request.mode.words else old.id
        return self.submit(
            request, asker, event, address or old.address, parent, message,
            {**_kept(old.manner), **(manner or {})},
        )  # fmt: skip

    def pick(
        self, old: Generation, index: int, asker: Asker, address: Mapping[str, Any],
        message: str | None = None,
    ) -> tuple[Generation, bool]:  # fmt: skip
        """One picture of several as a generation of its own, done already; whether it is new.

        Picked twice by somebody, it is the same one, unless that was deleted. Raises NotFound and
        TryAgain.
        """
        result = old.picture(index)
        moment, first = now(), f"pick:{old.id}:{index}:{asker.id}"
        event = first
        person = self.people.get(asker.platform, asker.id)
        row = {
            "platform": asker.platform, "event": event, "asker": asker.id,
            "asker_name": asker.name[:128], "address": dict(address), "parent": old.id,
            "request": asdict(old.request.alone(int(result["seed"]))),
            "state": State.DONE, "created": moment, "ended": moment, "seconds": old.seconds,
            "results": [dict(result)], "person": person.id, "chat": asker.chat,
            "manner": _kept(old.manner),
            "class_name": person.classes(policy(), asker)[0], "message": message,
            "editor": FIRST_EDITOR, "editor_until": moment + EDITOR_LEASE,
        }  # fmt: skip
        try:
            with self.database.write() as connection:
                one_at_a_time(connection, person.id)
                while known := self.known(connection, asker.platform, [event]):
                    if not known[0].deleted:
                        return known[0], False
                    event = row["event"] = f"{first}:{known[0].id}"
                made = read_row(
                    connection.execute(insert(generations).values(row).returning(generations)).one()
                )
                _hold(connection, made.id, [*made.request.held, str(result["key"])])
        except IntegrityError:
            # Another process picked it at the same moment.
            with self.database.read() as connection:
                return self.known(connection, asker.platform, [event])[0], False
        except AWAY as error:
            raise TryAgain(tr("I could not do that just now. Please try again.")) from error
        self.publish(made.id)
        return made, True

    def cancel(self, generation_id: int, asker: Asker) -> Generation:
        """Cancel from any state that is not over. Raises NotFound and NotAllowed."""
        old = self.get(generation_id)
        self._may_touch(old, asker)
        ended = self.stop(old)
        if not ended:
            state = self.get(old.id).state.said
            raise NotAllowed(tr("#{number} is already {state}.", number=old.id, state=state))
        return ended

    def cancel_all(self, asker: Asker) -> int:
        """Cancel everything of the asker's own that is not over; how many that were."""
        total = 0
        # The last in line first, so that none begins because another ended. Looked at again,
        # because a worker may have moved one meanwhile.
        while ended := sum(self.stop(one) is not None for one in self.pending(asker)[::-1]):
            total += ended
        return total

    def stop(self, old: Generation) -> Generation | None:
        """Cancel one, whosever it is; None where it is over."""
        # What is written by now is read on.
        said = self.said(old) if old.request.mode.words and old.state == State.GENERATING else ""
        ended = self.change(
            old, lifecycle.sources(State.CANCELLED), State.CANCELLED, error=None, ended=now(),
            text=said or None,
        )  # fmt: skip
        if ended:
            with contextlib.suppress(RedisError):
                self.queue.stop(old.id, old.attempt)
                if old.state == State.QUEUED:
                    self.queue.forget(old.id, old.attempt)
                if old.state == State.WAITING and old.started:
                    # No worker has it who would say so.
                    seconds = (now() - old.started).total_seconds()
                    self.queue.line(old.line).ended(old.id, old.attempt, seconds)
        return ended

    def delete(self, generation_id: int, asker: Asker) -> Generation:
        """Take everything out of one of the asker's own that is over, and let its card say so.

        The row stays, for its card and the counts, in the state it has: deleting is no outcome.
        Its files are who calls's to remove. Raises NotFound and NotAllowed.
        """
        return self.empty(self.own(generation_id, asker))

    def empty(
        self, old: Generation, removed: str = "", words: str | None = None,
        also: Callable[[Connection], None] = lambda _connection: None,
    ) -> Generation:  # fmt: skip
        """Take everything out of one that is over; `words` is what its card says of it then.

        `also` is done with it, or not at all. Raises NotAllowed.
        """
        if old.state in PENDING:
            raise NotAllowed(
                tr(
                    "#{number} is still {state}: /cancel {number} first.",
                    number=old.id, state=old.state.said,
                )
            )  # fmt: skip
        told = replace(
            old.request, prompt="", negative_prompt="", sources=(), mask="", loras=(), seed=0,
            original="",
        )  # fmt: skip
        with self.database.write() as connection:
            gone = self.set(
                connection, old, {old.state}, old.state, deleted=now(), request=asdict(told),
                results=[], error=words, fingerprint=None, charged=old.charged, asker_name="",
                removed=removed, text=None,
            )  # fmt: skip
            if gone is None:
                raise NotAllowed(
                    tr("#{number} has just changed. Look at it, and ask again.", number=old.id)
                )
            for table in BESIDE:
                connection.execute(delete(table).where(table.c.generation == old.id))
            samples = _unshown(connection, {old.id})
            also(connection)
        for key in samples:
            self.media.delete(key)
        with contextlib.suppress(RedisError):
            # Its description begins with the prompt. A worker that still ends it forgets it, too.
            if not self.queue.alive(old.id, old.attempt):
                self.queue.forget(old.id, old.attempt)
        self.publish(gone.id)
        return gone

    def forget(self, some: Sequence[Generation]) -> None:
        """Take everything that tells of a person out of rows that are over, for good.

        What they are shown by is left until a poster has taken it away: `parted` is told so.
        Their files are who calls's to remove.
        """
        ids = [one.id for one in some]
        here = [one.id for one in some if one.platform == "web" or one.undeliverable]
        row = {
            "version": generations.c.version + 1, "removed": FORGOTTEN,
            "deleted": func.coalesce(generations.c.deleted, now()),
            # No event of any chat's is named so.
            "event": literal(f"{FORGOTTEN}#") + cast(generations.c.id, String),
            "asker": "", "asker_name": "", "person": "", "chat": "", "class_name": "",
            "request": asdict(BLANK), "parent": None, "manner": {}, "results": [],
            "error": None, "fingerprint": None, "text": None,
        }  # fmt: skip
        with self.database.write() as connection:
            mine = generations.c.id.in_(ids), generations.c.state.in_(list(FINAL))
            connection.execute(update(generations).where(*mine).values(row))
            for table in BESIDE:
                connection.execute(delete(table).where(table.c.generation.in_(ids)))
            samples = _unshown(connection, set(ids))
            part(connection, here)
        for key in samples:
            self.media.delete(key)
        for id_ in ids:
            self.publish(id_)

    def move(self, generation_id: int, asker: Asker, priority: int) -> Generation:
        """Give a queued one another place: among its person's own, or FIRST of all.

        Raises NotFound and NotAllowed.
        """
        old = self.touchable(generation_id, asker)
        moved = self.change(old, {State.QUEUED}, State.QUEUED, priority=priority)
        if moved is None:
            state = self.get(old.id).state.said
            raise NotAllowed(
                tr("#{number} is {state}; only queued ones move.", number=old.id, state=state)
            )
        with contextlib.suppress(RedisError):
            first = priority == FIRST
            self.queue.line(moved.line).move(
                moved.id, moved.attempt, self.claim_of(moved), first=first
            )
        return moved

    def edit(self, generation_id: int, request: Request, asker: Asker) -> Generation:
        """Let a queued one of the asker's own draw something else, in its place in line; one that
        others are to draw or write now goes to their line, as a new attempt.

        Its cost is settled; what was drawn before is there at once. Of an edit and a claim at the
        same moment one comes first: either that is drawn, or nothing is changed. Raises NotFound,
        NotAllowed, InvalidOptions and TooMuch.
        """
        rules, moment = policy(), now()
        rules.drawable([request])
        still_offered([request])
        person = self.people.get(asker.platform, asker.id)
        cost = self.admission.expect(request)
        before = self.drawn_before([request])
        while True:
            old = self.editable(generation_id, asker)
            rules.open_to(person.names(asker))
            rules.suits(old.class_name, [request])
            with self.database.write() as connection:
                one_at_a_time(connection, old.user, old.chat)
                row = connection.execute(
                    select(generations).where(generations.c.id == old.id).with_for_update()
                ).one()
                old = read_row(row)
                if old.request == request:
                    return old
                # What writes its prompt is stopped.
                waits = {State.QUEUED} | ({State.GENERATING} if old.request.enhance else set())
                moved = old.state != State.QUEUED or line_of(request) != old.line
                anew: dict[str, Any] = {"request": asdict(request), "manner": _anew(old, request)}
                if moved:
                    anew |= {"attempt": old.attempt + 1, "line": line_of(request), "enqueued": 0,
                             "started": None, "due": None, "restarts": 0}  # fmt: skip
                if request in before:
                    changed = self.set(
                        connection, old, waits, State.DONE, **{**anew, "due": None},
                        results=before[request], charged=0.0, seconds=0.0, error=None,
                        ended=moment,
                    )  # fmt: skip
                else:
                    more = rules.price(request) - rules.price(old.request)
                    if cost > old.charged or more > 0:
                        rules.dearer(
                            old.class_name, cost - old.charged,
                            *self.admission.spent(connection, old.user, old.chat, old.created),
                            moment, cost=more,
                        )  # fmt: skip
                    changed = self.set(
                        connection, old, waits, State.QUEUED, **anew, charged=cost, error=None
                    )
                    for who in filter(None, (old.user, old.chat) if changed else ()):
                        spend(connection, who, rules.day(old.created), 0, cost - old.charged)
            if changed:
                break
        self.publish(changed.id)
        with contextlib.suppress(RedisError):
            if old.state in RUNNING:
                self.queue.stop(old.id, old.attempt)
            if moved or changed.state == State.DONE:
                self.queue.forget(old.id, old.attempt)
            else:
                words, claim = described(changed), self.claim_of(changed)
                self.queue.line(changed.line).change(changed.id, changed.attempt, words, claim)
        if old.state in RUNNING:
            self._let_go(changed)
        if moved and changed.state == State.QUEUED:
            self.line_up(changed)
        return changed

    def editable(self, generation_id: int, asker: Asker) -> Generation:
        """A generation of the asker's own that is not drawn yet: it is queued, or its prompt is
        being written. Raises NotFound and NotAllowed."""
        found = self.get(generation_id)
        if not self._own(found, asker):
            raise NotAllowed(tr("Only the person who asked for this picture can change it."))
        if found.request.mode.words:
            raise NotAllowed(tr("Words in line stay as they are: cancel them, and ask anew."))
        if found.request.mode == Mode.UPSCALE:
            raise NotAllowed(
                tr(
                    "#{number} makes a picture larger: there are no words to change.",
                    number=found.id,
                )
            )
        if found.state == State.GENERATING and found.request.enhance:
            return found
        if found.state in RUNNING:
            raise TooLate(
                tr(
                    "#{number} is being drawn already and cannot be changed any more.",
                    number=found.id,
                )
            )
        if found.state != State.QUEUED:
            raise TooLate(
                tr(
                    "#{number} is {state} already and cannot be changed any more.",
                    number=found.id, state=found.state.said,
                )
            )  # fmt: skip
        return found

    # Drawing

    def claim(self, generation_id: int, job: str = "") -> Generation | None:
        """Take a queued generation to draw it; None when somebody else has it or it is over.

        A failed one whose own job runs again was requeued by an operator.
        """
        with self.database.read() as connection:
            row = connection.execute(
                select(generations).where(generations.c.id == generation_id)
            ).one_or_none()
        if row is None:
            return None
        old = read_row(row)
        if job and job != old.job:
            return None  # A job of an attempt that is over: the row has another one.
        if old.state == State.FAILED and job == old.job:
            self.requeued(old)
        # The word "alive" comes before the row says so, or a sweep might think its worker dead.
        self.queue.beat(old.id, old.attempt, 0.0)
        rules = policy()
        with self.database.write() as connection:
            one_at_a_time(connection, old.user, old.chat)
            if self.may_run(connection, rules, old):
                # What another machine had of an attempt before is nothing to this one.
                since = (old.task or {}).get(BUSY_SINCE)
                won = self.set(connection, old, {State.QUEUED}, State.GENERATING, started=now(),
                                task={BUSY_SINCE: since} if since else None)  # fmt: skip
            else:
                # A new attempt, so that RQ's job of this one may end in peace.
                won = self.set(connection, old, {State.QUEUED}, State.QUEUED,
                                attempt=old.attempt + 1, enqueued=HELD)  # fmt: skip
        if won is None:
            return None
        self.publish(won.id)
        with contextlib.suppress(RedisError):
            if won.enqueued == HELD:
                self.queue.line(old.line).rq.settle(old.job, 0)
            else:
                self.queue.line(won.line).began(won.id, won.attempt, won.request)
        return won if won.state == State.GENERATING else None

    def may_run(
        self, connection: Connection, rules: Policy, one: Generation, *, in_line: bool = False
    ) -> bool:
        """Whether the person's and the chat's limits of drawings at once leave room for one.

        What stands `in_line` counts too where one asks for another to join it.
        """
        if not (rules.of_class(one.class_name).running or rules.chat.running):
            return True
        counted: ColumnElement[bool] = generations.c.state.in_(list(RUNNING))
        if in_line:
            queued = and_(generations.c.state == State.QUEUED, generations.c.enqueued == NOTED)
            counted = or_(counted, queued)

        def running(column: ColumnElement[str], who: str) -> int:
            return connection.execute(
                select(func.count()).where(column == who, column != "", counted)
            ).scalar_one()

        return rules.running(
            one.class_name,
            running(generations.c.person, one.user),
            running(generations.c.chat, one.chat),
        )

    def _let_go(self, over: Generation) -> None:
        """Put in line what was held until a drawing of the same person or chat was over."""
        rules = policy()
        if not (rules.of_class(over.class_name).running or rules.chat.running):
            return
        with self.database.read() as connection:
            rows = connection.execute(
                select(generations)
                .where(
                    generations.c.state == State.QUEUED,
                    generations.c.enqueued == HELD,
                    or_(
                        generations.c.person == over.user,
                        and_(generations.c.chat == over.chat, generations.c.chat != ""),
                    ),
                )
                .order_by(generations.c.priority.desc(), generations.c.id)
            ).all()
            held = next((one for one in map(read_row, rows)
                         if self.may_run(connection, rules, one, in_line=True)), None)  # fmt: skip
        if held:
            self.line_up(held)

    def finish(
        self, drawn: Generation, results: Iterable[Mapping[str, Any]], seconds: float,
        revision: str = "", text: str | None = None, cost: float | None = None,
    ) -> Generation | None:  # fmt: skip
        """Note the stored pictures, or what was written; None when the attempt is no longer the
        row's.

        `revision` is the model's: the same request is then answered by these pictures. `cost` is
        what they really cost, where who drew them says so. Doing so twice notes them once.
        """
        kept = [dict(result) for result in results]
        won = self.change(
            drawn, RUNNING, State.DONE, due=None,
            results=kept, text=text, seconds=seconds, ended=now(), error=None, charged=seconds,
            paid=policy().step(drawn.request) if cost is None else cost,
            fingerprint=drawn.request.fingerprint(revision) if revision else None,
        )  # fmt: skip
        if won is None:
            # Keys are secret: a row that has these was given them by a call whose answer was lost.
            one = self.get(drawn.id)
            same = list(one.results) == kept and one.text == text
            won = one if one.state == State.DONE and same else None
        if won:
            with contextlib.suppress(RedisError):
                line = self.queue.line(drawn.line)
                line.ended(drawn.id, drawn.attempt, seconds, drawn.request, revision)
        return won

    def tell(self, drawn: Generation, words: str) -> Generation | None:
        """Let the card say something while an attempt is being drawn."""
        return self.change(drawn, {State.GENERATING}, State.GENERATING, error=words)

    def fail(self, drawn: Generation, words: str, paid: float = 0.0) -> Generation | None:
        """End an attempt with words for its asker, and note what was paid for it all the same; None
        when it is no longer the row's."""
        return self.change(
            drawn, lifecycle.sources(State.FAILED), State.FAILED, error=words, ended=now(),
            paid=paid,
        )  # fmt: skip

    def restart(self, drawn: Generation, words: str, *, at_once: bool = True) -> Generation | None:
        """Put an attempt that was lost back in front of the line, or fail it after too many.

        Not `at_once`: whatever was wrong gets a while to pass, longer each time.
        """
        if drawn.restarts >= len(PAUSES) and drawn.request.enhance:
            told = tr("Drawn as you wrote it: what writes prompts stopped again and again.")
            return self.enhanced(drawn, None, told)
        if drawn.restarts >= len(PAUSES):
            times = trn("I tried {n} time.", "I tried {n} times.", drawn.restarts + 1)
            return self.fail(drawn, f"{words} {times}")
        again = self.change(
            drawn, lifecycle.RUNNING, State.QUEUED,
            attempt=drawn.attempt + 1, restarts=drawn.restarts + 1,
            started=None, enqueued=0, error=" ".join([words, tr("I try again.")]),
            due=None if at_once else now() + PAUSES[drawn.restarts],
        )  # fmt: skip
        if again:
            self.queue.forget(drawn.id, drawn.attempt)
            if at_once:
                self.line_up(again)
        return again

    def enhanced(
        self, one: Generation, prompt: str | None, words: str = "", *, written: bool = False
    ) -> Generation | None:  # fmt: skip
        """Draw from a better prompt, in its fair place among what is drawn; from the one that was
        asked for where there is none, and its card says why in these words. What was `written` is
        paid, of use or not. None when the attempt is no longer the row's."""
        asked = one.request
        if prompt:
            try:
                policy().drawable([replace(asked, prompt=prompt)])
            except NotAllowed:
                prompt, words = None, tr("The better prompt was one that is not drawn here.")
        wanted = replace(asked, enhance="")
        if prompt:
            wanted = replace(wanted, prompt=prompt, original=asked.prompt)
        again = self.change(
            one, {one.state}, State.QUEUED, attempt=one.attempt + 1, started=None, enqueued=0,
            due=None, restarts=0, error=None, request=asdict(wanted), line=line_of(wanted),
            manner={**one.manner, PLAINLY: words},
            paid=policy().step(asked) if written or prompt else 0.0,
        )  # fmt: skip
        if again:
            self.queue.forget(one.id, one.attempt)
            self.line_up(again)
        return again

    def put_back(self, taken: Generation, words: str | None = None) -> Generation | None:
        """Put an attempt that nobody works on any more in front of the line, as a new one.

        None when it is no longer the row's. No fault of the drawing: it may happen ever so often.
        """
        again = self.change(
            taken, {taken.state}, State.QUEUED,
            attempt=taken.attempt + 1, enqueued=0, started=None, error=words,
        )  # fmt: skip
        if again:
            self.queue.forget(taken.id, taken.attempt)
            self.line_up(again, first=True)
        return again

    # Within

    def rebuild_if_emptied(self) -> None:
        """Forget, for every row at once, that it stood in a line that is gone.

        The mark comes last: whoever is cut off here, another does it again.
        """
        if self.queue.known():
            return
        with self.database.write() as connection:
            connection.execute(
                update(generations)
                .where(generations.c.state.in_([State.QUEUED, State.GENERATING]))
                .values(enqueued=LOST)
            )
        self.queue.begin()

    def requeued(self, old: Generation) -> Generation | None:
        return self.change(
            old, {State.FAILED}, State.QUEUED, error=None, ended=None, started=None, restarts=0,
            task=None, due=None,
        )  # fmt: skip

    def claim_of(self, one: Generation) -> Claim:
        weight = policy().of_class(one.class_name).weight
        seconds = self.queue.pace.expect(one.request).seconds
        # What must be loaded for it, on this house's own machines.
        model = one.request.enhance or one.request.model
        if one.request.mode == Mode.UPSCALE or one.line not in (DRAW, WRITE):
            model = ""
        return Claim(one.user, seconds, weight, one.priority, model)

    def line_up(self, generation: Generation, *, first: bool = False) -> bool:
        """Put a row in line; False when Redis or the database is left to the sweep."""
        try:
            self.rebuild_if_emptied()
            self.queue.line(generation.line).enqueue(
                generation.id, generation.attempt, described(generation),
                self.claim_of(generation),
                # One that was drawn in vain had its turn already.
                first=first or generation.restarts > 0 or generation.priority == FIRST,
            )  # fmt: skip
        except (RedisError, *AWAY) as error:
            # What is committed is accepted, however slow Redis or the database is now.
            log.warning("enqueue of #%d is left to the sweep: %s", generation.id, type(error))
            return False
        mine = generations.c.id == generation.id, generations.c.attempt == generation.attempt
        with contextlib.suppress(*AWAY), self.database.write() as connection:
            connection.execute(update(generations).where(*mine).values(enqueued=NOTED))
        self.publish(generation.id)
        return True

    def change(
        self, old: Generation, allowed: Iterable[State], target: State,
        only_if: Callable[[Connection], bool] = lambda _connection: True, **values: Any,
    ) -> Generation | None:  # fmt: skip
        """Move a row from one of the allowed states, in a transaction of its own, and tell."""
        with self.database.write() as connection:
            won = None
            if only_if(connection):
                won = self.set(connection, old, allowed, target, **values)
        if won:
            self.publish(won.id)
            if old.state in RUNNING and target not in RUNNING:
                self._let_go(won)
        return won

    def set(
        self, connection: Connection, old: Generation, allowed: Iterable[State], target: State,
        paid: float = 0.0, **values: Any,
    ) -> Generation | None:  # fmt: skip
        """The one conditional update; None when the row has gone on meanwhile.

        What is over without a word of its cost is charged the time it was drawn. What was `paid`
        for it, or begun for it by other machines, adds to what it has cost the host.
        """
        charged = old.charged
        if target not in RUNNING:
            # An edit may have settled another cost since this row was looked at, or a worker begun.
            mine = generations.c.id == old.id
            found = connection.execute(
                select(generations.c.charged, generations.c.task).where(mine).with_for_update()
            ).one()
            charged = found.charged
            if found.task or target == State.CANCELLED:
                whole = connection.execute(select(generations).where(mine)).one()
                paid = max(paid, _owed(read_row(whole), target))
        if target in FINAL and "charged" not in values:
            drawn = now() - old.started if old.started else timedelta()
            # No drawing takes longer than this, whenever its end was noticed.
            longest = float(read(Drawing).job_timeout)
            values["charged"] = min(longest, max(0.0, drawn.total_seconds()))
        if paid:
            values["cost"] = generations.c.cost + paid
        row = connection.execute(
            update(generations)
            .where(
                generations.c.id == old.id,
                generations.c.attempt == old.attempt,
                generations.c.state.in_(list(allowed)),
                # Nothing moves one that was deleted, not even an operator who requeues its job.
                generations.c.deleted.is_(None),
            )
            .values({"version": generations.c.version + 1, **values, "state": target})
            .returning(generations)
        ).one_or_none()
        if row is None:
            return None
        _hold(connection, old.id, [str(one["key"]) for one in values.get("results", ())])
        seconds = values["charged"] - charged if target in FINAL else 0.0
        # Its person may have been linked, or its chat have moved, since a worker took it.
        made = read_row(row)
        for who in filter(None, (made.user, made.chat) if paid or seconds else ()):
            spend(connection, who, policy().day(made.created), 0, seconds, cost=paid)
        return made

    def publish(self, generation_id: int) -> None:
        with contextlib.suppress(RedisError):
            events.publish(self.queue.redis, generation_id)


def part(connection: Connection, ids: Sequence[int]) -> None:
    """Forget where those stood whose messages are gone, of all that was forgotten."""
    connection.execute(
        update(generations)
        .where(generations.c.id.in_(ids), generations.c.removed == FORGOTTEN)
        .values(
            address={}, message=None, shown_version=generations.c.version, shown_media=0,
            undeliverable=None, editor=None, editor_until=None,
        )
    )  # fmt: skip


def _owed(one: Generation, target: State) -> float:
    """What is to be paid for one whose attempt ends now: other machines stop at nobody's word."""
    # An edit may have left it in the line of another engine.
    elsewhere = not PROVIDERS.keys().isdisjoint((one.line, line_of(one.request)))
    cancelled = one.state in RUNNING and target == State.CANCELLED
    return begun(one) or (policy().step(one.request) if cancelled and elsewhere else 0.0)


def _kept(manner: Mapping[str, Any]) -> dict[str, Any]:
    """What further rows of the same request share; of what was left out, and who stood in, only
    one tells."""
    once = (LEFT, PLAINLY, LANGUAGE, INSTEAD)
    shared = {what: how for what, how in manner.items() if what not in once}
    return {**shared, **_spoken()}


def _anew(old: Generation, request: Request) -> dict[str, Any]:
    """The manner of a row that draws a request anew: no other engine stands in, and where another
    prompt counts, it is not told why the one before was drawn as it was."""
    kept = {**old.manner, INSTEAD: None}
    if request.enhance or request.prompt != old.request.prompt:
        kept[PLAINLY] = None
    return kept


def _spoken() -> dict[str, str]:
    """What a row keeps of the language that it was asked for in."""
    return {} if spoken() == ENGLISH else {LANGUAGE: spoken()}


def described(generation: Generation) -> str:
    """A job's line for operators, whose reader may be a terminal."""
    prompt = generation.request.prompt[:40]
    words = "".join(sign if sign.isprintable() else " " for sign in prompt)
    return f"#{generation.id} {words}"


def _hold(connection: Connection, generation: int, keys: Iterable[str]) -> None:
    """Note the stored pictures that a generation needs, so that nobody removes them before it."""
    rows = [{"key": key, "generation": generation} for key in dict.fromkeys(keys)]
    if rows:
        connection.execute(insert(files), rows)


def _unshown(connection: Connection, ids: Set[int]) -> list[str]:
    """Let nothing on offer be shown by these any more; the keys of the small pictures that did."""
    shown = select(offered.c.picture).where(offered.c.picture != "")
    keys = [key for key in connection.execute(shown).scalars() if sample_of(key) in ids]
    connection.execute(update(offered).where(offered.c.picture.in_(keys)).values(picture=""))
    return keys
