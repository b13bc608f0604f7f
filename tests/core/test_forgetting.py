"""Forgotten: nothing of a person is left in any table, file or key, whatever died in between."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from core import forgetting, marks, sharing
from core.accounts import Accounts
from core.asking import Ask, Reply
from core.cards import card_for, pressed
from core.commands import press, run
from core.database import (
    generations,
    leavers,
    metadata,
    now,
    offered,
    people,
    proposals,
    tastes,
    usage,
)
from core.errors import NotAllowed, NotFound, TooMuch, UserError
from core.forgetting import HOW, LATER, Emptied, Gone, Nobody, Unnamed, sweep
from core.generations import FIRST_EDITOR
from core.house import House
from core.lifecycle import State
from core.options import validate
from core.people import Asker
from core.rows import FORGOTTEN, Generation
from tests.core.test_accounts import GOOD, Counting
from tests.core.test_people import code
from tests.core.test_policy import say

ANN = Asker("discord", "9001", "Ann Secret", chat="discord:channel:5")
HERS = Asker("telegram", "9002", "Ann Secret", chat="telegram:chat:9002")
BOB = Asker("discord", "77", "Bob", chat="discord:channel:5")
# Whatever these are found in holds something of Ann's.
TRACES = ("9001", "9002", "Ann", "Secret", "secret", "windmill", "misty")


def drawn(
    house: House, prompt: str, asker: Asker = ANN, message: str | None = "55", **row: Any
) -> Generation:
    """A finished one of somebody's, shown by a message."""
    address = {"channel": "5", "chat": asker.id, "token": f"token {asker.id}", "alone": False}
    made = house.generations.submit(validate({"prompt": prompt}), asker, f"{now()}", address)
    claimed = house.generations.claim(made.id)
    assert claimed
    key = house.media.save(made.id, "1.png", b"png")
    picture = {"key": key, "seed": 1, "width": 8, "height": 8}
    house.generations.finish(claimed, [picture], 2.0)
    # The worker that drew it has said its last word long since.
    house.queue.redis.delete(f"drawqueue:alive:{made.job}")
    with house.database.write() as connection:
        connection.execute(
            update(generations)
            .where(generations.c.id == made.id)
            .values(message=message, manner={"preset": "misty" if asker != BOB else ""}, **row)
        )
    return house.generations.get(made.id)


def agree(house: House, asker: Asker, reply: Reply, action: str = "agree") -> str:
    button = next(one for one in reply.buttons if one.action == action)
    return press(house, *pressed(button.id), Ask(asker, f"press {now()}", {}, {})).text


def everything(house: House) -> str:
    """All that the database and Redis hold, and the names of all files."""
    told = []
    with house.database.read() as connection:
        for table in metadata.sorted_tables:
            for row in connection.execute(select(table)):
                told.append(f"{table.name}: {dict(row._mapping)}")
    redis = house.queue.redis
    for key in redis.scan_iter():
        kind = redis.type(key).decode()
        value: Any = {
            "hash": redis.hgetall, "string": redis.get, "list": lambda k: redis.lrange(k, 0, -1),
            "zset": lambda k: redis.zrange(k, 0, -1), "set": redis.smembers,
        }.get(kind, lambda _: "")(key)  # fmt: skip
        told.append(f"redis {key!r}: {value}")
    return "\n".join(told)


def traces(house: House) -> list[str]:
    """What still tells of Ann, but for who may not have a second quota today."""
    with house.database.read() as connection:
        waits = connection.execute(select(leavers.c.newest)).scalars().all()
    assert waits in ([], [0])
    # What links are signed with says so in its name.
    beside = (
        "secrets: ",
        "leavers: ",
        "usage: ",
        "redis b'drawqueue:fair:",
        "redis b'drawqueue:reports:",
    )
    return [
        line for line in everything(house).splitlines()
        if any(trace in line for trace in TRACES) and not line.startswith(beside)
    ]  # fmt: skip


def rows(house: House, table: str) -> int:
    with house.database.read() as connection:
        counted = select(func.count()).select_from(metadata.tables[table])
        return int(connection.execute(counted).scalar_one())


def living(house: House) -> list[Generation]:
    """Ann in every table: accounts that are one, what she drew, set, saved, brought, shared."""
    say(house, HERS, f"/link {code(house, ANN)} yes")
    vars(house)["accounts"] = Accounts(house.database, house.queue.redis, house.people, Counting())
    own, name = house.accounts.make("Ann.Secret", GOOD, "")
    say(house, Asker("web", own.removeprefix("web:"), name), f"/link {code(house, ANN)} yes")
    for account in (own, ANN.account):
        house.accounts.begin(account, name, "Firefox, Linux")
    made = [drawn(house, "a windmill"), drawn(house, "a windmill at night", HERS)]
    for one, asker in zip(made, (ANN, HERS), strict=True):
        marks.put(house, one, 0, [marks.FAVOURITE, "secret"])
        sharing.share(house, asker, one.id, 0, prompt=True)
    key = house.media.save_upload(b"a photo of Ann")
    request = replace(made[0].request, sources=(key,), prompt="a windmill from a photo")
    made.append(house.generations.submit(request, ANN, "begun", made[0].address, made[0].id))
    say(house, ANN, "/settings set count 2")
    say(house, ANN, "/quiet")
    say(house, ANN, f"/preset save misty {made[0].id}")
    guild = replace(ANN, places=("discord:guild:3",))
    run(house, "preset", Ask(guild, "s", {"channel": "5", "guild": "3"}, {
        "act": "share", "name": "misty",
    }))  # fmt: skip
    secret = say(house, ANN, "/key new my secret script").split()[0]
    by_key = house.keys.enter(secret)
    assert by_key
    program = Asker("web", by_key.user, "secret")
    made.append(house.generations.submit(
        validate({"prompt": "a windmill by a key"}), program, f"{program.id}:e", {"chat": "web"}
    ))  # fmt: skip
    house.people.code(ANN)
    run(house, "imagine", Ask(ANN, "many", made[0].address, {"prompt": "a windmill", "repeat": 9}))
    run(house, "export", Ask(ANN, "export", {}, {}, most=10**7))
    say(house, replace(ANN, trusted=True), f"/report {made[0].id} not for Ann's eyes")
    source = house.media.save_upload(b"not used yet")
    redis = house.queue.redis
    redis.set(f"drawqueue:said:{program.id}:e", json.dumps({"text": "a windmill"}))
    redis.set(f"drawqueue:upload:{ANN.account}:up_1", json.dumps({"key": source}))
    with house.database.write() as connection:
        connection.execute(insert(offered).values(
            kind="model", name="good", added_by=ANN.account, added=now(), hidden=False,
            chosen=False,
        ))  # fmt: skip
    return made


def part(house: House, some: list[Generation]) -> None:
    """Take away what shows some, as a poster does whose turn it is."""
    for one in some:
        assert house.showing.lease(one.id, FIRST_EDITOR)
        house.showing.parted(one.id, FIRST_EDITOR)


def files(house: House) -> set[str]:
    listed = house.media._files.find(house.media._root)
    return {str(path).rsplit("/", 1)[-1] for path in listed}


def test_every_table_and_every_column_says_how_it_forgets() -> None:
    """Fails for a table or a column that came later: core/forgetting.py has to say it."""
    assert HOW.keys() == metadata.tables.keys()
    for name, how in HOW.items():
        columns = set(metadata.tables[name].c.keys())
        if isinstance(how, Emptied):
            assert {*how.columns, *how.stay} == columns, name
            assert not {*how.columns} & {*how.stay}, name
        elif isinstance(how, Nobody):
            assert how.why, name
        else:
            assert columns.issuperset(how.by), name
            if isinstance(how, Gone) and how.of:
                assert how.of in HOW, name
    assert {*LATER} <= HOW.keys()


def test_nothing_is_left_and_what_stays_is_told_before(house: House) -> None:
    made = living(house)
    theirs = drawn(house, "a fox of Bob's", BOB)
    say(house, BOB, "/settings set count 3")
    assert len(traces(house)) > 10, "or this would show nothing"
    hers = [name for name, how in HOW.items() if isinstance(how, Gone | Unnamed)]
    assert [name for name in hers if not rows(house, name)] == ["leavers"]
    asked = run(house, "forget", Ask(ANN, "f", {}, {}))
    for words in (
        "your 4 requests: their prompts, their pictures",
        "1 preset of yours, also where you share it",
        "1 key for programs, which works no more",
        "Telegram lets me delete them for 48 hours",
        "your account of the web chat, with its password",
        "every browser that you are signed in with",
        "It counts for all your accounts, which are then by themselves: telegram:9002, web:",
        "/export gives you a copy of it first",
        "until it renews: nobody gets a second quota by leaving",
        "a picture that somebody else's request shows just the same",
    ):
        assert words in asked.text, words
    assert len(asked.text) < 2000, "one message of Discord's"
    assert [one.label for one in asked.buttons] == ["Yes, forget me", "No, keep everything"]
    assert house.generations.visible(made[0].id, ANN), "nothing is gone before the answer"
    told = agree(house, ANN, asked)
    assert told.startswith("Everything of yours is forgotten.")
    assert "Ann" not in str(files(house)) and files(house) == {
        str(theirs.results[0]["key"]).rsplit("/", 1)[-1]
    }
    for name in ("marks", "shared", "accounts", "sessions"):
        assert rows(house, name) == 0, name
    # What shows them is left to a poster, and nothing else.
    shown = [house.generations.get(one.id) for one in made]
    assert [one.message for one in shown] == ["55", "55", None, None]
    assert [one.state for one in shown] == ["done", "done", "cancelled", "cancelled"]
    for one in shown:
        assert one.removed == FORGOTTEN and not (one.asker or one.request.prompt or one.results)
        card = card_for(one, None, 0.0)
        assert card.status == "🗑️ deleted by its asker" and not card.prompt and not card.media
        for asker in (ANN, HERS, BOB):
            with pytest.raises(NotFound):
                house.generations.visible(one.id, asker)
    part(house, made)
    assert traces(house) == []
    assert not [one for one in house.showing.stale(["discord", "telegram"])
                if one.id != theirs.id]  # fmt: skip
    # Bob's is as it was, and Ann is a newcomer.
    assert house.generations.visible(theirs.id, BOB).request.prompt == "a fox of Bob's"
    assert "of 1" not in say(house, BOB, "/settings") and "count: 3 (yours)" in say(
        house, BOB, "/settings"
    )
    assert say(house, ANN, "/history").startswith("You have no pictures yet")
    assert say(house, HERS, "/stats").startswith("You have asked for nothing yet")
    assert "Yours:" not in say(house, ANN, "/preset")
    with pytest.raises(UserError, match="linked to no other"):
        say(house, HERS, "/unlink")


def test_nobody_gets_a_second_quota_by_leaving(house: House, rules: Callable[[str], None]) -> None:
    rules("[classes.fast]\nmembers=['everyone']\njobs_per_day=2\n")
    say(house, HERS, f"/link {code(house, ANN)} yes")
    drawn(house, "one"), drawn(house, "two")
    say(house, ANN, "/forget yes")
    for asker in (ANN, HERS):
        with pytest.raises(TooMuch, match="2 of 2 pictures today"):
            drawn(house, "three", asker)
    sweep(house)
    with house.database.read() as connection:
        assert connection.execute(select(leavers.c.newest)).scalars().all() == [0]
    # The day is over: then the counts go as well.
    with house.database.write() as connection:
        past = (now() - timedelta(days=1)).date().isoformat()
        for table in (usage, leavers):
            connection.execute(update(table).values(day=past))
    sweep(house)
    with house.database.read() as connection:
        assert connection.execute(select(leavers)).all() == []
        kept = connection.execute(select(usage.c.who)).scalars().all()
    assert [who for who in kept if who in ("discord:9001", "telegram:9002")] == []


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Iterator[None]:
    """Let the process die where it would do this."""

    def die(*_args: Any, **_kwargs: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, die)
        yield


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "step",
    ["_go_on", "_empty", "held_alone", "media.delete", "queue.forget", "generations.stop",
     "_belonging", "generations.forget", "let_go", "_unsay"],
)  # fmt: skip
def test_killed_at_any_step_it_is_finished_by_a_sweep(
    house: House, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    made = living(house)
    room, _, name = step.rpartition(".")
    owner = getattr(house, room) if room else forgetting
    with killed_at(monkeypatch, owner, name), pytest.raises(Killed):
        say(house, ANN, "/forget yes")
    with house.database.read() as connection:
        assert connection.execute(select(people)).all() == [], "the first step was done as one"
    # Somebody's turn ends with them, after a while.
    house.queue.redis.delete("drawqueue:forgetting:discord:9001")
    # What she asks for after leaving is hers to keep.
    new = drawn(house, "a fresh start", replace(ANN, name=""))
    sweep(house)
    part(house, made)
    left = [line for line in traces(house) if f"'id': {new.id}," not in line]
    left = [line for line in left if f"generation-{new.id}-" not in line]
    assert left == []
    assert house.generations.visible(new.id, ANN).request.prompt == "a fresh start"
    assert len(files(house)) == 1
    sweep(house)
    assert len(house.generations.of(ANN)) == 1, "doing it again takes nothing more"


def test_what_a_worker_has_in_hand_goes_when_it_has_let_go(house: House) -> None:
    made = house.generations.submit(validate({"prompt": "a windmill"}), ANN, "e", {"channel": "5"})
    claimed = house.generations.claim(made.id)
    assert claimed
    assert say(house, ANN, "/forget yes").startswith("You are being forgotten")
    assert house.generations.get(made.id).state == State.CANCELLED
    assert house.generations.finish(claimed, [], 1.0) is None, "its picture comes too late"
    sweep(house)
    assert house.generations.get(made.id).request.prompt, "the worker may still write of it"
    house.queue.redis.delete(f"drawqueue:alive:{made.job}")
    sweep(house)
    assert house.generations.get(made.id).removed == FORGOTTEN
    part(house, [made])
    assert traces(house) == []


def test_a_file_that_another_needs_stays(house: House) -> None:
    mine = drawn(house, "a windmill")
    key = str(mine.results[0]["key"])
    picked, _ = house.generations.pick(mine, 0, BOB, {"channel": "5"})
    say(house, ANN, "/forget yes")
    assert house.media.has(key) and house.generations.get(picked.id).results


def test_no_answer_none_of_a_key_and_none_of_another_forgets(house: House) -> None:
    made = drawn(house, "a windmill")
    asked = run(house, "forget", Ask(ANN, "f", {}, {}))
    for stranger in (BOB, replace(BOB, trusted=True), replace(HERS, id="9001")):
        with pytest.raises(NotAllowed):
            agree(house, stranger, asked)
    with pytest.raises(NotAllowed, match="A key may not do that"):
        run(house, "forget", Ask(Asker("web", "key-1"), "k", {}, {"sure": "yes"}))
    with pytest.raises(UserError, match="must be one of yes"):
        say(house, ANN, "/forget everything")
    assert agree(house, ANN, asked, "refuse") == "Nothing is forgotten."
    with pytest.raises(NotAllowed, match="declined already"):
        agree(house, ANN, asked)
    assert say(house, BOB, "/forget yes").startswith("Everything of yours is forgotten")
    assert house.generations.visible(made.id, ANN).results
    with house.database.read() as connection:
        assert connection.execute(select(proposals.c.asker)).scalars().all() == ["9001"]


def test_what_was_deleted_or_never_reached_before_goes_too(house: House) -> None:
    deleted, lost = drawn(house, "a windmill"), drawn(house, "a windmill", undeliverable="403")
    say(house, ANN, f"/delete {deleted.id}")
    assert "9001" in str(house.generations.get(deleted.id))
    say(house, ANN, "/forget yes")
    gone = house.generations.get(lost.id)
    assert gone.message is None and gone.address == {}, "no poster could do more"
    assert [one.id for one in house.showing.stale(["discord"])] == [deleted.id]
    assert house.generations.get(deleted.id).removed == FORGOTTEN
    with house.database.read() as connection:
        kept = connection.execute(select(tastes)).all()
    assert kept == []
