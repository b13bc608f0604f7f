"""The fair order in RQ's own list, on a real Valkey."""

import random
import subprocess
import sys
from collections import Counter

import pytest
from redis import Redis
from rq.serializers import JSONSerializer

from core.fair import PREFIX, Claim, FairQueue
from tests.conftest import ROOT


@pytest.fixture
def line(redis_url: str) -> FairQueue:
    return FairQueue("draw", connection=Redis.from_url(redis_url), serializer=JSONSerializer)


def ask(line: FairQueue, name: str, user: str, cost: float = 10.0, weight: float = 1.0) -> None:
    line.announce(name, Claim(user, cost, weight))
    line.enqueue("worker.tasks.generate", 1, job_id=name)


def serve(line: FairQueue) -> str:
    """Take the next job as a worker does."""
    name = line.connection.lpop(line.key)
    assert isinstance(name, bytes)
    return name.decode()


def served(line: FairQueue, number: int) -> list[str]:
    return [serve(line) for _ in range(number)]


def test_a_newcomer_stands_before_the_second_job_of_a_flood(line: FairQueue) -> None:
    for number in range(50):
        ask(line, f"a{number}", "a")
    assert serve(line) == "a0"
    ask(line, "b0", "b")
    ask(line, "c0", "c")
    ask(line, "b1", "b")
    assert served(line, 6) == ["b0", "c0", "a1", "b1", "a2", "a3"]


def test_cost_counts_and_not_the_number_of_jobs(line: FairQueue) -> None:
    for number in range(4):
        ask(line, f"big{number}", "a", cost=30)
    for number in range(12):
        ask(line, f"small{number}", "b", cost=10)
    taken = served(line, 8)
    assert sum(name.startswith("big") for name in taken) == 2


def test_weights_are_shares(line: FairQueue) -> None:
    weights = {"relax": 1.0, "fast": 2.0, "turbo": 4.0}
    for user, weight in weights.items():
        for number in range(100):
            ask(line, f"{user}-{number}", user, weight=weight)
    got = Counter(name.split("-")[0] for name in served(line, 140))
    for user, weight in weights.items():
        assert abs(got[user] / 140 - weight / 7) < 0.05 * weight / 7 + 1 / 140


@pytest.mark.parametrize("weight", [1.0, 10.0, 1000.0])
def test_no_weight_starves_anybody(line: FairQueue, weight: float) -> None:
    """The bound that core/fair.py states, with nine heavy users who never stop asking."""
    for user in range(9):
        for number in range(50):
            ask(line, f"h{user}-{number}", f"h{user}", weight=weight)
    served(line, 100)
    for number in range(3):
        ask(line, f"newcomer-{number}", "newcomer")
    order = line.get_job_ids()
    before = [name.split("-")[0] for name in order[: order.index("newcomer-0")]]
    assert max(Counter(before).values(), default=0) <= 1
    # While all of them wait, two jobs of one's own are due after 2 / share jobs in all.
    share = 1 / (1 + 9 * weight)
    for number in (1, 2):
        assert order.index(f"newcomer-{number}") <= number / share + 9


def test_wrong_estimates_cost_nobody_their_share(line: FairQueue) -> None:
    """However many wait: 200 jobs announced far too cheap, beside 60 announced right."""
    for number in range(200):
        ask(line, f"a{number}", "a", cost=1)
    for number in range(60):
        ask(line, f"b{number}", "b", cost=60)
    got: Counter[str] = Counter()
    for _ in range(100):
        name = serve(line)
        got[name[0]] += 1
        line.settle(name, 60)
    assert abs(got["a"] - got["b"]) <= 2


def test_one_dear_job_is_charged_and_no_newcomer_waits_for_it(line: FairQueue) -> None:
    for number in range(200):
        ask(line, f"a{number}", "a")
        ask(line, f"b{number}", "b")
    assert serve(line) == "a0"
    line.settle("a0", 600)
    taken = served(line, 70)
    assert taken[:59] == [f"b{number}" for number in range(59)]
    ask(line, "newcomer", "c")
    before = line.get_job_ids()[: line.get_job_ids().index("newcomer")]
    assert max(Counter(name[0] for name in before).values(), default=0) <= 1


def test_a_late_refund_puts_no_two_jobs_of_one_user_side_by_side(line: FairQueue) -> None:
    ask(line, "a0", "a", cost=1000)
    for number in range(1, 50):
        ask(line, f"a{number}", "a")
    for number in range(60):
        ask(line, f"b{number}", "b")
    taken = served(line, 51)
    assert taken[0] == "a0" and "a1" not in taken
    line.settle("a0", 1)
    ask(line, "newcomer", "c")
    before = line.get_job_ids()[: line.get_job_ids().index("newcomer")]
    assert sum(name.startswith("a") for name in before) <= 1


def test_many_cancelled_at_once_bring_the_rest_forward(line: FairQueue) -> None:
    for number in range(200):
        ask(line, f"a{number}", "a")
        ask(line, f"b{number}", "b")
    for number in range(150):
        line.leave(f"a{number}")
    assert line.get_job_ids()[:4] == ["a150", "b0", "a151", "b1"] or line.get_job_ids()[:2] == [
        "b0", "a150",
    ]  # fmt: skip
    ask(line, "late", "a")
    assert line.get_job_ids().index("late") > line.get_job_ids().index("a199")


def test_high_priority_passes_all_of_ones_own(line: FairQueue) -> None:
    for number in range(200):
        ask(line, f"a{number}", "a")
    line.announce("high", Claim("a", 10, priority=2))
    line.enqueue("worker.tasks.generate", 1, job_id="high")
    assert line.get_job_ids()[:2] == ["high", "a0"]


def test_what_an_operator_deleted_does_not_come_back(line: FairQueue) -> None:
    for number in range(6):
        ask(line, f"a{number}", "a")
    assert serve(line) == "a0"
    line.connection.lrem(line.key, 1, "a3")
    line.settle("a0", 100)
    assert line.get_job_ids() == ["a1", "a2", "a4", "a5"]


def test_what_was_put_first_stays_first(line: FairQueue) -> None:
    for number in range(4):
        ask(line, f"a{number}", "a")
    assert serve(line) == "a0"
    assert line.move("a3", Claim("a", 10), first=True)
    ask(line, "newcomer", "b")
    assert line.get_job_ids()[0] == "a3"
    line.settle("a0", 60)  # Dearer than expected: that is charged to the others.
    assert line.get_job_ids() == ["a3", "newcomer", "a1", "a2"]
    assert not line.move("a0", Claim("a", 10)), "a worker has it"


def test_a_job_of_a_lost_worker_goes_back_first_and_is_charged_once(line: FairQueue) -> None:
    for number in range(3):
        ask(line, f"a{number}", "a")
        ask(line, f"b{number}", "b")
    assert serve(line) == "a0"
    line.leave("a0")
    line.announce("a0-again", Claim("a", 10))
    line.enqueue("worker.tasks.generate", 1, job_id="a0-again", at_front=True)
    assert line.get_job_ids() == ["a0-again", "b0", "a1", "b1", "a2", "b2"]


def test_a_cancelled_job_gives_its_cost_back(line: FairQueue) -> None:
    for number in range(3):
        ask(line, f"a{number}", "a", cost=100)
        ask(line, f"b{number}", "b", cost=100)
    serve(line)
    line.leave("a1")
    assert line.get_job_ids() == ["b0", "b1", "a2", "b2"], "a2 stands where a1 stood"
    ask(line, "a3", "a", cost=100)
    assert line.get_job_ids().index("a3") > line.get_job_ids().index("a2")
    line.leave("nobody knows me")


def test_what_a_job_really_cost_is_settled(line: FairQueue) -> None:
    for number in range(4):
        ask(line, f"a{number}", "a")
        ask(line, f"b{number}", "b")
    assert served(line, 2) == ["a0", "b0"]
    line.settle("a0", 35.0)
    assert line.get_job_ids()[:4] == ["b1", "b2", "b3", "a1"]
    line.settle("b0", 10.0)
    cheap = served(line, 1)
    assert cheap == ["b1"]
    line.settle("a1", 0.0)  # Settled before it was served: odd, and harmless.
    assert sorted(line.get_job_ids()) == ["a1", "a2", "a3", "b2", "b3"]


def test_a_job_can_be_put_first(line: FairQueue) -> None:
    for number in range(3):
        ask(line, f"a{number}", "a")
    line.announce("b0", Claim("b", 10))
    line.enqueue("worker.tasks.generate", 1, job_id="b0", at_front=True)
    assert line.get_job_ids() == ["b0", "a0", "a1", "a2"]


def test_what_others_pushed_is_put_in_its_place(line: FairQueue) -> None:
    for number in range(5):
        ask(line, f"a{number}", "a")
    serve(line)
    line.connection.rpush(line.key, "b0")
    line.connection.lrem(line.key, 1, "a3")
    line._compared = float("-inf")
    assert line.mend(lambda name: Claim("b", 10) if name == "b0" else None) == 1
    assert line.get_job_ids() == ["b0", "a1", "a2", "a4"]
    assert line.mend(lambda _name: None) == 0


@pytest.mark.parametrize(
    ("cost", "weight"), [(-1, 1), (0, 1), (1, 0), (float("nan"), 1), (1e12, 1)]
)
def test_absurd_costs_and_weights_are_refused(line: FairQueue, cost: float, weight: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        line.announce("a", Claim("a", cost, weight))


def test_everybody_starts_anew_when_the_line_was_empty(line: FairQueue) -> None:
    for number in range(10):
        ask(line, f"a{number}", "a")
    served(line, 10)
    ask(line, "a10", "a")
    ask(line, "b0", "b")
    assert line.get_job_ids() == ["a10", "b0"]
    assert line.connection.hlen(PREFIX + "jobs") == 2


@pytest.mark.parametrize("seed", range(8))
def test_the_list_is_always_in_the_order_of_tags(line: FairQueue, seed: int) -> None:
    """Random submits, services, cancels and settlements: each job once, in order, none lost."""
    rng = random.Random(seed)
    made, gone, going = 0, set(), []
    for _ in range(250):
        what = rng.random()
        listed = line.get_job_ids()
        if what < 0.55 or not listed:
            cost, weight = rng.choice((1, 5, 30)), rng.choice((1, 2, 4))
            ask(line, f"{made}", rng.choice("aaabcdefgh"), cost, weight)
            made += 1
        elif what < 0.8:
            going.append(serve(line))
            gone.add(going[-1])
        elif what < 0.9:
            chosen = rng.choice(listed)
            line.leave(chosen)
            gone.add(chosen)
        elif going:
            line.settle(going.pop(), rng.choice((0.5, 5, 60)))
        listed = line.get_job_ids()
        assert sorted(listed, key=int) == [str(i) for i in range(made) if str(i) not in gone]
        line._say("", "")
        ordered = [
            member.split(b":", 1)[1].decode()
            for member in line.connection.zrange(PREFIX + "order", 0, -1)
        ]
        assert ordered == listed


CROWD = """
import random, sys
from redis import Redis
from rq.serializers import JSONSerializer
from core.fair import Claim, FairQueue
me, url, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
line = FairQueue("draw", connection=Redis.from_url(url), serializer=JSONSerializer)
rng = random.Random(me)
for i in range(number):
    name = f"{me}-{i}"
    line.announce(name, Claim(me, rng.choice((1.0, 7.0))))
    line.enqueue("worker.tasks.generate", 1, job_id=name)
    if rng.random() < 0.2:
        line.leave(name)
        print(name)
"""


def test_several_processes_at_once(line: FairQueue, redis_url: str) -> None:
    number = 150
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, str(me), redis_url, str(number)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )
        for me in range(4)
    ]  # fmt: skip
    taken: list[str] = []
    while any(one.poll() is None for one in crowd):
        name = line.connection.lpop(line.key)
        if isinstance(name, bytes):
            taken.append(name.decode())
    left = {name for one in crowd if one.stdout for name in one.stdout.read().split()}
    taken += line.get_job_ids()
    assert len(taken) == len(set(taken)), "nothing twice"
    everything = {f"{me}-{i}" for me in range(4) for i in range(number)}
    assert everything - left <= set(taken) <= everything, "nothing lost"
