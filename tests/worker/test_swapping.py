"""Two models where memory holds one: loaded, dropped, drawn with in turn, and preferred in line."""

import gc
import json
import os
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from core import catalog
from core.catalog import Model
from core.engine import GiveUp, TransientError
from core.options import Mode, Request
from core.pace import LOADS
from tests.conftest import ROOT, running
from tests.worker.test_warm import PATTERN, png
from worker.engines.local import LocalDiffusers, _size
from worker.warm import WarmEngine

# The starter's weights take 0.07 GB.
FOR_ONE_GB = 0.1


def twin(starter_model: str, folder: Path) -> str:
    """The starter's weights as a model of another size, and so of a name of its own."""
    for part in Path(starter_model).rglob("*"):
        place = folder / part.relative_to(starter_model)
        place.parent.mkdir(parents=True, exist_ok=True)
        if part.is_file():
            place.symlink_to(part)
    config = folder / "unet" / "config.json"
    told = json.loads(config.read_text())
    config.unlink()
    config.write_text(json.dumps(told | {"sample_size": 4 * told["sample_size"]}))
    return str(folder)


@pytest.fixture
def two(starter_model: str, tmp_path: Path) -> tuple[Model, Model]:
    other = catalog._model(twin(starter_model, tmp_path / "twin"))
    assert other.name == "twin"
    return catalog._model(starter_model), other


def request(model: Model, **changes: Any) -> Request:
    return Request(**{
        "prompt": "a red crown on a blue background", "negative_prompt": "", "width": 128,
        "height": 128, "steps": 3, "guidance": 5.0, "seed": 7, "sampler": "DPM++ 2M",
        "model": model.name, "count": 1, **changes,
    })  # fmt: skip


def on(_share: float | None, _words: str = "") -> bool:
    return True


@pytest.mark.slow
def test_swapping_to_and_fro_leaks_nothing_and_changes_no_picture(
    two: tuple[Model, Model],
) -> None:
    engine = LocalDiffusers("cpu", 1, memory_gb=1)
    first = engine.draw(two[0], request(two[0]), on)[0]
    engine.memory = 1.5 * _size(engine.warm[two[0].source])
    # The second knows one more thing to leave behind: a LoRA that was drawn with.
    loras = (("blueprint", 0.8),)
    other = engine.draw(two[1], request(two[1], loras=loras), on)[0]
    gone: list[weakref.ref[Any]] = []
    for _ in range(3):
        for model, picture, changes in ((two[0], first, {}), (two[1], other, {"loras": loras})):
            gone += [weakref.ref(one.unet) for one in engine.warm.values()]
            assert engine.draw(model, request(model, **changes), on)[0] == picture
            assert engine.held == [model.source]
            gc.collect()
            assert not any(one() for one in gone), "what was dropped is gone"


def test_the_parent_knows_what_is_loaded_and_how_long_that_took(two: tuple[Model, Model]) -> None:
    one, other = two
    engine = WarmEngine("cpu", 1, FOR_ONE_GB)
    try:
        assert engine.held == frozenset()
        engine.load(one, lambda _name, _share: None)
        assert engine.held == {one.name} and engine.loading > 0
        engine.draw(one, request(one), on)
        assert engine.held == {one.name} and engine.loading == 0
        engine.draw(other, request(other), on)
        assert engine.held == {other.name} and engine.loading > 0, "one had to go"
        upscale = request(one, mode=Mode.UPSCALE, sources=("k",), width=256, height=256, factor=2)
        engine.draw(one, upscale, on, {"k": png("red", 128)})
        assert engine.held == {other.name}, "no model makes a picture larger"
        with pytest.raises(GiveUp):
            engine.draw(Model("gone", "no/folder/here"), request(one), on)
        assert engine.held == {other.name}
        with pytest.raises(TransientError):
            engine.draw(PATTERN, request(PATTERN, prompt="crash:segv"), on)
        assert engine.held == frozenset()
    finally:
        engine.kill()


@pytest.mark.parametrize(("patience", "order"), [
    ("60", [0, 2, 4, 1, 3]), pytest.param("0", [0, 1, 2, 3, 4], marks=pytest.mark.slow),
])  # fmt: skip
def test_a_worker_draws_what_it_has_loaded_first(
    starter_model: str, tmp_path: Path, patience: str, order: list[int]
) -> None:
    other = twin(starter_model, tmp_path / "twin")
    with running(
        tmp_path / "home",
        DRAWQUEUE_MODEL=f"{starter_model},{other}",
        DRAWQUEUE_MODEL_MEMORY_GB=f"{FOR_ONE_GB}",
        DRAWQUEUE_SWAP_PATIENCE=patience,
    ) as house:

        def ask(model: str, steps: int) -> int:
            given = {"model": model, "steps": steps, "width": 128, "height": 128}
            told = house.client.post("/api/jobs", json={"prompt": "a crown", "parameters": given})
            assert told.status_code == 202, told.text
            return int(told.json()["id"])

        asked = [ask("starter", 40)]
        house.until(asked[0], "generating")
        asked += [ask(model, 2) for model in ("twin", "starter", "twin", "starter")]
        over = [house.until(one, "done") for one in asked]
        ended = sorted(range(5), key=lambda index: over[index]["ended"])
        assert ended == order
        with Redis.from_url(f"unix://{house.home / 'valkey.sock'}?db=0") as redis:
            assert float(redis.hget(LOADS, "twin") or 0) > 0, "what a swap takes is learned"


@pytest.mark.slow
def test_two_idle_workers_leave_each_other_what_they_have_loaded(
    starter_model: str, tmp_path: Path
) -> None:
    settings = {
        "DRAWQUEUE_MODEL": f"{starter_model},{twin(starter_model, tmp_path / 'twin')}",
        "DRAWQUEUE_MODEL_MEMORY_GB": f"{FOR_ONE_GB}",
        "DRAWQUEUE_REUSE": "0",
        "DRAWQUEUE_THREADS": "1",
    }
    log = tmp_path / "second.log"
    with running(tmp_path / "home", **settings) as house, log.open("w") as written:
        second = subprocess.Popen(
            [sys.executable, "-m", "worker"], cwd=ROOT, stdout=written, stderr=written,
            env={**os.environ, **settings, "DRAWQUEUE_HOME": str(house.home)},
        )  # fmt: skip

        def swaps() -> int:
            return (house.log.read_text() + log.read_text()).count("dropped")

        def draw(model: str) -> None:
            given = {"model": model, "steps": 2, "width": 128, "height": 128}
            told = house.client.post("/api/jobs", json={"prompt": "a crown", "parameters": given})
            house.until(int(told.json()["id"]), "done", seconds=90)

        try:
            end = time.monotonic() + 90
            while "starter is loaded" not in log.read_text() or house.client.get(
                "/api/queue"
            ).json()["workers"] != 2:  # fmt: skip
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            house.until_log("starter is loaded")
            draw("twin")
            before = swaps()
            assert before == 1, "one of the two has the other model now"
            for model in ("starter", "starter", "twin", "twin", "starter", "twin", "twin"):
                draw(model)
            assert swaps() == before
        finally:
            second.terminate()
            second.wait(30)
