"""Found again: one's own pictures by words and filters, page by page; counted; never another's."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, text, update

from core import settings
from core.asking import Ask, Reply
from core.cards import pressed
from core.commands import from_text, press, run
from core.database import generations, now
from core.engine import MARK
from core.errors import NotAllowed, NotFound, UserError
from core.history import counts
from core.house import House
from core.lifecycle import State
from core.options import Mode, validate
from core.people import Asker
from core.rows import Generation

ANN, BOB = Asker("web", "ann"), Asker("web", "bob")
CHANNEL = {"channel": "5", "guild": "9"}
PICTURE = {"seed": 1, "width": 8, "height": 8}


def ask(
    house: House, asker: Asker, line: str, event: str = "", address: dict[str, Any] | None = None
) -> Reply:
    name, given, faults = from_text(line)
    return run(house, name, Ask(asker, event or f"{line} {now()}", address or {}, given, faults))


def turned(house: House, asker: Asker, reply: Reply, label: str) -> Reply:
    """What the button with that label answers."""
    button = next(one for one in reply.buttons if label in one.label)
    action, number = pressed(button.id)
    return press(house, action, number, Ask(asker, f"press {now()}", {}, {}))


def drawn(
    house: House, prompt: str, asker: Asker = ANN, address: dict[str, Any] | None = None,
    mark: str = "", parent: int | None = None, days: float = 0, **given: Any,
) -> Generation:  # fmt: skip
    """A finished one, asked for so many days ago."""
    made = house.generations.submit(
        validate({"prompt": prompt, **given}), asker, f"{now()}", address or {}, parent
    )
    claimed = house.generations.claim(made.id)
    assert claimed
    key = house.media.save(made.id, "1.png", b"png")
    marked = {MARK: mark} if mark else {}
    house.generations.finish(claimed, [{"key": key, **PICTURE, **marked}], 2.0)
    change(house, made.id, created=now() - timedelta(days=days), message=f"{made.id}")
    return house.generations.get(made.id)


def change(house: House, number: int, **values: Any) -> None:
    with house.database.write() as connection:
        connection.execute(update(generations).where(generations.c.id == number).values(**values))


def listed(reply: Reply) -> list[int]:
    """The numbers of a page's lines."""
    lines = [line for line in reply.text.splitlines() if line.startswith("#")]
    return [int(line.split()[0][1:]) for line in lines]


def many(house: House, number: int, asker: Asker = ANN, prompt: str = "a fox") -> None:
    """So many rows as a request writes them."""
    one = drawn(house, prompt, asker)
    row = {
        name: getattr(one, name) for name in ("platform", "asker", "state", "person", "created")
    } | {"address": {}, "request": asdict(one.request), "results": []}
    with house.database.write() as connection:
        connection.execute(
            insert(generations), [{**row, "event": f"many {n} {now()}"} for n in range(number - 1)]
        )


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("lighthouse", [2, 1]),
        ("LIGHTHOUSE storm", [1]),
        ("storm lighthouse", [1]),
        ("light", []),
        ("light*", [2, 1]),
        ("light* calm", [2]),
        ("fox", [5, 4, 3]),
        ('"red fox"', [4, 3]),
        ("éclair", [5]),
        ("灯台", [6]),
        ("8k", [1]),
        ("mode:remix", []),
        ("mode:imagine", [6, 5, 4, 3, 2, 1]),
        ("state:queued", [6]),
        ("state:done fox", [5, 4, 3]),
        ("since:3d", [6, 5, 4, 3]),
        ("until:3d", [2, 1]),
        ("since:3d until:12h", [4, 3]),
        ("model:PATTERN before:3", [2, 1]),
        ("model:none", []),
        ("before:1", []),
        ("until:2001-01-01", []),
    ],
)
def test_words_and_filters_find_ones_own(house: House, line: str, found: list[int]) -> None:
    drawn(house, "a lighthouse/in the storm, 8k", days=9)
    drawn(house, "Lighthouse: calm", days=8)
    drawn(house, "a red-fox", days=2)
    drawn(house, "red fox (sly:1.3)", days=1)
    drawn(house, "fox and Éclair")
    house.generations.submit(validate({"prompt": "灯台 at night"}), ANN, "e", {})
    drawn(house, "Bob's lighthouse storm red fox éclair 灯台", BOB)
    reply = ask(house, ANN, f"/history {line}")
    assert listed(reply) == found, reply.text
    assert (not found) == ("Nothing of yours" in reply.text or "nothing of yours" in reply.text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("colour:red", "There is no filter “colour:”. Known: mode:remix, state:failed, model:"),
        ("page:3", "Known: mode:remix"),
        ("state:lost", "“state:” must be one of queued, generating, waiting, done"),
        ("mode:dream", "“mode:” must be one of imagine, remix"),
        ("state:", "“state:” needs a value, such as state:failed."),
        ("since:soon", "“since:” must be a date such as 2026-11-01, or how long ago"),
        ("since:2026-13-01", "“since:” must be a date"),
        ("until:9999-12-31", "“until:” must be a date"),
        ("since:1d until:2d", "“since:” must be earlier than “until:”"),
        ("before:now", "“before:” must be a picture's number"),
        ("state:done state:failed", "“state:” stands there twice"),
        ("--state done", "without dashes"),
        ("?! ...", "signs alone are not found"),
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_wrong_filter_is_told_with_what_is_right(house: House, line: str, words: str) -> None:
    with pytest.raises(UserError) as told:
        ask(house, ANN, f"/history {line}")
    assert words in str(told.value)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_all_faults_are_told_at_once_and_slash_options_are_filters(house: House) -> None:
    with pytest.raises(UserError) as told:
        ask(house, ANN, "/history colour:red since:soon")
    assert str(told.value).count("•") == 2
    drawn(house, "a red fox")
    drawn(house, "an owl")
    told = ask(house, ANN, "/history zebra mode:blend since:2026-01-02 until:2026-01-03").text
    assert "fits “zebra”, mode blend, since 2026-01-02, until 2026-01-03. Try fewer" in told
    given = {"words": "fox", "state": "Done", "since": "7d"}
    assert listed(run(house, "history", Ask(ANN, "e", {}, given))) == [1]
    with pytest.raises(UserError, match="“state” must be one of"):
        run(house, "history", Ask(ANN, "e", {}, {"state": "lost"}))


def test_pages_turn_both_ways_and_keep_their_filters(house: House) -> None:
    many(house, 12, prompt="an owl")
    many(house, 11)
    first = ask(house, ANN, "/history fox")
    assert listed(first) == list(range(23, 15, -1))
    assert [one.label for one in first.buttons] == ["Older ▶"]
    # Another process, after any restart: nothing but the button's id is known.
    second = turned(house, ANN, first, "Older")
    assert listed(second) == [15, 14, 13] and [b.label for b in second.buttons] == ["◀ Newer"]
    drawn(house, "a new fox")
    again = turned(house, ANN, second, "Newer")
    assert listed(again) == listed(first), "nine are newer: the nearest eight of them"
    newest = turned(house, ANN, again, "Newer")
    assert listed(newest) == list(range(24, 16, -1)), "less than a page is newer: the first"
    assert [one.label for one in newest.buttons] == ["Older ▶"]
    deep = ask(house, ANN, "/history before:20")
    assert listed(deep) == list(range(19, 11, -1))
    assert [b.label for b in deep.buttons] == ["◀ Newer", "Older ▶"]
    beside = turned(house, ANN, deep, "Newer")
    assert listed(beside) == list(range(24, 16, -1))
    beyond = ask(house, ANN, "/history fox before:13")
    assert beyond.text == "There is nothing of yours before #13 (“fox”)." and not beyond.buttons


def test_a_full_page_newer_is_the_nearest(house: House) -> None:
    many(house, 30)
    deep = ask(house, ANN, "/history before:11")
    newer = turned(house, ANN, deep, "Newer")
    assert listed(newer) == list(range(18, 10, -1))
    assert [b.label for b in newer.buttons] == ["◀ Newer", "Older ▶"]
    assert listed(turned(house, ANN, newer, "Older")) == listed(deep)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_only_who_asked_turns_a_page_and_a_question_is_none(house: House) -> None:
    many(house, 9)
    first = ask(house, ANN, "/history")
    with pytest.raises(NotAllowed, match="Only who asked for this list"):
        turned(house, BOB, first, "Older")
    _, number = pressed(first.buttons[0].id)
    for action in ("agree", "refuse"):
        with pytest.raises(NotFound):
            press(house, action, number, Ask(ANN, "p", {}, {}))
    question = ask(house, ANN, "/imagine a fox --repeat 9")
    _, number = pressed(question.buttons[0].id)
    for unknown in (number, 10**11):
        with pytest.raises(NotFound, match="too old to be turned"):
            press(house, "older", unknown, Ask(ANN, "p", {}, {}))


def test_linked_accounts_share_one_history(house: House) -> None:
    there = Asker("discord", "7")
    drawn(house, "a fox")
    drawn(house, "an owl", there)
    assert listed(ask(house, ANN, "/history")) == [1]
    house.people.link(there, house.people.code(ANN))
    for asker in (ANN, there):
        assert listed(ask(house, asker, "/history")) == [2, 1]
        assert listed(ask(house, asker, "/history owl")) == [2]
    house.people.unlink(there)
    assert listed(ask(house, ANN, "/history owl")) == []
    assert listed(ask(house, there, "/history owl")) == [2]


def test_what_older_code_wrote_and_what_was_changed_in_place_is_found(house: House) -> None:
    one = drawn(house, "a lighthouse")
    old = {"prompt": "an ancient castle", "negative_prompt": "", "width": 8, "height": 8,
           "steps": 1, "guidance": 1.0, "seed": 1, "sampler": "Euler", "model": "pattern",
           "count": 1}  # fmt: skip
    change(house, one.id, request=old)
    assert listed(ask(house, ANN, "/history castle mode:imagine")) == [1]
    assert listed(ask(house, ANN, "/history lighthouse")) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_without_fts5_prompts_are_looked_at_one_by_one(house: House) -> None:
    drawn(house, "a lighthouse 100% calm")
    drawn(house, "a storm")
    with house.database.write() as connection:
        for name in ("prompts_new", "prompts_gone", "prompts_changed"):
            connection.execute(text(f"DROP TRIGGER {name}"))
        connection.execute(text("DROP TABLE prompts"))
    assert listed(ask(house, ANN, "/history LIGHT* calm")) == [1]
    assert listed(ask(house, ANN, "/history 100%")) == [1]
    assert listed(ask(house, ANN, "/history 1%0")) == []


def test_a_prompt_with_a_nul_is_kept_without_it(house: House) -> None:
    assert drawn(house, "a\0 fox").request.prompt == "a fox"
    assert listed(ask(house, ANN, "/history fox")) == [1]
    assert listed(ask(house, ANN, "/history fo\0x model:x\0 \ud800")) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_thumbnails_are_of_what_may_be_seen(house: House, rules: Callable[[str], None]) -> None:
    drawn(house, "a fox")
    drawn(house, "an owl", mark="nsfw")
    house.generations.submit(validate({"prompt": "waits"}), ANN, "e", {})
    reply = ask(house, ANN, "/history")
    assert listed(reply) == [3, 2, 1] and [one.id for one in reply.thumbnails] == [1]
    assert reply.small[0][0] == "#1"
    rules('[classes.fast]\nmembers=["everyone"]\n[marked]\nalone="plain"')
    assert [one.id for one in ask(house, ANN, "/history").thumbnails] == [2, 1]


# Of a whole chat


def in_channel(user: str, channel: str = "5", parent: str = "") -> tuple[Asker, dict[str, str]]:
    asker = Asker("discord", user, chat=f"discord:channel:{parent or channel}")
    return asker, {"channel": channel, "parent": parent, "guild": "9"}


def test_a_chats_history_is_shared_where_the_host_allows_it_and_public_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, here = in_channel("1")
    bob, _ = in_channel("2")
    drawn(house, "a fox of Ann's", ann, here)
    drawn(house, "a fox of Bob's", bob, here)
    drawn(house, "a marked fox", bob, here, mark="nsfw")
    drawn(house, "a fox elsewhere", *in_channel("2", "6"))
    drawn(house, "a fox in a private thread", *in_channel("2", "77", "5"))
    house.generations.submit(validate({"prompt": "a fox that waits"}), bob, "e", here)
    lost = drawn(house, "a fox nobody saw", bob, here)
    change(house, lost.id, message=None)
    with pytest.raises(NotAllowed, match="shares no chat's history"):
        ask(house, ann, "/history chat:yes", address=here)
    monkeypatch.setenv("DRAWQUEUE_SHARED_HISTORY", "1")
    settings._read.cache_clear()
    for line in ("/history chat:yes", "/history fox chat:yes"):
        assert listed(ask(house, ann, line, address=here)) == [2, 1]
    assert listed(ask(house, ann, "/history", address=here)) == [1]
    assert listed(ask(house, ann, "/history chat:no", address=here)) == [1]
    with pytest.raises(UserError, match="yours alone"):
        ask(house, ANN, "/history chat:yes")
    house.generations.delete(2, bob)
    assert listed(ask(house, ann, "/history chat:yes", address=here)) == [1]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_chats_page_is_not_turned_from_elsewhere_nor_after_the_host_forbids_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAWQUEUE_SHARED_HISTORY", "1")
    settings._read.cache_clear()
    ann, here = in_channel("1")
    for number in range(9):
        drawn(house, f"fox {number}", ann, here)
    first = ask(house, ann, "/history chat:yes", address=here)
    assert listed(turned(house, ann, first, "Older")) == [1]
    with pytest.raises(NotAllowed, match="another chat"):
        turned(house, replace(ann, chat="discord:channel:6"), first, "Older")
    monkeypatch.setenv("DRAWQUEUE_SHARED_HISTORY", "0")
    settings._read.cache_clear()
    with pytest.raises(NotAllowed, match="shares no chat's history"):
        turned(house, ann, first, "Older")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_in_a_group_of_telegram_ones_own_is_not_told(house: House) -> None:
    ann = Asker("telegram", "1", chat="telegram:chat:-5")
    drawn(house, "a secret fox", ann, {"chat": 1})
    with pytest.raises(NotAllowed, match="to me alone"):
        ask(house, ann, "/history", address={"chat": -5})
    assert listed(ask(house, ann, "/history", address={"chat": 1})) == [1]


# Counts


def test_stats_count_ones_own_today_and_in_all(house: House) -> None:
    assert "asked for nothing yet" in ask(house, ANN, "/stats").text
    drawn(house, "a fox")
    drawn(house, "an old owl", days=3)
    drawn(house, "Bob's", BOB)
    one = house.generations.submit(validate({"prompt": "fails"}), ANN, "f", {})
    claimed = house.generations.claim(one.id)
    assert claimed
    house.generations.fail(claimed, "It broke.")
    other = house.generations.submit(validate({"prompt": "stops"}), ANN, "c", {})
    house.generations.cancel(other.id, ANN)
    change(house, 1, seconds=6.0, charged=6.0)
    # Picking one of several draws nothing.
    house.generations.pick(house.generations.get(1), 0, ANN, {})
    today, in_all = ask(house, ANN, "/stats").text.splitlines()
    assert today.startswith("Today: 4 asked for: done 2, failed 1, cancelled 1. 6 s a drawing")
    assert in_all.startswith("In all: 5 asked for: done 3, failed 1, cancelled 1. 4 s a drawing")
    assert today.endswith(" 6 s on the host's own machines (GPU time).")
    assert in_all.endswith(" 8 s on the host's own machines (GPU time).")
    assert "1 asked for: done 1" in ask(house, BOB, "/stats").text
    house.generations.delete(2, ANN)
    assert ask(house, ANN, "/stats").text.splitlines()[1] == in_all, "deleted, it was still drawn"


def test_what_was_made_elsewhere_is_no_time_of_the_hosts_machines(house: House) -> None:
    figures = {
        "draw": (6.0, Mode.TEXT), "write": (1.5, Mode.WRITE), "comfyui": (2.0, Mode.TEXT),
        "kie": (28.0, Mode.TEXT), "pollinations": (12.0, Mode.WRITE),
    }  # fmt: skip
    for line, (seconds, mode) in figures.items():
        one = drawn(house, f"by {line}")
        request = {**asdict(one.request), "mode": str(mode)}
        change(house, one.id, line=line, charged=seconds, seconds=seconds, request=request)
    older = drawn(house, "by kie, too", days=3)
    change(house, older.id, line="kie", charged=40.0)
    today, in_all = ask(house, ANN, "/stats").text.splitlines()
    told = "12 s a drawing on average. 9.5 s on the host's own machines (GPU time). Elsewhere: {}."
    assert today.endswith(told.format("kie.ai 28 s, Pollinations 12 s"))
    assert in_all.endswith("Elsewhere: kie.ai 68 s, Pollinations 12 s.")
    _, every = counts(house, ANN)
    assert every["elsewhere"] == {"kie": 68.0, "pollinations": 12.0} and every["seconds"] == 89.5
    # Where the host's machines did nothing there is nothing to say of them.
    far = drawn(house, "Bob's", BOB)
    change(house, far.id, line="kie", charged=5.0)
    assert ask(house, BOB, "/stats").text.count("average. Elsewhere: kie.ai 5 s.") == 2


# Deleting


def test_deleted_it_is_gone_from_every_path(house: House) -> None:
    one = drawn(house, "a fox")
    key = str(one.results[0]["key"])
    reply = ask(house, ANN, f"/delete {one.id}")
    assert reply.text == "#1 is deleted: its picture and its prompt are gone. Its card says so."
    assert not house.media.has(key)
    row = house.generations.get(1)
    assert row.state == State.DONE and row.deleted and row.results == ()
    assert "fox" not in json.dumps(asdict(row.request)) and row.version > one.version
    card = house.card(row)
    assert (card.media, card.buttons, card.prompt) == ((), (), "")
    assert card.status == "🗑️ deleted by its asker"
    assert [shown.id for shown in house.showing.stale(["web"])] == [1], "its card is redrawn"
    for line in ("/show 1", "/retry 1", "/vary 1", "/upscale 1", "/tree 1", "/delete 1", "/remix x"
                 " --from 1", "/identify 1", "/paint 1", "/cancel 1"):  # fmt: skip
        with pytest.raises(UserError):
            ask(house, ANN, line)
    for action in ("retry", "reseed", "subtle", "up2", "u1", "why"):
        with pytest.raises(NotFound, match="#1 was deleted"):
            press(house, action, 1, Ask(ANN, "p", {}, {}))
    assert listed(ask(house, ANN, "/history")) == [] == listed(ask(house, ANN, "/history fox"))
    assert house.generations.of(ANN) == [] == house.generations.finished(ANN)
    assert house.mending.sweep() == 0


def test_an_operator_who_requeues_a_deleted_one_draws_nothing(house: House) -> None:
    one = house.generations.submit(validate({"prompt": "a fox"}), ANN, "e", {})
    claimed = house.generations.claim(one.id)
    assert claimed
    house.generations.fail(claimed, "It broke.")
    assert ask(house, ANN, "/delete 1").text == "#1 is deleted: its prompt is gone."
    # As RQ's own Requeue leaves it: the failed job stands in the line again.
    assert house.generations.claim(1, one.job) is None
    assert house.generations.get(1).state == State.FAILED


def test_what_was_deleted_answers_no_other_request(house: House) -> None:
    one = house.generations.submit(validate({"prompt": "a fox", "seed": 5}), ANN, "1", {})
    claimed = house.generations.claim(one.id)
    assert claimed
    key = house.media.save(one.id, "1.png", b"png")
    house.generations.finish(claimed, [{"key": key, **PICTURE}], 1.0, revision="r1")
    same = house.generations.submit(one.request, ANN, "2", {})
    assert same.state == State.DONE, "answered from the storage"
    for number in (one.id, same.id):
        ask(house, ANN, f"/delete {number}")
    assert not house.media.has(key)
    assert house.generations.submit(one.request, ANN, "3", {}).state == State.QUEUED


def test_nobody_deletes_anothers_or_what_is_not_over(house: House) -> None:
    one = drawn(house, "a fox")
    waiting = house.generations.submit(validate({"prompt": "waits"}), ANN, "w", {})
    moderator = replace(BOB, trusted=True)
    for asker in (BOB, moderator):
        with pytest.raises(NotFound, match="no #1 of yours"):
            ask(house, asker, "/delete 1")
    with pytest.raises(NotAllowed, match=f"still queued: /cancel {waiting.id} first"):
        ask(house, ANN, f"/delete {waiting.id}")
    with pytest.raises(UserError, match="/delete needs id, such as /delete 12"):
        ask(house, ANN, "/delete")
    assert house.media.has(str(one.results[0]["key"]))
    house.generations.cancel(waiting.id, ANN)
    assert ask(house, ANN, f"/delete {waiting.id}").text == (
        f"#{waiting.id} is deleted: its prompt is gone."
    )


def test_a_file_goes_with_the_last_that_needs_it(house: House) -> None:
    one = drawn(house, "a fox")
    key = str(one.results[0]["key"])
    picked, _ = house.generations.pick(one, 0, ANN, {})
    request = replace(one.request, mode=Mode.REMIX, sources=(key,))
    child = house.generations.submit(request, ANN, "child", {}, parent=1)
    house.generations.cancel(child.id, ANN)
    assert ask(house, ANN, "/delete 1").text.endswith(
        "Needed by #2, #3, the file stays until those are deleted, too."
    )
    assert "#3, the file stays until that is" in ask(house, ANN, f"/delete {picked.id}").text
    assert house.media.has(key)
    ask(house, ANN, "/delete 3")
    assert not house.media.has(key)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_of_anothers_that_is_the_same_nothing_is_named(house: House) -> None:
    one = drawn(house, "a fox")
    house.generations.pick(one, 0, BOB, {})
    told = ask(house, ANN, "/delete 1").text
    assert "Another request drew exactly the same and keeps the file." in told and "#2" not in told
    assert house.media.has(str(one.results[0]["key"]))
    assert house.generations.visible(2, BOB).results
