"""The engine process: warm, stoppable within a step, and survived by its parent."""

import io
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from core import catalog
from core.catalog import Model
from core.engine import AskDifferently, GiveUp, Stopped, TransientError
from core.options import Mode, Request
from core.samplers import EVERY
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


# Pictures to begin with


def png(colour: str, side: int = 64) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(out, "PNG")
    return out.getvalue()


def test_pictures_go_along_as_bytes_by_their_keys(engine: WarmEngine) -> None:
    held = {"up/a.png": png("red"), "up/m.png": png("black")}
    remix = request(mode=Mode.REMIX, sources=("up/a.png",), strength=0.0)
    assert engine.draw(PATTERN, remix, on, held)[0].getcolors() == [(64 * 64, (255, 0, 0))]
    paint = request(mode=Mode.INPAINT, sources=("up/a.png",), mask="up/m.png")
    kept = engine.draw(PATTERN, paint, on, held)[0]
    assert kept.getcolors() == [(64 * 64, (255, 0, 0))], "a black mask keeps all of it"
    held["up/m.png"] = png("white")
    plain = engine.draw(PATTERN, request(), on)[0]
    assert engine.draw(PATTERN, paint, on, held)[0].getpixel((32, 32)) == plain.getpixel((32, 32))
    larger = request(mode=Mode.UPSCALE, sources=("up/a.png",), width=128, height=128, factor=2)
    assert engine.draw(PATTERN, larger, on, held)[0].size == (128, 128)


def test_a_damaged_picture_leaves_the_engine_warm(engine: WarmEngine) -> None:
    engine.draw(PATTERN, request(), on)
    pid = engine.pid
    remix = request(mode=Mode.REMIX, sources=("k",), strength=0.5)
    with pytest.raises(GiveUp, match="fault"):
        engine.draw(PATTERN, remix, on, {"k": png("red")[:40]})
    assert engine.draw(PATTERN, request(), on) and engine.pid == pid


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


@pytest.mark.parametrize("sampler", EVERY)
def test_every_sampler_draws(engine: WarmEngine, starter: Model, sampler: str) -> None:
    wanted = request("a red crown on a blue background", width=128, height=128, steps=4,
                     sampler=sampler)  # fmt: skip
    picture = pixels(engine.draw(starter, wanted, on)[0])
    assert np.isfinite(picture).all() and picture.std() > 10


def test_the_real_pipeline_begins_with_a_picture(engine: WarmEngine, starter: Model) -> None:
    begun = {"k": png("yellow", 128)}
    wanted = request("a red crown on a blue background", width=128, height=128, steps=8,
                     mode=Mode.REMIX, sources=("k",))  # fmt: skip
    near, far = (
        pixels(engine.draw(starter, replace(wanted, strength=strength), on, begun)[0])
        for strength in (0.15, 0.9)
    )
    yellow = np.array([255, 255, 0])
    assert np.abs(near - yellow).mean() < np.abs(far - yellow).mean() - 20


def test_a_real_drawing_stops_within_a_step(engine: WarmEngine, starter: Model) -> None:
    shares: list[float] = []

    def beat(share: float | None, _words: str) -> bool:
        shares.extend([share] if share is not None else [])
        return len(shares) < 3

    with pytest.raises(Stopped):
        engine.draw(starter, request("a fox", width=128, height=128, steps=100), beat)
    assert len(shares) < 8
