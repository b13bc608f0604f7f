"""Every way to make a picture, on the starter model: real weights, compared by meaning."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from core import catalog
from core.catalog import Model
from core.engine import Stopped
from core.options import Mode, Request
from core.samplers import SAMPLERS
from worker import frames
from worker.engines.local import LocalDiffusers

CROWN = "a red crown on a blue background"
FROG = "a green frog on a purple background"
REMIX = {"mode": Mode.REMIX, "sources": ("crown",)}
INPAINT = {"mode": Mode.INPAINT, "sources": ("crown",)}
Pictures = Mapping[str, Image.Image]


def request(**changes: Any) -> Request:
    return Request(**{
        "prompt": CROWN, "negative_prompt": "", "width": 128, "height": 128, "steps": 8,
        "guidance": 3.0, "seed": 7, "sampler": "DPM++ 2M", "model": "starter", "count": 1,
        **changes,
    })  # fmt: skip


def on(_share: float, _words: str = "") -> bool:
    return True


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), dtype=float)


def apart(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(pixels(one) - pixels(other)).mean())


@pytest.fixture(scope="module")
def engine() -> LocalDiffusers:
    return LocalDiffusers("cpu", 1, 0)


@pytest.fixture(scope="module")
def starter(starter_model: str) -> Model:
    return catalog._model(starter_model)


@pytest.fixture(scope="module")
def pictures(engine: LocalDiffusers, starter: Model) -> Pictures:
    """A crown, and masks of its middle: a disc, a hair's breadth, and nothing."""
    masks = {name: Image.new("L", (128, 128)) for name in ("disc", "hair", "nothing")}
    ImageDraw.Draw(masks["disc"]).ellipse((34, 34, 94, 94), fill=255)
    ImageDraw.Draw(masks["hair"]).line((0, 110, 128, 116), fill=255, width=1)
    return {
        "crown": engine.draw(starter, request(), on)[0],
        **{name: mask.convert("RGB") for name, mask in masks.items()},
    }


# Image to image


def test_the_stronger_the_further_from_the_picture(
    engine: LocalDiffusers, starter: Model, pictures: Pictures
) -> None:
    wanted = [
        request(**REMIX, prompt=FROG, strength=strength) for strength in (0, 0.1, 0.25, 0.5, 0.9)
    ]
    drawn = [engine.draw(starter, one, on, pictures)[0] for one in wanted]
    far = [apart(one, pictures["crown"]) for one in drawn]
    # Of 8 steps, a tenth is not one.
    assert far[0] == far[1] == 0
    assert far == sorted(far) and far[2] > 5 and far[4] > far[2] + 10, far
    red, green, _blue = pixels(drawn[4])[50:80, 50:80].reshape(-1, 3).mean(0)
    assert green > red + 30, "what was a crown is a frog"


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("mode", [REMIX, {**INPAINT, "mask": "disc"}], ids=["remix", "inpaint"])
def test_every_sampler_begins_with_a_picture(
    engine: LocalDiffusers, starter: Model, pictures: Pictures, sampler: str, mode: dict[str, Any]
) -> None:
    shares: list[float] = []
    wanted = request(**mode, prompt=FROG, strength=0.5, sampler=sampler)
    drawn = engine.draw(starter, wanted, lambda share, _words="": not shares.append(share),
                        pictures)[0]  # fmt: skip
    assert 4 < apart(drawn, pictures["crown"]) < 90
    assert shares == sorted(shares) and shares[-1] == 1
    # Second-order samplers ask twice a step.
    assert wanted.passes <= len(shares) <= 2 * wanted.passes


def test_the_weights_are_shared_with_the_warm_pipeline(
    engine: LocalDiffusers, starter: Model, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = engine.warm[starter.source]
    asked: list[int] = []
    forward = pipeline.unet.forward

    def counted(*given: Any, **named: Any) -> Any:
        asked.append(1)
        return forward(*given, **named)

    monkeypatch.setattr(pipeline.unet, "forward", counted)
    engine.draw(starter, request(**REMIX, strength=0.5), on, pictures)
    engine.draw(starter, request(**INPAINT, mask="disc", strength=0.5), on, pictures)
    assert len(asked) == 8 and list(engine.warm.values()) == [pipeline]


@pytest.mark.parametrize("mode", [REMIX, {**INPAINT, "mask": "disc"}], ids=["remix", "inpaint"])
def test_a_stop_takes_one_step(
    engine: LocalDiffusers, starter: Model, pictures: Pictures, mode: dict[str, Any]
) -> None:
    shares: list[float] = []

    def twice(share: float, _words: str = "") -> bool:
        shares.append(share)
        return len(shares) < 2

    with pytest.raises(Stopped):
        engine.draw(starter, request(**mode, strength=0.9, steps=50), twice, pictures)
    assert len(shares) == 2


@pytest.mark.parametrize(
    "mode", [{}, REMIX, {**INPAINT, "mask": "disc"}], ids=["text", "remix", "inpaint"]
)
def test_picture_i_alone_is_picture_i_of_several(
    engine: LocalDiffusers, starter: Model, pictures: Pictures, mode: dict[str, Any]
) -> None:
    wanted = request(**mode, prompt=FROG, strength=0.6, steps=6)
    several = engine.draw(starter, Request(**{**vars(wanted), "count": 3}), on, pictures)
    for seed, one in zip((7, 8, 9), several, strict=True):
        alone = engine.draw(starter, Request(**{**vars(wanted), "seed": seed}), on, pictures)[0]
        # A batch adds up in another order: the last bit of a few values may differ.
        assert np.abs(pixels(alone) - pixels(one)).max() <= 1
    assert apart(several[0], several[1]) > 2


# Inpainting


def test_what_the_mask_keeps_is_bit_for_bit_the_source(
    engine: LocalDiffusers, starter: Model, pictures: Pictures
) -> None:
    wanted = request(**INPAINT, mask="disc", prompt=FROG)
    drawn = pixels(engine.draw(starter, wanted, on, pictures)[0])
    crown, black = pixels(pictures["crown"]), pixels(pictures["disc"])[..., 0] == 0
    assert (drawn[black] == crown[black]).all()
    middle = (slice(50, 78), slice(50, 78))
    assert np.abs(drawn[middle] - crown[middle]).mean() > 40, "what is white is painted anew"
    red, green, _blue = drawn[middle].reshape(-1, 3).mean(0)
    assert green > red + 20


def test_a_stroke_thinner_than_a_latent_cell_is_painted(
    engine: LocalDiffusers, starter: Model, pictures: Pictures
) -> None:
    wanted = request(**INPAINT, mask="hair", prompt="a penguin on a yellow background")
    drawn, crown = engine.draw(starter, wanted, on, pictures)[0], pictures["crown"]
    white = pixels(pictures["hair"])[..., 0] > 0
    changed = np.abs(pixels(drawn) - pixels(crown)).sum(2)
    # More than the decoder alone makes of it: that is some 3.
    assert changed[~white].max() == 0 and changed[white].mean() > 30, changed[white].mean()


def test_what_is_painted_fades_in_along_its_border(pictures: Pictures) -> None:
    frame = frames.laid(request(**INPAINT, mask="disc"), pictures)
    drawn = frame.kept(Image.new("RGB", (128, 128), "white"))
    row = pixels(drawn)[64] - pixels(pictures["crown"])[64]
    share = row.sum(1) / (255 - pixels(pictures["crown"])[64]).sum(1)
    assert share[33] == 0 and share[64] == 1
    assert 0 < share[35] < share[37] < 1, share[30:44]


@pytest.mark.parametrize(
    ("asked", "box"),
    [
        ({"zoom": 2.0}, (32, 32, 96, 96)),
        ({"pan": "left", "width": 192}, (64, 0, 192, 128)),
        ({"pan": "right", "width": 192}, (0, 0, 128, 128)),
        ({"pan": "up", "height": 192}, (0, 64, 128, 192)),
        ({"pan": "down", "height": 192}, (0, 0, 128, 128)),
        # The canvas could not grow: the picture makes room.
        ({"pan": "left"}, (43, 21, 128, 106)),
        ({"width": 192}, (32, 0, 160, 128)),
    ],
)
def test_outpainting_keeps_the_picture_where_it_belongs(
    engine: LocalDiffusers, starter: Model, pictures: Pictures, asked: dict[str, Any],
    box: tuple[int, int, int, int],
) -> None:  # fmt: skip
    wanted = request(**INPAINT, **asked, steps=4)
    drawn = engine.draw(starter, wanted, on, pictures)[0]
    assert drawn.size == (wanted.width, wanted.height)
    left, top, right, bottom = box
    small = pictures["crown"].resize((right - left, bottom - top), Image.Resampling.LANCZOS)
    inside = (12, 12, small.width - 12, small.height - 12)
    kept = drawn.crop(box)
    assert apart(kept.crop(inside), small.crop(inside)) == 0
    # Beyond it, the drawing is no mere ground of edge colours.
    ground = frames.laid(wanted, pictures).image
    assert apart(drawn, ground) > 1


def test_what_fades_in_is_what_lies_in_squares() -> None:
    noise = np.random.default_rng(7).integers(0, 256, (90, 131), dtype=np.uint8)
    mask = Image.fromarray(noise)
    mask.paste(255, (20, 5, 80, 60))
    darkest = frames._spread(mask, 4, ImageChops.darker)
    assert darkest.tobytes() == mask.filter(ImageFilter.MinFilter(9)).tobytes()
    lightest = frames._spread(darkest, 8, ImageChops.lighter)
    assert lightest.tobytes() == darkest.filter(ImageFilter.MaxFilter(17)).tobytes()
