"""Prompts that are written out before they are drawn, and those that are shown first, on every
database; what writes answers as told, whatever else there is is real."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from core import mending, settings
from core.asking import Ask, Reply
from core.cards import as_json
from core.commands import change, from_text, press, run
from core.engine import AskDifferently, Stopped, TransientError, Turn, Wait
from core.errors import InvalidOptions, NotFound, TooLate, UserError
from core.house import House
from core.lifecycle import State
from core.media import Source
from core.options import Mode, Request
from core.people import Asker
from core.receipts import notes, read
from core.rows import HELD, Generation
from tests.core.test_editing import used
from worker.finishing import Finisher
from worker.tasks import DrawingFailed, Studio, generate

# What is conditional in the rows is told on both by test_generations and test_elsewhere.
pytestmark = pytest.mark.parametrize(
    "database_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)

ANN = Asker("discord", "1", "Ann", chat="discord:channel:7", keeper=True)
BOB = Asker("discord", "2", "Bob", chat="discord:channel:7")
PLACE = {"channel": "7", "guild": "9"}
NAME = "smollm2"
BETTER = "a fox at dawn, mist over the meadow, soft golden light"
events = iter(range(10**6))


class Engine:
    """Writes what it was told to, and has painted already."""

    loading = 0.0
    held: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.answer: str | Exception = BETTER
        self.asked: list[tuple[Request, list[Turn], Any]] = []
        self.drawn: list[Request] = []
        self.stopped = 0
        # What happens while it writes.
        self.meanwhile: Callable[[], object] = lambda: None

    def write(
        self, _model: object, request: Request, say: Callable[[str], bool], beat: Any,
        talk: list[Turn], pictures: Any, _loading: object = None,
    ) -> str:  # fmt: skip
        self.asked.append((request, talk, pictures))
        assert say("a fox at")
        self.meanwhile()
        if isinstance(self.answer, Exception):
            raise self.answer
        # As engines do: told to stop, they stop.
        if not beat(1.0, ""):
            self.stopped += 1
            raise Stopped
        return self.answer

    def draw(self, _model: object, request: Request, *_given: object) -> list[Image.Image]:
        self.drawn.append(request)
        return [Image.new("RGB", (8, 8), "red") for _ in request.seeds]


@pytest.fixture
def engine(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    made = Engine()
    monkeypatch.setattr(Studio, "house", house, raising=False)
    monkeypatch.setattr(Studio, "engine", made, raising=False)
    monkeypatch.setattr(Studio, "finisher", Finisher(house), raising=False)
    yield made
    Studio.leaving.clear()


def say(house: House, line: str, asker: Asker = ANN, **more: Any) -> Reply:
    name, given, faults = from_text(line)
    return run(house, name, Ask(asker, f"e{next(events)}", PLACE, given, faults, **more))


def ask(house: House, line: str, asker: Asker = ANN) -> Generation:
    made = say(house, f"/imagine {line}", asker).generation
    assert made
    return made


def pushed(house: House, action: str, one: Generation, asker: Asker = ANN) -> Reply:
    return press(house, action, one.id, Ask(asker, f"e{next(events)}", PLACE, {}))


def take(house: House, one: Generation) -> None:
    """Take a job out of RQ's list, as a worker does."""
    one = house.generations.get(one.id)
    assert house.queue.redis.lrem(house.queue.line(one.line).rq.key, 1, one.job)


def worked(house: House, one: Generation) -> Generation:
    """A row after a worker has done what is next for it."""
    take(house, one)
    with contextlib.suppress(DrawingFailed):
        generate(one.id)
    assert Studio.finisher.drain(10)
    return house.generations.get(one.id)


def drawn(house: House, line: str) -> Generation:
    """A picture whose prompt was written out."""
    done = worked(house, worked(house, ask(house, line)))
    assert done.state == State.DONE, done.error
    return done


def lines(house: House) -> dict[str, list[int]]:
    return {
        name: [int(job.split("-")[1]) for job in house.queue.line(name).rq.get_job_ids()]
        for name in ("draw", "write")
    }


def no_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWQUEUE_TEXT_MODEL", "none")
    settings._read.cache_clear()


# Asking


def test_it_is_written_first_and_drawn_then(house: House, engine: Engine) -> None:
    made = ask(house, "a fox --enhance --seed 7")
    plain = ask(house, "a crown")
    assert made.request.enhance == NAME and made.request.original == ""
    assert lines(house) == {"draw": [plain.id], "write": [made.id]}, "no GPU waits for it"
    assert "prompt to be written (place 1)" in house.card(made).status
    shown: list[str] = []
    engine.meanwhile = lambda: shown.append(house.card(house.generations.get(made.id)).status)
    written = worked(house, made)
    assert shown == ["✍️ its prompt is being written"]
    request, talk, pictures = engine.asked[0]
    assert (request.mode, talk[-1].words, pictures) == (Mode.ENHANCE, "a fox", {})
    assert (written.state, written.attempt) == (State.QUEUED, 2)
    assert (written.request.prompt, written.request.original) == (BETTER, "a fox")
    assert written.request.enhance == "" and not engine.drawn
    assert lines(house) == {"draw": [plain.id, made.id], "write": []}, "its fair place"
    done = worked(house, written)
    assert done.state == State.DONE and engine.drawn[0].prompt == BETTER
    card = house.card(done)
    assert (card.prompt, card.better) == ("a fox", f"Enhanced: {BETTER}")
    assert BETTER in card.alt and not card.notice
    told = as_json(card, done, None)
    assert (told["prompt"], told["original"], told["enhanced"]) == (BETTER, "a fox", BETTER)
    assert len(engine.asked) == 1


def test_it_is_charged_once(house: House, engine: Engine) -> None:
    for steps in (8, 16):
        request = Request("", "", 256, 256, steps, 5.0, 1, "Euler", "pattern", 1)
        house.queue.pace.learn(request, steps * 0.5)
    house.queue.pace.learn(ask(house, "a crown --enhance", BOB).request, 3.0)
    made = ask(house, "a fox --enhance --steps 8 --width 256 --height 256")
    jobs, seconds = used(house, ANN.account)
    assert jobs == 1 and seconds == pytest.approx(7.0), "what both are expected to take"
    done = worked(house, worked(house, made))
    jobs, seconds = used(house, ANN.account)
    assert (jobs, seconds) == (1, pytest.approx(done.charged, abs=1e-5)) and seconds < 2


def test_what_draws_is_the_recipe_and_what_was_asked_for_a_note(
    house: House, engine: Engine
) -> None:
    done = drawn(house, "a fox --enhance")
    told = notes(done.id, done.request, done.request.seed)
    assert told.theirs.startswith(f"{BETTER}\nSteps: ") and '"original": "a fox"' in told.ours
    receipt = read(told.ours)
    assert receipt and receipt.given["prompt"] == BETTER and "--enhance" not in receipt.line()
    others = read('{"prompt": "a fox", "enhance": true}')
    assert others and others.line() == "/imagine a fox", "whatever a file asks for"


def test_each_of_several_has_a_prompt_of_its_own(house: House, engine: Engine) -> None:
    made = say(house, "/imagine {red, grey} fox --enhance --repeat 2 --count 2")
    assert made.generation
    ids = [made.generation.id, *made.others]
    assert len(ids) == 4 and lines(house)["write"] == ids
    engine.answer = "a fox in deep snow, pines all around, a cold blue evening"
    for id_ in ids:
        worked(house, worked(house, house.generations.get(id_)))
    found = [house.generations.get(id_) for id_ in ids]
    assert [one.request.original for one in found] == ["red fox"] * 2 + ["grey fox"] * 2
    assert [one.request.prompt.split()[0] for one in found] == ["red"] * 2 + ["grey"] * 2
    assert all(len(one.results) == 2 for one in found) and len(engine.asked) == 4


def test_a_prompt_made_by_chance_is_written_out_too(house: House, engine: Engine) -> None:
    made = say(house, "/random subjects --enhance --seed 7").generation
    assert made and made.request.enhance == NAME
    assert worked(house, made).request.original == made.request.prompt


def test_a_remix_sends_its_pictures_to_nobody_who_writes(house: House, engine: Engine) -> None:
    first = worked(house, ask(house, "a crown"))
    made = say(house, f"/remix a fox --from {first.id} --enhance").generation
    assert made and made.request.sources
    written = worked(house, made)
    assert engine.asked[0][2] == {} and engine.asked[0][0].held == ()
    assert written.request.sources == made.request.sources and written.request.mode == Mode.REMIX


def test_where_nothing_writes_it_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    no_writer(monkeypatch)
    with pytest.raises(InvalidOptions, match="Nothing here writes prompts") as wrong:
        ask(house, "a fox --enhance --chaos 20")
    assert len(wrong.value.faults) == 2, "every fault at once"
    assert ask(house, "a fox --no-enhance").request.enhance == ""
    assert ask(house, "a fox --enhance off").request.enhance == ""


def test_a_blend_without_words_has_none_to_enhance(house: House, engine: Engine) -> None:
    pictures = Source("0/1.png", 64, 64), Source("0/2.png", 64, 64)
    with pytest.raises(InvalidOptions, match="no prompt to enhance"):
        say(house, "/blend --enhance", pictures=pictures)
    first, second = (worked(house, ask(house, f"a crown {number}")) for number in range(2))
    made = say(house, f"/blend --from {first.id} {second.id} --enhance").generation
    assert made and made.request.enhance == NAME, "what they were drawn from is"


# Settings


def test_it_may_be_set_by_each_and_by_a_chat(house: House, engine: Engine) -> None:
    assert "enhance is on from now on" in say(house, "/settings set enhance on channel").text
    theirs = ask(house, "a fox", BOB)
    assert theirs.request.enhance == NAME and "this chat's enhance" in house.card(theirs).details
    say(house, "/settings set enhance OFF", BOB)
    assert ask(house, "a fox", BOB).request.enhance == ""
    assert "enhance" not in house.card(ask(house, "a fox", BOB)).details
    assert ask(house, "a fox --magic", BOB).request.enhance == NAME
    for flag in ("--no-enhance", "--enhance off", "--enhance no"):
        assert ask(house, f"a fox {flag}").request.enhance == "", flag
    assert "enhance: off (yours)" in say(house, "/settings", BOB).text
    with pytest.raises(UserError, match="“enhance” is on or off"):
        say(house, "/settings set enhance maybe")


def test_what_is_set_and_cannot_be_is_left_out_and_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(house, "/settings set enhance on")
    no_writer(monkeypatch)
    made = ask(house, "a fox")
    assert made.request.enhance == "" and lines(house)["draw"] == [made.id]
    assert house.card(made).notice.startswith(
        "Left out: your enhance setting. Nothing here writes prompts."
    )
    assert "Nothing here writes prompts, though." in say(house, "/settings set enhance on").text


def test_what_a_picture_brings_along_is_not_written_again(house: House, engine: Engine) -> None:
    say(house, "/settings set enhance on")
    first = drawn(house, "a fox")
    again = say(house, f"/remix --from {first.id}").generation
    assert again and (again.request.prompt, again.request.enhance) == (BETTER, "")
    other = say(house, f"/remix a wolf --from {first.id}").generation
    assert other and other.request.enhance == NAME, "words of one's own are"


# Again


@pytest.mark.parametrize("action", ["retry", "reseed", "subtle", "up2"])
def test_what_was_written_is_kept(house: House, engine: Engine, action: str) -> None:
    made = drawn(house, "a fox --enhance --seed 7")
    again = pushed(house, action, made).generation
    assert again and again.id != made.id
    assert (again.request.prompt, again.request.original) == (BETTER, "a fox")
    assert again.request.enhance == "" and lines(house)["write"] == []
    # The very same again is there at once.
    assert (again.state == State.DONE) == (action == "retry")
    assert len(engine.asked) == 1


def test_what_was_written_is_kept_by_one_that_is_cancelled(house: House, engine: Engine) -> None:
    made = worked(house, ask(house, "a fox --enhance"))
    house.generations.cancel(made.id, ANN)
    again = pushed(house, "retry", made).generation
    assert again and again.id == made.id and again.request.prompt == BETTER
    assert lines(house) == {"draw": [made.id], "write": []} and len(engine.asked) == 1


def test_what_was_not_written_yet_is(house: House, engine: Engine) -> None:
    made = ask(house, "a fox --enhance")
    house.generations.cancel(made.id, ANN)
    assert lines(house)["write"] == []
    again = pushed(house, "retry", made).generation
    assert again and lines(house)["write"] == [made.id]
    assert worked(house, again).request.prompt == BETTER


# What goes wrong


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (AskDifferently("That is more than it can read."), "Drawn as you wrote it: That is more"),
        (TransientError("It does not answer."), "Drawn as you wrote it: It does not answer."),
        (Wait("It has reached a limit.", 600), "Drawn as you wrote it: It has reached a limit."),
        (RuntimeError("CUDA at 0x7f"), "Drawn as you wrote it. (fault "),
        ("", "Drawn as you wrote it: no better prompt"),
        ("I'm sorry, I can't help with that.", "Drawn as you wrote it: no better prompt"),
        ("a fox", "Drawn as you wrote it: no better prompt"),
        ("a fox drinking blood, red all over", "says what the host of this bot refuses"),
    ],
)
def test_what_fails_costs_no_picture(
    house: House, engine: Engine, rules: Callable[[str], None], answer: Any, words: str
) -> None:
    rules("[words]\nrefuse=['blood']\n")
    engine.answer = answer
    made = worked(house, ask(house, "a fox --enhance"))
    assert (made.request.prompt, made.request.original, made.request.enhance) == ("a fox", "", "")
    assert lines(house) == {"draw": [made.id], "write": []}
    done = worked(house, made)
    card = house.card(done)
    assert done.state == State.DONE and (card.prompt, card.better) == ("a fox", "")
    assert words in card.notice and "0x7f" not in card.notice
    assert house.queue.redis.zcard("drawqueue:running:write") == 0


def test_a_writer_that_dies_is_followed_by_another_and_then_by_none(
    house: House, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ask(house, "a fox --enhance")
    for attempt in (1, 2, 3):
        claimed = house.generations.claim(made.id)
        assert claimed and claimed.attempt == attempt
        house.generations.restart(claimed, "The worker that drew this stopped.")
    plain = house.generations.get(made.id)
    assert plain.state == State.QUEUED and lines(house) == {"draw": [made.id], "write": []}
    assert "stopped again and again" in house.card(plain).notice
    assert worked(house, plain).state == State.DONE


def test_what_was_written_and_not_put_in_line_is(
    house: House, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ask(house, "a fox --enhance")
    with monkeypatch.context() as died:
        died.setattr(house.generations, "line_up", lambda *_given, **_more: False)
        worked(house, made)
    assert lines(house) == {"draw": [], "write": []}
    monkeypatch.setattr("core.mending.now", lambda: made.created.replace(year=2100))
    house.mending.sweep()
    assert lines(house)["draw"] == [made.id]
    assert house.generations.get(made.id).request.prompt == BETTER


def test_a_late_answer_changes_nothing(house: House, engine: Engine) -> None:
    made = ask(house, "a fox --enhance")
    claimed = house.generations.claim(made.id)
    assert claimed
    assert house.generations.enhanced(claimed, BETTER)
    assert house.generations.enhanced(claimed, "another") is None
    assert house.generations.get(made.id).request.prompt == BETTER


def test_one_that_is_cancelled_while_it_is_written(house: House, engine: Engine) -> None:
    made = ask(house, "a fox --enhance")
    engine.meanwhile = lambda: house.generations.cancel(made.id, ANN)
    over = worked(house, made)
    assert over.state == State.CANCELLED and lines(house) == {"draw": [], "write": []}
    assert over.request.prompt == "a fox"


def test_a_worker_that_leaves_lets_another_write(house: House, engine: Engine) -> None:
    made = ask(house, "a fox --enhance")
    engine.meanwhile = Studio.leaving.set
    engine.answer = TransientError("The engine crashed while writing this.")
    back = worked(house, made)
    assert back.state == State.QUEUED and back.request.enhance == NAME
    assert lines(house)["write"] == [made.id] and back.restarts == 0


def test_nobody_there_to_write_is_waited_for_a_little(
    house: House, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ask(house, "a fox --enhance")
    house.mending.sweep()
    assert lines(house)["write"] == [made.id]
    house.queue.line("write").present("machine-cpu-1-x")
    monkeypatch.setattr(mending, "UNWRITTEN_SECONDS", 0.0)
    house.mending.sweep()
    assert lines(house)["write"] == [made.id], "somebody is there"
    house.queue.line("write").absent("machine-cpu-1-x")
    house.mending.sweep()
    assert lines(house) == {"draw": [made.id], "write": []}
    assert "nobody was there" in house.card(house.generations.get(made.id)).notice
    assert worked(house, made).state == State.DONE and not engine.asked


def test_writing_counts_among_what_one_may_have_at_once(
    house: House, engine: Engine, rules: Callable[[str], None]
) -> None:
    rules("[classes.fast]\nmembers=['everyone']\nrunning=1\n")
    made, other = ask(house, "a fox --enhance"), ask(house, "a crown")

    def begin() -> None:
        take(house, other)
        assert house.generations.claim(other.id) is None
        assert house.generations.get(other.id).enqueued == HELD

    engine.meanwhile = begin
    worked(house, made)
    assert lines(house)["draw"] == [other.id, made.id], "both may begin now, one of them first"
    assert worked(house, other).state == State.DONE
    assert worked(house, made).state == State.DONE


# Changing


def edited(house: House, one: Generation, words: str, **more: Any) -> Reply:
    return change(house, one.id, words, Ask(ANN, f"e{next(events)}", PLACE, {}), **more)


def test_new_words_replace_those_that_wait(house: House, engine: Engine) -> None:
    made = ask(house, "a fox --enhance --seed 7")
    assert pushed(house, "edit", made).text == "a fox --seed 7 --enhance"
    told = edited(house, made, "a wolf --enhance --seed 7")
    assert "keeps its place" in told.text and lines(house)["write"] == [made.id]
    engine.answer = "a wolf under a full moon, silver light, deep forest"
    written = worked(house, made)
    assert (written.request.original, written.request.prompt) == ("a wolf", engine.answer)


def test_words_without_the_flag_are_drawn_as_they_are(house: House, engine: Engine) -> None:
    made = ask(house, "a fox --enhance --seed 7")
    told = edited(house, made, "a wolf")
    assert told.text == f"#{made.id} is changed."
    assert lines(house) == {"draw": [made.id], "write": []}
    worked(house, made)
    assert not engine.asked and engine.drawn[0].prompt == "a wolf"


def test_the_flag_may_come_later(house: House, engine: Engine) -> None:
    made = ask(house, "a fox --seed 7")
    edited(house, made, "a fox --enhance")
    assert lines(house) == {"draw": [], "write": [made.id]}
    assert worked(house, made).request.prompt == BETTER


@pytest.mark.parametrize("flag", ["", " --enhance"])
def test_new_words_while_the_old_ones_are_written(house: House, engine: Engine, flag: str) -> None:
    made = ask(house, "a fox --enhance --seed 7")
    wrote: list[str] = []

    def edit() -> None:
        if not wrote:
            assert {"edit", "cancel"} == {
                one.action for one in house.card(house.generations.get(made.id)).buttons
            }
            wrote.append(edited(house, made, f"a wolf{flag}").text)

    engine.meanwhile = edit
    now_ = worked(house, made)
    assert (now_.state, now_.request.prompt) == (State.QUEUED, "a wolf")
    assert engine.stopped == 1, "nobody writes in vain"
    assert lines(house) == {"draw": [] if flag else [made.id], "write": [made.id] if flag else []}
    engine.answer = "a wolf under a full moon, silver light, deep forest"
    done = worked(house, worked(house, made) if flag else made)
    assert done.state == State.DONE
    assert engine.drawn[-1].prompt == (engine.answer if flag else "a wolf")


def test_what_is_being_drawn_is_changed_no_more(house: House, engine: Engine) -> None:
    made = worked(house, ask(house, "a fox --enhance"))
    assert house.generations.claim(made.id)
    with pytest.raises(TooLate):
        edited(house, made, "a wolf")


def test_words_that_stay_keep_what_was_written_of_them(house: House, engine: Engine) -> None:
    made = worked(house, ask(house, "a fox --enhance --seed 7"))
    line = pushed(house, "edit", made).text
    assert line == f"{BETTER} --seed 7"
    assert "same as before" in edited(house, made, line).text
    edited(house, made, f"{line} --steps 9")
    assert house.generations.get(made.id).request.original == "a fox"
    # The message that it was asked for with, edited, as Telegram tells it: with nothing changed.
    edited(house, made, "a fox --enhance --seed 7", whole=True)
    assert house.generations.get(made.id).request == made.request
    edited(house, made, "a wolf --seed 7")
    changed = house.generations.get(made.id).request
    assert (changed.prompt, changed.original) == ("a wolf", "")
    assert len(engine.asked) == 1


def test_why_it_is_drawn_plainly_is_told_of_these_words_alone(house: House, engine: Engine) -> None:
    engine.answer = ""
    made = worked(house, ask(house, "a fox --enhance --seed 7"))
    assert "as you wrote it" in house.card(made).notice
    edited(house, made, "a fox --enhance --seed 7", whole=True)
    assert lines(house)["write"] == [], "what was tried is not tried by a message that stays"
    edited(house, made, "a wolf")
    assert not house.card(house.generations.get(made.id)).notice


# Shown first


def proposal(house: House, made: Generation) -> Generation:
    asked = pushed(house, "enhance", made)
    assert asked.fresh and asked.generation
    done = worked(house, asked.generation)
    assert done.state == State.DONE, done.error
    return done


def test_a_better_prompt_is_shown_and_used(house: House, engine: Engine) -> None:
    made = ask(house, "a fox --seed 7 --steps 9")
    assert "enhance" in {one.action for one in house.card(made).buttons}
    shown = proposal(house, made)
    assert (shown.request.mode, shown.parent, shown.text) == (Mode.ENHANCE, made.id, BETTER)
    card = house.card(shown)
    assert (card.prompt, card.text) == ("a fox", BETTER)
    assert [one.action for one in card.buttons] == ["use", "retry"] and not card.media
    assert as_json(card, shown, None)["text"] == BETTER
    assert house.generations.get(made.id).request == made.request, "nothing is changed yet"
    told = pushed(house, "use", shown)
    assert told.generation and told.generation.id == made.id and "better prompt" in told.text
    now_ = house.generations.get(made.id).request
    assert (now_.prompt, now_.original, now_.steps, now_.seed) == (BETTER, "a fox", 9, 7)
    assert lines(house)["draw"] == [made.id]
    done = worked(house, made)
    again = pushed(house, "use", shown)
    assert again.generation and again.generation.id == done.id, "it is drawn from it already"


def test_one_that_is_over_is_drawn_anew_once(house: House, engine: Engine) -> None:
    made = ask(house, "a fox --seed 7 --steps 9")
    shown = proposal(house, made)
    worked(house, made)
    first, second = (pushed(house, "use", shown).generation for _ in range(2))
    assert first and second and first.id == second.id != made.id
    assert (first.parent, first.request.prompt, first.request.seed) == (made.id, BETTER, 7)
    assert first.request.original == "a fox" and first.request.steps == 9


def test_another_one_is_another(house: House, engine: Engine) -> None:
    made = ask(house, "a fox")
    shown = proposal(house, made)
    other = pushed(house, "retry", shown).generation
    assert other and other.id != shown.id and other.parent == made.id
    assert other.request.seed != shown.request.seed and other.request.prompt == "a fox"
    engine.answer = "I cannot do that."
    failed = worked(house, other)
    assert failed.state == State.FAILED and "No better prompt" in str(failed.error)
    assert [one.action for one in house.card(failed).buttons] == ["retry"]
    with pytest.raises(NotFound, match="shows no better prompt"):
        pushed(house, "use", failed)
    engine.answer = BETTER
    again = pushed(house, "retry", failed).generation
    assert again and worked(house, again).text == BETTER


def test_words_may_be_changed_and_enhanced_at_once(house: House, engine: Engine) -> None:
    made = ask(house, "a fox --seed 7")
    told = edited(house, made, "a wolf --steps 9", enhance=True)
    assert told.fresh and told.generation and told.generation.request.prompt == "a wolf"
    assert house.generations.get(made.id).request.prompt == "a wolf"


def test_a_better_prompt_is_used_while_another_is_written(house: House, engine: Engine) -> None:
    made = ask(house, "a fox --seed 7")
    shown = proposal(house, made)
    edited(house, made, "a fox --enhance")
    take(house, made)
    assert house.generations.claim(made.id), "somebody writes it now"
    pushed(house, "use", shown)
    assert lines(house) == {"draw": [made.id], "write": []}
    assert house.generations.get(made.id).request.prompt == BETTER


def test_without_its_picture_it_is_drawn_by_itself(house: House, engine: Engine) -> None:
    made = ask(house, "a fox")
    shown = proposal(house, made)
    house.generations.cancel(made.id, ANN)
    house.generations.delete(made.id, ANN)
    alone = pushed(house, "use", shown).generation
    assert alone and alone.request.prompt == BETTER and alone.request.enhance == ""


def test_there_is_no_button_where_nothing_writes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ask(house, "a fox")
    no_writer(monkeypatch)
    assert [one.action for one in house.card(made).buttons] == ["edit", "cancel", "why"]
    with pytest.raises(UserError, match="Nothing here writes prompts"):
        pushed(house, "enhance", made)


def test_nobody_uses_anothers(house: House, engine: Engine) -> None:
    shown = proposal(house, ask(house, "a fox"))
    with pytest.raises(UserError):
        pushed(house, "use", shown, BOB)


def test_what_is_deleted_leaves_no_words(house: House, engine: Engine) -> None:
    done = drawn(house, "a fox --enhance")
    shown = proposal(house, ask(house, "a fox"))
    for one in (done, shown):
        gone = house.generations.delete(one.id, ANN)
        assert (gone.request.prompt, gone.request.original, gone.text) == ("", "", None)
        card = house.card(gone)
        assert (card.prompt, card.better) == ("", "")
