"""The JSON interface as programs use it: keys, events that come twice, and its description."""

from typing import Any

import httpx
import pytest

from bots.web_api import AMONG
from bots.web_cards import Job
from core import settings
from core.cards import as_json
from core.house import House
from core.options import validate
from core.people import Asker
from tests.bots.test_web_text import web as web

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
LOCAL = Asker("web", "local", "web")


def test_a_request_that_comes_twice_is_queued_once(house: House, web: httpx.Client) -> None:
    body = {"prompt": "a {red, green} fox"}
    key = {"Idempotency-Key": "order 66"}
    first, second = (web.post("/api/jobs", json=body, headers=key) for _ in range(2))
    assert first.status_code == second.status_code == 202
    assert [one.json()["id"] for one in (first, second)] == [1, 1]
    assert first.json()["also"] == second.json()["also"] == [2]
    other = web.post("/api/jobs", json=body, headers={"Idempotency-Key": "order 67"})
    assert other.json()["id"] == 3 and len(house.generations.of(LOCAL)) == 4
    for odd in ("x" * 65, "Ä"):
        refused = web.post("/api/jobs", json=body, headers={b"Idempotency-Key": odd.encode()})
        assert refused.status_code == 422 and "Idempotency-Key" in refused.json()["error"]


def test_a_line_that_comes_twice_is_answered_alike_and_done_once(
    house: House, web: httpx.Client
) -> None:
    for number in range(3):
        house.generations.submit(validate({"prompt": "a fox"}), LOCAL, f"e{number}", {})
    told = [web.post("/api/chat", json={"text": "/cancel", "event": "1"}).json() for _ in range(2)]
    assert told[0] == told[1] and told[0]["text"] == "#3 is cancelled."
    assert told[0]["job"]["status"] == "cancelled" and not told[0]["fresh"]
    quiet = [web.post("/api/chat", json={"text": "/quiet", "event": "2"}).json() for _ in range(2)]
    assert "Nobody is mentioned" in quiet[0]["text"] and quiet[0] == quiet[1]
    made = [web.post("/api/chat", json={"text": "{a,b} c", "event": "3"}).json() for _ in range(2)]
    assert made[0] == made[1] and made[0]["fresh"] and made[0]["also"] == [5]
    assert web.post("/api/chat", json={"text": "/cancel"}).json()["text"] == "#5 is cancelled."
    assert web.post("/api/chat", json={"text": "/cancel"}).json()["text"] == "#4 is cancelled."


def test_priority_and_enhance_stand_beside_the_prompt_as_programs_know_them(
    house: House, web: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = web.post("/api/jobs", json={"prompt": "a fox", "priority": "high", "enhance": False})
    assert told.status_code == 202 and house.generations.get(told.json()["id"]).priority == 2
    better = web.post("/api/jobs", json={"prompt": "a fox", "enhance": True})
    assert better.status_code == 202 and better.json()["parameters"]["enhance"]
    for body, words in (
        ({"prompt": "a fox", "priority": "urgent"}, "low, normal, high"),
        ({"type": "vary", "images": ["1"], "priority": "high"}, "vary takes no priority"),
        ({"type": "vary", "images": ["1"], "enhance": True}, "vary takes no enhance"),
    ):
        refused = web.post("/api/jobs", json=body)
        assert refused.status_code == 422 and words in refused.json()["error"]
    monkeypatch.setenv("DRAWQUEUE_TEXT_MODEL", "none")
    settings._read.cache_clear()
    refused = web.post("/api/jobs", json={"prompt": "a fox", "enhance": True})
    assert refused.status_code == 422 and "Nothing here writes prompts" in refused.json()["error"]
    assert len(house.generations.of(LOCAL)) == 2


def test_enhance_counts_before_what_is_set(house: House, web: httpx.Client) -> None:
    web.post("/api/chat", json={"text": "/settings set enhance on"})
    for given, written in ((None, True), (True, True), (False, False)):
        told = web.post("/api/jobs", json={"prompt": "a fox", "enhance": given}).json()
        assert bool(told["parameters"]["enhance"]) == written, given


def test_a_prompt_among_the_parameters_is_refused_with_the_other_faults(
    house: House, web: httpx.Client
) -> None:
    parameters = {"prompt": "an owl", "steps": 900}
    refused = web.post("/api/jobs", json={"prompt": "a fox", "parameters": parameters})
    assert refused.status_code == 422 and len(refused.json()["faults"]) == 2
    assert AMONG in refused.json()["faults"] and "1 to 150" in refused.json()["error"]
    assert house.generations.of(LOCAL) == []


def test_every_answer_is_described_and_nothing_is_left_out(house: House, web: httpx.Client) -> None:
    described = web.get("/api/openapi.json").json()
    # What is no JSON of ours: streams, pictures, files.
    streams = (
        "/preview", "/stream", "/events", "/text", "/{name}", "/tree", "/health", "/small", "/zip",
        "/recipe", "/media/{id}/{index}", "/source/{index}",
    )  # fmt: skip

    def named(schema: dict[str, Any]) -> str:
        return str(schema.get("items", schema).get("$ref", "")).rsplit("/", 1)[-1]

    told = {
        f"{method} {path}": named(answer["content"]["application/json"]["schema"])
        for path, methods in described["paths"].items()
        if not path.endswith(streams)
        for method, operation in methods.items()
        for status, answer in operation["responses"].items()
        if status.startswith("2")
    }
    answers = {
        "Job", "Made", "Answer", "Completed", "Words", "Model", "Queue", "Upload", "Page", "Count",
        "Told", "Kept", "Shared", "Stats",
    }  # fmt: skip
    assert set(told.values()) == answers, told
    made = house.generations.submit(validate({"prompt": "a fox"}), LOCAL, "e", {})
    claimed = house.generations.claim(made.id)
    picture = {"key": "k", "seed": 1, "width": 64, "height": 64, "bytes": 9, "model": "new"}
    assert claimed
    done = house.generations.finish(claimed, [picture], 1.0)
    assert done
    shown = as_json(house.card(done), done, None)
    assert shown.keys() == Job.model_fields.keys()
    answered = web.get(f"/api/jobs/{made.id}").json()
    assert answered["results"] == shown["results"] and answered["card"] == shown["card"]


def test_programs_are_told_in_json_that_the_key_is_missing(
    house: House, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("DRAWQUEUE_WEB_KEY", "sesame")
    settings._read.cache_clear()
    web: httpx.Client = request.getfixturevalue("web")
    for path in ("/", "/api/jobs", "/?key=wrong", "/api/docs"):
        for kind in ("application/json", "*/*"):
            refused = web.get(path, headers={"Accept": kind})
            assert refused.status_code == 401 and "key" in refused.json()["error"]
    page = web.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.status_code == 401 and page.headers["content-type"].startswith("text/html")
    for rule in ("default-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert rule in page.headers["content-security-policy"]
    wrong = web.post("/key", data={"key": "\udcff".encode("utf-8", "replace").decode()})
    assert wrong.status_code == 401 and not web.cookies
    foreign = web.post("/key", data={"key": "sesame"}, headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 403 and not web.cookies
    entered = web.post("/key", data={"key": "sesame"})
    assert entered.status_code == 303 and entered.headers["location"] == "/"
    assert web.get("/api/jobs").status_code == 200
    assert web.get("/", headers={"Accept": "text/html"}).headers["cache-control"] == "no-cache"
