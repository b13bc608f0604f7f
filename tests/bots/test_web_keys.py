"""Programs at the door of the JSON interface: a person's keys, path by path."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from core import events, settings
from core.cards import ACTIONS
from core.commands import COMMANDS
from core.house import House
from core.people import Asker
from tests.bots.test_web_text import web as web
from tests.core.test_keys import made
from tests.core.test_people import code
from tests.core.test_pictures import drawn
from tests.core.test_policy import say, submit

ANN, BOB = Asker("discord", "1", "Ann"), Asker("telegram", "2", "Bob")


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture(params=["", "sesame"], ids=["open", "with a key of the host's"])
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWQUEUE_WEB_KEY", request.param)
    settings._read.cache_clear()


@pytest.mark.usefixtures("host")
def test_a_program_draws_as_its_person(house: House, request: pytest.FixtureRequest) -> None:
    secret = made(house, ANN)
    web: httpx.Client = request.getfixturevalue("web")
    asked = web.post("/api/jobs", json={"prompt": "a fox"}, headers=bearer(secret))
    assert asked.status_code == 202
    number = asked.json()["id"]
    assert house.generations.visible(number, ANN).user == "discord:1"
    mine = drawn(house, who=ANN)
    seen = web.get("/api/jobs", headers=bearer(secret)).json()
    assert {one["id"] for one in seen} >= {number, mine.id}
    assert web.get(f"/media/{mine.id}/0", headers=bearer(secret)).status_code == 200
    gone = web.delete(f"/api/jobs/{number}", headers=bearer(secret))
    assert gone.json()["status"] == "cancelled"
    house.keys.revoke(ANN, 1)
    for told in (secret, "dq_", "dq_" + "x" * 5000, "dq_\u00e9"):
        refused = web.get("/api/jobs", headers={b"Authorization": f"Bearer {told}".encode()})
        assert refused.status_code == 401, "nor is it the page's own person"
        assert "taken back" in refused.json()["error"] and told not in refused.text


def test_anothers_id_in_every_path_is_nothing(house: House, web: httpx.Client) -> None:
    theirs = drawn(house, who=BOB)
    theirs_queued = house.generations.redo(theirs.id, BOB, "again", new_seed=True)
    secret, own = made(house, ANN), drawn(house, who=ANN)
    values = {"index": "0", "answer": "agree", "way": "older"}
    tried = 0
    for path, methods in web.get("/api/openapi.json").json()["paths"].items():
        if "{id}" not in path:
            continue
        for method in methods:
            for number in (theirs.id, theirs_queued.id):
                for action in ACTIONS if "{action}" in path else ("",):
                    told = {**values, "action": action, "id": str(number)}
                    at = re.sub(r"{(\w+)}", lambda one, told=told: told[one[1]], path)
                    body: Any = {} if method in ("post", "put", "patch") else None
                    got = web.request(method, at, json=body, headers=bearer(secret))
                    assert got.status_code in (404, 409, 422), (method, at, got.text)
                    assert "fox" not in got.text
                    tried += 1
    assert tried > 20
    assert house.generations.get(theirs_queued.id).state == "queued"
    assert web.get(f"/api/jobs/{own.id}", headers=bearer(secret)).status_code == 200
    ids = {one["id"] for one in web.get("/api/jobs", headers=bearer(secret)).json()}
    assert not ids & {theirs.id, theirs_queued.id}


def test_a_key_that_may_look_asks_for_nothing(house: House, web: httpx.Client) -> None:
    mine = drawn(house, who=ANN)
    key = bearer(made(house, ANN, "/key new read a frame on the wall"))
    assert web.get(f"/api/jobs/{mine.id}", headers=key).status_code == 200
    for method, path, body in (
        ("POST", "/api/jobs", {"prompt": "a fox"}),
        ("POST", "/api/chat", {"text": "/cancel all"}),
        ("POST", f"/api/jobs/{mine.id}/retry", None),
        ("DELETE", f"/api/jobs/{mine.id}", None),
    ):
        refused = web.request(method, path, json=body, headers=key)
        assert refused.status_code == 403 and "look at pictures" in refused.json()["error"]
    assert len(house.generations.of(ANN)) == 1


def test_what_a_person_says_themselves_no_key_of_theirs_says(
    house: House, web: httpx.Client
) -> None:
    """What would outlast the key: accounts that are one, other keys, settings, pictures gone."""
    mine, key = drawn(house, who=ANN), bearer(made(house, ANN))
    code = house.people.code(BOB)
    personal = [one for one in COMMANDS if one.personal]
    assert {one.name for one in personal} >= {"link", "unlink", "key", "delete", "settings"}
    lines = [
        *(f"/{name}" for one in personal for name in (one.name, *one.aliases)),
        f"/link {code} yes", "/key new", f"/delete {mine.id}", "/settings set sampler Euler",
    ]  # fmt: skip
    for line in lines:
        told = web.post("/api/chat", json={"text": line}, headers=key)
        assert told.status_code == 409 and "A key may not do that" in told.json()["error"], line
    chosen = web.post("/api/choices", json={"id": "settings:model"}, headers=key)
    assert chosen.status_code == 409 and "A key may not" in chosen.json()["error"]
    assert house.people.get("discord", "1").everyone == ("discord:1",)
    assert len(house.keys.of(ANN)) == 1 and not house.tastes.of(ANN)["yours"]
    assert house.generations.get(mine.id).results
    assert "nothing in the queue" in web.post(
        "/api/chat", json={"text": "/queue"}, headers=key
    ).json()["text"]  # fmt: skip


def hear(lines: Iterator[str], words: str) -> str:
    """What a stream says until it says these words."""
    heard = ""
    while words not in heard:
        heard += next(lines)
    return heard


def test_a_key_that_is_taken_back_hears_nothing_more(house: House, web: httpx.Client) -> None:
    key = bearer(made(house, ANN))
    submit(house, ANN, "first", prompt="before that")
    with web.stream("GET", "/api/events", headers=key) as stream:
        lines = stream.iter_lines()
        hear(lines, "before that")
        assert say(house, ANN, "/key revoke 1") == "Key 1 (a program) works no more."
        submit(house, ANN, "later", prompt="what nobody overhears")
        heard: list[str] = []
        while "overhears" not in str(heard):
            events.publish(house.queue.redis, 0)
            try:
                heard.append(next(lines))
            except StopIteration:
                break
    assert "overhears" not in str(heard)


def test_a_key_that_listens_hears_no_more_of_whom_its_owner_left(
    house: House, web: httpx.Client
) -> None:
    say(house, ANN, f"/link {code(house, BOB)} yes")
    key = bearer(made(house, ANN))
    submit(house, ANN, "first", prompt="before that")
    with web.stream("GET", "/api/events", headers=key) as stream:
        lines = stream.iter_lines()
        hear(lines, "before that")
        assert "by itself" in say(house, ANN, "/unlink")
        submit(house, BOB, "theirs", prompt="a fox of Bob's")
        submit(house, ANN, "hers", prompt="a fox of Ann's")
        assert "a fox of Ann's" in hear(lines, "a fox of")


def test_too_many_requests_a_minute_are_told_when(
    house: House, web: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.keys.time.time", lambda: 6_000_020.0)
    monkeypatch.setenv("DRAWQUEUE_KEY_RATE", "2")
    settings._read.cache_clear()
    one, other = bearer(made(house, ANN)), bearer(made(house, BOB))
    told = [web.get("/api/queue", headers=one) for _ in range(3)]
    assert [got.status_code for got in told] == [200, 200, 429]
    assert told[2].headers["retry-after"] == "40" and "2 times a minute" in told[2].json()["error"]
    assert web.get("/api/queue", headers=other).status_code == 200
    assert web.get("/api/queue").status_code == 200, "the page has no key"


def test_a_key_that_was_made_on_the_page_is_kept_nowhere(house: House, web: httpx.Client) -> None:
    line = {"text": "/key new", "event": "once"}
    secrets = [web.post("/api/chat", json=line).json()["text"].split()[0] for _ in range(2)]
    assert all(re.fullmatch(r"dq_\S{30,}", one) for one in secrets)
    redis = house.queue.redis
    kept = b"".join(redis.get(name) or b"" for name in redis.keys("drawqueue:said:*"))
    assert not any(one.encode() in kept for one in secrets)
