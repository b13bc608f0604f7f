"""Workflows of the host's own: where things go in them, and what is told of those that won't do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from core import catalog, providers, settings, workflows
from core.errors import InvalidOptions
from core.options import Mode, Options


def node(kind: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title or kind}}


# As ComfyUI's own example of FLUX has it: each thing in a node of its own.
FLUX = {
    "6": node("CLIPTextEncode", text="a house", clip=["11", 0]),
    "8": node("VAEDecode", samples=["13", 0], vae=["10", 0]),
    "9": node("SaveImage", images=["8", 0], filename_prefix="flux"),
    "10": node("VAELoader", vae_name="ae.safetensors"),
    "11": node("DualCLIPLoader", clip_name1="t5xxl.safetensors", clip_name2="clip_l.safetensors",
               type="flux"),
    "12": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
    "13": node("SamplerCustomAdvanced", noise=["25", 0], guider=["22", 0], sampler=["16", 0],
               sigmas=["17", 0], latent_image=["27", 0]),
    "16": node("KSamplerSelect", sampler_name="euler"),
    "17": node("BasicScheduler", model=["12", 0], scheduler="simple", steps=20, denoise=1.0),
    "22": node("BasicGuider", model=["12", 0], conditioning=["26", 0]),
    "25": node("RandomNoise", noise_seed=5),
    "26": node("FluxGuidance", conditioning=["6", 0], guidance=3.5),
    "27": node("EmptySD3LatentImage", width=1024, height=768, batch_size=1),
}  # fmt: skip
# Two that draw, one on the other's, with a number in a node of its own, and a sampler unknown here.
TWICE = {
    "first": node("KSampler", seed=["number", 0], steps=12, cfg=5.5, sampler_name="res_multistep",
                  scheduler="simple", denoise=1.0, model=["model", 0], negative=["bad", 0],
                  positive=["good", 0], latent_image=["empty", 0]),
    "second": node("KSampler", seed=1, steps=6, cfg=4.0, sampler_name="euler", scheduler="karras",
                   denoise=0.5, model=["model", 0], positive=["good", 0], negative=["bad", 0],
                   latent_image=["larger", 0]),
    "larger": node("LatentUpscale", samples=["first", 0], width=1024, height=1024),
    "number": node("PrimitiveInt", value=3),
    "empty": node("EmptyLatentImage", width=512, height=512, batch_size=1),
    "bad": node("CLIPTextEncode", text="blurry", clip=["model", 1]),
    "good": node("CLIPTextEncode", text="a house", clip=["model", 1]),
    "model": node("CheckpointLoaderSimple", ckpt_name="v1-5-pruned-emaonly.safetensors"),
    "decode": node("VAEDecode", samples=["second", 0], vae=["model", 2]),
    "save": node("SaveImage", images=["decode", 0], filename_prefix="twice"),
}  # fmt: skip


def kept(folder: Path, nodes: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = folder / "workflow.json"
    file.write_text(nodes if isinstance(nodes, str) else json.dumps(nodes))
    monkeypatch.setenv("COMFYUI_WORKFLOW", str(file))
    monkeypatch.setenv("COMFYUI_BASE_URL", "http://127.0.0.1:8188")
    monkeypatch.setenv("DRAWQUEUE_MODEL", "comfyui")
    settings._read.cache_clear()
    catalog.models.cache_clear()
    return file


def test_each_thing_of_a_plain_one_has_its_place() -> None:
    plain = workflows.workflow("")
    filled = plain.filled({"prompt": "a cat", "negative": "a dog", "seed": 9, "width": 640})
    assert filled["prompt"]["inputs"]["text"] == "a cat"
    assert filled["negative"]["inputs"]["text"] == "a dog"
    assert (filled["sampler"]["inputs"]["seed"], filled["latent"]["inputs"]["width"]) == (9, 640)
    assert plain.nodes["prompt"]["inputs"]["text"] == "", "the plain one stays as it is"


def test_flux_in_nodes_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = workflows.workflow(str(kept(tmp_path, FLUX, monkeypatch)))
    assert own.places == {
        "prompt": (("6", "text"),), "seed": (("25", "noise_seed"),), "steps": (("17", "steps"),),
        "guidance": (("26", "guidance"),), "sampler": (("16", "sampler_name"),),
        "schedule": (("17", "scheduler"),), "strength": (("17", "denoise"),),
        "width": (("27", "width"),), "height": (("27", "height"),),
        "batch": (("27", "batch_size"),), "checkpoint": (("12", "unet_name"),),
    }  # fmt: skip
    assert (own.first, own.vae, own.sampler) == ("13", ["10", 0], "Euler Uniform")


def test_what_a_workflow_has_is_what_its_model_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(tmp_path, FLUX, monkeypatch)
    model = catalog.models()["comfyui"]
    assert (model.steps, model.guidance, model.sampler) == (20, 3.5, "Euler Uniform")
    assert model.size == 888, "as many pixels as 1024 by 768"
    assert Mode.REMIX in model.modes
    with pytest.raises(InvalidOptions, match="--no"):
        catalog.settle(Options(prompt="a house", negative_prompt="people"), 1)
    assert catalog.settle(Options(prompt="a house", sampler="Heun"), 1).sampler == "Heun"


def test_what_another_workflow_drew_is_no_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = set()
    for nodes in (FLUX, TWICE):
        file = kept(tmp_path, nodes, monkeypatch)
        os.utime(file, ns=(len(told), len(told)))
        catalog.revision.cache_clear()
        told.add(catalog.revision(catalog.models()["comfyui"]))
    assert len(told) == 2


def test_two_that_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = workflows.workflow(str(kept(tmp_path, TWICE, monkeypatch)))
    assert own.first == "first" and set(own.samplers) == {"first", "second"}
    assert own.places["prompt"] == (("good", "text"),)
    assert own.places["negative"] == (("bad", "text"),)
    assert set(own.places["seed"]) == {("number", "value"), ("second", "seed")}
    assert own.places["steps"] == (("first", "steps"),)
    assert own.places["width"] == (("empty", "width"),)
    # A sampler that has no name here stays, and none is on offer.
    assert own.sampler == ""
    with pytest.raises(InvalidOptions, match="--sampler"):
        catalog.settle(Options(prompt="a house", sampler="Euler"), 1)


def test_a_node_may_be_called_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = {
        **TWICE,
        "mine": node("CLIPTextEncode", "Prompt", text="", clip=["model", 1]),
        "not": node("CLIPTextEncode", "negative", text="", clip=["model", 1]),
    }
    own = workflows.workflow(str(kept(tmp_path, nodes, monkeypatch)))
    assert own.places["prompt"] == (("mine", "text"),)
    assert own.places["negative"] == (("not", "text"),)


def test_without_a_place_an_option_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = {
        **TWICE,
        "first": node("KSamplerAdvanced", noise_seed=3, positive=["good", 0],
                      negative=["good", 0], latent_image=["large", 0], model=["model", 0]),
        "large": node("SomebodysLatent", shape="wide"),
    }  # fmt: skip
    kept(tmp_path, nodes, monkeypatch)
    model = catalog.models()["comfyui"]
    assert Mode.REMIX not in model.modes
    for option in (
        {"steps": 3}, {"guidance": 3}, {"sampler": "Euler"}, {"width": 512}, {"aspect": "3:2"},
        {"negative_prompt": "people"}, {"lora": "a"}, {"hires": 2}, {"chaos": 3},
    ):  # fmt: skip
        with pytest.raises(InvalidOptions):
            catalog.settle(Options(prompt="a house", **option), 1)
    assert catalog.settle(Options(prompt="a house"), 1).prompt == "a house"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("{", "no JSON"),
        ({"nodes": [], "links": []}, "Export (API)"),
        ([], "no workflow in ComfyUI's API format"),
        ({"1": {"inputs": {}}}, "no workflow in ComfyUI's API format"),
        ({"1": node("CLIPTextEncode", text="a")}, "no KSampler"),
        ({**FLUX, "6": node("Words", clip=["11", 0])}, "call that node “prompt”"),
        ({**FLUX, "25": node("Chance", how="wild")}, "no seed"),
    ],
)
def test_what_will_not_do_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: Any, told: str
) -> None:
    file = kept(tmp_path, written, monkeypatch)
    fault = providers.unset("comfyui")
    assert fault.startswith("COMFYUI_WORKFLOW: ") and told in fault and str(file) in fault
    assert any(told in one for one in catalog.faults()), "and drawqueue doctor says so"
    assert catalog.models()["comfyui"].steps, "what is there draws nothing, but stands in the list"


def test_a_file_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_WORKFLOW", "/nowhere/at/all.json")
    monkeypatch.setenv("COMFYUI_BASE_URL", "http://127.0.0.1:8188")
    settings._read.cache_clear()
    assert "there is no file /nowhere/at/all.json" in providers.unset("comfyui")


def test_a_workflow_that_is_written_anew_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = kept(tmp_path, TWICE, monkeypatch)
    assert workflows.workflow(str(file)).first == "first"
    file.write_text(json.dumps({"prompt": FLUX}))
    os.utime(file, ns=(1, 1))
    assert workflows.workflow(str(file)).first == "13", "as a call of ComfyUI holds it, too"


def test_every_sampler_on_offer_has_its_name_there() -> None:
    for name in providers.PROVIDERS["comfyui"].samplers:
        own, schedule = workflows.samplers.parts(name)
        assert workflows.SAMPLERS[own] and workflows.SCHEDULES[schedule]
        assert workflows.samplers.sampler(workflows.SAMPLERS[own]) == own, "and it is read back"
