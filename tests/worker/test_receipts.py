"""Receipts of the real model's pictures: drawn again bit for bit, and told apart by their looks."""

import io
import itertools
import random

import pytest
from PIL import Image

from core import catalog
from core.catalog import Model, models, settle
from core.flags import split_flags
from core.options import Request, validate
from core.receipts import ALIKE, apart, found, look, read, sealed
from core.samplers import EVERY
from worker.engines.local import LocalDiffusers

THINGS = ("a red crown", "a fox", "a rocket", "a cat on a green background", "two boats")


@pytest.fixture(scope="module")
def starter(starter_model: str) -> Model:
    return catalog._model(starter_model)


@pytest.fixture(scope="module")
def engine() -> LocalDiffusers:
    return LocalDiffusers("cpu", 1, 0)


def drawn(engine: LocalDiffusers, starter: Model, request: Request) -> Image.Image:
    return engine.draw(starter, request, lambda _share, _words="": True)[0]


def test_a_dozen_receipts_draw_the_same_bit_for_bit(
    engine: LocalDiffusers, starter: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(models(), starter.name, starter)
    draw = random.Random(5)
    files = []
    for number in range(12):
        words = (
            f"{draw.choice(THINGS)} --seed {draw.randrange(2**32)} --steps {draw.randint(2, 4)} "
            f"--cfg {draw.uniform(1, 8):.2f} --sampler {draw.choice(EVERY)} "
            f"--ar {draw.choice(['1:1', '3:2', '2:3'])} --no {draw.choice(['blue', 'red, dogs'])}"
        )
        given, faults = split_flags(words)
        assert not faults
        request = settle(validate({**given, "model": starter.name}), 0)
        image = drawn(engine, starter, request)
        files.append((image, sealed(image, number, request, request.seed).png))
    draw.shuffle(files)
    for image, png in files:
        receipt = read(found(Image.open(io.BytesIO(png))))
        assert receipt
        given, faults = split_flags(receipt.line().removeprefix("/imagine "))
        assert not faults
        again = drawn(engine, starter, settle(validate(given), 0))
        assert again.tobytes() == image.tobytes(), receipt.line()


def test_looks_tell_drawings_of_one_prompt_apart_and_know_a_poor_copy(
    engine: LocalDiffusers, starter: Model
) -> None:
    images = [
        drawn(engine, starter, Request(
            prompt, "", 128, 128, 10, 3.0, seed, "DPM++ 2M", starter.name, 1
        ))
        for prompt in (THINGS[0], THINGS[3]) for seed in range(4)
    ]  # fmt: skip
    copies = []
    for image in images:
        for quality, scale in ((40, 1.0), (80, 0.5), (70, 1.37)):
            out = io.BytesIO()
            side = int(128 * scale)
            image.resize((side, side)).save(out, "JPEG", quality=quality)
            copies.append(apart(look(image), look(Image.open(io.BytesIO(out.getvalue())))))
    others = [apart(look(one), look(other)) for one, other in itertools.combinations(images, 2)]
    assert max(copies) < ALIKE < min(others), (max(copies), min(others))
