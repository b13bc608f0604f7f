"""Words that stand for others."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from core import settings
from core.errors import InvalidOptions, NotAllowed
from core.house import House
from core.lifecycle import State
from core.options import validate
from core.people import Asker
from core.wildcards import names, written

ANN = Asker("web", "ann", chat="web:ann")


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "Colour.txt").write_text("red\n\n# none of these\ngreen\nblue\n")
    (folder / "animal.txt").write_text("a __colour__ fox\nan owl\n")
    (folder / "round.txt").write_text("__round__\n")
    monkeypatch.setenv("DRAWQUEUE_WILDCARDS", str(folder))
    settings._read.cache_clear()
    return folder


def test_the_seed_decides_which_word_it_is(lists: Path) -> None:
    assert names() == ["animal", "colour", "round"]
    colours = {written("a __colour__ car", seed) for seed in range(40)}
    assert colours == {"a red car", "a green car", "a blue car"}
    assert written("__colour__ __COLOUR__", 7) == written("__colour__ __COLOUR__", 7)
    animals = {written("__animal__", seed) for seed in range(60)}
    assert animals == {"a red fox", "a green fox", "a blue fox", "an owl"}
    assert written("snake_case and __init", 1) == "snake_case and __init"
    assert "__round__" in written("__round__", 1), "and it ends"


def test_an_escaped_card_means_itself(lists: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lists / "lead.txt").write_text(r"\__colour__ __colour__")
    assert written(r"a \__colour__ car", 1) == "a __colour__ car"
    assert re.fullmatch("__colour__ (red|green|blue)", written("__lead__", 1))
    monkeypatch.delenv("DRAWQUEUE_WILDCARDS")
    settings._read.cache_clear()
    assert written(r"a \__colour__ car", 1) == "a __colour__ car", "nor where there are no lists"


def test_a_list_that_is_written_anew_counts(lists: Path) -> None:
    assert written("__colour__", 1) in ("red", "green", "blue")
    (lists / "metal.txt").write_text("gold")
    assert written("__metal__", 1) == "gold"


def test_an_unknown_card_is_told(lists: Path) -> None:
    with pytest.raises(InvalidOptions, match=r"no wildcard __color__. Did you mean __colour__\?"):
        written("a __color__ car", 1)


def test_without_lists_underscores_are_words(house: House) -> None:
    wanted = validate({"prompt": "a __colour__ car"})
    assert house.proposals.requests(wanted)[0].prompt == "a __colour__ car"


def test_each_of_several_has_words_of_its_own_and_keeps_them(house: House, lists: Path) -> None:
    wanted = validate({"prompt": "a __colour__ car", "repeat": 12, "seed": 1})
    prompts = [one.prompt for one in house.proposals.requests(wanted)]
    assert set(prompts) == {"a red car", "a green car", "a blue car"}
    one = house.generations.accept(
        house.proposals.requests(validate({"prompt": "a __colour__ car"})), ANN, "e", {}, 1
    )[0]
    house.generations.cancel(one.id, ANN)
    again = house.generations.redo(one.id, ANN, "again")
    assert again.request == one.request and "__" not in one.request.prompt


@pytest.mark.parametrize(
    ("prompt", "refused"),
    [
        ("a gory scene", True),
        ("a GORY scene", True),
        ("a (gory:1.4) scene", True),
        ("a g\u200bory scéne", True),
        ("a ｇｏｒｙ scene", True),
        ("a görÿ scene", True),
        ("an allegory of spring", False),
        ("two   blue\u00a0moons", True),
        ("a blue moonstone", False),
    ],
)
def test_a_host_refuses_words(
    house: House, rules: Callable[[str], None], prompt: str, refused: bool
) -> None:
    rules('[words]\nrefuse = ["Gory", "blue moons"]')
    wanted = validate({"prompt": prompt})
    if not refused:
        assert house.generations.submit(wanted, ANN, "e", {}).state == State.QUEUED
        return
    with pytest.raises(NotAllowed, match=r"does not draw “(gory|blue moons)”"):
        house.generations.submit(wanted, ANN, "e", {})
    with pytest.raises(NotAllowed):
        house.generations.admission.check(house.proposals.requests(wanted), ANN)
    assert house.generations.of(ANN) == []


def test_what_was_asked_before_the_list_is_not_drawn_again(
    house: House, rules: Callable[[str], None]
) -> None:
    one = house.generations.submit(validate({"prompt": "a gory scene"}), ANN, "e", {})
    house.generations.cancel(one.id, ANN)
    rules('[words]\nrefuse = ["gory"]')
    with pytest.raises(NotAllowed):
        house.generations.redo(one.id, ANN, "again")
