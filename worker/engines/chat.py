"""Writing on other machines: OpenAI's chat completions, which Pollinations and most servers speak.

A server streams its answer as events, `data: {…}` and at last `data: [DONE]`, or answers in one
piece of JSON (developers.openai.com: API reference, Chat Completions; pollinations/pollinations:
APIDOCS.md, Text & Multimodal).
"""

import base64
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from PIL import Image as images
from PIL.Image import Image

from core.catalog import Model
from core.engine import (
    NOTHING,
    AskDifferently,
    EngineError,
    Say,
    Stopped,
    TransientError,
    Turn,
    Writer,
)
from core.languages import tr
from core.options import Request
from core.settings import Remote, Words, read
from core.wordings import USER, aloud, fitted
from core.writers import asked_for
from worker.engines.calls import Caller, Calling, quoted

# How often the words so far are told.
TELL_SECONDS = 0.1
# Of a talk, about 12,000 tokens; how much a model reads is not known here.
MOST_TALK = 48_000
# Of an answer; no model writes more.
MOST_ANSWER = 2_000_000
# Pixels a side of a picture that is looked at (OpenAI makes them smaller itself), and how finely.
SIDE, QUALITY = 1024, 85
# What servers that write no status of their own call their errors, by the statuses that mean it.
KINDS: Mapping[str, int] = {
    "invalid_request_error": 400, "badrequesterror": 400, "context_length_exceeded": 400,
    "content_filter": 400, "authentication_error": 401, "invalid_api_key": 401,
    "insufficient_quota": 402, "permission_error": 403, "model_not_found": 404,
    "rate_limit_exceeded": 429, "rate_limit_error": 429, "tokens": 429, "requests": 429,
}  # fmt: skip


@dataclass(frozen=True)
class Server:
    """Where a provider writes, what it calls the most tokens of an answer, and what else it is told
    by name and value."""

    address: str
    path: str
    most: str = "max_tokens"
    more: tuple[tuple[str, Any], ...] = ()


def _server(engine: str) -> Server:
    remote = read(Remote)
    if engine == "pollinations":
        # Private ones are not shown to everybody in its feed.
        more = (("private", True),)
        return Server(remote.pollinations_text_url, "/v1/chat/completions", more=more)
    # OpenAI's own newer models know but the newer name, other servers often but the older.
    own = "api.openai.com" in remote.openai_base_url
    most = "max_completion_tokens" if own else "max_tokens"
    return Server(remote.openai_base_url, "/chat/completions", most)


def writer(engine: str) -> Writer:
    """What writes, and describes, with models of a provider."""
    return Chat(engine)


class _Line(Caller):
    """A caller whose refusals are of words."""

    def refused(self, status: int, words: str, after: float | None = None) -> EngineError:
        # OpenAI says of an empty purse that it is too much at once.
        if status == 429 and any(one in words.lower() for one in ("quota", "billing", "credit")):
            status = 402
        error = super().refused(status, words, after)
        title = self.provider.title
        if status == 402:
            told = tr("{engine} writes nothing: the host has no credit left.", engine=title)
        elif not isinstance(error, AskDifferently):
            return error
        elif said := quoted(words):
            told = tr("{engine} does not write this: {words}", engine=title, words=said)
        else:
            told = tr("{engine} does not write this.", engine=title)
        return type(error)(told)


class Chat(Calling):
    """Writes by chat completions, many at a time."""

    def __init__(self, engine: str) -> None:
        self.server = _server(engine)
        self.calls = _Line(engine, self.server.address)

    def write(
        self, model: Model, request: Request, say: Say, talk: Sequence[Turn],
        pictures: Mapping[str, Image] = NOTHING,
    ) -> str:  # fmt: skip
        fitting = fitted(talk, lambda turns: sum(len(one.words) for one in turns), MOST_TALK)
        if fitting is None:
            raise AskDifferently(
                tr("That is more than {model} can read: ask in fewer words.", model=model.name)
            )
        body = {
            "model": asked_for(model),
            "messages": _messages(fitting, [pictures[key] for key in request.held]),
            "stream": True,
            # Some count it in 32 bits, one of them the sign.
            "seed": request.seed % 2**31,
            self.server.most: read(Words).most,
            **dict(self.server.more),
        }
        answer = _Answer(say)
        lines = self.calls.lines(
            "POST", self.server.path, answer.tell, paid=True, json=body,
            headers={"Accept": "text/event-stream, application/json"},
        )  # fmt: skip
        with closing(lines):
            for event in self._events(lines, answer):
                self._take(event, answer)
        if answer.ended == "content_filter":
            raise self.calls.refused(400, "")
        title = self.calls.provider.title
        if not answer.ended:
            raise TransientError(tr("{engine} broke off in the middle.", engine=title))
        words = aloud(answer.words)
        if not words:
            raise TransientError(tr("{engine} answered without a word.", engine=title))
        if not say(words):
            raise Stopped
        return words

    def _events(self, lines: Iterator[str], answer: "_Answer") -> Iterator[dict[str, Any]]:
        """What a server says, event by event, or in one piece where it does not stream."""
        whole: list[str] | None = []
        size = 0
        for line in lines:
            size += len(line)
            if size > MOST_ANSWER * 16:
                raise TransientError(self._no_sense())
            if line.startswith("data:"):
                whole = None
                data = line.removeprefix("data:").strip()
                if data == "[DONE]":
                    answer.ended = answer.ended or "stop"
                    return
                if data:
                    yield self._read(data)
            elif whole is not None and not line.startswith((":", "event:", "id:", "retry:")):
                whole.append(line)
            if not answer.tell():
                raise Stopped
        if whole is not None:
            yield self._read("\n".join(whole))

    def _read(self, data: str) -> dict[str, Any]:
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise TransientError(self._no_sense())
        return found

    def _take(self, event: dict[str, Any], answer: "_Answer") -> None:
        """What an event says: words, an end, or an error."""
        if fault := event.get("error"):
            raise self.calls.refused(*_fault(fault if isinstance(fault, dict) else event))
        try:
            choices = event.get("choices") or []
            for choice in choices[:1]:
                said = choice.get("delta") or choice.get("message") or {}
                answer.words += said.get("content") or ""
                # What comes in one piece is whole.
                whole = "stop" if "message" in choice else ""
                answer.ended = choice.get("finish_reason") or answer.ended or whole
        except (AttributeError, TypeError, KeyError):
            raise TransientError(self._no_sense()) from None
        if len(answer.words) > MOST_ANSWER:
            raise TransientError(self._no_sense())

    def _no_sense(self) -> str:
        title = self.calls.provider.title
        return tr("{engine} answered something that makes no sense.", engine=title)


class _Answer:
    """The words so far, told now and then."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.words = self.ended = ""
        self.told = 0.0

    def tell(self) -> bool:
        now = time.monotonic()
        if now < self.told + TELL_SECONDS:
            return True
        self.told = now
        return self.say(aloud(self.words))


def _messages(talk: Sequence[Turn], pictures: Sequence[Image]) -> list[dict[str, Any]]:
    """A talk as servers take it; the pictures are of its last turn."""
    told: list[dict[str, Any]] = [{"role": one.role, "content": one.words} for one in talk]
    if pictures and talk[-1].role == USER:
        shown = [{"type": "image_url", "image_url": {"url": _address(one)}} for one in pictures]
        told[-1]["content"] = [{"type": "text", "text": talk[-1].words}, *shown]
    return told


def _address(picture: Image) -> str:
    """A picture as an address that holds it: a JPEG of a size that any server takes."""
    small = picture.convert("RGBA")
    small.thumbnail((SIDE, SIDE))
    ground = images.new("RGB", small.size, "white")
    ground.paste(small, mask=small.getchannel("A"))
    out = io.BytesIO()
    ground.save(out, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _fault(fault: Mapping[str, Any]) -> tuple[int, str]:
    """The status that an error within an answer means, and its words."""
    words = next((one for name in ("message", "error", "detail")
                  if isinstance(one := fault.get(name), str)), "")  # fmt: skip
    for name in ("status", "code", "type"):
        said = str(fault.get(name) or "").lower()
        if said.isdigit() and 400 <= int(said) <= 599:
            return int(said), words
        if said in KINDS:
            return KINDS[said], words
    return 500, words
