"""Text that no encoding takes, sent to the web interface over HTTP, on both databases."""

import contextlib
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from bots.web_chat import create_app
from bots.web_door import BODY
from core import events
from core.house import House
from core.options import validate

# One half of a character that takes two in UTF-16, as JSON may hold it.
HALF = r"\ud800"


@pytest.fixture
def web(house: House) -> Iterator[httpx.Client]:
    config = uvicorn.Config(create_app(house), host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with contextlib.closing(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)) as made:
        yield made
    server.should_exit = True
    while thread.is_alive():  # Its reader of the stream ends with the event that it waits for.
        events.publish(house.queue.redis, 0)
        thread.join(0.05)


def post(web: httpx.Client, path: str, body: str) -> httpx.Response:
    json = {"content-type": "application/json"}
    return web.post(path, content=body.replace("HALF", HALF), headers=json)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/jobs", '{"prompt": "a HALF fox"}'),
        ("/api/jobs", '{"prompt": "a fox", "parameters": {"negative_prompt": "HALF"}}'),
        ("/api/chat", '{"text": "a HALF fox"}'),
        ("/api/chat", '{"text": "/imagine a fox --no HALF"}'),
        ("/api/chat", '{"text": "a fox", "event": "HALF"}'),
    ],
)
def test_half_a_character_in_words_is_harmless(web: httpx.Client, path: str, body: str) -> None:
    made = post(web, path, body)
    assert made.status_code in (200, 202), made.text
    job = made.json().get("job", made.json())
    assert job["status"] == "queued" and "fox" in job["prompt"]
    assert [one["id"] for one in web.get("/api/jobs").json()] == [job["id"]]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/api/jobs", '{"prompt": "a", "parameters": {"sampler": "HALF"}}', "sampler"),
        ("/api/jobs", '{"prompt": "a", "parameters": {"model": "HALF"}}', "On offer"),
        ("/api/jobs", '{"prompt": "a", "parameters": {"steps": ["HALF"]}}', "steps"),
        ("/api/jobs", '{"prompt": "a", "parameters": {"HALF": 1}}', "no option"),
        ("/api/jobs", '{"prompt": "a", "HALF": 1}', "Extra inputs"),
        ("/api/chat", '{"text": "/cancel HALF"}', "by its number"),
        ("/api/chat", '{"text": "/imagine a fox --seed HALF"}', "seed"),
        ("/api/chat", '"HALF"', "dictionary"),
    ],
)
def test_half_a_character_where_none_belongs_is_refused_in_words(
    web: httpx.Client, path: str, body: str, words: str
) -> None:
    refused = post(web, path, body)
    assert refused.status_code in (400, 422), refused.text
    assert words in refused.json()["error"]


def test_a_body_that_is_no_json_is_refused_in_words(web: httpx.Client) -> None:
    for path in ("/api/jobs", "/api/chat"):
        refused = web.post(path, content=b"\xed\xa0\x80", headers={"content-type": "text/plain"})
        assert refused.status_code == 422 and refused.json()["faults"], refused.text


def test_a_whole_character_stays_one(web: httpx.Client) -> None:
    made = post(web, "/api/jobs", r'{"prompt": "a \ud83d\ude00 fox", "parameters": {"count": 2}}')
    assert made.json()["prompt"] == "a 😀 fox" and made.json()["parameters"]["count"] == 2


def test_a_prompt_of_any_chat_can_be_written_down() -> None:
    made = validate({"prompt": " a \ud800 fox ", "negative_prompt": "\udfff"})
    assert (made.prompt, made.negative_prompt) == ("a ? fox", "?")


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/api/jobs", '{"parameters": {"seed": ' + "9" * 5000 + "}}", 400, "no JSON"),
        ("/api/jobs", "[" * 100_000, 400, "no JSON"),
        ("/api/jobs", '{"prompt": ', 422, "no JSON"),
        ("/api/chat", '{"text": "' + "a" * BODY + '"}', 413, "at most 1024 KiB"),
        ("/api/nothing", "{}", 404, "nothing here"),
        ("/api/models", "{}", 405, "cannot be done"),
    ],
)  # fmt: skip
def test_whatever_is_refused_is_refused_in_one_shape(
    web: httpx.Client, path: str, body: str, status: int, words: str
) -> None:
    refused = post(web, path, body)
    assert refused.status_code == status, refused.text
    assert words in refused.json()["error"] and refused.json()["faults"]


def test_no_more_than_so_many_faults_are_told(web: httpx.Client) -> None:
    wrong = ",".join(f'"{number}{"z" * 90}": 1' for number in range(2000))
    refused = post(web, "/api/jobs", f'{{"prompt": "a", {wrong}}}')
    assert refused.status_code == 422 and len(refused.content) < 3000
    assert "… and " in refused.json()["faults"][-1]


def test_a_body_that_names_no_length_is_bounded_too(web: httpx.Client) -> None:
    parts = iter([b'{"text": "', b"a" * BODY, b'"}'])
    refused = web.post("/api/chat", content=parts, headers={"content-type": "application/json"})
    assert refused.status_code == 413 and "at most 1024 KiB" in refused.json()["error"]
