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


def test_one_that_no_model_here_takes_is_told_to_be_for_another(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors(folders / "loras" / "wide.safetensors",
            unet__attn2__to_k__lora__down__weight=[8, 2048])  # fmt: skip
    (folders / "vaes" / "broad").mkdir()
    (folders / "vaes" / "broad" / "config.json").write_text('{"latent_channels": 16}')
    monkeypatch.setattr(catalog, "models", lambda: {MODEL.name: MODEL})
    monkeypatch.setattr(catalog, "every_model", lambda: {MODEL.name: MODEL})
    for what, flag, name in (("LoRA", "lora", "Wide"), ("VAE", "vae", "broad")):
        for asked, told in (
            (name, f"The {what} “{name}” is for another model than m"),
            ("nix", f"There is no {what} “nix”"),
        ):
            with pytest.raises(InvalidOptions, match=told):
                catalog.settle(validate({"prompt": "a fox", flag: asked}), 1)


# Of each family: the width of its LoRAs, and layers as trainers call them.
CALLED = {
    "StableDiffusion": (768, ["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
                              "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"]),
    "StableDiffusionXL": (2048, ["lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"]),
    "Flux": (3072, ["transformer.single_transformer_blocks.0.attn.to_k",
                    "transformer.transformer_blocks.0.attn.add_k_proj",
                    "lora_unet_double_blocks_0_img_attn_qkv", "double_blocks.0.img_attn.qkv",
                    "lora_transformer_transformer_blocks_0_attn_to_q"]),
    "StableDiffusion3": (1536, ["transformer.transformer_blocks.0.attn.to_k",
                                "transformer.transformer_blocks.0.attn2.to_k",
                                "lora_unet_joint_blocks_0_x_block_attn_qkv"]),
}  # fmt: skip


def test_a_lora_fits_models_of_its_own_family_alone(folders: Path) -> None:
    models = {
        name: replace(MODEL, family=catalog.FAMILIES[f"{name}Pipeline"], context=width)
        for name, (width, _) in CALLED.items()
    }
    for name, (width, layers) in CALLED.items():
        for number, layer in enumerate(layers):
            for down in ("lora_A", "lora_down"):
                called = f"{name}-{number}-{down}".lower()
                tensors(folders / "loras" / f"{called}.safetensors",
                        **{f"{layer}.{down}.weight": [8, width]})  # fmt: skip
                parts._loras.cache_clear()
                assert [of for of, model in models.items() if called in parts.loras(model)] == [
                    name
                ], layer
    # What has no layer that tells the width is for its own network alone.
    tensors(folders / "loras" / "narrow.safetensors",
            transformer__single_transformer_blocks__0__proj_out__lora_A__weight=[8, 5])  # fmt: skip
    tensors(folders / "loras" / "convs.safetensors",
            unet__down_blocks__0__resnets__0__conv1__lora_A__weight=[8, 5])  # fmt: skip
    parts._loras.cache_clear()
    for called, of in (("narrow", ["Flux"]), ("convs", ["StableDiffusion", "StableDiffusionXL"])):
        assert [name for name, model in models.items() if called in parts.loras(model)] == of


def test_what_is_still_at_a_hub_has_its_familys_usual_widths(folders: Path) -> None:
    for source, context, channels in (
        ("owner/dreamy", 768, 4), ("owner/dreamy-xl", 2048, 4), ("owner/flux.1-dev", 3072, 16),
        ("owner/stable-diffusion-3.5-large", 2432, 16), ("owner/sd-turbo", 1024, 4),
        ("owner/stable-diffusion-3-medium", 1536, 16), ("owner/stable-diffusion-2", 1024, 4),
    ):  # fmt: skip
        model = catalog._model(source)
        assert (model.context, model.channels) == (context, channels), source
    tensors(folders / "loras" / "wide.safetensors",
            unet__attn2__to_k__lora_A__weight=[8, 2048])  # fmt: skip
    assert "wide" not in parts.loras(catalog._model("owner/dreamy"))
    assert "wide" in parts.loras(catalog._model("owner/dreamy-xl"))


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
