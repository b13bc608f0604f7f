"""The `drawqueue` command: starts the other parts as processes, and tells what is wrong."""

import contextlib
import errno
import importlib.util
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.markup import escape

from core import catalog, policy, writers
from core import settings as declared
from core.catalog import missing_starter
from core.providers import PROVIDERS
from core.settings import (
    Dashboard,
    Discord,
    Drawing,
    Remote,
    Safety,
    Storage,
    Telegram,
    Web,
    Words,
    read,
)
from core.supervisor import LEFT_OUT, NONCE, CannotStart, Supervisor, door, python

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
    "writer": "worker",
    "remote": "worker",
    "dashboard": "bots.dashboard",
    "discord": "bots.discord_chat",
    "telegram": "bots.telegram_chat",
    "migrate": "migrations",
    "safety": "worker.safety",
}
BOTS: Mapping[str, type[Discord] | type[Telegram]] = {"discord": Discord, "telegram": Telegram}
# Where this machine is reached that listens on all its addresses.
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
# The workers that there are, and what each is told to do.
KINDS = {"worker": "draw", "writer": "write", "remote": "remote"}
# Why one of them has nothing to do here.
NEEDLESS = {
    "worker": "not needed: nothing draws on this machine",
    "writer": "not needed: nothing writes on this machine",
    "remote": "not needed: no engine on another machine is named",
}
UP_MAKES_IT = "not there yet; `drawqueue up` makes it"


def _installed(part: str) -> bool:
    try:
        return importlib.util.find_spec(MODULES[part]) is not None
    except ModuleNotFoundError:
        return False


def _command(part: str) -> list[str]:
    """What starts a part."""
    return [*python(MODULES[part]), *([KINDS[part]] if part in KINDS else [])]


def _become(part: str) -> None:
    _checked()
    # Replaced, not wrapped: signals and exit codes are the part's own.
    os.execv(sys.executable, _command(part))


@app.command()
def up(
    home: Annotated[str | None, typer.Option(help="Folder of everything that is kept.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port of the web chat.", min=0, max=65535)
    ] = None,
) -> None:
    """Start everything in one, on embedded defaults."""
    began = time.monotonic()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if home is not None:
        if not home.strip():
            raise typer.BadParameter("name a folder", param_hint="--home")
        os.environ["DRAWQUEUE_HOME"] = home
    _checked()
    _stop_for(_unready())
    try:
        supervisor = Supervisor(read(Storage).home)
        ports = _ports(port)
    except CannotStart as error:
        _stop_for([str(error)])

    def stop(*_signal: Any) -> None:
        supervisor.stopping.set()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        nonce = secrets.token_hex(8)
        _start(supervisor, ports, nonce)
        web = read(Web)
        _wait_for(_addresses(web.host, ports["web"])[0] + "health", supervisor, nonce)
        if not supervisor.stopping.is_set():
            out.print(f"\nDrawqueue is ready after {time.monotonic() - began:.1f} s.")
            _welcome(supervisor, ports)
        supervisor.watch()
    except CannotStart as error:
        _stop_for([str(error)])
    finally:
        out.print("Stopping…")
        supervisor.stop()


def _stop_for(faults: list[str]) -> None:
    """End with what is wrong, if anything is."""
    for fault in faults:
        out.print(fault, style="red", markup=False)
    if faults:
        raise typer.Exit(1)


def _unready() -> list[str]:
    """What keeps this machine from starting everything as the settings say, in words."""
    storage = read(Storage)
    found = [
        _unwritable("DRAWQUEUE_HOME (--home)", storage.home),
        _media_fault() if storage.media_url else "",
        _database()[0] if storage.database_url else "",
        _redis()[0] if storage.redis_url else "",
        *read(Web).faults,
    ]
    if not missing_starter():
        device = read(Drawing).device not in ("", "cpu")
        here = _needed()["worker"] and device
        found += catalog.faults() or ([_asked("worker")[0]] if here else [])
    if read(Words).model or read(Words).captioner:
        found += writers.faults()
    return list(dict.fromkeys(filter(None, found)))


def _ports(port: int | None) -> dict[str, int]:
    """The ports of the web chat and the dashboard, free at this moment. Raises CannotStart."""
    web, board = read(Web), read(Dashboard)
    with door(web.host, web.port if port is None else port, "--port") as one:
        found = {"web": one.getsockname()[1]}
        if not _installed("dashboard"):
            return found
        wanted = [board.port]
        if "port" not in board.model_fields_set:
            first = board.port if port is None else found["web"] + 1
            # The last means any that is free.
            wanted = [*range(first, min(first + 20, 65536)), 0]
        for number in wanted:
            try:
                with door(board.host, number, "DRAWQUEUE_DASHBOARD_PORT") as other:
                    return {**found, "dashboard": other.getsockname()[1]}
            except CannotStart:
                if number == wanted[-1]:
                    raise
    return found


def _addresses(host: str, port: int) -> list[str]:
    """Where what listens there is opened: from this machine, then from the network around it."""
    hosts = [host]
    if host in EVERYWHERE:
        hosts = [EVERYWHERE[host]]
        with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as probe:
            # Sends nothing: the system only chooses by which of its addresses it would.
            probe.connect(("192.0.2.1", 9))
            hosts.append(probe.getsockname()[0])
    shown = (f"[{one}]" if ":" in one else one for one in hosts)
    return [f"http://{one}:{port}/" for one in shown]


def _welcome(supervisor: Supervisor, ports: Mapping[str, int]) -> None:
    """Print where to go; what is secret only where nobody but who looks on can read it."""
    web, key = read(Web), read(Web).key.get_secret_value()
    hint = f"?key={quote(key, safe='')}" if key and sys.stdout.isatty() else ""
    for index, address in enumerate(_addresses(web.host, ports["web"])):
        what = "  From network:" if index else "  Chat:        "
        out.print(f"{what} {address}{hint}", style="bold", markup=False)
    if key and not hint:
        place = "the environment" if "DRAWQUEUE_WEB_KEY" in os.environ else ".env"
        out.print(f"  (with ?key= and the value of DRAWQUEUE_WEB_KEY, from {place})")
    if "dashboard" in ports:
        board = read(Dashboard)
        kept = "in DRAWQUEUE_DASHBOARD_PASSWORD"
        if not board.password.get_secret_value():
            kept = f"in {supervisor.home / 'dashboard-password'}"
        for index, address in enumerate(_addresses(board.host, ports["dashboard"])):
            what = "  From network:" if index else "  Operators:   "
            user = "" if index else f"  (user {board.user}, password {kept})"
            out.print(f"{what} {address}{user}", markup=False)
    running = ", ".join(child.name for child in supervisor.children)
    out.print(f"  Running:      {running}", markup=False)
    out.print("  Ctrl-C stops everything.\n")


def _start(supervisor: Supervisor, ports: Mapping[str, int], nonce: str) -> None:
    os.environ["DRAWQUEUE_HOME"] = str(supervisor.home)
    if missing_starter():
        os.environ["DRAWQUEUE_MODEL"] = "pattern"
        out.print(
            "There are no starter weights in this copy: drawing test patterns only. "
            "Set DRAWQUEUE_MODEL to a model's folder or hub id to draw for real.",
            style="yellow",
        )
    if mute := _mute():
        os.environ["DRAWQUEUE_TEXT_MODEL"] = writers.NONE
        out.print(f"Nothing writes. {mute}", style="yellow", markup=False)
    if subprocess.run(python(MODULES["migrate"])).returncode:
        raise CannotStart("The database could not be brought up to date; see the lines above.")
    if not read(Storage).redis_url:
        os.environ["REDIS_URL"] = supervisor.valkey()
    supervisor.add(
        "web", *python(MODULES["web"]), DRAWQUEUE_WEB_PORT=str(ports["web"]), **{NONCE: nonce}
    )
    # Engines of others may have been put on offer by a moderator.
    _know_offers()
    needed = _needed()
    for number, device in enumerate(_devices() if needed["worker"] else ()):
        supervisor.add(f"worker {number + 1}", *_command("worker"), DRAWQUEUE_DEVICE=device)
    if needed["writer"]:
        # Pictures are drawn without it.
        supervisor.add("writer", *_command("writer")).spare = True
    if needed["remote"]:
        supervisor.add("remote", *_command("remote"))
    if "dashboard" in ports:
        supervisor.add(
            "dashboard", *python(MODULES["dashboard"]),
            DRAWQUEUE_DASHBOARD_PORT=str(ports["dashboard"]),
            DRAWQUEUE_DASHBOARD_PASSWORD=_password(supervisor.home),
        )  # fmt: skip
    for part, section in BOTS.items():
        if read(section).token.get_secret_value():
            # A platform that is away now is there again later.
            supervisor.add(f"{part} bot", *python(MODULES[part])).spare = True


def _needed() -> dict[str, bool]:
    """Which workers have something to do, as what is on offer says."""
    drawn, asked = _shared(catalog.every_model().values())
    written, spoken = _shared([*writers.writers().values(), *writers.captioners().values()])
    return {"worker": drawn, "writer": written and not _mute(), "remote": asked or spoken}


def _mute() -> str:
    """Why the small model, which nobody named, does not write on this machine; empty when it
    does."""
    named = read(Words).model or read(Words).captioner
    return "" if named else " ".join(writers.faults())


def _know_offers() -> None:
    """Know what moderators have put on offer, where the database tells."""
    from core.database import AWAY, Database
    from core.registry import Registry

    house = contextlib.closing(Database(read(Storage).database))
    with contextlib.suppress(*AWAY), house as database:
        Registry(database).refresh()


def _shared(models: Iterable[catalog.Model]) -> tuple[bool, bool]:
    """Whether some models are on this machine, and whether some are on others."""
    places = {model.engine in PROVIDERS for model in models}
    return False in places, True in places


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


def _wait_for(address: str, supervisor: Supervisor, nonce: str) -> None:
    """Wait until our own web process answers. Raises CannotStart when a part falls meanwhile."""
    while not supervisor.stopping.is_set():
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=2) as answer:
            if answer.headers["Drawqueue-Nonce"] == nonce:
                return
        for child in supervisor.children:
            fallen = child.process and child.process.poll() not in (None, 0, LEFT_OUT)
            if fallen and not child.spare:
                raise CannotStart(f"{child.name} could not start; see the lines above.")
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
def worker(
    kind: Annotated[
        str,
        typer.Argument(
            help="What it does: draw (on one GPU or the CPU), write (words, on the CPU), or remote "
            "(asks engines on other machines, many at a time)."
        ),
    ] = "draw",
) -> None:
    """Run one worker: one that draws, one that writes, or one that asks other machines."""
    part = next((name for name, does in KINDS.items() if does == kind), "")
    if not part:
        kinds = ", ".join(KINDS.values())
        out.print(f"There is no worker {kind}. There are: {kinds}.", style="red", markup=False)
        raise typer.Exit(2)
    _become(part)


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
    """Check settings, database, Redis, tokens, models, engines and GPU, and say what is wrong."""
    _checked()
    faults = 0

    def told(what: str, fault: str, note: str = "") -> None:
        nonlocal faults
        faults += bool(fault)
        mark = "[red]✗[/]" if fault else "[yellow]–[/]" if note else "[green]✓[/]"
        out.print(f"{mark} {what}{escape(f': {fault or note}' if fault or note else '')}")

    home = read(Storage).home
    told("settings", "")
    told("home", _unwritable("DRAWQUEUE_HOME", home), "" if home.exists() else UP_MAKES_IT)
    told("pictures", _media_fault())
    database = _database()
    told("database", *database)
    if not any(database):
        _know_offers()
    told("Redis", *_redis())
    needed = _needed()
    for part in ("web", *KINDS, "dashboard", "discord", "telegram"):
        if not _installed(part):
            told(part, "", "not installed")
        elif part in BOTS and not read(BOTS[part]).token.get_secret_value():
            told(part, "", f"not set up; {part.upper()}_TOKEN in .env does that")
        elif not needed.get(part, True):
            told(part, "", NEEDLESS[part])
        else:
            told(part, *_asked(part))
    told(*_writing(known=needed["writer"]))
    if read(Remote).stand_ins:
        told("failover", " ".join(catalog.stand_in_faults()))
    from core import costs

    if overlooked := costs.warnings():
        told("prices", "", " ".join(overlooked))
    if read(Drawing).words:
        from core import phrases

        told("phrases", " ".join(phrases.faults()))
    if _installed("worker"):
        looks, note = _safety()
        told(looks, _asked("safety")[0] if read(Safety).classifier else "", note)
    raise typer.Exit(bool(faults))


def _safety() -> tuple[str, str]:
    """What looks at pictures before they are shown, and what is to be known of it."""
    if source := read(Safety).classifier:
        return f"safety: {escape(source)} looks at every picture", ""
    models = catalog.models().values()
    own = [one.name for one in models if catalog.own_check(one.source)]
    rest = [one for one in models if one.name not in own]
    if not rest:
        return f"safety: the safety checker of {escape(', '.join(own))}", ""
    unsure = [one.name for one in rest if one.engine == "diffusers" and not catalog.at_hand(one)]
    unseen = [one.name for one in rest if one.name not in unsure]
    looks = [f"{name} brings its own check" for name in own]
    looks += [f"{name} is checked if it brings a safety checker" for name in unsure]
    looks += [f"nothing looks at what {name} draws" for name in unseen]
    return "safety", f"{'; '.join(looks)}. DRAWQUEUE_CLASSIFIER in .env looks at everything"


def _writing(known: bool) -> tuple[str, str, str]:
    """Which models write and tell what a picture shows, what is wrong with them where that is not
    `known` yet, and what is to be known of them."""
    mute = _mute()
    writing = [] if mute else [f"{name} writes" for name in writers.writers()]
    describing = [f"{name} describes pictures" for name in writers.captioners()]
    notes = []
    if not writing:
        notes.append(mute or "nothing writes; DRAWQUEUE_TEXT_MODEL in .env names what does")
    if not describing:
        notes.append("nothing describes pictures; DRAWQUEUE_CAPTIONER in .env names what does")
    what = ", ".join([*writing, *describing])
    faults = [] if known or mute else writers.faults()
    return f"words: {escape(what)}" if what else "words", " ".join(faults), "; ".join(notes)


def _asked(part: str) -> tuple[str, str]:
    """What a part finds wrong with itself, and what is to be known of it, in words."""
    answer = subprocess.run([*_command(part), "--check"], capture_output=True, text=True)
    if answer.returncode == 0:
        return "", "; ".join(answer.stdout.strip().splitlines())
    said = (answer.stdout + answer.stderr).strip().splitlines()
    words = " ".join(line.removeprefix(f"{part}: ") for line in said)
    return words or "it does not start", ""


def _unwritable(setting: str, folder: Path) -> str:
    """Why nothing can be written into a folder, or it cannot be made; leaves no trace."""
    try:
        there = next(one for one in (folder.resolve(), *folder.resolve().parents) if one.exists())
        if not there.is_dir():
            return f"{setting}: {there} is a file and no folder; name another one."
        with tempfile.TemporaryDirectory(prefix=".drawqueue-", dir=there) as made:
            (Path(made) / "written").write_bytes(b"x")
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return f"{setting}: the disk of {folder} is full."
        return f"{setting}: this user cannot write to {folder}; name another folder."
    return ""


def _media_fault() -> str:
    """Why no picture can be kept, in words; empty when one can."""
    from core.media import Media

    setting, url = "DRAWQUEUE_MEDIA_URL", read(Storage).media
    if "://" not in url or url.startswith("file://"):
        return _unwritable(setting, Path(url.removeprefix("file://")))
    try:
        media = Media(url)
        media.delete(media.save(0, "written", b"x"))
    except ImportError:
        return f"{setting}: its library is not installed; for s3: pip install 'drawqueue[s3]'."
    except Exception as error:  # Whatever the storage's library calls it.
        return f"{setting}: nothing can be written there ({type(error).__name__})."
    return ""


def _database() -> tuple[str, str]:
    """What is wrong with the database, and what is to be known of it."""
    from sqlalchemy import inspect, make_url
    from sqlalchemy.exc import SQLAlchemyError

    from core.database import Database, unusable

    try:
        url = make_url(read(Storage).database)
        if url.drivername.startswith("sqlite"):
            file = Path(url.database or "")
            if not file.exists():
                return _unwritable("DATABASE_URL", file.parent), UP_MAKES_IT
        else:
            url = url.update_query_dict({"connect_timeout": "5"})
        database = Database(url.render_as_string(hide_password=False))
        with contextlib.closing(database), database.read() as connection:
            if not inspect(connection).has_table("generations"):
                return "", "no tables yet; `drawqueue migrate` (or `drawqueue up`) makes them"
    except (SQLAlchemyError, ModuleNotFoundError, ValueError, OSError) as error:
        return unusable(error), ""
    return "", ""


def _redis() -> tuple[str, str]:
    """What is wrong with Redis, and what is to be known of it."""
    from redis import Redis
    from redis.exceptions import RedisError

    try:
        Redis.from_url(read(Storage).redis, socket_connect_timeout=5, socket_timeout=5).ping()
    except (RedisError, ValueError):
        if not read(Storage).redis_url:
            return "", "the embedded one runs only while `drawqueue up` does"
        return "Redis cannot be reached; check REDIS_URL.", ""
    return "", ""


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
    faults = declared.faults()
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


def main() -> None:
    """The entry point of `drawqueue`."""
    app()


if __name__ == "__main__":
    main()
