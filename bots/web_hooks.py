"""Where other machines say that a drawing is done: what they say is stored, and a worker reads it.

Nobody has a key for this door: the address itself proves who was told it.
"""

import asyncio
import json
from typing import Any

from fastapi import APIRouter, Request, Response

from bots.web_door import sorry, unserved
from core.elsewhere import DOOR
from core.house import House

# Bytes of what may be said of a drawing.
NEWS = 64 * 2**10


def hearing(house: House) -> APIRouter:
    """The door for news of drawings that other machines have taken on."""
    routes = APIRouter(prefix=DOOR.rstrip("/"), include_in_schema=False)

    @routes.post("/{engine}/{generation}/{secret}")
    async def heard(request: Request, engine: str, generation: str, secret: str) -> Response:
        """Store news; 200 for whoever proves themselves, however late or often they say it."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > NEWS:
                return sorry(413, "That is too long.")
        try:
            news = _news(body)
        except (ValueError, RecursionError):
            return sorry(400, "That is no news.")
        # A database that is away answers 500; whoever was not heard is asked.
        heard = await asyncio.to_thread(house.elsewhere.news, engine, generation, secret, news)
        return Response(status_code=200) if heard else sorry(404, unserved(404))

    return routes


def _news(body: bytes) -> dict[str, Any]:
    """The news that a body holds. Raises ValueError."""
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError
    json.dumps(found, allow_nan=False)  # Python reads NaN; PostgreSQL does not.
    return found
