"""The web chat and its JSON interface: what comes in, and the page that shows it."""

import argparse
import asyncio
import contextlib
import hmac
import json
import logging
import math
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import Body, FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field, model_validator
from redis.exceptions import RedisError
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from core import catalog, commands, events, options
from core.cards import as_json
from core.commands import Ask, Reply
from core.errors import InvalidOptions, NotAllowed, NotFound, TooMuch, TryAgain, UserError, report
from core.generations import Generation
from core.house import House, open_house
from core.inbox import Inbox
from core.lifecycle import PENDING, State
from core.people import Asker
from core.settings import HOOK, LOOPBACK, Telegram, Web, read
from core.supervisor import NONCE, CannotStart, door

log = logging.getLogger("drawqueue")

PAGES = Path(__file__).parent / "web"
COOKIE = "drawqueue"
# What is answered beside JSON, for the description of the interface.
PICTURE: dict[str, Any] = {"content": {"image/png": {}}}
EVENTS: dict[str, Any] = {"content": {"text/event-stream": {}}}
THREADS = 16
PROGRESS_SECONDS = 0.4
SHOWN = 50
# Bytes of a body: the longest line with every sign of it escaped is a fifth of it.
BODY = 2**20
# The row's own bound (a signed 64-bit integer would pass, a chat's id never reaches it).
JobId = Annotated[int, InPath(ge=1, le=2**31 - 1)]


class Sorry(BaseModel):
    """What is answered to whatever cannot be done."""

    error: str = Field(description="What is wrong, in words for a person.")
    faults: list[str] = Field(description="The same, a sentence for each mistake.")


class Health(BaseModel):
    """What answers."""

    database: bool
    redis: bool


class Given(BaseModel):
    """A JSON body, in which half a character (a lone surrogate, which no encoding takes) is “?”."""

    @model_validator(mode="before")
    @classmethod
    def _encodable(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return json.loads(json.dumps(given, ensure_ascii=False).encode(errors="replace"))


class Job(Given):
    """What `POST /api/jobs` takes."""

    model_config = ConfigDict(extra="forbid")
    prompt: str = Field(description="What to draw; {red, green} bird is two pictures.")
    confirm: bool = Field(False, description="Queue them though they are many.")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Options by name: " + ", ".join(
            option.name for option in options.OPTIONS if not option.required
        ),
    )  # fmt: skip


class Line(Given):
    """What a person typed in the chat."""

    text: str = Field(max_length=20_000)
    event: str = Field(
        default="", max_length=64, pattern=r"^[ -~]*$", description="Sent twice, handled once."
    )


class Presence:
    """Wakes every open page when something changed, from one reader of the stream."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.changed = asyncio.Event()

    async def listen(self) -> None:
        after = ""
        while True:
            try:
                if not after:
                    after = await asyncio.to_thread(events.latest, self.house.queue.redis)
                after, ids = await asyncio.to_thread(
                    events.wait, self.house.queue.redis, after, 2.0
                )
            except RedisError:
                await asyncio.sleep(1)
                continue
            if ids:
                self.changed.set()
                self.changed = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.changed.wait(), seconds)


def _asker(request: Request) -> Asker:
    house: House = request.app.state.house
    return house.known(Asker("web", request.state.user, "web"))


def _ask(
    request: Request, given: dict[str, Any] | None = None, event: str = "",
    faults: tuple[str, ...] = (), *, agreed: bool = False,
) -> Ask:  # fmt: skip
    asker = _asker(request)
    # An event is unique within its user: nobody meets another's by choosing the same.
    name = f"{asker.id}:{event}" if event else secrets.token_hex(8)
    return Ask(asker, name, {"chat": "web"}, given or {}, faults, agreed=agreed)


def create_app(house: House) -> FastAPI:
    """The web application over an open house."""
    settings = read(Web)
    presence = Presence(house)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # The default pool has few threads on small machines, and one waits on the stream.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        reader = asyncio.create_task(presence.listen())
        yield
        reader.cancel()

    app = FastAPI(
        title="Drawqueue", lifespan=lifespan, docs_url="/api/docs", openapi_url="/api/openapi.json",
        responses={"4XX": _refused("Refused."), "5XX": _refused("Something is wrong here.")},
    )  # fmt: skip
    app.state.house = house
    key = settings.key.get_secret_value()
    if settings.host in LOOPBACK:
        # A page elsewhere on the web must not reach this one through a name of its own.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"])

    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=BODY)

    @app.middleware("http")
    async def who(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Find who asks; beyond this machine only with the key."""
        origin = request.headers.get("origin", "")
        if request.method not in ("GET", "HEAD") and origin:
            at = origin.split("://")[-1]
            if at != request.headers.get("host"):
                return _sorry(403, "That request came from another site.")
        cookie = request.cookies.get(COOKIE, "")
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        user, _, proof = cookie.partition(".")
        request.state.user = "local"
        fresh = ""
        if key:
            if user and hmac.compare_digest(proof.encode(), _proof(key, user).encode()):
                request.state.user = user
            elif hmac.compare_digest(given.encode(), key.encode()):
                request.state.user = "api"
            elif hmac.compare_digest(request.query_params.get("key", "").encode(), key.encode()):
                fresh = secrets.token_hex(8)
                answer: Response = RedirectResponse("/", 303)
                answer.set_cookie(
                    COOKIE, f"{fresh}.{_proof(key, fresh)}", max_age=10**8,
                    httponly=True, samesite="lax",
                )  # fmt: skip
                return answer
            elif request.url.path not in ("/health", HOOK):
                return _sorry(401, "Open this page with ?key=… as its host gave it to you.")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 12 or int(length) > BODY):
            # Here, because the library says it in a shape of its own.
            return _sorry(413, _UNSERVED[413])
        answer = await call_next(request)
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Referrer-Policy"] = "no-referrer"
        if not request.url.path.startswith("/api/docs"):
            answer.headers["Content-Security-Policy"] = (
                "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"
            )
        return answer

    @app.exception_handler(UserError)
    async def user_error(_request: Request, error: Exception) -> JSONResponse:
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 400)
        answer = _sorry(status, str(error), getattr(error, "faults", [str(error)]))
        if wait := getattr(error, "wait", None):
            answer.headers["Retry-After"] = str(math.ceil(wait))
        return answer

    @app.exception_handler(RequestValidationError)
    async def malformed(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        told = InvalidOptions(
            _UNSERVED[400] if line["type"] == "json_invalid" else
            f"{'.'.join(str(part)[:40] for part in line['loc'][1:]) or 'body'}: {line['msg']}"
            for line in error.errors()
        )  # fmt: skip
        return _sorry(422, str(told), told.faults)

    @app.exception_handler(HTTPException)
    async def unserved(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        answer = _sorry(error.status_code, _UNSERVED.get(error.status_code, error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RecursionError)
    async def nested(_request: Request, _error: Exception) -> JSONResponse:
        return _sorry(422, "That is nested too deeply.")

    @app.exception_handler(Exception)
    async def bug(_request: Request, error: Exception) -> JSONResponse:
        fault = report("web request failed", error)
        return _sorry(500, f"Something went wrong here. (fault {fault})")

    def shown(generation: Generation) -> dict[str, Any]:
        standing = (
            house.generations.standing(generation) if generation.state == State.QUEUED else None
        )
        return as_json(house.card(generation), generation, standing)

    def answer(reply: Reply) -> dict[str, Any]:
        if reply.text or reply.generation is None:
            buttons = [{"id": one.id, "label": one.label} for one in reply.buttons]
            return {"text": reply.text, "buttons": buttons}
        return {"job": shown(reply.generation), "fresh": reply.fresh}

    async def in_thread(work: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(work)

    telegram = read(Telegram)
    inbox = Inbox(house.database, house.queue, "telegram")

    @app.post(HOOK, include_in_schema=False)
    async def telegram_update(request: Request) -> Response:
        """Store an update of Telegram's; the bot works it off."""
        proof = request.headers.get("x-telegram-bot-api-secret-token", "")
        if not telegram.webhook or not hmac.compare_digest(
            proof.encode(), telegram.hook_secret.encode()
        ):
            return _sorry(404, "There is nothing here.")
        try:
            update = await request.json()
            event = str(int(update["update_id"]))
            if len(event) > 20:  # Telegram's fit into 64 bits.
                raise ValueError
            json.dumps(update, allow_nan=False)  # Python reads NaN; PostgreSQL does not.
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return _sorry(400, "That is no update.")
        # A database that is away answers 500, and Telegram sends the update again.
        await asyncio.to_thread(inbox.record, {event: update})
        return Response(status_code=204)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGES / "index.html")

    app.mount("/static", StaticFiles(directory=PAGES), name="static")

    @app.post("/api/jobs", status_code=202, responses={
        409: _refused("So many need `confirm`."),
        422: _refused("Options that are wrong, every fault at once."),
        429: _refused("A limit is reached; Retry-After says for how many seconds."),
    })  # fmt: skip
    async def submit(request: Request, job: Annotated[Job, Body()]) -> dict[str, Any]:
        """Queue a picture, or several (`also` names the others); answers at once.

        More than the host's threshold need `confirm`; without it the answer is 409.
        """
        given = {**job.parameters, "prompt": job.prompt}

        def work() -> dict[str, Any]:
            ask = _ask(request, given, agreed=job.confirm)
            reply = commands.run(house, "imagine", ask)
            if reply.generation is None:
                raise NotAllowed(f"{reply.text} Then send the same with confirm: true.")
            return {**shown(reply.generation), "also": list(reply.others)}

        return dict(await in_thread(work))

    @app.get("/api/jobs")
    async def jobs(
        request: Request,
        status: State | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = SHOWN,
        before: Annotated[
            int | None, Query(ge=1, le=2**31 - 1, description="The last id of the page before.")
        ] = None,
    ) -> list[dict[str, Any]]:
        """One's own jobs, newest first."""
        states = [status] if status else list(State)

        def work() -> list[dict[str, Any]]:
            found = house.generations.of(_asker(request), states, limit, before)
            return [shown(generation) for generation in found]

        return list(await in_thread(work))

    @app.get("/api/jobs/{id}")
    async def job(request: Request, id: JobId) -> dict[str, Any]:
        """One job: status, progress, place and results."""
        return dict(await in_thread(lambda: shown(house.generations.visible(id, _asker(request)))))

    @app.get("/api/jobs/{id}/stream", response_class=EventSourceResponse, responses={200: EVENTS})
    async def stream(request: Request, id: JobId) -> EventSourceResponse:
        """Server-sent events (`update`) until the job is over."""
        first = await in_thread(lambda: shown(house.generations.visible(id, _asker(request))))

        async def tell() -> AsyncIterator[ServerSentEvent]:
            now = first
            said = ""
            while True:
                text = json.dumps(now)
                if text != said:
                    said = text
                    yield ServerSentEvent(text, event="update", id=str(now["version"]))
                if now["status"] not in PENDING:
                    return
                await presence.wait(PROGRESS_SECONDS)
                now = await in_thread(lambda: shown(house.generations.get(id)))

        return EventSourceResponse(tell())

    @app.delete("/api/jobs/{id}")
    async def cancel(request: Request, id: JobId) -> dict[str, Any]:
        """Cancel a job that is not over."""
        return await press(request, id, "cancel")

    @app.post("/api/jobs/{id}/retry", status_code=202)
    async def retry(request: Request, id: JobId) -> dict[str, Any]:
        """Draw again: the same id when it failed or was cancelled, else a new one."""
        return await press(request, id, "retry")

    @app.post("/api/jobs/{id}/reseed", status_code=202)
    async def reseed(request: Request, id: JobId) -> dict[str, Any]:
        """Draw again with a new seed, as a new job."""
        return await press(request, id, "reseed")

    @app.get("/api/jobs/{id}/why")
    async def why(request: Request, id: JobId) -> dict[str, str]:
        """Why a queued job waits, in words."""

        def work() -> dict[str, str]:
            house.generations.visible(id, _asker(request))
            return {"text": commands.press(house, "why", id, _ask(request)).text}

        return dict(await in_thread(work))

    async def press(request: Request, id: int, action: str) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            house.generations.visible(id, _asker(request))
            reply = commands.press(house, action, id, _ask(request))
            assert reply.generation
            return shown(reply.generation)

        return dict(await in_thread(work))

    @app.post("/api/proposals/{id}/{answer}")
    async def proposal(
        request: Request, id: JobId, answer: Literal["agree", "refuse"]
    ) -> dict[str, str]:
        """Say whether the many pictures that were asked about shall be queued."""
        said = await in_thread(lambda: commands.press(house, answer, id, _ask(request)))
        return {"text": said.text}

    @app.post("/api/chat")
    async def chat(request: Request, line: Line) -> dict[str, Any]:
        """Say a line as one would in any chat: a command, or a prompt."""
        name, given, faults = commands.from_text(line.text)
        ask = _ask(request, given, line.event, faults)
        return dict(await in_thread(lambda: answer(commands.run(house, name, ask))))

    @app.get("/api/events", response_class=EventSourceResponse, responses={200: EVENTS})
    async def all_events(request: Request) -> EventSourceResponse:
        """One's own jobs as they change (`update`), for the page."""
        asker = _asker(request)

        async def tell() -> AsyncIterator[ServerSentEvent]:
            said: dict[int, str] = {}
            while True:
                found = await in_thread(
                    lambda: [shown(g) for g in house.generations.of(asker, State, SHOWN)]
                )
                for one in reversed(found):
                    text = json.dumps(one)
                    if said.get(one["id"]) != text:
                        said[one["id"]] = text
                        yield ServerSentEvent(text, event="update")
                live = any(one["status"] in PENDING for one in found)
                await presence.wait(PROGRESS_SECONDS if live else 15)

        return EventSourceResponse(tell())

    @app.get("/media/{id}/{index}", response_class=Response, responses={200: PICTURE})
    async def media(
        request: Request, id: JobId, index: Annotated[int, InPath(ge=0, le=99)]
    ) -> Response:
        """A finished picture, with its recipe inside."""

        def work() -> bytes:
            found = house.generations.visible(id, _asker(request))
            if index >= len(found.results):
                raise NotFound(f"#{id} has no picture {index + 1}.")
            try:
                return house.media.load(str(found.results[index]["key"]))
            except FileNotFoundError:
                raise NotFound(f"The picture of #{id} is no longer kept.") from None

        data = await in_thread(work)
        return Response(
            data, media_type="image/png", headers={"Cache-Control": "private, max-age=31536000"}
        )

    @app.get("/api/models")
    async def models() -> list[dict[str, Any]]:
        """What can draw, and its defaults."""
        return [
            {"name": m.name, "size": m.size, "steps": m.steps, "guidance": m.guidance,
             "sampler": m.sampler, "largest": m.largest}
            for m in catalog.models().values()
        ]  # fmt: skip

    @app.get("/api/queue")
    async def queue() -> dict[str, Any]:
        """How busy it is."""

        def work() -> dict[str, Any]:
            counts = house.generations.counts()
            try:
                workers = house.queue.workers()
            except RedisError:
                workers = 0
            return {str(state): counts.get(state, 0) for state in PENDING} | {"workers": workers}

        return dict(await in_thread(work))

    @app.get("/health", response_model=Health, responses={503: {"model": Health}})
    async def health() -> JSONResponse:
        """200 when database and Redis answer, else 503 naming what does not."""

        def work() -> dict[str, bool]:
            told = {"database": True, "redis": True}
            try:
                house.generations.counts()
            except Exception:  # Whatever it is, the answer is the same word.
                told["database"] = False
            try:
                house.queue.redis.ping()
            except RedisError:
                told["redis"] = False
            return told

        told = await in_thread(work)
        # For who started this process, and asks whether it is this one that answers.
        mine = {"Drawqueue-Nonce": os.environ.get(NONCE, "")}
        return JSONResponse(told, 200 if all(told.values()) else 503, mine)

    return app


_STATUS: dict[type[Exception], int] = {
    InvalidOptions: 422,
    NotFound: 404,
    NotAllowed: 409,
    TooMuch: 429,
    TryAgain: 503,
}


# What is refused before any of ours is asked.
_UNSERVED = {
    400: "That body is no JSON.",
    404: "There is nothing here.",
    405: "That cannot be done here; /api/docs says what can.",
    413: f"That is too long: a body has at most {BODY // 1024} KiB.",
}


def _refused(when: str) -> dict[str, Any]:
    return {"model": Sorry, "description": when}


def _sorry(status: int, words: str, faults: list[str] | None = None) -> JSONResponse:
    return JSONResponse({"error": words, "faults": faults or [words]}, status)


def _proof(key: str, user: str) -> str:
    return hmac.new(key.encode(), user.encode(), "sha256").hexdigest()


def check() -> list[str]:
    """What is wrong with the web chat's settings, in words."""
    settings = read(Web)
    try:
        # Any port: the one that is set may be taken, by this very web chat.
        door(settings.host, 0, "").close()
    except CannotStart as error:
        return [f"DRAWQUEUE_WEB_HOST: {error}"]
    return [settings.fault] if settings.fault else []


def main() -> int:
    """Serve the web chat until stopped; `--check` only says what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    checking = parser.parse_args().check
    logging.basicConfig(level=logging.INFO, format="web: %(message)s")
    faults = check()
    for fault in faults:
        log.error("%s", fault)
    if faults or checking:
        return bool(faults)
    settings = read(Web)
    try:
        listening = door(settings.host, settings.port, "DRAWQUEUE_WEB_PORT")
    except CannotStart as error:
        log.error("%s", error)
        return 1
    with listening:
        log.info("listening on http://%s:%d", settings.host, listening.getsockname()[1])
        config = uvicorn.Config(
            create_app(open_house()), log_level="warning", timeout_graceful_shutdown=2
        )
        uvicorn.Server(config).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
