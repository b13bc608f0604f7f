"""rq-dashboard as operators use it: over a real Valkey and real RQ jobs."""

import shutil
import threading
from base64 import b64encode
from typing import Any

import pytest
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from bots.dashboard import create_app
from core.fair import Claim
from core.house import House
from core.lifecycle import State
from core.options import validate
from core.people import Asker
from core.queue import WorkQueue

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
KEY = {"Authorization": "Basic " + b64encode(b"operator:secret").decode()}
HERE = {**KEY, "Origin": "http://localhost"}


@pytest.fixture
def client(redis_url: str) -> Any:
    return create_app(redis_url, "operator", "secret").test_client()


@pytest.fixture
def house_queue(redis_url: str) -> WorkQueue:
    return WorkQueue(redis_url)


@pytest.fixture
def queue(redis_url: str) -> Queue:
    from redis import Redis

    return Queue("draw", connection=Redis.from_url(redis_url), serializer=JSONSerializer)


def test_no_password_no_dashboard(redis_url: str, client: Any) -> None:
    with pytest.raises(ValueError, match="DRAWQUEUE_DASHBOARD_PASSWORD"):
        create_app(redis_url, "operator", "")
    assert client.get("/").status_code == 401
    wrong = {"Authorization": "Basic " + b64encode(b"operator:guess").decode()}
    assert client.get("/", headers=wrong).status_code == 401
    assert client.get("/", headers=KEY).status_code == 200
    assert client.get("/health").status_code == 200


def test_a_job_with_dependencies_has_a_page(client: Any, queue: Queue) -> None:
    first = queue.enqueue("worker.tasks.generate", 1)
    second = queue.enqueue("worker.tasks.generate", 2, depends_on=first)
    assert client.get(f"/0/view/job/{second.id}", headers=KEY).status_code == 200
    told = client.get(f"/0/data/job/{second.id}.json", headers=KEY)
    assert told.status_code == 200 and told.json["depends_on"] == [first.id]


def test_workers_are_shown_while_one_is_busy(client: Any, queue: Queue) -> None:
    job = queue.enqueue("worker.tasks.generate", 1)
    worker = SimpleWorker([queue], connection=queue.connection, serializer=JSONSerializer)
    worker.register_birth()
    worker.set_current_job_id(job.id)
    told = client.get("/0/data/workers.json", headers=KEY)
    assert told.status_code == 200
    assert told.json["workers"][0]["current_job"]["job_id"] == job.id


def test_page_two_follows_page_one(client: Any, queue: Queue) -> None:
    names = [queue.enqueue("worker.tasks.generate", i).id for i in range(25)]
    seen = []
    for page in (1, 2, 3):
        told = client.get(f"/0/data/jobs/draw/queued/10/asc/{page}.json", headers=KEY).json
        seen += [job["id"] for job in told["jobs"]]
    assert seen == names


@pytest.mark.parametrize("page", ["/0/view/job/x", "/0/view/jobs/draw/queued/10/asc/1", "/"])
def test_pages_escape_what_jobs_say(client: Any, queue: Queue, page: str) -> None:
    assert client.get("/0/view/job/gone", headers=KEY).status_code == 404
    queue.enqueue("worker.tasks.generate", 1, job_id="x", description="<script>alert(1)</script>")
    told = client.get(page, headers=KEY).get_data(as_text=True)
    assert "<%-" in told and "<%=" not in told


@pytest.mark.skipif(not CHROMIUM, reason="NO BROWSER: install chromium, the pages are NOT tested")
def test_a_browser_shows_what_jobs_say_as_it_was_said(
    client: Any, queue: Queue, house_queue: WorkQueue
) -> None:
    from playwright.sync_api import expect, sync_playwright
    from werkzeug.serving import make_server

    said = 'Tom & Jerry "q" <b>é</b><img src=x onerror=alert(1)>'
    house_queue.draw.enqueue(1, 1, f"#1 {said}", Claim("web:ann", 1.0, 1.0))
    server = make_server("127.0.0.1", 0, client.application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pages = f"http://127.0.0.1:{server.server_port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(http_credentials={"username": "operator", "password": "secret"})
        page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        page.goto(f"{pages}/0/view/jobs/draw/queued/10/asc/1")
        expect(page.locator(".description").first).to_have_text(f"#1 {said}")
        page.goto(f"{pages}/0/view/job/generation-1-1")
        expect(page.locator(".description-scroll")).to_have_text(f"#1 {said}")
        browser.close()
    server.shutdown()


def test_a_job_says_its_prompt_as_it_was_typed(house: House, ann: Asker) -> None:
    made = house.generations.submit(
        validate({"prompt": 'Tom & Jerry "é"\n\x1b[2J' + "x" * 99}), ann, "e", {}
    )
    job = house.queue.draw.rq.fetch_job(made.job)
    assert job and job.description == f'#1 Tom & Jerry "é"  [2J{"x" * 20}'


def test_other_sites_move_nothing(client: Any, queue: Queue) -> None:
    queue.enqueue("worker.tasks.generate", 1)
    foreign = {**KEY, "Origin": "http://evil.example"}
    for headers in (foreign, KEY):
        assert client.post("/queue/draw/queued/empty", headers=headers).status_code == 403
    assert client.get("/requeue/draw", headers=KEY).status_code == 405
    assert queue.count == 1


def test_delete_empty_and_requeue_reach_the_rows(client: Any, house: House, ann: Asker) -> None:
    made = [
        house.generations.submit(validate({"prompt": "a fox"}), ann, f"e{i}", {}) for i in range(3)
    ]
    house.mending.sweep()
    told = client.post(f"/job/{made[0].job}/delete", headers=HERE)
    assert told.json == {"status": "OK"}
    house.mending.sweep()
    states = [house.generations.get(one.id).state for one in made]
    assert states == [State.CANCELLED, State.QUEUED, State.QUEUED]

    # The drawing of the second one fails as a worker would fail it.
    job = house.queue.draw.rq.fetch_job(made[1].job)
    assert job
    house.queue.redis.lrem(house.queue.draw.rq.key, 1, job.id)
    claimed = house.generations.claim(made[1].id)
    assert claimed
    house.generations.fail(claimed, "words")
    with house.queue.redis.pipeline() as pipe:
        job.set_status("failed", pipeline=pipe)  # type: ignore[arg-type]
        house.queue.draw.rq.failed_job_registry.add(job, ttl=600, exc_string="words", pipeline=pipe)
        pipe.execute()
    assert client.post(f"/job/{job.id}/requeue", headers=HERE).json == {"status": "OK"}
    house.mending.sweep()
    assert house.generations.get(made[1].id).state == State.QUEUED

    client.post("/queue/draw/queued/empty", headers=HERE)
    house.mending.sweep()
    states = [house.generations.get(one.id).state for one in made]
    assert states == [State.CANCELLED] * 3
