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
from urllib.parse import parse_qs

import uvicorn
from fastapi import Body, FastAPI, Header, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field, model_validator
from redis.exceptions import RedisError
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from bots.web_cards import Answer, Job, Made, Model, Queue, Words
from core import catalog, commands, events, options
from core.cards import as_json
from core.commands import Ask, Reply
from core.errors import InvalidOptions, NotAllowed, NotFound, TooMuch, TryAgain, UserError, report
from core.generations import Generation
from core.house import House, open_house
from core.inbox import Inbox
from core.lifecycle import FINAL, PENDING, State
from core.people import Asker
from core.settings import HOOK, LOOPBACK, Telegram, Web, read
from core.supervisor import NONCE, CannotStart, door

log = logging.getLogger("drawqueue")

PAGES = Path(__file__).parent / "web"
COOKIE = "drawqueue"
# What is answered beside JSON, for the description of the interface.
PICTURE: dict[str, Any] = {"content": {"image/png": {}}}
EVENTS: dict[str, Any] = {"content": {"text/event-stream": {}}}
# Bytes of a body: the longest line with every sign of it escaped is a fifth of it.
BODY = 2**20
STATIC = "/static/"
# What is answered without the key, and tells nothing of anybody's.
OPEN = ("/health", "/key", HOOK)
THREADS = 16
PROGRESS_SECONDS = 0.4
# What a page is shown: so many that are over, the newest, and of those that are not the next.
SHOWN, LIVE = 50, 300
# How long an answer is known that may have been lost on its way.
SAID_SECONDS = 3600
EVENT = r"^[ -~]*$"
DOCS = "/api/docs"
AMONG = "Give the prompt beside the parameters, not among them."
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


class Wanted(Given):
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
        default="", max_length=64, pattern=EVENT, description="Sent twice, handled once."
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

    # The library's own page of the interface would be fetched from another host.
    app = FastAPIOffline(
        title="Drawqueue", lifespan=lifespan, docs_url=DOCS, redoc_url=None,
        static_url=f"{DOCS}/static", favicon_url="data:,", openapi_url="/api/openapi.json",
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
        if key:
            if user and hmac.compare_digest(proof.encode(), _proof(key, user).encode()):
                request.state.user = user
            elif hmac.compare_digest(given.encode(), key.encode()):
                request.state.user = "api"
            elif "key" in request.query_params:
                return guarded(entered(request.query_params["key"], request), request)
            elif request.url.path not in OPEN and not request.url.path.startswith(STATIC):
                return guarded(no_key(request), request)
        length = request.headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 12 or int(length) > BODY):
            # Here, because the library says it in a shape of its own.
            return guarded(_sorry(413, _UNSERVED[413]), request)
        return guarded(await call_next(request), request)

    def guarded(answer: Response, request: Request) -> Response:
        answer.headers["X-Content-Type-Options"] = "nosniff"
        # A browser that guesses shows a page of yesterday, or without the key.
        answer.headers.setdefault("Cache-Control", "no-cache")
        # Without any referrer a browser does not say either whence a form was sent.
        answer.headers["Referrer-Policy"] = "same-origin"
        # The page of the interface holds its script and styles in itself.
        inline = "'unsafe-inline'" if request.url.path == DOCS else ""
        answer.headers["Content-Security-Policy"] = (
            f"default-src 'self' {inline}; img-src 'self' data:; frame-ancestors 'none'"
        )
        return answer

    def no_key(request: Request, sorry: str = "") -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            return _sorry(401, sorry or "Open this page with ?key=… as its host gave it to you.")
        page = (PAGES / "key.html").read_text().replace("{sorry}", sorry)
        return HTMLResponse(page, 401)

    def entered(given: str, request: Request) -> Response:
        if not hmac.compare_digest(given.encode(errors="replace"), key.encode()):
            return no_key(request, "That is not the key. Ask the host of this chat for it.")
        fresh = secrets.token_hex(8)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE, f"{fresh}.{_proof(key, fresh)}", max_age=10**8, httponly=True, samesite="lax"
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
        return {
            "text": "" if reply.fresh else reply.said,
            "buttons": [{"id": one.id, "label": one.label} for one in reply.buttons],
            "job": reply.generation and shown(reply.generation),
            "fresh": reply.fresh,
            "also": list(reply.others),
        }

    def once(event: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do what an event asks for; when it comes again, answer what was answered to it."""
        kept = f"drawqueue:said:{event}"
        with contextlib.suppress(RedisError):
            found: Any = house.queue.redis.get(kept)
            if found:
                told = json.loads(found)
                return {**told, "job": told["job"] and shown(house.generations.get(told["job"]))}
        told = work()
        with contextlib.suppress(RedisError):
            words = json.dumps({**told, "job": told["job"] and told["job"]["id"]})
            house.queue.redis.set(kept, words, ex=SAID_SECONDS)
        return told

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

    @app.post("/key", include_in_schema=False)
    async def enter(request: Request) -> Response:
        """Take the key from the page that asks for it."""
        given = parse_qs((await request.body()).decode(errors="replace"))
        return entered(given.get("key", [""])[0], request) if key else RedirectResponse("/", 303)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return RedirectResponse(DOCS)

    @app.post("/api/jobs", status_code=202, response_model=Made, responses={
        409: _refused("So many need `confirm`."),
        422: _refused("Options that are wrong, every fault at once."),
        429: _refused("A limit is reached; Retry-After says for how many seconds."),
    })  # fmt: skip
    async def submit(
        request: Request, job: Annotated[Wanted, Body()],
        event: Annotated[str, Header(
            alias="Idempotency-Key", max_length=64, pattern=EVENT,
            description="Of your choice; sent twice with the same one, it is queued once.",
        )] = "",
    ) -> dict[str, Any]:  # fmt: skip
        """Queue a picture, or several (`also` names the others); answers at once.

        More than the host's threshold need `confirm`; without it the answer is 409.
        """
        given = {**job.parameters, "prompt": job.prompt}
        faults = (AMONG,) if "prompt" in job.parameters else ()

        def work() -> dict[str, Any]:
            ask = _ask(request, given, event, faults, agreed=job.confirm)
            reply = commands.run(house, "imagine", ask)
            if reply.generation is None:
                raise NotAllowed(f"{reply.text} Then send the same with confirm: true.")
            return {**shown(reply.generation), "also": list(reply.others)}

        return dict(await in_thread(work))

    @app.get("/api/jobs", response_model=list[Job])
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

    @app.get("/api/jobs/{id}", response_model=Job)
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

    @app.delete("/api/jobs/{id}", response_model=Job)
    async def cancel(request: Request, id: JobId) -> dict[str, Any]:
        """Cancel a job that is not over."""
        return await press(request, id, "cancel")

    @app.post("/api/jobs/{id}/retry", status_code=202, response_model=Job)
    async def retry(request: Request, id: JobId) -> dict[str, Any]:
        """Draw again: the same id when it failed or was cancelled, else a new one."""
        return await press(request, id, "retry")

    @app.post("/api/jobs/{id}/reseed", status_code=202, response_model=Job)
    async def reseed(request: Request, id: JobId) -> dict[str, Any]:
        """Draw again with a new seed, as a new job."""
        return await press(request, id, "reseed")

    @app.get("/api/jobs/{id}/why", response_model=Words)
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

    @app.post("/api/proposals/{id}/{answer}", response_model=Words)
    async def proposal(
        request: Request, id: JobId, answer: Literal["agree", "refuse"]
    ) -> dict[str, str]:
        """Say whether the many pictures that were asked about shall be queued."""
        said = await in_thread(lambda: commands.press(house, answer, id, _ask(request)))
        return {"text": said.text}

    @app.post("/api/chat", response_model=Answer)
    async def chat(request: Request, line: Line) -> dict[str, Any]:
        """Say a line as one would in any chat: a command, or a prompt."""
        name, given, faults = commands.from_text(line.text)
        ask = _ask(request, given, line.event, faults)

        def work() -> dict[str, Any]:
            return answer(commands.run(house, name, ask))

        return dict(await in_thread(lambda: once(ask.event, work) if line.event else work()))

    @app.get("/api/events", response_class=EventSourceResponse, responses={200: EVENTS})
    async def all_events(request: Request) -> EventSourceResponse:
        """One's own jobs as they change (`update`), for the page; first, who one is (`hello`)."""
        asker = _asker(request)
        said: dict[int, dict[str, Any]] = {}
        over: dict[int, int] = {}
        live: set[int] = set()

        def look() -> list[str]:
            """What the page has not seen, oldest first."""
            found = {one.id: one for one in house.generations.pending(asker, LIVE)}
            found |= {one.id: one for one in house.generations.of(asker, FINAL, SHOWN)}
            for id in live - found.keys():
                with contextlib.suppress(NotFound):
                    found[id] = house.generations.get(id)
            live.clear()
            live.update(one.id for one in found.values() if one.state in PENDING)
            news = []
            for id, one in sorted(found.items()):
                if over.get(id) == one.version:
                    continue
                over.pop(id, None)
                if one.state in FINAL:
                    over[id] = one.version
                job = shown(one)
                # Of the estimate, which moves all the time, the card says what is worth saying.
                seen = {**job, "eta_seconds": None}
                if said.get(id) != seen:
                    said[id] = seen
                    news.append(json.dumps(job))
            return news

        async def tell() -> AsyncIterator[ServerSentEvent]:
            last = await in_thread(lambda: house.generations.of(asker, limit=1))
            hello = {"user": asker.account, "newest": last[0].id if last else 0}
            yield ServerSentEvent(json.dumps(hello), event="hello")
            while True:
                for text in await in_thread(look):
                    yield ServerSentEvent(text, event="update")
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

    @app.get("/api/models", response_model=list[Model])
    async def models() -> list[dict[str, Any]]:
        """What can draw, and its defaults."""
        return [
            {"name": m.name, "size": m.size, "steps": m.steps, "guidance": m.guidance,
             "sampler": m.sampler, "largest": m.largest}
            for m in catalog.models().values()
        ]  # fmt: skip

    @app.get("/api/queue", response_model=Queue)
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
