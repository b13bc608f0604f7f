"""What takes no seed: how that is told, what is left out for it, and what goes on working."""

import io
import itertools
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from PIL import Image

from core import catalog, editing, receipts
from core.asking import Ask
from core.cards import PAINT, as_json, buttons_of
from core.commands import press
from core.errors import InvalidOptions
from core.house import House
from core.lifecycle import State
from core.options import Mode
from core.people import Asker
from core.phrases import composed
from core.rows import Generation
from tests.core.test_pictures import ANN, drawn, made, png, say

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
TINA = Asker("telegram", "7", "Tina", chat="telegram:chat:5")
SEEDLESS = "kie knows no --seed."
PRESSES = itertools.count()


@pytest.fixture(autouse=True)
def usual(host: Callable[..., None]) -> None:
    """kie.ai, whose usual model takes no seed, then test patterns."""
    host(DRAWQUEUE_MODEL="kie,pattern", KIE_API_KEY="k", DRAWQUEUE_PUBLIC_URL="https://x.example")


def done(house: House, one: Generation, seconds: float = 2.0) -> Generation:
    """What a worker does that draws one, and tells of its revision."""
    claimed = house.generations.claim(one.id)
    assert claimed
    results = [
        {"key": house.media.save(one.id, f"{at}.png", png(64, 64)), "seed": seed,
         "width": 64, "height": 64}
        for at, seed in enumerate(one.request.seeds)
    ]  # fmt: skip
    revision = catalog.revision(catalog.models()[one.request.model])
    ended = house.generations.finish(claimed, results, seconds, revision)
    assert ended
    return ended


def pushed(house: House, action: str, old: Generation) -> Generation:
    who = Asker(old.platform, old.asker, chat=old.chat)
    reply = press(house, action, old.id, Ask(who, f"{action} {next(PRESSES)}", {"chat": "web"}, {}))
    assert reply.generation
    return reply.generation


def actions(one: Generation) -> list[str]:
    return [button.action for button in buttons_of(one)]


def test_a_seed_is_refused_in_words_and_by_no_setting(house: House) -> None:
    for line in ("a fox --seed 7", "a fox --seed {7, 8}", "a fox --seed 7 --model KIE"):
        with pytest.raises(InvalidOptions) as wrong:
            say(house, line)
        assert wrong.value.faults == [SEEDLESS]
    assert made(say(house, "a fox --seed -1")).request.model == "kie"
    assert made(say(house, "a fox --seed 7 --model pattern")).request.seed == 7
    # What was said wins over what is set, as with every other option.
    say(house, "/settings set model kie")
    one = made(say(house, "a wolf --seed 7 --model pattern"))
    assert (one.request.model, one.request.seed) == ("pattern", 7)


def test_a_set_model_that_knows_no_seed_is_left_out_where_one_is_said(
    house: House, host: Callable[..., None]
) -> None:
    host(DRAWQUEUE_MODEL="pattern,kie")
    say(house, "/settings set model kie")
    one = made(say(house, "a fox --seed 7"))
    assert one.request.model == "pattern"
    assert f" model setting. {SEEDLESS}" in house.card(one).notice


def test_models_tells_it(house: House) -> None:
    kie, pattern = say(house, "/models").text.splitlines()
    assert "--seed" in kie.split("without ")[1].split() and "--seed" not in pattern


def test_retry_draws_anew_and_what_takes_a_seed_is_there_at_once(house: House) -> None:
    old = done(house, made(say(house, "a fox")))
    again = pushed(house, "retry", old)
    assert again.request == old.request and again.state == State.QUEUED
    # A picture is made larger in one way alone.
    large = done(house, pushed(house, "up2", old))
    assert pushed(house, "up2", old).results[0]["key"] == large.results[0]["key"]
    old = done(house, made(say(house, "a fox --model pattern")))
    assert pushed(house, "retry", old).results[0]["key"] == old.results[0]["key"]


def test_the_seed_of_a_line_that_is_edited_is_asked_for_by_nobody(house: House) -> None:
    one = made(say(house, "a fox --model pattern"))
    line = editing.line(one)
    assert f"--seed {one.request.seed}" in line
    say(house, f"/edit {one.id} {line.replace('pattern', 'kie')}")
    assert house.generations.get(one.id).request.model == "kie"
    two = made(say(house, "a fox --model pattern"))
    with pytest.raises(InvalidOptions, match="kie knows no --seed"):
        say(house, f"/edit {two.id} a fox --model kie --seed {two.request.seed + 1}")


def test_a_failed_one_is_retried_in_its_place(house: House) -> None:
    claimed = house.generations.claim(made(say(house, "a fox --count 2")).id)
    assert claimed and house.generations.fail(claimed, "Nothing came.")
    again = pushed(house, "retry", claimed)
    assert (again.id, again.state) == (claimed.id, State.QUEUED)
    assert again.request == claimed.request


@pytest.mark.parametrize("count", [1, 2])
def test_no_new_seed_is_offered_and_old_buttons_work(house: House, count: int) -> None:
    old = done(house, made(say(house, f"a fox --count {count}")))
    assert "retry" in actions(old) and "reseed" not in actions(old)
    assert "seed" not in house.card(old).details
    other = pushed(house, "reseed", old)
    assert other.state == State.QUEUED and other.request == replace(
        old.request, seed=other.request.seed
    )
    seeded = drawn(house, model="pattern", count=count)
    assert actions(seeded)[-2:] == ["retry", "reseed"]


def test_a_picture_of_a_model_that_is_gone_keeps_its_buttons(
    house: House, host: Callable[..., None]
) -> None:
    old = drawn(house, model="pattern")
    host(DRAWQUEUE_MODEL="kie")
    assert actions(old)[-2:] == ["retry", "reseed"]


def test_what_it_was_asked_for_with_is_read_again(house: House) -> None:
    one = made(say(house, "a fox --count 2"))
    line = say(house, f"/edit {one.id}").text.split(f"/edit {one.id} ")[1]
    assert line == "a fox --count 2"
    same = say(house, f"/edit {one.id} {line}")
    assert same.generation and same.generation.request == one.request
    changed = say(house, f"/edit {one.id} a wolf {line[6:]}").generation
    assert changed and changed.request == replace(one.request, prompt="a wolf")
    with pytest.raises(InvalidOptions, match="knows no --seed"):
        say(house, f"/edit {one.id} a wolf --seed 7")
    # Its seed was never said, and goes along to what takes one.
    moved = say(house, f"/edit {one.id} a wolf --model pattern").generation
    assert moved and moved.request.seed == one.request.seed
    assert f"--seed {one.request.seed}" in say(house, f"/edit {one.id}").text
    other = say(house, f"/edit {one.id} a wolf --model pattern --seed -1").generation
    assert other and other.request.seed != one.request.seed


def test_a_recipe_asks_for_what_its_model_knows(house: House) -> None:
    one = made(say(house, "a fox --ar 1:1"))
    sealed = receipts.sealed(Image.new("RGB", (64, 64)), one.id, one.request, 7)
    with Image.open(io.BytesIO(sealed.png)) as image:
        receipt = receipts.read(receipts.found(image))
    assert receipt and receipt.given["seed"] == 7
    again = made(say(house, receipt.line())).request
    assert replace(again, seed=0) == replace(one.request, seed=0)
    # What a model takes stays in the line, and what no model is named for is the usual one's.
    given = {"prompt": "a fox", "seed": 7, "steps": 9}
    for model in ("pattern", "PATTERN", "gone"):
        told = receipts.Receipt({**given, "model": model}).line()
        assert ("--seed 7" in told, "--steps 9" in told) == (model != "gone",) * 2
    assert receipts.Receipt(given).line() == "/imagine a fox"


@pytest.mark.parametrize("repeat", [3, 30])
def test_chance_needs_no_seed(house: House, repeat: int) -> None:
    def asked(line: str) -> list[Generation]:
        reply = say(house, line)
        if reply.generation is None:
            action, number = reply.buttons[0].action, reply.buttons[0].generation
            reply = press(house, action, number, Ask(ANN, f"agreed {line}", {"chat": "web"}, {}))
        assert reply.generation
        return [house.generations.get(one) for one in (reply.generation.id, *reply.others)]

    some = asked(f"/random --repeat {repeat}")
    assert len(some) == repeat and len({one.request.prompt for one in some}) == 1
    assert {one.request.model for one in some} == {"kie"}
    # What takes one begins with what made the prompt, and goes on from there.
    first, *others = asked(f"/random --repeat {repeat} --model pattern")
    assert composed(first.request.seed) == first.request.prompt
    assert [(one.request.seed - first.request.seed) % 2**32 for one in others] == [
        *range(1, repeat)
    ]
    with pytest.raises(InvalidOptions, match="knows no --seed"):
        say(house, "/random --seed 7")


# Painting


def test_painting_is_offered_where_something_here_paints(
    house: House, host: Callable[..., None]
) -> None:
    ours, other = (drawn(house, who=TINA, model="pattern", prompt=one) for one in "ab")
    theirs = done(house, made(say(house, "a fox", who=TINA)))
    assert PAINT in actions(ours) and PAINT in actions(theirs)
    link = say(house, f"/paint {theirs.id}", who=TINA).text
    assert "https://x.example/paint/" in link
    assert catalog.painter("kie").name == catalog.painter("gone").name == "pattern"
    told = json.loads(json.dumps(as_json(house.card(ours), ours, None)))
    assert told["card"]["paints"] is True
    host(DRAWQUEUE_MODEL="kie,stability:core")
    for one in (ours, other, theirs):
        assert PAINT not in actions(one)
        with pytest.raises(InvalidOptions, match=r"does not know /inpaint\. No model here does\."):
            say(house, f"/paint {one.id}", who=TINA)
    assert as_json(house.card(ours), ours, None)["card"]["paints"] is False
    host(DRAWQUEUE_MODEL="kie,openai:gpt-image-1,pattern", OPENAI_API_KEY="k")
    assert catalog.painter("pattern").name == "pattern", "its own before others"
    assert catalog.painter("kie").name == "openai:gpt-image-1"
    assert Mode.INPAINT in catalog.painter("KIE").modes
