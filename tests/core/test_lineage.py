"""Families: whatever is made of a picture knows its parent, and strangers stay strange."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from core.asking import Ask
from core.commands import press
from core.database import now
from core.errors import NotFound
from core.house import House
from core.lineage import SHOWN, STRANGE, Family, family
from core.media import Source
from core.people import Asker
from core.policy import ALONE
from core.rows import Generation
from tests.core.test_history import change
from tests.core.test_history import drawn as finished
from tests.core.test_pictures import ANN, BOB, drawn, made, png, say

MODERATOR = replace(BOB, trusted=True)


def seen(house: House, number: int, asker: Asker = ANN) -> Family:
    return family(house, house.generations.visible(number, asker), asker, ALONE)


def labels(found: Family) -> list[str]:
    return [one.label for one in found.members]


def child(house: House, parent: int, asker: Asker = ANN) -> int:
    """One drawn again, of whoever asked for the first."""
    old = house.generations.get(parent)
    return house.generations.submit(old.request, asker, f"{now()}", {}, parent).id


def test_every_way_to_make_one_of_another_keeps_its_parent(house: House) -> None:
    one, several = drawn(house, "a fox"), drawn(house, "owls", count=2)

    def born(line: str, *pictures: Source) -> int | None:
        return made(say(house, line, *pictures, event=f"{line} {now()}")).parent

    def pressed(action: str, of: Generation) -> int | None:
        reply = press(house, action, of.id, Ask(ANN, f"{action} {now()}", {}, {}))
        return reply.generation and reply.generation.parent

    for line in (
        "/retry 1", "/vary 1", "/vary 1 strong", "/upscale 1 4", "/remix a hen --from 1",
        "/imagine a hen --from 1", "/inpaint a sea --from 1 --zoom 1.5", "/blend --from 1 2.2",
    ):  # fmt: skip
        assert born(line) == one.id, line
    for action in ("retry", "reseed", "subtle", "strong", "up2", "up4"):
        assert pressed(action, one) == one.id, action
    for action in ("u2", "v1"):
        assert pressed(action, several) == several.id, action
    # What was brought has no parent; beside it counts the first that was drawn here.
    brought = house.uploads.keep(png())
    assert born("/remix a hen", brought) is None
    assert born("/blend --from sent:1 2.1", brought) == several.id


def test_a_family_is_told_from_any_of_it(house: House) -> None:
    first = finished(house, "a fox", ANN)
    second = child(house, first.id)
    finished(house, "another", ANN)
    fourth, fifth = child(house, second), child(house, first.id)
    for asked in (first.id, second, fourth, fifth):
        found = seen(house, asked)
        assert labels(found) == ["#1", "#2", "#4", "#5"] and found.asked == asked
        assert found.levels == {1: 0, 2: 1, 4: 2, 5: 1}
    assert seen(house, 4).lines() == [
        "#1 text, done: a fox", "· #2 text, queued: a fox", "· · #4 text, queued: a fox ◀",
        "· #5 text, queued: a fox",
    ]  # fmt: skip
    told = say(house, "/tree 4").text
    assert told.startswith("The family of #4:\n#1 text") and "◀" in told
    assert "#3 has no family yet" in say(house, "/tree 3").text


def test_of_anothers_nothing_is_told_but_that_it_is_there(house: House) -> None:
    finished(house, "Ann's", ANN)
    strange = child(house, 1, MODERATOR)
    below = child(house, strange, MODERATOR)
    mine = child(house, child(house, strange, MODERATOR))
    change(house, strange, request={**vars(house.generations.get(1).request), "prompt": "secret"})
    found = seen(house, 1)
    assert labels(found) == ["#1", STRANGE, STRANGE, f"#{mine}"]
    assert [one.id for one in found.members] == [1, strange, mine - 1, mine]
    assert below not in found.levels, "what came of another's is theirs"
    assert "secret" not in "\n".join(found.lines()) and f"#{strange}" not in str(found.lines())
    assert all(one.row is None and not one.key for one in found.members[1:3])
    for number in (strange, below):
        with pytest.raises(NotFound, match="of yours"):
            say(house, f"/tree {number}")
    assert STRANGE not in labels(seen(house, strange, MODERATOR))


def test_pictures_are_shown_as_they_may_be(house: House, rules: Callable[[str], None]) -> None:
    one = finished(house, "a fox", ANN, mark="nsfw")
    two = finished(house, "a hen", ANN, parent=one.id)
    child(house, two.id)
    assert [bool(member.key) for member in seen(house, 1).members] == [False, True, False]
    house.generations.delete(two.id, ANN)
    found = seen(house, 1)
    assert labels(found) == ["#1", "#2 deleted", "#3"] and not any(m.key for m in found.members)
    assert found.lines()[1] == "· #2 deleted"
    rules('[classes.fast]\nmembers=["everyone"]\n[marked]\nalone="plain"')
    assert [bool(member.key) for member in seen(house, 1).members] == [True, False, False]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_large_family_is_told_in_part_around_the_one_that_is_meant(house: House) -> None:
    finished(house, "a fox", ANN)
    for _ in range(SHOWN):
        child(house, 1)
    last = 1
    for _ in range(SHOWN):
        last = child(house, last)
    found = seen(house, last)
    assert len(found.members) == SHOWN // 2 and found.members[-1].id == last
    assert found.more == 2 * SHOWN + 1 - SHOWN // 2
    assert found.lines()[-1] == f"… and {found.more} more."
    around = seen(house, 1)
    assert len(around.members) == SHOWN and around.members[0].id == 1
    assert all(one.parent in (None, 1) for one in around.members), "the nearest first"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_one_whose_parent_was_forgotten_is_the_first_of_its_family(house: House) -> None:
    one = finished(house, "a fox", ANN, parent=None)
    change(house, one.id, parent=999)
    child(house, one.id)
    assert labels(seen(house, 2)) == ["#1", "#2"]
