"""What shapes a drawing beside its prompt, on the starter model: LoRA, tile, hires, weights."""

import inspect
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from core import catalog, parts, receipts, samplers
from core.catalog import STARTER, Model
from core.engine import AskDifferently, Stopped
from tests.worker.test_modes import CROWN, apart, on, pixels, request
from worker import adapters, wording
from worker.engines import local
from worker.engines.local import LocalDiffusers

Weighed = list[tuple[str, float]]
BLUEPRINT = "a strawberry on a white background, blueprint"


@pytest.fixture(scope="module")
def engine() -> LocalDiffusers:
    return LocalDiffusers("cpu", 1, 0)


@pytest.fixture(scope="module")
def starter(starter_model: str) -> Model:
    return catalog._model(starter_model)


def border(image: Image.Image) -> np.ndarray:
    """The mean colour of the upper and lower edge."""
    seen = pixels(image)
    return np.concatenate([seen[:10], seen[-10:]]).reshape(-1, 3).mean(0)


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.tobytes() == other.tobytes()


# LoRA


@pytest.fixture
def own_loras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starter: Model) -> Path:
    """A folder of LoRAs beside the model's own."""
    monkeypatch.setenv("DRAWQUEUE_LORAS", str(tmp_path))
    catalog.read.__globals__["_read"].cache_clear()
    parts._loras.cache_clear()
    return tmp_path


def test_a_lora_changes_the_picture_by_its_weight_and_nothing_after_it(
    engine: LocalDiffusers, starter: Model
) -> None:
    def drawn(weight: float | None) -> Image.Image:
        loras = () if weight is None else (("Blueprint", weight),)
        return engine.draw(starter, request(prompt=BLUEPRINT, loras=loras), on)[0]

    none = drawn(None)
    far = [apart(drawn(weight), none) for weight in (0.0, 0.4, 1.0)]
    assert far[0] == 0, "weight 0 is none, bit for bit"
    assert 1 < far[1] < far[2] and far[2] > 40, far
    red, _green, blue = border(drawn(1.0))
    assert blue > red + 60
    assert same(drawn(None), none), "the next drawing knows nothing of it"


def test_a_lora_is_read_once_and_so_many_stay(
    engine: LocalDiffusers, starter: Model, own_loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        shutil.copy(STARTER / "loras" / "blueprint.safetensors", own_loras / f"{name}.safetensors")
    monkeypatch.setattr(adapters, "KEPT", 2)
    pipeline = engine._pipeline(starter, lambda _name, _share: None)
    read: list[str] = []
    load = pipeline.load_lora_weights

    def counted(*given: Any, **named: Any) -> None:
        read.append(named["weight_name"].split(".")[0])
        load(*given, **named)

    monkeypatch.setattr(pipeline, "load_lora_weights", counted)

    def draw(*loras: tuple[str, float]) -> Image.Image:
        return engine.draw(starter, request(prompt=BLUEPRINT, steps=2, loras=loras), on)[0]

    first = draw(("one", 1.0))
    draw(("two", 1.0))
    assert same(draw(("one", 1.0)), first) and read == ["one", "two"]
    both = draw(("one", 0.5), ("two", 0.5))
    assert apart(both, first) < 2, "two halves of one are the one"
    draw(("three", 1.0))
    names = {name for of in pipeline.get_list_adapters().values() for name in of}
    assert len(names) == 2
    assert same(draw(("one", 1.0)), first) and read[2:] in (["three"], ["three", "one"])


def test_a_lora_that_does_not_fit_is_told_and_the_next_drawing_is_whole(
    engine: LocalDiffusers, starter: Model, own_loras: Path
) -> None:
    weights = load_file(STARTER / "loras" / "blueprint.safetensors")
    save_file({"some.other.layer": torch.zeros(4, 4)}, own_loras / "foreign.safetensors")
    wide = {name: torch.zeros(one.shape[0] + 8, one.shape[1] + 8) if "to_q" in name else one
            for name, one in weights.items()}  # fmt: skip
    save_file(wide, own_loras / "wide.safetensors")
    (own_loras / "broken.safetensors").write_bytes(os.urandom(300))
    plain = engine.draw(starter, request(prompt=BLUEPRINT, steps=2), on)[0]
    worn = engine.draw(
        starter, request(prompt=BLUEPRINT, steps=2, loras=(("blueprint", 1.0),)), on
    )[0]
    for name in ("foreign", "wide", "broken", "gone"):
        with pytest.raises(AskDifferently, match=f"LoRA {name} (does not fit|is no longer)"):
            engine.draw(starter, request(loras=(("blueprint", 1.0), (name, 1.0))), on)
        again = engine.draw(starter, request(prompt=BLUEPRINT, steps=2), on)[0]
        assert same(again, plain)
    again = engine.draw(
        starter, request(prompt=BLUEPRINT, steps=2, loras=(("blueprint", 1.0),)), on
    )[0]
    assert same(again, worn)


# Tiles


def seam(image: Image.Image) -> float:
    """How much opposite edges differ, by how much neighbouring lines inside do; 1 is no seam."""
    seen = pixels(image)
    rows = np.abs(seen[0] - seen[-1]).mean() / np.abs(np.diff(seen, axis=0)).mean()
    columns = np.abs(seen[:, 0] - seen[:, -1]).mean() / np.abs(np.diff(seen, axis=1)).mean()
    return float(max(rows, columns))


def test_the_edges_of_a_tile_meet(engine: LocalDiffusers, starter: Model) -> None:
    plain, tile = (engine.draw(starter, request(steps=12, tile=on_), on)[0] for on_ in (0, 1))
    assert seam(plain) > 3 and seam(tile) < 1.0, (seam(plain), seam(tile))
    red, _green, _blue = pixels(tile)[40:88, 40:88].reshape(-1, 3).max(0)
    assert red > 150, "there is something on it"
    assert same(engine.draw(starter, request(steps=12), on)[0], plain), "undone afterwards"


def test_a_tile_that_is_stopped_leaves_no_trace(engine: LocalDiffusers, starter: Model) -> None:
    with pytest.raises(Stopped):
        engine.draw(starter, request(tile=True), lambda share, _words="": share < 0.6)
    modes = {
        layer.padding_mode
        for part in (engine.warm[starter.source].unet, engine.warm[starter.source].vae)
        for layer in part.modules()
        if isinstance(layer, torch.nn.Conv2d)
    }
    assert modes == {"zeros"}


# Hires


@pytest.mark.parametrize("steps", [1, 6])
def test_hires_draws_small_then_large(engine: LocalDiffusers, starter: Model, steps: int) -> None:
    shares: list[float] = []
    wanted = request(hires=1.4, hires_strength=0.5, steps=steps, width=128, height=64)
    drawn = engine.draw(starter, wanted, lambda share, _words="": not shares.append(share))[0]
    # 179.2 and 89.6 pixels, to the nearest 8.
    assert drawn.size == (176, 88)
    assert len(shares) == wanted.passes == (2 if steps == 1 else 9)
    assert np.allclose(np.diff([0, *shares]), 1 / wanted.passes)


def test_hires_keeps_what_was_drawn_small(engine: LocalDiffusers, starter: Model) -> None:
    small = engine.draw(starter, request(), on)[0].resize((160, 160), Image.Resampling.LANCZOS)
    drawn = engine.draw(starter, request(hires=1.25, hires_strength=0.25), on)[0]
    direct = engine.draw(starter, request(width=160, height=160), on)[0]
    assert 1 < apart(drawn, small) < apart(direct, small) - 5


# The text encoder


def test_layers_of_the_text_encoder_are_left_out(engine: LocalDiffusers, starter: Model) -> None:
    drawn = [engine.draw(starter, request(clip_skip=skip), on)[0] for skip in (0, 1, 2)]
    assert not same(drawn[0], drawn[1]) and not same(drawn[1], drawn[2])
    assert apart(drawn[0], drawn[1]) < 40, "it is still a crown on blue"
    with pytest.raises(AskDifferently, match="3 layers: --clip-skip can be 2 at most"):
        engine.draw(starter, request(clip_skip=3), on)


@pytest.mark.parametrize(
    ("prompt", "fragments"),
    [
        ("a fox", [("a fox", 1)]),
        ("", []),
        ("(a fox)", [("a fox", 1.1)]),
        ("[a fox]", [("a fox", 1 / 1.1)]),
        ("a (red:1.3) fox", [("a ", 1), ("red", 1.3), (" fox", 1)]),
        ("a (red:.5) fox", [("a ", 1), ("red", 0.5), (" fox", 1)]),
        ("a (red: 1) fox", [("a red fox", 1)]),
        ("((a) b)", [("a", 1.1 * 1.1), (" b", 1.1)]),
        ("(a (b:2):1.5)", [("a ", 1.5), ("b", 3)]),
        # Never so much that only noise is left, nor less than nothing.
        ("(a:99)", [("a", wording.MOST)]),
        ("(a:-1)", [("a", 0)]),
        # What is no weight is text.
        (r"a fox \(sly\)", [("a fox (sly)", 1)]),
        ("a sad fox :(", [("a sad fox :(", 1)]),
        ("a glad fox :)", [("a glad fox :)", 1)]),
        ("at 10:30) [sic", [("at 10:30) [sic", 1)]),
        ("ratio 3:2, C:\\fox", [("ratio 3:2, C:\\fox", 1)]),
        ("()", []),
    ],
)
def test_weights_are_read_as_others_write_them(
    prompt: str, fragments: list[tuple[str, float]]
) -> None:
    read = wording.parsed(prompt)
    assert [text for text, _ in read] == [text for text, _ in fragments]
    assert np.allclose([weight for _, weight in read], [weight for _, weight in fragments])


@pytest.mark.parametrize(
    ("prompt", "negative", "wanted", "unwanted"),
    [
        ("a fox", "", [("a fox", 1)], []),
        ("hot:: dog", "", [("hot", 1), ("dog", 1)], []),
        ("hot::2 dog", "", [("hot", 4 / 3), ("dog", 2 / 3)], []),
        ("hot::2, dog::1", "", [("hot", 4 / 3), ("dog", 2 / 3)], []),
        ("hot::200 dog::100 ", "", [("hot", 4 / 3), ("dog", 2 / 3)], []),
        ("a fox::5", "", [("a fox", 1)], []),
        ("(red:1.5) fox::3 owl::1", "", [("red", 2.25), (" fox", 1.5), ("owl", 0.5)], []),
        ("tulips:: red::-.5", "", [("tulips", 1)], [("red", 0.5)]),
        ("tulips:: red::-.5", "bugs", [("tulips", 1)], [("bugs", 1), ("red", 0.5)]),
        ("red::-1", "", [], [("red", 1)]),
        ("a fox::0", "", [("a fox", 1)], []),
        # What is no weight is text.
        ("std::vector, a::b", "", [("std::vector, a::b", 1)], []),
        ("a fox::2x", "", [("a fox::2x", 1)], []),
        ("::", "", [], []),
    ],
)
def test_what_stands_apart_weighs_as_it_is_to_the_others(
    prompt: str, negative: str, wanted: Weighed, unwanted: Weighed
) -> None:
    for read, meant in zip(wording.read(prompt, negative), (wanted, unwanted), strict=True):
        seen = [one for fragments in read for one in fragments]
        assert [text for text, _ in seen] == [text for text, _ in meant]
        assert np.allclose([weight for _, weight in seen], [weight for _, weight in meant])


def test_parts_of_a_prompt_contend_by_their_weights(engine: LocalDiffusers, starter: Model) -> None:
    def blueness(blue: float, yellow: float) -> float:
        prompt = f"a crown on a blue background::{blue} a crown on a yellow background::{yellow}"
        red, _green, seen = border(engine.draw(starter, request(prompt=prompt), on)[0])
        return float(seen - red)

    drawn = [blueness(1, 3), blueness(3, 1)]
    assert drawn[1] > drawn[0] + 60, drawn
    assert blueness(3, 1) == blueness(300, 100)
    kept = request(prompt="a crown on a background:: blue::-1")
    against = request(prompt="a crown on a background", negative_prompt="blue")
    assert same(engine.draw(starter, kept, on)[0], engine.draw(starter, against, on)[0])


def test_without_weights_and_within_the_length_nothing_is_new(
    engine: LocalDiffusers, starter: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = engine._pipeline(starter, lambda _name, _share: None)
    told = wording.told(pipeline, CROWN, "dogs", 0, 2)
    assert told == {"prompt": [CROWN] * 2, "negative_prompt": ["dogs"] * 2}
    plain = engine.draw(starter, request(), on)[0]
    weighed = request(prompt="a (red:1.0) crown on a blue background")
    assert same(engine.draw(starter, weighed, on)[0], plain)


def test_embeddings_without_weights_are_the_pipelines_own(
    engine: LocalDiffusers, starter: Model
) -> None:
    pipeline = engine._pipeline(starter, lambda _name, _share: None)
    with torch.inference_mode():
        ours = wording._embedded(pipeline, [[[(CROWN, 1.0)]], [[]]], 0)
        theirs = pipeline.encode_prompt(CROWN, "cpu", 1, True, "")
    for name, one in zip(("prompt_embeds", "negative_prompt_embeds"), theirs, strict=True):
        assert torch.equal(ours[name], one)


def test_a_weight_moves_the_picture_towards_its_word(
    engine: LocalDiffusers, starter: Model
) -> None:
    def blueness(*words: str) -> float:
        prompt = f"a crown on a {' '.join(words)} background"
        red, _green, blue = border(engine.draw(starter, request(prompt=prompt), on)[0])
        return float(blue - red)

    # Two colours contend: here yellow has it, where both weigh the same.
    alike, more = blueness("blue", "yellow"), blueness("(blue:2)", "(yellow:0.5)")
    assert more > alike + 60, (alike, more)
    assert blueness("(blue:0)") < blueness("blue") - 60
    negative = request(negative_prompt="(blue:1.5) background")
    assert not same(
        engine.draw(starter, negative, on)[0],
        engine.draw(starter, request(negative_prompt="blue background"), on)[0],
    )


@pytest.mark.parametrize("count", [1, 2])
def test_the_end_of_a_long_prompt_counts(
    engine: LocalDiffusers, starter: Model, count: int
) -> None:
    filler = "a crown, " * 30
    blue, yellow = (
        engine.draw(starter, request(prompt=f"{filler} on a {colour} background", count=count), on)[
            -1
        ]
        for colour in ("blue", "yellow")
    )
    assert border(blue)[2] > border(yellow)[2] + 60


# Samplers and schedules


def test_a_sampler_offers_the_schedules_that_diffusers_class_takes() -> None:
    for name, one in samplers.SAMPLERS.items():
        made = getattr(diffusers, local.SAMPLERS[name][0])
        takes = set(inspect.signature(made.__init__).parameters)
        able = {one for one in samplers.SCHEDULES if {*local.SCHEDULES[one]} <= takes}
        # LCM has a parameter for the spacing, and steps of its own.
        assert set(one.schedules) == (able if name != "LCM" else set()), name


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_each_schedule_has_noise_of_its_own(starter_model: str, sampler: str) -> None:
    config = json.loads((Path(starter_model) / "scheduler" / "scheduler_config.json").read_text())
    # As Stable Diffusion 1.5 has it; the starter model is spaced evenly already.
    config["timestep_spacing"] = "leading"
    seen = {}
    for schedule in ("", *samplers.SAMPLERS[sampler].schedules):
        made = local._scheduler(None, config, f"{sampler} {schedule}".strip())
        made.set_timesteps(10)
        levels = made.sigmas if hasattr(made, "sigmas") else made.timesteps
        seen[schedule] = tuple(np.asarray(levels, float).round(4))
    alike = [one for one in seen if list(seen.values()).count(seen[one]) > 1]
    assert not alike, "a schedule that changes nothing is none"


# Chaos


def test_chaos_says_how_far_several_pictures_differ(engine: LocalDiffusers, starter: Model) -> None:
    def spread(**changes: Any) -> tuple[list[Image.Image], float]:
        drawn = engine.draw(starter, request(count=3, **changes), on)
        return drawn, sum(apart(one, drawn[0]) for one in drawn[1:])

    usual, _ = spread()
    wide, much = spread(chaos=60.0)
    near, little = spread(chaos=15.0)
    none, nothing = spread(chaos=0.0)
    assert same(near[0], usual[0]) and same(none[2], usual[0]), "that of the seed"
    assert nothing == 0 < 2 * little < much, (little, much)
    # Each is drawn again from its own receipt, alone.
    wanted = request(count=3, chaos=60.0)
    receipt = receipts.read(receipts.notes(1, wanted, wanted.seeds[2]).theirs)
    assert receipt and receipt.given["chaos"] == 60
    assert receipt.given["subseed"] == str(wanted.seed + 2) and receipt.given["seed"] == "7"
    assert apart(engine.draw(starter, wanted.alone(wanted.seeds[2]), on)[0], wide[2]) < 0.1


def test_chaos_is_the_same_with_a_sampler_that_draws_noise_at_each_step(
    engine: LocalDiffusers, starter: Model
) -> None:
    wanted = request(sampler="Euler a", count=2, hires=1.25, steps=5)
    assert apart(*engine.draw(starter, replace(wanted, chaos=0.0), on)) == 0
    usual = engine.draw(starter, wanted, on)
    drawn = engine.draw(starter, replace(wanted, chaos=30.0), on)
    assert same(drawn[0], usual[0]) and not same(drawn[1], usual[1])
    assert apart(drawn[1], drawn[0]) < apart(usual[1], usual[0])
