"""Names and passwords of the web chat, the browsers that are signed in, and who guesses."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from redis import Redis
from sqlalchemy import select, update

from core import settings
from core.accounts import (
    IDLE,
    LIVES,
    MOST_BROWSERS,
    PER_ADDRESS,
    PER_NAME,
    Accounts,
    Session,
    Wrong,
)
from core.database import accounts as table
from core.database import now, sessions
from core.errors import NotAllowed, NotFound, TooMuch, TryAgain, UserError
from core.house import House
from core.people import Asker
from tests.core.test_people import code
from tests.core.test_pictures import drawn
from tests.core.test_policy import say, spent, submit

GOOD, BETTER = "a heron at dawn", "two herons at dusk"
HOME, AWAY = "192.0.2.1", "2001:db8::1"
NELLY, WEB = Asker("discord", "80"), Asker("web", "discord-80")


class Counting(PasswordHasher):
    """Argon2 at its cheapest, which counts how often a password is looked at."""

    def __init__(self, time_cost: int = 1) -> None:
        super().__init__(time_cost=time_cost, memory_cost=8, parallelism=1)
        object.__setattr__(self, "looked", 0)

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
        object.__setattr__(self, "looked", self.looked + 1)  # type: ignore[attr-defined]
        return super().verify(hash, password)


@pytest.fixture
def kept(house: House) -> Accounts:
    return Accounts(house.database, house.queue.redis, house.people, Counting())


def signed(kept: Accounts, account: str, name: str = "Ann", browser: str = "Firefox") -> Session:
    found = kept.known(kept.begin(account, name, browser))
    assert found
    return found


def test_a_name_and_a_password_are_one_account(kept: Accounts) -> None:
    account, shown = kept.make(" Ann.B ", GOOD, HOME)
    assert account.startswith("web:") and shown == "Ann.B"
    assert kept.enter("ann.b", GOOD, HOME) == kept.enter("ＡＮＮ.B ", GOOD, HOME)
    assert kept.enter("ann.b", GOOD, HOME) == (account, "Ann.B")
    with pytest.raises(UserError, match=r"^That name is taken\. Choose another one\.$"):
        kept.make("aNN.b", BETTER, HOME)
    with kept.database.read() as connection:
        row = connection.execute(select(table)).one()
    assert row.password.startswith("$argon2id$") and GOOD not in str(row)
    session = signed(kept, account)
    assert (session.user, session.local) == (account.removeprefix("web:"), True)


def test_of_two_who_make_the_same_name_at_once_one_has_it(kept: Accounts) -> None:
    def make(number: int) -> str:
        try:
            return kept.make("ann", f"{GOOD} {number}", HOME)[0]
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        told = sorted(pool.map(make, range(4)))
    assert told[:3] == ["That name is taken. Choose another one."] * 3 and told[3][:4] == "web:"


def test_a_name_or_a_password_that_cannot_be_is_told_in_words(kept: Accounts) -> None:
    for name in (
        "",
        "an",
        "x" * 33,
        "x" * 200,
        "x" * 5000,
        "🦊🦊🦊",
        "a b c",
        "-ann",
        "a\0nn",
        "<b>",
    ):
        with pytest.raises(UserError, match=r"^A name has 3 to 32 letters and digits; dots and"):
            kept.make(name, GOOD, HOME)
    for password, words in (
        ("", "at least 8 characters"),
        ("7 signs", "at least 8 characters"),
        ("Password1", "guessed at once"),
        ("aaaaaaaaaa", "guessed at once"),
        ("heidi2024", "guessed at once"),
        ("x1y" * 400, "at most 1000 characters"),
    ):
        with pytest.raises(UserError, match=words) as told:
            kept.make("Heidi2", password, HOME)
        assert not password or password not in str(told.value)
    # Whatever one can type is one.
    kept.make("Heidi2", "ünïcödé 🦊 \ud800 fox", HOME)
    assert kept.enter("Heidi2", "ünïcödé 🦊 \ud800 fox", HOME)


def test_a_wrong_name_is_no_other_answer_than_a_wrong_password(kept: Accounts) -> None:
    kept.make("ann", GOOD, HOME)
    kept.enter("ann", GOOD, HOME)
    for name, password in (("ann", BETTER), ("bob", GOOD), ("x" * 5000, "y" * 5000), ("", "")):
        before = kept.hasher.looked  # type: ignore[attr-defined]
        with pytest.raises(Wrong, match=r"^That name and password do not go together\.$"):
            kept.enter(name, password, HOME)
        assert kept.hasher.looked == before + 1, "and it takes as long"  # type: ignore[attr-defined]


def test_guessing_ends_for_a_name_and_for_an_address(kept: Accounts) -> None:
    kept.make("ann", GOOD, HOME)
    kept.make("bob", GOOD, HOME)

    def guess(number: int) -> str:
        try:
            return str(kept.enter("ann", f"{GOOD} {number}", f"198.51.100.{number}"))
        except UserError as error:
            return str(error)

    # Many at once are no more than one after another.
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(guess, range(PER_NAME + 6)))
    assert sum("do not go together" in one for one in told) == PER_NAME
    assert sum("Too many wrong passwords. Try again in 15 min." in one for one in told) == 6
    with pytest.raises(TooMuch) as much:
        kept.enter("ANN", GOOD, HOME)
    assert much.value.wait and 0 < much.value.wait <= 900
    assert kept.enter("bob", GOOD, HOME)
    for number in range(PER_ADDRESS):
        with pytest.raises(Wrong):
            # Of IPv6 each has many addresses.
            kept.enter(f"nobody{number}", GOOD, f"2001:db8::{number:x}")
    with pytest.raises(TooMuch):
        kept.enter("bob", GOOD, AWAY)
    assert kept.enter("bob", GOOD, "2001:db8:1::1")
    for _ in range(PER_ADDRESS + 5):
        assert kept.enter("bob", GOOD, HOME), "whoever knows it is no guesser"


def test_nobody_guesses_while_nobody_counts(kept: Accounts) -> None:
    kept.make("ann", GOOD, HOME)
    kept.redis = Redis.from_url("unix:///nowhere/at/all")
    with pytest.raises(TryAgain, match="Nobody can sign in just now"):
        kept.enter("ann", GOOD, HOME)


def test_accounts_from_one_address_end_for_a_day(kept: Accounts) -> None:
    for number in range(10):
        kept.make(f"ann{number}", GOOD, HOME)
    with pytest.raises(TooMuch, match="Many accounts were made from your network today"):
        kept.make("ann10", GOOD, HOME)
    assert kept.make("ann10", GOOD, AWAY)


def test_a_password_is_hashed_anew_when_the_cost_is_another(kept: Accounts) -> None:
    kept.make("ann", GOOD, HOME)

    def stored() -> str:
        with kept.database.read() as connection:
            return str(connection.execute(select(table.c.password)).scalar_one())

    before = stored()
    kept.enter("ann", GOOD, HOME)
    assert stored() == before
    kept.hasher = Counting(2)
    kept.enter("ann", GOOD, HOME)
    assert "t=2" in stored() and kept.enter("ann", GOOD, HOME)
    assert PasswordHasher().memory_cost >= 64 * 1024, "the library's own, where nothing is said"


def test_a_browser_is_signed_in_until_it_is_not(kept: Accounts) -> None:
    account, _ = kept.make("ann", GOOD, HOME)
    token, other = kept.begin(account, "ann", "Firefox"), kept.begin(account, "ann", "Chrome")
    assert token != other
    session = kept.known(token)
    assert session and kept.lasts(session)
    with kept.database.read() as connection:
        assert token not in str(connection.execute(select(sessions)).all())
    for wrong in ("", token[:-1], token + "x", token.swapcase(), "x" * 5000, "\ud800"):
        assert kept.known(wrong) is None
    assert [one.browser for one in kept.browsers(session)] == ["Chrome", "Firefox"]
    stranger = signed(kept, kept.make("bob", GOOD, HOME)[0])
    with pytest.raises(NotFound, match="not signed in any more"):
        kept.end(stranger.account, session.id)
    kept.end(account, session.id)
    assert kept.known(token) is None and not kept.lasts(session)
    assert kept.known(other) and kept.leave(account) == 1 and kept.known(other) is None
    assert kept.lasts(stranger)


def test_a_browser_that_is_not_seen_or_is_old_is_signed_out(kept: Accounts) -> None:
    def aged(**values: timedelta) -> bool:
        token = kept.begin("web:ann", "ann", "")
        one = kept.known(token)
        assert one
        moved = {name: now() - age for name, age in values.items()}
        with kept.database.write() as connection:
            connection.execute(update(sessions).where(sessions.c.id == one.id).values(moved))
        return kept.known(token) is not None and kept.lasts(one)

    day = timedelta(days=1)
    assert aged(used=IDLE - day) and not aged(used=IDLE + day)
    assert aged(made=LIVES - day) and not aged(made=LIVES + day)
    with kept.database.read() as connection:
        used = connection.execute(select(sessions.c.used).order_by(sessions.c.id)).scalars().first()
    assert used and now() - used < day, "being seen is noted"
    kept.begin("web:bob", "bob", "")
    with kept.database.read() as connection:
        assert len(connection.execute(select(sessions)).all()) == 3, "what is over is forgotten"


def test_of_many_browsers_the_first_make_room(kept: Accounts) -> None:
    tokens = [kept.begin("web:ann", "ann", "") for _ in range(MOST_BROWSERS + 2)]
    assert [bool(kept.known(one)) for one in tokens[:3]] == [False, False, True]
    assert kept.known(tokens[-1])


def test_another_password_signs_every_other_browser_out(kept: Accounts) -> None:
    account, _ = kept.make("ann", GOOD, HOME)
    here, there = signed(kept, account), signed(kept, account)
    with pytest.raises(Wrong, match="not your password of now"):
        kept.change(here, BETTER, BETTER, HOME)
    with pytest.raises(UserError, match="guessed at once"):
        kept.change(here, GOOD, "password", HOME)
    assert kept.lasts(there)
    kept.change(here, GOOD, BETTER, HOME)
    assert kept.lasts(here) and not kept.lasts(there)
    assert kept.enter("ann", BETTER, HOME)
    with pytest.raises(Wrong):
        kept.enter("ann", GOOD, HOME)
    for _ in range(PER_NAME - 1):
        with pytest.raises(Wrong):
            kept.change(here, GOOD, "another one at noon", HOME)
    with pytest.raises(TooMuch):
        kept.change(here, BETTER, "another one at noon", HOME)
    guest = signed(kept, "discord:80")
    with pytest.raises(NotFound, match="no password here"):
        kept.change(guest, "", BETTER, HOME)


# Whoever signs in as who they are elsewhere


def test_who_signed_in_from_discord_is_who_they_are_there(house: House, kept: Accounts) -> None:
    there = submit(house, NELLY, "d1")
    stranger = submit(house, Asker("discord", "8"), "d2")
    session = signed(kept, "discord:80")
    assert (session.user, session.local) == ("discord-80", False)
    here = submit(house, WEB, "w1")
    assert here.user == there.user == "discord:80" and here.platform == "web"
    assert {one.id for one in house.generations.of(WEB)} == {here.id, there.id}
    assert spent(house, "discord:80") == 30
    with pytest.raises(NotFound):
        house.generations.visible(stranger.id, WEB)
    say(house, WEB, "/settings set count 2")
    assert house.tastes.values(NELLY)["count"].value == "2"


def test_who_signed_in_links_and_unlinks_as_who_they_are(house: House, kept: Accounts) -> None:
    signed(kept, "discord:80")
    telegram = Asker("telegram", "2")
    mine, theirs = submit(house, WEB, "w1"), submit(house, telegram, "t1")
    secret = say(house, WEB, "/key new").split()[0]
    assert [one.name for one in house.keys.of(NELLY)] == ["a program"], "a key is the person's"
    assert "Linked with telegram:2" in say(house, WEB, f"/link {code(house, telegram)} yes")
    assert house.people.get("discord", "80").id == "telegram:2"
    assert {one.id for one in house.generations.of(telegram)} == {mine.id, theirs.id}
    assert house.generations.visible(theirs.id, WEB)
    assert "by itself again" in say(house, WEB, "/unlink")
    assert [one.id for one in house.generations.of(NELLY)] == [mine.id]
    assert [one.id for one in house.generations.of(telegram)] == [theirs.id]
    with pytest.raises(NotFound):
        house.generations.visible(theirs.id, WEB)
    key = house.keys.enter(secret)
    assert key and submit(house, Asker("web", key.user), "k1").user == "discord:80"
    # Who has signed in here may be linked from the other side as before.
    say(house, telegram, f"/link {code(house, WEB)} yes")
    assert house.generations.visible(theirs.id, WEB).user == "discord:80"


def test_a_moderator_elsewhere_is_none_here_but_where_the_host_says_so(
    house: House, kept: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed(kept, "discord:80")
    for listed, trusted in (("discord:80", False), ("discord:80, web:discord-80", True)):
        monkeypatch.setenv("DRAWQUEUE_MODERATORS", listed)
        settings._read.cache_clear()
        assert house.known(NELLY).trusted and house.known(WEB).trusted is trusted


def test_what_the_policy_says_of_a_discord_user_it_says_here(
    house: House, kept: Accounts, rules: Callable[[str], None]
) -> None:
    rules("[classes.fast]\nmembers=['discord:user:80']\n[classes.slow]\nmembers=['everyone']\n")
    signed(kept, "discord:80")
    assert submit(house, WEB, "w1").class_name == "fast"
    assert submit(house, Asker("web", "discord-8"), "w2").class_name == "slow"
    rules("[access]\nblock=['discord:user:80']\n")
    with pytest.raises(NotAllowed):
        submit(house, WEB, "w3")


def test_what_a_browser_made_is_taken_along_once(house: House, kept: Accounts) -> None:
    browser = Asker("web", "0123456789abcdef")
    picture = drawn(house, who=browser)
    queued = submit(house, browser, "q")
    say(house, browser, "/settings set count 2")
    say(house, browser, f"/preset save mine {picture.id}")
    say(house, browser, "/key new")
    signed(kept, "discord:80")
    used = spent(house, browser.account)
    assert house.people.hand_over(browser, WEB) == 2
    assert {one.id for one in house.generations.of(NELLY)} == {picture.id, queued.id}
    assert house.generations.of(browser) == []
    assert house.generations.get(queued.id).user == NELLY.account
    assert spent(house, NELLY.account) == used > 0
    assert house.tastes.values(NELLY)["count"].value == "2"
    assert "mine" in say(house, WEB, "/preset")
    assert [one.name for one in house.keys.of(NELLY)] == ["a program"]
    assert house.people.hand_over(browser, WEB) == 0
    linked = replace(browser, id="fedcba9876543210")
    say(house, linked, f"/link {code(house, Asker('telegram', '2'))} yes")
    with pytest.raises(UserError, match="another account's already"):
        house.people.hand_over(linked, WEB)
