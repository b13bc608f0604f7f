"""What a worker does with a job, less the drawing: claim, heart, store, finish."""

import time
from pathlib import Path

import pytest

from core.engine import Picture
from core.house import House
from core.lifecycle import State
from core.options import validate
from core.people import Asker
from worker import tasks
from worker.tasks import Studio, generate


class SlowStorage:
    """A storage that takes its time, and is asked meanwhile whether the worker seems alive."""

    def __init__(self, house: House, job: int) -> None:
        self.house, self.job, self.alive = house, job, []  # type: ignore[var-annotated]

    def save(self, generation: int, name: str, data: bytes) -> str:
        for _ in range(8):
            time.sleep(0.25)
            self.alive.append(self.house.queue.alive(generation, 1))
        return Path(name).name


class Painter:
    """An engine that has painted already."""

    def draw(self, *_given: object) -> list[Picture]:
        return [Picture(b"png", 1, 8, 8)]


def test_a_slow_storage_is_no_dead_worker(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.queue.ALIVE_SECONDS", 1)
    monkeypatch.setattr(tasks, "BEAT_EVERY_SECONDS", 0.3)
    asker = Asker("web", "ann")
    made = house.generations.submit(validate({"prompt": "a fox"}), asker, "e", {})
    slow = SlowStorage(house, made.id)
    monkeypatch.setattr(Studio, "house", house, raising=False)
    monkeypatch.setattr(Studio, "engine", Painter(), raising=False)
    object.__setattr__(house, "media", slow)
    generate(made.id)
    assert all(slow.alive) and house.generations.get(made.id).state == State.DONE
