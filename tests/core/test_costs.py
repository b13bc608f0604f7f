"""What pictures cost the host: recorded once, limited by the day, shown to whom it concerns."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, event, select, text, update

from core import catalog, costs, settings
from core.asking import Ask
from core.commands import run
from core.database import generations, now, usage
from core.engine import Task
from core.errors import TooMuch
from core.house import House
from core.lifecycle import State
from core.options import Mode, validate
from core.people import Asker
from core.policy import Policy, parse, policy
from core.rows import Generation
from tests.bots.test_web_text import web as web
from tests.core.test_people import DISCORD, TELEGRAM, code
from tests.core.test_policy import say

ANN, BOB = Asker("web", "ann", chat="room"), Asker("web", "bob", chat="room")
HOST = Asker("web", "host", trusted=True)
SEEDREAM, FLUX = "kie:seedream/4.5-text-to-image", "kie:flux"
# Of these alone it takes a seed.
QWEN = "kie:qwen/text-to-image"
PRICES = f"""
[prices]
kie = 0.1
"{SEEDREAM}" = 0.25
openai = 0.5
"openai:gpt-4o-mini" = 0.001
"""
EVERYBODY = "[classes.fast]\nmembers = ['everyone']\n"


@pytest.fixture(autouse=True)
def engines(host: Callable[..., None], rules: Callable[[str], None]) -> None:
    host(
        DRAWQUEUE_MODEL=f"pattern, {FLUX}, kie, openai", KIE_API_KEY="k",
        OPENAI_API_KEY="k", DRAWQUEUE_TEXT_MODEL="openai:gpt-4o-mini",
        DRAWQUEUE_FAILOVER=f"pattern, {FLUX}, openai",
    )  # fmt: skip
    rules(PRICES)


def submit(
    house: House, event_: str, model: str = FLUX, asker: Asker = ANN, **given: Any
) -> Generation:
    request = catalog.settle(validate({"prompt": "a fox", "model": model, **given}), 7)
    return house.generations.submit(request, asker, event_, {})


def claimed(house: House, one: Generation) -> Generation:
    found = house.generations.claim(one.id)
    assert found
    return found


def waiting(house: House, one: Generation, begun: int = 0) -> Generation:
    """Another machine has it, or so many pictures of it."""
    mine = claimed(house, one)
    assert house.elsewhere.announce(mine, "kie") is not None
    found = house.elsewhere.hand_out(mine, Task("t", begun=begun))
    assert found
    return found


def drawn(house: House, event_: str, model: str = FLUX, asker: Asker = ANN) -> Generation:
    done = house.generations.finish(claimed(house, submit(house, event_, model, asker)), [], 1.0)
    assert done
    return done


def used(house: House, who: str = "web:ann") -> float:
    """What somebody has cost today."""
    with house.database.read() as connection:
        found = connection.execute(
            select(usage.c.cost).where(usage.c.who == who, usage.c.day == policy().day(now()))
        ).scalar()
    return round(found or 0.0, 9)


def cost(house: House, one: Generation) -> float:
    return round(house.generations.get(one.id).cost, 9)


# Prices


@pytest.mark.parametrize(
    ("model", "price"),
    [(FLUX, 0.1), (SEEDREAM, 0.25), ("kie", 0.25), ("openai", 0.5), ("OpenAI:gpt-image-1", 0.5),
     ("pattern", 0.0), ("kieran", 0.0)],
)  # fmt: skip
def test_the_longer_name_counts(model: str, price: float) -> None:
    request = replace(catalog.settle(validate({"prompt": "a fox"}), 7), model=model, count=3)
    assert policy().price(request) == pytest.approx(3 * price)
    assert policy().price(replace(request, mode=Mode.UPSCALE)) == 0, "that is done here"
    wanted = replace(request, enhance="openai:gpt-4o-mini")
    assert policy().price(wanted) == pytest.approx(3 * price + 0.001)
    assert policy().step(wanted) == 0.001


def test_an_engine_alone_is_another_model_for_words() -> None:
    told = parse('[prices]\nopenai = 0.001\n"openai:gpt-image-1" = 0.5')
    request = catalog.settle(validate({"prompt": "a fox", "model": "openai"}), 7)
    assert told.price(request) == 0.5
    assert told.price(replace(request, mode=Mode.WRITE)) == 0.001


@pytest.mark.parametrize(
    ("currency", "amount", "words"),
    [("$", 12, "$12.00"), ("$", 0.0325, "$0.0325"), ("€", 0.1 + 0.2, "€0.30"), ("$", 0, "$0.00"),
     ("EUR", 2.5, "2.50 EUR"), ("$", 0.00002, "$0.00002"), ("kr", 1e9, "1000000000.00 kr")],
)  # fmt: skip
def test_money_is_told_as_exactly_as_it_must_be(currency: str, amount: float, words: str) -> None:
    assert parse(f"[money]\ncurrency = '{currency}'").said(amount) == words


def test_doctor_tells_what_a_host_overlooked(rules: Callable[[str], None]) -> None:
    assert costs.warnings() == []
    rules("[prices]\nkei = 1\nPattern = 0\n")
    told = costs.warnings()
    assert "[prices] has “kei”" in told[0] and "Did you mean “kie”?" in told[0]
    assert [one.split()[0] for one in told[1:]] == [FLUX, "kie", "openai", "openai:gpt-4o-mini"]
    rules(f"{EVERYBODY}cost_per_day = 1\n")
    assert costs.warnings() == ["cost_per_day limits nothing as long as [prices] is empty."]


# Recorded once


def test_a_picture_has_cost_what_its_model_does(house: House) -> None:
    one = claimed(house, submit(house, "e1", count=4))
    assert used(house) == 0, "nothing was drawn yet"
    keys = [{"key": "a"}]
    assert house.generations.finish(one, keys, 1.0) and house.generations.finish(one, keys, 1.0)
    assert cost(house, one) == used(house) == used(house, "room") == 0.4
    assert drawn(house, "e2", "pattern").cost == 0


def test_who_drew_it_may_know_better(house: House) -> None:
    one = claimed(house, submit(house, "e1"))
    house.generations.finish(one, [], 1.0, cost=0.03)
    assert cost(house, one) == used(house) == 0.03
    one = claimed(house, submit(house, "e2"))
    house.generations.finish(one, [], 1.0, cost=0.0)
    assert used(house) == 0.03, "nothing is a price, too"


def test_an_answer_from_the_storage_costs_nothing(house: House, host: Callable[..., None]) -> None:
    host(DRAWQUEUE_MODEL=QWEN)
    one = claimed(house, submit(house, "e1", QWEN))
    key = house.media.save(one.id, "1.png", b"png")
    house.generations.finish(one, [{"key": key}], 1.0, "r")
    again = submit(house, "e2", QWEN)
    assert again.state == State.DONE and again.cost == 0 and used(house) == 0.1


def test_a_better_prompt_is_paid_whatever_comes_of_it(house: House) -> None:
    for event_, prompt, written, paid in (
        ("e1", "a red fox", True, 0.001), ("e2", None, True, 0.001), ("e3", None, False, 0.0)
    ):  # fmt: skip
        before = used(house)
        request = catalog.settle(validate({"prompt": "a fox", "model": FLUX}), 7)
        wanted = replace(request, enhance="openai:gpt-4o-mini")
        one = claimed(house, house.generations.submit(wanted, ANN, event_, {}))
        again = house.generations.enhanced(one, prompt, written=written)
        assert again and cost(house, one) == paid
        assert used(house) == pytest.approx(before + paid)
        house.generations.finish(claimed(house, again), [], 1.0)
        assert cost(house, one) == pytest.approx(0.1 + paid)


def test_what_failed_costs_nothing_unless_it_was_drawn(house: House) -> None:
    house.generations.fail(claimed(house, submit(house, "e1")), "It broke.")
    assert used(house) == 0
    one = claimed(house, submit(house, "e2"))
    house.generations.fail(one, "It could not be kept.", 0.1)
    house.generations.fail(one, "It could not be kept.", 0.1)
    assert cost(house, one) == used(house) == 0.1


def test_what_could_not_be_kept_was_drawn_all_the_same(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    from worker import finishing

    monkeypatch.setattr(finishing, "STORE_PAUSES", ())
    monkeypatch.setattr(house.media, "save", lambda *_args: 1 / 0)
    for event_, known, paid in (("e1", None, 0.1), ("e2", 0.07, 0.07)):
        one = claimed(house, submit(house, event_))
        heart = finishing.Heart(house.queue, one)
        image = Image.new("RGB", one.request.size)
        model = catalog.models()[FLUX]
        finishing.finish(house, finishing.Drawing(one, model, [image], 1.0, heart, known))
        heart.stop()
        assert house.generations.get(one.id).state == State.FAILED and cost(house, one) == paid
    assert used(house) == 0.17


@pytest.mark.parametrize("begin", [claimed, waiting])
def test_cancelled_it_is_paid_once_as_other_machines_go_on(
    house: House, begin: Callable[[House, Generation], Generation]
) -> None:
    # Whoever cancels looked before another machine took it.
    made = submit(house, "e1", count=2)
    one = begin(house, made)
    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(house.generations.stop, [made, one] * 4))
    assert sum(end is not None for end in ends) == 1
    assert house.generations.finish(one, [], 1.0) is None
    assert cost(house, one) == used(house) == used(house, "room") == 0.2
    # Asked for again, another one is drawn, and paid as well.
    again = house.generations.redo(one.id, ANN, "again")
    assert again.cost == used(house) == 0.2
    house.generations.finish(claimed(house, again), [], 1.0)
    assert cost(house, one) == used(house) == 0.4


def test_cancelled_in_line_or_here_it_costs_nothing(
    house: House, rules: Callable[[str], None]
) -> None:
    rules(PRICES + "pattern = 0.01\n")
    house.generations.stop(submit(house, "e1"))
    house.generations.stop(claimed(house, submit(house, "e2", "pattern")))
    assert used(house) == 0
    assert drawn(house, "e3", "pattern").cost == 0.01


def test_a_crash_is_paid_by_nobody(house: House) -> None:
    taken = claimed(house, submit(house, "e1"))
    put = house.generations.put_back(taken)
    assert put and used(house) == 0
    again = house.generations.restart(claimed(house, put), "The worker that drew this stopped.")
    assert again and used(house) == 0
    late = house.generations.finish(taken, [], 1.0)
    assert late is None, "an answer to an attempt of before"
    house.generations.finish(claimed(house, again), [{"key": "k"}], 1.0)
    assert cost(house, taken) == used(house) == 0.1


def test_the_one_that_drew_is_paid(house: House) -> None:
    one = claimed(house, submit(house, "e1"))
    other = house.elsewhere.stand_in(one, "kie.ai is down.")
    assert other and other.request.model == "openai" and used(house) == 0
    house.generations.finish(claimed(house, other), [], 1.0)
    assert cost(house, one) == used(house) == 0.5


@pytest.mark.parametrize("begun", [1, 3])
@pytest.mark.parametrize("end", ["finish", "fail", "stop", "restart", "put_back", "stand_in"])
def test_what_another_machine_has_begun_is_paid_once_whatever_comes_of_it(
    house: House, end: str, begun: int
) -> None:
    one = waiting(house, submit(house, "e1", count=2), begun)
    ends: dict[str, Callable[[], Generation | None]] = {
        "finish": lambda: house.generations.finish(one, [{"key": "k"}], 1.0),
        "fail": lambda: house.generations.fail(one, "It broke."),
        "stop": lambda: house.generations.stop(one),
        "restart": lambda: house.generations.restart(one, "It broke."),
        "put_back": lambda: house.generations.put_back(one),
        "stand_in": lambda: house.elsewhere.stand_in(one, "It broke."),
    }
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ends[end](), range(4)))
    # What was drawn was begun, whoever noted it.
    paid = 0.2 if end == "finish" and begun == 1 else round(begun * 0.1, 9)
    assert cost(house, one) == used(house) == used(house, "room") == paid
    if house.generations.get(one.id).state == State.QUEUED:
        # In line it owes nothing any more; what draws it next is paid for itself.
        again = claimed(house, one)
        house.generations.finish(again, [], 1.0)
        assert cost(house, one) == used(house) == round(paid + policy().step(again.request), 9)


def test_what_is_begun_in_place_of_another_is_paid_as_well(house: House) -> None:
    one = waiting(house, submit(house, "e1", count=2), 2)
    house.elsewhere.ask_again(one, 0, found=Task("t", begun=3))
    taken = house.elsewhere.take_up(one.id)
    assert taken and used(house) == 0, "nothing is over yet"
    house.elsewhere.ask_again(taken, 0, found=Task("t", begun=4))
    # Who finishes it looked at its row before that.
    house.generations.finish(taken, [{"key": "k"}], 1.0)
    house.generations.finish(taken, [{"key": "k"}], 1.0)
    assert cost(house, one) == used(house) == 0.4


def test_a_dearer_one_stands_in_for_those_alone_whose_money_is_left(
    house: House, rules: Callable[[str], None]
) -> None:
    rules(f"{PRICES}{EVERYBODY}cost_per_day = 1.0\n")
    mine = [claimed(house, submit(house, f"e{n}", "pattern")) for n in range(6)]
    kept = list(
        ThreadPoolExecutor(6).map(lambda one: house.elsewhere.stand_in(one, "It broke."), mine)
    )
    # The next of the list is kie:flux; ten of it are the day's money.
    assert [one and one.request.model for one in kept] == [FLUX] * 6
    dear = list(ThreadPoolExecutor(6).map(
        lambda one: house.elsewhere.stand_in(one, "It broke."), [one for one in kept if one]
    ))  # fmt: skip
    # Six would be 3.0; one of 0.5 beside five of 0.1 is 1.0, and no more is left.
    assert sum(one is not None for one in dear) == 1


def test_what_was_begun_in_vain_counts_before_a_dear_one_stands_in(
    house: House, rules: Callable[[str], None]
) -> None:
    rules(f"{PRICES}{EVERYBODY}cost_per_day = 0.65\n")
    for event_, begun, stands_in in (("e1", 2, None), ("e2", 1, "openai")):
        one = waiting(house, submit(house, event_), begun)
        other = house.elsewhere.stand_in(one, "It failed.")
        assert (other and other.request.model) == stands_in
        house.generations.cancel(one.id, ANN)
        with house.database.write() as connection:
            connection.execute(delete(usage))
    # What costs nothing may, whatever was spent.
    rules(f"{PRICES}{EVERYBODY}cost_per_day = 0.2\n".replace("openai = 0.5\n", ""))
    one = waiting(house, submit(house, "e3"), 3)
    assert house.elsewhere.stand_in(one, "It failed.")


# Limits


def test_ten_at_once_do_not_overrun_the_day(house: House, rules: Callable[[str], None]) -> None:
    rules(f"{PRICES}{EVERYBODY}cost_per_day = 0.3\n")
    start = threading.Barrier(10)

    def ask(index: int) -> bool:
        start.wait()
        try:
            submit(house, f"e{index}")
        except TooMuch:
            return False
        return True

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(ask, range(10))) == 3, "three of 0.1 are 0.3"
    for one in house.generations.pending(ANN):
        house.generations.finish(claimed(house, one), [], 1.0)
    assert used(house) == 0.3
    with pytest.raises(TooMuch) as told:
        submit(house, "late")
    assert str(told.value).startswith(
        "Your pictures of today cost $0.30 of at most $0.30, with those that are not yet drawn; "
        "this would cost $0.10 more. What costs nothing may be asked for all the same. It renews in"
    )
    assert told.value.wait and 0 < told.value.wait <= 86400
    assert submit(house, "free", "pattern")
    with house.database.write() as connection:
        connection.execute(update(usage).values(day="2020-01-01"))
    assert submit(house, "tomorrow")


def test_several_at_once_are_let_in_all_or_none(house: House, rules: Callable[[str], None]) -> None:
    rules(f"{PRICES}{EVERYBODY}cost_per_day = 0.3\n")
    submit(house, "e1", count=2)
    request = catalog.settle(validate({"prompt": "an owl", "model": FLUX}), 7)
    two = [request, replace(request, seed=8)]
    for ask in (
        lambda: house.generations.admission.check(two, ANN),
        lambda: house.generations.accept(two, ANN, "e2", {}, 1),
        lambda: submit(house, "e3", "openai"),
        lambda: submit(house, "e4", count=2),
    ):
        with pytest.raises(TooMuch, match=r"cost \$0\.20 of at most \$0\.30.* would cost \$0\."):
            ask()
    assert house.generations.accept(two[:1], ANN, "e5", {}, 1)


def test_a_prompt_still_to_be_written_counts_with_its_picture(
    house: House, rules: Callable[[str], None]
) -> None:
    rules(f"{PRICES}{EVERYBODY}cost_per_day = 0.2015\n")
    request = catalog.settle(validate({"prompt": "a fox", "model": FLUX}), 7)
    wanted = replace(request, enhance="openai:gpt-4o-mini")
    first = house.generations.submit(wanted, ANN, "e1", {})
    with pytest.raises(TooMuch, match=r"cost \$0\.101 of .* would cost \$0\.101"):
        house.generations.submit(replace(wanted, seed=8), ANN, "e2", {})
    written = house.generations.enhanced(claimed(house, first), "a red fox")
    assert written
    with pytest.raises(TooMuch, match=r"cost \$0\.101 of"):
        house.generations.submit(replace(wanted, seed=8), ANN, "e3", {})
    assert house.generations.submit(replace(request, seed=8), ANN, "e4", {})


def test_a_chat_has_its_own_limit(house: House, rules: Callable[[str], None]) -> None:
    rules(f"{PRICES}{EVERYBODY}[chat]\ncost_per_day = 0.2\n")
    submit(house, "e1")
    drawn(house, "e2", asker=BOB)
    with pytest.raises(TooMuch, match=r"This chat's pictures of today cost \$0\.20 of at most"):
        submit(house, "e3", asker=BOB)
    assert submit(house, "e4", asker=replace(BOB, chat="other"))
    assert "This chat: $0.20 of $0.20 for what is drawn today." in say(house, BOB, "/quota")


def test_yesterdays_that_still_wait_are_yesterdays(
    house: House, rules: Callable[[str], None]
) -> None:
    rules(f"{PRICES}{EVERYBODY}cost_per_day = 0.1\n")
    old = submit(house, "e1")
    with house.database.write() as connection:
        connection.execute(update(generations).values(created=now() - timedelta(days=1)))
    assert submit(house, "e2")
    house.generations.finish(claimed(house, old), [], 1.0)
    assert used(house) == 0


def test_a_retry_is_asked_for_as_any(house: House, rules: Callable[[str], None]) -> None:
    rules(f"{PRICES}{EVERYBODY}cost_per_day = 0.15\n")
    old = submit(house, "e1")
    house.generations.stop(old)
    submit(house, "e2")
    with pytest.raises(TooMuch, match="would cost"):
        house.generations.redo(old.id, ANN, "again")
    assert house.generations.get(old.id).state == State.CANCELLED


def test_an_edit_may_not_be_dearer_than_what_is_left(
    house: House, rules: Callable[[str], None]
) -> None:
    rules(f"{PRICES}{EVERYBODY}cost_per_day = 0.6\n")
    made = submit(house, "e1")
    drawn(house, "e2")
    dear = replace(made.request, model="openai")
    assert house.generations.edit(made.id, dear, ANN).request.model == "openai", "0.1 and 0.5"
    with pytest.raises(TooMuch, match=r"cost \$0\.60 of at most \$0\.60.* cost \$0\.50 more"):
        house.generations.edit(made.id, replace(dear, count=2), ANN)
    assert house.generations.get(made.id).request == dear
    assert house.generations.edit(made.id, replace(dear, model=FLUX), ANN).request.model == FLUX
    house.generations.finish(claimed(house, house.generations.get(made.id)), [], 1.0)
    assert cost(house, made) == 0.1, "it is paid as it was drawn"


def test_an_edit_to_another_machine_is_paid_when_that_has_begun(house: House) -> None:
    made = submit(house, "e1", "pattern")
    house.generations.edit(made.id, replace(made.request, model=FLUX), ANN)
    one = claimed(house, made)
    house.generations.stop(one)
    assert cost(house, one) == used(house) == 0.1


def test_one_who_has_spent_too_much_may_still_change_what_costs_no_more(
    house: House, rules: Callable[[str], None]
) -> None:
    made = submit(house, "e1")
    for index in range(4):
        drawn(house, f"d{index}")
    rules(f"{PRICES}{EVERYBODY}cost_per_day = 0.2\n")
    assert house.generations.edit(made.id, replace(made.request, prompt="an owl"), ANN)
    assert submit(house, "free", "pattern")
    rules(f"{PRICES}{EVERYBODY}seconds_per_day = 1\n")
    other = house.elsewhere.stand_in(claimed(house, made), "kie.ai is down.")
    assert other, "who asked for nothing more is refused no second"


# People


def test_accounts_that_are_linked_count_together(
    house: House, rules: Callable[[str], None]
) -> None:
    rules(f"{PRICES}{EVERYBODY}cost_per_day = 0.5\n")
    drawn(house, "d1", asker=DISCORD)
    drawn(house, "t1", asker=TELEGRAM)
    for _ in range(3):
        say(house, TELEGRAM, f"/link {code(house, DISCORD)} yes")
        assert used(house, "discord:1") == 0.2
        say(house, TELEGRAM, "/unlink")
        assert used(house, "telegram:2") == 0.2, "no second day's money by unlinking"
    drawn(house, "t2", asker=TELEGRAM)
    say(house, TELEGRAM, f"/link {code(house, DISCORD)} yes")
    assert used(house, "discord:1") == 0.3, "what was copied is not counted twice"


def test_what_is_being_drawn_is_counted_for_whose_it_is_then(house: House) -> None:
    one = claimed(house, submit(house, "t1", asker=TELEGRAM))
    say(house, TELEGRAM, f"/link {code(house, DISCORD)} yes")
    house.generations.finish(one, [], 1.0)
    assert used(house, "discord:1") == 0.1 and used(house, "telegram:2") == 0
    two = claimed(house, submit(house, "t2", asker=TELEGRAM))
    say(house, TELEGRAM, "/unlink")
    house.generations.stop(two)
    assert used(house, "telegram:2") == 0.2 and used(house, "discord:1") == 0.1


def test_who_is_forgotten_has_spent_it_all_the_same(
    house: House, rules: Callable[[str], None]
) -> None:
    rules(f"{PRICES}{EVERYBODY}cost_per_day = 0.2\n")
    drawn(house, "d1", asker=DISCORD)
    drawn(house, "d2", asker=DISCORD)
    say(house, TELEGRAM, f"/link {code(house, DISCORD)} yes")
    run(house, "forget", Ask(DISCORD, "f", {}, {"sure": "yes"}))
    assert used(house, "discord:1") == used(house, "telegram:2") == 0.2
    for asker in (DISCORD, TELEGRAM):
        with pytest.raises(TooMuch, match="would cost"):
            submit(house, f"again {asker.id}", asker=asker)
    told = costs.everybodys(house.database)
    assert told.lately == pytest.approx(0.2) and [one.name for one in told.people] == [""]


# Shown


def test_one_is_told_ones_own(house: House, rules: Callable[[str], None]) -> None:
    submit(house, "e1")
    done = drawn(house, "e2", "openai")
    assert "What was drawn for you today has cost the host $0.50." in say(house, ANN, "/quota")
    today, in_all = say(house, ANN, "/stats").splitlines()
    assert today.endswith("It cost the host $0.50.") and in_all.endswith("It cost the host $0.50.")
    rules(f"{PRICES}{EVERYBODY}cost_per_day = 2\n[money]\ncurrency = 'EUR'\n")
    told = say(house, ANN, "/quota")
    assert "You: 0.60 EUR of 2.00 EUR for what is drawn today." in told
    card = house.card(done)
    assert not any(sign in f"{card}" for sign in ("EUR", "0.5 ", "0.50", "cost"))
    rules("")
    assert "cost" not in say(house, ANN, "/stats") + say(house, ANN, "/quota")


def test_moderators_whom_the_host_lists_are_told_everybodys(house: House) -> None:
    drawn(house, "a1"), drawn(house, "b1", "openai", BOB), drawn(house, "b2", asker=BOB)
    old, older = drawn(house, "b3", "kie", BOB), drawn(house, "b4", asker=BOB)
    with house.database.write() as connection:
        for one, days in ((old, 9), (older, 31)):
            mine = generations.c.id == one.id
            created = now() - timedelta(days=days)
            connection.execute(update(generations).where(mine).values(created=created))
    told = say(house, HOST, "/stats").splitlines()
    assert told == [
        "You have asked for nothing yet. /imagine draws a picture.",
        "Everybody's, as the host pays it: $0.70 today, $0.95 in the last 30 days.",
        f"By model: openai $0.50 (1), kie $0.25 (1), {FLUX} $0.20 (2).",
        "By account: web:bob $0.85 (3), web:ann $0.10 (1).",
    ]
    for other in (ANN, replace(ANN, moderator=True)):
        assert "Everybody" not in say(house, other, "/stats")
    drawn(house, "h1", "pattern", HOST)
    assert say(house, HOST, "/stats").startswith("Today: 1 asked for")


def test_no_group_reads_what_everybodys_cost(house: House) -> None:
    drawn(house, "a1")
    host = Asker("telegram", "9", trusted=True)
    for chat, open_ in ((9, True), (-5, False)):
        told = run(house, "stats", Ask(host, "s", {"chat": chat}, {})).text
        assert ("By account: web:ann" in told) is open_ and ("Write /stats to me" in told) != open_


def test_however_many_there_are_one_message_holds_them(house: House) -> None:
    one = drawn(house, "a1")
    row = {name: value for name, value in _row(house, one).items() if name != "id"}
    with house.database.write() as connection:
        connection.execute(generations.insert(), [
            {**row, "event": f"{n}", "person": f"web:{'x' * 70}{n:03}", "cost": 1.0 + n / 1000,
             "request": {**row["request"], "model": f"kie:{'y' * 90}{n:03}"}}
            for n in range(200)
        ])  # fmt: skip
    told = say(house, HOST, "/stats")
    assert len(told) < 1500 and "others $" in told and told.count("…") == 10
    by_model = told.splitlines()[2]
    assert by_model.endswith("(196).")
    assert costs.everybodys(house.database).lately == pytest.approx(0.1 + 200 + 19.9)


def _row(house: House, one: Generation) -> dict[str, Any]:
    with house.database.read() as connection:
        found = connection.execute(select(generations).where(generations.c.id == one.id)).one()
    return dict(found._mapping)


def test_where_pictures_are_kept_for_a_week_no_more_is_claimed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAWQUEUE_KEEP_DAYS", "7")
    settings._read.cache_clear()
    drawn(house, "a1")
    assert "in the last 7 days" in say(house, HOST, "/stats")


def test_what_was_paid_is_found_without_reading_everything(house: House) -> None:
    asked: list[tuple[str, Any]] = []
    event.listen(
        house.database.engine, "before_cursor_execute",
        lambda _c, _k, statement, values, *_rest: asked.append((statement, values)),
    )  # fmt: skip
    costs.everybodys(house.database)
    found = [one for one in asked if "FROM generations" in one[0]]
    assert len(found) == 2
    with house.database.read() as connection:
        postgres = connection.dialect.name == "postgresql"
        if postgres:
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        how = "EXPLAIN" if postgres else "EXPLAIN QUERY PLAN"
        for statement, values in found:
            plan = connection.exec_driver_sql(f"{how} {statement}", values).all()
            assert "ix_generations_paid" in str(plan), plan


def test_programs_are_told_the_same(
    house: House, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest,
    rules: Callable[[str], None],
) -> None:  # fmt: skip
    me = Asker("web", "local")
    drawn(house, "a1"), drawn(house, "m1", "openai", me), submit(house, "m2", asker=me)
    web: httpx.Client = request.getfixturevalue("web")
    told = web.get("/api/stats").json()
    assert told["today"]["cost"] == told["all"]["cost"] == 0.5 and told["currency"] == "$"
    assert told["all"]["states"]["done"] == told["all"]["states"]["queued"] == 1
    assert told["all"]["elsewhere"] == {"openai": told["all"]["seconds"]} != {"openai": 0.0}
    assert told["everybody"] is None
    monkeypatch.setenv("DRAWQUEUE_MODERATORS", "web:local")
    settings._read.cache_clear()
    everybody = web.get("/api/stats").json()["everybody"]
    assert everybody["today"] == everybody["lately"] == 0.6 and everybody["days"] == 30
    assert everybody["models"][0] == {"name": "openai", "cost": 0.5, "pictures": 1}
    assert [one["name"] for one in everybody["people"]] == ["web:local", "web:ann"]
    rules("")
    told = web.get("/api/stats").json()
    assert told["today"]["cost"] is told["everybody"] is None


def test_a_house_without_prices_knows_no_money(house: House, rules: Callable[[str], None]) -> None:
    rules("")
    assert Policy().prices == {} and drawn(house, "a1").cost == 0
    assert used(house) == 0 and "Everybody" not in say(house, HOST, "/stats")
