"""Where somebody fetches all that is theirs, by a link that is theirs alone."""

import asyncio

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from core.export import EXPORT, fetched
from core.house import House


def taking_away(house: House) -> APIRouter:
    """The one route: the link proves itself."""
    routes = APIRouter(include_in_schema=False)

    @routes.get(EXPORT + "{token}")
    async def export(token: str) -> StreamingResponse:
        key, size = await asyncio.to_thread(fetched, house, token)
        return StreamingResponse(
            house.media.parts(key), media_type="application/zip",
            headers={
                "Content-Disposition": 'attachment; filename="drawqueue.zip"',
                "Content-Length": str(size), "Cache-Control": "private, no-store",
            },
        )  # fmt: skip

    return routes
