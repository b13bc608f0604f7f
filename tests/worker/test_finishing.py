"""What a worker does with a job, less the drawing: claim, heart, seal, store, finish, put back."""

import errno
import io
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from core import database, thumbnails
from core.catalog import settle
from core.engine import TransientError
from core.house import House
from core.lifecycle import State
from core.media import SMALL
from core.options import Mode, validate
from core.people import Asker
from core.rows import Generation
from worker import finishing
from worker.finishing import Finisher
from worker.tasks import DrawingFailed, Studio, generate

ANN = Asker("web", "ann")


class Painter:
    """An engine that has painted already."""

    loading = 0.0

    def draw(self, *_given: object) -> list[Image.Image]:
        return [Image.new("RGB", (8, 8), "red")]


@pytest.fixture
def studio(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(Studio, "house", house, raising=False)
    monkeypatch.setattr(Studio, "engine", Painter(), raising=False)
    monkeypatch.setattr(Studio, "finisher", Finisher(house), raising=False)
    yield house
    Studio.leaving.clear()


def asked(house: House, prompt: str = "a fox") -> Generation:
    return house.generations.submit(validate({"prompt": prompt}), ANN, f"e-{prompt}", {})


def files(tmp_path: Path) -> list[Path]:
    """What is stored, but for small copies."""
    return [path for path in (tmp_path / "media").rglob("*")
            if path.is_file() and not path.name.endswith(SMALL)]  # fmt: skip


def slow(house: House, monkeypatch: pytest.MonkeyPatch, *acts: object) -> None:
    """Let storing begin with these: exceptions are raised, the others called."""
    store, left = house.media.save, list(acts)

    def save(generation: int, name: str, data: bytes) -> str:
        act = left.pop(0) if len(left) > 1 else left[0] if left else None
        if isinstance(act, Exception):
            raise act
        if callable(act):
            act()
        return store(generation, name, data)

    monkeypatch.setattr(house.media, "save", save)


def test_the_recipe_is_in_the_picture(studio: House) -> None:
    made = asked(studio, "a fox – größer")
    generate(made.id)
    assert Studio.finisher.drain(10)
    over = studio.generations.get(made.id)
    with Image.open(io.BytesIO(studio.media.load(over.results[0]["key"]))) as drawn:
        assert drawn.info["parameters"].startswith("a fox – größer\nSteps: ")
        assert drawn.getpixel((4, 4)) == (255, 0, 0)
    assert (over.results[0]["width"], over.results[0]["seed"]) == (8, made.request.seed)


def test_the_engine_waits_for_no_storage(studio: House, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    slow(studio, monkeypatch, release.wait)
    first, second = asked(studio, "first"), asked(studio, "second")
    generate(first.id)
    generate(second.id)  # Would wait for ever if the first had to be stored before.
    assert studio.generations.get(first.id).state == State.GENERATING
    release.set()
    assert Studio.finisher.drain(10)
    assert {studio.generations.get(one.id).state for one in (first, second)} == {State.DONE}


# Whose heart beats, Redis knows.
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_slow_storage_is_no_dead_worker(studio: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.queue.ALIVE_SECONDS", 1)
    monkeypatch.setattr(finishing, "BEAT_EVERY_SECONDS", 0.3)
    made, alive = asked(studio), []

    def wait() -> None:
        for _ in range(8):
            time.sleep(0.25)
            alive.append(studio.queue.alive(made.id, 1))

    slow(studio, monkeypatch, wait)
    generate(made.id)
    assert Studio.finisher.drain(10)
    assert all(alive) and studio.generations.get(made.id).state == State.DONE
    time.sleep(1.5)
    assert not studio.queue.alive(made.id, 1), "a heart that never stops would hide a dead worker"


def test_a_storage_that_comes_back_costs_no_picture(
    studio: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing, "STORE_PAUSES", (0.1, 0.1))
    slow(studio, monkeypatch, OSError(errno.EIO, "away"), OSError(errno.EIO, "away"), None)
    made = asked(studio)
    generate(made.id)
    assert Studio.finisher.drain(10)
    done = studio.generations.get(made.id)
    assert done.state == State.DONE
    assert thumbnails.kept(studio.media, str(done.results[0]["key"])), "a small copy beside it"


def test_a_full_disk_is_told_and_leaves_nothing_behind(
    studio: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(finishing, "STORE_PAUSES", (0.1,))
    full = OSError(errno.ENOSPC, "No space left on device")

    def move(*_given: object) -> None:
        raise full

    monkeypatch.setattr(studio.media._files, "mv", move)
    made = asked(studio)
    generate(made.id)
    assert Studio.finisher.drain(10)
    over = studio.generations.get(made.id)
    assert over.state == State.FAILED and over.error
    assert "could not be kept" in over.error and "space" not in over.error
    assert files(tmp_path) == []


def test_a_picture_cancelled_while_it_is_stored_is_not_kept(
    studio: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = asked(studio)
    slow(studio, monkeypatch, lambda: studio.generations.cancel(made.id, ANN))
    generate(made.id)
    assert Studio.finisher.drain(10)
    assert studio.generations.get(made.id).state == State.CANCELLED and files(tmp_path) == []


def test_noting_a_result_twice_notes_it_once(house: House) -> None:
    """The answer of the first may be lost with the database's connection."""
    claimed = house.generations.claim(asked(house).id)
    assert claimed
    first = house.generations.finish(claimed, [{"key": "0/1-x-1.png"}], 1.0)
    again = house.generations.finish(claimed, [{"key": "0/1-x-1.png"}], 1.0)
    assert first and again and first.version == again.version
    assert house.generations.finish(claimed, [{"key": "0/1-other.png"}], 1.0) is None


def test_a_locked_database_costs_no_picture(
    studio: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if studio.database.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL has no lock of the whole database; its stop is a journey")
    made = asked(studio)
    monkeypatch.setattr(database, "PATIENCE", ContextVar("patience", default=0.05))
    other = sqlite3.connect(
        tmp_path / "rows.sqlite3", isolation_level=None, check_same_thread=False
    )
    slow(studio, monkeypatch, lambda: other.execute("BEGIN EXCLUSIVE"))
    generate(made.id)
    time.sleep(1)
    assert not Studio.finisher.drain(0.5), "it waits"
    other.execute("ROLLBACK")
    assert Studio.finisher.drain(15)
    assert studio.generations.get(made.id).state == State.DONE and len(files(tmp_path)) == 1
    other.close()


def test_a_worker_that_leaves_puts_its_drawing_back_in_front(
    studio: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def draw(self, *_given: object) -> list[Image.Image]:
            Studio.leaving.set()
            raise TransientError("The engine crashed while drawing this.")

    monkeypatch.setattr(Studio, "engine", Interrupted(), raising=False)
    made, other = asked(studio), asked(studio, "another")
    studio.queue.draw.rq.dequeue_any([studio.queue.draw.rq], None, connection=studio.queue.redis,
                                serializer=studio.queue.draw.rq.serializer)  # fmt: skip
    generate(made.id)
    back = studio.generations.get(made.id)
    assert (back.state, back.attempt, back.restarts) == (State.QUEUED, 2, 0)
    assert studio.queue.draw.rq.get_job_ids() == [back.job, other.job]
    assert "restarted" in str(back.error)


def test_a_job_of_a_stored_failure_can_be_requeued(
    studio: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RQ holds the job for done when storing fails: it is told otherwise."""
    made = asked(studio)
    job = studio.queue.draw.rq.fetch_job(made.job)
    assert job
    studio.queue.draw.rq.finished_job_registry.add(job, ttl=3600)
    studio.queue.draw.failed(made.id, made.attempt, "no room")
    assert studio.queue.draw.rq.failed_job_registry.get_job_ids() == [made.job]
    assert studio.queue.draw.rq.finished_job_registry.get_job_ids() == []
    assert studio.queue.status(made.id, made.attempt) == "failed"


def test_a_bug_fails_the_job_in_words(studio: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_given: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(Studio, "engine", SimpleNamespace(draw=broken), raising=False)
    made = asked(studio)
    with pytest.raises(DrawingFailed):
        generate(made.id)
    over = studio.generations.get(made.id)
    assert over.state == State.FAILED and "fault" in str(over.error)
    assert "secret" not in str(over.error)


def test_a_picture_to_begin_with_that_is_gone_is_told(studio: House) -> None:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, "PNG")
    source = studio.uploads.keep(out.getvalue())
    wanted = settle(validate({"prompt": "a fox"}), 7, Mode.REMIX, [source])
    made = studio.generations.submit(wanted, ANN, "e-gone", {})
    studio.media.delete(source.key)
    with pytest.raises(DrawingFailed, match="AskDifferently"):
        generate(made.id)
    over = studio.generations.get(made.id)
    assert over.state == State.FAILED
    assert over.error == "The picture that this begins with is not kept any more."


def test_loading_a_model_is_charged_to_nobody_and_learned(
    studio: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Painter, "loading", 100.0)
    made = asked(studio)
    generate(made.id)
    assert Studio.finisher.drain(10)
    assert studio.generations.get(made.id).seconds == 0
    assert studio.queue.pace.loading("pattern") == 100
