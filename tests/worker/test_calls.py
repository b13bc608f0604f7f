"""How other servers are called: tried again, paused, left alone, bounded, told no secrets."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from limits import RateLimitItemPerSecond

from core import providers, settings
from core.engine import AskDifferently, Stopped, TransientError, TryAnother, Wait
from tests.servers.remote import RemoteServer, picture
from worker.engines import calls
from worker.engines.apart import LONG, Apart, TooMuch
from worker.engines.calls import Caller

# A picture's file as large as those that models draw, and how many come at once.
LARGE, AT_ONCE = 4_000_000, 40


class PlainServer(RemoteServer):
    """Answers with whatever a test put at a path."""

    engine = "chutes"

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self.headers: list[dict[str, str]] = []

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", "/{name}", self._answer)]

    def settings(self) -> dict[str, str]:
        return {"CHUTES_BASE_URL": self.address, "CHUTES_API_TOKEN": self.key}

    def allowed(self, request: web.Request) -> bool:
        self.headers.append(dict(request.headers))
        return True

    def put(self, name: str, body: bytes, status: int = 200, **headers: str) -> str:
        told = {key.replace("_", "-"): value for key, value in headers.items()}
        self.answers[name] = status, body, told
        return f"/{name}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        status, body, headers = self.answers[request.match_info["name"]]
        answer = web.StreamResponse(status=status, headers=headers)
        # In pieces, and without saying how much will come.
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        for at in range(0, len(body), 2**16):
            await answer.write(body[at : at + 2**16])
            await asyncio.sleep(0)
        return answer


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[PlainServer, PlainServer]]:
    with PlainServer() as one, PlainServer() as other:
        assert isinstance(one, PlainServer) and isinstance(other, PlainServer)
        one.put("picture", picture("one"), Content_Type="image/png")
        one.put("json", b'{"a": 1}', Content_Type="application/json")
        one.put("trouble", b"{}", 500)
        yield one, other


@pytest.fixture
def server(
    servers: tuple[PlainServer, PlainServer], monkeypatch: pytest.MonkeyPatch
) -> PlainServer:
    for one in servers:
        one.asked.clear()
        one.headers.clear()
        one.troubles.clear()
    for name, value in servers[0].settings().items():
        monkeypatch.setenv(name, value)
    settings._read.cache_clear()
    return servers[0]


@pytest.fixture
def caller(server: PlainServer) -> Iterator[Caller]:
    made = Caller("chutes")
    yield made
    made.close()


def on(_share: float, _words: str = "") -> bool:
    return True


# Once more


def test_a_refused_connection_is_tried_again() -> None:
    with socket.socket() as door:
        # Bound and not yet listening: whoever knocks is refused.
        door.bind(("127.0.0.1", 0))
        caller = Caller("chutes", f"http://127.0.0.1:{door.getsockname()[1]}")
        knocked = threading.Event()

        def answer() -> None:
            knocked.wait(5)
            door.listen()
            line, _ = door.accept()
            with line:
                line.recv(2**16)
                line.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"a": 1}')

        threading.Thread(target=answer, daemon=True).start()
        threading.Timer(0.15, knocked.set).start()
        # What never arrived may be sent again, even what must not be asked twice.
        assert caller.json("POST", "/", on) == {"a": 1}
        caller.close()


def test_what_was_sent_is_asked_again_only_where_that_does_no_harm(
    caller: Caller, server: PlainServer
) -> None:
    with pytest.raises(TransientError):
        caller.json("POST", "/trouble", on)
    assert len(server.asked) == 1
    server.troubles += ["500"] * (calls.TRIES - 1)
    assert caller.json("GET", "/json", on, again=True) == {"a": 1}
    assert len(server.asked) == 1 + calls.TRIES
    with pytest.raises(TransientError):
        caller.json("GET", "/trouble", on, again=True)
    assert len(server.asked) == 1 + 2 * calls.TRIES


# Pauses


def in_a_while(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


def number(seconds: float) -> str:
    return f"{seconds:g}"


@pytest.mark.parametrize(
    ("status", "told", "seconds", "least", "most"),
    [
        (429, number, 7, 7, 7),
        (429, in_a_while, 300, 240, 301),
        (429, in_a_while, -300, 1, 1),
        (429, number, 86400, 3600, 3600),
        (429, lambda _: "soon", 0, calls.REST_SECONDS, calls.REST_SECONDS),
        (503, number, 12, 12, 12),
    ],
    ids=["a number", "a date", "long ago", "too long", "no sense", "away"],
)
def test_how_long_to_wait_is_read_as_a_number_and_as_a_date(
    caller: Caller, server: PlainServer, status: int, told: Callable[[float], str],
    seconds: float, least: float, most: float,
) -> None:  # fmt: skip
    server.put("busy", b"{}", status, Retry_After=told(seconds))
    with pytest.raises(Wait) as caught:
        caller.json("GET", "/busy", on, again=True)
    assert least <= caught.value.seconds <= most
    assert len(server.asked) == 1, "nobody asks again before"


def test_after_many_faults_nobody_asks_for_a_while(
    server: PlainServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "REST_SECONDS", 0.4)
    caller = Caller("chutes")
    for _ in range(calls.FAULTS):
        with pytest.raises(TransientError):
            caller.json("GET", "/trouble", on)
    with pytest.raises(Wait, match="Chutes") as caught:
        caller.json("GET", "/json", on)
    # Another server of the same kind may be asked meanwhile.
    assert caught.value.unsent
    assert len(server.asked) == calls.FAULTS
    time.sleep(0.45)
    # One is let through, and as it fares well, all are.
    assert [caller.json("GET", "/json", on) for _ in range(2)] == [{"a": 1}] * 2
    caller.close()


def test_a_server_that_says_nothing_is_left_alone_as_well(
    server: PlainServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = replace(providers.PROVIDERS["chutes"], seconds=0.15)
    monkeypatch.setitem(providers.PROVIDERS, "chutes", quick)  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        caller = Caller("chutes", f"http://127.0.0.1:{silent.getsockname()[1]}")
        for _ in range(calls.FAULTS):
            with pytest.raises(TransientError, match="too long"):
                caller.json("GET", "/json", on)
        with pytest.raises(Wait, match="Chutes"):
            caller.json("GET", "/json", on)
        caller.close()


def test_who_is_stopped_is_no_fault_of_the_server(server: PlainServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        caller = Caller("chutes", f"http://127.0.0.1:{silent.getsockname()[1]}")
        for _ in range(2):
            with pytest.raises(Stopped):
                caller.json("GET", "/json", lambda *_: False)
        assert caller._breaker.fail_counter == 0
        caller.close()


def test_who_is_stopped_says_nothing_of_the_server(
    server: PlainServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "REST_SECONDS", 0.4)
    caller = Caller("chutes")

    def fail() -> None:
        with pytest.raises(TransientError, match="trouble"):
            caller.json("GET", "/trouble", on)

    def stop() -> None:
        with pytest.raises(Stopped):
            caller.json("GET", f"http://127.0.0.1:{silent.getsockname()[1]}/", lambda *_: False)
        # Who waited is told at once; the call itself ends a moment later.
        caller.start(asyncio.sleep(0.1)).result()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        for _ in range(calls.FAULTS - 1):
            fail()
        stop()
        fail()
        for _ in range(2):
            with pytest.raises(Wait, match="Chutes"):
                caller.json("GET", "/json", on)
            time.sleep(0.45)
            # Nor does it pass as the one that is let through, to see how it fares.
            stop()
            fail()
    time.sleep(0.45)
    assert caller.json("GET", "/json", on) == {"a": 1}
    for _ in range(calls.FAULTS - 1):
        fail()
    server.put("refused", b"{}", 422)
    with pytest.raises(AskDifferently):
        caller.json("GET", "/refused", on)
    fail()
    assert caller.json("GET", "/json", on) == {"a": 1}, "who refuses in order works"
    caller.close()


def test_what_askers_do_wrong_is_no_fault_of_the_server(
    caller: Caller, server: PlainServer
) -> None:
    server.put("wrong", b'{"detail": "no such size"}', 422)
    for _ in range(calls.FAULTS + 1):
        with pytest.raises(AskDifferently, match="no such size"):
            caller.json("GET", "/wrong", on)
    assert caller.json("GET", "/json", on) == {"a": 1}


@pytest.fixture
def limited(
    server: PlainServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Caller]]:
    """Two workers' callers, who may ask three times a minute together."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("DRAWQUEUE_REMOTE_LIMITS", "chutes=8/3")
    settings._read.cache_clear()
    calls._limiter.cache_clear()
    made = [Caller("chutes"), Caller("chutes")]
    yield made
    for one in made:
        one.close()
    calls._limiter.cache_clear()


def test_all_workers_share_how_many_may_be_asked_in_a_minute(
    limited: list[Caller], server: PlainServer
) -> None:
    one, other = limited
    for caller in (one, other, one):
        caller.picture("GET", "/picture", on, paid=True)
    for caller in (one, other):
        end = time.monotonic() + 0.3
        with pytest.raises(Stopped):
            caller.picture("GET", "/picture", lambda *_, end=end: time.monotonic() < end, paid=True)
    assert len(server.asked) == 3
    # What costs nothing is free.
    assert other.json("GET", "/json", on) == {"a": 1}


def test_who_waited_for_the_limit_is_drawn(limited: list[Caller], server: PlainServer) -> None:
    for caller in limited:
        caller._rate._item = RateLimitItemPerSecond(1)
    begun = time.monotonic()
    for caller in limited:
        caller.picture("GET", "/picture", on, paid=True)
    assert 0.5 < time.monotonic() - begun < 5


def test_where_redis_is_away_the_limit_is_waited_for(
    limited: list[Caller], server: PlainServer, redis_url: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    door = tmp_path / "redis"
    monkeypatch.setenv("REDIS_URL", f"unix://{door}?db=0")
    monkeypatch.setattr(calls, "AWAY_SECONDS", 0.1)
    settings._read.cache_clear()
    asked = []

    def report(_share: float, _words: str = "") -> bool:
        asked.append(len(server.asked))
        if len(asked) == 3:
            door.symlink_to(redis_url.removeprefix("unix://").partition("?")[0])
        return len(asked) < 500

    limited[0].picture("GET", "/picture", report, paid=True)
    assert asked[:3] == [0, 0, 0] and len(server.asked) == 1


# The key


def test_the_key_goes_to_its_own_server_alone(
    caller: Caller, servers: tuple[PlainServer, PlainServer], server: PlainServer
) -> None:
    server, other = servers
    other.put("picture", picture("other"), Content_Type="image/png")
    caller.picture("GET", "/picture", on)
    assert server.headers[-1]["Authorization"] == f"Bearer {server.key}"
    for one in (server, other):
        image = caller.fetch(f"{one.address}/picture", on)
        assert image.size == (64, 64)
        assert server.key not in str(one.headers[-1])


def test_a_redirect_is_not_followed(
    caller: Caller, servers: tuple[PlainServer, PlainServer], server: PlainServer
) -> None:
    server, other = servers
    other.put("picture", picture("other"), Content_Type="image/png")
    server.put("moved", b"", 302, Location=f"{other.address}/picture")
    with pytest.raises(TryAnother):
        caller.picture("GET", "/moved", on)
    assert not other.asked


def test_an_address_that_a_server_names_leads_to_no_private_place(
    caller: Caller, servers: tuple[PlainServer, PlainServer], server: PlainServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(calls, "TRIES", 1)
    other = servers[1]
    inner = other.address.replace("127.0.0.1", "localhost")
    server.put("moved", b"", 302, Location=f"{inner}/picture")
    for address in (f"{inner}/picture", f"{server.address}/moved"):
        with pytest.raises(TransientError, match="without a picture"):
            caller.fetch(address, on)
    assert not other.asked


def test_what_is_drawn_is_fetched_though_nobody_draws_any_more(
    caller: Caller, server: PlainServer
) -> None:
    for _ in range(calls.FAULTS):
        with pytest.raises(TransientError):
            caller.json("GET", "/trouble", on)
    with pytest.raises(Wait):
        caller.json("GET", "/json", on)
    assert caller.fetch(f"{server.address}/picture", on).size == (64, 64)


def test_no_secret_is_told(caller: Caller, server: PlainServer) -> None:
    assert server.key not in repr(vars(caller)) and server.key not in repr(caller._client)


# What comes back


def test_more_than_a_picture_has_is_not_taken(
    caller: Caller, server: PlainServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "MOST_BYTES", 300_000)
    monkeypatch.setattr(calls, "TRIES", 1)
    server.put("large", picture("one") + bytes(400_000), Content_Type="image/png")
    large = base64.b64encode(os.urandom(400_000)).decode()
    server.put("json-large", json.dumps({"data": large}).encode())
    with pytest.raises(AskDifferently, match="too large"):
        caller.picture("GET", "/large", on)
    with pytest.raises(AskDifferently, match="too large"):
        caller.json("GET", "/json-large", on, apart=True)
    with pytest.raises(TransientError, match="without a picture"):
        caller.fetch(f"{server.address}/large", on)


def bomb(side: int) -> bytes:
    """A PNG that says that it has so many pixels a side."""
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk + picture("one")[33:]


@pytest.mark.parametrize("side", [10_001, 30_000])
def test_more_pixels_than_a_picture_has_are_not_decoded(
    caller: Caller, server: PlainServer, side: int
) -> None:
    server.put("bomb", bomb(side), Content_Type="image/png")
    with pytest.raises(AskDifferently, match="too large"):
        caller.picture("GET", "/bomb", on)
    with pytest.raises(AskDifferently, match="too large"):
        caller.decoded(base64.b64encode(bomb(side)).decode())


@pytest.mark.parametrize("kind", ["text/html", "application/json", "image/png"])
def test_a_page_in_place_of_a_picture_is_none(
    caller: Caller, server: PlainServer, kind: str
) -> None:
    server.put("page", b"<html>Bad gateway</html>", Content_Type=kind)
    with pytest.raises(TransientError, match="without a picture"):
        caller.picture("GET", "/page", on)


@pytest.mark.parametrize("given", [None, 7, "no base64!", base64.b64encode(b"text").decode()])
def test_what_is_no_picture_in_json_is_none(caller: Caller, given: Any) -> None:
    with pytest.raises(TransientError, match="without a picture"):
        caller.decoded(given)


# The process of its own that is measured: what it held when nothing was drawn, and at most.
MANY = """
import resource, sys, threading
from worker.engines.calls import Caller

def on(*_): return True
def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

caller, kept, n = Caller("chutes"), [], int(sys.argv[1])
def ask(kind):
    if kind == "picture":
        kept.append(caller.picture("GET", "/many", on))
    else:
        told = caller.json("GET", "/many-json", on, apart=True)
        kept.append(caller.decoded(told["data"][0]["b64_json"]))
for kind in ("picture", "json"):
    ask(kind)
before = most()
for kind in ("picture", "json"):
    threads = [threading.Thread(target=ask, args=(kind,)) for _ in range(n)]
    for one in threads: one.start()
    for one in threads: one.join()
for image in kept:
    assert image.size == (64, 64)
print(len(kept), before, most())
"""


def test_many_pictures_at_once_take_no_memory(server: PlainServer) -> None:
    large = picture("one") + os.urandom(LARGE)
    server.put("many", large, Content_Type="image/png")
    told = {"created": 1, "data": [{"b64_json": base64.b64encode(large).decode()}]}
    server.put("many-json", json.dumps(told).encode(), Content_Type="application/json")
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(AT_ONCE)], capture_output=True, text=True, timeout=120,
        env={**os.environ, **server.settings(), "DRAWQUEUE_REMOTE_LIMITS": f"chutes={AT_ONCE}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    count, before, most = map(int, done.stdout.split())
    assert count == 2 * AT_ONCE + 2
    # Together their files have 160 MB, and their base64 has more.
    assert most - before < 64, f"{before} MB, then {most} MB"


# Base64 that is put apart

RAW = os.urandom(3 * LONG + 1)
CODED = base64.b64encode(RAW).decode()
WORDS = 'He said: "\\/ and \\" \\\\", ' * 500


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 4095, 4097, 10**6])
@pytest.mark.parametrize(
    "coded",
    [CODED, f"data:image/png;base64,{CODED}", CODED.rstrip("="),
     CODED.replace("+", "-").replace("/", "_")],
    ids=["plain", "as an address", "unpadded", "for addresses"],
)  # fmt: skip
def test_base64_becomes_a_file_however_it_comes(coded: str, size: int) -> None:
    whole = {"n": 1, "b": [{"picture": coded}, "short", WORDS, ""], "c": coded, "d": 'a"b\\'}
    # As PHP writes it, slashes are escaped.
    for text in (json.dumps(whole), json.dumps(whole).replace("/", "\\/")):
        apart = Apart(10**6)
        body = text.encode()
        for at in range(0, len(body), size):
            apart.feed(body[at : at + size])
        read = apart.read()
        assert read["b"][0]["picture"].read() == read["c"].read() == RAW
        assert read["b"][1:] == ["short", WORDS, ""]
        assert (read["n"], read["d"]) == (1, 'a"b\\')


def test_what_is_no_base64_is_refused_and_no_file() -> None:
    apart = Apart(10**6)
    apart.feed(f'{{"a": "{CODED}'.encode())
    with pytest.raises(ValueError, match="base64"):
        apart.feed(b'!!!!"}')
    with pytest.raises(TooMuch):
        Apart(LONG).feed(json.dumps({"a": CODED}).encode())
    with pytest.raises(TooMuch):
        Apart(LONG).feed(json.dumps({"a": WORDS}).encode())
    with pytest.raises(ValueError):
        short = Apart(LONG)
        short.feed(b'{"a": "')
        short.read()


def test_a_picture_in_json_is_the_one_that_was_sent(caller: Caller, server: PlainServer) -> None:
    large = picture("a large one", (400, 300)) + bytes(2 * LONG)
    told = {"small": picture("a small one"), "large": large}
    body = {name: base64.b64encode(data).decode() for name, data in told.items()}
    server.put("pictures", json.dumps(body).encode())
    read = caller.json("GET", "/pictures", on, apart=True)
    assert isinstance(read["small"], str) and not isinstance(read["large"], str)
    assert caller.decoded(read["large"]).size == (400, 300)
    small = caller.decoded(read["small"])
    with BytesIO() as out:
        small.save(out, "PNG")
        assert out.getvalue() == told["small"]
