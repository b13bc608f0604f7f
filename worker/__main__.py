"""The worker: an RQ worker that knows no torch and keeps one engine process warm.

Run as `python -m worker`, one process a GPU (`DRAWQUEUE_DEVICE=cuda:1` for the second);
`python -m worker write` keeps what writes warm, and `python -m worker remote` asks engines on other
machines, many at a time.
"""

import argparse
import contextlib
import importlib.util
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import RedisError
from rich.logging import RichHandler
from rich.progress import Progress

from bots.poster import run_in_thread
from core import forgetting, writers
from core.catalog import Model, every_model, faults, models, stand_in_faults
from core.database import AWAY
from core.engine import EngineError
from core.fair import FairQueue
from core.house import House, open_house
from core.keeping import keep_house
from core.providers import PROVIDERS, limits, unset
from core.queue import DRAW, OURS, WRITE, Line
from core.settings import LOOPBACK, Drawing, Storage, Web, Words, read
from worker.finishing import Finisher
from worker.hands import LEAVE_SECONDS, Hand, Hands
from worker.tasks import Studio
from worker.warm import WarmEngine

log = logging.getLogger("drawqueue")

SWEEP_SECONDS = 3
# So soon after Redis was emptied cards know again that there are workers.
PRESENT_SECONDS = 1.0
# A worker that waits for a job says so again within these.
IDLE_SECONDS = 2.0
# The worker that asks engines on other machines, beside those of the house's own lines.
REMOTE = "remote"
DRAIN_SECONDS = 3.0
# What asks other machines, as extras name it.
ASKING = ("httpx2", "limits", "pybreaker", "tenacity", "websockets")
# How long a server at home is waited for that is only asked whether it is there.
KNOCK_SECONDS = 3.0
# How torch is asked for its devices of a kind.
COUNTED = {
    "cuda": "torch.cuda.device_count()",
    "mps": "int(torch.backends.mps.is_available())",
}


class WarmLine(FairQueue):
    """The line as a worker takes from it: what its loaded models draw may come first.

    What an idle worker has the models for is left to that one.
    """

    left = ""

    @classmethod
    def lmove(
        cls, connection: Redis, queue_key: str, timeout: int | None
    ) -> tuple[str, bytes] | None:
        patience = read(Drawing).swap_patience
        line = Studio.house.queue.draw.rq
        found: tuple[str, bytes] | None
        # With one model there is nothing to choose.
        if len(models()) < 2 or not patience or not queue_key.endswith(f":{DRAW}"):
            found = super().lmove(connection, queue_key, timeout)
            return found
        if taken := line.take(Studio.engine.held, patience):
            return queue_key, taken
        while True:
            line.idle(Studio.worker, Studio.engine.held, (timeout or 0) + IDLE_SECONDS)
            try:
                found = super().lmove(connection, queue_key, timeout)
            finally:
                line.busy(Studio.worker)
            if not found:
                return found
            name = found[1].decode()
            (claim,) = line.claims([name])
            # Once: who idled may be gone.
            if claim.model in Studio.engine.held or cls.left == name:
                return found
            if not line.hand_over(name, Studio.worker):
                return found
            cls.left = name


def _warm_up(engine: WarmEngine, model: Model | None = None) -> None:
    if model is None:
        return
    with Progress(transient=True) as bar:
        task = bar.add_task(f"Loading {model.name}", total=1.0)
        try:
            engine.load(model, lambda _name, share: bar.update(task, completed=share))
        except EngineError as error:
            # The worker lives: another model may load, and cards will say what is wrong.
            log.error("%s", error)
        else:
            log.info("%s is loaded", model.name)


def _sweep_forever(house: House, stopped: threading.Event) -> None:
    while not stopped.wait(SWEEP_SECONDS):
        try:
            house.mending.sweep()
            forgetting.sweep(house)
            keep_house(house, read(Storage).keep_days)
        except Exception as error:  # The next round tries again, whatever was away.
            log.warning("sweep: %s", type(error).__name__)


def _be_present(lines: Mapping[Line, int], name: str, stopped: threading.Event) -> None:
    while True:
        with contextlib.suppress(RedisError):
            for line, places in list(lines.items()):
                line.present(name, Studio.engine.held if line.name in OURS else (), places)
        if stopped.wait(PRESENT_SECONDS):
            return


def check(kind: str = DRAW) -> list[str]:
    """What is wrong with this machine as a worker, in words; empty when all is well."""
    if kind == WRITE:
        return writers.faults()
    if kind == REMOTE:
        if not all(map(importlib.util.find_spec, ASKING)):
            return ["What asks other machines is not installed: pip install 'drawqueue[remote]'."]
        return list(filter(None, map(unset, _engines())))
    if found := faults(everywhere=False):
        return found
    here = any(model.engine == "diffusers" for model in models().values())
    if here and not (importlib.util.find_spec("torch") and importlib.util.find_spec("diffusers")):
        return ["torch and diffusers are not installed: pip install 'drawqueue[draw]'."]
    return []


def notes(kind: str = DRAW) -> list[str]:
    """What is to be known of this machine as a worker where nothing is wrong, in words."""
    found: list[str] = []
    for name in _engines() if kind == REMOTE else ():
        if PROVIDERS[name].tells:
            found += _heard(PROVIDERS[name].title)
        if not PROVIDERS[name].home:
            continue
        from worker import engines

        engine: Any = engines.remote(name)
        end = time.monotonic() + KNOCK_SECONDS
        found += engine.away(lambda _share, _words="", end=end: time.monotonic() < end)
        engine.close()
    return found


def _heard(title: str) -> list[str]:
    """What is to be known of how an engine sends word when it is done."""
    public = read(Web).public_url
    if not public:
        return [f"{title} is asked now and then: DRAWQUEUE_PUBLIC_URL would let it send word"]
    if urlsplit(public).hostname in LOOPBACK:
        return [f"{title} is asked now and then: from elsewhere nobody reaches {public}"]
    if not public.startswith("https://"):
        return [f"{title} sends word to {public}, which others can read on the way: take https"]
    return []


def _engines() -> list[str]:
    """The engines on other machines that something on offer needs."""
    return sorted({one.engine for one in _every() if one.engine in PROVIDERS})


def _left(house: House) -> list[str]:
    """The engines in whose lines somebody waits still, though nothing on offer needs them."""
    with contextlib.suppress(RedisError):
        return [one.name for one in house.queue.lines() if one.name in PROVIDERS and one.length()]
    return []


def _written() -> dict[str, Model]:
    return {**writers.writers(), **writers.captioners()}


def _device_fault() -> str:
    """Why this machine has no such device, in words; empty when it has."""
    device = read(Drawing).device
    kind, _, number = device.partition(":")
    if kind not in COUNTED or not importlib.util.find_spec("torch"):
        return ""
    # Asked in a process of its own: this one knows no torch.
    ask = f"import torch; print({COUNTED[kind]})"
    told = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    there = int(told.stdout or 0)
    if int(number or 0) < there:
        return ""
    there_are = f"; there are {there}, counted from 0" if there else ""
    return (
        f"DRAWQUEUE_DEVICE: torch finds no {device} on this machine{there_are}. "
        "Left empty, the setting takes what there is."
    )


def main() -> int:
    """Start the worker; `--check` only says what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", nargs="?", default=DRAW, choices=(DRAW, WRITE, REMOTE))
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    kind, checking = given.kind, given.check
    handlers = None if checking else [RichHandler(show_path=False)]
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers)
    # It tells of each call, with its address and so the prompt.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    found = check(kind)
    if checking and kind == DRAW and (fault := _device_fault()):
        found.append(fault)
    for fault in found:
        log.error("%s", fault)
    if checking and not found:
        # Told apart from what is logged.
        print(*notes(kind), sep="\n", end="")
    if checking or found:
        return bool(found)
    house = open_house()
    settings, device = read(Drawing), read(Drawing).device
    if kind == WRITE:
        device = read(Words).device or "cpu"
    Studio.house = house
    Studio.engine = WarmEngine(device, settings.threads, settings.model_memory_gb)
    Studio.finisher = Finisher(house)
    stopped = threading.Event()
    threading.Thread(target=_sweep_forever, args=(house, stopped), daemon=True).start()

    machine = f"{socket.gethostname()}-{device or 'first'}"
    # RQ refuses a name until an earlier worker's key of that name has expired.
    name = Studio.worker = f"{machine}-{os.getpid()}-{secrets.token_hex(3)}"
    if kind == REMOTE:
        lines = {house.queue.line(one): limits(one).at_once for one in _engines()}
    else:
        line = house.queue.line(kind)
        line.worker = machine
        lines = {line: 1}
    # One that loads its model is as good as on line.
    threading.Thread(target=_be_present, args=(lines, name, stopped), daemon=True).start()
    run_in_thread(house)
    with contextlib.suppress(*AWAY):
        house.registry.refresh()
    for fault in stand_in_faults():
        log.warning("%s", fault)
    house.registry.follow(looking=kind == DRAW, stopped=stopped)
    try:
        if kind == REMOTE:
            _ask_others(house, lines, name)
        else:
            if kind == DRAW:
                _warm_up(Studio.engine, *_local(models())[:1])
            Hand([line.rq.name], name=name, queue_class=WarmLine, **_of(house)).work(
                logging_level="WARNING"
            )
    finally:
        stopped.set()
        with contextlib.suppress(RedisError):
            for line in lines:
                line.absent(name)
        Studio.engine.kill()
        if not Studio.finisher.drain(DRAIN_SECONDS):
            log.warning("a drawing could not be kept in time; it will be drawn again")
    return 0


def _local(found: Mapping[str, Model]) -> list[Model]:
    return [one for one in found.values() if one.engine not in PROVIDERS]


def _every() -> list[Model]:
    """All models that draw, write or describe."""
    return [*every_model().values(), *_written().values()]


def _of(house: House) -> dict[str, Any]:
    """What every worker of RQ's is given here."""
    return {"connection": house.queue.redis, "serializer": house.queue.draw.rq.serializer}


def _ask_others(house: House, lines: dict[Line, int], name: str) -> None:
    """Work on the lines of other machines' engines, each in threads of its own, until told to
    stop; engines that a moderator puts on offer meanwhile are among them."""
    from worker.remote import Branch

    branch = Studio.branch = Branch(house)
    hands: list[Hands] = []
    threads: list[threading.Thread] = []

    def ask(line: Line) -> None:
        # The first to ask need not wait for libraries.
        branch.ready(line.name)
        hand = Hands([line.rq.name], name=f"{name}-{line.name}", queue_class=FairQueue,
                     places=lines[line], **_of(house))  # fmt: skip
        hands.append(hand)
        threads.append(
            threading.Thread(target=hand.work, kwargs={"logging_level": "WARNING"}, daemon=True)
        )
        threads[-1].start()
        log.info("asking %s", line.name)

    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    for line in list(lines):
        ask(line)
    # A line that nobody works on any more is for the next process, and all others with it.
    while not over.wait(1.0) and all(one.is_alive() for one in threads):
        for engine in (*_engines(), *_left(house)):
            line = house.queue.line(engine)
            if line not in lines and not unset(engine):
                lines[line] = limits(engine).at_once
                ask(line)
    for hand in hands:
        hand.leave()
    # What is under way may end, or else is put back.
    leave = threading.Timer(LEAVE_SECONDS, Studio.leaving.set)
    leave.daemon = True
    leave.start()
    for thread in threads:
        thread.join()
    for hand in hands:
        hand.drain()
    leave.cancel()
    Studio.branch.close()


if __name__ == "__main__":
    sys.exit(main())
