"""The page with a brush: what is painted white over a finished picture is drawn anew.

`/paint/12.2` is for whoever the web chat knows; a signed link in its place speaks for somebody of
another chat, and what is drawn appears there.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from bots.web_api import EVENT, Given
from bots.web_door import BODY, ask, asker, status_of
from bots.web_pages import page as said
from bots.web_pictures import Brought, withheld
from core import catalog, commands
from core.asking import picture_number
from core.brush import PAINT
from core.errors import NotFound, UserError
from core.house import House
from core.languages import speak, tr
from core.options import COMMAND_OF, Mode, typed
from core.people import Asker
from core.proposals import escaped
from core.rows import Generation


class Painted(Given):
    """What the page sends after the mask."""

    prompt: str = Field("", max_length=20_000)
    mask: str = Field(max_length=64)
    event: str = Field(min_length=1, max_length=64, pattern=EVENT)
    confirm: bool = False


@dataclass(frozen=True)
class Easel:
    """Somebody before a picture that they may paint on, and where the new card goes."""

    who: Asker
    one: Generation
    index: int
    address: Mapping[str, Any]

    @property
    def picture(self) -> Mapping[str, Any]:
        return self.one.picture(self.index)

    @property
    def number(self) -> str:
        return f"{self.one.id}.{self.index + 1}"

    @property
    def name(self) -> str:
        """The picture as people say it."""
        return f"#{self.number}" if len(self.one.results) > 1 else f"#{self.one.id}"


def painting(house: House, brought: Brought) -> APIRouter:
    """The page, its picture, and where it sends what was painted."""
    routes = APIRouter(prefix=PAINT.rstrip("/"), include_in_schema=False)

    def easel(request: Request, which: str) -> Easel:
        """Who paints on what, spoken to from now on; in a thread of its own.

        Raises UserError where somebody may not paint, whoever they are.
        """
        if re.match(r"\d", which, re.ASCII):
            number, place = picture_number(which)
            one = house.generations.get(number)
            found = Easel(asker(request), one, (place or 1) - 1, {"chat": "web"})
        else:
            ticket = house.brush.ticket(which)
            one = house.generations.get(ticket.generation)
            there = replace(ticket.asker(one.chat), language=request.state.language)
            found = Easel(house.known(there), one, ticket.index, one.address)
            speak(house.speaks(found.who))
        house.generations.visible(found.one.id, found.who)
        assert found.picture
        withheld(found.one)
        return found

    @routes.get("/{which}")
    async def page(request: Request, which: str) -> Response:
        def work() -> Response:
            try:
                found = easel(request, which)
                drawn_by = found.one.request.model
                model = catalog.painter(drawn_by).name
            except UserError as error:
                return said("sorry.html", status_of(error), sorry=str(error))
            # What cannot paint over its own picture leaves that to another, which is named.
            words = typed({"model": model}) if model != drawn_by else ""
            return said(
                "paint.html", name=found.name, width=found.picture["width"],
                height=found.picture["height"], back="/" if found.who.platform == "web" else "",
                prompt=escaped(found.one.request.prompt), words=words,
            )  # fmt: skip

        return await asyncio.to_thread(work)

    @routes.get("/{which}/picture")
    async def picture(request: Request, which: str) -> Response:
        def work() -> bytes:
            found = easel(request, which)
            try:
                return house.media.load(str(found.picture["key"]))
            except FileNotFoundError:
                raise NotFound(
                    tr("The picture of #{number} is no longer kept.", number=found.one.id)
                ) from None

        return Response(await asyncio.to_thread(work), media_type="image/png")

    @routes.post("/{which}/mask", status_code=201)
    async def mask(request: Request, which: str) -> dict[str, Any]:
        found = await asyncio.to_thread(easel, request, which)
        return await brought.take(request, found.who, BODY)

    @routes.post("/{which}", status_code=202)
    async def submit(request: Request, which: str, painted: Painted) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            found = easel(request, which)
            name, given, faults = commands.from_text(
                f"/{COMMAND_OF[Mode.INPAINT]} {painted.prompt}"
            )
            asked = ask(
                found.who, {**given, "source": found.number},
                f"paint:{found.number}:{painted.event}", faults, agreed=painted.confirm,
                pictures=(brought.get(painted.mask, found.who),), address=found.address,
            )  # fmt: skip
            reply = commands.run(house, name, asked)
            if reply.generation is None:
                return {"question": reply.text}
            # Nobody here draws the card: a poster does, in the chat.
            house.showing.release([reply.generation.id, *reply.others])
            return {"id": reply.generation.id, "also": list(reply.others)}

        return await asyncio.to_thread(work)

    return routes
