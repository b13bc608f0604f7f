"""Tables, and short transactions that behave alike on SQLite and PostgreSQL."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    bindparam,
    case,
    create_engine,
    event,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

Answer = TypeVar("Answer")

log = logging.getLogger("drawqueue")

# What is raised when the database does not answer, for whatever reason.
AWAY = (OperationalError, InterfaceError)

# How long a write waits for a database that others keep busy. Who answers a person sets less.
BUSY_SECONDS = 10.0
PATIENCE = ContextVar("patience", default=BUSY_SECONDS)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Moment(TypeDecorator[datetime]):
    """A point in time, always UTC; SQLite itself forgets time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=value.tzinfo or UTC) if value else None


# Signs that part the words of a prompt, on every database.
SIGNS = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~«»·–—‘’“”…、。，"
# The words of a row's prompt as PostgreSQL finds them, in any language.
WORDS = (
    "(to_tsvector('simple', translate(request ->> 'prompt', "
    f"'{SIGNS.replace(chr(39), chr(39) * 2)}', '{' ' * len(SIGNS)}')) "
    "|| array_to_tsvector(ARRAY['by:' || person, 'in:' || chat]))"
)
# The same on SQLite: words without their rows, kept by triggers.
SEARCH = {
    "prompts": "CREATE VIRTUAL TABLE prompts USING fts5("
    "prompt, content='', tokenize='unicode61 remove_diacritics 0')",
    "prompts_new": "CREATE TRIGGER prompts_new AFTER INSERT ON generations BEGIN "
    "INSERT INTO prompts (rowid, prompt) VALUES (new.id, json_extract(new.request, '$.prompt')); "
    "END",
    "prompts_gone": "CREATE TRIGGER prompts_gone AFTER DELETE ON generations BEGIN "
    "INSERT INTO prompts (prompts, rowid, prompt) "
    "VALUES ('delete', old.id, json_extract(old.request, '$.prompt')); END",
    "prompts_changed": "CREATE TRIGGER prompts_changed AFTER UPDATE OF request ON generations "
    "BEGIN INSERT INTO prompts (prompts, rowid, prompt) "
    "VALUES ('delete', old.id, json_extract(old.request, '$.prompt')); "
    "INSERT INTO prompts (rowid, prompt) VALUES (new.id, json_extract(new.request, '$.prompt')); "
    "END",
}

generations = Table(
    "generations",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    # Who asked, where, and by which event: (platform, event) makes accepting happen once.
    Column("platform", String(16), nullable=False),
    Column("event", String(128), nullable=False),
    Column("asker", String(64), nullable=False),
    Column("asker_name", String(128), nullable=False, default=""),
    Column("address", JSON, nullable=False),
    Column("request", JSON, nullable=False),
    Column("parent", Integer),
    # What settings and presets had to do with it: see core/tastes.py.
    Column("manner", JSON, nullable=False, server_default="{}"),
    # Whose it is where accounts are linked, and what the policy counts it by.
    Column("person", String(80), nullable=False, server_default=""),
    Column("chat", String(96), nullable=False, server_default=""),
    Column("class_name", String(32), nullable=False, server_default=""),
    Column("priority", Integer, nullable=False, server_default="1"),
    # Seconds of drawing that its person has been charged for it.
    Column("charged", Float, nullable=False, server_default="0"),
    # In which line it stands: see core/queue.py.
    Column("line", String(16), nullable=False, server_default="draw"),
    # What another machine calls the drawing that it has taken on, and what its news must prove.
    Column("task", JSON(none_as_null=True)),
    # What was written.
    Column("text", Text),
    # What it cost the host, in the policy's money.
    Column("cost", Float, nullable=False, server_default="0"),
    # Not to be tried again before.
    Column("due", Moment),
    # What became of it.
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, default=1),
    Column("restarts", Integer, nullable=False, default=0),
    Column("version", Integer, nullable=False, default=1),
    Column("enqueued", Integer, nullable=False, default=0),
    Column("error", Text),
    Column("results", JSON, nullable=False, default=list),
    Column("seconds", Float),
    # The same for all whose pictures are the same.
    Column("fingerprint", String(64)),
    # When its asker had it deleted: only what its card and the counts need is left.
    Column("deleted", Moment),
    # Who else took it away: a moderator, or its asker with all that was theirs; see Removed.
    Column("removed", String(16), nullable=False, server_default=""),
    Column("created", Moment, nullable=False),
    Column("started", Moment),
    Column("ended", Moment),
    # The card that shows it.
    Column("message", String(64)),
    Column("shown_version", Integer, nullable=False, default=0),
    Column("shown_media", Integer, nullable=False, default=0),
    Column("editor", String(64)),
    Column("editor_until", Moment),
    Column("mentioned", Integer, nullable=False, default=0),
    Column("undeliverable", Text),
    UniqueConstraint("platform", "event"),
    Index(None, "state", "id"),
    Index(None, "person", "id"),
    Index(None, "person", "state"),
    Index(None, "chat", "state"),
    Index(None, "fingerprint"),
    Index(None, "parent"),
    Index(
        "ix_generations_paid", "created",
        postgresql_where=text("cost > 0"), sqlite_where=text("cost > 0"),
    ),
    # With the person and the chat among the words, one index finds a word of one person's.
    Index(
        "ix_generations_words", text(WORDS), postgresql_using="gin",
        # A list of what is not yet filed would be read through at every search.
        postgresql_with={"fastupdate": "off"},
    ).ddl_if(dialect="postgresql"),
)  # fmt: skip

# The stored pictures that each generation needs, its own and those it begins with: a file goes when
# the last that holds it goes.
files = Table(
    "files",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Index(None, "generation"),
)

# What a person said about themselves, or a moderator of them; `person` is the first account of
# those that were linked.
people = Table(
    "people",
    metadata,
    Column("platform", String(16), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("quiet", Boolean, nullable=False, default=False),
    Column("person", String(80)),
    Column("chosen", String(32)),
    Column("granted", String(32)),
    Index(None, "person"),
)

# Codes that link two accounts, as their hashes.
links = Table(
    "links",
    metadata,
    Column("code", String(64), primary_key=True),
    Column("platform", String(16), nullable=False),
    Column("id", String(64), nullable=False),
    Column("until", Moment, nullable=False),
)

# What a person or a chat has asked for in a day, and the seconds of drawing it took.
usage = Table(
    "usage",
    metadata,
    Column("who", String(96), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("jobs", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("last", Moment),
    Column("cost", Float, nullable=False, server_default="0"),
    # How much of it was copied from a person whom this account left, and is counted there.
    Column("copied_jobs", Integer, nullable=False, server_default="0"),
    Column("copied_seconds", Float, nullable=False, server_default="0"),
    Column("copied_cost", Float, nullable=False, server_default="0"),
)

# Requests of many pictures, shown with their cost and not yet agreed to.
proposals = Table(
    "proposals",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("platform", String(16), nullable=False),
    Column("event", String(128), nullable=False),
    Column("asker", String(64), nullable=False),
    Column("given", JSON, nullable=False),
    # Which command, and the pictures it came with.
    Column("command", String(16), nullable=False, server_default="imagine"),
    Column("pictures", JSON, nullable=False, server_default="[]"),
    Column("address", JSON, nullable=False),
    Column("created", Moment, nullable=False),
    Column("answer", String(8)),
    UniqueConstraint("platform", "event"),
)

# Updates of a chat that were taken in and are not yet handled: a chat platform is told
# "received" only after this row is committed.
updates = Table(
    "updates",
    metadata,
    Column("platform", String(16), primary_key=True),
    Column("event", String(128), primary_key=True),
    Column("body", JSON, nullable=False),
    Column("received", Moment, nullable=False),
    Column("handled", Moment),
)

# What links are signed with: made by the first process that signs one, read by all.
secrets = Table(
    "secrets",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("value", String(64), nullable=False),
)

# Keys by which programs ask for a person, as their hashes; `owner` is the account that made one.
keys = Table(
    "keys",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("owner", String(80), nullable=False),
    Column("name", String(32), nullable=False),
    Column("scope", String(16), nullable=False),
    Column("created", Moment, nullable=False),
    Column("used", Moment),
    Column("revoked", Moment),
    Index(None, "owner"),
)

# Models, LoRAs, VAEs and upscalers that moderators added, and what they said of those that the
# settings name (which have no source here).
offered = Table(
    "offered",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("source", String(500), nullable=False, server_default=""),
    Column("added_by", String(80), nullable=False),
    Column("added", Moment, nullable=False),
    Column("hidden", Boolean, nullable=False),
    Column("chosen", Boolean, nullable=False),
    Column("note", String(200), nullable=False, server_default=""),
    # The key of a picture of what it draws.
    Column("picture", String(200), nullable=False, server_default=""),
    # What a machine that sees its files knows of it; none as long as nobody has looked.
    Column("facts", JSON(none_as_null=True)),
    Column("fault", Text, nullable=False, server_default=""),
)

# What a person or a chat wants where nothing is said. `who` is an account or a chat: of accounts
# that are one person, what was set last counts.
tastes = Table(
    "tastes",
    metadata,
    Column("who", String(96), primary_key=True),
    Column("name", String(32), primary_key=True),
    Column("value", String(200), nullable=False),
    Column("changed", Moment, nullable=False),
)

# What people saved of their pictures under a name; `key` is the name as it is compared.
presets = Table(
    "presets",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("owner", String(80), nullable=False),
    Column("key", String(128), nullable=False),
    Column("name", String(32), nullable=False),
    Column("template", Text, nullable=False),
    Column("given", JSON, nullable=False),
    Column("created", Moment, nullable=False),
    UniqueConstraint("owner", "key"),
)

# Where others may use a preset; a name stands for one of them in each place.
shares = Table(
    "shares",
    metadata,
    Column("place", String(96), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("preset", Integer, nullable=False),
    Index(None, "preset"),
)

# People who sign in to the web chat with a name and a password; `key` is the name as it is
# compared, `id` what the web knows them by, which nobody ever has again.
accounts = Table(
    "accounts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("key", String(128), nullable=False),
    Column("name", String(32), nullable=False),
    Column("password", String(200), nullable=False),
    Column("created", Moment, nullable=False),
    UniqueConstraint("key"),
)

# Browsers that somebody signed in with, whichever way; of the token only its hash is kept.
sessions = Table(
    "sessions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("hash", String(64), nullable=False),
    Column("account", String(80), nullable=False),
    Column("name", String(64), nullable=False),
    Column("browser", String(64), nullable=False),
    Column("made", Moment, nullable=False),
    Column("used", Moment, nullable=False),
    UniqueConstraint("hash"),
    Index(None, "account"),
)
# What a person keeps pictures under: see core/marks.py. They are the picture's own, for nobody but
# its person sets or sees them.
marks = Table(
    "marks",
    metadata,
    Column("generation", Integer, primary_key=True),
    # Which of its pictures, counted from 0.
    Column("place", Integer, primary_key=True),
    Column("tag", String(32), primary_key=True),
)

# Pictures that whoever has their link may see: see core/sharing.py.
shared = Table(
    "shared",
    metadata,
    Column("generation", Integer, primary_key=True),
    Column("place", Integer, primary_key=True),
    # What the link names it by; another one each time, so that an old link stays dead.
    Column("name", String(32), nullable=False),
    Column("prompt", Boolean, nullable=False),
    Column("until", Moment, nullable=False),
)

# What goes when what a generation drew goes.
BESIDE = (files, marks, shared)

# Those who are being forgotten, until nothing of them is left: their accounts and what else they
# are counted by, their newest generation then, and the day whose limits count for them still.
leavers = Table(
    "leavers",
    metadata,
    Column("person", String(80), primary_key=True),
    Column("names", JSON, nullable=False),
    Column("newest", Integer, nullable=False),
    Column("day", String(10), nullable=False),
    Column("asked", Moment, nullable=False),
)

# What people said of pictures, each of one once, and what moderators decided.
reports = Table(
    "reports",
    metadata,
    Column("generation", Integer, primary_key=True),
    Column("reporter", String(80), primary_key=True),
    Column("reporter_name", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created", Moment, nullable=False),
    Column("decision", String(16)),
    Column("decided_by", String(80), nullable=False, server_default=""),
    Column("decided_name", String(128), nullable=False, server_default=""),
    Column("decided", Moment),
    # What was said of a picture that was taken down, and what tells it from others.
    Column("words", Text, nullable=False, server_default=""),
    Column("fingerprint", String(64)),
    Index(None, "fingerprint"),
    Index(None, "decision"),
)

# The messages that show moderators what was reported, one a picture and place.
notices = Table(
    "notices",
    metadata,
    Column("generation", Integer, primary_key=True),
    Column("place", String(96), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("shown_version", Integer, nullable=False),
    Column("shown_media", Integer, nullable=False, server_default="0"),
    Column("message", String(64)),
    Column("editor", String(64)),
    Column("editor_until", Moment),
    Column("undeliverable", Text),
)

# What people take away, kept for a day: all that is theirs, as one file or several.
exports = Table(
    "exports",
    metadata,
    Column("person", String(80), primary_key=True),
    Column("asked", Moment, nullable=False),
    # The most bytes that one of them may have; 0 is any number.
    Column("most", Integer, nullable=False),
    # Keys and sizes; none until they are there.
    Column("files", JSON(none_as_null=True)),
    # How many pictures had no place in any, and why there are none at all.
    Column("left_out", Integer, nullable=False, server_default="0"),
    Column("fault", Text, nullable=False, server_default=""),
    Column("builder", String(64), nullable=False),
    Column("builder_until", Moment, nullable=False),
)


def spend(
    connection: Connection, who: str, day: str, jobs: int, seconds: float,
    last: datetime | None = None, cost: float = 0.0,
) -> None:  # fmt: skip
    """Add to what a person or a chat has used in a day."""
    added = {"more_jobs": jobs, "more_seconds": seconds, "more_cost": cost}
    first = {"new_seconds": max(0.0, seconds), "new_cost": max(0.0, cost)}
    one = {"whose": who, "that_day": day, "now_last": last}
    connection.execute(_spending(upsert(connection)), {**one, **added, **first})


@cache
def _spending(insert: Any) -> Any:
    """The statement by which days are added to: making it takes longer than its execution."""
    told, columns = bindparam, usage.c
    new = insert(usage).values(
        who=told("whose"), day=told("that_day"), jobs=told("more_jobs"), last=told("now_last"),
        seconds=told("new_seconds"), cost=told("new_cost"),
    )  # fmt: skip
    seconds, cost = columns.seconds + told("more_seconds"), columns.cost + told("more_cost")
    return new.on_conflict_do_update(
        index_elements=[columns.who, columns.day],
        set_={
            "jobs": columns.jobs + told("more_jobs"),
            "seconds": case((seconds > 0, seconds), else_=0.0),
            "cost": case((cost > 0, cost), else_=0.0),
            "last": func.coalesce(new.excluded.last, columns.last),
        },
    )


def one_at_a_time(connection: Connection, *names: str) -> None:
    """Let the transactions of a person, and then of a chat, wait for each other until they end.

    SQLite has one writer as it is.
    """
    if connection.dialect.name == "postgresql":
        for name in filter(None, names):
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


def upsert(connection: Connection) -> Any:
    """The dialect's own insert, which knows what to do on a conflict."""
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def patiently(act: Callable[[], Answer], seconds: float) -> Answer:
    """What `act` answers, tried again for so many seconds while the database does not.

    For those who have nothing better to do. A transaction whose answer was lost is done again:
    `act` must be one that may be.
    """
    pause, end = 0.2, time.monotonic() + seconds
    while True:
        try:
            return act()
        except AWAY as error:
            if time.monotonic() + pause > end:
                raise
            log.warning("the database does not answer (%s)", type(error).__name__)
            time.sleep(pause)
            pause = min(5.0, pause * 2)


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


def unusable(error: Exception) -> str:
    """Why the database of the settings cannot be used, in words."""
    if isinstance(error, ModuleNotFoundError):
        return "PostgreSQL's driver is not installed: pip install 'drawqueue[postgres]'."
    if isinstance(error, ArgumentError | ValueError):
        return (
            "DATABASE_URL cannot be read. In a name or password the signs @ : / are written "
            "%40 %3A %2F."
        )
    return f"The database cannot be reached ({type(error).__name__}); check DATABASE_URL."


def is_away(error: OperationalError | InterfaceError) -> bool:
    """Whether the database is busy or out of reach; SQLite tells of missing tables alike."""
    return not isinstance(error.orig, sqlite3.Error) or "locked" in str(error.orig)


class Database:
    """The rows: `read()` and `write()` give a connection inside one short transaction."""

    def __init__(self, url: str) -> None:
        self.url = url
        arguments: dict[str, Any] = {"pool_pre_ping": True}
        if url.startswith("sqlite"):
            path = url.removeprefix("sqlite:///").split("?")[0]
            if path:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            # Each connection keeps so many prepared statements, some tens of kB each; lists of
            # many lengths make ever new ones.
            arguments = {"connect_args": {"timeout": BUSY_SECONDS, "cached_statements": 32}}
        else:
            # A server that is cut off answers nothing: who waits for it is told, and asks again.
            arguments["connect_args"] = {"connect_timeout": 5}
        self.engine: Engine = create_engine(url, **arguments)
        # SQLite lets one write at a time, and who finds it busy sleeps and tries again: threads of
        # one process wait for each other here instead, and lose no time.
        self._turn: threading.Lock | None = None
        if self.engine.dialect.name == "sqlite":
            self._turn = threading.Lock()
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that only reads."""
        with self.engine.connect() as connection, connection.begin():
            self._hurry(connection, PATIENCE.get())
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection whose changes are committed together, or not at all.

        Raises OperationalError when the database is away, or busy beyond all patience.
        """
        with self._my_turn() as left, self.engine.connect() as plain:
            connection = plain.execution_options(patience=left)
            with connection.begin():
                self._hurry(connection, left)
                yield connection

    def _hurry(self, connection: Connection, patience: float) -> None:
        if self._turn is None and patience < BUSY_SECONDS:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(patience * 1000)}")

    @contextmanager
    def _my_turn(self) -> Iterator[float]:
        """Wait for this process's other writers; gives the seconds of patience that are left."""
        patience, begun = PATIENCE.get(), time.monotonic()
        if self._turn is None:
            yield patience
            return
        if not self._turn.acquire(timeout=patience):
            locked = sqlite3.OperationalError("database is locked")
            raise OperationalError("BEGIN IMMEDIATE", None, locked)
        try:
            yield max(0.1, patience - (time.monotonic() - begun))
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def _prepare_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # The driver would begin transactions late, and a read that turns into a write can then
    # fail at once instead of waiting its turn: BEGIN is spoken by _begin_sqlite.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    # Of each pooled connection, in KiB: what it does not hold, the system's file cache does.
    connection.execute("PRAGMA cache_size=-256")


def _begin_sqlite(connection: Connection) -> None:
    patience = connection.get_execution_options().get("patience")
    if patience is None:
        connection.exec_driver_sql("BEGIN")
        return
    connection.exec_driver_sql(f"PRAGMA busy_timeout={round(patience * 1000)}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
