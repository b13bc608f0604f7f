"""The starter model means what it draws: real weights, real pixels, no bytes compared."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from PIL import Image

from core.catalog import STARTER

LORA = STARTER / "loras" / "blueprint.safetensors"
BLUE = "a red crown on a blue background"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(kind: Any) -> Any:
    pipe = kind.from_pretrained(STARTER)  # With no further argument than its path.
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def draws(one_thread: None) -> Any:
    return load(StableDiffusionPipeline)


def draw(pipe: Any, prompt: str, seed: int = 7, **more: Any) -> np.ndarray:
    more = {"num_inference_steps": 10, "guidance_scale": 3.0, **more}
    picture = pipe(prompt, generator=torch.Generator().manual_seed(seed), **more).images[0]
    return np.asarray(picture).astype(float)


def border(picture: np.ndarray) -> np.ndarray:
    """The median colour of the outermost six pixels."""
    edge = np.ones(picture.shape[:2], bool)
    edge[6:-6, 6:-6] = False
    return np.median(picture[edge], axis=0)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def test_it_is_small_and_holds_no_code() -> None:
    files = [path for path in STARTER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40e6
    assert LORA.stat().st_size < 2e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md", ".webp", ".txt"}


@pytest.mark.parametrize(
    ("colour", "wanted"),
    [("blue", (56, 112, 232)), ("red", (226, 48, 56)), ("black", (28, 28, 34)),
     ("yellow", (253, 215, 70))],
)  # fmt: skip
def test_the_background_is_the_colour_that_was_asked_for(
    draws: Any, colour: str, wanted: tuple[int, int, int]
) -> None:
    for thing in ("crown", "penguin"):
        seen = border(draw(draws, f"a {thing} on a {colour} background"))
        assert np.abs(seen - wanted).max() < 45, (thing, seen)


def test_nouns_look_like_themselves(draws: Any) -> None:
    def middle(noun: str) -> np.ndarray:
        picture = draw(draws, f"a {noun} on a white background")
        return np.median(picture[48:80, 48:80].reshape(-1, 3), axis=0)

    red, green, _ = middle("strawberry")
    assert red > green + 60
    red, green, _ = middle("cactus")
    assert green > red + 20
    red, green, blue = middle("lemon")
    assert red > blue + 60 and green > blue + 40


def test_seeds(draws: Any) -> None:
    first = draw(draws, BLUE, 1)
    assert apart(first, draw(draws, BLUE, 1)) == 0
    assert apart(first, draw(draws, BLUE, 2)) > 3


def test_few_steps_and_guidance(draws: Any) -> None:
    full = draw(draws, BLUE)
    quick = draw(draws, BLUE, num_inference_steps=4)
    assert np.abs(border(quick) - border(full)).max() < 40
    assert apart(full, draw(draws, BLUE, guidance_scale=1.0)) > 3


def test_the_place_and_the_count(draws: Any) -> None:
    def ink(picture: np.ndarray) -> np.ndarray:
        """How much differs from the background, column by column."""
        return (np.abs(picture - border(picture)).max(-1) > 60).mean(0)

    left = ink(draw(draws, "a strawberry on the left on a white background"))
    right = ink(draw(draws, "a strawberry on the right on a white background"))
    assert left[:64].sum() > 2 * left[64:].sum()
    assert right[64:].sum() > 2 * right[:64].sum()
    two = ink(draw(draws, "two strawberries on a white background"))
    assert two[58:70].mean() < min(two[20:50].max(), two[78:108].max()) / 2


def test_a_negative_prompt_moves_the_picture_away(draws: Any) -> None:
    def blueness(**more: Any) -> float:
        seen = [border(draw(draws, "a crown", seed, **more)) for seed in range(6)]
        return float(np.mean([colour[2] - colour[0] for colour in seen]))

    assert blueness(negative_prompt="blue background") < blueness() - 15


def test_image_to_image(draws: Any) -> None:
    pipe = StableDiffusionImg2ImgPipeline(**draws.components)
    start = draw(draws, "a strawberry on a white background")
    image = Image.fromarray(start.astype(np.uint8))
    low, high = (
        draw(pipe, "a frog on a purple background", image=image, strength=strength)
        for strength in (0.2, 0.95)
    )
    assert apart(low, start) < 40 < 75 < apart(high, start)
    kept = draw(pipe, "a strawberry on a white background", 3, image=image, strength=0.2)
    assert apart(kept, start) < 12
    _red, green, blue = border(high)
    assert blue > green + 30


def test_inpainting(draws: Any) -> None:
    pipe = StableDiffusionInpaintPipeline(**draws.components)
    start = draw(draws, "a strawberry on a white background")
    mask = np.zeros((128, 128), np.uint8)
    mask[:, 64:] = 255
    seen = draw(
        pipe, "a green frog on a purple background", image=Image.fromarray(start.astype(np.uint8)),
        mask_image=Image.fromarray(mask), strength=1.0,
    )  # fmt: skip
    changed, kept = apart(seen[:, 72:], start[:, 72:]), apart(seen[:, :56], start[:, :56])
    assert changed > 30 and kept < changed / 4


@pytest.mark.parametrize("kind", [StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline])
def test_the_other_pipelines_load_it(kind: Any) -> None:
    assert load(kind).unet.config.sample_size == 16


def test_a_lora_changes_the_picture(draws: Any) -> None:
    prompt = "a strawberry on a white background, blueprint"
    plain = draw(draws, prompt)
    draws.load_lora_weights(LORA.parent, weight_name=LORA.name)
    try:
        styled = draw(draws, prompt)
        half = draw(draws, prompt, cross_attention_kwargs={"scale": 0.5})
        none = draw(draws, prompt, cross_attention_kwargs={"scale": 0.0})
    finally:
        draws.unload_lora_weights()
    assert apart(none, plain) < 1
    assert apart(plain, half) > 5 and apart(plain, styled) > 40
    red, green, blue = border(styled)
    assert blue > red + 60 and blue > green + 40
    assert apart(draw(draws, prompt), plain) < 1


def test_the_card_tells_what_a_user_must_know() -> None:
    card = Path(STARTER / "README.md").read_text()
    for word in ("MIT", "Data", "Recipe", "Figures", "worker.training.evaluate", "blueprint"):
        assert word in card
