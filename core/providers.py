"""Other people's engines: what each can do and how it is asked, as data.

A model of theirs is named as hosts write it, `engine:model` (`pollinations:flux`), or by the
engine alone for its usual model. Addresses, keys and limits are settings.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from core.options import Mode
from core.settings import Remote, read

# What a service that takes a prompt and a size knows nothing of, by the names of options.
PLAIN = frozenset({
    "negative_prompt", "steps", "quality", "guidance", "sampler", "schedule", "lora", "vae",
    "clip_skip", "tile", "hires", "chaos", "subseed",
})  # fmt: skip
TEXT = frozenset({Mode.TEXT})


@dataclass(frozen=True)
class Provider:
    """An engine on other machines: what its models draw from, and what options they lack.

    `usual` is the model where none is named, `known` are some that are offered by name; `size`,
    `largest` and `multiple` are pixels a side, and `smallest` those of the least square that it
    draws. `at_once` and `per_minute` are how much may be
    asked of it where the host says nothing (0 a minute: any number); `seconds` is how long a
    picture may take. `home` says that it is a server of the host's own, whose address must be set.
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
        "kie.ai", usual="seedream/4.5-text-to-image", size=2048, smallest=2048, largest=4096,
        at_once=50,
    ),
    "chutes": Provider(
        "Chutes", lacks=PLAIN - {"negative_prompt", "steps", "quality", "guidance"},
        usual="qwen-image", steps=30, guidance=4.0,
    ),
    "openai": Provider("OpenAI", usual="gpt-image-1", writes=True),
    "stability": Provider("Stability AI", lacks=PLAIN - {"negative_prompt"}, usual="core"),
    "a1111": Provider(
        "Stable Diffusion web UI", size=512, at_once=1, seconds=600, keyed=False, home=True
    ),
    "comfyui": Provider("ComfyUI", at_once=1, seconds=600, keyed=False, home=True),
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


def usual(engine: str) -> str:
    """The model of an engine where none is named."""
    if engine == "kie":
        return read(Remote).kie_default_model
    return PROVIDERS[engine].usual


@dataclass(frozen=True)
class Limits:
    """How many may be asked of an engine at once, by one worker, and in a minute by all."""

    at_once: int
    per_minute: float


def limits(engine: str) -> Limits:
    """What a host allows of an engine, else what suits it."""
    given = read(Remote).limits_of.get(engine)
    one = PROVIDERS[engine]
    return Limits(*given) if given else Limits(one.at_once, one.per_minute)


def unset(engine: str) -> str:
    """Why an engine cannot be asked as the settings stand, in words; empty when it can."""
    address, key = read(Remote).door(engine)
    title, name = PROVIDERS[engine].title, engine.upper()
    if not address:
        return f"{title} needs {name}_BASE_URL, where your server is."
    if PROVIDERS[engine].keyed and not key.get_secret_value() and engine != "openai":
        return f"{title} needs its key: set {_key_name(engine)}."
    return ""


def _key_name(engine: str) -> str:
    field = Remote.model_fields[Remote.keys()[engine]]
    return str(field.alias)
