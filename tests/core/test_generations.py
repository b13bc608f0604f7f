"""A generation's life over real databases and a real Valkey."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import timedelta

import pytest
from rq.executions import Execution
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from core import commands, mending, settings
from core import generations as module
from core.asking import Ask
from core.commands import press, run
from core.database import generations, now
from core.errors import NotAllowed, NotFound, UserError
from core.generations import FIRST_EDITOR
from core.house import House
from core.keeping import forget
from core.lifecycle import MOVES, State
from core.options import Request, validate
from core.people import Asker
from core.queue import REVISIONS
from core.rows import HELD, Generation
from tests.core.test_pictures import png

DAY = timedelta(days=1)
FOX = Request("a fox", "", 64, 64, 5, 5.0, 1, "Euler", "pattern", 1)


def submit(house: House, asker: Asker, event: str = "e1", prompt: str = "a fox") -> Generation:
    return house.generations.submit(validate({"prompt": prompt}), asker, event, {"chat": "c"})


def taken(house: House, one: Generation) -> Generation | None:
    """Take a job out of RQ's list and claim it, as a worker does."""
    assert house.queue.redis.lrem(house.queue.draw.rq.key, 1, one.job)
    return house.generations.claim(one.id, one.job)


def later(house: House, seconds: float) -> None:
    """Let the rows believe that they are older."""
    with house.database.write() as connection:
        connection.execute(
            update(generations).values(
                created=now() - timedelta(seconds=seconds),
                started=now() - timedelta(seconds=seconds),
            )
        )


def test_submit_commits_and_stands_in_line(house: House, ann: Asker) -> None:
    made = submit(house, ann)
    assert made.state == State.QUEUED
    assert house.queue.draw.rq.get_job_ids() == [f"generation-{made.id}-1"]
    assert house.generations.standing(made).place == 1  # type: ignore[union-attr]


def test_an_event_that_comes_twice_is_accepted_once(house: House, ann: Asker) -> None:
    assert submit(house, ann).id == submit(house, ann).id
    assert house.queue.length() == 1


def test_a_life(house: House, ann: Asker) -> None:
    made = submit(house, ann)
    claimed = house.generations.claim(made.id)
    assert claimed and claimed.state == State.GENERATING
    assert house.generations.claim(made.id) is None
    done = house.generations.finish(claimed, [{"key": "k", "seed": 1}], 2.0)
    assert done and done.state == State.DONE and done.version == 3
    assert house.generations.finish(claimed, [], 2.0) is None


def test_a_cancel_racing_a_finish_ends_in_one_of_the_two(house: House, ann: Asker) -> None:
    for round_ in range(10):
        made = submit(house, ann, f"e{round_}")
        claimed = house.generations.claim(made.id)
        assert claimed
        with ThreadPoolExecutor(2) as pool:
            finishing = pool.submit(house.generations.finish, claimed, [], 1.0)
            cancelling = pool.submit(house.generations.cancel, made.id, ann)
        finished = finishing.result() is not None
        refused = isinstance(cancelling.exception(), NotAllowed)
        assert finished == refused
        assert house.generations.get(made.id).state == ("done" if finished else "cancelled")


def test_retry_of_a_failure_is_the_same_id(house: House, ann: Asker) -> None:
    made = submit(house, ann)
    claimed = house.generations.claim(made.id)
    assert claimed
    house.generations.fail(claimed, "words")
    again = house.generations.redo(made.id, ann, "r1")
    assert (again.id, again.attempt, again.state, again.error) == (made.id, 2, "queued", None)
    assert f"generation-{made.id}-2" in house.queue.draw.rq.get_job_ids()
    assert house.generations.finish(claimed, [], 1.0) is None, "the first attempt is fenced off"


def test_retry_of_a_finished_one_is_a_child_with_the_same_request(house: House, ann: Asker) -> None:
    made = submit(house, ann)
    claimed = house.generations.claim(made.id)
    assert claimed
    house.generations.finish(claimed, [], 1.0)
    child = house.generations.redo(made.id, ann, "r1")
    assert child.parent == made.id and child.request == made.request
    other = house.generations.redo(made.id, ann, "r2", new_seed=True)
    assert other.request.seed != made.request.seed


def test_only_the_asker_or_a_moderator_presses(house: House, ann: Asker) -> None:
    made = submit(house, ann)
    stranger = Ask(Asker("web", "bob"), "p1", {}, {})
    with pytest.raises(NotAllowed):
        press(house, "cancel", made.id, stranger)
    with pytest.raises(NotFound):
        house.generations.visible(made.id, stranger.asker)
    moderator = Ask(Asker("web", "bob", trusted=True), "p2", {}, {})
    assert press(house, "cancel", made.id, moderator).generation.state == "cancelled"  # type: ignore[union-attr]
    assert house.queue.length() == 0


def test_retry_command_answers_the_id_that_will_run(house: House, ann: Asker) -> None:
    made = submit(house, ann)
    house.generations.cancel(made.id, ann)
    reply = run(house, "retry", Ask(ann, "e2", {}, {"id": f"#{made.id}"}))
    assert reply.generation and reply.generation.id == made.id and not reply.fresh


# The sweep


def test_a_lost_enqueue_is_found(house: House, ann: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.generations, "line_up", lambda _generation: None)
    made = submit(house, ann)
    monkeypatch.undo()
    assert house.queue.length() == 0
    later(house, 10)
    assert house.mending.sweep() == 1
    assert house.queue.draw.rq.get_job_ids() == [made.job]


def test_redis_emptied_is_rebuilt_and_a_delete_is_a_cancel(house: House, ann: Asker) -> None:
    first, second = submit(house, ann), submit(house, ann, "e2")
    house.mending.sweep()
    house.queue.forget(first.id, 1)  # what rq-dashboard's Delete leaves
    house.mending.sweep()
    assert house.generations.get(first.id).state == State.CANCELLED
    assert house.generations.get(second.id).state == State.QUEUED
    house.queue.redis.flushall()
    house.mending.sweep()
    assert house.generations.get(second.id).state == State.QUEUED
    assert house.queue.draw.rq.get_job_ids() == [second.job]


def test_an_operators_requeue_is_failed_to_queued(house: House, ann: Asker) -> None:
    made = submit(house, ann)
    house.queue.draw.rq.pop_job_id()
    claimed = house.generations.claim(made.id)
    assert claimed
    house.generations.fail(claimed, "words")
    house.queue.redis.rpush(house.queue.draw.rq.key, made.job)
    house.mending.sweep()
    assert house.generations.get(made.id).state == State.QUEUED


def test_a_dead_workers_job_goes_back_and_fails_after_its_tries(house: House, ann: Asker) -> None:
    made = submit(house, ann)
    for _ in range(len(module.PAUSES) + 1):
        current = house.generations.get(made.id)
        house.queue.draw.rq.pop_job_id()
        assert house.generations.claim(made.id)
        house.mending.sweep()
        assert house.generations.get(made.id).state == State.GENERATING, "its worker is alive"
        house.queue.redis.delete(f"drawqueue:alive:{current.job}")
        later(house, 30)
        house.mending.sweep()
    ended = house.generations.get(made.id)
    assert ended.state == State.FAILED and "3 times" in str(ended.error)


def test_a_card_has_one_editor_at_a_time(house: House, ann: Asker) -> None:
    made = submit(house, ann)
    assert not house.showing.lease(made.id, "a"), "who asked draws it first"
    house.showing.place(made, "m")
    assert house.showing.lease(made.id, "a")
    assert not house.showing.lease(made.id, "b")
    house.showing.shown(made.id, "a", version=made.version, message="m1")
    assert house.showing.lease(made.id, "b")
    assert house.generations.get(made.id).message == "m1"


def test_events_tell_what_changed(house: House, ann: Asker) -> None:
    from core import events

    before = events.latest(house.queue.redis)
    made = submit(house, ann)
    _, ids = events.wait(house.queue.redis, before, 1)
    assert ids == {made.id}


def test_moves_never_leave_done() -> None:
    assert not MOVES[State.DONE]
    assert all(target != source for source, targets in MOVES.items() for target in targets)


def test_accepting_is_quick(house: House, ann: Asker) -> None:
    begun = time.perf_counter()
    for number in range(20):
        submit(house, ann, f"q{number}")
    assert (time.perf_counter() - begun) / 20 < 0.25


def test_a_long_queue_is_told_in_short_and_what_is_pending_has_one_card(
    house: House, ann: Asker
) -> None:
    for number in range(20):
        submit(house, ann, f"long {number}")
    told = commands.run(house, "queue", Ask(ann, "q", {}, {})).text
    assert "… and 5 more." in told and told.splitlines()[-1].startswith("In all: 20 queued")
    assert told.startswith("#1 queued (place 1"), "those drawn next, not those asked for last"
    shown = commands.run(house, "show", Ask(ann, "s", {}, {"id": "3"}))
    assert shown.generation is None and shown.text.startswith("#3 queued (place 3")


def test_what_is_pending_comes_in_the_order_it_is_drawn(house: House, ann: Asker) -> None:
    made = [submit(house, ann, f"e{number}").id for number in range(60)]
    house.generations.move(made[58], ann, 2)
    assert house.generations.claim(made[59])
    wanted = [made[59], made[58], *made[:58]]
    assert [one.id for one in house.generations.pending(ann)] == wanted
    assert [one.id for one in house.generations.pending(ann, 2)] == wanted[:2]


def test_cancel_all_cancels_ones_own_and_tells_how_many(house: House, ann: Asker) -> None:
    made = [submit(house, ann, f"e{number}") for number in range(60)]
    others = submit(house, Asker("web", "bob"), "bobs")
    drawn = taken(house, made[0])
    assert drawn
    told = commands.run(house, "cancel", Ask(ann, "c", {}, {"id": " All "})).text
    assert told == "60 pictures are cancelled."
    assert house.generations.pending(ann) == []
    assert house.queue.draw.rq.get_job_ids() == [others.job]
    assert not house.queue.beat(drawn.id, drawn.attempt, 0.5), "its worker stops"
    with pytest.raises(UserError, match="nothing to cancel"):
        commands.run(house, "cancel", Ask(ann, "c2", {}, {"id": "all"}))
    submit(house, ann, "one more")
    told = commands.run(house, "cancel", Ask(ann, "c3", {}, {"id": "all"})).text
    assert told == "1 picture is cancelled."


def test_cancel_all_begins_none_that_was_held(
    house: House, ann: Asker, rules: Callable[[str], None]
) -> None:
    rules("[classes.fast]\nmembers=['everyone']\nrunning=1\n")
    made = [submit(house, ann, f"e{number}") for number in range(2)]
    assert taken(house, made[0])
    assert taken(house, made[1]) is None, "held"
    assert house.generations.cancel_all(ann) == 2
    assert house.queue.draw.rq.get_job_ids() == []
    assert house.generations.get(made[1].id).enqueued == HELD, "it never came into line"


def test_a_submit_after_redis_was_emptied_cancels_nobody(house: House, ann: Asker) -> None:
    first, second = submit(house, ann, "e1"), submit(house, ann, "e2")
    drawn = submit(house, ann, "e3")
    assert house.generations.claim(drawn.id)
    house.queue.redis.flushall()
    house.queue.beat(drawn.id, 1, 0.5)  # Its worker never noticed.
    third = submit(house, ann, "e4")
    for _ in range(2):
        house.mending.sweep()
    states = [house.generations.get(one.id).state for one in (first, second, third)]
    assert states == [State.QUEUED] * 3
    assert sorted(house.queue.draw.rq.get_job_ids()) == sorted([first.job, second.job, third.job])
    assert house.generations.get(drawn.id).state == State.GENERATING


def test_a_requeued_job_is_drawn_though_a_worker_takes_it_at_once(house: House, ann: Asker) -> None:
    made = submit(house, ann)
    claimed = house.generations.claim(made.id, made.job)
    assert claimed
    house.generations.fail(claimed, "words")
    assert house.generations.claim(made.id) is None
    again = house.generations.claim(made.id, made.job)
    assert again and again.state == State.GENERATING and again.error is None


def test_a_retry_brings_a_lost_card_back(house: House, ann: Asker) -> None:
    made = house.generations.submit(
        validate({"prompt": "x"}), ann, "e", {"channel": "1", "token": "old"}, message="9"
    )
    house.generations.cancel(made.id, ann)
    house.showing.shown(made.id, FIRST_EDITOR, undeliverable="gone")
    assert house.showing.stale(["web"]) == []
    house.generations.redo(made.id, ann, "r", address={"channel": "1", "token": "new"})
    (card,) = house.showing.stale(["web"])
    assert card.address["token"] == "new"


def test_what_is_drawn_is_shown_before_those_who_wait(house: House, ann: Asker) -> None:
    made = [submit(house, ann, f"e{number}") for number in range(4)]
    for one in made:
        house.showing.place(one, str(one.id))
    assert house.generations.claim(made[3].id)
    assert [one.id for one in house.showing.stale(["web"], limit=1)] == [made[3].id]


def test_a_job_of_somebody_elses_stops_no_sweep(house: House) -> None:
    house.queue.redis.rpush(house.queue.draw.rq.key, "generation-foo", "generation-99999999999-1")
    house.mending.sweep()


def test_a_passing_fault_is_tried_again_after_growing_pauses(
    house: House, ann: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSES", (timedelta(seconds=1.5), timedelta(seconds=2)))
    made = submit(house, ann)
    behind = submit(house, ann, "e2")
    for pause in (1.5, 2):
        claimed = house.generations.claim(made.id)
        assert claimed
        again = house.generations.restart(claimed, "The engine crashed.", at_once=False)
        assert again and again.state == State.QUEUED
        assert "The engine crashed. I try again." in house.card(again).notice
        assert house.mending.sweep() == 0 and again.job not in house.queue.draw.rq.get_job_ids()
        time.sleep(pause + 0.1)
        assert house.mending.sweep() == 1
        assert house.queue.draw.rq.get_job_ids() == [again.job, behind.job], (
            "it had its turn already"
        )
        house.queue.redis.lpop(house.queue.draw.rq.key)
    claimed = house.generations.claim(made.id)
    assert claimed
    failed = house.generations.restart(claimed, "The engine crashed.", at_once=False)
    assert failed and failed.state == State.FAILED and "I tried 3 times" in str(failed.error)
    assert house.generations.redo(made.id, ann, "r").due is None


def test_the_nearest_places_are_shown_first_and_the_rest_in_turn(house: House) -> None:
    made = [submit(house, Asker("web", str(index)), f"e{index}") for index in range(120)]
    for one in made:
        house.showing.place(one, str(one.id))
    house.queue._looked = float("-inf")
    line = [int(name.split("-")[1]) for name in house.queue.draw.rq.get_job_ids()]
    seen: set[int] = set()
    for _ in range(70):
        found = [one.id for one in house.showing.stale(["web"])]
        assert found[:40] == line[:40] and len(found) == 60
        seen |= set(found)
    assert seen == set(line), "every place is shown anew now and then"
    final = house.generations.cancel(made[100].id, Asker("web", "100"))
    assert house.showing.stale(["web"])[0].id == final.id


def test_a_job_whose_worker_died_before_it_claimed_is_found(
    house: House, ann: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mending, "LOST_SECONDS", 0.3)
    made, behind = submit(house, ann), submit(house, ann, "e2")
    house.queue.redis.lpop(house.queue.draw.rq.key)  # And then the worker is killed.
    assert house.mending.sweep() == 0, "it may be claiming it this moment"
    time.sleep(0.4)
    assert house.mending.sweep() == 1
    again = house.generations.get(made.id)
    assert (again.state, again.attempt) == (State.QUEUED, 2)
    assert house.queue.draw.rq.get_job_ids() == [again.job, behind.job], "it was its turn"
    assert house.generations.claim(made.id)


def test_a_job_that_waits_to_be_claimed_is_not_taken_for_an_operators_delete(
    house: House, ann: Asker
) -> None:
    """A worker took it, and waits for its database; the sweep is quicker."""
    made = submit(house, ann)
    rq = house.queue.draw.rq
    rq.dequeue_any([rq], None, connection=house.queue.redis, serializer=rq.serializer)
    with house.queue.redis.pipeline() as pipe:
        Execution.create(rq.fetch_job(made.job), 60, pipe)
        pipe.execute()
    assert house.queue.begun() == [(made.id, 1)]
    house.mending.sweep()
    assert house.generations.claim(made.id, made.job)
    house.mending.sweep()
    assert house.generations.get(made.id).state == State.GENERATING


def test_an_emptied_redis_kills_no_drawing_that_goes_on(
    house: House, ann: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker says that it is alive every few seconds, and has not yet again."""
    made = submit(house, ann)
    claimed = house.generations.claim(made.id)
    assert claimed
    with house.database.write() as connection:
        connection.execute(update(generations).values(started=now() - timedelta(minutes=1)))
    house.queue.redis.flushall()
    house.mending.sweep()
    assert house.generations.get(made.id).attempt == 1
    monkeypatch.setattr("core.queue.ALIVE_SECONDS", 0)
    house.mending.sweep()
    assert house.generations.get(made.id).attempt == 2, "now it had time enough"


def test_an_attempt_that_is_over_changes_nothing(house: House, ann: Asker) -> None:
    """A worker that was taken for dead comes back, while another one draws."""
    first = house.generations.claim(submit(house, ann).id)
    assert first and house.generations.restart(first, "It was gone.")
    second = house.generations.claim(first.id)
    assert second and second.attempt == 2
    assert house.generations.tell(first, "I am back.") is None
    assert house.generations.restart(first, "It is gone again.") is None
    assert house.generations.fail(first, "It could not.") is None
    assert house.generations.finish(first, [{"key": "old"}], 1.0) is None
    won = house.generations.finish(second, [{"key": "new"}], 1.0)
    assert won and won.results == ({"key": "new"},)


def test_rows_of_an_older_or_newer_version_are_read(house: House, ann: Asker) -> None:
    made = submit(house, ann)
    kept = {**asdict(made.request), "an_option_of_tomorrow": 3}
    with house.database.write() as connection:
        connection.execute(update(generations).values(request=kept, person="", class_name=""))
    read = house.generations.get(made.id)
    assert read.request == made.request and read.user == "web:ann"
    assert house.generations.claim(made.id), "a class that nobody noted is the lightest"


def test_one_chats_flood_hides_no_other_chats_cards(house: House) -> None:
    for index in range(90):
        loud = Asker("web", "loud", chat="web:chat:loud")
        made = house.generations.accept([FOX], loud, f"l{index}", {}, 1)[0]
        house.showing.place(made, f"l{index}")
        house.generations.cancel(made.id, loud)
    other = house.generations.accept([FOX], Asker("web", "o", chat="web:chat:o"), "o", {}, 1)[0]
    house.showing.place(other, "o")
    house.generations.cancel(other.id, Asker("web", "o"))
    assert other.id in {one.id for one in house.showing.stale(["web"], 80)}


def test_one_row_that_nobody_can_read_keeps_no_other_from_being_mended(
    house: House, ann: Asker
) -> None:
    bad, good = submit(house, ann), submit(house, ann, "e2")
    with house.database.write() as connection:
        connection.execute(
            update(generations).where(generations.c.id == bad.id).values(request={"odd": 1})
        )
    house.queue.redis.flushall()
    house.mending.sweep()
    assert good.job in house.queue.draw.rq.get_job_ids()


def test_a_job_of_an_attempt_that_is_over_draws_nothing(house: House, ann: Asker) -> None:
    made = submit(house, ann)
    house.generations.cancel(made.id, ann)
    again = house.generations.redo(made.id, ann, "r")
    assert house.generations.claim(made.id, made.job) is None
    assert house.generations.claim(made.id, again.job)


def test_a_card_has_one_message(house: House, ann: Asker) -> None:
    made = submit(house, ann)
    assert house.showing.place(made, "m1")
    assert not house.showing.place(made, "m2"), "who came late"
    assert house.generations.get(made.id).message == "m1"


def test_what_is_committed_is_accepted_though_the_database_is_slow_then(
    house: House, ann: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue = house.queue.draw.enqueue

    def then_locked(*given: object, **named: object) -> None:
        enqueue(*given, **named)  # type: ignore[arg-type]

        def locked() -> None:
            raise OperationalError("locked", None, Exception())

        monkeypatch.setattr(house.database, "write", locked)

    monkeypatch.setattr(house.queue.draw, "enqueue", then_locked)
    made = submit(house, ann)
    monkeypatch.undo()
    assert house.generations.get(made.id).state == State.QUEUED and house.queue.length() == 1


def test_the_same_request_is_answered_from_the_storage_at_once(house: House, ann: Asker) -> None:
    wanted = validate({"prompt": "a fox", "seed": 7, "count": 2})
    one = house.generations.submit(wanted, ann, "one", {})
    claimed = house.generations.claim(one.id)
    assert claimed
    results = [{"key": house.media.save(one.id, f"{at}.png", b"x"), "seed": at} for at in (7, 8)]
    assert house.generations.finish(claimed, results, 3.0, "revision 1")
    spent = house.generations.admission.quota(ann)
    again = house.generations.submit(wanted, ann, "two", {"channel": "5"})
    assert again.state == State.DONE and again.charged == 0
    assert [result["key"] for result in again.results] == [result["key"] for result in results]
    assert "drawn before" in house.card(again).status
    assert house.generations.admission.quota(ann) == spent, "it costs nothing"
    assert house.queue.status(again.id, again.attempt) is None, "and waits in no line"
    # A poster shows it, should whoever asked not come to it.
    house.showing.release([again.id])
    assert again.id in [found.id for found in house.showing.stale([ann.platform])]
    # The pictures live as long as anybody's row does.
    with house.database.write() as connection:
        connection.execute(
            update(generations).where(generations.c.id == one.id).values(ended=now() - DAY * 40)
        )
    assert forget(house, DAY * 30) == 1
    assert house.media.load(str(results[0]["key"])) == b"x"


def test_a_picture_that_is_brought_again_is_the_same_request(house: House, ann: Asker) -> None:
    def asked(event: str, colour: str, mask: str = "white") -> Generation:
        brought = [house.uploads.keep(png(64, 64, one)) for one in (colour, mask)]
        given = {"prompt": "a fox", "seed": "7"}
        made = run(house, "inpaint", Ask(ann, event, {}, given, pictures=tuple(brought))).generation
        assert made
        return made

    one = asked("one", "navy")
    claimed = house.generations.claim(one.id)
    assert claimed
    results = [{"key": house.media.save(one.id, "0.png", b"x"), "seed": 7}]
    assert house.generations.finish(claimed, results, 3.0, "revision 1")
    again = asked("two", "navy")
    assert again.state == State.DONE and again.results[0]["key"] == results[0]["key"]
    assert again.request.sources != one.request.sources, "nobody is told a key of another's"
    for event, colour, mask in (("three", "red", "white"), ("four", "navy", "#ddd")):
        assert asked(event, colour, mask).state == State.QUEUED


@pytest.mark.parametrize(
    "other", [{"seed": 8}, {"steps": 9}, {"prompt": "a hen"}, {"count": 1}, {"tile": True}]
)
def test_another_request_is_drawn(house: House, ann: Asker, other: dict[str, object]) -> None:
    given = {"prompt": "a fox", "seed": 7, "count": 2}
    one = house.generations.submit(validate(given), ann, "one", {})
    claimed = house.generations.claim(one.id)
    assert claimed
    kept = [{"key": house.media.save(one.id, "1.png", b"x"), "seed": 7}]
    assert house.generations.finish(claimed, kept, 3.0, "revision 1")
    assert house.generations.submit(validate({**given, **other}), ann, "2", {}).state == "queued"


def test_what_was_drawn_otherwise_or_is_gone_is_drawn_anew(
    house: House, ann: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = validate({"prompt": "a fox", "seed": 7})
    one = house.generations.submit(wanted, ann, "one", {})
    claimed = house.generations.claim(one.id)
    assert claimed
    key = house.media.save(one.id, "1.png", b"x")
    assert house.generations.finish(claimed, [{"key": key, "seed": 7}], 3.0, "revision 1")
    asked = iter(range(9))

    def state() -> State:
        return house.generations.submit(wanted, ann, f"again {next(asked)}", {}).state

    assert state() == State.DONE
    house.queue.redis.hset(REVISIONS, "pattern", "revision 2")
    assert state() == State.QUEUED, "another revision of the model"
    house.queue.redis.hset(REVISIONS, "pattern", "revision 1")
    assert state() == State.DONE
    monkeypatch.setenv("DRAWQUEUE_REUSE", "false")
    settings._read.cache_clear()
    assert state() == State.QUEUED, "turned off"
    monkeypatch.delenv("DRAWQUEUE_REUSE")
    settings._read.cache_clear()
    house.media.delete(key)
    assert state() == State.QUEUED, "its file is gone"
