"""Every HTTP call to the strict Discord: read, admitted or refused, logged, answered."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.servers.discord_errors import ApiError, Json
from tests.servers.discord_objects import Upload, guess_type
from tests.servers.discord_state import State

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
API = "/api/v10"


def reply(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """JSON with the exact content type that discord.py insists on."""
    head = {"Content-Type": "application/json", **(headers or {})}
    return web.Response(body=json.dumps(data).encode(), status=status, headers=head)


def refuse(error: ApiError) -> web.Response:
    """An ApiError as its answer."""
    if error.status == 429:
        return limited(error.body.pop("retry_after", 1.0), **error.body)
    return reply(error.body, error.status)


def limited(retry_after: float, **extra: Any) -> web.Response:
    """A 429; without Via clients take it for a ban of the whole address."""
    body = {"message": "You are being rate limited.", "retry_after": retry_after, "global": False}
    body |= extra
    head = {"Via": "1.1 google", "Retry-After": str(max(1, round(retry_after)))}
    head["X-RateLimit-Scope"] = "global" if body["global"] else "user"
    if body["global"]:
        head["X-RateLimit-Global"] = "true"
    return reply(body, 429, head)


class Calls:
    """What happens around every call: auth, limits, planned failures, log."""

    def __init__(self, state: State, token: str) -> None:
        self.state = state
        self.token = token
        self.log: list[Json] = []
        self.failures: list[Json] = []

    @property
    def around(self) -> Any:
        """The middleware: auth, limits, planned failures, log."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path.startswith("/gateway"):
                return await handler(request)
            try:
                if request.path.startswith("/api/"):
                    return await self._api(request, handler)
                return await handler(request)
            except ApiError as error:
                return refuse(error)
            except web.HTTPException as error:
                return reply(
                    {"message": f"{error.status}: {error.reason}", "code": 0}, error.status
                )
            except (KeyError, ValueError, TypeError) as error:
                if not request.path.startswith("/control/"):
                    raise
                return reply({"error": f"{type(error).__name__}: {error}"}, 400)

        return middleware

    async def _api(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path.removeprefix(API)
        call: Json = {"method": request.method, "path": path, "query": dict(request.query)}
        call |= {"time": self.state.now(), "unknown": False, "json": None, "files": []}
        self.log.append(call)
        request["call"] = call
        response: web.StreamResponse | None = None
        try:
            await self._read(request)
            rule = self.planned(request.method, path)
            if rule and not rule.get("after_applying"):
                response = self._planned_answer(rule)
                return response
            head = self._admit(request, path)
            try:
                response = await handler(request)
            except ApiError as error:
                response = refuse(error)
            except web.HTTPException as error:
                call["unknown"] = True
                text = f"{error.status}: {error.reason}"
                response = reply({"message": text, "code": 0}, error.status)
            if rule:
                response = self._planned_answer(rule)
            response.headers.update(head)
        except ApiError as error:
            response = refuse(error)
            if "headers" in request:
                response.headers.update(request["headers"])
        except Exception:
            call["status"] = 599
            raise
        finally:
            if response is not None:
                call["status"] = response.status
        return response

    async def _read(self, request: web.Request) -> None:
        request["body"], request["files"] = {}, {}
        # aiohttp reads a body once: as a form or as bytes.
        multipart = request.content_type == "multipart/form-data"
        form = await request.post() if multipart else None
        raw = b"" if multipart else await request.read()
        if max(len(raw), request.content_length or 0) > self.state.limits["request_size"]:
            raise ApiError(413, 40005, "Request entity too large")
        try:
            if form is not None:
                for key, value in form.items():
                    if key == "payload_json" and isinstance(value, str):
                        request["body"] = json.loads(value)
                    elif isinstance(value, web.FileField):
                        found = re.fullmatch(r"files\[(\d+)\]", key)
                        number = found.group(1) if found else str(len(request["files"]))
                        kind = value.content_type
                        upload = Upload(value.filename, value.file.read(), kind)
                        if kind == "application/octet-stream":
                            upload.content_type = guess_type(value.filename) or kind
                        request["files"][number] = upload
            elif raw:
                if request.content_type != "application/json":
                    raise ApiError(400, 50109, "The request body contains invalid JSON.")
                request["body"] = json.loads(raw)
        except ValueError:
            raise ApiError(400, 50109, "The request body contains invalid JSON.") from None
        # A deep copy, as it came: the log must not change with the message.
        request["call"]["json"] = json.loads(json.dumps(request["body"] or None))
        request["call"]["files"] = [
            {"name": f"files[{k}]", "filename": f.filename, "size": len(f.data)}
            for k, f in request["files"].items()
        ]

    def planned(self, method: str, path: str) -> Json | None:
        """What a test planned for such a call; for the CDN it says so as its method."""
        for rule in self.failures:
            own = "" if method == "CDN" else method
            fits = rule.get("method", own).upper() == method
            if fits and re.search(rule.get("path_regex", ""), path):
                rule["times"] -= 1
                if rule["times"] <= 0:
                    self.failures.remove(rule)
                return rule
        return None

    def _planned_answer(self, rule: Json) -> web.Response:
        body = rule.get("json")
        if rule["status"] == 429:
            return limited(float(rule.get("retry_after", 0.1)), **(body or {}))
        return reply(body or {"message": f"{rule['status']}: planned", "code": 0}, rule["status"])

    def _admit(self, request: web.Request, path: str) -> dict[str, str]:
        state, now = self.state, self.state.now()
        hook = path.startswith(("/interactions/", "/webhooks/"))
        if not hook:
            if request.headers.get("Authorization") != f"Bot {self.token}":
                raise ApiError(401, 0, "401: Unauthorized")
            count, window = state.limits["global"]
            ok, _, wait = state.buckets.take("global", count, window, now)
            if not ok:
                raise ApiError(
                    429, 0, "You are being rate limited.", retry_after=wait, **{"global": True}
                )
        if found := re.fullmatch(r"/channels/(\d+)/messages(/\d+)?", path):
            if request.method == "GET":
                return {}
            name, major = "deletes" if request.method == "DELETE" else "messages", found.group(1)
        elif (found := re.match(r"/webhooks/\d+/([^/]+)", path)) and request.method != "GET":
            name, major = "webhooks", found.group(1)
        else:
            return {}
        limit, window = state.limits[name]
        ok, left, reset = state.buckets.take(f"{name}:{major}", limit, window, now)
        head = {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": str(left)}
        head |= {"X-RateLimit-Reset": f"{now + reset:.3f}", "X-RateLimit-Bucket": f"bucket-{name}"}
        head["X-RateLimit-Reset-After"] = f"{reset:.3f}"
        if not ok:
            request["headers"] = head
            raise ApiError(429, 0, "You are being rate limited.", retry_after=round(reset, 3))
        return head
