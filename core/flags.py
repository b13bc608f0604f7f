"""Options as people type them: `a fox --ar 3:2 --no people`, as they are used to it elsewhere.

What a flag is called, `core.options` declares; here stands how its value is read, and what to say
of other bots' flags that mean nothing here.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from core.errors import nearest
from core.languages import mark, tr
from core.options import OPTIONS, Misfit, Option, Options

# How many of what nobody knows a fault names.
SHOWN = 5
# How like another a flag must be to be meant.
ALIKE = 0.75
SWITCHES = ("", "on", "off", "yes", "no", "true", "false")
OFF = ("off", "no", "false")
# What is added to where it is given again; of anything else the last counts.
JOINED = ("lora", "negative_prompt", "source", "look")

# Other bots' flags that are no option here, and what to do instead. The answer to one is
# `--flag: sentence`.
FOREIGN: Mapping[str, str] = {
    **dict.fromkeys(
        ("fast", "relax", "turbo"), mark("/class chooses how soon your pictures come.")
    ),
    **dict.fromkeys(("stylize", "exp"), mark("how closely to follow the prompt, --guidance says.")),
    "weird": mark("I know no weirdness; --chaos says how far several pictures differ."),
    "niji": mark("--model says which model draws; /models lists them."),
    "raw": mark("--preset none draws the prompt as it stands."),
    "style": mark("--preset takes a ready-made style; /style takes a picture's."),
    "styles": mark("--preset takes a ready-made style; /preset list shows them."),
    "stop": mark("I draw each picture to its end; --quality 0.5 takes half the steps."),
    "sameseed": mark("--seed 7 --chaos 0 begins several pictures alike."),
    "video": mark("I draw no videos yet."),
    **dict.fromkeys(
        ("oref", "cref"),
        mark("I know no references; --sref takes a style, --from begins with a picture."),
    ),
    **dict.fromkeys(("ow", "cw"), mark("I know no references; --style-strength weighs a style.")),
    "control": mark("I know no such guide; /remix keeps a picture's shapes by a low --strength."),
    "facefix": mark("I mend no faces by themselves; /inpaint draws one anew."),
    "spoiler": mark("what is covered, the host sets for each chat."),
    "png": mark("the file that I keep is a PNG with its recipe inside."),
    "upscale": mark("/upscale makes a finished picture larger."),
    "upscaler": mark("the host chooses what /upscale draws with."),
    "hru": mark("the host chooses what makes pictures larger; --hires says how much."),
    "hrd": mark("the model knows how far --hires may change its picture."),
    "hrt": mark("--hires takes its steps from --steps."),
}
# Values of a flag that can only mean what it does elsewhere, and what to say of them.
CLASHES: Mapping[str, tuple[str, str]] = {
    "c": (
        r"3[1-9]|[4-9]\d|100",
        mark(
            "--c is the guidance here, from 0 to 30; for Midjourney's chaos write --chaos {value}."
        ),
    ),
    "u": (
        r"[1-8](?:\.\d+)?x?",
        mark("--u is what to keep out of the picture here; /upscale makes one larger."),
    ),
}


def _number(value: str, most: float) -> float:
    try:
        number = float(value.replace(",", "."))
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:
        text = mark("--{flag} must be a number from 0 to {most}; got {given}.")
        raise Misfit(text, most=f"{most:g}", given=value[:40])
    return number


def _image_weight(value: str) -> str:
    # Strength is 3 / (3 + 2 weight): a weight of 0 ignores the picture, Midjourney's usual 1 is
    # our usual 0.6, and 3, the most that it keeps, is 0.33.
    return f"{3 / (3 + 2 * _number(value, 3)):.2g}"


def _style_weight(value: str) -> str:
    # Midjourney's are thousandths; up to 1 it is a share, as ours.
    number = _number(value, 1000)
    return f"{number / 1000 if number > 1 else number:g}"


# Flags that say an option in another way: how their value is read, or what they stand for alone.
READ: Mapping[str, str | Callable[[str], str]] = {
    "iw": _image_weight,
    "sw": _style_weight,
    "draft": "0.5",
    "hd": "2",
    "no-enhance": "off",
}


def _spelled(flag: str) -> str:
    return flag.lower().replace("_", "-")


# Those that declare a flag, its owner first.
_BY_FLAG: dict[str, list[Option]] = {}
for _option in OPTIONS:
    for _flag in {_spelled(_option.name), *_option.flags}:
        if not _option.required:
            _BY_FLAG.setdefault(_flag, []).append(_option)
for _option in OPTIONS:
    for _flag in _option.also:
        _BY_FLAG[_flag].append(_option)
_LONG = [flag for flag in _BY_FLAG if len(flag) > 2]


def _fits(option: Option, value: str) -> bool:
    try:
        Options.model_validate({"prompt": "-", option.name: value})
    except ValidationError:
        return False
    return True


def _meant(flag: str, value: str) -> Option | None:
    """The option that a flag means: of several the first whose rule its value keeps."""
    known = _BY_FLAG.get(flag, [])
    if len(known) < 2:
        return next(iter(known), None)
    return next((one for one in known if _fits(one, value)), known[0])


def _read(flag: str, value: str) -> str:
    """A flag's value as its option has it. Raises Misfit."""
    how = READ.get(flag)
    if how is None or isinstance(how, str):
        return value
    if value[0] == "{" and value[-1] == "}":
        return "{" + ", ".join(how(one.strip()) for one in value[1:-1].split(",")) + "}"
    return how(value)


def _empty(flag: str, option: Option) -> str:
    """What a flag without a value needs."""
    if not option.example:
        help_ = tr(option.help)
        # Translators: {help} says what the flag does, such as: which model draws.
        return tr("--{flag} needs a word: {help}", flag=flag, help=help_[0].lower() + help_[1:])
    if option.kind is str:
        return tr(
            "--{flag} needs a word, such as --{flag} {example}.", flag=flag, example=option.example
        )
    return tr(
        "--{flag} needs a number, such as --{flag} {example}.", flag=flag, example=option.example
    )


def _after(rest: str, flag: str) -> str:
    """What to say of words that stand where none belong."""
    return tr(
        "“{words}” stands after --{flag}; write the prompt first, then the flags.",
        words=rest[:40], flag=flag,
    )  # fmt: skip


def _unknown(flags: list[str]) -> list[str]:
    """What to say of flags that nobody knows."""
    faults, strange = [], []
    for place, flag in enumerate(flags):
        near = nearest(_spelled(flag), _LONG, ALIKE) if place < SHOWN else ""
        if near:
            faults.append(
                tr("There is no --{flag}. Did you mean --{meant}?", flag=flag, meant=near)
            )
        else:
            strange.append(f"--{flag}")
    if strange:
        named = ", ".join(strange[:SHOWN]) + (", …" if len(strange) > SHOWN else "")
        words = tr("There is no {flags}. /help flags lists what there is.", flags=named)
        faults.insert(0, words)
    return faults


_FLAG = re.compile(r"(?:^|(?<=\s))(?:--|—|–)([A-Za-z][\w-]*)(?=\s|=|$)")
# A number, or several in braces, and what stands after it.
_FIRST = re.compile(r"(\{.*\}|\S+)(?:\s+(.*))?", re.DOTALL)
_NEGATIVE = re.compile(r"^negative prompt:", re.IGNORECASE | re.MULTILINE)
# Jobs, and the pictures of each.
_BATCH = re.compile(r"(\d{1,4})\s*,\s*(\d{1,4})")


def split_flags(text: str) -> tuple[dict[str, Any], list[str]]:
    """Split `a fox --ar 3:2 --no people` into given options and faults found on the way.

    Everything before the first flag is the prompt. A value runs to the next flag, so that
    several words need no quotes; surrounding quotes are dropped.
    """
    text = text.strip()
    marks = list(_FLAG.finditer(text))
    given = _prompted(text[: marks[0].start()].strip() if marks else text)
    faults: list[str] = []
    unknown: dict[str, None] = {}
    for found, after in zip(marks, [*marks[1:], None], strict=False):
        value = (
            text[found.end() : after.start() if after else len(text)].strip().lstrip("=").strip()
        )
        if len(value) > 1 and value[0] in "\"'“„«" and value[-1] in "\"'”“»":
            value = value[1:-1].strip()
        flag, shown = _spelled(found[1]), found[1].lower()
        option = _meant(flag, value)
        several = value.startswith("{")
        if flag in FOREIGN:
            faults.append(f"--{shown}: " + tr(FOREIGN[flag]))
        elif option is None:
            unknown[shown[:40]] = None
        elif (clash := CLASHES.get(flag)) and re.fullmatch(clash[0], value):
            faults.append(tr(clash[1], value=value))
        elif isinstance(stands := READ.get(flag), str):
            if value.lower() not in OFF:
                given[option.name] = stands
            if value.lower() not in SWITCHES:
                faults.append(_after(value, shown))
        elif option.kind is bool:
            alone = value.lower() not in SWITCHES and not several
            given[option.name] = True if alone else value or True
            if alone:
                faults.append(_after(value, shown))
        elif option.alone and value.lower() in SWITCHES:
            if value.lower() not in OFF:
                given[option.name] = option.alone
        elif not value:
            faults.append(_empty(shown, option))
        elif flag == "batch" and (batch := _BATCH.fullmatch(value)):
            given |= {"repeat": batch[1], "count": batch[2]}
        else:
            if option.kind is not str and not option.choices:
                first = _FIRST.fullmatch(value)
                if first and first[2]:
                    value = first[1]
                    faults.append(_after(first[2], shown))
            try:
                value = _read(flag, value)
            except Misfit as misfit:
                faults.append(misfit.said(flag=shown))
                continue
            if option.name in JOINED and given.get(option.name):
                value = f"{given[option.name]}, {value}"
            given[option.name] = value
    return given, [*_unknown([*unknown]), *faults]


def _prompted(text: str) -> dict[str, Any]:
    """The options that stand before the flags: a prompt, or what was copied from AUTOMATIC1111."""
    # With it come decoders of pictures, which few processes that read this table need.
    from core import receipts

    if recipe := receipts.infotext(text):
        return {name: value for name, value in recipe.given.items() if value != ""}
    negative = _NEGATIVE.search(text)
    if negative is None:
        return {"prompt": text}
    prompt, words = text[: negative.start()].strip(), text[negative.end() :].strip()
    return {"prompt": prompt, "negative_prompt": words} if words else {"prompt": prompt}


def unfolded(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Given options with the flags that stand in their prompt, and the faults in those.

    An option that was given by itself counts before a flag.
    """
    found, faults = split_flags(str(given.get("prompt") or ""))
    own = {name: value for name, value in given.items() if name != "prompt" and value is not None}
    return {**found, **own}, faults
