"""Who is spoken to in which language, and what must hold for every catalog that is committed."""

import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
from babel.messages.catalog import Catalog, Message
from sqlalchemy.exc import OperationalError

from core import cards, commands, languages, tastes
from core.asking import Ask, Reply
from core.commands import BY_NAME, COMMANDS, choose, from_text, press, run
from core.errors import InvalidOptions, UserError, duration
from core.house import House
from core.languages import LANGUAGES, closest, forms, named, speaking, spoken, tr, trc, trn
from core.lifecycle import State
from core.people import Asker
from tests.core.test_people import code
from tests.core.test_policy import say
from tests.languages import OTHERS, compiled, kept, po, template, translated

GERMAN = {
    "Cancel": "Abbrechen",
    "queued": "in der Schlange",
    "#{number} is {state}.": "#{number} ist {state}.",
    "cancelled": "abgebrochen",
    "seed {number}": "Startwert {number}",
    "Picture drawn from the prompt: {prompt}": "Bild zum Prompt: {prompt}",
    "queued (place {place}, no worker is on line)": "wartet (Platz {place}, kein Worker)",
    "deleted by its asker": "vom Besteller gelöscht",
    "There is no setting “{name}”. Did you mean {near}?": "„{name}“? Etwa {near}?",
    "… and {number} more.": "… und {number} weitere.",
    "{setting} is {value} from now on, for you.": "{setting} ist ab jetzt {value}, für dich.",
    "the host's": "vom Gastgeber",
    "I do not speak “{language}”. I speak {known}; auto is what your app speaks.": (
        "„{language}“ spreche ich nicht, aber {known} oder auto."
    ),
    "I could not do that just now. Please try again.": "Das ging gerade nicht.",
    "Draw a picture from a prompt.": "Ein Bild malen.",
    "Also: {names}": "Auch: {names}",
    ("command", "imagine"): "bild",
    ("command", "queue"): "schlange",
    # Another command's, in English and in Russian: both mean none of these.
    ("command", "cancel"): "retry",
    ("command", "stats"): "stand",
}
RUSSIAN = {
    ("{n} step", "{n} steps"): ("{n} шаг", "{n} шага", "{n} шагов"),
    "seed {number}": "зерно {number}",
    "{number} s": "{number} с",
    ("command", "imagine"): "нарисуй",
    ("command", "quota"): "stand",
}
FRENCH = {"Cancel": "Annuler"}
PLACE = {"channel": "7", "guild": "9"}
ANN = Asker("discord", "1", "Ann", chat="discord:channel:7", places=("discord:guild:9",))
KEEPER = Asker("discord", "3", "Kim", chat="discord:channel:7", keeper=True)
events = iter(range(10**6))


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Words are the same on every database."""
    return f"sqlite:///{tmp_path / 'rows.sqlite3'}"


def catalog(folder: Path, language: str, texts: Mapping[Any, Any]) -> None:
    made = Catalog(language)
    for text, said in texts.items():
        context, id_ = text if isinstance(text, tuple) and isinstance(said, str) else (None, text)
        made.add(id_, said, context=context)
    path = folder / language / "LC_MESSAGES" / f"{languages.DOMAIN}.mo"
    path.parent.mkdir(parents=True)
    path.write_bytes(compiled(made))


@pytest.fixture
def spoken_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Catalogs with the few texts that are looked at here."""
    for language, texts in (("de", GERMAN), ("ru", RUSSIAN), ("fr", FRENCH)):
        catalog(tmp_path / "locale", language, texts)
    monkeypatch.setattr(languages, "CATALOGS", tmp_path / "locale")
    languages._catalog.cache_clear()
    yield
    languages._catalog.cache_clear()


def from_(language: str, id_: str = "1", chat: str = ANN.chat) -> Asker:
    """Somebody whose app tells this language."""
    return Asker("discord", id_, "Ann", chat=chat, places=ANN.places, language=language)


def ask(house: House, asker: Asker, line: str) -> Reply:
    name, given, faults = from_text(line)
    return run(house, name, Ask(asker, f"e{next(events)}", PLACE, given, faults))


def test_a_text_is_said_in_the_language_that_is_spoken(spoken_here: None) -> None:
    assert tr("Cancel") == "Cancel" and spoken() == "en"
    with speaking("de"):
        assert tr("Cancel") == "Abbrechen" and tr("… and {number} more.", number=3).endswith(
            "3 weitere."
        )
        assert tr("Nobody has said this yet.") == "Nobody has said this yet."
        assert trc("command", "queue") == "schlange" and tr("queue") == "queue"
    with speaking("ru"):
        told = [trn("{n} step", "{n} steps", n) for n in (1, 2, 5, 21, 22, 11)]
        assert forms("{n} step", "{n} steps") == ["{n} шаг", "{n} шага", "{n} шагов"]
        assert duration(8) == "8 с" and duration(120) == "2 min", "what is missing is English"
    assert told == ["1 шаг", "2 шага", "5 шагов", "21 шаг", "22 шага", "11 шагов"]
    with speaking("tlh"):
        assert spoken() == "en" and tr("Cancel") == "Cancel"


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("de-AT", "de"), ("es-419", "es"), ("ru_RU", "ru"), ("FR", "fr"), ("en-GB", "en"),
        ("tlh", "en"), ("", "en"), (None, "en"), ("deutsch", "en"), ("x" * 5000, "en"),
    ],
)  # fmt: skip
def test_a_locale_nobody_has_is_english(tag: str | None, language: str) -> None:
    assert closest(tag) == language


@pytest.mark.parametrize(
    ("word", "language"),
    [
        ("deutsch", "de"), ("de", "de"), ("German", "de"), ("de-AT", "de"), ("Русский", "ru"),
        ("русский", "ru"), ("espanol", "es"), ("ESPAÑOL", "es"), ("francais", "fr"),
        ("english", "en"), ("klingon", ""), ("", ""), ("der", ""), ("frog", ""),
    ],
)  # fmt: skip
def test_a_language_is_named_in_any_way(word: str, language: str) -> None:
    assert named(word) == language


def test_a_persons_setting_wins_over_the_chats_and_that_over_the_app(house: House) -> None:
    assert house.speaks(from_("")) == house.speaks(from_("tlh")) == "en"
    assert house.speaks(from_("de-AT", "2")) == "de"
    ask(house, KEEPER, "/settings set language french channel")
    assert house.speaks(from_("de-AT", "2")) == house.speaks(from_("", "2")) == "fr"
    assert house.speaks(from_("de", "2", chat="discord:channel:8")) == "de", "of that chat alone"
    ask(house, from_("de"), "/settings set language ru")
    assert house.speaks(from_("de")) == "ru" and house.speaks(from_("de", "2")) == "fr"
    ask(house, from_("de"), "/settings set language auto")
    assert house.speaks(from_("de")) == "de", "the app's, whatever the chat has"
    ask(house, from_("de"), "/settings reset language")
    assert house.speaks(from_("de")) == "fr"
    ask(house, KEEPER, "/settings reset language channel")
    assert house.speaks(from_("de")) == "de"


def test_linked_accounts_are_spoken_to_alike(house: House) -> None:
    other = Asker("telegram", "5", chat="telegram:chat:5")
    ask(house, ANN, "/settings set language de")
    assert house.speaks(other) == "en"
    say(house, other, f"/link {code(house, ANN)} yes")
    house.tastes._spoken.clear()
    assert house.speaks(other) == "de"


def test_what_was_set_is_remembered_and_a_database_that_is_away_costs_no_answer(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(house, ANN, "/settings set language de")
    assert house.speaks(ANN) == "de"

    def away() -> Any:
        raise OperationalError("SELECT", None, Exception("away"))

    monkeypatch.setattr(house.database, "read", away)
    assert house.speaks(ANN) == "de" and house.speaks(from_("fr", "2")) == "fr"
    later = time.monotonic() + tastes.SPOKEN_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert house.speaks(ANN) == "de", "as it was"
    monkeypatch.undo()
    house.tastes.set(ANN, "language", "fr")
    assert house.speaks(ANN) == "fr"


def test_the_setting_takes_effect_with_its_own_answer(house: House, spoken_here: None) -> None:
    told = ask(house, ANN, "/settings set language German").text
    assert told == "language ist ab jetzt Deutsch, für dich." and spoken() == "en"
    overview = ask(house, ANN, "/settings").text
    assert "language: Deutsch (yours)" in overview and "count: 1 (vom Gastgeber)" in overview
    with pytest.raises(UserError) as wrong:
        ask(house, ANN, "/settings set language klingonisch")
    assert str(wrong.value) == (
        "„klingonisch“ spreche ich nicht, aber English, Deutsch, Español, Français, Русский oder "
        "auto."
    )
    again = ask(house, ANN, "/settings reset language").text
    assert again == "language is auto again (the host's)."
    with pytest.raises(UserError, match=r"I do not speak “klingon”\. I speak English, Deutsch"):
        ask(house, ANN, "/settings set language klingon")


def test_a_language_is_chosen_by_its_own_name(house: House, spoken_here: None) -> None:
    shown = ask(house, ANN, "/settings")
    (one,) = [one for one in shown.choices if one.label == "language"]
    values = choose(house, one.id, Ask(ANN, "c1", PLACE, {}))
    labels = [one.label for one in values.choices]
    assert labels[2:] == ["auto", *LANGUAGES.values()] and "Now: auto." in values.text
    done = choose(house, values.choices[labels.index("Deutsch")].id, Ask(ANN, "c2", PLACE, {}))
    assert "language ist ab jetzt Deutsch" in done.text and house.speaks(ANN) == "de"
    assert commands.choosing.suggestions(house, "value", ANN, {"setting": "language"}) == [
        "auto", *LANGUAGES.values(),
    ]  # fmt: skip


def test_a_card_is_in_the_language_of_who_asked(house: House, spoken_here: None) -> None:
    german, english = from_("de"), from_("en", "2")
    mine = ask(house, german, "/imagine ein Fuchs --seed 7").generation
    theirs = ask(house, english, "/imagine a fox --seed 7").generation
    assert mine and theirs
    assert mine.language == "de" and theirs.manner.get("language") is None
    card = house.card(mine)
    assert "wartet (Platz 1, kein Worker)" in card.status and "Startwert 7" in card.details
    assert card.alt == "Bild zum Prompt: ein Fuchs"
    assert [one.label for one in card.buttons if one.action == "cancel"] == ["Abbrechen"]
    told = cards.as_json(card, mine, None)
    labels = [one["label"] for one in told["card"]["buttons"]]
    assert "Abbrechen" in labels and told["status"] == "queued"
    with speaking("ru"):
        assert "no worker is on line" in house.card(theirs).status, "whoever draws it"
        assert "Startwert 7" in house.card(mine).details and spoken() == "ru"
    over = press(house, "cancel", mine.id, Ask(german, "x", PLACE, {}))
    assert over.said == f"#{mine.id} ist abgebrochen.", "said later, when nobody speaks it"
    again = press(house, "reseed", mine.id, Ask(from_("en"), "y", PLACE, {})).generation
    assert again and again.language == "en", "of who asks now"
    gone = ask(house, german, f"/delete {mine.id}").generation
    assert gone and "vom Besteller gelöscht" in house.card(gone).status


def test_numbers_are_counted_as_the_language_counts(house: House, spoken_here: None) -> None:
    for number, steps in ((1, "1 шаг"), (3, "3 шага"), (25, "25 шагов"), (31, "31 шаг")):
        made = ask(house, from_("ru"), f"/imagine a fox --steps {number}").generation
        assert made and f" · {steps} · " in house.card(made).details


def test_many_of_one_request_keep_the_language(house: House, spoken_here: None) -> None:
    asked = ask(house, from_("de"), "/imagine {1, 2, 3, 4, 5, 6} foxes")
    press(house, "agree", asked.buttons[0].generation, Ask(from_("de"), "yes", PLACE, {}))
    made = house.generations.of(ANN, frozenset(State), 10)
    assert Counter(one.language for one in made) == {"de": 6}


def test_errors_and_trouble_are_told_in_the_askers_language(
    house: House, spoken_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"„langage“\? Etwa language\?"):
        ask(house, from_("de"), "/settings set langage de")
    faults = InvalidOptions([f"fault {n}" for n in range(12)])
    assert str(faults).endswith("… and 4 more.")
    with speaking("de"):
        assert str(InvalidOptions([f"{n}" for n in range(12)])).endswith("… und 4 weitere.")

    def away(*_: object) -> Any:
        raise OperationalError("SELECT", None, Exception("away"))

    monkeypatch.setattr(house.generations, "pending", away)
    with pytest.raises(UserError, match="Das ging gerade nicht"):
        ask(house, from_("de"), "/queue")
    assert spoken() == "en"


def test_a_command_can_be_typed_by_its_name_in_any_language(
    house: House, spoken_here: None
) -> None:
    assert from_text("/bild ein Fuchs --steps 3")[:2] == (
        "imagine", {"prompt": "ein Fuchs", "steps": "3"},
    )  # fmt: skip
    assert from_text("/Нарисуй@my_bot лису")[:2] == ("imagine", {"prompt": "лису"})
    assert from_text("/retry")[0] == "retry", "English names mean what they mean"
    assert commands.called("stand") is None, "a name of two commands means none"
    assert commands.names(BY_NAME["imagine"]) == {"de": "bild", "ru": "нарисуй"}
    assert commands.names(BY_NAME["cancel"]) == commands.names(BY_NAME["quota"]) == {}
    assert ask(house, from_("de"), "/schlange").text == ask(house, from_("de"), "/queue").text
    assert ask(house, from_("fr"), "/bild a fox").generation, "in whatever language one speaks"
    for language, wrong, meant in (
        ("de", "/schlang", "/schlange?"),
        ("ru", "/нарисй лису", "/нарисуй …?"),
        ("en", "/schlang", "/class …?"),
    ):
        with pytest.raises(UserError, match=re.escape(f"Did you mean {meant}")):
            ask(house, from_(language, "2"), wrong)
    told = ask(house, from_("de"), "/help bild").text
    assert told.startswith("/imagine prompt [--flags]\nEin Bild malen.\nAuch: ")
    assert "/bild" in told and "/нарисуй" not in told
    assert commands.completions("/bild oil", 5) == ["/bild oil painting"]
    made = ask(house, from_("de"), "/bild ein Fuchs").generation
    assert made
    edit = Ask(from_("de"), "edit", PLACE, {})
    commands.change(house, made.id, "/bild ein Hase", edit)
    assert house.generations.get(made.id).request.prompt == "ein Hase"


# Every catalog that is committed

_gathered: Callable[[], Catalog] = cache(template)


def texts(catalog_: Catalog) -> dict[tuple[str | None, str | tuple[str, ...]], Message]:
    return {
        (one.context, tuple(one.id) if isinstance(one.id, list | tuple) else one.id): one
        for one in catalog_
        if one.id
    }


def said(one: Message) -> tuple[str, ...]:
    return (one.string,) if isinstance(one.string, str) else tuple(one.string)


def asked(one: Message) -> tuple[str, ...]:
    return (one.id,) if isinstance(one.id, str) else tuple(one.id)


def values(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", OTHERS)
def test_nothing_is_missing(language: str) -> None:
    gathered, known = texts(_gathered()), texts(kept(language))
    other = sorted(map(str, gathered.keys() ^ known.keys()))
    assert not other, f"run `make languages`: {len(other)} texts differ, such as {other[:5]}"
    missing = [asked(one)[0] for one in known.values() if not translated(one.string) or one.fuzzy]
    assert not missing, f"{len(missing)} texts are not translated: {missing[:5]}"


@pytest.mark.parametrize("language", OTHERS)
def test_what_is_filled_in_and_typed_is_the_same(language: str) -> None:
    wrong = []
    known = kept(language)
    for one in texts(known).values():
        wanted = set[str]().union(*map(values, asked(one)))
        # “One more” may stand for “1 more” where that form is of 1 alone.
        alone = values(asked(one)[0]) if known.num_plurals == 2 else wanted
        # Commands and flags are typed in every language as they are.
        typed = set(re.findall(r"(?<![\w/}])/[a-z]+\b|--[a-z-]+", " ".join(asked(one))))
        for place, told in enumerate(said(one)):
            least = wanted if place else alone
            try:
                if told and not (
                    least <= values(told) <= wanted and all(word in told for word in typed)
                ):
                    wrong.append((asked(one)[0], told))
            except ValueError:
                wrong.append((asked(one)[0], told))
    assert not wrong, wrong[:5]


@pytest.mark.parametrize("language", OTHERS)
def test_what_gettext_reads_is_what_was_translated(language: str) -> None:
    assert po(language).with_suffix(".mo").read_bytes() == compiled(kept(language))


@pytest.mark.parametrize("language", OTHERS)
def test_names_of_commands_are_what_discord_takes_and_mean_one_thing(language: str) -> None:
    with speaking(language):
        called = {command.name: trc(commands.NAME, command.name) for command in COMMANDS}
    for command in COMMANDS:
        name = called[command.name]
        assert re.fullmatch(r"[\w-]{1,32}", name) and name == name.lower(), name
        assert unicodedata.is_normalized("NFC", name), name
        assert from_text(f"/{name}")[0] == command.name, f"{name} means something else, too"
    assert len(set(called.values())) == len(COMMANDS)
