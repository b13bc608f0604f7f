"""`make guards`: each guard is taken out of a copy of the tree, and whoever watches it must fail.

A guard that can be taken away without anybody noticing is either not needed or not tested. Those
that only a killed process needs are shown by chaos, the others by the test named beside them.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

CHAOS = "chaos"
SEEDS = (1, 2, 3)
# With every guard in its place all is whole again in half the time.
REQUESTS, KILLS, SETTLE_SECONDS = 60, 25, 50
# How the audit begins a line about a fault, and pytest one about a test.
AUDITED, TESTED = ("lost", "twice", "stuck", "#", "nobody", "missing", "orphan"), "FAILED"


@dataclass(frozen=True)
class Guard:
    """What it keeps from happening, and the change that takes it away."""

    what: str
    file: str
    there: str
    gone: str
    shown_by: str = CHAOS


GENERATIONS = "core/generations.py"
MENDING, SHOWING, ELSEWHERE = "core/mending.py", "core/showing.py", "core/elsewhere.py"
GUARDS = (
    Guard(
        "an event is accepted once, however often it comes",
        GENERATIONS,
        "events_ = [event, *(",
        "events_ = [event + secrets.token_hex(4), *(",
    ),
    Guard(
        "a drawing whose worker died is drawn again",
        MENDING,
        'bool(self._generations.restart(generation, tr("The worker that drew this stopped.")))',
        "False",
    ),
    Guard(
        "what is committed and in no line is put in line",
        MENDING,
        "            self._generations.line_up(generation)\n            return True\n        alive",
        "            return False\n        alive",
    ),
    Guard(
        "an emptied Redis is told from an operator's Delete",
        GENERATIONS,
        "        if self.queue.known():\n            return",
        "        return",
    ),
    Guard(
        "a card that one process could not draw is drawn by another",
        "bots/poster.py",
        "self.house.showing.stale, sorted(self._open)",
        "lambda _platforms: [], sorted(self._open)",
    ),
    Guard(
        "a card has one editor at a time",
        SHOWING,
        "        return taken.rowcount == 1\n\n    def release",
        "        return True\n\n    def release",
        "tests/core/test_generations.py::test_a_card_has_one_editor_at_a_time",
    ),
    Guard(
        "a card has one message",
        SHOWING,
        "or_(generations.c.message.is_(None), generations.c.message == message),",
        "",
        "tests/core/test_generations.py::test_a_card_has_one_message",
    ),
    Guard(
        "an attempt that is over changes nothing",
        GENERATIONS,
        "                generations.c.attempt == old.attempt,\n                generations.c.st",
        "                generations.c.st",
        "tests/core/test_generations.py::test_an_attempt_that_is_over_changes_nothing",
    ),
    Guard(
        "a job that a worker took and never claimed is found",
        MENDING,
        "return not alive and moment - since > LOST_SECONDS",
        "return False",
        "tests/core/test_generations.py::test_a_job_whose_worker_died_before_it_claimed_is_found",
    ),
    Guard(
        "a job that waits to be claimed is not forgotten",
        MENDING,
        "if one.state in FINAL or one.attempt != attempt:",
        "if one.state not in RUNNING or one.attempt != attempt:",
        "tests/core/test_generations.py"
        "::test_a_job_that_waits_to_be_claimed_is_not_taken_for_an_operators_delete",
    ),
    Guard(
        "what Telegram was told we have is done though the database is away",
        "bots/telegram_chat.py",
        "except TryAgain as error:",
        "except ZeroDivisionError as error:",
        "tests/journeys/test_telegram_trouble.py"
        "::test_what_was_taken_in_waits_for_a_database_that_is_away",
    ),
    Guard(
        "a task elsewhere whose worker died before it noted it is not asked for twice",
        MENDING,
        "        if self._elsewhere.adopt(generation):",
        "        if False:",
        "tests/core/test_elsewhere.py::test_the_sweep_finds_who_died",
    ),
    Guard(
        "news of other machines prove themselves",
        ELSEWHERE,
        "            if not hmac.compare_digest(proof, _proof(secret)) or",
        "            if",
        "tests/core/test_elsewhere.py::test_who_does_not_prove_themselves_is_not_heard",
    ),
    Guard(
        "one of two fetches what another machine has drawn",
        ELSEWHERE,
        "                .values(due=now() + COLLECT)",
        "                .values(due=generations.c.due)",
        "tests/core/test_elsewhere.py::test_one_of_two_takes_it_up",
    ),
    Guard(
        "a worker that stores for long is not taken for dead",
        "worker/finishing.py",
        "                heart.beat()",
        "                pass",
        "tests/worker/test_finishing.py::test_a_slow_storage_is_no_dead_worker",
    ),
    Guard(
        "a result that was noted and not answered is not thrown away",
        GENERATIONS,
        "won = one if one.state == State.DONE and same else None",
        "won = None",
        "tests/worker/test_finishing.py::test_noting_a_result_twice_notes_it_once",
    ),
    Guard(
        "a database that is away costs no picture",
        "core/database.py",
        "            if time.monotonic() + pause > end:",
        "            if True:",
        "tests/worker/test_finishing.py::test_a_locked_database_costs_no_picture",
    ),
    Guard(
        "no file is left of a picture that nobody gets",
        "worker/finishing.py",
        '            house.media.delete(one["key"])',
        "            pass",
        "tests/worker/test_finishing.py::test_a_picture_cancelled_while_it_is_stored_is_not_kept",
    ),
    Guard(
        "files of killed workers are swept",
        "core/keeping.py",
        "if key not in held and",
        "if True and",
        "tests/core/test_keeping.py::test_what_a_picture_begins_with_stays_as_long_as_any_needs_it",
    ),
    Guard(
        "a worker that leaves puts its drawing back",
        "worker/tasks.py",
        "if Studio.leaving.is_set() or not isinstance(error, Exception):",
        "if False:",
        "tests/worker/test_finishing.py::test_a_worker_that_leaves_puts_its_drawing_back_in_front",
    ),
    Guard(
        "a Telegram update is kept before it is confirmed, and handled once",
        "core/inbox.py",
        "fresh = [event for event in arrived if event not in stored]",
        "fresh = list(arrived)",
        "tests/core/test_inbox.py",
    ),
    Guard(
        "only the asker or a moderator presses",
        "core/rows.py",
        "if not moderates(generation, asker) and not self._own(generation, asker):",
        "if False:",
        "tests/core/test_generations.py::test_only_the_asker_or_a_moderator_presses",
    ),
)


def faults_of(guard: Guard) -> list[str]:
    """What is wrong with a guard's description; a test holds that nothing is."""
    told = []
    if (ROOT / guard.file).read_text().count(guard.there) != 1:
        told.append(f"{guard.file} does not say once: {guard.there}")
    path, _, name = guard.shown_by.partition("::")
    if guard.shown_by != CHAOS and f"def {name}" not in (ROOT / path).read_text():
        told.append(f"there is no {guard.shown_by}")
    return told


def noticed(guard: Guard, tree: Path) -> str:
    """How it was noticed that a guard is gone; empty when nobody did."""
    file = tree / guard.file
    whole = file.read_text()
    file.write_text(whole.replace(guard.there, guard.gone))
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    runs = [["-m", "pytest", "-q", guard.shown_by]]
    if guard.shown_by == CHAOS:
        runs = [
            ["-m", "tests.chaos", "--seed", str(seed), "--requests", str(REQUESTS),
             "--kills", str(KILLS), "--settle", str(SETTLE_SECONDS)] for seed in SEEDS
        ]  # fmt: skip
    try:
        for run in runs:
            done = subprocess.run(
                [sys.executable, *run], cwd=tree, env=environment, capture_output=True, text=True
            )
            if done.returncode == 1:
                lines = [one.strip() for one in done.stdout.splitlines()]
                told = AUDITED if guard.shown_by == CHAOS else TESTED
                chosen = [one for one in lines if one.startswith(told)]
                return (chosen or lines)[0]
            if done.returncode:
                raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    finally:
        file.write_text(whole)
    return ""


def main() -> int:
    """Switch them off one after the other; the exit status tells whether each was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="words of the guards to try")
    only = parser.parse_args().only
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(
            ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "home", ".*_cache")
        )
        for guard in sorted(GUARDS, key=lambda one: one.shown_by == CHAOS):
            if only in guard.what:
                how = noticed(guard, tree)
                missed += not how
                print(f"{'noticed' if how else 'NOT NOTICED'}: {guard.what}\n    {how}", flush=True)
    print(f"{missed} of {len(GUARDS)} guards are not missed")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
