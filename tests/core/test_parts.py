"""What can be added to a model: found by its files' own words, without reading their weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from core import catalog, parts, settings
from core.catalog import STARTER, Model
from core.errors import InvalidOptions
from core.options import validate


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host's folders of LoRAs and VAEs, nothing in them yet."""
    for kind in ("loras", "vaes"):
        (tmp_path / kind).mkdir()
        monkeypatch.setenv(f"DRAWQUEUE_{kind.upper()}", str(tmp_path / kind))
    for kept in (settings._read, parts._loras, parts._vaes):
        kept.cache_clear()
    return tmp_path


def tensors(path: Path, **layers: list[int]) -> None:
    """A file as safetensors writes it, of headers alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {name.replace("__", "."): {"shape": shape} for name, shape in layers.items()}
    data = json.dumps(told).encode()
    path.write_bytes(len(data).to_bytes(8, "little") + data)


MODEL = Model("m", "nowhere", context=768, channels=4)


def test_loras_of_every_trainer_tell_their_width(folders: Path) -> None:
    tensors(folders / "loras" / "Peft one.safetensors",
            unet__down__attn2__to_k__lora_A__weight=[8, 768])  # fmt: skip
    tensors(folders / "loras" / "kohya.safetensors",
            lora_unet_down_attn2_to_k__lora_down__weight=[8, 768])  # fmt: skip
    tensors(folders / "loras" / "wide.safetensors",
            unet__attn2__to_k__lora__down__weight=[8, 2048])  # fmt: skip
    (folders / "loras" / "torn.safetensors").write_bytes(b"\xff" * 20)
    tensors(folders / "loras" / "odd.safetensors", unet__attn2__to_k__lora_A__weight=[8])
    assert set(parts.loras(MODEL)) == {"peft-one", "kohya", "torn", "odd"}
    assert parts.loras(MODEL)["peft-one"].name == "Peft-one", "as one types it"
    assert set(parts.loras(replace(MODEL, context=2048))) == {"wide", "torn", "odd"}
    assert set(parts.loras(replace(MODEL, context=None))) == {
        "peft-one",
        "kohya",
        "torn",
        "odd",
        "wide",
    }


def test_vaes_are_folders_and_files(folders: Path) -> None:
    tensors(folders / "vaes" / "ft-mse.safetensors", decoder__conv_in__weight=[512, 4, 3, 3])
    tensors(folders / "vaes" / "flux.safetensors", decoder__conv_in__weight=[512, 16, 3, 3])
    (folders / "vaes" / "ft-ema").mkdir()
    (folders / "vaes" / "ft-ema" / "config.json").write_text('{"latent_channels": 4}')
    (folders / "vaes" / "empty").mkdir()
    assert set(parts.vaes(MODEL)) == {"ft-mse", "ft-ema"}
    assert set(parts.vaes(replace(MODEL, channels=16))) == {"flux"}


def test_no_more_layers_are_left_out_than_a_models_text_encoders_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = tmp_path / "two"
    for name, layers in (("text_encoder", 12), ("text_encoder_2", 4), ("text_encoder_3", "odd")):
        (two / name).mkdir(parents=True)
        (two / name / "config.json").write_text(json.dumps({"num_hidden_layers": layers}))
    monkeypatch.setenv("DRAWQUEUE_MODEL", f"{STARTER},{two},owner/hub")
    for kept in (settings._read, catalog.models):
        kept.cache_clear()

    def skipped(model: str, layers: int) -> int:
        wanted = validate({"prompt": "a fox", "model": model, "clip_skip": layers})
        return catalog.settle(wanted, 1).clip_skip

    for model, has in (("starter", 3), ("two", 4)):
        assert skipped(model, has - 1) == has - 1
        words = f"text encoder has {has} layers: --clip-skip can be {has - 1} at most."
        with pytest.raises(InvalidOptions, match=words):
            skipped(model, has)
    assert skipped("hub", 12) == 12, "who draws with it knows"


def test_what_takes_a_style_fits_a_family_by_its_width(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(source: str, family: str, width: int | None) -> bool:
        monkeypatch.setenv("DRAWQUEUE_IP_ADAPTER", source)
        settings._read.cache_clear()
        return parts.style_adapter(catalog.FAMILIES[f"{family}Pipeline"], width) is not None

    at = str(folders)
    tensors(folders / "models" / "ip-adapter_sd15.safetensors",
            ip_adapter__1__to_k_ip__weight=[320, 768])  # fmt: skip
    assert found(at, "StableDiffusion", 768) and not found(at, "StableDiffusion", 1024)
    assert not found(at, "StableDiffusionXL", 2048) and not found(at, "Flux", 768)
    hub = "h94/IP-Adapter"
    assert found(hub, "StableDiffusion", 768) and found(hub, "StableDiffusionXL", 2048)
    assert not found(hub, "StableDiffusion", None) and not found("", "StableDiffusion", 768)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("LORAS", "{at}/none", "DRAWQUEUE_LORAS: there is no folder"),
        ("VAES", "{at}/none", "DRAWQUEUE_VAES: there is no folder"),
        ("UPSCALER", "{at}/4x.pth", "DRAWQUEUE_UPSCALER: there is no file"),
        ("IP_ADAPTER", "{at}", "is not laid out as h94/IP-Adapter"),
        ("IP_ADAPTER", "{at}/none", "A hub id is owner/name."),
        ("IP_ADAPTER", "h94/IP-Adapter", ""),
    ],
)
def test_what_a_host_names_and_is_not_there_is_told(
    folders: Path, monkeypatch: pytest.MonkeyPatch, name: str, given: str, words: str
) -> None:
    monkeypatch.setenv(f"DRAWQUEUE_{name}", given.format(at=folders))
    settings._read.cache_clear()
    told = catalog.faults()
    assert not told if not words else len(told) == 1 and words in told[0], told
