"""`python -m benchmarks.swaps`: two models asked for alternately where memory holds one.

Figures as JSON on the last line. Real: 24 drawings of two small diffusers models, their order
from the real line and worker, with and without preference for the loaded one: swaps and seconds.
Simulated: the real line at a load that swapping in turn cannot keep up with (drawings of 4 s,
20 s to load a model), 200 drawings of 12 people: swaps, seconds in all, the mean and longest wait.
"""

import json
import random
import statistics
import tempfile
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.fairness import line_at, valkey
from core.catalog import STARTER
from core.fair import Claim
from tests.conftest import running
from tests.worker.test_swapping import FOR_ONE_GB, twin

NUMBER = 24
PATIENCE = 60.0
DRAWING, LOADING = 4.0, 20.0


def real(folder: Path, patience: float) -> dict[str, float]:
    """Swaps, and seconds from the first to the last of the drawings."""
    home = folder / f"home{patience:.0f}"
    with running(
        home,
        DRAWQUEUE_MODEL=f"{STARTER},{folder / 'twin'}",
        DRAWQUEUE_MODEL_MEMORY_GB=f"{FOR_ONE_GB}",
        DRAWQUEUE_SWAP_PATIENCE=f"{patience}",
        DRAWQUEUE_REUSE="0",
    ) as house:

        def ask(model: str, steps: int) -> int:
            given = {"model": model, "steps": steps, "width": 128, "height": 128}
            told = house.client.post("/api/jobs", json={"prompt": "a crown", "parameters": given})
            return int(told.json()["id"])

        # Both are measured once, and the line fills while the last of these is drawn.
        for model in ("starter", "twin", "starter"):
            house.until(ask(model, 6), "done")
        first = ask("starter", 60)
        house.until(first, "generating")
        asked = [ask(("twin", "starter")[number % 2], 6) for number in range(NUMBER)]
        begun = house.until(first, "done")["ended"]
        over = [house.until(one, "done", seconds=300) for one in asked]
        order = [one["parameters"]["model"] for one in sorted(over, key=lambda one: one["ended"])]
        return {"swaps": swaps(["starter", *order]), "seconds": since(begun, over)}


def swaps(order: list[str]) -> int:
    """How often the model changes."""
    return sum(one != other for one, other in pairwise(order))


def since(begun: str, over: list[dict[str, Any]]) -> float:
    """Seconds from a moment to the last end."""
    last = max(datetime.fromisoformat(one["ended"]) for one in over)
    return round((last - datetime.fromisoformat(begun)).total_seconds(), 1)


def simulated(url: str, patience: float) -> dict[str, float]:
    """One worker in virtual time, drawings asked for every six seconds."""
    line, rng = line_at(url), random.Random(4)
    moment, loaded = 1e9, "a"
    arrivals = []
    at = moment
    for number in range(200):
        arrivals.append((at, f"{number}", rng.choice("ab"), f"u{rng.randrange(12)}"))
        at += rng.expovariate(1 / 6)
    asked = {name: (when, model) for when, name, model, _user in arrivals}
    waits: list[float] = []
    changed = 0
    while len(waits) < 200:
        while arrivals and (arrivals[0][0] <= moment or not line.count):
            when, name, model, user = arrivals.pop(0)
            moment = max(moment, when)
            line.announce(name, Claim(user, DRAWING, model=model))
            line.push_job_id(name)
        found = line.take([loaded], patience, moment) or line.connection.lpop(line.key)
        name = found.decode()
        if asked[name][1] != loaded:
            changed += 1
            moment += LOADING
        loaded = asked[name][1]
        moment += DRAWING
        waits.append(moment - asked[name][0])
        line.settle(name, DRAWING)
    return {
        "swaps": changed,
        "seconds": round(moment - 1e9),
        "mean_wait": round(statistics.mean(waits), 1),
        "longest_wait": round(max(waits), 1),
    }


def main() -> None:
    """Measure, and print one line of JSON."""
    figures: dict[str, Any] = {}
    with valkey() as url, tempfile.TemporaryDirectory() as folder:
        twin(str(STARTER), Path(folder) / "twin")
        for name, patience in (("plain", 0.0), ("preferred", PATIENCE)):
            figures[name] = {
                "real": real(Path(folder), patience), "simulated": simulated(url, patience)
            }  # fmt: skip
    for kind in ("real", "simulated"):
        plain, preferred = figures["plain"][kind], figures["preferred"][kind]
        figures[f"{kind}_speedup"] = round(plain["seconds"] / preferred["seconds"], 2)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
