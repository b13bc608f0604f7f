"""Reported: told to the moderators once, decided by those of the chat alone, gone for good."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from core import settings
from core.asking import Ask
from core.cards import card_for
from core.commands import press, run
from core.database import notices, reports
from core.errors import NotAllowed, NotFound, TooMuch, UserError
from core.house import House
from core.lifecycle import State
from core.options import validate
from core.people import Asker
from core.policy import Show
from core.reports import MOST_AN_HOUR, REASON, Notice
from core.rows import TAKEN_DOWN, Generation
from tests.core.test_people import code
from tests.core.test_policy import say

GUILD = ("discord:guild:3",)
ANN = Asker("discord", "1", "Ann", chat="discord:channel:5", places=GUILD)
BOB = Asker("discord", "2", "Bob", chat="discord:channel:5", places=GUILD)
# One who moderates their guild, one of another, and one whom the host lists.
MAY = Asker("discord", "3", "May", chat="discord:channel:6", places=GUILD, moderator=True)
TOM = replace(MAY, id="4", name="Tom", chat="discord:channel:7", places=("discord:guild:4",))
HOST = Asker("web", "host", "Host", trusted=True)
HERE = {"channel": "5", "guild": "3"}
ROOM = "discord:channel:99"


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the moderators read."""
    monkeypatch.setenv("DRAWQUEUE_REPORTS", f"{ROOM}, telegram:chat:-8")
    settings._read.cache_clear()


def asked(
    house: House, prompt: str, asker: Asker = ANN, address: Any = None, event: str = ""
) -> Generation:
    return house.generations.submit(
        validate({"prompt": prompt, "seed": 1}), asker, event or prompt, address or HERE
    )


def drawn(house: House, prompt: str, asker: Asker = ANN) -> Generation:
    return finished(house, asked(house, prompt, asker))


def finished(house: House, made: Generation, revision: str = "") -> Generation:
    claimed = house.generations.claim(made.id)
    assert claimed
    key = house.media.save(made.id, "1.png", b"png")
    picture = {"key": key, "seed": 1, "width": 8, "height": 8}
    done = house.generations.finish(claimed, [picture], 2.0, revision)
    assert done
    # The worker that drew it has said its last word long since.
    house.queue.redis.delete(f"drawqueue:alive:{made.job}")
    return done


def said(
    house: House, asker: Asker, command: str, id: Any = "", reason: str = "",
    seen: int | None = None,
) -> str:  # fmt: skip
    given = {"id": str(id), "reason": reason}
    return run(house, command, Ask(asker, "e", {}, given, seen=seen)).text


def stale(house: House) -> list[Notice]:
    return house.reports.stale(["discord", "telegram"])


def show(house: House) -> None:
    """Show moderators all there is to tell, as a poster does."""
    for one in stale(house):
        assert house.reports.lease(one, "p") and not house.reports.lease(one, "q")
        house.reports.shown(
            one, "p", shown_version=one.version, message=one.message or "m", shown_media=1
        )


def test_a_report_is_told_once_wherever_moderators_read(house: House) -> None:
    one = drawn(house, "a fox")
    assert said(house, BOB, "report", one.id, "not\0 nice\nat all") == (
        f"Thank you. The moderators will look at #{one.id}."
    )
    assert [note.place for note in stale(house)] == [ROOM, "telegram:chat:-8"]
    assert [note.address for note in stale(house)] == [
        {"channel": "99"}, {"chat": -8, "topic": None}
    ]  # fmt: skip
    found = house.reports.card(one.id)
    assert found
    card = found[1]
    assert card.status == "⚠️ reported" and card.show == Show.SPOILER and card.media
    assert card.prompt == "a fox" and card.notice == "Bob (discord:2): not nice at all"
    assert card.details == "for Ann (discord:1) in discord:channel:5"
    assert [button.id for button in card.buttons] == [f"takedown:{one.id}", f"keep:{one.id}"]
    show(house)
    assert stale(house) == []
    # The same person again, with whichever account, is told so and told to nobody.
    there = Asker("telegram", "22", "Bob")
    say(house, there, f"/link {code(house, BOB)} yes")
    for asker in (BOB, there):
        assert "already" in said(house, asker, "report", one.id, "really", seen=one.id)
    assert stale(house) == []
    # Another is one more to the same message.
    said(house, MAY, "report", one.id, "me too")
    assert [(note.message, note.shown_media) for note in stale(house)] == [("m", 1)] * 2
    found = house.reports.card(one.id)
    assert found and found[1].status == "⚠️ reported by 2 people"
    # Nothing of it is told to who asked for it.
    mine = card_for(house.generations.get(one.id), None, 0.0)
    assert "Bob" not in str(mine) and "report" not in str(mine)


def test_one_reports_what_one_sees_and_nothing_else(house: House) -> None:
    one = drawn(house, "a fox")
    stranger = Asker("discord", "9", chat="discord:channel:8", places=("discord:guild:9",))
    for asker in (stranger, Asker("web", "ann"), Asker("telegram", "1", chat="telegram:chat:1")):
        with pytest.raises(NotFound, match=rf"There is no #{one.id}\.$"):
            said(house, asker, "report", one.id)
        with pytest.raises(NotFound, match=r"There is no #99\.$"):
            said(house, asker, "report", 99)
    # Who has it before them points at it; who answers it with words needs no number.
    assert said(house, stranger, "report", "it is", "not nice", seen=one.id).startswith("Thank")
    (row,) = house.reports.of(one.id)
    assert (row.reporter, row.reason) == ("discord:9", "it is not nice")
    assert said(house, ANN, "report", one.id, "x" * 2000).startswith("Thank"), "one's own, too"
    assert len(house.reports.of(one.id)[1].reason) == REASON
    waiting = house.generations.submit(validate({"prompt": "waits"}), ANN, "w", HERE)
    with pytest.raises(NotAllowed, match="shows no picture"):
        said(house, BOB, "report", waiting.id)
    with pytest.raises(UserError, match="Which picture"):
        said(house, BOB, "report")
    with pytest.raises(UserError, match="by its number"):
        said(house, BOB, "report", "this one")


def test_nobody_reports_without_end(house: House) -> None:
    one = drawn(house, "a fox")
    house.queue.redis.set("drawqueue:reports:discord:2", MOST_AN_HOUR, ex=600)
    with pytest.raises(TooMuch, match="10 min"):
        said(house, BOB, "report", one.id)
    assert house.reports.of(one.id) == []


def test_only_who_moderates_that_chat_decides(house: House) -> None:
    one = drawn(house, "a fox")
    said(house, BOB, "report", one.id)
    for asker in (ANN, BOB, TOM, Asker("telegram", "3", moderator=True, chat="telegram:chat:-8")):
        for action in ("takedown", "keep"):
            with pytest.raises(NotFound, match="in a chat that you moderate"):
                press(house, action, one.id, Ask(asker, "p", {}, {}))
        with pytest.raises(NotFound):
            said(house, asker, "takedown", one.id)
        with pytest.raises(NotFound):
            say(house, asker, f"/reports {one.id}")
        assert say(house, asker, "/reports") == "Nothing waits for a moderator."
    for asker in (MAY, HOST):
        assert f"#{one.id} Ann (discord:1), 1 report" in say(house, asker, "/reports")
    assert house.generations.get(one.id).results


def test_what_is_taken_down_is_gone_and_its_asker_told_why(house: House) -> None:
    one = drawn(house, "a fox")
    show_of = house.generations.visible(one.id, ANN)
    said(house, BOB, "report", one.id, "not nice")
    show(house)
    told = said(house, MAY, "takedown", one.id, "no foxes here")
    assert told.startswith(f"#{one.id} is taken down: its picture and its prompt are gone")
    assert not house.media.has(str(show_of.results[0]["key"]))
    gone = house.generations.get(one.id)
    assert gone.removed == TAKEN_DOWN and gone.version > one.version and not gone.results
    card = card_for(gone, None, 0.0)
    assert card.status == "🛡️ taken down by a moderator" and card.notice == "Why: no foxes here"
    assert not (card.prompt or card.media or card.buttons or "May" in str(card))
    # No button of before and no command brings it back, not even its asker's.
    for action in ("retry", "reseed", "up2", "subtle", "u1", "cancel"):
        with pytest.raises(NotFound, match="was taken down by a moderator"):
            press(house, action, one.id, Ask(ANN, f"p{action}", HERE, {}))
    for line in ("/show 1", "/retry 1", "/upscale 1", "/delete 1", "/imagine a fox --from 1"):
        with pytest.raises(NotFound, match="was taken down"):
            say(house, ANN, line)
    # What moderators see of it.
    found = house.reports.card(one.id)
    assert found and found[1].status == "🛡️ taken down by May" and not found[1].buttons
    assert not found[1].media and "no foxes here" in found[1].notice
    assert len(stale(house)) == 2, "their messages are edited"
    assert said(house, MAY, "takedown", one.id) == f"#{one.id} is taken down already."
    assert say(house, HOST, "/reports") == "Nothing waits for a moderator."


def test_what_is_kept_may_be_reported_by_another(house: House) -> None:
    one = drawn(house, "a fox")
    said(house, BOB, "report", one.id)
    assert press(house, "keep", one.id, Ask(MAY, "p", {}, {})).text == f"#{one.id} stays."
    found = house.reports.card(one.id)
    assert found and found[1].status == "✅ kept by May" and not found[1].buttons
    assert say(house, HOST, "/reports") == "Nothing waits for a moderator."
    assert house.generations.visible(one.id, ANN).results
    said(house, TOM, "report", one.id, seen=one.id)
    found = house.reports.card(one.id)
    assert found and found[1].status == "⚠️ reported" and len(found[1].buttons) == 2
    assert say(house, HOST, f"/reports {one.id}") == f"#{one.id} stays."


def test_what_shows_the_same_there_goes_too_and_elsewhere_stays(house: House) -> None:
    one = drawn(house, "a fox")
    key = str(one.results[0]["key"])
    picked, _ = house.generations.pick(one, 0, BOB, HERE)
    elsewhere = replace(TOM, id="8", moderator=False)
    other, _ = house.generations.pick(picked, 0, elsewhere, {"channel": "7", "guild": "4"})
    request = replace(one.request, sources=(key,), prompt="a painted fox")
    child = house.generations.submit(request, ANN, "child", HERE, one.id)
    told = said(house, MAY, "takedown", one.id)
    assert told.endswith(f"So are #{picked.id}, which showed the same.")
    assert house.generations.get(picked.id).removed == TAKEN_DOWN
    assert house.generations.get(other.id).results, "another guild's is not May's to take"
    assert house.generations.get(child.id).request.prompt, "what began with it shows another"
    assert house.media.has(key), "as long as those need it"


def test_what_shows_it_larger_goes_along_and_what_was_to_do_so_is_cancelled(house: House) -> None:
    def larger(number: int, factor: str, asker: Asker = ANN) -> Generation:
        told = {"id": str(number), "factor": factor}
        made = run(house, "upscale", Ask(asker, f"{number} {factor}", HERE, told)).generation
        assert made
        return made

    one = drawn(house, "a fox")
    twice = finished(house, larger(one.id, "2"))
    waiting, again = larger(one.id, "4"), larger(twice.id, "2")
    told = said(house, MAY, "takedown", one.id, "ugly")
    assert told.endswith(f"So are #{twice.id}, #{waiting.id}, #{again.id}, which showed the same.")
    for other in (one, twice, waiting, again):
        gone = house.generations.get(other.id)
        assert gone.removed == TAKEN_DOWN and not gone.request.held
        assert not any(house.media.has(str(result["key"])) for result in other.results)
        assert house.generations.claim(other.id) is None
        assert not house.media.has(str(one.results[0]["key"]))


def test_what_was_taken_down_answers_no_other_request(house: House) -> None:
    waiting = [
        asked(house, "a fox"), asked(house, "a fox", TOM, {"channel": "7", "guild": "4"}, "twin")
    ]  # fmt: skip
    one, twin = (finished(house, made, "r1") for made in waiting)
    assert asked(house, "a fox", BOB, event="bob").state == State.DONE, "answered from the storage"
    said(house, MAY, "takedown", one.id)
    assert house.generations.get(twin.id).results and house.media.has(str(twin.results[0]["key"]))
    again = asked(house, "a fox", ANN, event="again")
    assert again.state == State.QUEUED, "not from another's that is the same"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_killed_before_it_is_noted_a_takedown_is_done_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    one = drawn(house, "a fox")
    said(house, BOB, "report", one.id)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(house.generations, "empty", die)
        said(house, MAY, "takedown", one.id)
    found = house.reports.card(one.id)
    assert found and found[1].buttons, "it is still to be decided"
    press(house, "takedown", one.id, Ask(MAY, "p", {}, {}))
    assert house.generations.get(one.id).removed == TAKEN_DOWN


def test_a_lost_message_is_sent_again_and_one_out_of_reach_is_not(house: House) -> None:
    one = drawn(house, "a fox")
    said(house, BOB, "report", one.id)
    first, second = stale(house)
    assert house.reports.lease(first, "dies")
    assert stale(house) == [second], "one at a time"
    house.reports.shown(second, "nobody")
    house.reports.shown(first, "dies")
    assert stale(house) == [first, second], "what was not shown is shown by another"
    assert house.reports.lease(first, "p")
    house.reports.shown(first, "p", undeliverable="403")
    assert stale(house) == [second] and house.reports.stale([]) == []
    assert f"#{one.id}" in say(house, HOST, "/reports"), "it is not lost"


def test_without_a_place_it_is_listed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DRAWQUEUE_REPORTS")
    settings._read.cache_clear()
    one = drawn(house, "a fox")
    assert said(house, BOB, "report", one.id, "why").startswith("Thank you")
    assert stale(house) == [] and ", 1 report: why" in say(house, HOST, "/reports")
    said(house, MAY, "takedown", one.id)
    with house.database.read() as connection:
        assert connection.execute(select(notices)).all() == []
        assert connection.execute(select(reports.c.decision)).scalars().all() == ["removed"]


def test_who_leaves_is_named_in_no_report(house: House) -> None:
    hers, his = drawn(house, "a fox"), drawn(house, "an owl", BOB)
    said(house, ANN, "report", his.id, "Ann says so")
    said(house, MAY, "report", his.id)
    said(house, BOB, "report", hers.id)
    show(house)
    for asker in (ANN, MAY):
        say(house, asker, "/forget yes")
    assert {note.generation for note in stale(house)} == {hers.id, his.id}, "shown anew"
    found, other = house.reports.card(his.id), house.reports.card(hers.id)
    assert found and other and other[1].status.startswith("🗑️")
    assert "Ann" not in str(found[1]) + str(other[1]) and not other[1].media
    assert len(house.reports.of(his.id)) == 2
    with house.database.read() as connection:
        rows = str(connection.execute(select(reports)).all())
    assert "Ann" not in rows and "discord:1'" not in rows and "discord:3" not in rows
