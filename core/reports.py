"""What people report: shown to the moderators, who take it down or keep it.

Anybody who sees a picture may report it, once. Where moderators read (DRAWQUEUE_REPORTS) one
message a picture shows it covered, with who asked, who reported and why; a poster sends it, at
least once, and edits it to what was decided. Who asked for a picture never hears who reported it.
"""

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Connection, Row, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from core.asking import Ask, Reply, generation_id
from core.cards import ACTIONS, DECISIONS, Button, Card, alt_text
from core.database import Database, files, generations, notices, now, reports, upsert
from core.errors import NotAllowed, NotFound, TooMuch, UserError, duration
from core.generations import EDITOR_LEASE, Generations
from core.house import House
from core.keeping import held_alone
from core.languages import tr, trn
from core.lifecycle import PENDING, State
from core.options import Mode
from core.people import Asker
from core.policy import Show
from core.rows import TAKEN_DOWN, Generation, moderates
from core.settings import Chat, read

# What moderators decided.
REMOVED, KEPT = "removed", "kept"
REASON = 500
# So many somebody may report in an hour.
MOST_AN_HOUR, HOUR_SECONDS = 20, 3600
# As many as a message has room for.
TOLD, LISTED = 5, 15
_NUMBER = re.compile(r"#?\s*\d{1,12}(?:\.[1-9])?", re.ASCII)


@dataclass(frozen=True)
class Notice:
    """Where moderators are shown one that was reported, and by which message."""

    generation: int
    place: str
    version: int
    shown_version: int
    shown_media: int
    message: str | None

    @property
    def address(self) -> Mapping[str, Any]:
        """The place, as a card's address has it."""
        platform, kind, id_ = self.place.split(":", 2)
        return {"channel": id_} if platform == "discord" else {kind: int(id_), "topic": None}


class Reports:
    """What was reported and decided, and where moderators are shown it."""

    def __init__(self, database: Database, redis: Redis, all_: Generations) -> None:
        self.database = database
        self.redis = redis
        self.generations = all_

    def file(self, one: Generation, asker: Asker, reason: str) -> bool:
        """Note what somebody says of a picture; False when they did so before. Raises TooMuch."""
        person = self.generations.people.get(asker.platform, asker.id).id
        row = {
            "generation": one.id, "reporter": person, "reporter_name": asker.name[:128],
            "reason": reason, "created": now(),
        }  # fmt: skip
        with self.database.read() as connection:
            mine = reports.c.generation == one.id, reports.c.reporter == person
            if connection.execute(select(reports.c.created).where(*mine)).first():
                return False
        self._count(asker)
        try:
            with self.database.write() as connection:
                connection.execute(insert(reports).values(row))
                _tell(connection, one.id, read(Chat).report_places)
        except IntegrityError:
            # Said twice at the same moment.
            return False
        return True

    def _count(self, asker: Asker) -> None:
        name = f"drawqueue:reports:{asker.account}"
        # Where Redis is away nothing can be drawn that would have to be reported.
        with contextlib.suppress(RedisError):
            with self.redis.pipeline() as pipe:
                pipe.incr(name)
                pipe.expire(name, HOUR_SECONDS, nx=True)
                pipe.ttl(name)
                number, _, wait = pipe.execute()
            if number > MOST_AN_HOUR:
                raise TooMuch(
                    tr("You have reported {most} pictures within an hour. Please come back in "
                       "{time}.", most=MOST_AN_HOUR, time=duration(wait)), wait,
                )  # fmt: skip

    def of(self, number: int) -> Sequence[Row[Any]]:
        """What was said of one, oldest first."""
        with self.database.read() as connection:
            return connection.execute(
                select(reports).where(reports.c.generation == number).order_by(reports.c.created)
            ).all()

    def open(self) -> dict[int, list[Row[Any]]]:
        """What nobody has decided yet, by generation, oldest first."""
        found: dict[int, list[Row[Any]]] = {}
        with self.database.read() as connection:
            rows = connection.execute(
                select(reports).where(reports.c.decision.is_(None)).order_by(reports.c.created)
            ).all()
        for row in rows:
            found.setdefault(row.generation, []).append(row)
        return found

    def keep(self, number: int, asker: Asker) -> None:
        """Note that a picture may stay."""
        with self.database.write() as connection:
            _decide(connection, number, KEPT, asker)

    # Where moderators read

    def stale(self, platforms: Sequence[str], limit: int = 20) -> list[Notice]:
        """The messages that show less than there is to tell, and that nobody is at."""
        columns = notices.c
        with self.database.read() as connection:
            rows = connection.execute(
                select(notices)
                .where(
                    columns.shown_version < columns.version,
                    columns.undeliverable.is_(None),
                    or_(*(columns.place.like(f"{platform}:%") for platform in platforms)),
                    or_(columns.editor_until.is_(None), columns.editor_until < now()),
                )
                .order_by(columns.generation, columns.place)
                .limit(limit)
            ).all() if platforms else []  # fmt: skip
        return [Notice(**{name: row._mapping[name] for name in Notice.__dataclass_fields__})
                for row in rows]  # fmt: skip

    def lease(self, notice: Notice, editor: str) -> bool:
        """Become the one editor of a message for a short while; whether that was granted."""
        moment = now()
        with self.database.write() as connection:
            taken = connection.execute(
                update(notices)
                .where(
                    *_one(notice),
                    notices.c.shown_version == notice.shown_version,
                    or_(notices.c.editor_until.is_(None), notices.c.editor_until < moment),
                )
                .values(editor=editor, editor_until=moment + EDITOR_LEASE)
            )
        return taken.rowcount == 1

    def shown(self, notice: Notice, editor: str, **told: Any) -> None:
        """Note what a message shows now, and give the lease back."""
        with self.database.write() as connection:
            connection.execute(
                update(notices)
                .where(*_one(notice), notices.c.editor == editor)
                .values(**told, editor=None, editor_until=None)
            )

    def card(self, number: int) -> tuple[Generation, Card] | None:
        """What moderators are shown of one; None where nothing is known of it any more."""
        try:
            one = self.generations.get(number)
        except NotFound:
            return None
        said = self.of(number)
        undecided = [row for row in said if row.decision is None]
        open_ = bool(undecided) and not one.deleted and bool(one.results or one.text)
        lines = [] if one.deleted else [
            f"{row.reporter_name or row.reporter} ({row.reporter}): {row.reason or '–'}"
            for row in (undecided or said)[:TOLD]
        ]  # fmt: skip
        if (more := len(undecided or said) - TOLD) > 0 and lines:
            lines.append(trn("and {n} more", "and {n} more", more))
        decided = next((row for row in reversed(said) if row.decision), None)
        who = decided and (decided.decided_name or decided.decided_by)
        if undecided and not one.deleted:
            status = "⚠️ " + trn("reported", "reported by {n} people", len(undecided))
        elif decided and decided.decision == REMOVED:
            status = "🛡️ " + (tr("taken down by {who}", who=who) if who else tr("taken down"))
            lines += [tr("Why: {reason}", reason=decided.words)] if decided.words else []
        elif decided and decided.decision == KEPT and not one.deleted:
            status = "✅ " + (tr("kept by {who}", who=who) if who else tr("kept"))
        else:
            status = "🗑️ " + tr("deleted by its asker")
        details = "" if one.deleted else tr(
            "for {name} ({account}) in {chat}", name=one.asker_name or one.asker,
            account=f"{one.platform}:{one.asker}", chat=one.chat or one.platform,
        )  # fmt: skip
        buttons = tuple(
            Button(action, one.id, tr(ACTIONS[action])) for action in DECISIONS if open_
        )
        media = tuple(str(result["key"]) for result in one.results) if open_ else ()
        return one, Card(
            one.id, one.version, one.state, status, "" if one.deleted else one.request.prompt,
            details, 0.0, buttons, media, alt_text(one.request.prompt), "\n".join(lines),
            show=Show.SPOILER, text=one.text or "" if open_ else "", words=one.request.mode.words,
        )  # fmt: skip


def _one(notice: Notice) -> tuple[Any, Any]:
    return notices.c.generation == notice.generation, notices.c.place == notice.place


def _tell(connection: Connection, number: int, places: Sequence[str] = ()) -> None:
    """Let what moderators are shown of one be shown anew, and in places where it is not yet."""
    mine = notices.c.generation == number
    connection.execute(update(notices).where(mine).values(version=notices.c.version + 1))
    for place in places:
        new = upsert(connection)(notices).values(
            generation=number, place=place, version=1, shown_version=0
        )
        connection.execute(new.on_conflict_do_nothing())


def _decide(
    connection: Connection, number: int, decision: str, asker: Asker, words: str = "",
    fingerprint: str | None = None,
) -> None:  # fmt: skip
    row = {
        "decision": decision, "decided_by": asker.account, "decided_name": asker.name[:128],
        "decided": now(), "words": words, "fingerprint": fingerprint,
    }  # fmt: skip
    undecided = reports.c.generation == number, reports.c.decision.is_(None)
    done = connection.execute(update(reports).where(*undecided).values(row))
    if not done.rowcount and decision == REMOVED:
        # Nobody reported it: who took it down says so by that.
        own = {"generation": number, "reporter": asker.account, "reporter_name": asker.name[:128],
               "reason": "", "created": now(), **row}  # fmt: skip
        new = upsert(connection)(reports).values(own)
        connection.execute(
            new.on_conflict_do_update(index_elements=["generation", "reporter"], set_=row)
        )
    _tell(connection, number)


def unname(connection: Connection, names: Sequence[str]) -> None:
    """Forget who reported and who decided, where it was one of these accounts."""
    said = connection.execute(
        select(reports.c.generation, reports.c.reporter).where(reports.c.reporter.in_(names))
    ).all()
    for row in said:
        # One of a picture: the next who leaves needs another word for nobody.
        others = select(func.count()).where(
            reports.c.generation == row.generation, reports.c.reporter.like("nobody%")
        )
        number = connection.execute(others).scalar_one()
        mine = reports.c.generation == row.generation, reports.c.reporter == row.reporter
        connection.execute(
            update(reports).where(*mine).values(
                reporter=f"nobody {number + 1}", reporter_name="", reason=""
            )
        )  # fmt: skip
    decided = reports.c.decided_by.in_(names)
    touched = connection.execute(select(reports.c.generation).where(decided)).scalars().all()
    connection.execute(update(reports).where(decided).values(decided_by="", decided_name=""))
    told_anew(connection, {*touched, *(row.generation for row in said)})


def told_anew(connection: Connection, numbers: Iterable[int]) -> None:
    """Let moderators be shown anew what became of some."""
    for number in numbers:
        _tell(connection, number)


# What people and moderators say


def take_down(house: House, one: Generation, asker: Asker, reason: str) -> list[Generation]:
    """Take a picture down, and whatever else shows it, or shows it larger, in the chats that the
    asker moderates.

    What somebody else's elsewhere shows alike stays there. Raises NotAllowed.
    """
    if one.state in PENDING:
        raise NotAllowed(tr("#{number} is not drawn yet: /cancel {number} first.", number=one.id))
    every, keys = _showing(house, one, asker)
    ids = [other.id for other in every]
    with house.database.read() as connection:
        rows = connection.execute(
            select(generations.c.id, generations.c.fingerprint).where(generations.c.id.in_(ids))
        ).all()
    # The files go first, as when somebody deletes their own.
    for key in held_alone(house, ids, keys):
        house.media.delete(key)
    prints = {row.id: row.fingerprint for row in rows}
    # The one that was named goes last: killed before that, all of it is done again.
    for other in reversed(every):
        also = partial(
            _decide, number=other.id, decision=REMOVED, asker=asker, words=reason,
            fingerprint=prints[other.id],
        )  # fmt: skip
        house.generations.empty(other, TAKEN_DOWN, reason or None, also)
    return every


def _showing(
    house: House, one: Generation, asker: Asker
) -> tuple[list[Generation], set[str]]:  # fmt: skip
    """One, and what shows the same in the chats that the asker moderates, or larger; their files.

    What was still to be made larger is cancelled.
    """
    every, keys = [one], {str(result["key"]) for result in one.results}
    while True:
        holding = select(files.c.generation).where(files.c.key.in_(keys))
        known = [other.id for other in every]
        found = house.generations.found(
            select(generations)
            .where(generations.c.id.in_(holding), generations.c.id.not_in(known))
            .order_by(generations.c.id)
        )
        more = []
        for other in filter(partial(moderates, asker=asker), found):
            larger = other.request.mode == Mode.UPSCALE and not keys.isdisjoint(other.request.held)
            if larger and other.state in PENDING:
                house.generations.stop(other)
                other = house.generations.get(other.id)
            own = {str(result["key"]) for result in other.results}
            if larger or not keys.isdisjoint(own):
                more.append((other, own))
        if not more:
            return every, keys
        every += [other for other, _ in more]
        keys = keys.union(*(own for _, own in more))


def _named(ask: Ask, needed: str) -> tuple[int, str]:
    """The picture and the words that go with it, as one says it of a number or of what one points
    at. Raises UserError."""
    id_, reason = (str(ask.given.get(name) or "").strip() for name in ("id", "reason"))
    if ask.seen and not _NUMBER.fullmatch(id_):
        # Who answers a picture needs no number.
        id_, reason = str(ask.seen), f"{id_} {reason}".strip()
    if not id_:
        raise UserError(needed)
    number = generation_id(id_.partition(".")[0])
    plain = reason.replace("\0", "").encode(errors="replace").decode()
    return number, " ".join(plain.split())[:REASON]


def report(house: House, ask: Ask) -> Reply:
    """`/report`: tell the moderators of a picture that one sees."""
    number, reason = _named(ask, tr(
        "Which picture? Answer it with /report, or give its number and what is wrong with it: "
        "/report 12 it shows me"
    ))  # fmt: skip
    one = house.generations.get(number)
    here = bool(ask.asker.chat) and ask.asker.chat == one.chat
    if not (here or ask.seen == number or house.generations.may_see(one, ask.asker)):
        # As of one that there is none of.
        raise NotFound(tr("There is no #{number}.", number=number))
    if one.deleted or one.state != State.DONE:
        raise NotAllowed(tr("#{number} shows no picture.", number=number))
    if not house.reports.file(one, ask.asker, reason):
        return Reply(tr("You have reported #{number} already: the moderators know.", number=number))
    return Reply(tr("Thank you. The moderators will look at #{number}.", number=number))


def decided(house: House, action: str, number: int, ask: Ask) -> Reply:
    """What a moderator's button under a report does."""
    if action == DECISIONS[0]:
        return _take_down(house, ask.asker, number, "")
    return _keep(house, ask.asker, number)


def takedown(house: House, ask: Ask) -> Reply:
    """`/takedown`: take a picture away for everybody."""
    number, reason = _named(ask, tr("Which picture? For example /takedown 12 it shows somebody"))
    return _take_down(house, ask.asker, number, reason)


def listed(house: House, ask: Ask) -> Reply:
    """`/reports`: what waits for a moderator's word."""
    if ask.given.get("stays"):
        return _keep(house, ask.asker, generation_id(ask.given["stays"]))
    lines: list[str] = []
    more = 0
    for number, said in house.reports.open().items():
        try:
            one = house.generations.get(number)
        except NotFound:
            continue
        if one.deleted or not moderates(one, ask.asker):
            continue
        if len(lines) == LISTED:
            more += 1
            continue
        why = next((row.reason for row in said if row.reason), "")
        times = trn("{n} report", "{n} reports", len(said))
        who = f"{one.asker_name or one.asker} ({one.platform}:{one.asker})"
        lines.append(f"#{number} {who}, {times}" + (f": {why[:80]}" if why else ""))
    if not lines:
        return Reply(tr("Nothing waits for a moderator."))
    if more:
        lines.append(trn("and {n} more", "and {n} more", more))
    lines.append(
        tr("/show looks at one; /takedown 12 and why takes it away; /reports 12 keeps it.")
    )
    return Reply("\n".join(lines))


def _theirs(house: House, asker: Asker, number: int) -> Generation:
    """One of a chat that the asker moderates. Raises NotFound, also for any other."""
    with contextlib.suppress(NotFound):
        one = house.generations.get(number)
        if moderates(one, asker):
            return one
    raise NotFound(tr("There is no #{number} in a chat that you moderate.", number=number))


def _take_down(house: House, asker: Asker, number: int, reason: str) -> Reply:
    one = _theirs(house, asker, number)
    if one.removed == TAKEN_DOWN:
        return Reply(tr("#{number} is taken down already.", number=number))
    if one.deleted:
        house.reports.keep(number, asker)
        return Reply(tr("#{number} is gone already: its asker deleted it.", number=number))
    gone = take_down(house, one, asker, reason)
    words = tr("#{number} is taken down: its picture and its prompt are gone, and its card says "
               "so.", number=number)  # fmt: skip
    if others := [f"#{other.id}" for other in gone[1:]]:
        words += " " + tr("So are {others}, which showed the same.", others=", ".join(others))
    return Reply(words)


def _keep(house: House, asker: Asker, number: int) -> Reply:
    one = _theirs(house, asker, number)
    house.reports.keep(one.id, asker)
    return Reply(tr("#{number} stays.", number=number))
