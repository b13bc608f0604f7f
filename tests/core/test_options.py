"""Options: flags as people type them, and every fault told at once."""

import pytest

from core import catalog
from core.catalog import settle
from core.errors import InvalidOptions
from core.media import Source
from core.options import OPTIONS, Mode, Options, Request, split_flags, validate


def ask(text: str):  # type: ignore[no-untyped-def]
    given, faults = split_flags(text)
    return validate(given, faults)


def test_flags_as_telegram_users_type_them() -> None:
    made = ask("a fox's den --ar 3:2 --steps 30 —seed 7 --no people, text --cfg 5,5")
    assert made.prompt == "a fox's den"
    assert (made.aspect, made.steps, made.seed) == ("3:2", 30, 7)
    assert made.negative_prompt == "people, text" and made.guidance == 5.5


def test_an_apostrophe_and_dashes_inside_words_are_part_of_the_prompt() -> None:
    assert ask("it's a well-known 'fox' -- really").prompt == "it's a well-known 'fox' -- really"


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.flags])
def test_every_flag_reaches_its_option(option) -> None:  # type: ignore[no-untyped-def]
    values = {"aspect": "3:2", "sampler": "Euler", "model": "x", "negative_prompt": "x"}
    for flag in option.flags:
        value = "on" if option.kind is bool else values.get(option.name, "2")
        given, faults = split_flags(f"a fox --{flag} {value}")
        assert not faults and option.name in given


def test_two_faults_are_told_at_once() -> None:
    with pytest.raises(InvalidOptions) as told:
        ask("a fox --steps 999 --wings 2 --seed 9223372036854775808")
    words = str(told.value)
    assert "--wings" in words and "“steps”" in words and "“seed”" in words
    assert "1 to 150" in words and "4294967295" in words


@pytest.mark.parametrize("prompt", ["", "   ", "--steps 20", "x" * 4001])
def test_an_empty_or_endless_prompt_is_refused_in_words(prompt: str) -> None:
    with pytest.raises(InvalidOptions) as told:
        ask(prompt)
    assert "pydantic" not in str(told.value).lower()
    assert "prompt" in str(told.value).lower() or "Write what to draw" in str(told.value)


def test_an_unknown_model_names_those_on_offer() -> None:
    with pytest.raises(InvalidOptions, match="On offer: pattern"):
        settle(ask("a fox --model nope"), 1)


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ("--pan left", (384, 256)),
        ("--pan right", (384, 256)),
        ("--pan up", (256, 384)),
        ("--pan down", (256, 384)),
        ("--pan left --ar 3:2", (472, 208)),
        ("--pan left --width 512 --height 320", (768, 320)),
        ("--zoom 1.5", (256, 256)),
    ],
)
def test_a_picture_that_goes_on_to_one_side_is_half_as_long_again_there(
    words: str, size: tuple[int, int]
) -> None:
    drawn = Source("a", 256, 256, generation=1)
    made = settle(ask(f"a fox {words}"), 1, Mode.INPAINT, [drawn])
    assert (made.width, made.height) == size and made.sources == ("a",) and not made.mask


def test_a_picture_grows_no_larger_than_its_model_draws() -> None:
    largest = catalog.models()["pattern"].largest
    drawn = Source("a", largest - 64, 256, generation=1)
    made = settle(ask("a fox --pan left"), 1, Mode.INPAINT, [drawn])
    assert (made.width, made.height) == (largest, 256)


def test_an_aspect_keeps_the_models_area() -> None:
    made = settle(ask("a fox --ar 3:2"), 1)
    assert made.width % 8 == made.height % 8 == 0
    assert abs(made.width * made.height / 256**2 - 1) < 0.1
    assert abs(made.width / made.height - 1.5) < 0.1


def test_seeds_count_up_and_wrap() -> None:
    assert settle(ask("a fox --seed 4294967295 --count 2"), 1).seeds == (4294967295, 0)


def test_an_option_is_declared_in_one_file() -> None:
    """Each field of Options shapes the picture, and then stands in Request, or says how to ask."""
    how = {
        "aspect",
        "repeat",
        "schedule",
        "quality",
        "look",
        "priority",
        "source",
        "lora",
        "preset",
    }
    settled_from = {"mode", "sources", "mask", "factor", "upscaler", "loras", "hires_strength"}
    assert set(Options.model_fields) - how == set(Request.__dataclass_fields__) - settled_from
    settled = settle(ask("a fox --steps 9 --cfg 2 --sampler Heun --count 3 --no dogs"), 5)
    assert (settled.steps, settled.guidance, settled.sampler, settled.count) == (9, 2, "Heun", 3)
    assert settled.negative_prompt == "dogs" and settled.seed == 5


@pytest.mark.parametrize("value", ['" "', '"7 "', "' 7'", '"7 8"'])
def test_a_quoted_space_is_no_value(value: str) -> None:
    given, faults = split_flags(f"a fox --steps {value}")
    assert given.get("steps", "7") == "7" and bool(faults) == (value in ('" "', '"7 8"'))


def test_many_faults_fit_into_one_message() -> None:
    with pytest.raises(InvalidOptions) as told:
        ask("a fox " + " ".join(f"--x{number} 1" for number in range(900)) + " --seed")
    unknown, seed = told.value.faults
    assert unknown.startswith("There is no --x0, --x1, --x2, --x3, --x4, …. Known: --from")
    assert seed.startswith("--seed needs a number")
    with pytest.raises(InvalidOptions) as told:
        ask("a fox" + " --seed" * 900 + "".join(f" --seed 1 {word}" for word in range(900)))
    assert len(told.value.faults) == 9 and told.value.faults[-1] == "… and 893 more."
    assert len(str(told.value)) < 2000
    with pytest.raises(InvalidOptions) as told:
        validate({"prompt": "a fox", "z" * 5000: 1})
    assert len(str(told.value)) < 400
