"""Samplers and schedules, by every common spelling."""

import pytest

from core import samplers
from core.catalog import Model, models, settle
from core.errors import InvalidOptions
from core.flags import split_flags
from core.options import validate
from core.samplers import EVERY, OFFERED, SAMPLERS, SCHEDULES, Sampler


def settled(text: str) -> str:
    given, faults = split_flags(f"a fox {text}")
    return settle(validate(given, faults), 1).sampler


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_spelling_is_known_with_every_schedule(name: str) -> None:
    for spelling in (name, *SAMPLERS[name].spellings):
        assert samplers.sampler(spelling) == samplers.sampler(spelling.upper()) == name
        for schedule in SAMPLERS[name].schedules:
            for typed in (schedule, *SCHEDULES[schedule]):
                for joined in (f"{spelling} {typed}", f"{spelling}_{typed}".lower()):
                    assert samplers.sampler(joined) == f"{name} {schedule}", joined


def test_no_spelling_is_that_of_two() -> None:
    meant: dict[str, str] = {}
    for name, one in SAMPLERS.items():
        for spelling in (name, *one.spellings):
            for typed, schedule in samplers._SCHEDULES.items():
                plain = samplers._plain(spelling + typed)
                assert meant.setdefault(plain, f"{name} {schedule}") == f"{name} {schedule}"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        # InvokeAI and arty, the Horde and yasd, ComfyUI.
        ("euler_a", "Euler a"), ("dpmpp_2m_k", "DPM++ 2M Karras"),
        ("dpmpp_2m_sde_k", "DPM++ 2M SDE Karras"), ("unipc", "UniPC"), ("kdpm_2_a", "DPM2 a"),
        ("k_euler_a", "Euler a"), ("k_dpmpp_2m", "DPM++ 2M"), ("k_lms", "LMS"),
        ("dpmpp_sde_k", "DPM++ SDE Karras"), ("dpmpp_2s_ancestral", "DPM++ 2S a"),
        ("DPM++ 2M SDE Exponential", "DPM++ 2M SDE Exponential"),
        ("dpm_2_ancestral", "DPM2 a"), ("heun --schedule beta", "Heun Beta"),
        ("euler_ancestral --scheduler sgm_uniform", "Euler a Uniform"),
        ("dpmpp_2m --scheduler simple", "DPM++ 2M Uniform"),
        ("dpmpp_2m_k --scheduler normal", "DPM++ 2M"),
        ("dpmpp_2m_k --schedule exponential", "DPM++ 2M Exponential"),
    ],
)  # fmt: skip
def test_other_programs_words_are_understood(typed: str, meant: str) -> None:
    assert settled(f"--sampler {typed}") == meant


def test_a_schedule_alone_is_that_of_the_models_sampler() -> None:
    assert settled("--schedule karras") == "DPM++ 2M Karras"
    assert settled("") == next(iter(models().values())).sampler


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("--sampler euler_a --schedule karras", "Euler a has no Karras schedule .*has Uniform"),
        ("--sampler lcm --schedule beta", "LCM has no Beta schedule here. It has its own alone"),
        ("--schedule fast", "must be one of normal, Karras, Exponential, Beta, Uniform; got fast"),
        ("--sampler fast", "must be one of DPM.. 2M, DPM.. 2M Karras, .*; got fast"),
    ],
)
def test_what_a_sampler_does_not_know_is_told_before_anything_is_queued(
    typed: str, words: str
) -> None:
    with pytest.raises(InvalidOptions, match=words):
        settled(typed)


def test_a_flowing_model_has_but_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from core import catalog

    model = catalog._model("black-forest-labs/FLUX.1-schnell")
    assert isinstance(model, Model)
    monkeypatch.setattr(catalog, "models", lambda: {model.name: model})
    assert settled("") == "Euler"
    with pytest.raises(InvalidOptions, match="no Karras schedule"):
        settled("--schedule karras")


def test_a_chat_can_offer_them_all() -> None:
    # Discord's choices and suggestions are 25.
    assert len(OFFERED) <= 25 and set(OFFERED) <= set(EVERY)
    assert {samplers.parts(one)[0] for one in EVERY} == set(SAMPLERS)
    assert all(isinstance(one, Sampler) for one in SAMPLERS.values())
