"""The engine process: warm, stoppable within a step, and survived by its parent."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from core import catalog
from core.catalog import Model
from core.engine import AskDifferently, GiveUp, Stopped, TransientError
from core.options import Request
from worker.warm import WarmEngine

PATTERN = Model("pattern", "pattern", engine="pattern", size=64, steps=4)


def request(prompt: str = "a fox", **changes: object) -> Request:
    values: dict[str, object] = {
        "negative_prompt": "", "width": 64, "height": 64, "steps": 4, "guidance": 5.0,
        "seed": 7, "sampler": "DPM++ 2M", "model": "pattern", "count": 1,
    }  # fmt: skip
    return Request(prompt=prompt, **{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def engine() -> Iterator[WarmEngine]:
    made = WarmEngine("cpu", 1, 0)
    yield made
    made.kill()


def on(_share: float | None, _words: str = "") -> bool:
    return True


def test_it_stays_warm_and_repeats_itself(engine: WarmEngine) -> None:
    first = engine.draw(PATTERN, request(), on)[0]
    pid = engine.pid
    assert engine.draw(PATTERN, request(), on)[0] == first
    assert engine.draw(PATTERN, request(seed=8), on)[0] != first
    assert engine.pid == pid


def test_picture_i_uses_seed_plus_i(engine: WarmEngine) -> None:
    several = engine.draw(PATTERN, request(count=3), on)
    alone = [engine.draw(PATTERN, request(seed=seed), on)[0] for seed in (7, 8, 9)]
    assert several == alone and several[0] != several[1]


def test_a_stop_takes_one_step_and_keeps_it_warm(engine: WarmEngine) -> None:
    engine.draw(PATTERN, request(), on)
    pid, begun = engine.pid, time.monotonic()
    with pytest.raises(Stopped):
        engine.draw(PATTERN, request("sleep:0.2", steps=50), lambda share, _words: not share)
    assert time.monotonic() - begun < 1.5
    assert engine.pid == pid


def test_a_stop_that_came_too_late_stops_nothing(engine: WarmEngine) -> None:
    engine.draw(PATTERN, request(), on)
    assert engine._pipe
    engine._pipe.send("stop")
    assert engine.draw(PATTERN, request(), on) and engine.draw(PATTERN, request(seed=9), on)


def test_a_crash_is_told_and_the_next_drawing_works(engine: WarmEngine) -> None:
    with pytest.raises(TransientError):
        engine.draw(PATTERN, request("crash:segv"), on)
    assert engine.draw(PATTERN, request(), on)


def test_kill_9_mid_step(engine: WarmEngine) -> None:
    engine.draw(PATTERN, request(), on)
    pid = engine.pid
    assert pid
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(TransientError):
        engine.draw(PATTERN, request("sleep:0.1", steps=100), on)


@pytest.mark.parametrize(
    ("prompt", "kind"), [("fail:ask", AskDifferently), ("fail:oom", AskDifferently)]
)
def test_a_fault_of_the_request(engine: WarmEngine, prompt: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        engine.draw(PATTERN, request(prompt), on)


def test_a_bug_shows_no_exception_text(engine: WarmEngine) -> None:
    with pytest.raises(GiveUp, match="fault") as told:
        engine.draw(PATTERN, request("fail:bug"), on)
    assert "secret" not in str(told.value)


def test_a_model_that_cannot_load(engine: WarmEngine, tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(GiveUp, match="could not be loaded"):
        engine.draw(Model("nope", str(tmp_path)), request(), on)
    assert engine.draw(PATTERN, request(), on)


# The real pipeline, by meaning


@pytest.fixture(scope="module")
def starter(starter_model: str) -> Model:
    return catalog._model(starter_model)


def pixels(image: Image.Image) -> np.ndarray:  # type: ignore[type-arg]
    return np.asarray(image.convert("RGB"), dtype=float)


def test_a_blue_background_is_blue(engine: WarmEngine, starter: Model) -> None:
    shares: list[float] = []

    def beat(share: float | None, _words: str) -> bool:
        shares.extend([share] if share is not None else [])
        return True

    wanted = request("a red crown on a blue background", width=128, height=128, steps=12)
    picture = pixels(engine.draw(starter, wanted, beat)[0])
    corners = np.concatenate(
        [picture[:12, :12], picture[:12, -12:], picture[-12:, :12], picture[-12:, -12:]]
    )
    red, _green, blue = corners.reshape(-1, 3).mean(0)
    assert blue > red + 40
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) == 12
    again = pixels(engine.draw(starter, wanted, on)[0])
    assert np.array_equal(picture, again), "the same seed repeats exactly"


@pytest.mark.parametrize("sampler", sorted(__import__("core.options").options.SAMPLERS))
def test_every_sampler_draws(engine: WarmEngine, starter: Model, sampler: str) -> None:
    wanted = request("a red crown on a blue background", width=128, height=128, steps=8,
                     sampler=sampler)  # fmt: skip
    picture = pixels(engine.draw(starter, wanted, on)[0])
    assert np.isfinite(picture).all() and picture.std() > 10


def test_a_real_drawing_stops_within_a_step(engine: WarmEngine, starter: Model) -> None:
    shares: list[float] = []

    def beat(share: float | None, _words: str) -> bool:
        shares.extend([share] if share is not None else [])
        return len(shares) < 3

    with pytest.raises(Stopped):
        engine.draw(starter, request("a fox", width=128, height=128, steps=100), beat)
    assert len(shares) < 8
