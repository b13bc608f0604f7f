"""The web chat and its JSON interface: what comes in, and the page that shows it."""

import argparse
import asyncio
import contextlib
import hmac
import json
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline

from bots.web_api import Presence, interface
from bots.web_door import DOCS, STATIC, guard, refused, session, sorry, unserved
from bots.web_export import taking_away
from bots.web_gallery import exhibition
from bots.web_hooks import hearing
from bots.web_pages import Assets, page, words
from bots.web_paint import painting
from bots.web_pictures import Brought, pictures
from bots.web_signin import signing_in
from core.house import House, open_house
from core.inbox import Inbox
from core.options import Mode
from core.settings import HOOK, Telegram, Web, read
from core.supervisor import CannotStart, door
from core.writers import writer

log = logging.getLogger("drawqueue")

THREADS = 16


def create_app(house: House) -> FastAPI:
    """The web application over an open house."""
    presence, brought = Presence(house), Brought(house)

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
        responses={"4XX": refused("Refused."), "5XX": refused("Something is wrong here.")},
    )  # fmt: skip
    app.state.house = house
    guard(app)
    telegram = read(Telegram)
    inbox = Inbox(house.database, house.queue, "telegram")

    @app.post(HOOK, include_in_schema=False)
    async def telegram_update(request: Request) -> Response:
        """Store an update of Telegram's; the bot works it off."""
        proof = request.headers.get("x-telegram-bot-api-secret-token", "")
        if not telegram.webhook or not hmac.compare_digest(
            proof.encode(), telegram.hook_secret.encode()
        ):
            return sorry(404, unserved(404))
        try:
            update = await request.json()
            event = str(int(update["update_id"]))
            if len(event) > 20:  # Telegram's fit into 64 bits.
                raise ValueError
            json.dumps(update, allow_nan=False)  # Python reads NaN; PostgreSQL does not.
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return sorry(400, "That is no update.")
        # A database that is away answers 500, and Telegram sends the update again.
        await asyncio.to_thread(inbox.record, {event: update})
        return Response(status_code=204)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        enhances = writer(Mode.ENHANCE) is not None
        return page("index.html", me=session(request), enhances=enhances)

    app.mount(STATIC.rstrip("/"), Assets(), name="static")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return RedirectResponse(DOCS)

    # The gallery before the jobs, any of whose actions would else be looked for.
    for routes in (exhibition(house), interface(house, presence, brought), pictures(house, brought),
                   painting(house, brought), signing_in(house), taking_away(house),
                   hearing(house), words()):  # fmt: skip
        app.include_router(routes)
    return app


def check() -> list[str]:
    """What is wrong with the web chat's settings, in words."""
    settings = read(Web)
    try:
        # Any port: the one that is set may be taken, by this very web chat.
        door(settings.host, 0, "").close()
    except CannotStart as error:
        return [f"DRAWQUEUE_WEB_HOST: {error}"]
    return settings.faults


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
        house = open_house()
        house.registry.follow()
        log.info("listening on http://%s:%d", settings.host, listening.getsockname()[1])
        config = uvicorn.Config(create_app(house), log_level="warning", timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
