"""A strict Discord on loopback: REST, gateway and CDN, with a control door for tests."""

from __future__ import annotations

import argparse
import asyncio
import signal

from aiohttp import web

from tests.servers.discord_api import Api
from tests.servers.discord_calls import Calls
from tests.servers.discord_door import Door
from tests.servers.discord_files import Files
from tests.servers.discord_gateway import Gateway
from tests.servers.discord_interactions import Interactions
from tests.servers.discord_people import People
from tests.servers.discord_state import State


def build(state: State, token: str) -> web.Application:
    """HTTP, gateway and control door around one State."""
    calls, gateway = Calls(state, token), Gateway(state, token)
    app = web.Application(client_max_size=256 * 2**20, middlewares=[calls.around])

    async def shutdown(_: web.Application) -> None:
        await gateway.close()

    app.on_shutdown.append(shutdown)
    Api(state, gateway).add_routes(app.router)
    Files(state, calls).add_routes(app.router)
    Interactions(state, gateway).add_routes(app.router)
    app.router.add_route("GET", "/gateway", gateway.connect)
    app.router.add_route("GET", "/gateway/", gateway.connect)
    People(state, gateway).add_routes(app.router)
    Door(state, gateway, calls).add_routes(app.router)
    return app


async def serve(port: int, token: str) -> None:
    """Serve until told to stop."""
    state = State()
    runner = web.AppRunner(build(state, token), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    real_port = runner.addresses[0][1]
    state.base = f"http://127.0.0.1:{real_port}"
    print(f"READY {state.base}", flush=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stop.set)
    await stop.wait()
    await runner.cleanup()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default="TEST")
    args = parser.parse_args()
    asyncio.run(serve(args.port, args.token))


if __name__ == "__main__":
    main()
