"""Options: flags as people type them, and every fault told at once."""

import re
from typing import Any

import pytest

from core import catalog
from core.catalog import settle
from core.commands import BY_NAME
from core.errors import InvalidOptions
from core.flags import CLASHES, FOREIGN, READ, split_flags
from core.media import Source
from core.options import OPTIONS, Mode, Options, Request, validate


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
        switch = option.kind is bool or isinstance(READ.get(flag), str)
        value = "on" if switch else values.get(option.name, "2")
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
    settled_from = {
        "mode",
        "sources",
        "mask",
        "factor",
        "upscaler",
        "loras",
        "hires_strength",
        "original",
    }
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
    assert unknown.startswith("There is no --x0, --x1, --x2, --x3, --x4, …. /help")
    assert seed.startswith("--seed needs a number")
    with pytest.raises(InvalidOptions) as told:
        ask("a fox" + " --seed" * 900 + "".join(f" --seed 1 {word}" for word in range(900)))
    assert len(told.value.faults) == 9 and told.value.faults[-1] == "… and 893 more."
    assert len(str(told.value)) < 2000
    with pytest.raises(InvalidOptions) as told:
        validate({"prompt": "a fox", "z" * 5000: 1})
    assert len(str(told.value)) < 400


# The options of shared/facts/conventions-and-limits.md, section 4, by the names they have
# elsewhere, each with a value that its users type.
FACTS = {
    "ar": "3:2", "aspect": "3:2", "w": "512", "h": "512", "r": "1024x1024", "width": "512",
    "height": "512", "no": "a, b", "negative": "a", "negative_prompt": "a", "u": "a",
    "seed": "4294967295", "s": "7", "x": "7", "stop": "50", "q": ".5", "steps": "28", "t": "28",
    "stylize": "100", "guidance_scale": "7.5", "scale": "7,5", "guidance": "7", "cfg": "7",
    "cfgscale": "7", "c": "7", "sampler": "k_euler_a", "sampler_name": "DDIM", "v": "pattern",
    "niji": "6", "model": "pattern", "data_model": "pattern", "m": "pattern", "iw": "2",
    "strength": "0.75", "N": "0.75", "repeat": "10", "batch": "2,4", "number": "2",
    "amount": "2", "outcnt": "2", "o": "2", "i": "2", "b": "2", "chaos": "50", "weird": "250",
    "tile": "", "tiling": "True", "sref": "12", "sw": "100", "oref": "12", "ow": "100",
    "cref": "12", "cw": "100", "preset": "Anime", "control": "canny", "raw": "", "draft": "",
    "turbo": "", "fast": "", "relax": "", "hd": "", "exp": "20", "sameseed": "7", "video": "",
    "clip_skip": "2", "facefix": "GFPGAN", "highres_fix": "", "extra_net": "blueprint:0.8",
    "styles": "anime", "spoiler": "True", "init_image": "12", "init_url": "http://e.test/a.png",
    "png": "", "upscale": "2", "upscaler": "LDSR", "hr": "", "hrd": "0.4", "hru": "LDSR",
    "hrt": "15",
}  # fmt: skip


@pytest.mark.parametrize("name", FACTS)
def test_every_option_of_other_bots_is_understood_or_answered(name: str) -> None:
    given, faults = split_flags(f"a fox --{name} {FACTS[name]}")
    if not faults:
        assert validate(given).prompt == "a fox" and len(given) > 1
        return
    (told,) = faults
    assert given == {"prompt": "a fox"} and told.startswith(f"--{name}: ") and len(told) < 120
    assert told.endswith(".") and ". " not in told and told.count("Known") == 0


def test_what_is_told_of_others_flags_names_what_there_is() -> None:
    ours = {flag for option in OPTIONS for flag in (*option.flags, *option.also)}
    assert not ours & set(FOREIGN)
    for words in (*FOREIGN.values(), *(words for _, words in CLASHES.values())):
        assert set(re.findall(r"--([a-z-]+)", words)) <= ours, words
        assert set(re.findall(r"(?<!\w)/([a-z]+)", words)) <= set(BY_NAME), words


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("--draft", {"quality": 0.5}),
        ("--hd on", {"quality": 2}),
        ("--hd off", {"quality": None}),
        ("--hr", {"hires": 2}),
        ("--highres_fix True", {"hires": 2}),
        ("--hr off", {"hires": 1}),
        ("--hires 1.5", {"hires": 1.5}),
        ("--iw 0", {"strength": 1}),
        ("--iw 1", {"strength": 0.6}),
        ("--iw 3", {"strength": 0.33}),
        ("--sw 100", {"style_strength": 0.1}),
        ("--sw 0,5", {"style_strength": 0.5}),
        ("--style-strength 1", {"style_strength": 1}),
        ("--batch 3, 2", {"repeat": 3, "count": 2}),
        ("--batch 2", {"repeat": 1, "count": 2}),
        ("--r 3", {"repeat": 3, "aspect": None}),
        ("--r 3:2", {"repeat": 1, "aspect": "3:2"}),
        ("--r portrait", {"aspect": "2:3"}),
        ("--r Euler a", {"sampler": "Euler a", "aspect": None}),
        ("--s DDIM", {"sampler": "DDIM", "seed": -1}),
        ("--s 250", {"seed": 250}),
        ("--n 2", {"count": 2, "strength": None}),
        ("--n 0.5", {"count": 1, "strength": 0.5}),
        ("--data_model x", {"model": "x"}),
        ("--no dogs --no cats", {"negative_prompt": "dogs, cats"}),
        ("--from 12 --image 13", {"source": "12, 13"}),
        ("--seed 1 --steps 9 --seed 2", {"seed": 2}),
        ("--draft --q 1", {"quality": 1}),
    ],
)
def test_flags_as_other_bots_users_type_them(text: str, given: dict[str, Any]) -> None:
    made = ask(f"a fox {text}")
    assert {name: getattr(made, name) for name in given} == given and made.prompt == "a fox"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("--iw 5", "--iw must be a number from 0 to 3; got 5."),
        ("--iw nan", "--iw must be a number from 0 to 3; got nan."),
        ("--sw 2000", "--sw must be a number from 0 to 1000; got 2000."),
        ("--style-strength 100", "“style_strength” must be a number from 0 to 1; got 100."),
        ("--c 50",
         "--c is the guidance here, from 0 to 30; for Midjourney's chaos write --chaos 50."),
        ("--u 2", "--u is what to keep out of the picture here; /upscale makes one larger."),
        ("--draft big", "“big” stands after --draft; write the prompt first, then the flags."),
        ("--stpes 20", "There is no --stpes. Did you mean --steps?"),
        ("--data-modle x", "There is no --data-modle. Did you mean --data-model?"),
        ("--wings", "There is no --wings. /help flags lists what there is."),
    ],
)  # fmt: skip
def test_what_no_flag_can_mean_is_told_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(InvalidOptions) as told:
        ask(f"a fox {text}")
    assert str(told.value) == words


def test_words_after_braces_are_not_lost() -> None:
    given, faults = split_flags("a fox --steps {10, 20} in snow")
    assert given["steps"] == "{10, 20}" and faults[0].startswith("“in snow” stands after --steps")


PASTED = """a red fox, <lora:blueprint:0.8> in snow
Negative prompt: dogs, cats
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 42, Size: 512x768, \
Model hash: 6ce0161689, Clip skip: 2, Version: v1.9.0"""


def test_what_was_copied_from_automatic1111_is_read() -> None:
    made = ask(f"{PASTED} --seed 7 --no birds")
    assert (made.prompt, made.negative_prompt) == ("a red fox, in snow", "dogs, cats, birds")
    assert (made.steps, made.guidance, made.seed, made.clip_skip) == (20, 6.5, 7, 1)
    assert (made.sampler, made.lora) == ("DPM++ 2M Karras", "blueprint:0.8")
    assert (made.width, made.height) == (512, 768)
    made = ask("a fox\nnegative prompt: dogs,\ncats\n--steps 5")
    assert (made.prompt, made.negative_prompt, made.steps) == ("a fox", "dogs,\ncats", 5)
    made = ask("a sign that says negative prompt: none")
    assert made.prompt.endswith("negative prompt: none") and not made.negative_prompt
