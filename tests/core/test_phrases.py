"""Words that help to write a prompt: ours, the host's, what is completed, and what chance makes."""

from collections.abc import Callable
from pathlib import Path
from secrets import token_hex

import pytest
from typer.testing import CliRunner

from core import commands, settings
from core.asking import Ask, Reply
from core.cards import pressed
from core.cli import app
from core.commands import completions, from_text, run
from core.errors import InvalidOptions, NotAllowed, UserError
from core.house import House
from core.people import Asker
from core.phrases import composed, faults, phrases

CATEGORIES = ["subjects", "styles", "lighting", "camera", "quality", "mood", "colours"]
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Let the host have a file of words."""

    def write(text: bytes) -> None:
        path = tmp_path / "words.toml"
        path.write_bytes(text)
        monkeypatch.setenv("DRAWQUEUE_WORDS", str(path))
        settings._read.cache_clear()
        phrases.cache_clear()

    return write


def say(house: House, line: str, asker: Asker) -> Reply:
    name, given, faults_ = from_text(line)
    return run(house, name, Ask(asker, line, {"chat": "c"}, given, faults_))


def test_seven_categories_with_enough_in_them() -> None:
    found = phrases()
    assert list(found) == CATEGORIES
    every = [phrase for words in found.values() for phrase in words]
    assert len(every) >= 53 and len(set(every)) == len(every)
    assert all(len(words) >= 7 for words in found.values())


def test_a_host_adds_to_a_category_and_adds_one(hosts: Callable[[bytes], None]) -> None:
    hosts(
        'styles = ["woodcut of mine", "watercolour"]\nweather = ["fog", "schöner Regen"]'.encode()
    )
    assert phrases()["styles"][-1] == "woodcut of mine"
    assert phrases()["styles"].count("watercolour") == 1
    assert list(phrases()) == [*CATEGORIES, "weather"] and faults() == []
    assert completions("a fox, schö", 25) == ["a fox, schöner Regen"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"styles = [", "is not TOML"),
        (b"styles = 'woodcut'", "“styles” must be a list of texts"),
        (b"styles = [1]", "“styles” must be a list of texts"),
        (b"'My Words' = ['a']", "“My Words” is no name of a category"),
        (b"'" + b"w" * 200 + b"' = ['a']", "is no name of a category"),
        (b"styles = ['" + b"w" * 200 + b"']", "at most 80 characters"),
        (b"styles = ['a --steps 9']", "without commas, braces and --"),
        (b"styles = ['{a}']", "without commas, braces and --"),
        (b"styles = ['\xff']", "is not UTF-8"),
        (b"x = " + b"[" * 9999, "is not TOML"),
        (b"styles = [" + b"'a'," * 5001 + b"]", "more than 5000 phrases"),
    ],
)
def test_a_broken_file_is_told_and_left_out(
    hosts: Callable[[bytes], None], text: bytes, words: str
) -> None:
    hosts(text)
    assert words in " ".join(faults()) and all(len(one) < 400 for one in faults())
    assert list(phrases()) == CATEGORIES and "woodcut print" in phrases()["styles"]


def test_the_doctor_tells_it(
    hosts: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DRAWQUEUE_HOME", str(tmp_path))
    hosts(b"styles = 3")
    told = CliRunner().invoke(app, ["doctor"])
    assert "✗ phrases: DRAWQUEUE_WORDS: “styles” must be a list" in " ".join(told.output.split())
    hosts(b"styles = ['woodcut of mine']")
    assert "✓ phrases" in CliRunner().invoke(app, ["doctor"]).output


def test_a_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWQUEUE_WORDS", "/nowhere/words.toml")
    assert "cannot be read" in faults()[0] and list(phrases()) == CATEGORIES


# Completion


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("a fox, golden h", "a fox, golden hour"),
        ("a fox, GOLD", "a fox, golden hour"),
        ("a fox golden ", "a fox golden hour"),
        ("waterc", "watercolour"),
        ("a fox, wide", "a fox, wide angle"),
        ("/imagine a fox, wide", "/imagine a fox, wide angle"),
        ("/draw waterc", "/draw watercolour"),
        ("a city, shallow depth of", "a city, shallow depth of field"),
    ],
)
def test_the_word_being_typed_is_completed(typed: str, first: str) -> None:
    assert completions(typed, 25)[0] == first


@pytest.mark.parametrize(
    "typed",
    ["a fox xyzzy", "a fox, golden hour", "waterc --steps 9", "waterc —no w", "a fox --no wa",
     "/cancel waterc", "/imagin", "/", "a fox and "],
)  # fmt: skip
def test_nothing_is_made_up(typed: str) -> None:
    assert completions(typed, 25) == []


def test_after_a_comma_and_at_the_beginning_there_is_one_of_each() -> None:
    assert completions("", 7) == [words[0] for words in phrases().values()]
    found = completions("a fox,", 25)
    assert len(found) == 25 and found[1] == "a fox, watercolour"
    again = completions("a fox, watercolour, ", 25)
    assert "a fox, watercolour, oil painting" in again
    assert "a fox, watercolour, watercolour" not in again


# By chance


@ON_SQLITE
def test_the_same_seed_makes_the_same_picture(house: House, ann: Asker) -> None:
    first = say(house, "/random --seed 7 --steps 9", ann).generation
    other = say(house, "/random --steps 9 --seed 7 ", ann).generation
    assert first and other and first.request == other.request
    assert (first.request.prompt, first.request.seed) == (composed(7), 7)
    parts = first.request.prompt.split(", ")
    for words, part in zip(phrases().values(), parts, strict=True):
        assert part in words
    assert len({composed(seed) for seed in range(20)}) > 15


@ON_SQLITE
def test_without_a_seed_the_card_tells_it(house: House, ann: Asker) -> None:
    made = [say(house, f"/random{' ' * number}", ann).generation for number in range(3)]
    for one in made:
        assert one and composed(one.request.seed) == one.request.prompt
    assert len({one.request.seed for one in made if one}) == 3


@ON_SQLITE
def test_only_the_categories_that_are_named(house: House, ann: Asker) -> None:
    made = say(house, "/random Styles, mood styles --seed 3 --ar 3:2 --no people", ann).generation
    assert made
    style, mood = made.request.prompt.split(", ")
    assert style in phrases()["styles"] and mood in phrases()["mood"]
    assert made.request.negative_prompt == "people" and made.request.width > made.request.height


@ON_SQLITE
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/random style", "no category “style”. Did you mean styles? Known: subjects, styles"),
        ("/random " + "w" * 200, f"“{'w' * 40}”"),
        ("/random --seed x", "“seed” must be a whole number"),
        ("/random --wings 2 --steps 999", "There is no --wings"),
        ("/random --from 12", "There is no #12"),
        ("/words stile", "Did you mean styles?"),
        ("/words " + "w" * 200, "There is no category"),
    ],
)
def test_bad_input_is_told(house: House, ann: Asker, line: str, words: str) -> None:
    with pytest.raises(UserError) as told:
        say(house, line, ann)
    assert words in str(told.value) and len(str(told.value)) < 600
    assert house.generations.of(ann) == []


@ON_SQLITE
def test_every_fault_is_told_at_once(house: House, ann: Asker) -> None:
    with pytest.raises(InvalidOptions) as told:
        say(house, "/random --wings 2 --steps 999", ann)
    assert len(told.value.faults) == 2


@ON_SQLITE
def test_words_are_told(house: House, ann: Asker, hosts: Callable[[bytes], None]) -> None:
    told = say(house, "/words", ann).text
    assert [line.split(":")[0] for line in told.splitlines()[:-1]] == CATEGORIES
    assert len(told) < 1900
    assert (
        say(house, "/words Lighting", ann).text == f"lighting: {', '.join(phrases()['lighting'])}"
    )
    hosts(b"many = [" + b",".join(b"'phrase %d'" % number for number in range(4000)) + b"]")
    told = say(house, "/words many", ann).text
    assert len(told) < 1600 and " more." in told and told.startswith("many: phrase 0, phrase 1")


def press(house: House, reply: Reply, label: str, who: Asker) -> Reply:
    """Press a button that stands under an answer."""
    one = next(one for one in reply.buttons if one.label == label)
    action, number = pressed(one.id)
    assert len(one.id) <= 64, "Telegram takes no more"
    return commands.press(house, action, number, Ask(who, token_hex(4), {"chat": "c"}, {}))


def test_a_prompt_is_put_together_by_buttons(house: House, ann: Asker) -> None:
    first = say(house, "/words lighting a castle", ann)
    assert first.text.endswith("Your prompt: a castle")
    one = press(house, first, "golden hour", ann)
    two = press(house, press(house, one, "‹ Categories", ann), "mood", ann)
    three = press(house, two, "serene", ann)
    assert three.text.endswith("Your prompt: a castle, golden hour, serene")
    # A tick tells what was chosen, and pressing it takes it away again.
    less = press(house, press(house, three, "✓ serene", ann), "cosy", ann)
    assert less.text.endswith("Your prompt: a castle, golden hour, cosy")
    made = press(house, less, "Draw it", ann)
    assert made.generation and made.generation.request.prompt == "a castle, golden hour, cosy"
    again = press(house, less, "Draw it", ann)
    assert again.generation and again.generation.id == made.generation.id
    with pytest.raises(UserError, match="drawn already"):
        press(house, less, "serene", ann)
    with pytest.raises(NotAllowed, match="Only who asked for these words"):
        press(house, less, "✓ cosy", Asker("discord", "999", "Eve"))


@ON_SQLITE
def test_words_begin_a_prompt_by_themselves(house: House, ann: Asker) -> None:
    bare = say(house, "/words", ann)
    assert "Draw it" not in [one.label for one in bare.buttons]
    styles = press(house, bare, "styles", ann)
    assert press(house, styles, "low poly", ann).text.endswith("Your prompt: low poly")
    # Nothing was kept where nothing was chosen: the first page begins another.
    assert press(house, styles, "pixel art", ann).text.endswith("Your prompt: pixel art")
    typed = say(house, "/words a red fox", ann)
    assert typed.text.endswith("Your prompt: a red fox")
    long = say(house, "/words " + "a very long fox, " * 100, ann).text
    assert len(long) < 1900 and long.endswith("…")


@ON_SQLITE
def test_a_large_category_is_turned(
    house: House, ann: Asker, hosts: Callable[[bytes], None]
) -> None:
    hosts(b"many = [" + b",".join(b"'phrase %d'" % number for number in range(40)) + b"]")
    page = say(house, "/words many a fox", ann)
    for expected in ("phrase 0", "phrase 16", "phrase 32", "phrase 0"):
        assert page.buttons[0].label == expected and len(page.buttons) <= 20
        assert max(one.row for one in page.buttons) < 5
        page = press(house, page, "More ›", ann)
    assert press(house, page, "phrase 31", ann).text.endswith("Your prompt: a fox, phrase 31")
    hosts(b"")
    with pytest.raises(UserError, match="words have changed"):
        press(house, page, "phrase 31", ann)
