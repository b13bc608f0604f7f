"""Families beside the starter's, styles, blends and VAEs: the code of diffusers, real pixels."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file, save_file

from core import catalog, parts, settings
from core.catalog import STARTER, Model
from core.engine import AskDifferently, GiveUp, Stopped, TransientError
from core.errors import InvalidOptions
from core.media import Source
from core.options import Mode, Options, Request, validate
from tests.worker.families import FAMILIES, style_adapter
from tests.worker.test_modes import CROWN, FROG, apart, on, pixels, request
from tests.worker.test_previews import often as often
from worker import wording
from worker.engines import local
from worker.engines.local import LocalDiffusers

SQUARE = {"width": 64, "height": 64, "sampler": "Euler", "steps": 4, "guidance": 4.0}
RED, BLUE = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))
LEFT = Image.new("RGB", (64, 64))
LEFT.paste("white", (0, 0, 32, 64))
PICTURES = {"red": RED, "blue": BLUE, "left": LEFT}


def forget() -> None:
    for kept in (settings._read, parts._loras, parts._vaes, catalog.models):
        kept.cache_clear()


@pytest.fixture(scope="module")
def engine() -> LocalDiffusers:
    return LocalDiffusers("cpu", 1, 0)


@pytest.fixture(scope="module")
def sources(starter_model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each family."""
    folder = tmp_path_factory.mktemp("families")
    return {name: make(Path(starter_model), folder / name) for name, make in FAMILIES.items()}


@pytest.fixture(scope="module")
def tiny(sources: dict[str, Path]) -> dict[str, Model]:
    return {name: catalog._model(str(at)) for name, at in sources.items()}


def of(model: Model, **changes: Any) -> Request:
    return request(model=model.name, **{**SQUARE, **changes})


def settled(model: Model, *brought: Source, mode: Mode = Mode.TEXT, **given: Any) -> Request:
    asked: Options = validate({"prompt": "a fox", "model": model.name, **given})
    return catalog.settle(asked, 5, mode, brought)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_way_to_draw_runs_on_each_family(
    engine: LocalDiffusers, tiny: dict[str, Model], name: str
) -> None:
    model = tiny[name]
    wanted = of(model, count=2)
    shares: list[float] = []
    two = engine.draw(model, wanted, lambda share, _words="": not shares.append(share))
    assert len(two) == 2 and apart(*two) > 0 and shares == [0.25, 0.5, 0.75, 1]
    assert engine.draw(model, wanted, on)[1].tobytes() == two[1].tobytes(), "by its seed"
    wide = engine.draw(model, of(model, width=96), on)[0]
    assert wide.size == (96, 64)
    shares.clear()
    engine.draw(model, of(model, mode=Mode.REMIX, sources=("red",), strength=0.5),
                lambda share, _words="": not shares.append(share), PICTURES)  # fmt: skip
    assert len(shares) == 2, "half the steps"
    half = of(model, mode=Mode.INPAINT, sources=("red",), mask="left", strength=1.0)
    painted = engine.draw(model, half, on, PICTURES)[0]
    kept = painted.crop((36, 0, 64, 64))
    assert kept.getcolors() == [(28 * 64, (255, 0, 0))], "what is black stays, bit for bit"
    assert apart(painted.crop((0, 0, 28, 64)), RED.crop((0, 0, 28, 64))) > 1
    large = engine.draw(model, of(model, hires=2.0), on)[0]
    assert large.size == (128, 128)
    with pytest.raises(Stopped):
        engine.draw(model, wanted, lambda _share, _words="": False)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_known_by_its_folder_and_told_what_it_lacks(
    tiny: dict[str, Model], name: str, sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny[name]
    monkeypatch.setenv("DRAWQUEUE_MODEL", str(sources[name]))
    forget()
    assert catalog.models()[name] == model and name in str(sources[name])
    assert settled(model).sampler in model.family.samplers
    with pytest.raises(InvalidOptions) as told:
        settled(model, Source("a", 64, 64), mode=Mode.STYLE)
    assert f"{name} does not know /style. No model here does." in str(told.value)
    if name == "sdxl":
        assert model.size == 64 and settled(model, sampler="Heun", tile=True, clip_skip=1)
        return
    with pytest.raises(InvalidOptions) as told:
        settled(model, sampler="Heun", tile=True, clip_skip=1, width=72)
    for words in ("knows no --tile", "knows no --clip-skip", "It has Euler.", "such as 64 or 80"):
        assert words in str(told.value)
    forget()


def test_a_lora_of_one_family_is_drawn_with_and_not_offered_to_others(
    engine: LocalDiffusers, tiny: dict[str, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAWQUEUE_LORAS", str(tmp_path))
    for name, model in tiny.items():
        pipeline = DiffusionPipeline.from_pretrained(model.source)
        part = "unet" if name == "sdxl" else "transformer"
        network = getattr(pipeline, part)
        network.add_adapter(LoraConfig(
            r=4, target_modules=["to_q", "to_k", "to_v"], init_lora_weights=False,
        ))  # fmt: skip
        pipeline.save_lora_weights(
            tmp_path, weight_name=f"{name}.safetensors",
            **{f"{part}_lora_layers": get_peft_model_state_dict(network)},
        )  # fmt: skip
    forget()
    # Of one width here, the last are told apart by the layers that Flux alone has.
    fitting = {"sdxl": {"sdxl"}, "flux": {"flux", "sd3"}, "sd3": {"sd3"}}
    for name, model in tiny.items():
        assert set(parts.loras(model)) == fitting[name], name
        assert parts.loras(model)[name].width == model.context
        plain = engine.draw(model, of(model), on)[0]
        drawn = engine.draw(model, of(model, loras=((name, 2.0),)), on)[0]
        assert apart(plain, drawn) > 0


@pytest.mark.parametrize(("source", "size", "sampler", "lacks"), [
    ("stabilityai/stable-diffusion-xl-base-1.0", 1024, "DPM++ 2M", set()),
    ("black-forest-labs/FLUX.1-schnell", 1024, "Euler",
     {"tile", "clip_skip", "negative_prompt", "chaos"}),
    ("stabilityai/stable-diffusion-3.5-large", 1024, "Euler", {"tile", "clip_skip"}),
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", 512, "DPM++ 2M", set()),
])  # fmt: skip
def test_a_hub_id_tells_its_family(source: str, size: int, sampler: str, lacks: set[str]) -> None:
    model = catalog._model(source)
    assert (model.size, model.sampler, model.family.lacks) == (size, sampler, lacks)


def test_what_was_fetched_of_a_hub_is_looked_into(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert catalog._model("somebody/dreams").family == catalog.STABLE_DIFFUSION
    kept, revisions = tmp_path / "models--somebody--dreams", []
    for number in ("abc", "def"):
        shutil.copytree(sources["sdxl"], kept / "snapshots" / number)
        (kept / "refs").mkdir(exist_ok=True)
        (kept / "refs" / "main").write_text(number)
        model = catalog._model("somebody/dreams")
        assert (model.name, model.size, model.context) == ("dreams", 64, 64)
        catalog.revision.cache_clear()
        revisions.append(catalog.revision(model))
    assert revisions[0] != revisions[1], "what was fetched anew is another model"


def test_what_nobody_knows_draws_from_prompts_alone(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "SomethingNewPipeline"}')
    model = catalog._model(str(tmp_path))
    assert model.modes == {Mode.TEXT, Mode.UPSCALE} and "negative_prompt" in model.family.lacks


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux"])
def test_previews_are_seen_and_change_nothing(
    engine: LocalDiffusers, tiny: dict[str, Model], family: str
) -> None:
    model, seen = tiny[family], list[Image.Image]()
    plain = engine.draw(model, of(model), on)[0]
    drawn = engine.draw(model, of(model), on, {}, seen.append)[0]
    assert apart(drawn, plain) == 0 and seen
    assert all(max(one.size) == 256 and one.getcolors(1) is None for one in seen)


@pytest.mark.parametrize("family", ["sdxl", "sd3"])
def test_pictures_of_several_stay_as_near_as_chaos_says(
    engine: LocalDiffusers, tiny: dict[str, Model], family: str
) -> None:
    model = tiny[family]
    drawn = {
        chaos: engine.draw(model, of(model, count=2, chaos=chaos), on)
        for chaos in (0.0, 10.0, 100.0)
    }
    assert apart(*drawn[0.0]) == 0 < apart(*drawn[10.0]) < apart(*drawn[100.0])
    assert apart(drawn[10.0][0], drawn[100.0][0]) == 0, "the first is that of the seed"


def test_sdxl_hears_weights_long_prompts_and_fewer_layers(
    engine: LocalDiffusers, tiny: dict[str, Model]
) -> None:
    model = tiny["sdxl"]
    plain = engine.draw(model, of(model), on)[0]
    pipeline = engine.warm[model.source]
    weighed = wording.read(CROWN, "")
    with torch.inference_mode():
        embedded = wording._embedded(pipeline, weighed, 0)
        own = pipeline.encode_prompt(CROWN, negative_prompt="", do_classifier_free_guidance=True)
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds",
             "negative_pooled_prompt_embeds")  # fmt: skip
    for name, one in zip(names, own, strict=True):
        torch.testing.assert_close(embedded[name], one, msg=name)
    long = CROWN + ", with very many more words about it" * 12
    drawn = [
        engine.draw(model, of(model, **changes), on)[0]
        for changes in ({"prompt": f"({CROWN}:1.5)"}, {"prompt": long}, {"clip_skip": 1})
    ]
    assert all(apart(one, plain) > 0 for one in drawn)
    with pytest.raises(AskDifferently, match="2 at most"):
        engine.draw(model, of(model, clip_skip=3), on)


@pytest.fixture
def parts_for_sdxl(
    tiny: dict[str, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Model]:
    """The tiny SDXL with a LoRA for its drawing part and a VAE of its own, and its neighbours'."""
    model = tiny["sdxl"]
    for kind in ("loras", "vaes"):
        (tmp_path / kind).mkdir()
        monkeypatch.setenv(f"DRAWQUEUE_{kind.upper()}", str(tmp_path / kind))
    monkeypatch.setenv("DRAWQUEUE_MODEL", model.source)
    torch.manual_seed(6)
    unet = UNet2DConditionModel.from_pretrained(model.source, subfolder="unet")
    layers = [name for name, _ in unet.named_modules() if name.endswith(("attn2.to_k", "to_q"))]
    told = {}
    for name in layers:
        wide, long = unet.get_submodule(name).weight.shape
        told[f"unet.{name}.lora_A.weight"] = torch.randn(4, long) / 4
        told[f"unet.{name}.lora_B.weight"] = torch.randn(wide, 4) / 4
    save_file(told, tmp_path / "loras" / "oils.safetensors")
    shutil.copy(STARTER / "loras" / "blueprint.safetensors", tmp_path / "loras")
    vae = AutoencoderKL.from_pretrained(model.source, subfolder="vae")
    with torch.no_grad():
        vae.decoder.conv_out.bias += 0.5
    vae.save_pretrained(tmp_path / "vaes" / "brighter")
    forget()
    yield catalog.models()[model.name]
    forget()


def test_sdxl_takes_a_lora_by_its_weight_and_another_vae(
    engine: LocalDiffusers, parts_for_sdxl: Model
) -> None:
    model = parts_for_sdxl
    plain = engine.draw(model, of(model), on)[0]

    def drawn(weight: float) -> Image.Image:
        asked = settled(model, lora=f"oils:{weight}")
        assert asked.loras == (("oils", weight),)
        return engine.draw(model, of(model, loras=asked.loras), on)[0]

    assert drawn(0).tobytes() == plain.tobytes(), "of weight 0 is none"
    far = [apart(drawn(weight), plain) for weight in (0.25, 1.0)]
    assert 0 < far[0] < far[1], far
    vae = settled(model, vae="brighter").vae
    assert vae == "brighter"
    bright = engine.draw(model, of(model, vae=vae), on)[0]
    assert pixels(bright).mean() > pixels(plain).mean() + 15
    both = engine.draw(model, of(model, vae=vae, loras=(("oils", 1.0),)), on)[0]
    assert apart(both, bright) > 0 and pixels(both).mean() > pixels(plain).mean() + 15
    assert engine.draw(model, of(model), on)[0].tobytes() == plain.tobytes(), "nothing is left"
    # What was learned with another family's text is not for it.
    with pytest.raises(InvalidOptions, match="LoRA “blueprint”"):
        settled(model, lora="blueprint:1")


def test_weights_that_a_family_does_not_know_are_told(
    engine: LocalDiffusers, tiny: dict[str, Model]
) -> None:
    told: list[str] = []

    def report(_share: float, words: str = "") -> bool:
        told.extend([words] if words else [])
        return True

    model = tiny["flux"]
    drawn = engine.draw(model, of(model, prompt="a (red:1.4) crown"), report)[0]
    assert told == ["flux knows no weights of words: they are drawn alike."]
    assert apart(drawn, engine.draw(model, of(model, prompt="a red crown"), on)[0]) == 0


# Styles


@pytest.fixture(scope="module", params=["starter", "sdxl"])
def adapted(
    request: pytest.FixtureRequest, starter_model: str, sources: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Path]:  # fmt: skip
    """A model, and what takes styles for it."""
    source = starter_model if request.param == "starter" else str(sources["sdxl"])
    return source, style_adapter(catalog._model(source), tmp_path_factory.mktemp("adapter"))


@pytest.fixture
def stylish(adapted: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    source, adapter = adapted
    monkeypatch.setenv("DRAWQUEUE_IP_ADAPTER", str(adapter))
    monkeypatch.setenv("DRAWQUEUE_MODEL", source)
    forget()
    yield next(iter(catalog.models().values()))
    forget()


def test_a_style_is_taken_by_its_strength_and_leaves_nothing_behind(
    engine: LocalDiffusers, stylish: Model
) -> None:
    assert Mode.STYLE in stylish.modes
    liked = {"mode": Mode.STYLE, "sources": ("red",)}
    plain = engine.draw(stylish, of(stylish), on)[0]

    def drawn(**changes: Any) -> Image.Image:
        return engine.draw(stylish, of(stylish, **{**liked, **changes}), on, PICTURES)[0]

    assert drawn(style_strength=0.0).tobytes() == plain.tobytes()
    far = [apart(drawn(style_strength=strength), plain) for strength in (0.3, 1.0)]
    assert 0 < far[0] < far[1], far
    assert apart(drawn(style_strength=1.0), drawn(sources=("left",), style_strength=1.0)) > 0
    assert engine.draw(stylish, of(stylish), on)[0].tobytes() == plain.tobytes(), "nothing is left"
    one = drawn(style_strength=1.0)
    pair = engine.draw(
        stylish, of(stylish, count=2, **liked, style_strength=1.0), on, PICTURES
    )  # fmt: skip
    assert apart(pair[0], one) < 1 and apart(*pair) > 0
    over = {"sources": ("blue", "red"), "style_strength": 1.0}
    near, further = (drawn(**over, strength=strength) for strength in (0.25, 1.0))
    if stylish.name == "starter":
        assert apart(near, BLUE) < apart(further, BLUE), "drawn over the first"
    assert apart(near, drawn(sources=("left", "red"), style_strength=1.0, strength=0.25)) > 0
    assert apart(near, drawn(sources=("blue", "left"), style_strength=1.0, strength=0.25)) > 0


def test_a_style_is_drawn_where_memory_is_short(
    engine: LocalDiffusers, stylish: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = of(stylish, mode=Mode.STYLE, sources=("red",), style_strength=1.0)
    plain = engine.draw(stylish, wanted, on, PICTURES)[0]
    pipeline, short = engine.warm[stylish.source], iter(range(2))
    own = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    bare = sum(p.numel() * p.element_size() for part in own for p in part.parameters())
    assert local._size(pipeline) > bare, "what sees styles takes memory, too"
    forward = pipeline.unet.forward

    def grudging(*given: Any, **named: Any) -> Any:
        if next(short, None) is not None:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(*given, **named)

    monkeypatch.setattr(pipeline.unet, "forward", grudging)
    told: list[str] = []

    def report(_share: float, words: str = "") -> bool:
        told.extend([words] if words else [])
        return True

    drawn = engine.draw(stylish, wanted, report, PICTURES)[0]
    assert told == ["Short of memory: making room.", "Short of memory: drawing in tiles."]
    assert apart(drawn, plain) < 3
    engine.thrift.clear()


@pytest.mark.parametrize(
    ("error", "told"),
    [(torch.OutOfMemoryError("CUDA out of memory."), TransientError), (KeyError("a"), GiveUp)],
)
def test_a_style_that_cannot_be_loaded_leaves_nothing_behind(
    engine: LocalDiffusers, stylish: Model, monkeypatch: pytest.MonkeyPatch,
    error: Exception, told: type[Exception],
) -> None:  # fmt: skip
    plain = engine.draw(stylish, of(stylish), on)[0]

    def failing(_strength: float) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(engine.warm[stylish.source], "set_ip_adapter_scale", failing)
        wanted = of(stylish, mode=Mode.STYLE, sources=("red",), style_strength=1.0)
        with pytest.raises(told):
            engine.draw(stylish, wanted, on, PICTURES)
    assert engine.draw(stylish, of(stylish), on)[0].tobytes() == plain.tobytes()


def test_every_part_of_a_blend_is_seen_where_styles_are_taken(
    engine: LocalDiffusers, stylish: Model
) -> None:
    sources = [Source(key, 64, 64) for key in ("red", "blue", "left")]
    asked = settled(stylish, *sources, mode=Mode.BLEND, width=64, height=64, steps=4)
    assert asked.style_strength == catalog.STYLE_STRENGTH
    drawn = engine.draw(stylish, asked, on, PICTURES)[0]
    assert drawn.size == (64, 64)
    without = settled(stylish, *sources[:2], mode=Mode.BLEND, width=64, height=64, steps=4)
    assert apart(engine.draw(stylish, without, on, PICTURES)[0], drawn) > 0


def test_what_is_missing_or_of_another_width_takes_no_styles(
    stylish: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAWQUEUE_IP_ADAPTER", str(tmp_path))
    settings._read.cache_clear()
    assert catalog._model(stylish.source).style is None
    folder, weights, _ = stylish.family.adapter or ("", "", 0)
    (tmp_path / folder).mkdir()
    save_file({"ip_adapter.1.to_k_ip.weight": torch.zeros(8, 7)}, tmp_path / folder / weights)
    assert catalog._model(stylish.source).style is None


# Blends, on the starter


def test_a_blend_shows_something_of_each(engine: LocalDiffusers, starter_model: str) -> None:
    starter = catalog._model(starter_model)
    parts_ = {
        "crown": engine.draw(starter, request(), on)[0],
        "frog": engine.draw(starter, request(prompt=FROG), on)[0],
    }
    both = request(
        mode=Mode.BLEND, sources=("crown", "frog"), prompt=f"{CROWN}, {FROG}", strength=0.4
    )
    drawn = engine.draw(starter, both, on, parts_)[0]
    between = apart(parts_["crown"], parts_["frog"])
    for one in parts_.values():
        assert 3 < apart(drawn, one) < between, "between the two"
    kept = engine.draw(starter, request(**{**vars(both), "strength": 0.0}), on, parts_)[0]
    middle = (pixels(parts_["crown"]) + pixels(parts_["frog"])) / 2
    assert abs(pixels(kept) - middle).max() <= 2
    # The order is one of pictures laid over each other: none counts more.
    turned = request(**{**vars(both), "strength": 0.0, "sources": ("frog", "crown")})
    assert apart(engine.draw(starter, turned, on, parts_)[0], kept) < 1


# VAEs


@pytest.fixture
def own_vaes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starter_model: str) -> Path:
    """A folder of VAEs: a folder and a file that fit, and one that does not."""
    monkeypatch.setenv("DRAWQUEUE_VAES", str(tmp_path))
    monkeypatch.setenv("DRAWQUEUE_MODEL", starter_model)
    vae = AutoencoderKL.from_pretrained(starter_model, subfolder="vae")
    with torch.no_grad():
        vae.decoder.conv_out.bias += 0.5
    vae.save_pretrained(tmp_path / "brighter ones")
    wide = AutoencoderKL(latent_channels=9)
    wide.save_pretrained(tmp_path / "wide")
    forget()
    return tmp_path


def test_another_vae_turns_the_same_drawing_into_other_pixels(
    engine: LocalDiffusers, own_vaes: Path, starter_model: str
) -> None:
    starter = catalog.models()["starter"]
    plain = engine.draw(starter, request(), on)[0]
    asked = settled(starter, vae="Brighter-Ones")
    assert asked.vae == "brighter-ones"
    bright = engine.draw(starter, request(vae=asked.vae), on)[0]
    assert pixels(bright).mean() > pixels(plain).mean() + 15
    assert engine.draw(starter, request(), on)[0].tobytes() == plain.tobytes()
    remixed = request(vae=asked.vae, mode=Mode.REMIX, sources=("crown",), strength=0.5)
    assert engine.draw(starter, remixed, on, {"crown": plain})[0].size == (128, 128)


def test_vaes_that_do_not_fit_are_told(
    engine: LocalDiffusers, own_vaes: Path, starter_model: str
) -> None:
    starter = catalog.models()["starter"]
    for name, words in (
        ("wide", "The VAE “wide” is for another model than starter."),
        ("nix", "There is no VAE “nix”."),
    ):
        with pytest.raises(InvalidOptions) as told:
            settled(starter, vae=name)
        assert words in str(told.value)
    shutil.rmtree(own_vaes / "brighter ones")
    (own_vaes / "broken.safetensors").write_bytes(b"no tensors")
    forget()
    for name, words in (("brighter-ones", "no longer on offer"), ("broken", "Draw without it")):
        with pytest.raises(AskDifferently, match=words):
            engine.draw(starter, request(vae=name), on)


def test_a_vae_in_one_file_is_read(
    engine: LocalDiffusers, own_vaes: Path, starter_model: str
) -> None:
    told = load_file(own_vaes / "brighter ones" / "diffusion_pytorch_model.safetensors")
    save_file(told, own_vaes / "single.safetensors")
    forget()
    starter = catalog.models()["starter"]
    assert parts.vaes(starter)["single"].width == starter.channels
    one, other = (
        engine.draw(starter, request(vae=name), on)[0] for name in ("single", "brighter-ones")
    )
    assert apart(one, other) == 0
