"""Previews of drawings under way: they look like what comes, and change nothing of it."""

import io
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from PIL import Image

from core import catalog, settings
from core.catalog import Model
from core.house import House
from core.options import validate
from core.people import Asker
from tests.worker.test_modes import FROG, INPAINT, REMIX, on, request
from tests.worker.test_warm import PATTERN
from tests.worker.test_warm import request as pattern
from worker import previews
from worker.engines.local import SAMPLERS, LocalDiffusers
from worker.finishing import Finisher
from worker.tasks import Studio, generate
from worker.warm import WarmEngine


@pytest.fixture(scope="module")
def engine() -> LocalDiffusers:
    return LocalDiffusers("cpu", 1, 0)


@pytest.fixture
def starter(starter_model: str) -> Model:
    return catalog._model(starter_model)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """One at each step, whatever it costs."""
    monkeypatch.setattr(previews, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(previews, "COST", 1e9)


def apart(one: Image.Image, other: Image.Image) -> float:
    """How different two pictures are, as mean levels of 255."""
    seen = [np.asarray(image.convert("RGB").resize((64, 64)), float) for image in (one, other)]
    return float(np.abs(seen[0] - seen[1]).mean())


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sampler_is_seen_through_and_draws_the_same(
    engine: LocalDiffusers, starter: Model, sampler: str
) -> None:
    wanted = request(sampler=sampler, steps=8, prompt="a red crown on a blue background")
    plain = engine.draw(starter, wanted, on)[0]
    seen: list[Image.Image] = []
    drawn = engine.draw(starter, wanted, on, {}, seen.append)[0]
    assert drawn.tobytes() == plain.tobytes(), "previews change nothing"
    assert len(seen) >= 6 and {one.size for one in seen} == {(256, 256)}
    differ = [apart(one, drawn) for one in seen]
    # The latents themselves, noise and all, are some 80 apart at first.
    assert max(differ) < 60 and min(differ) < 30


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    "more",
    [
        {"hires": 1.25, "hires_strength": 0.5},
        {"tile": True, "loras": (("blueprint", 0.8),)},
        {**REMIX, "strength": 0.7, "prompt": FROG},
        {**INPAINT, "mask": "disc", "prompt": FROG, "sampler": "Euler a"},
    ],
    ids=["hires", "tile", "remix", "inpaint"],
)
def test_each_way_to_draw_is_previewed_and_draws_the_same(
    engine: LocalDiffusers, starter: Model, more: dict[str, Any]
) -> None:
    disc = Image.radial_gradient("L").resize((128, 128)).point(lambda value: 255 * (value < 90))
    crown = engine.draw(starter, request(steps=4), on)[0]
    pictures = {"crown": crown, "disc": disc, "k": crown}
    wanted = request(**{"steps": 8, **more})
    plain = engine.draw(starter, wanted, on, pictures)[0]
    seen: list[Image.Image] = []
    drawn = engine.draw(starter, wanted, on, pictures, seen.append)[0]
    assert drawn.tobytes() == plain.tobytes()
    assert len(seen) > 2 and apart(seen[-1], drawn) < 30


@pytest.mark.usefixtures("often")
def test_four_pictures_are_one_small_grid(engine: LocalDiffusers, starter: Model) -> None:
    seen: list[Image.Image] = []
    wide = request(steps=8, count=4, width=128, height=96, prompt="a frog on a green background")
    drawn = engine.draw(starter, wide, on, {}, seen.append)
    assert seen[-1].size == (512, 384)
    for index, one in enumerate(drawn):
        left, top = index % 2 * 256, index // 2 * 192
        part = seen[-1].crop((left, top, left + 256, top + 192))
        assert apart(part, one) < 20
    assert len(previews.encoded(seen[-1])) < 40_000
    assert Image.open(io.BytesIO(previews.encoded(seen[-1]))).format == "JPEG"


@pytest.mark.usefixtures("often")
def test_a_large_drawing_is_decoded_small(
    engine: LocalDiffusers, starter: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = engine._pipeline(starter, lambda _name, _share: None).vae
    decode, shapes = vae.decode, []
    monkeypatch.setattr(
        vae, "decode", lambda z, *a, **k: shapes.append(tuple(z.shape[2:])) or decode(z, *a, **k)
    )
    seen: list[Image.Image] = []
    drawn = engine.draw(starter, request(steps=5, width=256, height=128), on, {}, seen.append)[0]
    assert shapes == [(8, 16)] * len(seen) + [(16, 32)] and seen[0].size == (256, 128)
    assert apart(seen[-1], drawn) < 30


@pytest.mark.usefixtures("often")
def test_a_fault_harms_no_drawing_and_is_told_once(
    starter: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = LocalDiffusers("cpu", 1, 0)
    plain = engine.draw(starter, request(steps=6), on)[0]

    def bad(_images: Any) -> Image.Image:
        raise torch.OutOfMemoryError("CUDA out of memory. (injected)")

    seen: list[Image.Image] = []
    with monkeypatch.context() as broken:
        broken.setattr(previews, "sheet", bad)
        for _ in range(2):
            drawn = engine.draw(starter, request(steps=6), on, {}, seen.append)[0]
            assert drawn.tobytes() == plain.tobytes()
    engine.draw(starter, request(steps=6), on, {}, seen.append)
    assert not seen and [one.levelno for one in caplog.records].count(logging.ERROR) == 1
    assert "no previews of StableDiffusionPipeline from now on" in caplog.text


@pytest.mark.usefixtures("often")
def test_what_overflows_is_not_shown(
    starter: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = LocalDiffusers("cpu", 1, 0)
    vae = engine._pipeline(starter, lambda _name, _share: None).vae
    seen: list[Image.Image] = []
    with monkeypatch.context() as broken:
        # Of what such a VAE is made: one weight too many for half a float.
        broken.setattr(vae.decoder.conv_in.bias, "data", vae.decoder.conv_in.bias.data * torch.inf)
        with np.errstate(invalid="ignore"):
            engine.draw(starter, request(steps=5), on, {}, seen.append)
    assert not seen and "overflows" in caplog.text


@pytest.mark.usefixtures("often")
def test_a_pipeline_short_of_memory_is_left_alone(engine: LocalDiffusers, starter: Model) -> None:
    vae = engine._pipeline(starter, lambda _name, _share: None).vae
    seen: list[Image.Image] = []
    vae.enable_tiling()
    try:
        engine.draw(starter, request(steps=5), on, {}, seen.append)
    finally:
        vae.disable_tiling()
    assert not seen


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Time goes on when it is told to."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    yield lambda seconds: now.append(now.pop() + seconds)


def test_when_one_is_due(moments: Callable[[float], None]) -> None:
    clock = previews.Clock()
    assert not clock.due(0.5), "it has only begun"
    moments(3)
    assert not clock.due(0.05), "hardly anything is drawn"
    assert clock.due(0.2)
    assert not clock.due(0.2, cost=0.1), "a tenth of a second is to be a fiftieth of the time"
    clock.made()
    moments(1)
    assert not clock.due(0.25)
    moments(1)
    assert clock.due(0.3, cost=0.03)
    assert not clock.due(0.9), "half a second before the end"
    moments(3)
    assert clock.due(0.3, cost=0.1)


@pytest.mark.parametrize("wanted", [True, False])
def test_they_come_out_of_the_engine_process_where_the_host_wants_them(
    wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAWQUEUE_PREVIEWS", str(int(wanted)))
    settings._read.cache_clear()
    warm, seen = WarmEngine("cpu", 1, 0), []
    try:
        slow = pattern("sleep:0.5", steps=11, count=2)
        drawn = warm.draw(PATTERN, slow, lambda _share, _words: True, {}, seen.append)
    finally:
        warm.kill()
    assert len(drawn) == 2 and bool(seen) is wanted
    assert all(Image.open(io.BytesIO(one)).size == (512, 256) for one in seen)


# Flux has its latents in one row, and a scheduler that knows no alphas.


@pytest.mark.usefixtures("often")
def test_flux_latents_are_unpacked_and_seen_through(monkeypatch: pytest.MonkeyPatch) -> None:
    # Weights by chance do not decode what is pooled into anything alike.
    monkeypatch.setattr(previews, "CELLS", 64)
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5,
    )  # fmt: skip
    drawer = FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    pipe = FluxPipeline(
        FlowMatchEulerDiscreteScheduler(), vae, None, None, None, None, drawer
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)

    def draw(step: Any = None) -> Image.Image:
        return pipe(
            prompt_embeds=torch.ones(1, 4, 32), pooled_prompt_embeds=torch.ones(1, 32), width=64,
            height=32, num_inference_steps=4, generator=torch.Generator().manual_seed(1),
            callback_on_step_end=step, max_sequence_length=4,
        ).images[0]  # fmt: skip

    plain, seen = draw(), []
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    with previews.shown_to(seen.append):
        under_way = previews.Latents(pipe, 2.0)

    def step(_pipe: Any, index: int, _moment: Any, values: dict[str, Any]) -> dict[str, Any]:
        under_way.offer((index + 1) / 4)
        return values

    assert draw(step).tobytes() == plain.tobytes()
    assert len(seen) >= 3 and seen[0].size == (256, 128)
    # The last step ends where it foresaw.
    assert apart(seen[-1], plain) < 6


# From the worker into Redis


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_newest_is_kept_while_its_attempt_is_drawn(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, bytes] | None] = []

    class Painter:
        """An engine that shows what it does."""

        loading = 0.0

        def draw(self, *given: Any) -> list[Image.Image]:
            beat, show = given[2], given[4]
            for picture in (b"first", b"second"):
                show(picture)
                beat(0.5, "")
                shown.append(house.queue.picture(1, 1))
            return [Image.new("RGB", (8, 8))]

    monkeypatch.setattr(Studio, "house", house, raising=False)
    monkeypatch.setattr(Studio, "engine", Painter(), raising=False)
    monkeypatch.setattr(Studio, "finisher", Finisher(house), raising=False)
    made = house.generations.submit(validate({"prompt": "a fox"}), Asker("web", "ann"), "e", {})
    generate(made.id)
    assert Studio.finisher.drain(10)
    assert [one and one[1] for one in shown] == [b"first", b"second"]
    assert shown[0] and shown[1] and shown[0][0] != shown[1][0]
    assert house.queue.picture(1, 1) is None and not house.queue.previewed(1, 1)
    assert not house.queue.redis.keys("*preview*")
