"""Any text as a prompt with flags, and any JSON as options: words for a person, and soon."""

import json
import re
import time
from dataclasses import asdict
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from bots.discord_cards import CONTENT, plain
from core import wildcards
from core.braces import permutations
from core.catalog import requested, settle
from core.commands import BY_NAME, from_text
from core.errors import InvalidOptions, UserError
from core.flags import split_flags, unfolded
from core.house import House
from core.options import OPTIONS, Request, validate
from core.proposals import escaped
from tests.fuzz.texts import JSON, TEXT

# The longest line that a chat hands on: the web chat's.
LONGEST = 20_000
FLAGS = [flag for option in OPTIONS for flag in option.flags]
PIECES = [
    *(f"{dash}{flag}{end}" for dash in ("--", "—", "–") for flag in FLAGS for end in (" ", "=")),
    "--wings ", "--", "—", "{", "}", "{{", "}}", ",", "\\", '"', "'", "“", "”", " ", "\n",
    "{red, green}", '" "', "7", "-1", "3:2", "5,5", "Euler a", "9" * 30,
    "٣", "²", "1_0", "1e3", "nan",
    "/imagine ", "/cancel ", "/first ", "/grant ", "@bot",
]  # fmt: skip
LINES = st.lists(st.one_of(TEXT, st.sampled_from(PIECES)), max_size=30).map("".join)
OF_OURS = re.compile(r"\b[A-Z]\w*(Error|Exception)\b|pydantic|Traceback|<class|object at 0x", re.I)


def asked(house: House, text: str) -> list[Request]:
    """What a chat does with a line before anything is queued."""
    name, given_, faults = from_text(text)
    if name in BY_NAME and BY_NAME[name].takes is not OPTIONS:
        return []
    return house.proposals.requests(requested(given_, faults))


def for_a_person(error: UserError, own: str = "") -> None:
    """What is told is short enough for every chat, and nothing of ours shows through."""
    words = str(error)
    assert words and len(plain(words)) <= CONTENT and not plain(words).endswith("…"), words
    assert OF_OURS.search(own) or not OF_OURS.search(words), words


@given(LINES)
def test_any_line_is_taken_or_answered_in_words(house: House, text: str) -> None:
    try:
        made = asked(house, text)
    except UserError as error:
        for_a_person(error, text)
        return
    for request in made:
        assert request.prompt.strip() and Request.read(json.loads(json.dumps(asdict(request))))


@given(st.dictionaries(st.one_of(st.sampled_from([o.name for o in OPTIONS]), TEXT), JSON))
def test_any_json_is_taken_or_answered_in_words(given_: dict[str, Any]) -> None:
    found, faults = unfolded({"prompt": "a fox", **given_})
    try:
        made = requested(found, faults)
        settled = settle(made, 7)
    except UserError as error:
        for_a_person(error, json.dumps(given_, ensure_ascii=False))
        return
    assert Request.read(asdict(settled)) == settled


# What was read is written, and read again.


@given(st.lists(st.sampled_from(["{", "}", ",", "\\", "__", "_", "a", " "]), max_size=24))
def test_an_escaped_prompt_stands_for_itself_alone(pieces: list[str]) -> None:
    prompt = "".join(pieces)
    assert [wildcards.written(one, 7) for one in permutations(escaped(prompt), 1)] == [prompt]


def rules(option: Any) -> st.SearchStrategy[Any]:
    """Values of an option as a person may give them."""
    if option.choices:
        return st.sampled_from(option.choices)
    if option.name == "aspect":
        sides = st.integers(1, 9999)
        return st.tuples(sides, sides).filter(lambda s: 0.25 <= s[0] / s[1] <= 4).map(
            lambda s: f"{s[0]}:{s[1]}"
        )  # fmt: skip
    if option.kind is str:
        return TEXT.map(lambda text: text.replace("\ud800", "").strip()).filter(
            lambda text: text and split_flags(f'x --no "{text}"') == (
                {"prompt": "x", "negative_prompt": text}, [])
        )  # fmt: skip
    if option.kind is int:
        return st.integers(int(option.minimum), int(option.maximum))
    return st.floats(option.minimum, option.maximum, allow_subnormal=False)


VALUES = st.fixed_dictionaries({}, optional={o.name: rules(o) for o in OPTIONS if o.flags})


def written(options: dict[str, Any]) -> str:
    """A line that asks for these options."""
    own = {name: value for name, value in options.items() if name != "prompt"}
    flags = {option.name: option.flags[0] for option in OPTIONS if option.flags}
    quoted = (f'"{value}"' if isinstance(value, str) else repr(value) for value in own.values())
    rest = (f"--{flags[name]} {value}" for name, value in zip(own, quoted, strict=True))
    return " ".join([options["prompt"], *rest])


@given(prompt=LINES, values=VALUES)
def test_options_written_as_flags_are_read_as_they_were(prompt: str, values: Any) -> None:
    prompt = " ".join(prompt.encode(errors="replace").decode().split())
    assume(split_flags(f"{prompt} --steps 1") == ({"prompt": prompt, "steps": "1"}, []))
    try:
        wanted = validate({"prompt": prompt, **values})
    except InvalidOptions:
        return
    found, faults = split_flags(written({"prompt": prompt, **values}))
    assert validate(found, faults) == wanted
    assert validate(*unfolded(wanted.model_dump())) == wanted


# Braces


@given(st.lists(st.one_of(TEXT, st.sampled_from(PIECES)), max_size=20).map("".join))
def test_what_is_escaped_is_no_choice(text: str) -> None:
    escaped = re.sub(r"([{},\\])", r"\\\1", text)
    assert permutations(escaped, 1) == [text]


WORDS = st.text("abcé ", min_size=1, max_size=5).filter(str.strip)


@given(st.lists(st.one_of(WORDS, st.lists(WORDS, min_size=2, max_size=3)), max_size=5))
def test_choices_are_every_one_of_each_with_every_other(parts: list[Any]) -> None:
    text = "".join(p if isinstance(p, str) else "{" + ",".join(p) + "}" for p in parts)
    wanted = [""]
    for part in parts:
        choices = [part] if isinstance(part, str) else part
        wanted = [one + choice for one in wanted for choice in choices]
    if len(wanted) > 1:
        wanted = [" ".join(one.split()) for one in wanted]
    assert permutations(text, 10**6) == wanted


@given(st.text("{},\\ab", max_size=60), st.integers(1, 50))
def test_no_more_prompts_are_made_than_may_be(text: str, most: int) -> None:
    try:
        made = permutations(text, most)
    except InvalidOptions as error:
        for_a_person(error)
        return
    assert 1 <= len(made) <= most


# Nothing takes long, however it is written.


def filled(*pieces: str) -> str:
    """Pieces in a row, as many as a line holds."""
    row = "".join(pieces)
    return (row * (LONGEST // len(row) + 1))[:LONGEST]


LONG = [
    "{a,b}" * 1000, "{a,{b,{c,{d,{e,{f,{g,h}}}}}}}" * 100, "a " * 8000,
    *map(filled, PIECES), *map(filled, ("{{", "{{a}}", "{{a,", "{a,", "{}", " --x", "--no==")),
    "--no " + " " * 19_000, "--no " + '"' * 19_000, "--" + "a" * 19_000 + "!",
    "/" + "a" * 19_000 + "!", "/imagine" + "@" + "a" * 19_000 + "!", "/cancel " + "7" * 19_000,
    "--ar " + "9" * 19_000, "--cfg " + "9" * 19_000 + "," + "9" * 900, "--seed -" + "1" * 19_000,
    " ".join(f"--x{number} 1" for number in range(2500)), "--r x " * 3300, "--stpes " * 2500,
    "--iw {1,1} " * 1800, "--steps {" + "1," * 9000 + "1}", "--steps {1,2} --cfg {1,2} " * 700,
]  # fmt: skip


def test_no_line_takes_long(house: House) -> None:
    for text in LONG:
        # Four thousand signs are as many as a prompt may have, and go further than a longer line.
        for line in (text[:4000], text):
            begun = time.process_time()
            try:
                asked(house, line)
            except UserError as error:
                for_a_person(error)
            assert time.process_time() - begun < 3, line[:50]
