"""Engines on other machines: many at a time on one worker process, and its memory meanwhile.

`python -m benchmarks.remote` asks a loopback Pollinations, whose every picture takes a second, for
200 of them, 50 at once; then for 100 pictures of 8 MB each, and looks at the worker's memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from aiohttp import web

from core import settings
from core.catalog import models, settle
from core.house import House, open_house
from core.lifecycle import State
from core.options import Options
from core.people import Asker
from tests.conftest import ROOT
from tests.servers.remote import picture
from tests.servers.remote_pollinations import PollinationsServer

JOBS, AT_ONCE, SECONDS = 200, 50, 1.0
LARGE, LARGE_SIDE = 100, 1664


class Far(PollinationsServer):
    """Answers after a second, or with a large picture of noise."""

    # One picture for all: what it takes to make them is not the worker's.
    small, large = picture("", (64, 64), "JPEG"), b""
    first = last = 0.0

    async def _draw(self, request: web.Request) -> web.Response:
        self.first = self.first or time.monotonic() - self.seconds
        self.last = time.monotonic()
        if self.large:
            return web.Response(body=self.large, content_type="image/png")
        return web.Response(body=self.small, content_type="image/jpeg")


def ask(house: House, number: int) -> list[int]:
    """Put so many requests of ten people in line."""
    made = []
    for index in range(number):
        who = Asker("web", f"u{index % 10}")
        request = settle(Options(prompt=f"a lighthouse {index}", width=256, height=256), index)
        made.append(house.generations.submit(request, who, f"e{time.time()}-{index}", {}).id)
    return made


def over(house: House) -> bool:
    """Whether nothing is pending any more."""
    return not house.generations.counts()


def busy(pid: int) -> float:
    """Seconds of a core that a process has used."""
    found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(found[11]) + int(found[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    """Resident megabytes of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, Far() as server:
        os.environ |= server.settings() | {
            "DRAWQUEUE_HOME": folder, "DRAWQUEUE_MODEL": "pollinations:flux",
            "DRAWQUEUE_TEXT_MODEL": "none", "DRAWQUEUE_REUSE": "0",
            "DRAWQUEUE_REMOTE_LIMITS": f"pollinations={AT_ONCE}",
        }  # fmt: skip
        settings._read.cache_clear()
        models.cache_clear()
        from core.supervisor import Supervisor

        supervisor = Supervisor(Path(folder))
        os.environ["REDIS_URL"] = supervisor.valkey()
        settings._read.cache_clear()
        subprocess.run([sys.executable, "-m", "migrations"], cwd=ROOT, check=True)
        house = open_house()
        worker = subprocess.Popen([sys.executable, "-m", "worker", "remote"], cwd=ROOT)
        try:
            _speed(house, server, worker.pid)
            if "--speed" not in sys.argv:
                _large(house, server, worker.pid)
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(20)
            supervisor.stopping.set()


def _speed(house: House, server: Far, worker: int) -> None:
    while not house.queue.line("pollinations").workers():
        time.sleep(0.1)
    server.seconds = SECONDS
    house.queue.redis.set("rq:suspended", 1)
    made = ask(house, JOBS)
    server.first = 0.0
    time.sleep(3)
    begun, worked = time.monotonic(), busy(worker)
    house.queue.redis.delete("rq:suspended")
    while not over(house):
        # Seldom: the server is in this process.
        time.sleep(0.1)
    # RQ looks once a second whether it may begin: that is not counted.
    took = time.monotonic() - server.first
    done = sum(house.generations.get(one).state == State.DONE for one in made)
    ideal = JOBS / AT_ONCE * SECONDS
    print(f"{done} of {JOBS} done in {took:.2f} s,"
          f" {took / ideal:.2f} times the ideal {ideal:.0f} s;"
          f" the first was asked {server.first - begun:.2f} s after they might begin,"
          f" the last answered after {server.last - begun:.2f} s;"
          f" at most {server.most_at_once} at once;"
          f" {1000 * (busy(worker) - worked) / JOBS:.0f} ms of a core a picture")  # fmt: skip


def _large(house: House, server: Far, worker: int) -> None:
    import io

    from PIL import Image

    noise = io.BytesIO()
    side = LARGE_SIDE
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(noise, "PNG")
    server.large, server.seconds = noise.getvalue(), 0.2
    before = memory(worker)
    most, stop = [before], threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            most.append(memory(worker))

    threading.Thread(target=watch, daemon=True).start()
    ask(house, LARGE)
    begun = time.monotonic()
    while not over(house):
        time.sleep(0.05)
    stop.set()
    half = most[len(most) // 2 :]
    print(f"{LARGE} pictures of {len(server.large) / 1e6:.1f} MB in {time.monotonic() - begun:.0f}"
          f" s: the worker had {before:.0f} MB before, {max(most):.0f} MB at most, and in the"
          f" second half {min(half):.0f} to {max(half):.0f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
