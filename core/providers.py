"""Other people's engines: what each can do and how it is asked, as data.

A model of theirs is named as hosts write it, `engine:model` (`pollinations:flux`), or by the
engine alone for its usual model. Addresses, keys and limits are settings.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from core import samplers
from core.options import COMMAND_OF, MULTIPLE, Mode
from core.settings import Remote, read

if TYPE_CHECKING:
    from core.workflows import Workflow

# What a service that takes a prompt and a size knows nothing of, by the names of options.
PLAIN = frozenset({
    "negative_prompt", "steps", "quality", "guidance", "sampler", "schedule", "lora", "vae",
    "clip_skip", "tile", "hires", "chaos", "subseed",
})  # fmt: skip
# Of what takes no seed, either, each picture is one of chance.
SEEDLESS = PLAIN | {"seed"}
TEXT = frozenset({Mode.TEXT})
# What is drawn over pictures that are laid into a frame here.
FRAMED = frozenset({Mode.REMIX, Mode.INPAINT, Mode.BLEND})
# What servers at home that draw by steps know besides.
STEERED = frozenset({"negative_prompt", "steps", "quality", "guidance", "sampler", "schedule"})


def _every(*lacking: str) -> tuple[str, ...]:
    """The samplers, with their schedules, but for those."""
    return tuple(one for one in samplers.EVERY if samplers.parts(one)[0] not in lacking)


@dataclass(frozen=True)
class Provider:
    """An engine on other machines: what its models draw from, and what options they lack.

    `usual` is the model where none is named, `known` are some that it is documented to have;
    `size`, `largest` and `multiple` are pixels a side, and `smallest` those of the least square
    that it draws. `at_once` and `per_minute` are how much may be asked of it where the host says
    nothing (0 a minute: any number); `seconds` is how long a picture may take. `home` says that it
    is a server of the host's own, whose address must be set.
    """

    title: str
    modes: frozenset[Mode] = TEXT
    lacks: frozenset[str] = PLAIN
    usual: str = ""
    known: tuple[str, ...] = ()
    size: int = 1024
    largest: int = 2048
    smallest: int = 0
    multiple: int = 8
    steps: int = 1
    guidance: float = 0.0
    samplers: tuple[str, ...] = ()
    at_once: int = 8
    per_minute: float = 0
    seconds: float = 180
    # Whether somebody must pay, or prove who they are, before it draws.
    keyed: bool = True
    home: bool = False
    # Whether it can send word when a picture is done.
    tells: bool = False
    # Whether it writes, too; of those that only write there are no pictures.
    writes: bool = False
    draws: bool = True


PROVIDERS: Mapping[str, Provider] = {
    "pollinations": Provider(
        "Pollinations", usual="flux",
        known=("flux", "flux-realism", "flux-cablyai", "flux-anime", "flux-3d", "turbo"),
        at_once=2, keyed=False, writes=True,
    ),
    # Of the usual model: a shape, and 2K or 4K.
    "kie": Provider(
        "kie.ai", lacks=SEEDLESS, usual="seedream/4.5-text-to-image", size=2048, smallest=2048,
        largest=4096, at_once=50, tells=True,
    ),
    "chutes": Provider(
        "Chutes", lacks=PLAIN - {"negative_prompt", "steps", "quality", "guidance"},
        usual="qwen-image", steps=30, guidance=4.0,
    ),
    "openai": Provider("OpenAI", usual="gpt-image-1", writes=True),
    "stability": Provider("Stability AI", lacks=PLAIN - {"negative_prompt"}, usual="core"),
    # Its LoRAs are in its own folder: they are named in the prompt, as <lora:name:0.8>.
    "a1111": Provider(
        "Stable Diffusion web UI", modes=TEXT | FRAMED, lacks=frozenset({"lora", "vae"}),
        size=512, steps=25, guidance=7.0, samplers=_every("DEIS"), at_once=1, seconds=600,
        keyed=False, home=True,
    ),
    # As its plain workflow has it; `known_of` tells what the host's own has.
    "comfyui": Provider(
        "ComfyUI", modes=TEXT | FRAMED, lacks=PLAIN - STEERED, steps=25, guidance=7.0,
        samplers=_every("PNDM"), at_once=1, seconds=600, keyed=False, home=True,
    ),
}  # fmt: skip
_GUIDED = PLAIN - {"negative_prompt", "guidance"}
_EDITS = {"modes": TEXT | {Mode.REMIX, Mode.INPAINT}, "lacks": SEEDLESS | {"strength"}}
_SMALLER = {"size": 1024, "smallest": 0, "largest": 2048}
_SEEDED = {"lacks": PLAIN}
_OVER = TEXT | {Mode.REMIX}
# What was made to draw in few steps heeds no negative prompt.
_QUICK = {"modes": _OVER, "lacks": _GUIDED | {"negative_prompt"}, "guidance": 1.0}
# What single models do otherwise than the others of their engine, by what their names begin with;
# the first that fits counts.
OTHERWISE: Mapping[str, Mapping[str, Any]] = {
    "kie:z-image": _SMALLER,
    "kie:google/nano-banana": _SMALLER,
    "kie:bytedance/seedream-v4": _SEEDED,
    "kie:bytedance/seedream": {**_SMALLER, **_SEEDED},
    "kie:qwen/": {**_SMALLER, **_SEEDED},
    "openai:gpt-image": _EDITS,
    "openai:chatgpt-image": _EDITS,
    "openai:dall-e-2": {**_EDITS, "modes": TEXT | {Mode.INPAINT}},
    "openai:dall-e-3": {"lacks": SEEDLESS},
    "stability:ultra": {"modes": _OVER},
    "stability:sd3.5-large-turbo": _QUICK,
    "stability:sd3-large-turbo": _QUICK,
    "stability:sd3": {"modes": _OVER, "lacks": _GUIDED, "guidance": 4.0},
}  # fmt: skip
_NAMED = re.compile(r"([a-z0-9]+)(?::(.+))?")


def provider_of(source: str) -> tuple[str, str] | None:
    """The engine and the model that a source names, such as `pollinations:flux`; None for what is
    no provider's."""
    found = _NAMED.fullmatch(source.strip())
    if not found or found[1] not in PROVIDERS:
        return None
    engine = found[1]
    return engine, found[2] or usual(engine)


def own_name(source: str) -> str:
    """What its engine calls the model that a source names."""
    found = provider_of(source)
    assert found
    return found[1]


def provider(engine: str, model: str) -> Provider:
    """What an engine does with one of its models."""
    name = f"{engine}:{model}"
    fits = (changes for begin, changes in OTHERWISE.items() if name.startswith(begin))
    return replace(known_of(engine), **next(fits, {}))


def usual(engine: str) -> str:
    """The model of an engine where none is named."""
    if engine == "kie":
        return read(Remote).kie_default_model
    return PROVIDERS[engine].usual


def known_of(engine: str) -> Provider:
    """What an engine can do as the host has set it up: a workflow of the host's own may know
    less, and has steps, a sampler and a size of its own."""
    one = PROVIDERS[engine]
    if engine != "comfyui" or not read(Remote).comfyui_workflow:
        return one
    try:
        own = _workflow(read(Remote).comfyui_workflow)
    except ValueError:
        return one  # `unset` says why.
    lacks = set(one.lacks)
    for place, options in WITHOUT.items():
        lacks |= set() if place in own.places else options
    drawn = one.samplers if own.sampler else ()
    if "schedule" in lacks:
        drawn = tuple(name for name in drawn if name in samplers.SAMPLERS)
    if not drawn:
        lacks |= {"sampler", "schedule"}
    area = (own.value("width") or one.size) * (own.value("height") or one.size)
    return replace(
        one, modes=TEXT | FRAMED if own.vae and "strength" in own.places else TEXT,
        lacks=frozenset(lacks), samplers=tuple(dict.fromkeys((own.sampler, *drawn)))[: len(drawn)],
        size=round(area**0.5 / MULTIPLE) * MULTIPLE, steps=own.value("steps") or one.steps,
        guidance=own.value("guidance") or one.guidance,
    )  # fmt: skip


def _workflow(path: str) -> "Workflow":
    """ComfyUI's workflow, which few hosts have. Raises ValueError."""
    from core.workflows import workflow

    return workflow(path)


def setup(engine: str) -> str:
    """What distinguishes how a host has set an engine up from any other way; empty where there is
    but one."""
    if engine != "comfyui" or not (path := read(Remote).comfyui_workflow):
        return ""
    try:
        own = _workflow(path)
    except ValueError:
        return ""
    return hashlib.sha256(json.dumps(own.nodes, sort_keys=True).encode()).hexdigest()[:16]


# The options that a workflow without such a place knows nothing of.
WITHOUT: Mapping[str, frozenset[str]] = {
    "negative": frozenset({"negative_prompt"}), "steps": frozenset({"steps", "quality"}),
    "guidance": frozenset({"guidance"}), "schedule": frozenset({"schedule"}),
    "width": frozenset({"width", "height", "aspect"}),
}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """How many may be asked of an engine at once, by one worker, and in a minute by all."""

    at_once: int
    per_minute: float


def limits(engine: str) -> Limits:
    """What a host allows of an engine, else what suits it."""
    given = read(Remote).limits_of.get(engine)
    one = PROVIDERS[engine]
    servers = max(1, len(read(Remote).addresses(engine)))
    return Limits(*given) if given else Limits(one.at_once * servers, one.per_minute)


def unset(engine: str) -> str:
    """Why an engine cannot be asked as the settings stand, in words; empty when it can."""
    address, key = read(Remote).door(engine)
    title, name = PROVIDERS[engine].title, engine.upper()
    if not address:
        return f"{title} needs {name}_BASE_URL, where your server is."
    if PROVIDERS[engine].keyed and not key.get_secret_value():
        if engine != "openai":
            return f"{title} needs its key: set {key_name(engine)}."
        # A server at home that speaks as it does needs none.
        if address == Remote.model_fields["openai_base_url"].default:
            return (
                f"{title} needs its key: set {key_name(engine)}, or OPENAI_BASE_URL for another "
                "server."
            )
    if engine == "comfyui":
        try:
            _workflow(read(Remote).comfyui_workflow)
        except ValueError as error:
            return f"COMFYUI_WORKFLOW: {error}."
    return ""


def table() -> str:
    """The engines as a table for the README, derived from what is declared here."""
    rows = ["| engine | a model of it | what to set | what it draws from |",
            "| --- | --- | --- | --- |"]  # fmt: skip
    for name, one in PROVIDERS.items():
        own = [changes.get("modes", one.modes) for begin, changes in OTHERWISE.items()
               if begin.startswith(f"{name}:")]  # fmt: skip
        modes = one.modes.union(*own)
        ways = [f"`/{COMMAND_OF[mode]}`" for mode in Mode if mode in modes]
        ways = [*(ways if one.draws else ()), *(["words"] if one.writes else ())]
        setting = f"`{key_name(name)}`"
        if one.home:
            setting = f"`{name.upper()}_BASE_URL`"
        elif not one.keyed:
            setting = f"nothing (or {setting})"
        model = f"`{name}:{one.usual}`" if one.usual else f"`{name}`"
        rows.append(f"| {one.title} | {model} | {setting} | {', '.join(ways)} |")
    return "\n".join(rows)


def key_name(engine: str) -> str:
    """The setting that holds an engine's key."""
    field = Remote.model_fields[Remote.keys()[engine]]
    return str(field.alias)
