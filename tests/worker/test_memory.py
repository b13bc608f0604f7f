"""Short of memory for real: the address space of the engine's process is capped."""

import pickle
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from core import catalog
from core.catalog import Model
from core.engine import AskDifferently
from core.options import Request
from tests.worker.test_modes import request
from worker.engines.local import RUNGS, LocalDiffusers
from worker.warm import WarmEngine

pytestmark = pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason="NO prlimit: a real cap on memory is NOT tested"
)
SMALL = request(steps=2)
LARGE = request(steps=1, width=384, height=384, count=4)
WORDS = [words for name, words in RUNGS if name != "offload"]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[WarmEngine]:
    # As the supervisor has it.
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    made = WarmEngine("cpu", 1, 0)
    yield made
    made.kill()


@pytest.fixture
def starter(starter_model: str) -> Model:
    return catalog._model(starter_model)


def cap(engine: WarmEngine, megabytes: int | None) -> None:
    """Let the engine's process have so much more than it has; None: whatever it wants."""
    told = Path(f"/proc/{engine.pid}/status").read_text().splitlines()
    size = next(int(line.split()[1]) << 10 for line in told if line.startswith("VmSize"))
    most = resource.RLIM_INFINITY if megabytes is None else size + (megabytes << 20)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    assert engine.pid
    resource.prlimit(engine.pid, resource.RLIMIT_AS, (most, hard))


def draw(engine: WarmEngine, model: Model, wanted: Request) -> tuple[list[Image.Image], list[str]]:
    told: list[str] = []

    def beat(_share: float | None, words: str) -> bool:
        told.extend([words] if words else [])
        return True

    return engine.draw(model, wanted, beat), told


@pytest.mark.slow
def test_what_does_not_fit_is_drawn_in_smaller_pieces_and_nothing_is_left_of_that(
    engine: WarmEngine, starter: Model
) -> None:
    before, _ = draw(engine, starter, SMALL)
    cap(engine, 130)
    try:
        images, told = draw(engine, starter, LARGE)
        assert len(images) == 4
    except AskDifferently:
        # Where even oneDNN got no memory for its code, which no smaller picture mends.
        told = WORDS
    assert told == WORDS[: len(told)] and len(told) >= 2, "one after the other"
    if engine.pid:
        cap(engine, None)
    after, told = draw(engine, starter, SMALL)
    assert after[0].tobytes() == before[0].tobytes() and told == []


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [15, 60])
def test_what_fits_in_no_way_fails_in_words_and_the_next_drawings_are_not_hurt(
    engine: WarmEngine, starter: Model, megabytes: int
) -> None:
    before, _ = draw(engine, starter, SMALL)
    cap(engine, megabytes)
    if megabytes < 20:
        with pytest.raises(AskDifferently, match="not enough memory"):
            draw(engine, starter, LARGE)
    else:
        with pytest.raises(AskDifferently, match="not enough memory"):
            draw(engine, starter, request(steps=1, width=1024, height=1024))
    if engine.pid:
        cap(engine, None)
    after, told = draw(engine, starter, SMALL)
    assert after[0].tobytes() == before[0].tobytes() and told == []
    images, told = draw(engine, starter, LARGE)
    assert len(images) == 4


def test_an_engine_whose_library_is_spent_says_so(
    starter: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = LocalDiffusers("cpu", 1, 0)
    pipeline = local._pipeline(starter, lambda _name, _share: None)
    for words, spent in (("could not create a primitive", True), ("can't allocate memory", False)):

        def failing(*_given: object, words: str = words, **_named: object) -> None:
            raise RuntimeError(words)

        monkeypatch.setattr(pipeline.unet, "forward", failing)
        local.warm[starter.source] = pipeline
        with pytest.raises(AskDifferently) as told:
            local.draw(starter, SMALL, lambda _share, _words="": True)
        # As the parent hears it.
        assert pickle.loads(pickle.dumps(told.value)).spent is spent
