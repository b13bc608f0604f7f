"""Keys for programs: whose they are, what they may, and when they end."""

import re
from dataclasses import replace

import pytest
from sqlalchemy import select

from core import settings
from core.asking import Ask
from core.commands import run
from core.database import keys as table
from core.errors import NotFound, TooMuch, UserError
from core.house import House
from core.people import Asker
from tests.core.test_people import code
from tests.core.test_policy import say, submit

ANN, BOB = Asker("discord", "1", "Ann"), Asker("telegram", "2", "Bob")


def made(house: House, asker: Asker, line: str = "/key new") -> str:
    found = re.match(r"(dq_\S{30,})\n", say(house, asker, line))
    assert found
    return found[1]


def program(house: House, secret: str) -> Asker:
    """Who asks with a key."""
    key = house.keys.enter(secret)
    assert key
    return Asker("web", key.user)


def test_a_key_is_its_owners_and_kept_as_a_hash(house: House) -> None:
    secret = made(house, ANN, "/key new my script")
    with house.database.read() as connection:
        assert secret not in str(connection.execute(select(table)).all())
    mine = submit(house, ANN, "d1")
    theirs = submit(house, BOB, "t1")
    by_key = submit(house, program(house, secret), "k1")
    assert by_key.user == mine.user == "discord:1", "one quota, one place in line"
    assert [one.id for one in house.generations.of(ANN)] == [by_key.id, mine.id]
    assert [one.id for one in house.generations.of(program(house, secret))] == [by_key.id, mine.id]
    with pytest.raises(NotFound):
        house.generations.visible(theirs.id, program(house, secret))
    listed = say(house, ANN, "/key list")
    assert listed.startswith("1. my script: may ask for pictures and look at yours; last used 20")
    assert say(house, BOB, "/key") == "You have no keys. /key new NAME makes one."
    for line in ("/key revoke 1", "/key revoke 9"):
        with pytest.raises(NotFound, match="of yours"):
            say(house, BOB, line)
    assert say(house, ANN, "/key revoke 1") == "Key 1 (my script) works no more."
    assert house.keys.enter(secret) is None and house.keys.of(ANN) == []
    assert house.keys.enter(secret[:-1]) is house.keys.enter("") is None


def test_a_key_follows_its_owner_and_keeps_nobody_from_linking(house: House) -> None:
    secret = made(house, ANN)
    before = submit(house, program(house, secret), "k1")
    assert before.user == "discord:1"
    with pytest.raises(UserError, match="linked to no other"):
        say(house, ANN, "/unlink")
    say(house, ANN, f"/link {code(house, BOB)} yes")
    asker = program(house, secret)
    assert submit(house, asker, "k2").user == "telegram:2"
    assert before.id in [one.id for one in house.generations.of(BOB)]
    assert [one.name for one in house.keys.of(BOB)] == ["a program"], "either account takes it back"
    assert "by itself" in say(house, ANN, "/unlink")
    assert submit(house, program(house, secret), "k3").user == "discord:1"
    assert house.keys.of(BOB) == []


def test_a_key_moderates_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWQUEUE_MODERATORS", "discord:1")
    settings._read.cache_clear()
    assert house.known(ANN).trusted
    asker = house.known(program(house, made(house, ANN)))
    assert not asker.trusted
    with pytest.raises(UserError, match="Only a moderator"):
        say(house, asker, "/grant discord:5 fast")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/key new " + "x" * 200, "at most 32 letters"),
        ("/key new 🦊", "at most 32 letters"),
        ("/key revoke", "by its number"),
        ("/key revoke mine", "by its number"),
        ("/key revoke 99999999999999", "by its number"),
        ("/key burn 1", "“task” must be one of new, list, revoke; got burn."),
    ],
)
def test_what_cannot_be_is_told_in_words(house: House, line: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        say(house, ANN, line)
    assert house.keys.of(ANN) == []


def test_nobody_has_many(house: House) -> None:
    for number in range(10):
        made(house, ANN, f"/key new read {number}")
    assert {one.scope for one in house.keys.of(ANN)} == {"read"}
    with pytest.raises(UserError, match="You have 10 keys"):
        say(house, ANN, "/key new")
    say(house, ANN, "/key revoke #3")
    made(house, ANN)


def test_so_many_requests_a_minute(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWQUEUE_KEY_RATE", "3")
    settings._read.cache_clear()
    one, other = (house.keys.enter(made(house, who)) for who in (ANN, BOB))
    assert one and other
    monkeypatch.setattr("core.keys.time.time", lambda: 6_000_020.0)
    for _ in range(3):
        house.keys.count(one)
    with pytest.raises(TooMuch, match="3 times a minute") as told:
        house.keys.count(one)
    assert told.value.wait == 40
    house.keys.count(other)
    monkeypatch.setattr("core.keys.time.time", lambda: 6_000_061.0)
    house.keys.count(one)


def test_a_chat_reads_no_key_aloud(house: House) -> None:
    reply = run(house, "key", Ask(replace(ANN, chat="discord:channel:5"), "e", {}, {"task": "new"}))
    assert reply.text.startswith("dq_") and reply.generation is None
