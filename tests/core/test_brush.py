"""Links to paint on a picture: whom they are given to, and what they are worth elsewhere."""

from dataclasses import replace

import pytest

from core import brush, settings
from core.asking import Ask
from core.brush import PAINT, Brush, Expired
from core.commands import run
from core.database import Database
from core.errors import NotAllowed, NotFound, UserError
from core.house import House
from core.people import Asker
from tests.core.test_pictures import drawn

TINA = Asker("telegram", "7", "Tina", chat="telegram:chat:5", places=("telegram:chat:5",))


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DRAWQUEUE_PUBLIC_URL", "https://draw.example.org/")
    settings._read.cache_clear()
    return "https://draw.example.org"


def link(house: House, which: str, who: Asker = TINA) -> str:
    said = run(house, "paint", Ask(who, which, {"chat": 5}, {"id": which})).text
    return said.split("here: ")[1].split()[0]


def test_a_link_says_who_may_paint_on_what(house: House, public: str) -> None:
    old = drawn(house, who=TINA, count=2)
    told = link(house, f"{old.id}.2")
    assert told.startswith(f"{public}{PAINT}") and len(told) < 400
    ticket = house.brush.ticket(told.rsplit("/", 1)[1])
    assert (ticket.platform, ticket.account) == ("telegram", "7")
    assert (ticket.generation, ticket.index, ticket.moderator) == (old.id, 1, False)
    assert house.generations.visible(old.id, ticket.asker(old.chat))
    # Another process of the house reads it as well: they share the secret.
    other = Brush(Database(house.database.url))
    assert other.ticket(told.rsplit("/", 1)[1]) == ticket
    other.database.close()


def test_what_is_forged_or_old_opens_nothing(
    house: House, public: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = drawn(house, who=TINA)
    words, sign = link(house, str(old.id)).rsplit("/", 1)[1].split(".")
    forged = brush._coded(b'["telegram","7","",true,[],1,0,9999999999]')
    for odd in (
        "",
        ".",
        "a",
        "ä.ä",
        "\ud800.",
        f"{words}.",
        f"{forged}.{sign}",
        f"{words}x.{sign}",
    ):
        with pytest.raises(NotAllowed, match="not one of mine"):
            house.brush.ticket(odd)
    monkeypatch.setattr(brush, "LIVES_SECONDS", -1)
    late = link(house, str(old.id)).rsplit("/", 1)[1]
    with pytest.raises(Expired, match="older than a day"):
        house.brush.ticket(late)


def test_only_who_may_touch_a_picture_gets_a_link(house: House, public: str) -> None:
    old = drawn(house, who=TINA)
    with pytest.raises(NotAllowed, match="Only the person who asked"):
        link(house, str(old.id), replace(TINA, id="8"))
    keeper = replace(TINA, id="9", moderator=True)
    ticket = house.brush.ticket(link(house, str(old.id), keeper).rsplit("/", 1)[1])
    assert house.generations.visible(old.id, ticket.asker(old.chat))
    with pytest.raises(NotFound):
        house.generations.visible(drawn(house, "an owl").id, ticket.asker(old.chat))
    with pytest.raises(NotFound, match="there is no"):
        link(house, f"{old.id}.2")


def test_without_a_public_address_there_is_no_page(house: House) -> None:
    old = drawn(house, who=TINA)
    with pytest.raises(UserError, match="DRAWQUEUE_PUBLIC_URL"):
        link(house, str(old.id))
    ann = Asker("web", "ann", "Ann")
    web = drawn(house, who=ann)
    said = run(house, "paint", Ask(ann, "e", {}, {"id": str(web.id)})).text
    assert said == f"Paint on #{web.id} here: /paint/{web.id}.1"


def test_what_the_policy_knows_of_a_place_goes_along(
    house: House, public: str, rules: object
) -> None:
    assert callable(rules)
    rules('[access]\nallow = ["telegram:chat:5"]')
    old = drawn(house, who=TINA)
    asker = house.brush.ticket(link(house, str(old.id)).rsplit("/", 1)[1]).asker(old.chat)
    assert asker.places == ("telegram:chat:5",)
