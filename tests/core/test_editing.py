"""Changing what waits: the same job in the same place, at another cost, over real parts."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select

from core import catalog, editing
from core.asking import Ask, Reply
from core.commands import from_text, press, run
from core.database import now, usage
from core.errors import InvalidOptions, NotAllowed, NotFound, TooMuch, UserError
from core.house import House
from core.lifecycle import State
from core.media import Source
from core.options import Mode, Request
from core.people import Asker
from core.policy import policy
from core.receipts import sealed
from core.rows import HELD, Generation
from tests.core.test_pictures import png

BOB = Asker("web", "bob", "Bob")
# Seconds that a step of a picture of 256 by 256 takes here.
STEP = 0.5


def ask(house: House, line: str, asker: Asker, event: str = "") -> Generation:
    name, given, faults = from_text(line)
    made = run(house, name, Ask(asker, event or line, {"chat": "c"}, given, faults)).generation
    assert made
    return made


def edit(house: House, number: int, words: str, asker: Asker) -> Reply:
    return run(house, "edit", Ask(asker, "edit", {}, {"id": str(number), "words": words}))


def learn(house: House) -> None:
    """Let the house know what drawings cost, exactly."""
    for steps in (8, 16, 32, 64):
        house.queue.pace.learn(
            Request("", "", 256, 256, steps, 5.0, 1, "Euler", "pattern", 1), steps * STEP
        )


def taken(house: House, one: Generation) -> Generation | None:
    """Take a job out of RQ's list and claim it, as a worker does."""
    assert house.queue.redis.lrem(house.queue.draw.rq.key, 1, one.job)
    return house.generations.claim(one.id, one.job)


def order(house: House) -> list[int]:
    return [int(name.split("-")[1]) for name in house.queue.draw.rq.get_job_ids()]


def used(house: House, who: str) -> tuple[int, float]:
    """Pictures and seconds that somebody is charged today."""
    with house.database.read() as connection:
        row = connection.execute(
            select(usage).where(usage.c.who == who, usage.c.day == policy().day(now()))
        ).one()
    return row.jobs, round(row.seconds, 6)


def test_it_is_the_same_job_with_other_words(house: House, ann: Asker) -> None:
    made = ask(house, "a fox --seed 7 --steps 12", ann)
    told = edit(house, made.id, "a wolf --steps 20 --no snow", ann)
    assert told.text == f"#{made.id} is changed. It keeps its place in line."
    now_ = house.generations.get(made.id)
    assert now_.request == replace(
        made.request, prompt="a wolf", steps=20, negative_prompt="snow"
    ), "with its seed, as nobody said another"
    assert (now_.version, now_.attempt, now_.job) == (made.version + 1, 1, made.job)
    assert house.queue.draw.rq.get_job_ids() == [made.job]
    assert house.queue.draw.rq.fetch_job(made.job).description == f"#{made.id} a wolf"  # type: ignore[union-attr]
    drawn = taken(house, now_)
    assert drawn and drawn.request == now_.request, "what is drawn is what the row says"


def test_a_seed_that_is_said_counts(house: House, ann: Asker) -> None:
    made = ask(house, "a fox --seed 7", ann)
    edit(house, made.id, "a fox --seed 8", ann)
    assert house.generations.get(made.id).request.seed == 8
    edit(house, made.id, "a fox --seed -1", ann)
    assert house.generations.get(made.id).request.seed != 8, "another one, by chance"


def test_its_place_in_line_stays_whatever_it_costs(house: House, ann: Asker) -> None:
    learn(house)
    mine = [ask(house, f"a fox {number} --steps 8", ann) for number in range(3)]
    others = [ask(house, f"a crown {number} --steps 8", BOB) for number in range(3)]
    line = [mine[0], others[0], mine[1], others[1], mine[2], others[2]]
    assert order(house) == [one.id for one in line]
    edit(house, mine[0].id, "a fox --steps 64", ann)
    changed = order(house)
    assert changed.index(mine[0].id) == 0, "it stays where it is"
    # Its person's others wait as if it had been asked for so: behind whoever asked for less.
    assert changed == [mine[0].id, *(one.id for one in others), mine[1].id, mine[2].id]
    newcomer = Asker("web", "cleo")
    edit(house, mine[0].id, "a fox --steps 8", ann)
    assert order(house) == [one.id for one in line], "and back"
    last = ask(house, "a boat --steps 8", newcomer)
    assert order(house).index(last.id) <= 2, "nobody pays for anybody else"
    cost = house.queue.draw.rq.claims([mine[0].job])[0].cost
    assert cost == pytest.approx(8 * STEP, rel=0.01)


def test_one_in_the_middle_stays_between_its_neighbours(house: House, ann: Asker) -> None:
    learn(house)
    mine = [ask(house, f"a fox {number} --steps 8", ann) for number in range(4)]
    before = order(house)
    for steps in (64, 1, 32, 8):
        edit(house, mine[1].id, f"a wolf --steps {steps}", ann)
        assert order(house) == before


@pytest.mark.parametrize("many", [3, 150])
def test_however_many_stand_behind_it(house: House, ann: Asker, many: int) -> None:
    """Above core.fair.FEW the list is written anew."""
    learn(house)
    mine = [ask(house, f"a fox {number} --steps 8", ann) for number in range(many)]
    ask(house, "a crown --steps 8", BOB)
    edit(house, mine[0].id, "a wolf --steps 64", ann)
    assert order(house)[0] == mine[0].id and sorted(order(house)) == list(range(1, many + 2))
    assert [one for one in order(house) if one <= many] == [one.id for one in mine]


def test_the_difference_is_settled(house: House, ann: Asker) -> None:
    learn(house)
    made = ask(house, "a fox --steps 8", ann)
    assert used(house, "web:ann") == (1, 8 * STEP)
    edit(house, made.id, "a fox --steps 32", ann)
    assert used(house, "web:ann") == (1, 32 * STEP), "one picture, but a dearer one"
    edit(house, made.id, "a fox --steps 16", ann)
    assert used(house, "web:ann") == (1, 16 * STEP)
    drawn = taken(house, house.generations.get(made.id))
    assert drawn and house.generations.finish(drawn, [], 5.0)
    assert used(house, "web:ann") == (1, 5.0)


def test_a_cancel_that_looked_before_the_edit_gives_back_what_the_edit_charged(
    house: House, ann: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn(house)
    made = ask(house, "a fox --steps 8", ann)
    edit(house, made.id, "a fox --steps 64", ann)
    monkeypatch.setattr(house.generations, "get", lambda _number: made)
    assert house.generations.cancel(made.id, ann)
    assert used(house, "web:ann") == (1, 0.0)


QUOTA = """
[classes.fast]
members = ["everyone"]
seconds_per_day = 20
"""


def test_a_dearer_one_that_does_not_fit_is_refused_and_the_old_one_stays(
    house: House, ann: Asker, rules: Callable[[str], None]
) -> None:
    rules(QUOTA)
    learn(house)
    made = ask(house, "a fox --steps 8", ann)
    ask(house, "a crown --steps 16", ann)
    with pytest.raises(TooMuch, match=r"You have used 12 s of 20 s of drawing today; this would "
                                      r"take about 12 s more\. It renews in"):  # fmt: skip
        edit(house, made.id, "a wolf --steps 32", ann)
    assert house.generations.get(made.id).request == made.request
    assert used(house, "web:ann") == (2, 12.0)
    edit(house, made.id, "a wolf --steps 16", ann)
    assert used(house, "web:ann") == (2, 16.0)


def test_neither_the_cooldown_nor_a_full_line_stands_in_the_way(
    house: House, ann: Asker, rules: Callable[[str], None]
) -> None:
    rules("[classes.fast]\nmembers = ['everyone']\nqueued = 1\njobs_per_day = 1\n"
          "[line]\ncooldown = 1000\nlongest = 1\n")  # fmt: skip
    made = ask(house, "a fox", ann)
    assert "is changed" in edit(house, made.id, "a wolf", ann).text


def test_what_the_policy_refuses_is_refused(
    house: House, ann: Asker, rules: Callable[[str], None]
) -> None:
    made = ask(house, "a fox", ann)
    rules("[classes.fast]\nmembers = ['everyone']\nsteps = 20\n[words]\nrefuse = ['wolf']\n")
    with pytest.raises(NotAllowed, match="does not draw “wolf”"):
        edit(house, made.id, "a Wolf", ann)
    with pytest.raises(InvalidOptions, match="at most 20 steps; asked: 21"):
        edit(house, made.id, "a fox --steps 21", ann)
    rules("[access]\nblock = ['web:ann']\n")
    with pytest.raises(NotAllowed, match="does not let you draw"):
        edit(house, made.id, "a crown", ann)
    assert house.generations.get(made.id).request == made.request


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("a fox --steps 999 --wings 2", r"no --wings[\s\S]*1 to 150"),
        ("--seed 3", "Write what to draw"),
        ("{red, green} bird", "That makes 2 pictures, and #1 is one"),
        ("a fox --repeat 3", "That makes 3 pictures, and #1 is one"),
        ("a fox --strength 0.5", "--strength is for /remix"),
        ("a fox --from 2", "not the pictures that it begins with"),
        ("https://a.example/x.png a fox", "not the pictures that it begins with"),
        ("a fox --priority high", "/priority high 1 moves it"),
        ("/remix a fox", "#1 was asked for by /imagine"),
        ("/queue", "#1 was asked for by /imagine"),
        ("a fox --width 2048", "at most 1024 pixels"),
        ("x" * 4001, "4001 characters"),
    ],
)
def test_what_no_new_one_could_say_is_refused_in_words(
    house: House, ann: Asker, words: str, said: str
) -> None:
    made = ask(house, "a fox", ann)
    done = ask(house, "a crown", ann)
    drawn = taken(house, done)
    key = house.media.save(done.id, "0.png", b"")
    assert drawn and house.generations.finish(drawn, [{"key": key, "width": 9, "height": 9}], 1.0)
    with pytest.raises(UserError, match=said):
        edit(house, made.id, words, ann)
    assert house.generations.get(made.id).version == made.version


def test_a_whole_line_is_taken_as_well(house: House, ann: Asker) -> None:
    made = ask(house, "a fox", ann)
    edit(house, made.id, "/draw a wolf — winter —steps 9", ann)
    changed = house.generations.get(made.id).request
    assert (changed.prompt, changed.steps) == ("a wolf — winter", 9)


def test_only_who_asked_changes_it(house: House, ann: Asker) -> None:
    made = ask(house, "a fox", ann)
    # Others, moderators too, put no words into anybody's mouth.
    for other in (BOB, Asker("web", "mia", trusted=True)):
        with pytest.raises(NotAllowed, match="Only the person who asked"):
            edit(house, made.id, "a wolf", other)
        with pytest.raises(NotAllowed, match="Only the person who asked"):
            press(house, "edit", made.id, Ask(other, "p", {}, {}))
    with pytest.raises(NotFound):
        edit(house, 99, "a wolf", ann)
    house.people.link(BOB, house.people.code(ann))
    assert "is changed" in edit(house, made.id, "a wolf", BOB).text, "one person now"


@pytest.mark.parametrize("state", ["generating", "done", "cancelled", "failed"])
def test_it_is_too_late_once_it_is_no_longer_queued(house: House, ann: Asker, state: str) -> None:
    made = ask(house, "a fox", ann)
    if state == "cancelled":
        house.generations.cancel(made.id, ann)
    else:
        drawn = taken(house, made)
        assert drawn
        if state == "done":
            house.generations.finish(drawn, [], 1.0)
        if state == "failed":
            house.generations.fail(drawn, "words")
    was = house.generations.get(made.id)
    said = "is being drawn" if state == "generating" else f"is {state}"
    with pytest.raises(NotAllowed) as told:
        edit(house, made.id, "a wolf --steps 9", ann)
    assert str(told.value) == (
        f"#{made.id} {said} already and cannot be changed any more. To have this drawn as well:\n"
        "/imagine a wolf --steps 9"
    )
    assert house.generations.get(made.id) == was
    with pytest.raises(NotAllowed, match=said):
        press(house, "edit", made.id, Ask(ann, "p", {}, {}))


def test_an_edit_racing_a_claim_ends_in_one_of_the_two(house: House, ann: Asker) -> None:
    for round_ in range(12):
        made = ask(house, f"a fox {round_}", ann)
        assert house.queue.redis.lrem(house.queue.draw.rq.key, 1, made.job)
        with ThreadPoolExecutor(2) as pool:
            jobs: list[Callable[[], Any]] = [
                lambda made=made: house.generations.claim(made.id, made.job),
                lambda made=made: edit(house, made.id, "a wolf", ann),
            ]
            claiming, editing_ = (pool.submit(job) for job in jobs)
            drawn = claiming.result()
            refused = isinstance(editing_.exception(), NotAllowed)
        row = house.generations.get(made.id)
        assert drawn and drawn.request == row.request, "what is drawn is what the row says"
        assert row.state == State.GENERATING
        assert row.request.prompt == (f"a fox {round_}" if refused else "a wolf")
        assert editing_.exception() is None or refused


def test_an_edit_of_one_that_is_held_back_is_drawn(
    house: House, ann: Asker, rules: Callable[[str], None]
) -> None:
    rules("[classes.fast]\nmembers = ['everyone']\nrunning = 1\n")
    first, second = ask(house, "a fox", ann), ask(house, "a crown", ann)
    drawn = taken(house, first)
    assert drawn and taken(house, second) is None
    assert house.generations.get(second.id).enqueued == HELD
    edit(house, second.id, "a wolf", ann)
    house.generations.finish(drawn, [], 1.0)
    claimed = taken(house, house.generations.get(second.id))
    assert claimed and claimed.request.prompt == "a wolf"


def test_an_edit_without_redis_costs_no_words(
    house: House, ann: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ask(house, "a fox", ann)
    house.queue.redis.connection_pool.disconnect()
    monkeypatch.setattr(house.queue.redis.connection_pool, "connection_kwargs", {"path": "/no"})
    assert "is changed" in edit(house, made.id, "a wolf", ann).text
    monkeypatch.undo()
    assert house.generations.get(made.id).request.prompt == "a wolf"


def test_what_was_drawn_before_is_there_at_once(house: House, ann: Asker) -> None:
    learn(house)
    old, made = ask(house, "a fox --seed 7", ann), ask(house, "a wolf --seed 7 --steps 64", ann)
    drawn = taken(house, old)
    key = house.media.save(old.id, "0.png", b"picture")
    assert drawn and house.generations.finish(drawn, [{"key": key, "seed": 7}], 2.0, "r1")
    told = edit(house, made.id, "a fox", ann)
    assert told.text == f"#{made.id} is changed. It was drawn before and is there at once."
    done = house.generations.get(made.id)
    assert done.state == State.DONE and done.results[0]["key"] == key
    assert not order(house) and used(house, "web:ann") == (2, 2.0), "and costs nothing more"
    assert house.generations.claim(made.id, made.job) is None


def test_what_an_edit_changed_is_no_answer_to_the_old_words(house: House, ann: Asker) -> None:
    made = ask(house, "a fox --seed 7", ann)
    edit(house, made.id, "a wolf", ann)
    drawn = taken(house, house.generations.get(made.id))
    key = house.media.save(made.id, "0.png", b"picture")
    assert drawn and house.generations.finish(drawn, [{"key": key, "seed": 7}], 2.0, "r1")
    assert ask(house, "/imagine a fox --seed 7", ann).state == State.QUEUED
    assert ask(house, "/imagine a wolf --seed 7", ann).state == State.DONE


def test_the_others_of_its_message_stay_as_they_are(house: House, ann: Asker) -> None:
    first = ask(house, "a {red, green, blue} fox", ann)
    edit(house, first.id + 1, "a wolf", ann)
    assert [house.generations.get(number).request.prompt for number in (1, 2, 3)] == [
        "a red fox", "a wolf", "a blue fox",
    ]  # fmt: skip


def test_retry_and_cancel_after_an_edit(house: House, ann: Asker) -> None:
    made = ask(house, "a fox --seed 7", ann)
    edit(house, made.id, "a wolf", ann)
    house.generations.cancel(made.id, ann)
    assert not order(house)
    again = house.generations.redo(made.id, ann, "r")
    assert again.id == made.id and again.request.prompt == "a wolf"
    assert order(house) == [made.id]


# The line that is shown for editing


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("a fox --seed 7", "a fox --seed 7"),
        ("a fox --seed 7 --steps 8 --model pattern", "a fox --seed 7"),
        (
            "a fox --ar 3:2 --no people, cats --cfg 4,5 --sampler euler_a --seed 7",
            "a fox --no people, cats --width 312 --height 208 --guidance 4.5 --seed 7 "
            "--sampler Euler a",
        ),
        ("a fox --tile --n 4 --clip-skip 2 --hires 1.5 --seed 7",
         "a fox --seed 7 --count 4 --clip-skip 2 --tile --hires 1.5"),
        ("a \\{red, green\\} fox --seed 7", "a \\{red, green\\} fox --seed 7"),
        ("a fox --no \\{cats, dogs\\} --seed 7", "a fox --no \\{cats, dogs\\} --seed 7"),
        ("a {fox} and {{emphasis}} --seed 7", "a {fox} and {{emphasis}} --seed 7"),
    ],
)  # fmt: skip
def test_the_line_says_what_somebody_would_type(
    house: House, ann: Asker, line: str, shown: str
) -> None:
    made = ask(house, line, ann)
    told = press(house, "edit", made.id, Ask(ann, "p", {}, {}))
    assert (told.text, told.edits) == (shown, made.id)
    same = edit(house, made.id, shown, ann)
    assert same.text == f"#{made.id} is the same as before. It keeps its place in line."
    assert house.generations.get(made.id).version == made.version
    # As a new one, too, it asks for the very same.
    assert ask(house, f"/imagine {shown}", ann, "anew").request == made.request


def picture(house: House, ann: Asker, size: tuple[int, int]) -> Generation:
    made = ask(house, f"a crown --width {size[0]} --height {size[1]}", ann)
    drawn = taken(house, made)
    assert drawn
    whole = sealed(Image.new("RGB", size, "red"), made.id, made.request, 1)
    key = house.media.save(made.id, "0.png", whole.png)
    told = {"key": key, "seed": 1, "width": size[0], "height": size[1]}
    done = house.generations.finish(drawn, [told], 1.0)
    assert done
    return done


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("/remix a green crown --from 1 --seed 7", "a green crown --seed 7"),
        ("/remix a green crown --from 1 --strength 0.3 --width 512 --height 256 --seed 7",
         "a green crown --strength 0.3 --seed 7"),
        ("/inpaint a sea --from 1 --pan left --seed 7", "a sea --pan left --seed 7"),
        ("/inpaint a sea --from 1 --zoom 1.5 --steps 20 --seed 7",
         "a sea --zoom 1.5 --steps 20 --seed 7"),
        ("/style a castle --from 1 1 --sw 0.8 --seed 7", "a castle --style-strength 0.8 --seed 7"),
        ("/blend a castle --from 1 1 --seed 7", "a castle --seed 7"),
    ],
)  # fmt: skip
def test_what_it_begins_with_stays(house: House, ann: Asker, line: str, shown: str) -> None:
    picture(house, ann, (320, 192))
    made = ask(house, line, ann)
    assert made.request.sources
    assert editing.line(made) == shown
    edit(house, made.id, shown, ann)
    assert house.generations.get(made.id).version == made.version
    edit(house, made.id, shown.replace("a ", "two ", 1), ann)
    changed = house.generations.get(made.id).request
    assert changed == replace(made.request, prompt=changed.prompt) != made.request


def test_another_size_of_what_begins_with_a_picture(house: House, ann: Asker) -> None:
    picture(house, ann, (320, 192))
    made = ask(house, "/inpaint a sea --from 1 --pan left --seed 7", ann)
    assert (made.request.width, made.request.height) == (480, 192)
    edit(house, made.id, "a sea --pan up", ann)
    changed = house.generations.get(made.id).request
    assert (changed.width, changed.height) == (320, 288)
    edit(house, made.id, "a sea --pan up --width 256 --height 256", ann)
    changed = house.generations.get(made.id).request
    assert (changed.width, changed.height) == (256, 384)
    with pytest.raises(InvalidOptions, match="Say what to paint"):
        edit(house, made.id, "a sea", ann)


def test_a_mask_stays_and_is_not_judged_again(house: House, ann: Asker) -> None:
    done = picture(house, ann, (256, 256))
    key = str(done.results[0]["key"])
    wanted = catalog.requested({"prompt": "a sea"}, (), Mode.INPAINT)
    request = catalog.settle(
        wanted, 7, Mode.INPAINT, [Source(key, 256, 256, generation=1), Source(key, 256, 256, 0.9)]
    )
    made = house.generations.submit(request, ann, "e", {"chat": "c"})
    edit(house, made.id, "a lake", ann)
    assert house.generations.get(made.id).request == replace(request, prompt="a lake")


def test_a_whole_message_says_its_picture_again(house: House, ann: Asker) -> None:
    """As somebody changes it who edits what they wrote."""
    picture(house, ann, (320, 192))
    made = ask(house, "/remix --from 1 --seed 7 --width 512", ann)
    said = Ask(ann, "e", {}, {})
    told = editing.change(house, said, made.id, "/remix a blue crown --from 1 --seed 7", whole=True)
    assert "is changed" in told.text
    changed = house.generations.get(made.id).request
    anew = ask(house, "/remix a blue crown --from 1 --seed 7", ann, "anew")
    assert changed == anew.request
    editing.change(house, said, made.id, "/remix --from 1 --strength 0.2", whole=True)
    assert house.generations.get(made.id).request.prompt == "a blue crown"
    picture(house, ann, (256, 256))
    with pytest.raises(UserError, match="not the pictures"):
        editing.change(house, said, made.id, "/remix a blue crown --from 4", whole=True)


def test_what_is_made_larger_has_no_words(house: House, ann: Asker) -> None:
    done = picture(house, ann, (256, 256))
    made = run(house, "upscale", Ask(ann, "u", {}, {"id": str(done.id)})).generation
    assert made
    with pytest.raises(NotAllowed, match="no words to change"):
        edit(house, made.id, "a fox", ann)
    buttons = [one.action for one in house.card(made).buttons]
    assert buttons == ["cancel", "why"]
    queued = ask(house, "a fox", ann)
    pressed = [one.action for one in house.card(queued).buttons]
    assert pressed == ["edit", "enhance", "cancel", "why"]


def test_edit_without_words_tells_those_it_has(house: House, ann: Asker) -> None:
    ask(house, "a fox --seed 7", ann)
    newest = ask(house, "a crown --seed 9", ann)
    told = run(house, "edit", Ask(ann, "e", {}, {}))
    assert told.text.endswith(f"/edit {newest.id} a crown --seed 9")
    name, given, faults = from_text(f"/edit {newest.id} a big crown --steps 9")
    run(house, name, Ask(ann, "e", {}, given, faults))
    assert house.generations.get(newest.id).request.prompt == "a big crown"
    with pytest.raises(UserError, match="nothing to edit"):
        run(house, "edit", Ask(BOB, "e", {}, {}))


def test_what_was_set_counts_again_where_a_whole_message_is_edited(
    house: House, ann: Asker
) -> None:
    say = Ask(ann, "set", {}, {"change": "set", "setting": "sampler", "value": "Heun"})
    run(house, "settings", say)
    made = ask(house, "/imagine a fox --seed 7", ann)
    assert made.request.sampler == "Heun"
    assert " --sampler Heun" in editing.line(made), "as it was settled"
    told = Ask(ann, "edited", {}, {})
    editing.change(house, told, made.id, "/imagine a wolf --seed 7 --preset anime", whole=True)
    now_ = house.generations.get(made.id).request
    assert now_.sampler == "Heun" and "wolf" in now_.prompt and now_.prompt != "a wolf"
    editing.change(house, told, made.id, "a wolf --seed 7")
    now_ = house.generations.get(made.id).request
    assert (now_.prompt, now_.sampler) == ("a wolf", catalog.models()["pattern"].sampler)
    with pytest.raises(UserError, match="takes no --preset"):
        editing.change(house, told, made.id, "a wolf --preset anime")


def test_a_picture_in_anothers_style_keeps_it(house: House, ann: Asker) -> None:
    liked = house.uploads.keep(png())
    asked = Ask(ann, "styled", {"chat": "c"}, {"prompt": "a fox"}, pictures=(liked,))
    made = run(house, "style", asked).generation
    assert made and made.request.mode == Mode.STYLE
    line = f"/imagine {editing.line(made).replace('fox', 'wolf')} --sw 0.9"
    edit(house, made.id, line, ann)
    now_ = house.generations.get(made.id).request
    assert (now_.prompt, now_.style_strength) == ("a wolf", 0.9)
    assert now_.sources == made.request.sources
