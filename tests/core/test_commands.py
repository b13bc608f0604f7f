"""What is told to who types commands: mistyped, half typed, or asking how."""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core import policy, settings
from core.asking import Ask
from core.cards import status_line, waiting_line
from core.commands import BY_NAME, COMMANDS, MODERATORS, from_text, run, table
from core.errors import UserError
from core.house import House
from core.languages import LANGUAGES
from core.options import OPTIONS, validate
from core.people import Asker
from core.queue import Standing
from tests.core.test_policy import say, submit


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Words are the same on every database."""
    return f"sqlite:///{tmp_path / 'rows.sqlite3'}"


# The shortest of the chats' messages (Discord's).
ONE_MESSAGE = 2000


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/", "There is no “/”. Did you mean /imagine …?"),
        ("/ imagine cat", "no “/ imagine”. Did you mean /imagine …?"),
        ("//imagine cat", "no “//imagine”. Did you mean /imagine …?"),
        ("/imagine@ cat", "no “/imagine@”. Did you mean /imagine …?"),
        ("/imagine: cat", "Did you mean /imagine …?"),
        ("/ queue", "Did you mean /queue?"),
        ("/quote", "Did you mean /quota?"),
        ("/12", "/help"),
    ],
)
def test_a_line_with_a_slash_is_never_a_prompt(house: House, line: str, words: str) -> None:
    ann = Asker("web", "ann")
    with pytest.raises(UserError) as told:
        say(house, ann, line)
    assert words in str(told.value)
    assert house.generations.of(ann) == []


def test_what_is_typed_rightly_still_is_a_command_or_a_prompt() -> None:
    assert from_text("/Imagine@my_bot a cat")[:2] == ("imagine", {"prompt": "a cat"})
    assert from_text(" a cat / a dog ")[:2] == ("imagine", {"prompt": "a cat / a dog"})
    assert from_text("/queue")[0] == "queue"


def test_help_is_one_message_and_tells_moderators_of_theirs(house: House) -> None:
    told = say(house, Asker("web", "ann"), "/help")
    trusted = Asker("web", "ann", trusted=True)
    own, moderator = say(house, trusted, "/help"), say(house, trusted, "/help moderators")
    assert max(len(told), len(own), len(moderator)) < ONE_MESSAGE
    assert own.startswith(told) and "/help moderators" in own and "/help moderators" not in told
    with pytest.raises(UserError, match="There is no /moderators"):
        say(house, Asker("web", "ann"), "/help moderators")
    for command in COMMANDS:
        theirs = command.summary.startswith(MODERATORS)
        line = f"/{command.name}" if command.beside else f"/{command.name}: {command.summary}"
        assert (line in moderator.split("\n")) == theirs
        assert (line in re.split(r"\n|: (?=/)| (?=/)", told)) != theirs
    assert COMMANDS[0].typed in told and "/help imagine" in told


def test_an_option_of_one_name_has_the_same_choices_in_every_command() -> None:
    """Chats complete an option by its name."""
    known: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for option in {*OPTIONS, *(one for command in COMMANDS for one in command.takes)}:
        if option.choices:
            known[option.name].add(option.choices)
    assert {name: found for name, found in known.items() if len(found) > 1} == {}


def test_in_every_language_help_is_one_message(house: House) -> None:
    for language in LANGUAGES:
        for about in ("", "moderators", "flags"):
            asker = Asker("web", "ann", trusted=True, language=language)
            assert len(say(house, asker, f"/help {about}")) < ONE_MESSAGE


def test_help_tells_all_of_one_command(house: House) -> None:
    ann = Asker("web", "ann")
    for command in COMMANDS:
        for name in (command.name, f"/{command.name}", *command.aliases):
            told = say(house, ann, f"/help {name}")
            assert len(told) < ONE_MESSAGE and f"`{command.usage}`" in table()
            assert told.startswith(f"{command.usage}\n{command.summary}")
            assert command.typed in told or not command.example
            assert all(f"/{alias}" in told for alias in command.aliases)
            for option in command.takes:
                assert (f"--{option.flags[0]}" if option.flags else option.name) in told
    flags = say(house, ann, "/help --flags")
    assert len(flags) < ONE_MESSAGE
    for option in OPTIONS:
        for flag in option.flags:
            own = say(house, ann, f"/help --{flag}")
            assert (own.endswith(f": {option.help}") and f"--{flag}" in own) or flag in BY_NAME
        line = f"--{(option.flags or ('',))[0]}"
        assert not option.flags or (line if option.rare else f"{line}: {option.help}") in flags
    with pytest.raises(UserError, match=r"no /imagin\. Did you mean /help imagine\?"):
        say(house, ann, "/help imagin")


def test_each_example_can_be_typed() -> None:
    for command in COMMANDS:
        name, given, faults = from_text(command.typed)
        assert BY_NAME[name] is command and not faults
        assert not command.example or given
        needed = {one.name for one in command.takes if one.required}
        assert not command.example or needed <= given.keys()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/grant", "/grant needs who and choice, such as /grant discord:123 fast."),
        ("/priority", "/priority needs level, such as /priority high 12."),
        ("/imagine a fox --steps", "--steps needs a number, such as --steps 30."),
        ("/imagine a fox --no", "--no needs a word, such as --no people."),
        ("/imagine a fox --model", "--model needs a word: which model draws"),
        (
            "/imagine a fox --width 257",
            "“width” must be a multiple of 8, such as 256 or 264; got 257.",
        ),
    ],
)
def test_a_fault_is_a_sentence_with_an_example(house: House, line: str, words: str) -> None:
    with pytest.raises(UserError) as told:
        say(house, Asker("web", "ann", trusted=True), line)
    assert words in str(told.value)


def test_the_example_of_each_option_is_one() -> None:
    from core.options import OPTIONS

    for option in OPTIONS:
        if option.example:
            validate({"prompt": "a fox", option.name: option.example})


@pytest.mark.parametrize("asker", [
    Asker("web", "local"), Asker("discord", "123"), Asker("telegram", "9"),
])  # fmt: skip
def test_quota_tells_the_account_that_settings_and_policies_take(
    house: House, rules: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, asker: Asker
) -> None:
    account = next(
        word.strip(";") for word in say(house, asker, "/quota").split() if word.startswith(
            f"{asker.platform}:"
        )
    )  # fmt: skip
    other = Asker(asker.platform, f"{asker.id}1")
    long = account.replace(":", ":user:")
    for spelling in (account, long):
        monkeypatch.setenv("DRAWQUEUE_MODERATORS", f"discord:role:4, {spelling}")
        rules(f'[classes.fast]\nmembers = ["everyone"]\n[classes.own]\nmembers = ["{spelling}"]\n')
        assert house.known(asker).trusted and not house.known(other).trusted
        assert "own" in policy.policy().entitled(asker.names)
        assert "own" not in policy.policy().entitled(other.names)
        assert f"{account} is in class own now" in say(
            house, house.known(asker), f"/grant {spelling} own"
        )
    assert settings.named(account) == settings.named(long) == long


def test_quiet_promises_no_mention_where_nobody_is_mentioned(house: House) -> None:
    assert "Nobody is mentioned" in say(house, Asker("web", "ann"), "/quiet")
    assert not house.people.get("web", "ann").quiet
    assert "not mention you any more" in say(house, Asker("discord", "1"), "/quiet")


# Cards


def test_a_range_with_equal_ends_is_one_figure(house: House, ann: Asker) -> None:
    made = submit(house, ann, "e1")
    unsure = Standing(1, 0.5, 1, sure=False)
    assert status_line(made, unsure, 0.0) == "queued (place 1, about 1 s)"
    assert status_line(made, Standing(1, 15, 1, sure=False), 0.0).endswith("1, 8 s to 30 s)")


def test_one_is_told_as_one(house: House, ann: Asker) -> None:
    assert " · 1 step · " in house.card(submit(house, ann, "e1", steps=1)).details
    assert " · 2 steps · " in house.card(submit(house, ann, "e2", steps=2)).details


def test_a_share_is_told_only_where_others_wait(house: House, ann: Asker) -> None:
    made = submit(house, ann, "e1")
    alone = waiting_line(made, Standing(2, 15, 1, share=1.0))
    assert "Nobody else waits" in alone and "%" not in alone
    assert "50 %" in waiting_line(made, Standing(2, 15, 1, share=0.5))
    far = waiting_line(replace(made, line="kie"), Standing(2, 15, 50, share=1.0))
    assert "Place 2 at kie.ai. " in far and "50 at once" in far and "worker" not in far


def test_a_button_asks_like_a_command(house: House, ann: Asker) -> None:
    with pytest.raises(UserError, match="Did you mean /retry"):
        run(house, "retyr", Ask(ann, "e", {}, {}))
