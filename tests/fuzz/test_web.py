"""The JSON interface against its own description, over HTTP and with a real house behind it."""

import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import requests
import schemathesis
from hypothesis import example, given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from bots.web_api import KINDS
from bots.web_door import BODY, UPLOADS
from core import settings as core_settings
from core.commands import BY_NAME
from core.house import House
from core.lifecycle import State
from core.options import OPTIONS, validate
from core.people import Asker
from tests.bots.test_web_text import web as web
from tests.core.test_pictures import png
from tests.fuzz.conftest import some
from tests.fuzz.texts import JSON, TEXT

LOCAL, OTHER = Asker("web", "local", "web"), Asker("web", "other", "web")
# What never ends; told on its own below.
STREAMS = ("/api/events", "/api/jobs/{id}/stream")


@pytest.fixture
def full(house: House, web: httpx.Client, caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    """The address of a house with a picture in every state, and one of somebody else's.

    Whatever is asked of it, nothing may be reported as a fault of ours.
    """
    made = {}
    for number, name in enumerate(("queued", "other", "done", "failed", "cancelled", "drawn")):
        asker = OTHER if name == "other" else LOCAL
        made[name] = house.generations.submit(
            validate({"prompt": f"a {name} fox"}), asker, f"e{number}", {"chat": "web"}
        ).id
    for name in ("done", "failed", "drawn"):
        claimed = house.generations.claim(made[name])
        assert claimed
        if name == "done":
            key = house.media.save(made[name], "0.png", png(256, 256))
            told = {"key": key, "seed": 1, "width": 256, "height": 256}
            house.generations.finish(claimed, [told], 1.0)
        if name == "failed":
            house.generations.fail(claimed, "The model is gone.")
    house.generations.cancel(made["cancelled"], LOCAL)
    with caplog.at_level(logging.ERROR, "drawqueue"):
        yield str(web.base_url)
    assert not [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]
    assert house.generations.get(made["other"]).version == 1, "nobody touched another's"
    assert house.generations.get(made["other"]).state == State.QUEUED


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_it_answers_as_it_says(full: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{full}/api/openapi.json")
    tried = 0
    with requests.Session() as session:
        for found in schema.exclude(path=list(STREAMS)).get_all_operations():
            operation: Any = found.ok()
            wrong = operation.body or operation.path_parameters or operation.query
            # No bytes are no string, and any string may be a name; the rest is told below.
            any_will_do = operation.path in (UPLOADS, "/samples/{name}")
            if mode.is_negative and (not wrong or any_will_do):
                continue
            tried += 1

            @some(0.3)
            @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
            def ask(case: Any, data: Any) -> None:
                if mode.is_positive and "id" in case.path_parameters:
                    # Those that there are, more often than chance has it.
                    case.path_parameters["id"] = data.draw(
                        st.one_of(st.integers(1, 9), st.integers(1, 2**31 - 1))
                    )
                # More is wrong than a schema can say: a prompt of spaces, too many pixels.
                case.call_and_validate(session=session, excluded_checks=[positive_data_acceptance])

            ask()
    assert tried >= 10


def answered(answer: httpx.Response) -> bool:
    """Whether it was served; else it is refused in our one shape."""
    if answer.status_code in (200, 201, 202):
        return True
    assert answer.status_code in (400, 403, 404, 405, 409, 422, 429), (answer, answer.text[:300])
    told = answer.json()
    assert set(told) == {"error", "faults"} and told["error"] and told["faults"], told
    assert len(told["error"]) < 2500 and "Traceback" not in answer.text
    return False


def sent(web: httpx.Client, path: str, body: Any) -> httpx.Response:
    """Send a body: bytes as they are, anything else as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return web.post(path, content=content, headers={"content-type": "application/json"})


COMMANDS = [f"/{name} " for name in BY_NAME]


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
@some(3)
@given(command=st.sampled_from(["", "/link 1 ", "/priority low ", "/grant web:local ", *COMMANDS]),
       line=st.fixed_dictionaries({"text": TEXT}, optional={"event": TEXT}))  # fmt: skip
def test_any_line_in_the_chat(
    web: httpx.Client, full: str, monkeypatch: pytest.MonkeyPatch, command: str, line: Any
) -> None:
    # Who asks may say everything, so that every command reads what it is given.
    monkeypatch.setenv("DRAWQUEUE_MODERATORS", "web:local")
    core_settings._read.cache_clear()
    line = {**line, "text": command + line["text"]}
    answered(sent(web, "/api/chat", line))


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
@given(
    prompt=TEXT,
    given_=st.dictionaries(
        st.one_of(TEXT, st.sampled_from([option.name for option in OPTIONS])), JSON, max_size=4
    ),
)
def test_any_options(web: httpx.Client, full: str, prompt: str, given_: Any) -> None:
    answered(sent(web, "/api/jobs", {"prompt": prompt + "fox", "parameters": given_}))


WORDS = st.one_of(
    TEXT, st.sampled_from(["3", "3.1", "2", "3.9", "#3", "up_" + "a" * 20, "http://"])
)


@given(
    body=st.fixed_dictionaries({}, optional={
        "type": st.one_of(TEXT, st.sampled_from(list(KINDS))), "prompt": TEXT,
        "images": st.lists(WORDS, max_size=6), "mask": WORDS,
        "parameters": st.dictionaries(st.sampled_from(["how", "factor", "source", "id"]), JSON),
    }),
    path=st.sampled_from(["jobs", "chat"]), line=st.sampled_from(["/vary", "/upscale", "/queue"]),
)  # fmt: skip
def test_any_pictures(web: httpx.Client, full: str, body: Any, path: str, line: str) -> None:
    if path == "chat":
        body = {"text": line, "images": body.get("images", [])}
    answered(sent(web, f"/api/{path}", body))


PICTURE = png(40, 30)


@given(
    body=st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=60).map(lambda more: PICTURE + more),
        st.integers(0, len(PICTURE)).map(lambda end: PICTURE[:end]),
        st.tuples(st.integers(0, len(PICTURE) - 1), st.binary(min_size=1, max_size=4)).map(
            lambda at: PICTURE[: at[0]] + at[1] + PICTURE[at[0] + 1 :]
        ),
    ),
    kind=st.sampled_from(["image/png", "text/plain", "multipart/form-data; boundary=x", ""]),
)
def test_any_upload(web: httpx.Client, full: str, body: bytes, kind: str) -> None:
    answered(web.post("/api/uploads", content=body, headers={"content-type": kind}))


@given(body=st.one_of(st.binary(max_size=60), JSON), path=st.sampled_from(["jobs", "chat"]))
def test_any_body(web: httpx.Client, full: str, body: Any, path: str) -> None:
    answered(sent(web, f"/api/{path}", body))


NUMBER = b"9" * 5000
DEEP = [b"[" * n + b"]" * n for n in (*range(20, 400, 20), *range(400, 1100, 11), 10**5)]


@pytest.mark.parametrize("path", ["/api/jobs", "/api/chat"])
def test_a_body_that_is_none_is_refused_in_words(web: httpx.Client, full: str, path: str) -> None:
    for body in BAD:
        assert not answered(sent(web, path, body)), body


BAD = [
    b"", b"{", b"null", b"\xff\xfe", b'{"text": "a\x00"}', b'{"prompt": NaN}', NUMBER,
    b'{"prompt": "a fox", "parameters": {"seed": %s}}' % NUMBER,
    b'{"prompt": "a fox", "parameters": {"seed": 1e999, "guidance": NaN, "steps": -Infinity}}',
    b'{"prompt": "a fox", "parameters": {%s}}' % b",".join(b'"z%d": 1' % n for n in range(9000)),
    b'{"prompt": "a fox", %s}' % b",".join(b'"z%d": 1' % n for n in range(9000)),
]  # fmt: skip


def test_a_body_that_is_nested_deeply(web: httpx.Client, full: str) -> None:
    for body in DEEP:
        for inside in (b"%s", b'{"text": %s}', b'{"prompt": "a", "parameters": {"seed": %s}}'):
            for path in ("/api/jobs", "/api/chat"):
                assert not answered(sent(web, path, inside % body))


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_the_limit(web: httpx.Client, full: str, chunked: bool) -> None:
    def body(size: int) -> Any:
        words = b'{"text": "%s"}' % (b"a" * (size - 12))
        return iter([words[:1000], words[1000:]]) if chunked else words

    type_ = {"content-type": "application/json"}
    for path in ("/api/jobs", "/api/chat", "/webhook/telegram"):
        told = web.post(path, content=body(BODY + 1), headers=type_)
        if "webhook" in path:
            continue  # Without the proof nothing of it is read.
        assert told.status_code == 413 and "at most 1024 KiB" in told.json()["error"], told.text
        assert web.post(path, content=body(BODY), headers=type_).status_code == 422


SEGMENT = st.one_of(
    TEXT, st.sampled_from(["api", "jobs", "static", "media", "..", ".", "", "%", "%2e%2e", "docs"])
)


@some(3)
@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH"]),
    path=st.lists(SEGMENT, max_size=5), query=TEXT,
)  # fmt: skip
def test_any_address(
    web: httpx.Client, full: str, method: str, path: list[str], query: str
) -> None:
    raw = "/".join(quote(one.encode(errors="replace"), safe="%.") for one in path)
    told = web.request(method, f"{full}/{raw}?{quote(query.encode(errors='replace'), safe='=&')}")
    if method != "HEAD" and not told.has_redirect_location:
        answered(told)


@given(
    after=st.one_of(st.integers(), TEXT), path=st.sampled_from([
        "/api/jobs/{}", "/api/jobs/{}/stream", "/api/jobs/{}/why", "/media/{}/0", "/media/3/{}",
        "/media/{}/source/0", "/media/3/source/{}", "/paint/{}", "/paint/{}/picture",
        "/api/jobs?before={}", "/api/jobs?limit={}", "/api/jobs?status={}",
    ])
)  # fmt: skip
def test_any_number(web: httpx.Client, full: str, after: Any, path: str) -> None:
    part = quote(str(after).encode(errors="replace"), safe="")
    with web.stream("GET", path.format(part)) as told:
        if "event-stream" not in told.headers.get("content-type", ""):
            told.read()
            if told.headers.get("content-type", "").startswith("text/html"):
                # The page with the brush, or why there is none.
                assert told.status_code in (200, 400, 403, 404), told.text
            elif not told.has_redirect_location:
                answered(told)


@given(headers=st.dictionaries(
    st.sampled_from(["host", "origin", "cookie", "authorization", "content-length-x", "accept",
                     "last-event-id", "x-forwarded-for", "x-telegram-bot-api-secret-token"]),
    TEXT.map(lambda text: text.encode(errors="replace").translate(None, bytes(range(32))).strip()),
))  # fmt: skip
def test_any_header(web: httpx.Client, full: str, headers: dict[str, bytes]) -> None:
    for method, path in (("GET", "/api/queue"), ("POST", "/webhook/telegram")):
        told = web.request(method, path, headers=list(headers.items()))
        assert told.status_code in (200, 400, 403, 404), told.text


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Telegram sends its updates to the web process; what proves that they are Telegram's."""
    monkeypatch.setenv("TELEGRAM_TOKEN", "123:TEST")
    monkeypatch.setenv("TELEGRAM_WEBHOOK", "1")
    core_settings._read.cache_clear()
    proof = core_settings.read(core_settings.Telegram).hook_secret
    return {"x-telegram-bot-api-secret-token": proof}


UPDATES = st.builds(
    lambda number, more: {**more, "update_id": number}, JSON, st.dictionaries(TEXT, JSON)
)


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
@given(body=st.one_of(st.binary(max_size=40), JSON, UPDATES))
@example(body=b'{"update_id": 1e999}')
@example(body=b'{"update_id": %s}' % (b"7" * 4000))
@example(body=b'{"update_id": 7, "a": NaN}')
@example(body=b'{"update_id": 8, "a": 1e999}')
@example(body=b'{"update_id": 9, "a": ["\\u0000", "\\ud800"]}')
@example(body=b"[" * 10**5)
def test_any_update_of_telegrams(
    hooked: dict[str, str], web: httpx.Client, full: str, body: Any
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = web.post("/webhook/telegram", content=content, headers=hooked)
    assert told.status_code == 204 or not answered(told)
