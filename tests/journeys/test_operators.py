"""What hosts and operators do to a running Drawqueue, and what its users see within seconds."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from redis import Redis
from rq.command import send_stop_job_command
from sqlalchemy import select, text

from core.database import generations
from core.queue import job_id
from tests.conftest import Running, running

SOON = 5.0


@pytest.fixture(scope="module")
def house(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("operators")
    with running(
        folder / "home",
        DATABASE_URL=new_database(),
        DRAWQUEUE_MEDIA_URL=(folder / "pictures").as_uri(),
        DRAWQUEUE_MODEL="pattern",
        # Longer than the longest drawing here takes on a busy machine.
        DRAWQUEUE_JOB_TIMEOUT="14",
        DRAWQUEUE_WEB_KEY="letmein",
        DRAWQUEUE_WEB_HOST="0.0.0.0",
    ) as drawqueue:
        drawqueue.client.headers["Authorization"] = "Bearer letmein"
        yield drawqueue


@pytest.fixture(scope="module")
def dashboard(house: Running) -> Iterator[httpx.Client]:
    found = None
    end = time.monotonic() + 20
    while not found and time.monotonic() < end:
        found = re.search(r"Operators:\s+(http://\S+?:\d+)", house.log.read_text())
        time.sleep(0.1)
    assert found, house.log.read_text()
    password = (house.home / "dashboard-password").read_text().strip()
    with httpx.Client(
        base_url=found[1], auth=("operator", password), headers={"Origin": found[1]}
    ) as client:
        yield client


def ask(house: Running, prompt: str, **parameters: object) -> int:
    answer = house.client.post("/api/jobs", json={"prompt": prompt, "parameters": parameters})
    assert answer.status_code == 202, answer.text
    return int(answer.json()["id"])


def redis(house: Running) -> "Redis":
    return Redis.from_url(f"unix://{house.home / 'valkey.sock'}?db=0")


@pytest.mark.both_databases
def test_a_stopped_job_says_so(house: Running) -> None:
    job = ask(house, "sleep:0.3 stopped", steps=100)
    house.until(job, "generating")
    send_stop_job_command(redis(house), job_id(job, 1))
    failed = house.until(job, "failed", seconds=SOON)
    assert "operator stopped" in failed["error"]
    house.until(ask(house, "a fox"), "done")


@pytest.mark.both_databases(slow=True)
def test_a_worker_that_is_restarted_ends_its_picture_or_puts_it_back_in_front(
    house: Running,
) -> None:
    """SIGTERM, as a new release or a reboot sends it; the supervisor starts another worker."""
    short = ask(house, "sleep:0.1 short", steps=20)
    house.until(short, "generating")
    os.kill(house.processes()["worker"], signal.SIGTERM)
    house.until(short, "done")
    long = ask(house, "sleep:0.2 long", steps=45)
    other = ask(house, "a fox")
    house.until(long, "generating")
    told = time.monotonic()
    os.kill(house.processes()["worker"], signal.SIGTERM)
    back = house.until(long, "queued", seconds=9)
    while back["status"] == "queued" and back["place"] is None:
        back = house.client.get(f"/api/jobs/{long}").json()  # The row is told before the line.
    assert "restarted" in back["error"] and back["place"] == 1
    assert time.monotonic() - told > 4, "it had a while to end"
    house.until(long, "generating")
    assert house.client.get(f"/api/jobs/{other}").json()["status"] == "queued"
    assert len(house.until(long, "done")["results"]) == 1
    house.until(other, "done")
    with house.database() as database, database.read() as connection:
        rows = connection.execute(
            select(generations.c.id, generations.c.attempt, generations.c.restarts)
        ).all()
    told_of = {row.id: (row.attempt, row.restarts) for row in rows}
    assert told_of[short] == (1, 0), "it ended in time"
    assert told_of[long] == (2, 0), "no fault of the drawing"


def test_pictures_are_kept_where_the_setting_says(house: Running) -> None:
    job = ask(house, "a fox")
    house.until(job, "done")
    (kept,) = (house.home.parent / "pictures").rglob(f"{job}-*.png")
    assert house.client.get(f"/media/{job}/0").content == kept.read_bytes()
    assert not (house.home / "media").exists()


def test_a_job_that_takes_too_long_ends_in_words(house: Running) -> None:
    job = ask(house, "sleep:0.5 endless", steps=100)
    failed = house.until(job, "failed", seconds=40)
    assert "too long" in failed["error"] and 14 <= elapsed(failed) < 22
    house.until(ask(house, "a fox"), "done")


def elapsed(job: dict[str, object]) -> float:
    from datetime import UTC, datetime

    return (datetime.now(UTC) - datetime.fromisoformat(str(job["created"]))).total_seconds()


@pytest.mark.both_databases
def test_delete_and_requeue_in_the_dashboard(house: Running, dashboard: httpx.Client) -> None:
    failed = ask(house, "fail:ask sleep:0.2", steps=10)
    house.until(failed, "failed")
    busy = ask(house, "sleep:0.2 busy", steps=35)
    house.until(busy, "generating")
    deleted = ask(house, "a deleted one")
    assert "Place 1." in house.client.get(f"/api/jobs/{deleted}/why").json()["text"]
    time.sleep(0.5)
    assert dashboard.post(f"/job/{job_id(deleted, 1)}/delete").json() == {"status": "OK"}
    told = house.until(deleted, "cancelled", seconds=SOON)
    assert "operator removed" in told["error"]
    assert dashboard.post(f"/job/{job_id(failed, 1)}/requeue").json() == {"status": "OK"}
    house.until(failed, "queued", "generating", seconds=SOON)
    house.until(failed, "failed")
    first, second = ask(house, "one"), ask(house, "two")
    dashboard.post("/queue/draw/queued/empty")
    for job in (first, second):
        house.until(job, "cancelled", "done", seconds=SOON + 2)


@pytest.mark.both_databases
def test_an_emptied_redis_is_rebuilt_from_the_rows(house: Running) -> None:
    busy = ask(house, "sleep:0.2 busy", steps=20)
    house.until(busy, "generating")
    jobs = [ask(house, f"number {index}") for index in range(3)]
    redis(house).flushall()
    for job in jobs:
        house.until(job, "done", seconds=40)
    house.until(busy, "done", seconds=40)


@pytest.mark.on_postgresql
def test_a_database_that_drops_everybody_costs_no_picture(house: Running) -> None:
    job = ask(house, "sleep:0.2 a lasting one", steps=15)
    house.until(job, "generating")
    for _ in range(3):
        with house.database() as database, database.write() as connection:
            dropped = connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            ).all()
        assert dropped, "nobody was connected"
        house.until(job, "generating", "done")
        time.sleep(0.5)
    house.until(job, "done")
    house.until(ask(house, "a fox"), "done")
    assert house.rows()[job] == "done"


def test_a_log_tells_where_the_key_is_and_never_the_key(house: Running) -> None:
    house.until_log("Ctrl-C")
    log = house.log.read_text()
    assert "Chat:         http://127.0.0.1:" in log and "//0.0.0.0" not in log.split("ready")[1]
    assert "value of DRAWQUEUE_WEB_KEY, from the environment" in log
    assert "letmein" not in log


def test_the_key_opens_the_door_and_each_has_a_room(house: Running) -> None:
    def visitor() -> httpx.Client:
        return httpx.Client(base_url=house.address, timeout=30)

    theirs = ask(house, "a fox")
    house.until(theirs, "done")
    with visitor() as stranger, visitor() as ann, visitor() as bob:
        assert stranger.get("/api/jobs").status_code == 401
        assert stranger.get("/", params={"key": "guess"}).status_code == 401
        assert stranger.get("/health").status_code == 200
        for one in (ann, bob):
            assert one.get("/", params={"key": "letmein"}).status_code == 303
        job = ann.post("/api/jobs", json={"prompt": "mine"}).json()["id"]
        assert [one["id"] for one in ann.get("/api/jobs").json()] == [job]
        assert bob.get("/api/jobs").json() == []
        assert bob.get(f"/api/jobs/{job}").status_code == 404
        rows = house.rows()
        for answer in (
            bob.delete(f"/api/jobs/{job}"),
            bob.post(f"/api/jobs/{job}/retry"),
            bob.post(f"/api/jobs/{job}/reseed"),
            bob.get(f"/api/jobs/{job}/why"),
            bob.post("/api/chat", json={"text": f"/cancel {job}"}),
            bob.post("/api/chat", json={"text": f"/retry {job}"}),
        ):
            assert answer.status_code in (404, 409) and answer.json()["error"]
        assert house.rows().keys() == rows.keys() and house.rows()[job] != "cancelled"
        assert ann.get(f"/media/{theirs}/0").status_code == 404
        assert house.client.get(f"/media/{theirs}/0").status_code == 200
        user, proof = ann.cookies["drawqueue"].split(".")
        stranger.cookies.set("drawqueue", f"{user}.{proof[::-1]}")
        assert stranger.get("/api/jobs").status_code == 401
    assert "letmein" not in house.log.read_text()


@pytest.mark.both_databases
def test_parameters_and_events_are_only_that(house: Running) -> None:
    for name in ("request", "event", "given"):
        answer = house.client.post("/api/jobs", json={"prompt": "x", "parameters": {name: "1"}})
        assert answer.status_code == 422 and f"no option “{name}”" in answer.json()["error"]
    # No database keeps every character in a short column; PostgreSQL refuses this one.
    answer = house.client.post("/api/chat", json={"text": "a fox", "event": "a\0b"})
    assert answer.status_code == 422 and "event" in answer.json()["error"]
    made = []
    for _ in range(2):
        with httpx.Client(base_url=house.address, timeout=30) as visitor:
            visitor.get("/", params={"key": "letmein"})
            answer = visitor.post("/api/chat", json={"text": "a fox", "event": "1"})
            made.append(answer.json()["job"]["id"])
    assert made[0] != made[1]


@pytest.mark.both_databases
def test_jobs_come_in_pages(house: Running) -> None:
    made = [ask(house, f"page {index}") for index in range(5)]
    seen: list[int] = []
    before: dict[str, int] = {}
    while len(seen) < 5:
        page = house.client.get("/api/jobs", params={"limit": 2, **before}).json()
        seen += [one["id"] for one in page]
        before = {"before": seen[-1]}
    assert seen[:5] == made[::-1] and len(set(seen)) == len(seen)
