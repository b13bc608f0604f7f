"""Samplers and their noise schedules by A1111's names, and every other way people spell them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# How the noise goes down over the steps, each with its other spellings; where none is named, as
# the model's own configuration has it (ComfyUI calls that normal).
SCHEDULES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Karras": ("k",),
        "Exponential": ("exp",),
        "Beta": (),
        "Uniform": ("sgm_uniform", "simple", "trailing"),
    }
)
NORMAL = ("", "normal", "automatic", "default")
_CURVES = ("Karras", "Exponential", "Beta")


@dataclass(frozen=True)
class Sampler:
    """The other spellings of a sampler, and the noise schedules that it knows."""

    spellings: tuple[str, ...]
    schedules: tuple[str, ...] = tuple(SCHEDULES)


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "DPM++ 2M": Sampler(("dpmpp_2m", "k_dpmpp_2m", "dpm++")),
        "DPM++ 2M SDE": Sampler(("dpmpp_2m_sde", "k_dpmpp_2m_sde", "dpmpp_2m_sde_gpu")),
        "DPM++ SDE": Sampler(("dpmpp_sde", "k_dpmpp_sde", "dpmpp_sde_gpu"), _CURVES),
        "DPM++ 2S a": Sampler(
            ("dpmpp_2s_a", "k_dpmpp_2s_a", "dpmpp_2s_ancestral", "dpmpp_2s"), _CURVES
        ),
        "Euler": Sampler(("k_euler",)),
        "Euler a": Sampler(("euler_ancestral", "euler_a", "k_euler_a"), ("Uniform",)),
        "Heun": Sampler(("k_heun",)),
        "LMS": Sampler(("k_lms",)),
        "DPM2": Sampler(("kdpm_2", "k_dpm_2", "dpm_2")),
        "DPM2 a": Sampler(("kdpm_2_a", "k_dpm_2_a", "dpm_2_ancestral")),
        "UniPC": Sampler(("uni_pc", "uni_pc_bh2")),
        "DDIM": Sampler((), ("Uniform",)),
        "DEIS": Sampler(()),
        "PNDM": Sampler(("plms",), ("Uniform",)),
        "LCM": Sampler((), ()),
    }
)
# Every sampler with every schedule that it knows, as requests keep them.
EVERY = tuple(
    f"{name} {schedule}".strip()
    for name, one in SAMPLERS.items()
    for schedule in ("", *one.schedules)
)
# Those that are offered to choose from, as A1111 listed them; the others are known where they are
# typed.
OFFERED = tuple(
    name
    for name in EVERY
    if name in SAMPLERS or (name.endswith(" Karras") and name.startswith(("DPM", "LMS")))
)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9+]", "", name.lower())


_SCHEDULES = {
    _plain(spelling): name for name, others in SCHEDULES.items() for spelling in (name, *others)
} | dict.fromkeys(map(_plain, NORMAL), "")
_SAMPLERS = {
    _plain(spelling + typed): f"{name} {schedule}".strip()
    for name, one in SAMPLERS.items()
    for spelling in (name, *one.spellings)
    for typed, schedule in _SCHEDULES.items()
    if schedule in ("", *one.schedules)
}


def sampler(spelling: str) -> str | None:
    """The sampler, and its schedule, that somebody means."""
    return _SAMPLERS.get(_plain(spelling))


def schedule(spelling: str) -> str | None:
    """The noise schedule that somebody means: empty for the model's own."""
    return _SCHEDULES.get(_plain(spelling))


def parts(name: str) -> tuple[str, str]:
    """A sampler's own name, and that of its schedule."""
    for one in SCHEDULES:
        if name.endswith(f" {one}"):
            return name.removesuffix(f" {one}"), one
    return name, ""


def scheduled(name: str, wanted: str) -> str:
    """A sampler with another schedule; one that it does not know is not in `EVERY`."""
    return f"{parts(name)[0]} {wanted}".strip()
