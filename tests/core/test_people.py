"""Accounts that are one person: codes, quota, history and fairness."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from core.asking import Ask
from core.commands import run
from core.database import links, now
from core.errors import NotAllowed, NotFound, TooMuch, UserError
from core.house import House
from core.lifecycle import State
from core.people import MOST_GUESSES, Asker
from tests.core.test_policy import say, spent, submit

DISCORD, TELEGRAM = Asker("discord", "1", "Ann"), Asker("telegram", "2", "Ann")


def code(house: House, asker: Asker) -> str:
    found = re.search(r"/link (\S+)", say(house, asker, "/link"))
    assert found
    return found[1]


def test_linked_accounts_are_one_person(house: House, rules: Callable[[str], None]) -> None:
    rules("[classes.fast]\nmembers=['everyone']\nqueued=3\n[classes.slow]\nweight=0.5\n"
          "members=['everyone']\n")  # fmt: skip
    there, here = submit(house, DISCORD, "d1"), submit(house, TELEGRAM, "t1")
    say(house, DISCORD, "/class slow")
    written = code(house, DISCORD)
    asked = say(house, TELEGRAM, f"/link {written}")
    assert "code of discord:1" in asked and "they would see your pictures" in asked
    assert "Linked with discord:1" in say(
        house, TELEGRAM, f"/link {written.lower().replace('-', '')} yes"
    )
    mine = [one.id for one in house.generations.of(TELEGRAM, [State.QUEUED])]
    assert mine == [here.id, there.id] == [x.id for x in house.generations.of(DISCORD)], "history"
    assert submit(house, TELEGRAM, "t2").class_name == "slow", "the class"
    say(house, DISCORD, "/class fast")
    with pytest.raises(TooMuch, match="3 of at most 3"):
        submit(house, DISCORD, "d2")
    assert spent(house, "discord:1") == 45, "quota: what both had used counts"
    user = house.generations.get(house.generations.of(TELEGRAM)[0].id).user
    assert user == "discord:1", "fairness"
    assert run(house, "cancel", Ask(TELEGRAM, "c", {}, {"id": there.id})).generation


def test_unlinked_each_has_what_they_asked_for(house: House) -> None:
    there, here = submit(house, DISCORD, "d1"), submit(house, TELEGRAM, "t1")
    say(house, TELEGRAM, f"/link {code(house, DISCORD)} yes")
    assert "by itself again" in say(house, TELEGRAM, "/unlink")
    assert [one.id for one in house.generations.of(TELEGRAM)] == [here.id]
    assert [one.id for one in house.generations.of(DISCORD)] == [there.id]
    with pytest.raises(NotFound):
        house.generations.visible(there.id, TELEGRAM)
    assert spent(house, "telegram:2") == 30, "no second quota by unlinking"
    with pytest.raises(UserError, match="linked to no other"):
        say(house, TELEGRAM, "/unlink")


def test_the_first_account_may_leave_as_well(house: House) -> None:
    say(house, TELEGRAM, f"/link {code(house, DISCORD)} yes")
    made = submit(house, TELEGRAM, "t1")
    say(house, DISCORD, "/unlink")
    assert house.generations.of(DISCORD) == []
    assert [one.id for one in house.generations.of(TELEGRAM)] == [made.id]


def test_a_code_works_once_and_for_ten_minutes(house: House) -> None:
    written = code(house, DISCORD)
    with house.database.read() as connection:
        kept = connection.execute(select(links.c.code)).scalars().all()
    assert written.replace("-", "") not in str(kept), "only its hash is kept"
    say(house, TELEGRAM, f"/link {written} yes")
    with pytest.raises(UserError, match="wrong, was used"):
        say(house, Asker("web", "3"), f"/link {written} yes")
    late = code(house, DISCORD)
    with house.database.write() as connection:
        connection.execute(update(links).values(until=now() - timedelta(seconds=1)))
    with pytest.raises(UserError, match="older than ten minutes"):
        say(house, Asker("web", "4"), f"/link {late} yes")
    first, second = code(house, DISCORD), code(house, DISCORD)
    with pytest.raises(UserError):
        say(house, Asker("web", "5"), f"/link {first} yes")
    say(house, Asker("web", "5"), f"/link {second} yes")


def test_guessing_ends_soon(house: House) -> None:
    written = code(house, DISCORD)
    for _ in range(MOST_GUESSES):
        with pytest.raises(UserError, match="wrong"):
            say(house, TELEGRAM, "/link AAAA-AAAA")
    with pytest.raises(TooMuch, match="Too many wrong codes") as told:
        say(house, TELEGRAM, f"/link {written} yes")
    assert told.value.wait
    assert "Linked" in say(house, Asker("web", "3"), f"/link {written} yes"), "others may still"


def test_odd_links_are_told(house: House) -> None:
    for sure in ("", " yes"):
        with pytest.raises(UserError, match="code of this account"):
            say(house, DISCORD, f"/link {code(house, DISCORD)}{sure}")
    say(house, TELEGRAM, f"/link {code(house, DISCORD)} yes")
    with pytest.raises(UserError, match="/unlink it first"):
        say(house, TELEGRAM, f"/link {code(house, Asker('web', '9'))} yes")
    with pytest.raises(UserError, match="one person already"):
        say(house, DISCORD, f"/link {code(house, TELEGRAM)} yes")
    with pytest.raises(NotAllowed):
        house.generations.cancel(submit(house, DISCORD, "d").id, Asker("web", "9"))


def test_linking_again_counts_nothing_twice(house: House) -> None:
    submit(house, DISCORD, "d1"), submit(house, TELEGRAM, "t1")
    for _ in range(3):
        say(house, TELEGRAM, f"/link {code(house, DISCORD)} yes")
        assert spent(house, "discord:1") == 30
        say(house, TELEGRAM, "/unlink")
        assert spent(house, "telegram:2") == 30
    submit(house, TELEGRAM, "t2")
    say(house, TELEGRAM, f"/link {code(house, DISCORD)} yes")
    assert spent(house, "discord:1") == 45


def test_two_codes_entered_at_once_do_not_swap_anybody(house: House) -> None:
    codes = code(house, DISCORD), code(house, TELEGRAM)
    with ThreadPoolExecutor(2) as pool:
        tried = [pool.submit(house.people.link, DISCORD, codes[1]),
                 pool.submit(house.people.link, TELEGRAM, codes[0])]  # fmt: skip
        told = [one.exception() for one in tried]
    assert sum(one is None for one in told) == 1
    people = {house.people.get(one.platform, one.id).id for one in (DISCORD, TELEGRAM)}
    assert len(people) == 1, "one person, whoever was first"


def test_quiet_twice_at_once_is_no_fault(house: House) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: house.people.turn_quiet(DISCORD), range(4)))
