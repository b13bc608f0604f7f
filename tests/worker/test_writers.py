"""What every engine that writes keeps: those on other machines against their servers on loopback,
those on this one for real."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from core import providers, settings, wordings, writers
from core.engine import AskDifferently, Stopped, TransientError, TryAnother, Turn, Wait
from core.options import Mode, Request
from tests.servers.remote_chat import ChatServer, PollinationsTextServer

SERVERS: list[type[ChatServer]] = [ChatServer, PollinationsTextServer]


def asked(prompt: str, mode: Mode = Mode.WRITE, **more: Any) -> Request:
    """A request of words."""
    return Request(
        prompt=prompt, negative_prompt="", width=0, height=0, steps=1, guidance=0, seed=7,
        sampler="", model="", count=1, mode=mode, **more,
    )  # fmt: skip


class Listener:
    """Hears words grow, and says stop when it likes."""

    def __init__(self, until: float = 1e9, words: int = 10**6) -> None:
        self.heard: list[tuple[float, str]] = []
        self.begun = time.monotonic()
        self.until, self.words = until, words

    def __call__(self, words: str) -> bool:
        self.heard.append((time.monotonic() - self.begun, words))
        return self.heard[-1][0] < self.until and len(words.split()) < self.words

    @property
    def told(self) -> list[str]:
        return [words for _, words in self.heard]


# On other machines


@pytest.fixture(scope="module", params=SERVERS, ids=[one.engine for one in SERVERS])
def server(request: Any) -> Iterator[ChatServer]:
    with request.param() as made:
        yield made


@pytest.fixture
def remote(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from worker.engines.chat import writer

    fresh = type(server)()
    for name in ("says", "pause", "habits", "fault", "fault_after", "finish", "left", "seconds"):
        setattr(server, name, getattr(fresh, name))
    server.troubles.clear()
    server.asked.clear()
    for name, value in server.settings().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DRAWQUEUE_TEXT_MODEL", server.source)
    monkeypatch.setenv("DRAWQUEUE_CAPTIONER", server.source)
    monkeypatch.setitem(
        providers.PROVIDERS, server.engine,  # type: ignore[arg-type]
        replace(providers.PROVIDERS[server.engine], seconds=3.0),
    )  # fmt: skip
    settings._read.cache_clear()
    made = writer(server.engine)
    yield SimpleNamespace(made=made, model=writers.writer(Mode.WRITE))
    made.close()  # type: ignore[attr-defined]


def written(remote: Any, request: Request | None = None, say: Any = None, **more: Any) -> str:
    request = request or asked("Tell me of a lighthouse.")
    before = more.pop("before", ())
    talk = wordings.talk_for(request, before)
    words: str = remote.made.write(remote.model, request, say or Listener(), talk, **more)
    return words


def test_words_grow(remote: Any, server: ChatServer) -> None:
    server.pause = 0.12
    listener = Listener()
    words = written(remote, say=listener)
    assert words == "The lighthouse stands in the storm, größer." == listener.told[-1]
    grown = [one for one in dict.fromkeys(listener.told) if one]
    assert len(grown) > 4
    assert all(words.startswith(one) for one in grown)


def test_the_first_words_are_told_soon(remote: Any, server: ChatServer) -> None:
    server.pause = 0.6
    listener = Listener(words=1)
    with pytest.raises(Stopped):
        written(remote, say=listener)
    # The first token comes after 0.6 seconds; nobody is asked more than ten times a second.
    assert listener.heard[-1][1] and listener.heard[-1][0] < 1.4


def test_nobody_is_told_more_than_ten_times_a_second(remote: Any, server: ChatServer) -> None:
    server.says, server.pause = [f" {number}" for number in range(200)], 0.003
    listener = Listener()
    begun = time.monotonic()
    assert written(remote, say=listener).split() == [str(number) for number in range(200)]
    assert len(listener.heard) <= (time.monotonic() - begun) * 10 + 3


def test_the_whole_talk_goes_as_it_is(remote: Any, server: ChatServer) -> None:
    said = "Ein Turm & eine Möwe / “100 %”? #5 {x} \\ 日本\nsecond line"
    before = [Turn("user", "Hello"), Turn("assistant", "Hi! What can I do?")]
    written(remote, asked(said), before=before)
    method, path, body = server.asked[-1]
    assert (method, path) == ("POST", server.path)
    roles = [one["role"] for one in body["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert [one["content"] for one in body["messages"][1:]] == ["Hello", before[1].words, said]
    assert server.heard(server.asked[-1]) == said
    assert body["seed"] == 7 and body["stream"] is True
    assert 1024 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    assert body.get("private", False) == (server.engine == "pollinations")


def test_a_talk_that_is_too_long_loses_its_oldest_turns(remote: Any, server: ChatServer) -> None:
    sides = ("user", "assistant")
    before = [Turn(side, f"{number} " * 4000) for number in range(8) for side in sides]
    written(remote, asked("And now?"), before=before)
    said = server.asked[-1][2]["messages"]
    assert said[0]["role"] == "system" and said[1]["role"] == "user"
    assert said[-1]["content"] == "And now?" and said[-2]["content"].startswith("7 ")
    assert len(said) < 10
    with pytest.raises(AskDifferently):
        written(remote, asked("long " * 20_000))


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        ("400", AskDifferently),
        ("401", TryAnother),
        ("402", TryAnother),
        ("429", Wait),
        ("500", TransientError),
        ("slow", TransientError),
        ("cut", TransientError),
        ("html", TransientError),
    ],
)
def test_troubles_are_named_by_what_one_can_do(
    remote: Any, server: ChatServer, trouble: str, kind: type[Exception]
) -> None:
    server.troubles += [trouble] * 4
    with pytest.raises(kind) as caught:
        written(remote)
    assert type(caught.value) is kind
    assert providers.PROVIDERS[server.engine].title in str(caught.value)
    assert server.key not in str(caught.value)
    assert "draw" not in str(caught.value)
    server.troubles.clear()
    assert written(remote), "and the next one is written"


def test_a_refusal_says_why(remote: Any, server: ChatServer) -> None:
    server.troubles.append("400")
    with pytest.raises(AskDifferently, match="refused with 400"):
        written(remote)
    server.troubles.append("429")
    with pytest.raises(Wait) as caught:
        written(remote)
    assert caught.value.seconds == 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"error": {"message": "The server had an error", "type": "server_error"}}, TransientError),
        ({"error": "overloaded"}, TransientError),
        ({"error": {"message": "Slow down", "code": 429}}, Wait),
        ({"error": {"message": "No more", "code": "insufficient_quota"}}, TryAnother),
        ({"error": {"message": "Too long", "code": "context_length_exceeded"}}, AskDifferently),
        ({"error": "Too rude", "status": 400}, AskDifferently),
        ("no object", TransientError),
        ({"choices": "none"}, TransientError),
        ({"choices": [{"delta": {"content": 5}}]}, TransientError),
    ],
)
def test_an_error_in_the_middle_is_named(
    remote: Any, server: ChatServer, fault: Any, kind: type[Exception]
) -> None:
    server.fault = fault
    with pytest.raises(kind) as caught:
        written(remote)
    assert type(caught.value) is kind


def test_an_answer_that_ends_without_its_end_broke_off(remote: Any, server: ChatServer) -> None:
    server.habits = {"silent"}
    with pytest.raises(TransientError, match="broke off"):
        written(remote)


def test_what_a_filter_ends_was_not_written(remote: Any, server: ChatServer) -> None:
    server.finish = "content_filter"
    with pytest.raises(AskDifferently):
        written(remote)
    server.finish = "length"
    assert written(remote), "what is as long as it may be is an answer"


def test_an_empty_answer_is_none(remote: Any, server: ChatServer) -> None:
    server.says = ["<think>", "Hm.", "</think>", "\n"]
    with pytest.raises(TransientError, match="without a word"):
        written(remote)
    server.says += ["Yes", "."]
    listener = Listener()
    assert written(remote, say=listener) == "Yes."
    assert not any("Hm" in one for one in listener.told)


def test_who_does_not_stream_is_read_too(remote: Any, server: ChatServer) -> None:
    server.habits = {"plain"}
    assert written(remote) == "The lighthouse stands in the storm, größer."


def test_a_stop_ends_the_call(remote: Any, server: ChatServer) -> None:
    # While nothing comes, and while words do.
    for seconds, pause in ((2.0, 0.0), (0.0, 0.15)):
        server.seconds, server.pause = seconds, pause
        listener = Listener(until=0.4)
        with pytest.raises(Stopped):
            written(remote, say=listener)
        assert time.monotonic() - listener.begun < 1.2
    end = time.monotonic() + 3
    while server.left < 1 and time.monotonic() < end:
        time.sleep(0.05)
    assert server.left, "the server hears that nobody listens"


def test_who_has_said_all_is_not_waited_for(remote: Any, server: ChatServer) -> None:
    server.habits = {"stays"}
    begun = time.monotonic()
    assert written(remote)
    assert time.monotonic() - begun < 2


def test_who_was_not_reached_is_asked_again(remote: Any, server: ChatServer) -> None:
    # What is lost before a server hears of it is sent anew, and the answer to that is whole.
    made = remote.made.caller._client
    real, tries = made.stream, []

    def once(*given: Any, **more: Any) -> Any:
        tries.append(given)
        if len(tries) == 1:
            return real(given[0], "http://127.0.0.1:9/", **more)
        return real(*given, **more)

    made.stream = once
    assert written(remote) == "The lighthouse stands in the storm, größer."
    assert len(tries) == 2


def test_a_picture_is_shown_as_a_small_jpeg(remote: Any, server: ChatServer) -> None:
    image = Image.effect_noise((3000, 1500), 90).convert("RGBA")
    image.putalpha(0)
    request = asked("", Mode.DESCRIBE, sources=("key",))
    model = writers.writer(Mode.DESCRIBE)
    words = remote.made.write(
        model, request, Listener(), wordings.talk_for(request), {"key": image}
    )
    assert words
    shown = server.asked[-1][2]["messages"][-1]["content"]
    assert shown[0] == {"type": "text", "text": wordings.QUESTION}
    data = shown[1]["image_url"]["url"].partition(",")[2]
    small = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (small.format, small.mode, small.size) == ("JPEG", "RGB", (1024, 512))
    assert small.getpixel((5, 5)) == (255, 255, 255), "what is clear is white"


@pytest.mark.parametrize("host", ["https://api.openai.com/v1", "http://localhost:11434/v1"])
def test_how_many_tokens_are_at_most_is_said_as_the_server_knows_it(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    from worker.engines import chat

    monkeypatch.setenv("OPENAI_BASE_URL", host)
    settings._read.cache_clear()
    name = "max_completion_tokens" if "openai.com" in host else "max_tokens"
    assert chat._server("openai").most == name


def test_an_empty_purse_is_no_limit_that_passes(remote: Any) -> None:
    words = "You exceeded your current quota, please check your plan and billing details."
    assert isinstance(remote.made.caller.refused(429, words, 20.0), TryAnother)
    assert isinstance(remote.made.caller.refused(429, "Rate limit reached", 20.0), Wait)
