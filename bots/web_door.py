"""The web chat's door: who comes in, how much they may send, and how one is refused."""

import asyncio
import hmac
import logging
import math
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlencode

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from bots.web_pages import WORDS, page
from core.accounts import Session
from core.asking import Ask
from core.brush import PAINT, BadLink, Expired
from core.elsewhere import DOOR
from core.errors import InvalidOptions, NotAllowed, NotFound, TooMuch, TryAgain, UserError, report
from core.export import EXPORT
from core.house import House
from core.keys import PREFIX, Key
from core.languages import mark, preferred, speak, tr
from core.media import Source
from core.people import Asker
from core.settings import HOOK, LOOPBACK, Discord, Telegram, Web, read
from core.sharing import SHARED

log = logging.getLogger("drawqueue")

COOKIE = "drawqueue"
# Bytes of a body: the longest line with every sign of it escaped is a fifth of it.
BODY = 2**20
# Takes more, and bounds it itself.
UPLOADS = "/api/uploads"
STATIC = "/static/"
# What is answered without the key, and tells nothing of anybody's.
OPEN = ("/health", "/key", WORDS, HOOK)
SIGN_IN = "/signin"
DOCS = "/api/docs"


class Sorry(BaseModel):
    """What is answered to whatever cannot be done."""

    error: str = Field(description="What is wrong, in words for a person.")
    faults: list[str] = Field(description="The same, a sentence for each mistake.")


class TooLarge(UserError):
    """More bytes than may be sent."""


class Unknown(UserError):
    """A key that nobody has."""


class Forbidden(UserError):
    """More than a key is for."""


class Bounded:
    """Keeps bodies below BODY bytes, but for pictures."""

    def __init__(self, app: ASGIApp) -> None:
        self.unbounded = app
        self.bounded = RequestBodyLimitMiddleware(app, max_body_size=BODY)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        takes_more = scope["type"] == "http" and scope["path"] == UPLOADS
        await (self.unbounded if takes_more else self.bounded)(scope, receive, send)


def asker(request: Request) -> Asker:
    """Who asks, as the door found."""
    house: House = request.app.state.house
    return house.known(Asker("web", request.state.user, "web", language=request.state.language))


def session(request: Request) -> Session | None:
    """The browser that somebody is signed in with, as the door found."""
    found: Session | None = request.state.session
    return found


async def stays(request: Request) -> bool:
    """Whether who came in is still let in, for what is answered over a long time."""
    found, key = session(request), request.state.key
    house: House = request.app.state.house
    if key:
        return await asyncio.to_thread(house.keys.lasts, key)
    return found is None or await asyncio.to_thread(house.accounts.lasts, found)


def safely(name: str) -> str:
    """The name of a cookie: where all is https, one that no other host can set."""
    return f"__Host-{name}" if _https() else name


def _https() -> bool:
    return read(Web).public_url.startswith("https://")


def signed_cookie() -> str:
    """The name of the cookie of who is signed in."""
    return safely("drawqueue_session")


def remember(answer: Response, name: str, value: str, seconds: int) -> None:
    """Let a browser bring something along that no script and no other site can read."""
    answer.set_cookie(
        name, value, max_age=seconds, httponly=True, samesite="lax",
        secure=_https(),
    )  # fmt: skip


def forget(answer: Response, name: str) -> None:
    """Let a browser bring it no more, unless it was just given another."""
    if not any(one.startswith(f"{name}=") for one in answer.headers.getlist("set-cookie")):
        remember(answer, name, "", 0)


def ask(
    who: Asker, given: dict[str, Any] | None = None, event: str = "",
    faults: tuple[str, ...] = (), *, agreed: bool = False, pictures: tuple[Source, ...] = (),
    address: Any = None,
) -> Ask:  # fmt: skip
    """What somebody asks for here."""
    # An event is unique within its user: nobody meets another's by choosing the same.
    name = f"{who.id}:{event}" if event else secrets.token_hex(8)
    return Ask(
        who, name, address or {"chat": "web"}, given or {}, faults, agreed=agreed,
        pictures=pictures,
    )  # fmt: skip


def guard(app: FastAPI) -> None:
    """Let in who may come in, and refuse everything else in one shape."""
    settings = read(Web)
    key = settings.key.get_secret_value()
    if settings.host in LOOPBACK:
        # A page elsewhere on the web must not reach this one through a name of its own.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"])

    app.add_middleware(Bounded)

    @app.middleware("http")
    async def who(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Find who asks, and in which language; beyond this machine only with the key."""
        request.state.language = preferred(request.headers.get("accept-language", ""))
        speak(request.state.language)
        origin = request.headers.get("origin", "")
        if request.method not in ("GET", "HEAD") and origin:
            at = origin.split("://")[-1]
            if at != request.headers.get("host"):
                return sorry(403, tr("That request came from another site."))
        cookie = request.cookies.get(COOKIE, "")
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        user, _, proof = cookie.partition(".")
        request.state.user, request.state.session, request.state.inside = "local", None, False
        request.state.key = None
        token = request.cookies.get(signed_cookie(), "")
        if token and not request.url.path.startswith(STATIC):
            request.state.session = await asyncio.to_thread(app.state.house.accounts.known, token)
        by_cookie = key and user and hmac.compare_digest(proof.encode(), _proof(key, user).encode())
        # Whom the key let in with this browser, who may have signed in since.
        request.state.browser = user if by_cookie else ""
        if request.state.session:
            request.state.user = request.state.session.user
        elif token and not given and not reads(request) and not open_to_all(request.url.path):
            # Whoever was signed in here does not go on as somebody else without a word.
            return guarded(sorry(401, tr("You are signed out. Reload this page.")), request)
        elif by_cookie:
            request.state.user, request.state.inside = user, True
        elif settings.open:
            request.state.inside = True
        elif given.startswith(PREFIX):
            pass
        elif key and hmac.compare_digest(given.encode(), key.encode()):
            request.state.user = "api"
        elif key and "key" in request.query_params:
            return guarded(entered(request.query_params["key"], request), request)
        elif not open_to_all(request.url.path):
            return guarded(no_key(request), request)
        if given.startswith(PREFIX):
            try:
                request.state.key = await asyncio.to_thread(by_key, given, request)
                request.state.user = request.state.key.user
                request.state.session, request.state.inside = None, False
            except UserError as error:
                return guarded(await user_error(request, error), request)
        # Local is who is at this machine; elsewhere that name is nobody's yet.
        if (settings.open or request.state.user != "local") and not silent(request.url.path):
            speak(await asyncio.to_thread(app.state.house.speaks, asker(request)))
        length = request.headers.get("content-length", "")
        long = length.isdecimal() and (len(length) > 12 or int(length) > BODY)
        if long and request.url.path != UPLOADS:
            # Here, because the library says it in a shape of its own.
            return guarded(sorry(413, unserved(413)), request)
        answer = await call_next(request)
        if token and not request.state.session and reads(request):
            forget(answer, signed_cookie())
        return guarded(answer, request)

    def by_key(given: str, request: Request) -> Key:
        """The key that a program brought. Raises UserError."""
        kept = app.state.house.keys
        found: Key | None = kept.enter(given)
        if found is None:
            raise Unknown(tr("That key is not known, or was taken back. /key makes another."))
        kept.count(found)
        if found.scope == "read" and request.method not in ("GET", "HEAD"):
            raise Forbidden(tr("This key may look at pictures, no more. /key new draw makes one."))
        return found

    def guarded(answer: Response, request: Request) -> Response:
        answer.headers["X-Content-Type-Options"] = "nosniff"
        # A browser that guesses shows a page of yesterday, or without the key.
        answer.headers.setdefault("Cache-Control", "no-cache")
        # Without any referrer a browser does not say either whence a form was sent.
        answer.headers["Referrer-Policy"] = "same-origin"
        picture = answer.headers.get("content-type", "").startswith("image/")
        if not silent(request.url.path):
            if not picture:
                answer.headers.add_vary_header("Accept-Language")
            # Whoever comes next with this browser is not shown what it kept, pictures neither.
            answer.headers.add_vary_header("Cookie")
        # The page of the interface holds its script and styles in itself.
        inline = "'unsafe-inline'" if request.url.path == DOCS else ""
        answer.headers["Content-Security-Policy"] = (
            f"default-src 'self' {inline}; img-src 'self' data:; base-uri 'none'; "
            "frame-ancestors 'none'"
        )
        return answer

    def no_key(request: Request, words: str = "") -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            told = tr("Open this page with ?key=… as its host gave it to you.")
            return sorry(401, words or (told if key else tr("Sign in first.")))
        if not key or (not words and (read(Discord).login or read(Telegram).login)):
            back = f"{request.url.path}?{request.url.query}".rstrip("?")
            return RedirectResponse(f"{SIGN_IN}?{urlencode({'next': back})}", 303)
        return page("key.html", 401, sorry=words)

    def entered(given: str, request: Request) -> Response:
        if not hmac.compare_digest(given.encode(errors="replace"), key.encode()):
            return no_key(request, tr("That is not the key. Ask the host of this chat for it."))
        fresh = secrets.token_hex(8)
        answer = RedirectResponse("/", 303)
        remember(answer, COOKIE, f"{fresh}.{_proof(key, fresh)}", 10**8)
        return answer

    @app.exception_handler(UserError)
    async def user_error(request: Request, error: Exception) -> Response:
        faults = getattr(error, "faults", [str(error)])
        answer = told(request, status_of(error), str(error), faults)
        if wait := getattr(error, "wait", None):
            answer.headers["Retry-After"] = str(math.ceil(wait))
        return answer

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        wrong = InvalidOptions(
            unserved(400) if line["type"] == "json_invalid" else
            f"{'.'.join(str(part)[:40] for part in line['loc'][1:]) or 'body'}: {line['msg']}"
            for line in error.errors()
        )  # fmt: skip
        return told(request, 422, str(wrong), wrong.faults)

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        answer = told(request, error.status_code, unserved(error.status_code) or error.detail)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RecursionError)
    async def nested(_request: Request, _error: Exception) -> JSONResponse:
        return sorry(422, tr("That is nested too deeply."))

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        fault = report("web request failed", error)
        return told(request, 500, tr("Something went wrong here. (fault {fault})", fault=fault))

    @app.post("/key", include_in_schema=False)
    async def enter(request: Request) -> Response:
        """Take the key from the page that asks for it."""
        given = parse_qs((await request.body()).decode(errors="replace"))
        return entered(given.get("key", [""])[0], request) if key else RedirectResponse("/", 303)


def open_to_all(path: str) -> bool:
    """Whether a path is answered without the key; a link to paint, to see, or to what somebody
    takes away proves itself, and so does an address for news."""
    signed = path.startswith(PAINT) and "." in path and not path[len(PAINT)].isdigit()
    enters = path == SIGN_IN or path.startswith(f"{SIGN_IN}/")
    return path in OPEN or path.startswith((STATIC, SHARED, EXPORT, DOOR)) or signed or enters


def reads(request: Request) -> bool:
    """Whether a person's browser asks for a page."""
    html = "text/html" in request.headers.get("accept", "")
    return html and request.method in ("GET", "HEAD")


def silent(path: str) -> bool:
    """Whether a path is answered without words for a person."""
    return path.startswith((STATIC, DOOR)) or path == "/health"


_STATUS: dict[type[Exception], int] = {
    InvalidOptions: 422,
    TooLarge: 413,
    Unknown: 401,
    Forbidden: 403,
    Expired: 410,
    BadLink: 403,
    NotFound: 404,
    NotAllowed: 409,
    TooMuch: 429,
    TryAgain: 503,
}


def status_of(error: Exception) -> int:
    """The status of an answer that says an error's words."""
    return next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 400)


# What is refused before any of ours is asked.
_UNSERVED = {
    400: mark("That body is no JSON."),
    404: mark("There is nothing here."),
    405: mark("That cannot be done here; /api/docs says what can."),
    413: mark("That is too long: a body has at most {most} KiB."),
}


def unserved(status: int) -> str:
    """What is said of a status before anything of ours was asked; nothing of others."""
    return tr(_UNSERVED.get(status, ""), most=BODY // 1024)


def refused(when: str) -> dict[str, Any]:
    """What the description of the interface says of a refusal."""
    return {"model": Sorry, "description": when}


def sorry(status: int, words: str, faults: list[str] | None = None) -> JSONResponse:
    """A refusal, in the one shape that they all have."""
    return JSONResponse({"error": words, "faults": faults or [words]}, status)


def told(request: Request, status: int, words: str, faults: list[str] | None = None) -> Response:
    """A refusal as whoever asked reads it: a person a page, a program of the interface JSON."""
    if reads(request) and not request.url.path.startswith("/api/"):
        return page("sorry.html", status, sorry=words)
    return sorry(status, words, faults)


def _proof(key: str, user: str) -> str:
    return hmac.new(key.encode(), user.encode(), "sha256").hexdigest()
