"""`python -m benchmarks.previews`: what previews cost a drawing; figures as JSON on the last line.

Of one drawing of some seconds, one picture and four: the processor's seconds that went into
previews, encoded, over all the others. That is one run's own ratio: two runs, one with and one
without, differ by more on a machine that others use. The exit status tells whether it is too much.
"""

import json
import os
import sys
import time
from dataclasses import replace
from statistics import median
from typing import Any

from core import catalog
from core.options import validate
from worker.engines.local import LocalDiffusers
from worker.previews import Latents, encoded

ROUNDS, MOST = 3, 0.03
SECONDS, MOST_STEPS = 12.0, 150
MODEL = os.environ.get("DRAWQUEUE_MODEL") or str(catalog.STARTER)


def main() -> int:
    """Measure, and compare."""
    engine, model = LocalDiffusers("cpu", 1, 0), catalog._model(MODEL)
    offer, spent = Latents.offer, [0.0]

    def measured(self: Latents, share: float) -> None:
        begun = time.process_time()
        offer(self, share)
        spent[0] += time.process_time() - begun

    Latents.offer = measured  # type: ignore[method-assign]
    figures: dict[str, Any] = {}
    for count in (1, 4):
        # As large as it draws, so that it takes some seconds.
        side = {"width": model.largest, "height": model.largest}
        settled = catalog.settle(validate({"prompt": "a red crown"}), 7)
        request = replace(settled, count=count, steps=20, **side)
        begun = time.monotonic()
        engine.draw(model, request, lambda *_: True)
        steps = round(20 * SECONDS / (time.monotonic() - begun))
        request = replace(request, steps=max(10, min(steps, MOST_STEPS)))
        sizes: list[int] = []
        rounds = []
        for _ in range(ROUNDS):
            spent[0], begun = 0.0, time.process_time()
            engine.draw(
                model, request, lambda *_: True, {},
                lambda preview, sizes=sizes: sizes.append(len(encoded(preview))),
            )  # fmt: skip
            whole = time.process_time() - begun
            rounds.append((spent[0] / (whole - spent[0]), whole))
        figures[f"{count} at once"] = {
            "steps": request.steps,
            "seconds": round(median(whole for _, whole in rounds), 2),
            "previews": round(len(sizes) / ROUNDS, 1),
            "bytes": round(median(sizes)) if sizes else 0,
            "ratio": round(median(ratio for ratio, _ in rounds), 4),
        }
    print(json.dumps(figures))
    # Where none was made, nothing was measured.
    return int(any(one["ratio"] > MOST or not one["previews"] for one in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
