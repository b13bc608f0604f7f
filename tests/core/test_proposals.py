"""Many pictures from one message: permutations, repeats, and asking first."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core import settings
from core.asking import Ask, Reply
from core.braces import permutations
from core.cards import pressed
from core.commands import from_text, press, run
from core.errors import InvalidOptions, NotAllowed, NotFound, UserError
from core.house import House
from core.lifecycle import State
from core.options import validate
from core.people import Asker
from core.proposals import escaped
from core.wildcards import written

ANN = Asker("web", "ann")


def ask(house: House, text: str, event: str = "e") -> Reply:
    name, given, faults = from_text(text)
    return run(house, name, Ask(ANN, event, {"chat": "c"}, given, faults))


@pytest.mark.parametrize(
    ("prompt", "made"),
    [
        ("{red, green} bird", ["red bird", "green bird"]),
        ("a {red,green} {fox,owl}", ["a red fox", "a red owl", "a green fox", "a green owl"]),
        ("{a {b, c}, d} x", ["a b x", "a c x", "d x"]),
        ("{, very} old", ["old", "very old"]),
        ("plain, with commas", ["plain, with commas"]),
        ("{one} {}", ["{one} {}"]),
        ("{{best quality, masterpiece}} fox", ["{{best quality, masterpiece}} fox"]),
        (r"\{red, green\} {a\, b, c}", ["{red, green} a, b", "{red, green} c"]),
        ("{red, green bird", ["{red, green bird"]),
        ("red} {a, b}", ["red} a", "red} b"]),
        ("{a, {b} c}", ["a", "{b} c"]),
    ],
)
def test_braces(prompt: str, made: list[str]) -> None:
    assert permutations(prompt, 100) == made


@pytest.mark.parametrize(
    "prompt",
    [
        "a {red, blue} fox", "plain, with commas", "{{best quality}} fox", "{one} {}",
        r"a \(sly\) fox", r"C:\\ and \, \{ \} \\{a, b}", "{a, b", "a} {a, b}}}", "{" * 9,
        "{a,{b,{c,d}}}",
        "a __colour__ fox", r"a \__colour__ fox", r"\\__a__b__ ___c__", "{__a__, \\", "a, \\",
    ],
)  # fmt: skip
def test_what_is_escaped_stands_for_itself(
    prompt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for card in ("colour", "a", "b", "c"):
        (tmp_path / f"{card}.txt").write_text("red")
    monkeypatch.setenv("DRAWQUEUE_WILDCARDS", str(tmp_path))
    settings._read.cache_clear()
    assert [written(one, 1) for one in permutations(escaped(prompt), 40)] == [prompt]


def test_what_needs_no_escaping_stays_as_it_is_typed() -> None:
    for prompt in ("plain, with commas", "{{best quality}} fox", r"a \(sly\) fox", "{one}, {}"):
        assert escaped(prompt) == prompt


def test_a_bomb_of_braces_is_counted_and_not_made() -> None:
    begun = time.perf_counter()
    with pytest.raises(InvalidOptions, match="millions of prompts; 40 is the most"):
        permutations("{a,b}" * 40, 40)
    with pytest.raises(InvalidOptions, match="at most 8 deep"):
        permutations("{a," * 1000, 40)
    assert permutations("{" * 8 + "}" * 8, 40)
    assert time.perf_counter() - begun < 1


def test_a_few_are_queued_at_once(house: House) -> None:
    made = ask(house, "{red, green} bird --repeat 2 --priority low").generation
    assert made
    rows = house.generations.of(ANN)[::-1]
    assert [one.request.prompt for one in rows] == ["red bird"] * 2 + ["green bird"] * 2
    assert len({one.request.seed for one in rows}) == 4 and made.id == rows[0].id
    assert {one.priority for one in rows} == {0}
    assert [one.id for one in house.generations.of(ANN)] and house.queue.length() == 4
    again = ask(house, "{red, green} bird --repeat 2 --priority low").generation
    assert again and again.id == made.id and house.queue.length() == 4, "the event came twice"


def test_a_seed_that_was_given_counts_up_over_repeats(house: House) -> None:
    ask(house, "{red, green} bird --repeat 2 --seed 7 --count 2")
    seeds = [one.request.seeds for one in house.generations.of(ANN)[::-1]]
    assert seeds == [(7, 8), (9, 10), (7, 8), (9, 10)]


def test_many_are_asked_about_first(house: House) -> None:
    reply = ask(house, "{red, green} {bird, fox} --repeat 3 --count 2")
    assert "12 jobs with 24 pictures, about 3 min of drawing" in reply.text
    assert [button.label for button in reply.buttons] == ["Queue them all", "No, none"]
    assert house.queue.length() == 0 and house.generations.of(ANN) == []
    action, number = pressed(reply.buttons[0].id)
    for _ in range(2):
        told = press(house, action, number, Ask(ANN, "p", {}, {}))
        assert told.text == "12 jobs with 24 pictures are in line, #1 to #12."
        assert house.queue.length() == 12
    with pytest.raises(NotAllowed, match="agreed to already"):
        press(house, "refuse", number, Ask(ANN, "p", {}, {}))


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("queued=10", "You have 0 of at most 10 pictures in line; 12 more would be too many"),
        ("jobs_per_day=11", "asked for 0 of 11 pictures today"),
        ("steps=4", "at most 4 steps"),
        ("[access]\nblock=['everyone']", "does not let you draw"),
        ("[line]\nlongest=11", "The queue is full"),
    ],
)
def test_what_would_be_refused_is_not_asked_about(
    house: House, rules: Callable[[str], None], policy: str, words: str
) -> None:
    rules(f"[classes.fast]\nmembers=['everyone']\n{policy}\n")
    with pytest.raises(UserError, match=words):
        ask(house, "{red, green} {bird, fox} --repeat 3")
    with pytest.raises(NotFound):
        house.proposals.get(1, ANN)


def test_declined_nothing_is_queued(house: House) -> None:
    reply = ask(house, "a fox --repeat 6")
    _, number = pressed(reply.buttons[1].id)
    with pytest.raises(NotAllowed, match="Only the person who asked"):
        press(house, "agree", number, Ask(Asker("web", "bob"), "p", {}, {}))
    assert press(house, "refuse", number, Ask(ANN, "p", {}, {})).text == "Nothing was queued."
    with pytest.raises(NotAllowed, match="declined already"):
        press(house, "agree", number, Ask(ANN, "p", {}, {}))
    with pytest.raises(NotFound):
        press(house, "agree", 10**11, Ask(ANN, "p", {}, {}))
    assert house.generations.of(ANN) == []


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("--steps {10, 20}", [{"steps": 10}, {"steps": 20}]),
        ("--ar {1:1, 3:2}", [{"width": 256, "height": 256}, {"width": 312, "height": 208}]),
        ("--tile {on, off} --seed {5, 6}", [
            {"tile": True, "seed": 5}, {"tile": True, "seed": 6},
            {"tile": False, "seed": 5}, {"tile": False, "seed": 6},
        ]),
        ("--no {dogs, {big, small} cats}", [
            {"negative_prompt": "dogs"}, {"negative_prompt": "big cats"},
            {"negative_prompt": "small cats"},
        ]),
        (r"--no \{dogs, cats\} --sampler {Euler a, DDIM} --repeat 2", [
            *[{"negative_prompt": "{dogs, cats}", "sampler": "Euler a"}] * 2,
            *[{"negative_prompt": "{dogs, cats}", "sampler": "DDIM"}] * 2,
        ]),
    ],
)  # fmt: skip
def test_braces_in_flags_are_jobs_too(house: House, text: str, made: list[dict[str, Any]]) -> None:
    assert ask(house, f"a fox {text}").generation
    rows = house.generations.of(ANN)[::-1]
    assert [{name: getattr(row.request, name) for name in made[0]} for row in rows] == made
    assert {row.request.prompt for row in rows} == {"a fox"}


def test_braces_in_flags_are_counted_with_the_rest(house: House) -> None:
    reply = ask(house, "a {red, green} fox --steps {4, 5} --cfg {3, 4} --count 2")
    assert "8 jobs with 16 pictures" in reply.text and house.queue.length() == 0
    action, number = pressed(reply.buttons[0].id)
    press(house, action, number, Ask(ANN, "p", {}, {}))
    drawn = [one.request for one in house.generations.of(ANN)[::-1]]
    assert [(one.prompt, one.steps, one.guidance) for one in drawn] == [
        (f"a {colour} fox", steps, guidance)
        for colour in ("red", "green") for steps in (4, 5) for guidance in (3, 4)
    ]  # fmt: skip
    many = "{" + ",".join(map(str, range(1, 8))) + "}"
    with pytest.raises(InvalidOptions, match="makes 84 pictures; 40 from one message"):
        ask(house, f"{{a, b, c}} fox --steps {many} --cfg {{1, 2, 3, 4}}")
    with pytest.raises(InvalidOptions, match="make 49 jobs; 40 is the most"):
        ask(house, f"a fox --steps {many} --cfg {many}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a fox --steps {5, 999}", "“steps” must be a whole number from 1 to 150; got 999."),
        ("a fox --steps {5, }", "“steps” must be a whole number from 1 to 150; got ."),
        ("a fox --steps {0, 999}", r"got 0\.\n.*got 999\."),
        ("a fox --model {pattern, nope}", "There is no model “nope”"),
        ("a fox --width {256, 2048}", "pattern draws at most 1024 pixels a side"),
        ("a fox --priority {low, high}", "“priority” must be one of low, normal, high"),
    ],
)
def test_one_wrong_choice_of_a_flag_queues_nothing(house: House, text: str, words: str) -> None:
    with pytest.raises(InvalidOptions, match=words):
        ask(house, text)
    assert house.queue.length() == 0 and house.generations.of(ANN) == []


def test_five_need_no_asking_and_the_cap_is_told(house: House) -> None:
    assert ask(house, "a fox --repeat 5", "e5").generation
    with pytest.raises(InvalidOptions, match="makes 80 pictures; 40 from one message"):
        ask(house, "{a, b} fox --repeat 40")
    assert all(one.state == State.QUEUED for one in house.generations.of(ANN))


def test_repeats_are_no_part_of_what_is_drawn_again(house: House) -> None:
    requests = house.proposals.requests(validate({"prompt": "a fox", "repeat": 2}))
    assert len(requests) == 2 and "repeat" not in vars(requests[0])
