"""The local engine's household: what is kept warm, and what goes when memory is short."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core import catalog
from core.catalog import Model
from core.engine import AskDifferently, Stopped
from core.options import Request
from worker.engines.local import LocalDiffusers, _size


@pytest.fixture
def engine() -> LocalDiffusers:
    return LocalDiffusers("cpu", 1, 0)


@pytest.fixture
def starter(starter_model: str) -> Model:
    return catalog._model(starter_model)


def request(**changes: Any) -> Request:
    return Request(**{
        "prompt": "a red crown on a blue background", "negative_prompt": "", "width": 128,
        "height": 128, "steps": 4, "guidance": 5.0, "seed": 7, "sampler": "DPM++ 2M",
        "model": "drawqueue-starter", "count": 1, **changes,
    })  # fmt: skip


def test_the_least_used_model_is_dropped_when_memory_asks(
    starter_model: str, tmp_path: Path
) -> None:
    models = []
    for name in ("one", "two", "three"):
        (tmp_path / name).symlink_to(starter_model)
        models.append(Model(name, str(tmp_path / name)))
    one, two, three = models
    loaded: list[tuple[str, float]] = []
    engine = LocalDiffusers("cpu", 1, memory_gb=1)
    engine.load(one, lambda name, share: loaded.append((name, share)))
    assert loaded[0] == ("one", 0.0) and loaded[-1] == ("one", 1.0)
    engine.memory = 2.5 * _size(engine.warm[one.source])
    for model in (two, one, three):
        engine.load(model, lambda _name, _share: None)
    assert list(engine.warm) == [one.source, three.source], "two was used least lately"


# Short of memory


class Scarce:
    """A unet that fits only when something was done: what the card of a small GPU does."""

    def __init__(self, pipeline: Any, fits: Callable[[Any, int], bool]) -> None:
        self.forward, self.fits, self.tries = pipeline.unet.forward, fits, 0
        self.pipeline = pipeline

    def __call__(self, sample: Any, *given: Any, **named: Any) -> Any:
        if not self.fits(self.pipeline, sample.shape[0]):
            self.tries += 1
            raise torch.OutOfMemoryError("CUDA out of memory. (injected)")
        return self.forward(sample, *given, **named)


def sliced(pipeline: Any, _batch: int) -> bool:
    return all("Sliced" in type(one).__name__ for one in pipeline.unet.attn_processors.values())


def tiled(pipeline: Any, _batch: int) -> bool:
    return bool(pipeline.vae.use_tiling)


def single(_pipeline: Any, batch: int) -> bool:
    return batch <= 2  # With and without the prompt.


@pytest.mark.parametrize(
    ("fits", "count", "words"),
    [(sliced, 1, "slices"), (tiled, 1, "tiles"), (single, 2, "one picture after the other")],
)
def test_short_of_memory_is_met_step_by_step_and_told(
    engine: LocalDiffusers, starter: Model, monkeypatch: pytest.MonkeyPatch,
    fits: Callable[[Any, int], bool], count: int, words: str,
) -> None:  # fmt: skip
    plain = engine.draw(starter, request(count=count), lambda _share, _words="": True)
    pipeline = engine.warm[starter.source]
    before = {name: type(one) for name, one in pipeline.unet.attn_processors.items()}
    scarce = Scarce(pipeline, fits)
    told: list[str] = []

    def report(_share: float, words: str = "") -> bool:
        told.extend([words] if words else [])
        return True

    monkeypatch.setattr(pipeline.unet, "forward", scarce)
    images = engine.draw(starter, request(count=count), report)
    assert words in told[-1] and len(told) == scarce.tries
    for one, other in zip(images, plain, strict=True):
        assert np.abs(np.asarray(one, float) - np.asarray(other, float)).mean() < 3

    told.clear()
    tries = scarce.tries
    engine.draw(starter, request(count=count), report)
    assert words in told[0] and scarce.tries == tries, "what helped is what it begins with"

    monkeypatch.undo()
    told.clear()
    # A smaller one, and a later one, are drawn as if nothing had been.
    small = engine.draw(starter, request(width=64, height=64), report)
    assert not told and small[0].size == (64, 64)
    assert {n: type(one) for n, one in pipeline.unet.attn_processors.items()} == before
    assert not pipeline.vae.use_tiling and not pipeline.vae.use_slicing


def starve(engine: LocalDiffusers, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing fit, whatever is done."""
    engine.load(model, lambda _name, _share: None)
    pipeline = engine.warm[model.source]
    monkeypatch.setattr(pipeline.unet, "forward", Scarce(pipeline, lambda *_: False))


def test_what_never_fits_ends_in_words_and_the_next_is_drawn(
    engine: LocalDiffusers, starter: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    starve(engine, starter, monkeypatch)
    with pytest.raises(AskDifferently, match=r"not enough memory .* smaller") as told:
        engine.draw(starter, request(), lambda _share, _words="": True)
    assert "CUDA" not in str(told.value)
    monkeypatch.undo()
    assert engine.draw(starter, request(), lambda _share, _words="": True)[0].size == (128, 128)


def test_a_stop_while_room_is_made_is_a_stop(
    engine: LocalDiffusers, starter: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    starve(engine, starter, monkeypatch)
    with pytest.raises(Stopped):
        engine.draw(starter, request(), lambda _share, words="": not words)


def test_other_models_make_room(
    engine: LocalDiffusers, starter: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").symlink_to(starter.source)
    engine.load(Model("other", str(tmp_path / "other")), lambda _name, _share: None)
    engine.load(starter, lambda _name, _share: None)
    pipeline = engine.warm[starter.source]
    alone = Scarce(pipeline, lambda *_: len(engine.warm) == 1)
    monkeypatch.setattr(pipeline.unet, "forward", alone)
    told: list[str] = []
    engine.draw(starter, request(), lambda _share, words="": told.append(words) or True)
    assert [one for one in told if one] == ["Short of memory: making room."]
    assert alone.tries == 1


def test_another_fault_is_no_want_of_memory(
    engine: LocalDiffusers, starter: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.load(starter, lambda _name, _share: None)

    def broken(*_given: Any, **_named: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(engine.warm[starter.source].unet, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        engine.draw(starter, request(), lambda _share, _words="": True)
