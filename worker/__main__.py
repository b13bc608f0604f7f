"""The worker: an RQ worker that knows no torch and keeps one engine process warm.

Run as `python -m worker`, one process a GPU (`DRAWQUEUE_DEVICE=cuda:1` for the second).
"""

import argparse
import contextlib
import importlib.util
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
from types import FrameType
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rich.logging import RichHandler
from rich.progress import Progress
from rq import SimpleWorker
from rq.exceptions import InvalidJobOperation
from rq.job import Job
from rq.queue import Queue

from bots.poster import run_in_thread
from core import forgetting
from core.catalog import Model, faults, models
from core.database import AWAY
from core.engine import EngineError
from core.fair import FairQueue
from core.house import House, open_house
from core.keeping import keep_house
from core.settings import Drawing, Storage, read
from worker.finishing import Finisher
from worker.tasks import ALLOWED, DrawingFailed, Studio
from worker.warm import WarmEngine

log = logging.getLogger("drawqueue")

SWEEP_SECONDS = 3
# So soon after Redis was emptied cards know again that there are workers.
PRESENT_SECONDS = 1.0
# A worker that waits for a job says so again within these.
IDLE_SECONDS = 2.0
# Docker and `drawqueue up` kill what has not ended 10 s after SIGTERM.
LEAVE_SECONDS = 6.0
DRAIN_SECONDS = 3.0
# How torch is asked for its devices of a kind.
COUNTED = {
    "cuda": "torch.cuda.device_count()",
    "mps": "int(torch.backends.mps.is_available())",
}


class DrawingWorker(SimpleWorker):
    """Runs tasks in this process while the engine draws in its own."""

    def kill_horse(self, sig: Any = None) -> None:
        """RQ's stop-job and kill commands: stop at the next denoising step."""
        Studio.stop_requested = True

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """SIGTERM: the drawing under way may end in a while, or else is put back in front."""
        leave = threading.Timer(LEAVE_SECONDS, _leave)
        leave.daemon = True
        leave.start()
        super().request_stop(signum, frame)

    def perform_job(self, job: Job, queue: Queue) -> bool:
        if job.func_name not in ALLOWED:
            log.error("refused to run %s: not on the list", job.func_name)
            job._func_name = "worker.__main__.refused"
        return super().perform_job(job, queue)


class WarmLine(FairQueue):
    """The line as a worker takes from it: what its loaded models draw may come first.

    What an idle worker has the models for is left to that one.
    """

    left = ""

    @classmethod
    def lmove(
        cls, connection: Redis, queue_key: str, timeout: int | None
    ) -> tuple[str, bytes] | None:
        line, patience = Studio.house.queue.draw.rq, read(Drawing).swap_patience
        found: tuple[str, bytes] | None
        # With one model there is nothing to choose.
        if len(models()) < 2 or not patience:
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


def _leave() -> None:
    Studio.leaving.set()
    # A step may take longer than there is time for.
    Studio.engine.end()


def refused(*_args: Any, **_kwargs: Any) -> None:
    """What runs in place of a function that is not on the list."""
    raise InvalidJobOperation("This function may not be run.")


def _warm_up(engine: WarmEngine, model: Model) -> None:
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


def _be_present(house: House, name: str, stopped: threading.Event) -> None:
    while True:
        with contextlib.suppress(RedisError):
            house.queue.draw.present(name, Studio.engine.held)
        if stopped.wait(PRESENT_SECONDS):
            return


def check() -> list[str]:
    """What is wrong with this machine as a worker, in words; empty when all is well."""
    if found := faults():
        return found
    if any(model.engine == "diffusers" for model in models().values()) and not (
        importlib.util.find_spec("torch") and importlib.util.find_spec("diffusers")
    ):
        return ["torch and diffusers are not installed: pip install 'drawqueue[draw]'."]
    return []


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
    parser.add_argument("--check", action="store_true")
    checking = parser.parse_args().check
    handlers = None if checking else [RichHandler(show_path=False)]
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers)
    found = check()
    if checking and (fault := _device_fault()):
        found.append(fault)
    for fault in found:
        log.error("%s", fault)
    if checking or found:
        return bool(found)
    settings = read(Drawing)
    house = open_house()
    Studio.house = house
    Studio.engine = WarmEngine(settings.device, settings.threads, settings.model_memory_gb)
    Studio.finisher = Finisher(house)
    stopped = threading.Event()
    threading.Thread(target=_sweep_forever, args=(house, stopped), daemon=True).start()

    house.queue.draw.worker = f"{socket.gethostname()}-{settings.device or 'first'}"
    # RQ refuses a name until an earlier worker's key of that name has expired.
    name = f"{house.queue.draw.worker}-{os.getpid()}-{secrets.token_hex(3)}"
    Studio.worker = name
    # One that loads its model is as good as on line.
    threading.Thread(target=_be_present, args=(house, name, stopped), daemon=True).start()
    run_in_thread(house)
    with contextlib.suppress(*AWAY):
        house.registry.refresh()
    house.registry.follow(looking=True, stopped=stopped)
    _warm_up(Studio.engine, next(iter(models().values())))
    worker = DrawingWorker(
        [house.queue.draw.rq.name],
        name=name,
        connection=house.queue.redis,
        serializer=house.queue.draw.rq.serializer,
        queue_class=WarmLine,
        worker_ttl=20,
        maintenance_interval=3600,
        job_monitoring_interval=5,
    )
    worker.log.setLevel(logging.WARNING)
    # A drawing that failed was told to its asker; RQ need not print where.
    worker.log.addFilter(lambda record: DrawingFailed.__name__ not in record.getMessage())
    try:
        worker.work(logging_level="WARNING")
    finally:
        stopped.set()
        with contextlib.suppress(RedisError):
            house.queue.draw.absent(name)
        Studio.engine.kill()
        if not Studio.finisher.drain(DRAIN_SECONDS):
            log.warning("a drawing could not be kept in time; it will be drawn again")
    return 0


if __name__ == "__main__":
    sys.exit(main())
