"""`python -m benchmarks.main_job`: the whole web chat measured; figures as JSON on the last line.

Images a minute of the worker, through queue, database and storage, over those of a bare diffusers
loop of the same pipeline in the same run; and the time from submitting to the first visible
answer at 1, 10 and 100 at once.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import httpx
from sqlalchemy import select

from core.catalog import STARTER
from core.database import generations
from tests.conftest import Running, running

PICTURES, ROUNDS = 20, 5
MODEL = os.environ.get("DRAWQUEUE_MODEL") or str(STARTER)
BARE = """
import json, sys, time, torch
from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler
torch.set_num_threads(1)
pipe = DiffusionPipeline.from_pretrained(sys.argv[1], dtype=torch.float32)
pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
pipe.set_progress_bar_config(disable=True)
def draw(seed):
    pipe("a red crown", num_inference_steps=20, guidance_scale=5.0,
         generator=torch.Generator().manual_seed(seed))
draw(0)
print("ready", flush=True)
for line in sys.stdin:
    begun = time.perf_counter()
    for seed in range(int(line)): draw(seed)
    print(time.perf_counter() - begun, flush=True)
"""


@contextlib.contextmanager
def bare() -> Iterator[Callable[[], float]]:
    """A bare loop over the pictures, its pipeline warm: each call answers its seconds."""
    process = subprocess.Popen(
        [sys.executable, "-c", BARE, MODEL],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin and process.stdout
    told, said = process.stdin, process.stdout
    said.readline()

    def drawn() -> float:
        told.write(f"{PICTURES}\n")
        told.flush()
        return float(said.readline())

    yield drawn
    told.close()
    process.wait()


def queued(drawqueue: Running) -> float:
    """Seconds from one picture's end to the end of as many after it, all of them queued before."""
    ids = [
        drawqueue.client.post(
            "/api/jobs", json={"prompt": "a red crown", "parameters": {"seed": seed}}
        ).json()["id"]
        for seed in range(PICTURES + 1)
    ]
    drawqueue.until(ids[-1], "done", seconds=600)
    with drawqueue.database() as database, database.read() as connection:
        ended = connection.execute(
            select(generations.c.ended).where(generations.c.id.in_((ids[0], ids[-1])))
        ).scalars()
        first, last = sorted(filter(None, ended))
    return float((last - first).total_seconds())


def acknowledged(drawqueue: Running, at_once: int) -> dict[str, float]:
    """Milliseconds until the queued card is answered, for this many submits at once."""

    def one(_number: int) -> float:
        begun = time.perf_counter()
        with httpx.Client(base_url=drawqueue.address, timeout=60) as client:
            client.post("/api/chat", json={"text": "a fox"}).raise_for_status()
        return (time.perf_counter() - begun) * 1000

    with ThreadPoolExecutor(at_once) as pool:
        taken = sorted(pool.map(one, range(max(20, at_once))))
    return {"p50": median(taken), "p99": taken[int(len(taken) * 0.99) - 1]}


def main() -> None:
    """Measure, and print one line of JSON."""
    with tempfile.TemporaryDirectory() as folder:
        with running(Path(folder) / "home", DRAWQUEUE_MODEL=MODEL) as drawqueue:
            first = drawqueue.client.post("/api/jobs", json={"prompt": "a red crown"}).json()["id"]
            begun = time.perf_counter()
            drawqueue.until(first, "done")
            to_picture = time.perf_counter() - begun
            ready = drawqueue.log.read_text()
            with bare() as loop:
                # In turn, so that a machine that has other things to do hits both alike.
                rounds = [(queued(drawqueue), loop()) for _ in range(ROUNDS)]
        with running(Path(folder) / "quick", DRAWQUEUE_MODEL="pattern") as drawqueue:
            answers = {n: acknowledged(drawqueue, n) for n in (1, 10, 100)}
    figures = {
        "start": next(line for line in ready.splitlines() if "ready after" in line),
        "first_picture_seconds_model_loading_included": round(to_picture, 2),
        "images_per_minute": round(PICTURES / median(mine for mine, _ in rounds) * 60, 1),
        "bare_images_per_minute": round(PICTURES / median(bare for _, bare in rounds) * 60, 1),
        "ratio": round(median(bare / mine for mine, bare in rounds), 3),
        "ratios": [round(bare / mine, 3) for mine, bare in rounds],
        "answer_ms": {n: {k: round(v, 1) for k, v in told.items()} for n, told in answers.items()},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
