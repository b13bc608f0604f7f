"""OpenAI's chat completions and Pollinations' text, as their public documentation has them.

(developers.openai.com: API reference, Chat Completions; pollinations/pollinations: APIDOCS.md.)
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from tests.servers.remote import RemoteServer

# Roles and parts of a message, and options, that there are.
ROLES = {"system", "developer", "user", "assistant"}
OPTIONS = {
    "model", "messages", "stream", "seed", "temperature", "top_p", "max_tokens",
    "max_completion_tokens", "stop", "n", "user", "stream_options", "presence_penalty",
    "frequency_penalty", "response_format",
}  # fmt: skip
MOST_SEED = 2**31 - 1


class ChatServer(RemoteServer):
    """Answers a chat by streaming what it holds in `says`, a token at a time."""

    engine = "openai"
    source = "openai:gpt-4o-mini"
    path = "/v1/chat/completions"
    options = OPTIONS
    models = ("gpt-4o-mini",)

    def __init__(self) -> None:
        super().__init__()
        self.says = ["The", " light", "house", " stands", " in", " the", " storm", ", größer", "."]
        # Seconds before each token.
        self.pause = 0.0
        # What it does beside: `plain` knows no streaming, `silent` ends without saying so.
        self.habits: set[str] = set()
        # An error that comes after so many tokens, in place of the rest.
        self.fault: Any = None
        self.fault_after = 3
        self.finish = "stop"
        # Of how many who asked the connection ended before the answer did.
        self.left = 0
        self._cut: set[int] = set()

    def routes(self) -> list[web.RouteDef]:
        return [web.post(self.path, self.chat)]

    def settings(self) -> dict[str, str]:
        return {"OPENAI_BASE_URL": f"{self.address}/v1", "OPENAI_API_KEY": self.key}

    def refusal(self, status: int) -> Any:
        return {
            "error": {
                "message": f"refused with {status}", "type": "invalid_request_error",
                "param": None, "code": None,
            }
        }  # fmt: skip

    def heard(self, call: tuple[str, str, Any]) -> str:
        content = call[2]["messages"][-1]["content"]
        if isinstance(content, str):
            return content
        return next(str(part["text"]) for part in content if part["type"] == "text")

    def bad(self, words: str) -> web.Response:
        refused = self.refusal(400)
        if isinstance(refused["error"], str):
            refused["error"] = words
        else:
            refused["error"]["message"] = words
        return web.json_response(refused, status=400)

    def wrong(self, given: Any) -> str:
        """What is wrong with a body; empty when nothing is."""
        if not isinstance(given, dict):
            return "We could not parse the JSON body of your request."
        if unknown := set(given) - self.options:
            return f"Unrecognized request argument supplied: {sorted(unknown)[0]}"
        if given.get("model") not in self.models:
            return f"The model `{given.get('model')}` does not exist"
        if not isinstance(given.get("messages"), list) or not given["messages"]:
            return "'messages' is a required property"
        if not 0 <= given.get("seed", 0) <= MOST_SEED:
            return "'seed' is out of range"
        for one in given["messages"]:
            if set(one) != {"role", "content"} or one["role"] not in ROLES:
                return "Invalid value: 'messages[0].role'"
            for part in [] if isinstance(one["content"], str) else one["content"]:
                if part.get("type") == "text" and isinstance(part.get("text"), str):
                    continue
                address = (part.get("image_url") or {}).get("url", "")
                if part.get("type") != "image_url" or one["role"] != "user":
                    return "Invalid content type"
                if not address.startswith("data:image/jpeg;base64,") or len(address) > 2**21:
                    return "You uploaded an unsupported image."
        return ""

    async def _met(self, trouble: str, request: web.Request, handler: Any) -> web.StreamResponse:
        if trouble == "cut":
            self._cut.add(id(request))
            trouble = ""
        return await super()._met(trouble, request, handler)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        given = await request.json()
        if words := self.wrong(given):
            return self.bad(words)
        head = {"id": "chatcmpl-1", "created": 1, "model": given["model"]}
        if "plain" in self.habits or not given.get("stream"):
            message = {"role": "assistant", "content": "".join(self.says)}
            choice = {"index": 0, "message": message, "finish_reason": self.finish}
            told = {**head, "object": "chat.completion", "choices": [choice], "usage": {}}
            return web.Response(text=json.dumps(told, indent=2), content_type="application/json")
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)

        async def event(delta: dict[str, str], finish: str | None = None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            told = {**head, "object": "chat.completion.chunk", "choices": [choice]}
            await answer.write(f"data: {json.dumps(told, ensure_ascii=False)}\n\n".encode())

        try:
            await answer.write(b": processing\n\n")
            await event({"role": "assistant", "content": ""})
            for number, token in enumerate(self.says):
                if number == self.fault_after and id(request) in self._cut:
                    assert request.transport
                    request.transport.close()
                    return answer
                if number == self.fault_after and self.fault is not None:
                    await answer.write(f"data: {json.dumps(self.fault)}\n\n".encode())
                    return answer
                await asyncio.sleep(self.pause)
                await event({"content": token})
            if "silent" in self.habits:
                return answer
            await event({}, self.finish)
            # What include_usage brings, some send unasked.
            usage = {**head, "object": "chat.completion.chunk", "choices": [], "usage": {}}
            await answer.write(f"data: {json.dumps(usage)}\n\ndata: [DONE]\n\n".encode())
            if "stays" in self.habits:
                await asyncio.sleep(5)
        except (ConnectionError, asyncio.CancelledError):
            self.left += 1
            raise
        return answer


class PollinationsTextServer(ChatServer):
    """Pollinations' text: the same protocol at its own address, with a word of its own."""

    engine = "pollinations"
    source = "pollinations:openai"
    options = OPTIONS | {"private", "referrer", "token"}
    models = ("openai", "openai-fast")

    def settings(self) -> dict[str, str]:
        return {"POLLINATIONS_TEXT_URL": self.address, "POLLINATIONS_TOKEN": self.key}

    def refusal(self, status: int) -> Any:
        return {"error": f"refused with {status}", "status": status}
