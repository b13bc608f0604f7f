"""What moderators add reaches the engine process with the work, and is gone from it as well."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from core import catalog, offers, parts
from core.engine import AskDifferently
from core.offers import Offer
from core.options import Mode, Request
from tests.core.test_fetching import hub as hub
from tests.worker.test_swapping import on, request
from tests.worker.test_warm import png
from worker.upscaler import _spandrel
from worker.warm import WarmEngine


@pytest.fixture(scope="module")
def engine() -> Iterator[WarmEngine]:
    made = WarmEngine("cpu", 1, 0)
    yield made
    made.kill()


def asked(starter_model: str, **changes: object) -> Request:
    return replace(request(catalog._model(starter_model)), **changes)  # type: ignore[arg-type]


def test_a_lora_that_was_added_is_drawn_with(
    engine: WarmEngine, starter_model: str, tmp_path: Path
) -> None:
    model = catalog._model(starter_model)
    path = tmp_path / "elsewhere.safetensors"
    path.write_bytes((Path(starter_model) / "loras" / "blueprint.safetensors").read_bytes())
    own = engine.draw(model, asked(starter_model, loras=(("blueprint", 1.0),)), on)[0]
    wanted = asked(starter_model, loras=(("Ink", 1.0),))
    with pytest.raises(AskDifferently, match="LoRA Ink is no longer on offer"):
        engine.draw(model, wanted, on)
    ink = Offer("lora", "ink", str(path), facts={"context": model.context})
    offers.show([ink])
    assert engine.draw(model, wanted, on)[0] == own, "the same weights, from another place"
    offers.show([replace(ink, hidden=True)])
    assert "ink" not in parts.loras(model)
    assert engine.draw(model, wanted, on)[0] == own, "what is in line is drawn"
    offers.show([])
    with pytest.raises(AskDifferently, match="no longer on offer"):
        engine.draw(model, wanted, on)


def test_a_vae_of_a_hub_is_fetched_by_the_engine_that_draws_with_it(
    starter_model: str, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = hub / "ann" / "brighter"
    held.mkdir(parents=True)
    weights = load_file(Path(starter_model) / "vae" / "diffusion_pytorch_model.safetensors")
    weights["decoder.conv_out.bias"] = weights["decoder.conv_out.bias"] + 0.2
    save_file(weights, held / "diffusion_pytorch_model.safetensors")
    config = (Path(starter_model) / "vae" / "config.json").read_text()
    (held / "config.json").write_text(config)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    model = catalog._model(starter_model)
    wanted = asked(starter_model, vae="brighter")
    made = WarmEngine("cpu", 1, 0)
    try:
        drawn = []
        for source in (str(held), "ann/brighter"):
            offers.show([Offer("vae", "brighter", source, facts={"width": model.channels})])
            drawn.append(made.draw(model, wanted, on)[0])
        assert drawn[0] == drawn[1] != made.draw(model, asked(starter_model), on)[0]
        assert list((tmp_path / "cache").rglob("diffusion_pytorch_model.safetensors"))
        offers.show([Offer("vae", "brighter", "ann/none", facts={"width": model.channels})])
        with pytest.raises(AskDifferently, match="VAE brighter does not fit"):
            made.draw(model, wanted, on)
    finally:
        made.kill()


def test_an_upscaler_that_was_added_draws_and_one_that_is_gone_is_told(
    engine: WarmEngine, starter_model: str, tmp_path: Path
) -> None:
    _spandrel()
    from spandrel.architectures.ESRGAN import ESRGAN

    save_file(
        ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=2).state_dict(),
        path := tmp_path / "x2.safetensors",
    )
    model = catalog._model(starter_model)
    large = asked(
        starter_model, mode=Mode.UPSCALE, sources=("k",), width=256, height=256, factor=2,
        upscaler="x2",
    )  # fmt: skip
    with pytest.raises(AskDifferently, match="upscaler x2 is no longer on offer"):
        engine.draw(model, large, on, {"k": png("red", 128)})
    offers.show([Offer("upscaler", "x2", str(path), facts={"file": str(path)}, chosen=True)])
    assert catalog.upscaler() == "x2"
    larger = engine.draw(model, large, on, {"k": png("red", 128)})[0]
    assert larger.size == (256, 256)
    plain = replace(large, upscaler=catalog.LANCZOS)
    assert larger != engine.draw(model, plain, on, {"k": png("red", 128)})[0]
