"""The door for news of drawings elsewhere, over HTTP, and with kie.ai's own callbacks."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from bots.web_hooks import NEWS
from core import catalog, settings
from core.elsewhere import Elsewhere
from core.engine import Task
from core.house import House
from core.lifecycle import State
from core.options import validate
from core.people import Asker
from core.rows import Generation
from tests.bots.test_web_text import web as web
from tests.servers.remote_kie import KieServer

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ANN = Asker("web", "ann", "Ann")
DONE = {"code": 200, "data": {"taskId": "t1", "state": "success"}}


@pytest.fixture
def house(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """A house whose pages are not for everybody, and its address is another's to know."""
    for name, value in {
        "DRAWQUEUE_MODEL": "kie", "KIE_API_KEY": "k", "DRAWQUEUE_WEB_HOST": "0.0.0.0",
        "DRAWQUEUE_WEB_KEY": "its-key", "DRAWQUEUE_PUBLIC_URL": "https://draw.example.org",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    settings._read.cache_clear()
    catalog.models.cache_clear()
    return house


def claimed(house: House, event: str = "e1") -> tuple[Generation, str]:
    """A drawing for which another machine is asked, and the path of what it is told."""
    made = house.generations.submit(validate({"prompt": "a fox"}), ANN, event, {"chat": "c"})
    one = house.generations.claim(made.id)
    assert one
    address = house.elsewhere.announce(one, "kie")
    assert address
    return one, address.removeprefix("https://draw.example.org")


def waiting(house: House, event: str = "e1") -> tuple[Generation, str]:
    one, path = claimed(house, event)
    found = house.elsewhere.hand_out(one, Task("t1", 60.0))
    assert found
    return found, path


def news(house: House, one: Generation) -> Any:
    return (house.generations.get(one.id).task or {}).get("news")


def to_fetch(house: House) -> list[str]:
    return [job for job in house.queue.line("kie").rq.get_job_ids() if job.startswith("collect-")]


def test_who_proves_themselves_is_heard(house: House, web: httpx.Client) -> None:
    assert web.get("/api/jobs").status_code == 401
    one, path = waiting(house)
    told = web.post(path, json=DONE)
    assert (told.status_code, told.content) == (200, b"") and "set-cookie" not in told.headers
    assert news(house, one) == DONE and len(to_fetch(house)) == 1
    assert web.post(path, json={"again": 1}).status_code == 200, "twice"
    assert news(house, one) == DONE and len(to_fetch(house)) == 1
    house.generations.cancel(one.id, ANN)
    assert web.post(path, json=DONE).status_code == 200, "late"
    other, early = claimed(house, "e2")
    assert web.post(early, json=DONE).status_code == 200, "early"
    assert news(house, other) == DONE
    # What it says of itself counts for nothing.
    third, path = waiting(house, "e3")
    assert web.post(path, content=b'{"a": 1}', headers={"content-type": "x/y"}).status_code == 200
    assert news(house, third) == {"a": 1}


def test_all_else_is_nothing(house: House, web: httpx.Client) -> None:
    one, path = waiting(house)
    _other, another = waiting(house, "e2")
    engine, number, secret = path.split("/")[2:]
    refused = [
        web.post(each, json=DONE)
        for each in (
            f"/webhook/{engine}/{number}/{secret[:-1]}", f"/webhook/{engine}/{number}/x",
            f"/webhook/{engine}/{number}/{another.rpartition('/')[2]}",
            f"/webhook/{engine}/999/{secret}", f"/webhook/{engine}/{'9' * 30}/{secret}",
            f"/webhook/{engine}/{'9' * 5000}/{secret}", f"/webhook/{engine}/-1/{secret}",
            f"/webhook/{engine}/x/{secret}", f"/webhook/{engine}/%00/{secret}",
            f"/webhook/pollinations/{number}/{secret}", f"/webhook/nobody/{number}/{secret}",
            f"/webhook/{engine}/{number}/{secret}%20", f"/webhook/{engine}/{number}/%ff%00",
        )
    ]  # fmt: skip
    assert {each.status_code for each in refused} == {404}
    assert len({each.content for each in refused}) == 1, "nothing tells why"
    heads = [{key: value for key, value in each.headers.items() if key != "date"}
             for each in refused]  # fmt: skip
    assert all(each == heads[0] for each in heads)
    assert news(house, one) is None and not to_fetch(house)


def test_paths_beside_it_are_no_door(house: House, web: httpx.Client) -> None:
    _one, path = waiting(house)
    for each in ("/webhook/", "/webhook/kie", "/webhook/kie/1", f"{path}/more", "/webhook//1/x"):
        assert web.post(each, json=DONE).status_code == 404, each
    assert web.get(path).status_code == 405 and web.get("/webhookx/kie/1/x").status_code == 401
    assert web.post("/webhook/telegram", json={"update_id": 1}).status_code == 404
    for each in (f"{path}/../../../../api/jobs", "/webhook/../api/jobs", "/webhook/%2e%2e/a/b"):
        assert web.get(each).status_code in (401, 404, 405), each


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"7", b"null", b'"a"', b"\xff\xfe", b'{"a": NaN}', b'{"a": 1e999}',
        b"[" * 60_000, b'{"a": %s}' % (b"[" * 50_000), b'{"a": %s}' % (b"7" * 5000),
    ],
    ids=lambda body: body[:12],
)  # fmt: skip
def test_what_is_no_news(house: House, web: httpx.Client, body: bytes) -> None:
    one, path = waiting(house)
    for each in (path, f"{path}x"):
        told = web.post(each, content=body, headers={"content-type": "application/json"})
        assert told.status_code == 400, "whoever says it"
    assert news(house, one) is None


@pytest.mark.parametrize("chunked", [False, True])
def test_what_is_too_long(house: House, web: httpx.Client, chunked: bool) -> None:
    one, path = waiting(house)

    def body(size: int) -> Any:
        words = b'{"a": "%s"}' % (b"a" * (size - 9))
        return iter([words[:1000], words[1000:]]) if chunked else words

    for each in (path, f"{path}x"):
        assert web.post(each, content=body(NEWS + 1)).status_code == 413
        assert web.post(each, content=body(40 * NEWS)).status_code == 413
    assert news(house, one) is None
    assert web.post(path, content=body(NEWS)).status_code == 200 and news(house, one)


def test_a_database_that_is_away_is_no_answer(
    house: House, web: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told so says it again, or is asked."""
    _one, path = waiting(house)

    def away(*_: Any) -> bool:
        raise OperationalError("", None, Exception())

    monkeypatch.setattr(Elsewhere, "news", away)
    assert web.post(path, json=DONE).status_code == 500


# As kie.ai says it


@pytest.fixture(scope="module")
def server() -> Iterator[KieServer]:
    with KieServer() as made:
        yield made


def begun(house: House, web: httpx.Client, server: KieServer, callbacks: str) -> Generation:
    """A drawing that kie.ai was asked for, its task noted a while after that."""
    server.callbacks, server.seconds = callbacks, 0.0
    server.told.clear()
    one, path = claimed(house, callbacks)
    body = {
        "model": "seedream/4.5-text-to-image", "callBackUrl": f"{web.base_url}{path}",
        "input": {"prompt": "a fox", "aspect_ratio": "1:1", "quality": "basic"},
    }  # fmt: skip
    key = {"Authorization": f"Bearer {server.key}"}
    created = httpx.post(f"{server.address}/api/v1/jobs/createTask", json=body, headers=key).json()
    found = house.elsewhere.hand_out(one, Task(created["data"]["taskId"], 60.0))
    assert found and found.state == State.WAITING
    end = time.monotonic() + 5
    while len(server.told) < (2 if callbacks == "twice" else 1) and time.monotonic() < end:
        time.sleep(0.01)
    return house.generations.get(one.id)


@pytest.mark.parametrize("callbacks", ["once", "twice", "early", "forged", "of another"])
def test_callbacks_as_they_may_come(
    house: House, web: httpx.Client, server: KieServer, callbacks: str
) -> None:
    one = begun(house, web, server, callbacks)
    heard = callbacks != "forged"
    assert {status for _name, status in server.told} == {200 if heard else 404}
    assert one.task and bool(one.task.get("news")) == heard
    assert len(to_fetch(house)) == heard and bool(house.elsewhere.take_up(one.id)) == heard
    if heard:
        told = one.task["news"]["data"]
        assert (told["taskId"] == one.task["name"]) == (callbacks != "of another")
        secret = server.created[-1]["callBackUrl"].rpartition("/")[2]
        assert secret not in str(one.task) and "…" in told["param"]
