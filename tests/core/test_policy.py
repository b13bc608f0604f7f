"""Classes, limits and lists, from the file's text to the person who is told."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis
from sqlalchemy import select, update
from typer.testing import CliRunner

from core import policy as module
from core import settings
from core.asking import Ask
from core.cli import app
from core.commands import run
from core.database import generations, now, usage
from core.errors import InvalidOptions, NotAllowed, NotFound, TooMuch, UserError
from core.house import House
from core.lifecycle import State
from core.options import validate
from core.people import Asker
from core.policy import Policy, PolicyFault, example, parse, policy
from core.rows import HELD, Generation

CLASSES = """
[classes.turbo]
weight = 4
members = ["discord:role:7", "moderator"]
[classes.fast]
weight = 2
members = ["everyone"]
[classes.relax]
members = ["everyone"]
"""


def submit(house: House, asker: Asker, event: str, **options: object) -> Generation:
    given = validate({"prompt": "a fox", **options})
    return house.generations.submit(given, asker, event, {"chat": "c"})


def say(house: House, asker: Asker, line: str, event: str = "said") -> str:
    from core.commands import from_text

    name, given, faults = from_text(line)
    return run(house, name, Ask(asker, event, {}, given, faults)).text


# The file


def test_the_example_is_a_policy_and_names_every_setting() -> None:
    made = parse(example())
    assert list(made.classes) == ["turbo", "fast", "relax"]
    every_line = "\n".join(line.lstrip("#") for line in example().splitlines() if " = " in line)
    kinds = module.Class, module.Limits, module.Line, module.Access, module.Marked, module.Money
    for kind in kinds:
        for name in kind.model_fields:
            assert f"{name} = " in every_line
    # What stands there as a comment is the default, and can be taken as it stands.
    parse(example().replace("\n#queued", "\nqueued").replace("\n#longest", "\nlongest"))
    prices = "[prices]\n" + example().split("\n[prices]\n")[1].replace("#", "")
    assert parse(prices + "[classes.fast]\nmembers = ['everyone']").prices == {
        "openai": 0.04, "kie:seedream/4.5-text-to-image": 0.0325,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[classes.fast]\nmembers = ['everyone']\nwieght = 2", 3, "Did you mean “weight”?"),
        ("\n\n[lines]\n", 3, "Did you mean “line”?"),
        ("[classes.fast]\nweight = 'heavy'", 2, "must be a number; got 'heavy'"),
        ("[classes.fast]\nweight = 0", 2, "at least 0.001"),
        ("[classes.fast]\nweight = nan", 2, "a number with an end"),
        ("[chat]\nqueued = -1", 2, "at least 0"),
        ("[chat]\nqueued = 99999999999999999999999", 2, "at most 1000000000"),
        ("[classes.fast]\nmembers = 'everyone'", 2, 'a list, such as ["everyone"]'),
        ("line = 3", 1, "a table"),
        ("classes = 3", 1, "tables, such as [classes.fast]"),
        ("[line]\nday_starts = '25:00'", 2, "no time of day"),
        ("[access]\nblock = ['bob']", 2, "“bob” names nobody"),
        ("[access]\nallow = [\n 'discord:guild:1',\n 'x']", 2, "“x” names nobody"),
        ("[classes.'Very Fast']\nmembers = ['everyone']", 1, "no name of a class"),
        ("[classes.fast]\nmembers = ['moderator']", 1, "members"),
        ("[classes.fast\nweight = 2", 1, "not TOML"),
        ("weight = 2", 1, "Known: access, chat, classes, line"),
        ("[prices]\nkie = -0.1", 2, "“prices.kie” must be at least 0; got -0.1"),
        ("[prices]\n\n'kie:a/4.5' = 'x'", 3, "“prices.kie:a/4.5” must be a number; got 'x'"),
        ("[prices]\n\nkie = inf", 3, "a number with an end"),
        ("[prices]\n\ngpt-image-1.5 = 0.1", 3, "a name with dots in it stands in quotes"),
        ("[prices]\nkie:a = 1", 2, "A name with : or / in it stands in quotes."),
        ("prices = 3", 1, "a table, such as [prices]"),
        ("[chat]\ncost_per_day = -1", 2, "at least 0"),
        ("[money]\ncurrency = ''", 2, "a sign or a short name"),
        ("# \u2028 \x85\n[chat]\nqueued = -1", 3, "at least 0"),
    ],
)
def test_a_mistake_is_told_by_line_and_meaning(text: str, line: int, words: str) -> None:
    with pytest.raises(PolicyFault) as told:
        parse(text)
    assert any(words in fault and f"line {line}" in fault for fault in told.value.faults), (
        told.value.faults
    )


def test_every_mistake_is_told_at_once_in_the_order_of_lines() -> None:
    with pytest.raises(PolicyFault) as told:
        parse("[chat]\nqueued = 'a'\nrunning = -1\n[line]\nlongset = 3")
    assert [fault.split(":")[0] for fault in told.value.faults] == [
        "policy.toml, line 2", "policy.toml, line 3", "policy.toml, line 5",
    ]  # fmt: skip


def test_a_mistake_stops_the_start_in_words(rules: Callable[[str], None]) -> None:
    rules("[line]\ncooldwon = 3\n")
    for command in ("worker", "web", "doctor"):
        told = CliRunner().invoke(app, [command])
        assert told.exit_code == 2
        assert "line 2" in told.output and "cooldown" in told.output
        assert "Traceback" not in told.output


def test_a_file_that_is_named_and_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWQUEUE_POLICY", "/nowhere/policy.toml")
    settings._read.cache_clear()
    with pytest.raises(PolicyFault, match="cannot be read"):
        policy()


def test_a_file_that_is_odd_is_told_soon(
    rules: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for odd, words in (
        ("x = '''\n[" + " " * 4000 + "\n'''", "no setting “x”"),
        ("x = '''\n" + "[" * 20_000 + "\n'''", "no setting “x”"),
        ("[chat]\nqueued = " + "9" * 5000, "too long to read"),
        ("x = " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("[access]\nallow = ['" + "x" * 5000 + "']", "names nobody"),
        ("[chat]\nqueued = '" + "x" * 5000 + "'", "must be a whole number"),
    ):
        rules(odd)
        begun = time.process_time()
        with pytest.raises(PolicyFault, match=words) as told:
            policy()
        assert time.process_time() - begun < 1 and len(str(told.value)) < 500
    for path, words in (("x" * 5000, "File name too long"), ("/tmp", "Is a directory")):
        monkeypatch.setenv("DRAWQUEUE_POLICY", path)
        settings._read.cache_clear()
        policy.cache_clear()
        with pytest.raises(PolicyFault, match=f"cannot be read: {words}"):
            policy()


# Days


def test_a_day_begins_when_the_host_says() -> None:
    rules = parse('[line]\nday_starts = "06:00"')
    early = datetime(2026, 3, 29, 5, 59, tzinfo=UTC)
    assert rules.day(early) == "2026-03-28"
    assert rules.day(early + timedelta(minutes=1)) == "2026-03-29"
    assert rules.renews(early) == 60
    assert rules.renews(early + timedelta(minutes=1)) == 86400


# Classes


def test_the_heaviest_class_counts_and_another_may_be_chosen(
    house: House, rules: Callable[[str], None]
) -> None:
    rules(CLASSES)
    bob = Asker("discord", "1", places=("discord:role:7",))
    assert submit(house, bob, "e1").class_name == "turbo"
    assert "Your class is relax" in say(house, bob, "/class relax")
    assert submit(house, bob, "e2").class_name == "relax"
    ann = Asker("discord", "2")
    assert submit(house, ann, "e3").class_name == "fast"
    with pytest.raises(NotAllowed, match="Yours: fast, relax"):
        say(house, ann, "/class turbo")
    with pytest.raises(NotAllowed, match="not yours"):
        say(house, ann, "/class nobody-defined-this")
    # A role that was taken away takes its class along.
    assert submit(house, replace(bob, places=()), "e4").class_name == "relax"


def test_a_moderator_gives_a_class(
    house: House, rules: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    rules(CLASSES)
    monkeypatch.setenv("DRAWQUEUE_MODERATORS", "discord:9")
    settings._read.cache_clear()
    host, ann = house.known(Asker("discord", "9")), Asker("telegram", "2")
    with pytest.raises(NotAllowed):
        say(house, ann, "/grant 2 turbo")
    assert "turbo" in say(house, host, "/grant telegram:2 turbo")
    assert submit(house, ann, "e1").class_name == "turbo"
    with pytest.raises(UserError, match="no class gold"):
        say(house, host, "/grant telegram:2 gold")
    with pytest.raises(UserError, match="by their account"):
        say(house, host, "/grant bob turbo")
    with pytest.raises(UserError, match="by their account"):
        say(house, host, f"/grant <@{'7' * 65}> turbo")
    say(house, host, "/grant telegram:2 none")
    assert submit(house, ann, "e2").class_name == "fast"


def test_weight_is_share_in_the_real_line(house: House, rules: Callable[[str], None]) -> None:
    rules(CLASSES)
    bob, ann = Asker("discord", "1", places=("discord:role:7",)), Asker("discord", "2")
    for index in range(8):
        submit(house, ann, f"a{index}")
    for index in range(8):
        submit(house, bob, f"b{index}")
    first = [int(name.split("-")[1]) for name in house.queue.draw.rq.get_job_ids()[:9]]
    assert sum(house.generations.get(one).asker == "1" for one in first) == 6
    newest = house.generations.of(bob, [State.QUEUED], 1)[0]
    standing = house.generations.standing(newest)
    assert standing and abs(standing.share - 4 / 6) < 0.01
    why = run(house, "queue", Ask(bob, "q", {}, {})).text
    assert "In all: 16 queued" in why


def test_caps_of_a_class_are_told_all_at_once(house: House, rules: Callable[[str], None]) -> None:
    rules("[classes.fast]\nmembers=['everyone']\nsteps=10\nside=128\ncount=2\n")
    with pytest.raises(InvalidOptions) as told:
        submit(house, Asker("web", "a"), "e", steps=11, width=256, count=4)
    assert len(told.value.faults) == 3 and "asked: 11" in told.value.faults[0]
    assert submit(house, Asker("web", "a"), "e", steps=10, width=128, height=128, count=2)


# Lists


def test_lists_let_in_and_keep_out(house: House, rules: Callable[[str], None]) -> None:
    rules("[access]\nallow=['discord:guild:1', 'telegram:user:5']\nblock=['discord:user:3']\n")
    inside = Asker("discord", "2", places=("discord:guild:1",))
    assert submit(house, inside, "e1")
    assert submit(house, Asker("telegram", "5"), "e2")
    for outside, words in (
        (Asker("discord", "2", places=("discord:guild:2",)), "in other places only"),
        (Asker("discord", "3", places=("discord:guild:1",)), "does not let you draw"),
    ):
        with pytest.raises(NotAllowed, match=words):
            submit(house, outside, "e3")
    # A picture of before cannot be drawn again by who is kept out since.
    old = submit(house, inside, "e4")
    house.generations.cancel(old.id, inside)
    rules("[access]\nblock=['discord:user:2']\n")
    with pytest.raises(NotAllowed, match="does not let you"):
        house.generations.redo(old.id, inside, "r")


# Limits


def test_so_many_may_wait_and_no_more(house: House, rules: Callable[[str], None]) -> None:
    rules("[classes.fast]\nmembers=['everyone']\nqueued=3\n[chat]\nqueued=4\n")
    ann, bob = Asker("web", "a", chat="room"), Asker("web", "b", chat="room")
    made = [submit(house, ann, f"e{index}") for index in range(3)]
    with pytest.raises(TooMuch, match="3 of at most 3 pictures in line"):
        submit(house, ann, "e3")
    assert submit(house, ann, "e2").id == made[2].id, "an event seen before is no new one"
    submit(house, bob, "b0")
    with pytest.raises(TooMuch, match="This chat has 4 of at most 4"):
        submit(house, bob, "b1")
    house.generations.cancel(made[0].id, ann)
    submit(house, bob, "b2")
    with pytest.raises(TooMuch):
        house.generations.redo(made[0].id, ann, "again")
    assert house.generations.get(made[0].id).state == State.CANCELLED


def test_two_requests_at_once_do_not_both_take_the_last_place(
    house: House, rules: Callable[[str], None]
) -> None:
    rules("[classes.fast]\nmembers=['everyone']\nqueued=5\n")
    ann, start = Asker("web", "a"), threading.Barrier(8)

    def ask(index: int) -> bool:
        start.wait()
        try:
            submit(house, ann, f"e{index}")
        except TooMuch:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 5


def test_a_days_pictures_and_seconds(house: House, rules: Callable[[str], None]) -> None:
    rules("[classes.fast]\nmembers=['everyone']\njobs_per_day=3\nseconds_per_day=100\n")
    ann = Asker("web", "a")
    first = submit(house, ann, "e1")  # 15 s are expected as long as nothing is known.
    claimed = house.generations.claim(first.id)
    assert claimed
    house.generations.finish(claimed, [], 80.0)
    told = say(house, ann, "/quota")
    assert "1 of 3 pictures today" in told and "80 s of 2 min of drawing" in told
    with pytest.raises(TooMuch, match="of drawing today") as much:
        submit(house, ann, "e2")
    assert much.value.wait and 0 < much.value.wait <= 86400
    rules("[classes.fast]\nmembers=['everyone']\njobs_per_day=3\n")
    second = submit(house, ann, "e2")
    submit(house, ann, "e3")
    with pytest.raises(TooMuch, match="3 of 3 pictures today"):
        submit(house, ann, "e4")
    house.generations.cancel(second.id, ann)
    assert spent(house, "web:a") == pytest.approx(80 + 80), "what was not drawn is given back"
    house.generations.redo(second.id, ann, "again")  # In the day's number already.
    with house.database.write() as connection:
        connection.execute(update(usage).values(day="2020-01-01"))
    assert submit(house, ann, "e5"), "a new day"


def spent(house: House, who: str) -> float:
    with house.database.read() as connection:
        return float(
            connection.execute(select(usage.c.seconds).where(usage.c.who == who)).scalar_one()
        )


def test_what_a_drawing_took_is_charged_however_it_ends(house: House) -> None:
    ann = Asker("web", "a", chat="room")
    ends = {
        "finish": lambda one: house.generations.finish(one, [], 7.0),
        "fail": lambda one: house.generations.fail(one, "words"),
        "cancel": lambda one: house.generations.cancel(one.id, ann),
    }
    for name, end in ends.items():
        before = 0.0 if name == "finish" else spent(house, "web:a")
        made = submit(house, ann, name)
        claimed = house.generations.claim(made.id)
        assert claimed
        with house.database.write() as connection:
            connection.execute(
                update(generations)
                .where(generations.c.id == made.id)
                .values(started=now() - timedelta(seconds=7))
            )
        end(house.generations.get(made.id))
        assert spent(house, "web:a") - before == pytest.approx(7, abs=1)
        assert spent(house, "room") == pytest.approx(spent(house, "web:a"))


def test_a_pause_between_requests_also_when_the_clock_goes_back(
    house: House, rules: Callable[[str], None]
) -> None:
    rules("[line]\ncooldown=30\n")
    ann = Asker("web", "a")
    submit(house, ann, "e1")
    with pytest.raises(TooMuch, match="One request every 30 s") as told:
        submit(house, ann, "e2")
    assert told.value.wait and told.value.wait <= 30
    with house.database.write() as connection:
        connection.execute(update(usage).values(last=now() + timedelta(days=400)))
    with pytest.raises(TooMuch) as told:
        submit(house, ann, "e2")
    assert told.value.wait and told.value.wait <= 30
    with house.database.write() as connection:
        connection.execute(update(usage).values(last=now() - timedelta(seconds=31)))
    submit(house, ann, "e2")


def test_a_full_line_says_when_to_come_back(house: House, rules: Callable[[str], None]) -> None:
    rules("[line]\nlongest=3\n")
    for index in range(3):
        submit(house, Asker("web", str(index)), f"e{index}")
    with pytest.raises(TooMuch, match=r"The queue is full: 3 pictures wait.*in about 15 s") as told:
        submit(house, Asker("web", "late"), "late")
    assert told.value.wait == 15


# At once


def test_so_many_are_drawn_at_once_and_the_rest_gets_its_place_after(
    house: House, rules: Callable[[str], None]
) -> None:
    rules("[classes.fast]\nmembers=['everyone']\nrunning=1\n")
    ann, bob = Asker("web", "a"), Asker("web", "b")
    first, second = submit(house, ann, "a1"), submit(house, ann, "a2")
    other = submit(house, bob, "b1")
    drawn = take(house)
    assert drawn and drawn.id == first.id
    taken = [take(house), take(house)]
    assert [one and one.id for one in taken] == [other.id, None]
    held = house.generations.get(second.id)
    assert (held.state, held.enqueued) == (State.QUEUED, HELD)
    assert "until another picture of yours" in house.card(held).status
    assert house.queue.length() == 0
    house.mending.sweep()
    assert house.queue.length() == 0, "still held"
    house.generations.finish(drawn, [], 1.0)
    again = take(house)
    assert again and again.id == second.id


def test_what_was_held_by_a_worker_that_died_goes_on(
    house: House, rules: Callable[[str], None]
) -> None:
    rules("[chat]\nrunning=1\n")
    ann, bob = Asker("web", "a", chat="room"), Asker("web", "b", chat="room")
    submit(house, ann, "a1"), submit(house, bob, "b1")
    first = take(house)
    assert first and take(house) is None
    with house.database.write() as connection:  # The limit's end is missed, whatever died.
        connection.execute(
            update(generations).where(generations.c.id == first.id).values(state=State.DONE)
        )
    assert house.mending.sweep() == 1
    assert take(house)


def take(house: House) -> Generation | None:
    """Take the next job as a worker does."""
    name = Redis.lpop(house.queue.redis, house.queue.draw.rq.key)
    assert isinstance(name, bytes)
    return house.generations.claim(int(name.decode().split("-")[1]), name.decode())


# Among one's own, and before everybody's


def test_priority_counts_among_ones_own_only(house: House) -> None:
    ann, bob = Asker("web", "a"), Asker("web", "b")
    a = [submit(house, ann, f"a{index}") for index in range(4)]
    b = [submit(house, bob, f"b{index}") for index in range(4)]
    order = lambda: [int(name.split("-")[1]) for name in house.queue.draw.rq.get_job_ids()]  # noqa: E731
    before = order()
    assert f"#{a[3].id} queued" in say(house, ann, f"/priority high {a[3].id}")
    assert [one for one in order() if one in {x.id for x in b}] == [x.id for x in b]
    mine = [one for one in order() if one in {x.id for x in a}]
    assert mine == [a[3].id, a[0].id, a[1].id, a[2].id]
    places = lambda ids: [i for i, one in enumerate(order()) if one in ids]  # noqa: E731
    own = {x.id for x in a}
    assert places(own) == [i for i, one in enumerate(before) if one in own], "no place of bob's"
    say(house, ann, f"/priority low {a[0].id}")
    assert [one for one in order() if one in own] == [a[3].id, a[1].id, a[2].id, a[0].id]
    late = submit(house, ann, "a9", priority="high")
    assert [one for one in order() if one in own | {late.id}][:2] == [a[3].id, late.id]
    with pytest.raises(NotAllowed, match="Only the person"):
        say(house, bob, f"/priority high {a[1].id}")
    with pytest.raises(UserError, match="must be one of low, normal, high"):
        say(house, ann, "/priority urgent")
    with pytest.raises(UserError, match="needs level, such as /priority high 12"):
        say(house, ann, "/priority")


def test_a_moderator_puts_a_picture_first_and_it_stays_so(house: House) -> None:
    ann, host = Asker("web", "a"), Asker("web", "m", trusted=True)
    made = [submit(house, ann, f"a{index}") for index in range(3)]
    late = submit(house, Asker("web", "b"), "b")
    assert "place 1" in say(house, host, f"/first {made[2].id}")
    assert house.queue.draw.rq.get_job_ids()[0] == made[2].job
    with pytest.raises(NotAllowed, match="Only a moderator"):
        say(house, ann, f"/first {made[1].id}")
    house.queue.redis.flushall()  # The line is rebuilt from the rows.
    house.mending.sweep()
    assert house.queue.draw.rq.get_job_ids()[0] == made[2].job
    assert house.queue.length() == 4 and late.job in house.queue.draw.rq.get_job_ids()


def test_a_class_that_was_taken_away_is_the_lightest(rules: Callable[[str], None]) -> None:
    assert parse(CLASSES).of_class("gone").weight == 1
    assert Policy().of_class("gone").weight == 1


# Moderators


def test_whoever_moderates_a_chat_of_their_own_moderates_nothing_else(
    house: House, rules: Callable[[str], None]
) -> None:
    rules(CLASSES)
    bob = Asker("telegram", "2", chat="telegram:chat:-1")
    mallory = Asker("telegram", "6", moderator=True, chat="telegram:chat:-666")
    made = submit(house, bob, "b1")
    with pytest.raises(NotFound):
        say(house, mallory, f"/show {made.id}")
    for line in (f"/cancel {made.id}", f"/retry {made.id}", f"/first {made.id}"):
        with pytest.raises((NotAllowed, NotFound)):
            say(house, mallory, line)
    assert submit(house, mallory, "m1").class_name == "fast", "no moderators' class either"
    admin = Asker("telegram", "7", moderator=True, chat="telegram:chat:-1")
    assert "queued" in say(house, admin, f"/show {made.id}")
    assert run(house, "cancel", Ask(admin, "c", {}, {"id": str(made.id)})).generation


def test_a_guilds_moderator_moderates_all_of_the_guild(house: House) -> None:
    address = {"channel": "5", "guild": "1"}
    ann = Asker("discord", "1", chat="discord:channel:5", places=("discord:guild:1",))
    made = house.generations.submit(validate({"prompt": "a fox"}), ann, "e1", address)
    other = Asker("discord", "2", moderator=True, chat="discord:channel:9")
    with pytest.raises(NotAllowed):
        house.generations.cancel(made.id, replace(other, places=("discord:guild:2",)))
    house.generations.cancel(made.id, replace(other, places=("discord:guild:1",)))


def test_the_host_may_list_a_role(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWQUEUE_MODERATORS", "discord:role:7, telegram:5")
    settings._read.cache_clear()
    assert house.known(Asker("discord", "1", places=("discord:role:7",))).trusted
    assert house.known(Asker("telegram", "5")).trusted
    assert not house.known(Asker("discord", "5", places=("discord:role:8",))).trusted


# What a review found


def test_retrying_dodges_no_limit(house: House, rules: Callable[[str], None]) -> None:
    ann = Asker("web", "a")
    old = submit(house, ann, "e1", steps=100)
    house.generations.cancel(old.id, ann)
    with house.database.write() as connection:
        connection.execute(update(generations).values(created=now() - timedelta(days=3)))
        connection.execute(update(usage).values(day="2020-01-01"))
    rules("[classes.fast]\nmembers=['everyone']\njobs_per_day=1\nsteps=100\n")
    submit(house, ann, "e2")
    with pytest.raises(TooMuch, match="1 of 1 pictures today"):
        house.generations.redo(old.id, ann, "r")
    rules("[classes.fast]\nmembers=['everyone']\nsteps=10\n")
    with pytest.raises(InvalidOptions, match="at most 10 steps"):
        house.generations.redo(old.id, ann, "r")
    rules("[line]\nlongest=1\n")
    with pytest.raises(TooMuch, match="The queue is full"):
        house.generations.redo(old.id, ann, "r")
    rules("[line]\ncooldown=60\n")
    with pytest.raises(TooMuch, match="One request every"):
        house.generations.redo(old.id, ann, "r")


def test_a_night_without_workers_is_charged_to_nobody(house: House) -> None:
    ann = Asker("web", "a")
    made = submit(house, ann, "e1")
    assert house.generations.claim(made.id)
    with house.database.write() as connection:
        connection.execute(update(generations).values(started=now() - timedelta(hours=8)))
    house.generations.cancel(made.id, ann)
    assert spent(house, "web:a") == 600, "as long as a drawing may take"


def test_what_is_held_is_let_go_one_by_one(house: House, rules: Callable[[str], None]) -> None:
    rules("[classes.fast]\nmembers=['everyone']\nrunning=1\n")
    ann = Asker("web", "a")
    made = [submit(house, ann, f"e{index}") for index in range(8)]
    drawn = take(house)
    assert drawn
    while house.queue.length():
        assert take(house) is None
    for _ in range(7):
        house.generations.finish(drawn, [], 1.0)
        house.mending.sweep()
        drawn = take(house)
        assert drawn
        house.mending.sweep()
        assert house.queue.length() == 0
    assert max(house.generations.get(one.id).attempt for one in made) == 2
