"""`python -m benchmarks.main_job`: the whole web chat measured; figures as JSON on the last line.

Images a minute of the worker, through queue, database and storage, over those of a bare diffusers
loop of the same pipeline in the same run; and the time from submitting to the first visible
answer at 1, 10 and 100 at once.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from core.catalog import STARTER
from tests.conftest import Running, running

PICTURES = 20
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
begun = time.perf_counter()
for seed in range(int(sys.argv[2])): draw(seed)
print(time.perf_counter() - begun)
"""


def bare() -> float:
    """Seconds of a bare loop over the pictures, the pipeline warm."""
    done = subprocess.run(
        [sys.executable, "-c", BARE, MODEL, str(PICTURES)], capture_output=True, check=True
    )
    return float(done.stdout)


def queued(drawqueue: Running) -> float:
    """Seconds from the first drawing's start to the last one's end, all of them queued before."""
    begun = time.perf_counter()
    ids = [
        drawqueue.client.post(
            "/api/jobs", json={"prompt": "a red crown", "parameters": {"seed": seed}}
        ).json()["id"]
        for seed in range(PICTURES)
    ]
    while drawqueue.client.get(f"/api/jobs/{ids[-1]}").json()["status"] != "done":
        time.sleep(0.2)
    return time.perf_counter() - begun


def acknowledged(drawqueue: Running, at_once: int) -> dict[str, float]:
    """Milliseconds until the queued card is answered, for this many submits at once."""

    def one(_number: int) -> float:
        begun = time.perf_counter()
        with httpx.Client(base_url=drawqueue.address, timeout=60) as client:
            client.post("/api/chat", json={"text": "a fox"}).raise_for_status()
        return (time.perf_counter() - begun) * 1000

    with ThreadPoolExecutor(at_once) as pool:
        taken = sorted(pool.map(one, range(max(20, at_once))))
    return {"p50": statistics.median(taken), "p99": taken[int(len(taken) * 0.99) - 1]}


def main() -> None:
    """Measure, and print one line of JSON."""
    with tempfile.TemporaryDirectory() as folder:
        with running(Path(folder) / "home", DRAWQUEUE_MODEL=MODEL) as drawqueue:
            first = drawqueue.client.post("/api/jobs", json={"prompt": "a red crown"}).json()["id"]
            begun = time.perf_counter()
            drawqueue.until(first, "done")
            to_picture = time.perf_counter() - begun
            with_queue = queued(drawqueue)
            ready = drawqueue.log.read_text()
        without = bare()
        with running(Path(folder) / "quick", DRAWQUEUE_MODEL="pattern") as drawqueue:
            answers = {n: acknowledged(drawqueue, n) for n in (1, 10, 100)}
    figures = {
        "start": next(line for line in ready.splitlines() if "ready after" in line),
        "first_picture_seconds_model_loading_included": round(to_picture, 2),
        "images_per_minute": round(PICTURES / with_queue * 60, 1),
        "bare_images_per_minute": round(PICTURES / without * 60, 1),
        "ratio": round(without / with_queue, 3),
        "answer_ms": {n: {k: round(v, 1) for k, v in told.items()} for n, told in answers.items()},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
