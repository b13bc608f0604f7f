"""Short of memory on a real GPU: its memory is capped, and every rung of the ladder is climbed."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from core import catalog
from core.catalog import Model
from core.engine import AskDifferently
from core.options import Request
from worker.engines.local import RUNGS, LocalDiffusers

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="NO GPU: a real cap on its memory is NOT tested"
)
LARGE = Request("a red crown", "", 256, 256, 4, 3.0, 7, "Euler", "starter", 4)


@pytest.fixture
def engine() -> Iterator[LocalDiffusers]:
    torch.cuda.set_per_process_memory_fraction(1.0)
    yield LocalDiffusers("cuda:0", 0, 0)
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.fixture
def starter(starter_model: str) -> Model:
    return catalog._model(starter_model)


def drawn(engine: LocalDiffusers, starter: Model) -> tuple[list[Any], list[str]]:
    told: list[str] = []

    def report(_share: float, words: str = "") -> bool:
        told.extend([words] if words else [])
        return True

    return engine.draw(starter, LARGE, report), told


def needs(engine: LocalDiffusers, starter: Model) -> tuple[int, int]:
    """Bytes that the warm model holds, and the most that drawing takes besides."""
    engine.load(starter, lambda _name, _share: None)
    engine._empty()
    held = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    images, told = drawn(engine, starter)
    assert len(images) == 4 and told == []
    peak = torch.cuda.max_memory_reserved()
    engine._empty()
    return held, peak - held


def cap(size: float) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, size / total))


@pytest.mark.parametrize("share", [0.8, 0.5, 0.3])
def test_what_does_not_fit_at_once_is_drawn_in_smaller_pieces(
    engine: LocalDiffusers, starter: Model, share: float
) -> None:
    held, work = needs(engine, starter)
    cap(held + work * share)
    images, told = drawn(engine, starter)
    assert len(images) == 4 and set(told) <= {words for _, words in RUNGS} and told
    # Where there is room again, nothing is left of it.
    cap(torch.cuda.get_device_properties(0).total_memory)
    engine.thrift.clear()
    assert drawn(engine, starter)[1] == []


def test_what_fits_in_no_way_fails_in_words_and_the_next_drawing_is_not_hurt(
    engine: LocalDiffusers, starter: Model
) -> None:
    needs(engine, starter)
    cap(2 << 20)
    with pytest.raises(AskDifferently, match="not enough memory"):
        drawn(engine, starter)
    cap(torch.cuda.get_device_properties(0).total_memory)
    engine.thrift.clear()
    assert len(drawn(engine, starter)[0]) == 4
