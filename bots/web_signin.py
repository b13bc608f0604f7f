"""Signing in to the web chat, and what somebody who did sees of it: browsers, password, way out."""

import asyncio
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from bots.web_door import (
    COOKIE,
    SIGN_IN,
    asker,
    forget,
    remember,
    safely,
    session,
    signed_cookie,
    status_of,
)
from bots.web_oauth import Begun, Way, ways
from bots.web_pages import page
from bots.web_pictures import JobId
from core.accounts import LIVES, Session, Wrong, counted
from core.errors import NotAllowed, NotFound, UserError
from core.house import House
from core.languages import tr
from core.people import Asker
from core.settings import Web, read

ACCOUNT = "/account"
# How long somebody may take to say yes elsewhere.
BEGUN_SECONDS = 600
FIELDS = 10


def local(path: str) -> str:
    """Where to go on: a path of this very site, and no page to sign in at."""
    # A browser reads a backslash as a slash, and leaves tabs and line ends out.
    here = len(path) <= 500 and re.fullmatch(r"/(?![/\\])[^\\\x00-\x20\x7f]*", path)
    return path if here and not path.startswith((SIGN_IN, "/key")) else "/"


def browser_of(agent: str) -> str:
    """What a browser is called in a list of them."""
    kinds = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"),
             ("Safari/", "Safari"))  # fmt: skip
    homes = (("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"),
             ("Mac OS", "Mac"), ("Linux", "Linux"))  # fmt: skip
    kind = next((name for sign, name in kinds if sign in agent), "")
    home = next((name for sign, name in homes if sign in agent), "")
    return f"{kind}, {home}".strip(", ")


async def _form(request: Request) -> dict[str, str]:
    try:
        given = parse_qs((await request.body()).decode(errors="replace"), max_num_fields=FIELDS)
    except ValueError:
        given = {}
    return {name: values[0] for name, values in given.items()}


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _status(error: UserError) -> int:
    return 401 if isinstance(error, Wrong) else status_of(error)


def _may_register(request: Request) -> bool:
    who = read(Web).registers
    return who == "anybody" or (who == "inside" and bool(request.state.inside))


def _page(name: str, status: int = 200, **values: Any) -> Response:
    made = page(name, status, **values)
    made.headers["Cache-Control"] = "no-store"
    return made


def signing_in(house: House) -> APIRouter:
    """The pages of who signs in, and of who is signed in."""
    routes = APIRouter(include_in_schema=False)

    def entrance(
        request: Request, status: int = 200, *, new: bool = False, sorry: str = "", name: str = "",
        onward: str = "/",
    ) -> Response:  # fmt: skip
        return _page(
            "signin.html", status, new=new, sorry=sorry, named=name[:200], onward=local(onward),
            ways=list(ways().values()), may_register=_may_register(request),
            by_key=bool(read(Web).key.get_secret_value()) and not request.state.inside,
        )  # fmt: skip

    def welcome(request: Request, account: str, name: str, onward: str) -> Response:
        """Let this browser in as somebody, with a token that it never had before."""
        agent = browser_of(request.headers.get("user-agent", ""))
        before = session(request)
        if before:
            leave(before)
        token = house.accounts.begin(account, name, agent)
        answer = RedirectResponse(local(onward), 303)
        remember(answer, signed_cookie(), token, int(LIVES.total_seconds()))
        return answer

    def leave(one: Session) -> None:
        try:
            house.accounts.end(one.account, one.id)
        except NotFound:
            return

    @routes.get(SIGN_IN)
    async def signin(request: Request, next: str = "/") -> Response:
        if session(request):
            return RedirectResponse(local(next), 303)
        return entrance(request, onward=next)

    @routes.post(SIGN_IN)
    async def enter(request: Request) -> Response:
        given = await _form(request)
        name, onward = given.get("name", ""), given.get("next", "/")

        def work() -> Response:
            account, shown = house.accounts.enter(
                name, given.get("password", ""), _address(request)
            )
            return welcome(request, account, shown, onward)

        try:
            return await asyncio.to_thread(work)
        except UserError as error:
            return entrance(request, _status(error), sorry=str(error), name=name, onward=onward)

    @routes.get(f"{SIGN_IN}/new")
    async def new(request: Request, next: str = "/") -> Response:
        if session(request):
            return RedirectResponse(ACCOUNT, 303)
        if not _may_register(request):
            return closed(request, next)
        return entrance(request, new=True, onward=next)

    @routes.post(f"{SIGN_IN}/new")
    async def register(request: Request) -> Response:
        given = await _form(request)
        name, onward = given.get("name", ""), given.get("next", "/")
        if not _may_register(request):
            return closed(request, onward)

        def work() -> Response:
            password = given.get("password", "")
            account, shown = house.accounts.make(name, password, _address(request))
            return welcome(request, account, shown, onward)

        try:
            return await asyncio.to_thread(work)
        except UserError as error:
            status = _status(error) if _status(error) != 400 else 422
            return entrance(request, status, new=True, sorry=str(error), name=name, onward=onward)

    def closed(request: Request, onward: str) -> Response:
        words = tr("New accounts are not made here. Ask the host of this chat.")
        if read(Web).registers == "inside":
            words = tr("A new account is made by who came in with the key. Ask the host for it.")
        return entrance(request, 403, sorry=words, onward=onward)

    # As who one is on another chat

    def way_of(id_: str) -> Way:
        found = ways().get(id_)
        if found is None:
            raise NotFound(tr("Nobody signs in that way here."))
        return found

    def begun_key(state: str) -> str:
        return f"drawqueue:signin:begun:{_hash(state)}"

    @routes.post(f"{SIGN_IN}/{{way}}")
    async def begin(request: Request, way: str) -> Response:
        """Send a browser to where its person says yes, bound to this browser by a cookie."""
        found = way_of(way)
        onward = (await _form(request)).get("next", "/")
        home = read(Web).public_url.rstrip("/") or str(request.base_url).rstrip("/")
        begun = Begun(
            secrets.token_urlsafe(32), secrets.token_urlsafe(48), secrets.token_urlsafe(32),
            f"{home}{SIGN_IN}/{found.id}/back",
        )  # fmt: skip
        browser = secrets.token_urlsafe(32)
        kept = {**asdict(begun), "way": found.id, "next": local(onward), "browser": _hash(browser)}

        def work() -> None:
            house.accounts.knock(_address(request))
            with counted():
                house.queue.redis.set(begun_key(begun.state), json.dumps(kept), ex=BEGUN_SECONDS)

        try:
            await asyncio.to_thread(work)
        except UserError as error:
            return entrance(request, _status(error), sorry=str(error), onward=onward)
        answer = RedirectResponse(found.address(begun), 303)
        remember(answer, safely("drawqueue_signin"), browser, BEGUN_SECONDS)
        return answer

    @routes.get(f"{SIGN_IN}/{{way}}/back")
    async def back(
        request: Request, way: str, code: str = "", state: str = "", error: str = ""
    ) -> Response:
        """Take in who came back, once, and only the browser that began it."""
        found = way_of(way)

        def began() -> dict[str, str]:
            with counted():
                kept: Any = house.queue.redis.getdel(begun_key(state))
            told: dict[str, str] = json.loads(kept) if kept else {}
            browser = _hash(request.cookies.get(safely("drawqueue_signin"), ""))
            mine = hmac.compare_digest(told.get("browser", ""), browser)
            return told if mine and told["way"] == found.id else {}

        onward = "/"
        try:
            told = await asyncio.to_thread(began)
            if not told:
                raise NotAllowed(
                    tr("That sign-in was not begun in this browser, or took too long. Start again.")
                )
            onward = told["next"]
            if error or not code:
                raise NotAllowed(
                    tr("You did not sign in with {chat}. Nothing was changed.", chat=found.title)
                )
            begun = Begun(told["state"], told["verifier"], told["nonce"], told["back"])
            guest = await found.who(code, begun)
            answer = await asyncio.to_thread(welcome, request, guest.account, guest.name, onward)
        except UserError as fault:
            answer = entrance(request, _status(fault), sorry=str(fault), onward=onward)
        forget(answer, safely("drawqueue_signin"))
        return answer

    # Signed in

    def overview(
        request: Request, mine: Session, status: int = 200, *, sorry: str = "", done: str = ""
    ) -> Response:
        browser = request.state.browser
        made = 0
        if browser:
            made = len(house.generations.of(Asker("web", browser), limit=1))
        return _page(
            "account.html", status, me=mine, sorry=sorry, done=done, took=bool(made),
            browsers=house.accounts.browsers(mine), id=asker(request).account,
        )  # fmt: skip

    async def signed(request: Request, work: Callable[[Session], Response]) -> Response:
        """What somebody who is signed in asks for."""
        mine = session(request)
        if mine is None:
            return RedirectResponse(f"{SIGN_IN}?next={ACCOUNT}", 303)

        def tried() -> Response:
            try:
                return work(mine)
            except UserError as error:
                status = _status(error) if _status(error) != 400 else 422
                return overview(request, mine, status, sorry=str(error))

        return await asyncio.to_thread(tried)

    def gone() -> Response:
        answer = RedirectResponse("/", 303)
        forget(answer, signed_cookie())
        return answer

    @routes.get(ACCOUNT)
    async def account(request: Request) -> Response:
        return await signed(request, lambda mine: overview(request, mine))

    @routes.post(f"{ACCOUNT}/out")
    async def out(request: Request) -> Response:
        def work(mine: Session) -> Response:
            leave(mine)
            return gone()

        return await signed(request, work)

    @routes.post(f"{ACCOUNT}/everywhere")
    async def everywhere(request: Request) -> Response:
        def work(mine: Session) -> Response:
            house.accounts.leave(mine.account)
            return gone()

        return await signed(request, work)

    @routes.post(f"{ACCOUNT}/browsers/{{id}}")
    async def one_out(request: Request, id: JobId) -> Response:
        def work(mine: Session) -> Response:
            house.accounts.end(mine.account, id)
            if id == mine.id:
                return gone()
            return overview(request, mine, done=tr("That browser is signed out."))

        return await signed(request, work)

    @routes.post(f"{ACCOUNT}/password")
    async def password(request: Request) -> Response:
        given = await _form(request)

        def work(mine: Session) -> Response:
            house.accounts.change(
                mine, given.get("old", ""), given.get("new", ""), _address(request)
            )
            words = tr("Your password is changed. Every other browser is signed out.")
            return overview(request, mine, done=words)

        return await signed(request, work)

    @routes.post(f"{ACCOUNT}/take")
    async def take(request: Request) -> Response:
        def work(mine: Session) -> Response:
            browser = request.state.browser
            if not browser:
                raise NotFound(tr("This browser made nothing before you signed in."))
            house.people.hand_over(Asker("web", browser), asker(request))
            words = tr("What this browser made before is yours now.")
            answer = overview(request, mine, done=words)
            forget(answer, COOKIE)
            return answer

        return await signed(request, work)

    return routes


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
