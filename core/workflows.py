"""ComfyUI's workflows, read without a server: where the prompt, the seed and all else go.

In the API format a workflow is a node by its id: its class, and its inputs, which are values, or
links to another node's outputs, as `["4", 1]` (docs.comfy.org: workflow JSON; nodes' inputs as
GET /object_info has them).
"""

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from core import samplers

# ComfyUI's names of samplers and of their schedules (comfy/samplers.py); it has no PNDM.
SAMPLERS: Mapping[str, str] = {
    "DPM++ 2M": "dpmpp_2m",
    "DPM++ 2M SDE": "dpmpp_2m_sde",
    "DPM++ SDE": "dpmpp_sde",
    "DPM++ 2S a": "dpmpp_2s_ancestral",
    "Euler": "euler",
    "Euler a": "euler_ancestral",
    "Heun": "heun",
    "LMS": "lms",
    "DPM2": "dpm_2",
    "DPM2 a": "dpm_2_ancestral",
    "UniPC": "uni_pc",
    "DDIM": "ddim",
    "DEIS": "deis",
    "LCM": "lcm",
}
SCHEDULES: Mapping[str, str] = {
    "": "normal",
    "Karras": "karras",
    "Exponential": "exponential",
    "Beta": "beta",
    "Uniform": "sgm_uniform",
}
# What draws where the host has no workflow; nothing of it stays on the server's disk.
PLAIN: Mapping[str, Any] = {
    "model": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": ""}},
    "prompt": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["model", 1]}},
    "negative": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["model", 1]}},
    "latent": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 1024, "height": 1024, "batch_size": 1},
    },
    "sampler": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 0, "steps": 25, "cfg": 7.0, "sampler_name": "dpmpp_2m", "scheduler": "karras",
            "denoise": 1.0, "model": ["model", 0], "positive": ["prompt", 0],
            "negative": ["negative", 0], "latent_image": ["latent", 0],
        },
    },
    "decode": {
        "class_type": "VAEDecode",
        "inputs": {"samples": ["sampler", 0], "vae": ["model", 2]},
    },
    "picture": {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}},
}  # fmt: skip
# What inputs that hold a prompt are called, in the nodes that come with ComfyUI.
TEXTS = ("text", "prompt", "text_g", "text_l", "clip_l", "clip_g", "t5xxl", "string", "value")
# How a host may call a node, so that nothing need be guessed.
TITLES = {
    "prompt": ("prompt", "positive", "positive prompt"),
    "negative": ("negative", "negative prompt"),
}
# What leads from a sampler to anything but its words.
ELSEWHERE = frozenset({
    "model", "clip", "vae", "latent_image", "samples", "noise", "sampler", "sigmas", "image",
    "images", "pixels", "mask", "control_net",
})  # fmt: skip

# A node's id, and an input of its.
Place = tuple[str, str]
Nodes = Mapping[str, Any]


@dataclass(frozen=True)
class Workflow:
    """A workflow, and where in it things are set, by what they are.

    `first` is the node that begins to draw, `samplers` are all that do; `vae` is the link to what
    turns pictures into what they draw, if there is one.
    """

    nodes: Nodes
    places: Mapping[str, tuple[Place, ...]]
    first: str
    samplers: tuple[str, ...]
    vae: list[Any] | None
    own: bool

    def value(self, name: str) -> Any:
        """What the workflow itself has for something; None where it has no place for it."""
        for node, field in self.places.get(name, ()):
            return self.nodes[node]["inputs"][field]
        return None

    @property
    def sampler(self) -> str:
        """Its sampler with its schedule, by our names; empty where we have none for it."""
        named = samplers.sampler(str(self.value("sampler") or "")) or ""
        schedule = samplers.schedule(str(self.value("schedule") or ""))
        found = samplers.scheduled(named, schedule) if named and schedule is not None else ""
        return found if found in samplers.EVERY and samplers.parts(found)[0] in SAMPLERS else ""

    def filled(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The nodes with these values, each wherever it goes."""
        nodes = copy.deepcopy(dict(self.nodes))
        for name, value in values.items():
            for node, field in self.places.get(name, ()):
                nodes[node]["inputs"][field] = value
        return nodes


def workflow(path: str) -> Workflow:
    """The host's workflow; what draws plainly where there is none. Raises ValueError with words for
    the host."""
    if not path:
        return _plain()
    file = Path(path)
    try:
        return _read(file, file.stat().st_mtime_ns)
    except OSError:
        raise ValueError(f"there is no file {path}") from None


@cache
def _plain() -> Workflow:
    return _understood(PLAIN, own=False)


@cache
def _read(file: Path, _written: int) -> Workflow:
    try:
        found = json.loads(file.read_text())
    except ValueError:
        raise ValueError(f"{file} is no JSON") from None
    if isinstance(found, dict) and isinstance(found.get("nodes"), list):
        raise ValueError(
            f"{file} is in the editor's own format: save it with Workflow, Export (API)"
        )
    if isinstance(found, dict) and isinstance(found.get("prompt"), dict):
        # As a call of ComfyUI holds it.
        found = found["prompt"]
    if not isinstance(found, dict) or not found or not all(map(_is_node, found.values())):
        raise ValueError(f"{file} is no workflow in ComfyUI's API format")
    try:
        return _understood(found, own=True)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _is_node(one: Any) -> bool:
    return isinstance(one, dict) and "class_type" in one and isinstance(one.get("inputs"), dict)


def _understood(nodes: Nodes, own: bool) -> Workflow:
    """A workflow with its places, found by following the links from what draws."""
    drawing = [node for node in nodes if _draws(nodes[node]["inputs"])]
    if not drawing:
        raise ValueError("it has no KSampler, nor another node that takes a latent_image and noise")
    # The one that draws on nothing that another one drew.
    first = next(
        (one for one in drawing if not {*_above(nodes, one)} - {one} & {*drawing}), drawing[0]
    )
    words = _above(nodes, first, lambda name: name not in ELSEWHERE)
    apart = [
        one for one in _above(nodes, first, lambda name: name not in ELSEWHERE | {"positive"})
        if one not in _above(nodes, first, lambda name: name not in ELSEWHERE | {"negative"})
    ]  # fmt: skip
    asked = [one for one in words if one not in apart]
    drawn = _above(nodes, first, lambda name: name != "latent_image")
    canvas = _above(nodes, first, lambda name: name in ("latent_image", "samples"))[1:]
    model = _above(nodes, first, lambda name: name in ("model", "guider"))
    places = {
        "prompt": _words(nodes, "prompt", asked),
        "negative": _words(nodes, "negative", apart),
        "seed": tuple(
            place for node in nodes for name in ("seed", "noise_seed")
            if (place := _place(nodes, node, name)) and _number(nodes, place)
        ),
        "steps": _nearest(nodes, drawn, "steps"),
        # FLUX and its like are told what others are told as cfg.
        "guidance": _nearest(nodes, drawn, "guidance") or _nearest(nodes, drawn, "cfg"),
        "sampler": _nearest(nodes, drawn, "sampler_name"),
        "schedule": _nearest(nodes, drawn, "scheduler"),
        "strength": _nearest(nodes, drawn, "denoise"),
        "width": _nearest(nodes, canvas, "width"),
        "height": _nearest(nodes, canvas, "height"),
        "batch": _nearest(nodes, canvas, "batch_size"),
        "checkpoint": _nearest(nodes, model, "ckpt_name") or _nearest(nodes, model, "unet_name"),
    }  # fmt: skip
    if not places["prompt"]:
        raise ValueError("where its prompt goes cannot be told: call that node “prompt”")
    if not places["seed"]:
        raise ValueError("it has no seed")
    decoders = (one["inputs"].get("vae") for one in nodes.values() if "samples" in one["inputs"])
    vae = next(filter(lambda link: _linked(nodes, link), decoders), None)
    return Workflow(
        nodes, {name: found for name, found in places.items() if found}, first, tuple(drawing),
        vae, own,
    )  # fmt: skip


def _draws(inputs: Mapping[str, Any]) -> bool:
    return isinstance(inputs.get("latent_image"), list) and bool(
        {"seed", "noise_seed", "noise"} & {*inputs}
    )


def _linked(nodes: Nodes, value: Any) -> str | None:
    """The node that an input takes what it gets from; None for a value."""
    known = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
    return value[0] if known and value[0] in nodes else None


def _above(
    nodes: Nodes, start: str, follow: Callable[[str], bool] = lambda _name: True
) -> list[str]:
    """A node and those that it rests on, by the inputs to follow, the nearest first."""
    found = [start]
    for one in found:
        links = [
            _linked(nodes, value) for name, value in nodes[one]["inputs"].items() if follow(name)
        ]
        found += [*dict.fromkeys(link for link in links if link and link not in found)]
    return found


def _nearest(nodes: Nodes, among: Iterable[str], name: str) -> tuple[Place, ...]:
    """Where a value of that name is set, in the first node that has one."""
    found = (_place(nodes, node, name) for node in among)
    return tuple(place for place in found if place)[:1]


def _place(nodes: Nodes, node: str, name: str) -> Place | None:
    """Where an input's value is set: there, or in a node that holds but a value."""
    inputs = nodes[node]["inputs"]
    if name not in inputs:
        return None
    held = _linked(nodes, inputs[name])
    if held is None:
        return node, name
    values = {
        field: value for field, value in nodes[held]["inputs"].items() if not _linked(nodes, value)
    }
    for field in (name, "value", *(values if len(values) == 1 else ())):
        if field in values:
            return held, field
    return None


def _words(nodes: Nodes, name: str, among: Iterable[str]) -> tuple[Place, ...]:
    """Where words are written: in the node that the host calls so, else in the nearest one."""

    def titled(node: Any) -> bool:
        title = node.get("_meta", {}).get("title")
        return isinstance(title, str) and title.strip().lower() in TITLES[name]

    for node in (*(one for one in nodes if titled(nodes[one])), *among):
        places = [place for field in TEXTS if (place := _place(nodes, node, field))]
        found = [one for one in places if isinstance(nodes[one[0]]["inputs"][one[1]], str)]
        if found:
            return tuple(found)
    return ()


def _number(nodes: Nodes, place: Place) -> bool:
    return isinstance(nodes[place[0]]["inputs"][place[1]], int)
