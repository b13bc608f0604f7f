"""The `drawqueue` command: starts the other parts as processes, and tells what is wrong."""

import contextlib
import importlib.util
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from core import policy
from core import settings as declared
from core.catalog import missing_starter
from core.settings import Dashboard, Discord, Drawing, Storage, Telegram, Web, read
from core.supervisor import LEFT_OUT, HomeInUse, Supervisor, python

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Type a prompt in a chat, get the picture back in that chat.",
)  # fmt: skip
bots = typer.Typer(no_args_is_help=True, help="Run the bot of one chat platform.")
app.add_typer(bots, name="bot")
out = Console(highlight=False, soft_wrap=True)

# What each part is started as; `doctor` asks each with `--check`.
MODULES = {
    "web": "bots.web_chat",
    "worker": "worker",
    "dashboard": "bots.dashboard",
    "discord": "bots.discord_chat",
    "telegram": "bots.telegram_chat",
    "migrate": "migrations",
}


def _installed(part: str) -> bool:
    try:
        return importlib.util.find_spec(MODULES[part]) is not None
    except ModuleNotFoundError:
        return False


def _become(part: str) -> None:
    _checked()
    # Replaced, not wrapped: signals and exit codes are the part's own.
    os.execv(sys.executable, list(python(MODULES[part])))


@app.command()
def up(
    home: Annotated[Path | None, typer.Option(help="Folder of everything that is kept.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the web chat.")] = None,
) -> None:
    """Start everything in one, on embedded defaults."""
    began = time.monotonic()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if home:
        os.environ["DRAWQUEUE_HOME"] = str(home)
    if port is not None:
        os.environ["DRAWQUEUE_WEB_PORT"] = str(port)
        os.environ.setdefault("DRAWQUEUE_DASHBOARD_PORT", str(port + 1))
    _checked()
    try:
        supervisor = Supervisor(read(Storage).home)
    except HomeInUse as error:
        out.print(str(error), style="red")
        raise typer.Exit(1) from None

    def stop(*_signal: Any) -> None:
        supervisor.stopping.set()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        _start(supervisor)
        web = read(Web)
        address = f"http://{web.host}:{web.port}/"
        _wait_for(address + "health", supervisor)
        if not supervisor.stopping.is_set():
            out.print(f"\nDrawqueue is ready after {time.monotonic() - began:.1f} s.")
            out.print(f"  Chat:       {address}", style="bold")
            if _installed("dashboard"):
                board = read(Dashboard)
                out.print(f"  Operators:  http://{board.host}:{board.port}/  (user {board.user}, "
                          f"password in {supervisor.home / 'dashboard-password'})")  # fmt: skip
            out.print("  Ctrl-C stops everything.\n")
        supervisor.watch()
    finally:
        out.print("Stopping…")
        supervisor.stop()


def _start(supervisor: Supervisor) -> None:
    os.environ["DRAWQUEUE_HOME"] = str(supervisor.home)
    if missing_starter():
        os.environ["DRAWQUEUE_MODEL"] = "pattern"
        out.print(
            "There are no starter weights in this copy: drawing test patterns only. "
            "Set DRAWQUEUE_MODEL to a model's folder or hub id to draw for real.",
            style="yellow",
        )
    if not read(Storage).redis_url:
        os.environ["REDIS_URL"] = supervisor.valkey()
    subprocess.run(python(MODULES["migrate"]), check=True)
    supervisor.add("web", *python(MODULES["web"]))
    for number, device in enumerate(_devices()):
        supervisor.add(f"worker {number + 1}", *python(MODULES["worker"]), DRAWQUEUE_DEVICE=device)
    if _installed("dashboard"):
        supervisor.add(
            "dashboard", *python(MODULES["dashboard"]),
            DRAWQUEUE_DASHBOARD_PASSWORD=_password(supervisor.home),
        )  # fmt: skip
    for part, section in (("discord", Discord), ("telegram", Telegram)):
        token: Any = read(section)
        if token.token.get_secret_value():
            supervisor.add(f"{part} bot", *python(MODULES[part]))


def _password(home: Path) -> str:
    given = read(Dashboard).password.get_secret_value()
    kept = home / "dashboard-password"
    if given:
        return given
    if not kept.exists():
        kept.touch(0o600)
        kept.write_text(secrets.token_urlsafe(12) + "\n")
    return kept.read_text().strip()


def _devices() -> list[str]:
    """One worker a GPU, or one on the CPU; torch is not imported to find out."""
    if read(Drawing).device:
        return [read(Drawing).device]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return [""]
    count = sum(line.startswith("GPU ") for line in listed.splitlines())
    return [f"cuda:{index}" for index in range(count)] or [""]


def _wait_for(address: str, supervisor: Supervisor) -> None:
    while not supervisor.stopping.is_set():
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            for child in supervisor.children:
                if child.process and child.process.poll() not in (None, 0, LEFT_OUT):
                    out.print(f"{child.name} could not start; see the lines above.", style="red")
                    raise typer.Exit(1) from None
            time.sleep(0.1)


@bots.command()
def discord() -> None:
    """Run the Discord bot."""
    _become("discord")


@bots.command()
def telegram() -> None:
    """Run the Telegram bot."""
    _become("telegram")


@app.command()
def web() -> None:
    """Run the web chat and the JSON interface."""
    _become("web")


@app.command()
def worker() -> None:
    """Run one worker, on one GPU or the CPU."""
    _become("worker")


@app.command()
def dashboard() -> None:
    """Run rq-dashboard."""
    _become("dashboard")


@app.command()
def migrate() -> None:
    """Bring the database up to date."""
    _become("migrate")


@app.command()
def doctor() -> None:
    """Check settings, database, Redis, tokens, model and GPU, and say what is wrong."""
    _checked()
    faults = 0

    def told(what: str, fault: str) -> None:
        nonlocal faults
        faults += bool(fault)
        out.print(f"[red]✗[/] {what}: {fault}" if fault else f"[green]✓[/] {what}")

    told("settings", "")
    told("database", _database_fault())
    told("Redis", _redis_fault())
    for part in ("web", "worker", "dashboard", "discord", "telegram"):
        if not _installed(part):
            continue
        answer = subprocess.run([*python(MODULES[part]), "--check"], capture_output=True, text=True)
        said = (answer.stdout + answer.stderr).strip()
        told(part, "" if answer.returncode == 0 else said or "it does not start")
    raise typer.Exit(bool(faults))


def _database_fault() -> str:
    from sqlalchemy import inspect
    from sqlalchemy.exc import SQLAlchemyError

    from core.database import Database

    try:
        with (
            contextlib.closing(Database(read(Storage).database)) as database,
            database.read() as connection,
        ):
            if not inspect(connection).has_table("generations"):
                return "it has no tables yet; run `drawqueue migrate` (or `drawqueue up`)."
    except (SQLAlchemyError, ModuleNotFoundError, OSError) as error:
        return f"it cannot be reached ({type(error).__name__}); check DATABASE_URL."
    return ""


def _redis_fault() -> str:
    from redis import Redis
    from redis.exceptions import RedisError

    try:
        Redis.from_url(read(Storage).redis).ping()
    except (RedisError, ValueError):
        if not read(Storage).redis_url:
            return "the embedded one runs only while `drawqueue up` does."
        return "it cannot be reached; check REDIS_URL."
    return ""


@app.command()
def settings() -> None:
    """Print every setting with its meaning and default, as `.env.example` has them."""
    sys.stdout.write(example())


@app.command("policy")
def policy_file() -> None:
    """Print a file of classes, limits and lists with every setting, as policy.example.toml is."""
    sys.stdout.write(policy.example())


@app.command()
def options() -> None:
    """Print the table of options that stands in the README."""
    from core.options import table

    sys.stdout.write(table() + "\n")


def example() -> str:
    """`.env.example`, written from the declarations."""
    lines = ["# Every setting of Drawqueue. Copy to .env and change what you need.", ""]
    for section in declared.SECTIONS:
        lines.append(f"## {(section.__doc__ or '').strip()}")
        for field in section.model_fields.values():
            default: Any = field.default
            if hasattr(default, "get_secret_value"):
                default = default.get_secret_value()
            lines += [f"# {field.description}", f"#{field.alias}={default}"]
        lines.append("")
    return "\n".join(lines)


def _checked() -> None:
    """Read every setting and the policy, and word what is wrong with any."""
    faults = []
    try:
        for section in declared.SECTIONS:
            try:
                read(section)
            except ValidationError as error:
                faults += [f"{line['loc'][0]}: {_meant(line)}" for line in error.errors()]
    except (OSError, UnicodeDecodeError):
        faults = [".env cannot be read; it has to be a text file in UTF-8."]
    if not faults:
        faults = _home_fault(read(Storage))
    if not faults:
        try:
            policy.policy()
        except policy.PolicyFault as error:
            faults = error.faults
    if faults:
        out.print("These settings (environment, .env or policy file) need mending:", style="red")
        for fault in faults:
            out.print(f"  {fault}", markup=False)
        raise typer.Exit(2)


def _meant(error: Any) -> str:
    if error["type"] == "value_error":
        return f"{error['ctx']['error']}."
    return f"{error['msg'].removeprefix('Input ').split(',')[0]}."


def _home_fault(storage: Storage) -> list[str]:
    if storage.database_url and storage.redis_url and storage.media_url:
        return []  # Nothing is kept there.
    try:
        storage.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return [f"DRAWQUEUE_HOME: that folder cannot be made ({error.strerror})."]
    return []


def main() -> None:
    """The entry point of `drawqueue`."""
    app()


if __name__ == "__main__":
    main()
