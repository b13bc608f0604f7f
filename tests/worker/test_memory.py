"""Short of memory for real: an engine process whose address space is capped."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from worker.engines.local import RUNGS

# What runs in a process of its own: the cap would hit whatever else is there.
CAPPED = """
import json, resource, sys
from core import catalog
from core.engine import AskDifferently
from core.options import Request
from worker.engines.local import LocalDiffusers

source, most, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
engine, starter = LocalDiffusers("cpu", 1, 0), catalog._model(source)
small = Request("a red crown", "", 128, 128, 2, 3.0, 7, "Euler", "starter", 1)
large = Request("a red crown", "", side, side, 1, 3.0, 7, "Euler", "starter", 4)

def draw(request):
    told = []
    report = lambda _share, words="": not (words and told.append(words))
    try:
        return told, [one.tobytes().hex() for one in engine.draw(starter, request, report)], ""
    except AskDifferently as error:
        return told, [], str(error)

before = draw(small)
size = next(int(line.split()[1]) for line in open("/proc/self/status") if "VmSize" in line)
unlimited = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, ((size << 10) + (most << 20), unlimited[1]))
told, images, words = draw(large)
resource.setrlimit(resource.RLIMIT_AS, unlimited)
after = draw(small)
engine.thrift.clear()
free = draw(large)
print(json.dumps({
    "told": told, "number": len(images), "words": words, "same": before == after,
    "free": [free[0], len(free[1])],
}))
"""


@pytest.fixture
def capped(starter_model: str) -> Callable[[int, int], dict[str, Any]]:
    """What becomes of a large drawing with so many megabytes to draw in."""

    def drawn(most: int, side: int) -> dict[str, Any]:
        answer = subprocess.run(
            [sys.executable, "-c", CAPPED, starter_model, str(most), str(side)],
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr[-2000:]
        return dict(json.loads(answer.stdout))

    return drawn


def test_what_does_not_fit_is_drawn_in_smaller_pieces_and_nothing_is_left_of_that(
    capped: Callable[[int, int], dict[str, Any]],
) -> None:
    told = capped(150, 384)
    rungs = [words for _, words in RUNGS if words in told["told"]]
    assert told["told"] == rungs and len(rungs) >= 2, "one after the other"
    assert told["number"] == 4 and told["words"] == ""
    assert told["same"] and told["free"] == [[], 4], "nothing is left of it"


def test_what_fits_in_no_way_fails_in_words_and_the_next_drawing_is_not_hurt(
    capped: Callable[[int, int], dict[str, Any]],
) -> None:
    told = capped(15, 384)
    # Without another device there is nothing to offload to.
    assert told["told"] == [words for name, words in RUNGS if name != "offload"]
    assert told["number"] == 0 and "There was not enough memory" in told["words"]
    assert told["same"] and told["free"] == [[], 4]
