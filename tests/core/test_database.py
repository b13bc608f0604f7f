"""Databases that are busy, or cut off, and people who wait for them."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from core import commands
from core.asking import Ask
from core.database import Database
from core.errors import TryAgain
from core.house import House
from core.people import Asker


@contextmanager
def locked(house: House) -> Iterator[None]:
    """Another process keeps the database to itself."""
    other = Database(house.database.url)
    with other.write() as rows:
        if rows.dialect.name == "postgresql":
            rows.execute(text("LOCK TABLE generations, people, links"))
        yield
    other.close()


def test_who_asks_of_a_busy_database_is_told_to_ask_again_and_in_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "ANSWER_SECONDS", 1.0)
    asked = [("imagine", {"prompt": "a fox"})] * 3 + [("quiet", {}), ("link", {})]
    told: list[float] = []

    def ask(number: int) -> None:
        name, given = asked[number]
        ann = Asker("telegram", f"{number}", "Ann")
        begun = time.monotonic()
        with pytest.raises(TryAgain, match="try again"):
            commands.run(house, name, Ask(ann, f"e{number}", {}, given))
        told.append(time.monotonic() - begun)

    # As a poster of the same process does, which nobody waits for.
    patient = threading.Thread(target=lambda: house.showing.release([1]))
    with locked(house):
        patient.start()
        time.sleep(0.2)
        waiting = [threading.Thread(target=ask, args=(number,)) for number in range(len(asked))]
        for one in waiting:
            one.start()
        for one in waiting:
            one.join()
    patient.join()
    assert len(told) == len(asked) and max(told) < 2.5, told
    assert not house.generations.counts() and not house.queue.length()
    made = commands.run(house, "imagine", Ask(Asker("web", "ann0"), "e0", {}, {"prompt": "a fox"}))
    assert made.generation and house.generations.counts() == {"queued": 1}


def test_who_draws_is_more_patient(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "ANSWER_SECONDS", 0.5)
    ann = Asker("web", "ann")
    made = commands.run(house, "imagine", Ask(ann, "e", {}, {"prompt": "a fox"})).generation
    assert made
    claimed = house.generations.claim(made.id)
    assert claimed
    with locked(house):
        done: list[object] = []
        finish = threading.Thread(
            target=lambda: done.append(house.generations.finish(claimed, [{"key": "k"}], 1.0))
        )
        finish.start()
        time.sleep(2)
        assert not done
    finish.join()
    assert done[0]


def test_a_server_that_answers_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        database = Database(f"postgresql+psycopg://nobody@127.0.0.1:{port}/none")
        begun = time.monotonic()
        with pytest.raises(OperationalError), database.read():
            pass
        assert time.monotonic() - begun < 8
