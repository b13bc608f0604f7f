"""The files of the strict Discord: kept, signed for a day, and handed out by its CDN."""

from __future__ import annotations

import asyncio
import io
import re
from urllib.parse import parse_qs

from aiohttp import web
from PIL import Image

from tests.servers.discord_calls import Calls
from tests.servers.discord_errors import Json
from tests.servers.discord_objects import Upload
from tests.servers.discord_state import State

FOLDERS = ("attachments", "ephemeral-attachments")
CHUNK = 1 << 16


def attach(
    state: State, channel_id: str, upload: Upload, description: str | None, fleeting: bool = False
) -> Json:
    """Store a file and describe it; a fleeting one came with an interaction, not in a message."""
    file_id = state.snowflake()
    name = re.sub(r"[^\w.\-]", "_", upload.filename) or "file"
    path = f"/{FOLDERS[fleeting]}/{channel_id}/{file_id}/{name}"
    state.files[path] = upload
    url = state.signed(path)
    data: Json = {"id": file_id, "filename": name, "size": len(upload.data), "url": url}
    data |= {"proxy_url": url, "content_type": upload.content_type}
    data |= {"ephemeral": True} if fleeting else {}
    if description is not None:
        data["description"] = description
    try:
        with Image.open(io.BytesIO(upload.data)) as picture:
            data["width"], data["height"] = picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        pass
    return data


class Files:
    """The CDN, and what tests let go wrong there."""

    def __init__(self, state: State, calls: Calls) -> None:
        self.state = state
        self.calls = calls

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Serve the CDN."""
        for folder in FOLDERS:
            router.add_route("GET", f"/{folder}/{{channel}}/{{id}}/{{name}}", self.file)

    async def file(self, request: web.Request) -> web.StreamResponse:
        """The bytes of a file, to whoever has an address that is still good."""
        rule = self.calls.planned("CDN", request.path)
        if rule and rule.get("never"):
            await asyncio.sleep(3600)
        if rule and rule["status"] != 200:
            return web.Response(status=rule["status"], text="planned")
        found = self.state.files.get(request.path)
        if found is None or not self._good(request):
            return web.Response(status=404, text="This content is no longer available.")
        if not (rule and rule.get("bytes")):
            return web.Response(body=found.data, headers={"Content-Type": found.content_type})
        # Larger than it was said to be, and no length told.
        answer = web.StreamResponse(headers={"Content-Type": found.content_type})
        await answer.prepare(request)
        call: Json = {"method": "CDN", "path": request.path, "unknown": False, "status": 200}
        call |= {"served": 0}
        self.calls.log.append(call)
        for _ in range(int(rule["bytes"]) // CHUNK):
            await answer.write(found.data[:1] * CHUNK)
            call["served"] += CHUNK
        return answer

    def _good(self, request: web.Request) -> bool:
        told = parse_qs(request.query_string)
        if not {"ex", "is", "hm"} <= told.keys():
            return False
        return int(told["ex"][0], 16) > self.state.now()
