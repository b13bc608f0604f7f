"""The parameters of a call, whichever way they were written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.servers.telegram_errors import Json, bad


@dataclass
class Upload:
    """One file of a multipart request."""

    name: str
    data: bytes
    mime: str


class Params:
    """The parameters of a call, by name and type."""

    def __init__(self, values: Json, files: dict[str, Upload] | None = None) -> None:
        self.values = values
        self.files = files or {}

    def text(self, name: str) -> str:
        """A string, empty when absent."""
        value = self.values.get(name)
        return "" if value is None else str(value)

    def number(self, name: str) -> int | None:
        """A whole number."""
        value = self.values.get(name)
        if value is None or value == "":
            return None
        try:
            return int(value)
        except (TypeError, ValueError):
            raise bad(f'invalid {name} specified: "{value}"') from None

    def flag(self, name: str) -> bool:
        """A truth value."""
        return str(self.values.get(name)).lower() in ("true", "1", "yes")

    def tree(self, name: str) -> Any:
        """A JSON value."""
        value = self.values.get(name)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value) if value else None
        except ValueError:
            raise bad(f"can't parse {name} JSON object") from None

    def seen(self) -> Json:
        """The parameters for the log, without the bytes."""
        files = {k: {"file": f.name, "size": len(f.data)} for k, f in self.files.items()}
        return {**self.values, **files}


async def read(request: web.Request) -> Params:
    """The parameters of a request: query, urlencoded, JSON or multipart."""
    values: Json = dict(request.query)
    files: dict[str, Upload] = {}
    if request.content_type == "application/json":
        given = await request.json()
        values |= given if isinstance(given, dict) else {}
    elif request.method == "POST":
        for name, value in (await request.post()).items():
            if isinstance(value, web.FileField):
                files[name] = Upload(value.filename, value.file.read(), value.content_type)
            else:
                values[name] = value if isinstance(value, str) else bytes(value).decode()
    return Params(values, files)
