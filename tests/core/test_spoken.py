"""What is said in another language than English: faults, forms, and what a row is told."""

import ast
import io
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract

from core import languages
from core.braces import permutations
from core.catalog import requested
from core.errors import InvalidOptions, NotAllowed
from core.flags import split_flags
from core.house import House
from core.languages import DOMAIN, speaking
from core.lifecycle import State
from core.options import OPTIONS, validate
from core.people import Asker
from core.rows import Generation
from tests.languages import FOLDERS, ROOT, calls, compiled, template
from worker.finishing import Finisher
from worker.tasks import DrawingFailed, Studio, generate
from worker.warm import WarmEngine

ANN = Asker("web", "ann")
Texts = Mapping[str | tuple[str, str], str | tuple[str, ...]]
ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def translate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, Texts], None]]:
    """Gives languages catalogs of their own, to this process and those that it starts."""
    folder = tmp_path / "locale"
    monkeypatch.setattr(languages, "CATALOGS", folder)
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        f"import pathlib, core.languages\ncore.languages.CATALOGS = pathlib.Path({str(folder)!r})\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{site}:{ROOT}")

    def write(language: str, texts: Texts) -> None:
        catalog = Catalog(language)
        for text, told in texts.items():
            catalog.add(text, told)
        path = folder / language / "LC_MESSAGES" / f"{DOMAIN}.mo"
        path.parent.mkdir(parents=True)
        path.write_bytes(compiled(catalog))
        languages._catalog.cache_clear()

    yield write
    languages._catalog.cache_clear()


def test_faults_of_options_are_told_in_the_language_that_is_spoken(
    translate: Callable[[str, Texts], None],
) -> None:
    translate("de", {
        "“{name}” must be a whole number from {least} to {most}; got {given}.":
            "„{name}“ ist eine ganze Zahl von {least} bis {most}, nicht {given}.",
        "“{name}” must be one of {choices}; got {given}.":
            "„{name}“ ist eines von {choices}, nicht {given}.",
        "“{name}” must lie between 1:4 and 4:1; got {given}.":
            "{given} passt nicht: „{name}“ liegt zwischen 1:4 und 4:1.",
        "Give either steps or a quality, not both.": "Entweder steps oder quality, nicht beides.",
        "--{flag} must be a number from 0 to {most}; got {given}.":
            "--{flag} liegt zwischen 0 und {most}: {given} nicht.",
        "/class chooses how soon your pictures come.": "/class wählt, wie bald Bilder kommen.",
        "--{flag} needs a word: {help}": "--{flag} braucht ein Wort: {help}",
        "Which model draws; /models lists them.": "Welches Modell zeichnet; /models nennt sie.",
        "--{flag} is for {commands}.": "--{flag} gehört zu {commands}.",
        "{several} and {last}": "{several} und {last}",
    })  # fmt: skip
    given, faults = split_flags("a fox --steps 900 --ar 9:1 --priority soon --iw 9 --fast --model")
    with speaking("de"):
        given, said = split_flags(
            "a fox --steps 900 --ar 9:1 --priority soon --iw 9 --fast --model"
        )
        with pytest.raises(InvalidOptions) as told:
            validate(given, said)
        with pytest.raises(InvalidOptions, match=r"--strength gehört zu /remix, .* und /blend\."):
            requested({"prompt": "a fox", "strength": 0.5})
        with pytest.raises(InvalidOptions, match="Entweder steps oder quality, nicht beides"):
            validate({"prompt": "a fox", "steps": 5, "quality": 2})
    assert told.value.faults == [
        "--iw liegt zwischen 0 und 3: 9 nicht.",
        "--fast: /class wählt, wie bald Bilder kommen.",
        "--model braucht ein Wort: welches Modell zeichnet; /models nennt sie.",
        "9:1 passt nicht: „aspect“ liegt zwischen 1:4 und 4:1.",
        "„steps“ ist eine ganze Zahl von 1 bis 150, nicht 900.",
        "„priority“ ist eines von low, normal, high, nicht soon.",
    ]
    assert faults[0] == "--iw must be a number from 0 to 3; got 9.", "English is as it was"


def test_each_language_has_its_own_forms(translate: Callable[[str, Texts], None]) -> None:
    translate("ru", {
        ("These braces make {n} prompt; {most} is the most.",
         "These braces make {n} prompts; {most} is the most."):
            ("Выходит {n} запрос, а можно {most}.", "Выходит {n} запроса, а можно {most}.",
             "Выходит {n} запросов, а можно {most}."),
    })  # fmt: skip

    def told(number: int) -> str:
        with pytest.raises(InvalidOptions) as error:
            permutations("{" + ",".join(map(str, range(number))) + "} foxes", 1)
        return str(error.value)

    with speaking("ru"):
        assert told(2) == "Выходит 2 запроса, а можно 1."
        assert told(5) == "Выходит 5 запросов, а можно 1."
        assert told(21) == "Выходит 21 запрос, а можно 1."
    assert told(21) == "These braces make 21 prompts; 1 is the most."


def asked(house: House, prompt: str) -> Generation:
    return house.generations.submit(validate({"prompt": prompt}), ANN, f"e-{prompt}", {})


@ONE_DATABASE
def test_the_worker_tells_each_row_in_its_own_language(
    house: House, translate: Callable[[str, Texts], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    translate("de", {
        "The pattern engine is out of order.": "Der Mustermaler ist kaputt.",
        "The engine crashed while drawing this.": "Der Maler ist dabei abgestürzt.",
        "I try again.": "Ich versuche es noch einmal.",
        "Something went wrong. (fault {fault})": "Etwas ging schief. (Fehler {fault})",
        "The picture could not be kept; the host has to look. (fault {fault})":
            "Das Bild ließ sich nicht ablegen. (Fehler {fault})",
    })  # fmt: skip
    engine = WarmEngine("cpu", 1, 0)
    monkeypatch.setattr(Studio, "house", house, raising=False)
    monkeypatch.setattr(Studio, "engine", engine, raising=False)
    monkeypatch.setattr(Studio, "finisher", Finisher(house), raising=False)
    with speaking("de"):
        broken, crashed, wrong, unkept = (
            asked(house, prompt) for prompt in ("fail:give-up", "crash:segv", "a bug", "a fox")
        )
    english = asked(house, "fail:give-up, too")

    def error(one: Generation) -> str:
        return house.generations.get(one.id).error or ""

    try:
        for one in (broken, english):
            with pytest.raises(DrawingFailed):
                generate(one.id)
        assert error(broken) == "Der Mustermaler ist kaputt.", "said in the engine's process"
        assert error(english) == "The pattern engine is out of order."
        generate(crashed.id)
        words = "Der Maler ist dabei abgestürzt. Ich versuche es noch einmal."
        assert error(crashed) == words

        def store(*_given: object) -> str:
            raise ValueError("no such storage")

        monkeypatch.setattr(house.media, "save", store)
        monkeypatch.setattr("worker.finishing.STORE_PAUSES", ())
        generate(unkept.id)
        assert Studio.finisher.drain(20)
        assert error(unkept).startswith("Das Bild ließ sich nicht ablegen. (Fehler ")
    finally:
        engine.kill()
    monkeypatch.setattr(Studio, "engine", SimpleNamespace(draw=None), raising=False)
    with pytest.raises(DrawingFailed):
        generate(wrong.id)
    assert error(wrong).startswith("Etwas ging schief. (Fehler ")


@ONE_DATABASE
def test_what_a_sweep_ends_is_told_in_the_language_of_its_row(
    house: House, translate: Callable[[str, Texts], None]
) -> None:
    translate("de", {
        "An operator removed this from the queue.": "Aus der Schlange genommen.",
        "#{number} is {state} already and cannot be changed any more.":
            "#{number} ist schon {state} und bleibt, wie es ist.",
        "cancelled": "abgebrochen",
    })  # fmt: skip
    with speaking("de"):
        german = asked(house, "a fox")
    english = asked(house, "a hare")
    for one in (german, english):
        house.queue.forget(one.id, one.attempt)
    assert house.mending.sweep() == 2
    assert house.generations.get(german.id).state == State.CANCELLED
    assert house.generations.get(german.id).error == "Aus der Schlange genommen."
    assert house.generations.get(english.id).error == "An operator removed this from the queue."
    with speaking("de"), pytest.raises(NotAllowed, match="ist schon abgebrochen und bleibt"):
        house.generations.editable(german.id, ANN)


def test_what_is_gathered_tells_the_values_that_it_is_given() -> None:
    pieced, unlike = [], []
    for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id not in ("tr", "trn", "mark"):
                continue
            texts = node.args[: 2 if node.func.id == "trn" else 1]
            where = f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)[:80]}"
            if any(isinstance(part, ast.JoinedStr | ast.BinOp) for part in texts):
                pieced.append(where)
            if node.func.id == "mark" or not all(isinstance(one, ast.Constant) for one in texts):
                continue
            given = {one.arg for one in node.keywords}
            told = set(re.findall(r"\{(\w+)\}", " ".join(ast.literal_eval(one) for one in texts)))
            if None not in given and told - {"n"} != given:
                unlike.append(where)
    assert not pieced, "nobody can translate a text that is put together"
    assert not unlike


def test_what_stands_within_other_calls_and_texts_is_gathered() -> None:
    """Babel's own reader passes over it, or not, as Python's version has it."""
    code = """
# Translators: of a fox.
say(f"{number} {tr('within a text')}", tr("outer", value=up(tr("deep"))))
trn("{n} fox", "{n} foxes", n, value=up(tr("within forms")))
"""
    keywords, found = {"tr": None, "trn": (1, 2)}, []
    for _line, text, notes, _context in extract(
        calls, io.BytesIO(code.encode()), keywords, ("Translators:",), strip_comment_tags=True
    ):
        found.append((text, notes))
    assert sorted(found, key=str) == [
        ("deep", ["of a fox."]),
        ("outer", ["of a fox."]),
        ("within a text", ["of a fox."]),
        ("within forms", []),
        (("{n} fox", "{n} foxes"), []),
    ]


def test_every_option_says_what_it_is_for_in_words_that_are_gathered() -> None:
    gathered = {one.id for one in template()}
    assert [one.name for one in OPTIONS if one.help not in gathered] == []
