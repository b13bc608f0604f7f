"""The gallery: one's own pictures as a page, what is kept of them, links to share, and the ZIP."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from bots.web_api import CALLED, Given, OfMode, OfModel, OfPrompt, Since, Until, looked
from bots.web_cards import Words
from bots.web_door import ask, asker, refused, session, status_of
from bots.web_pages import page
from bots.web_pictures import DECODED_AT_ONCE, Index, JobId, withheld
from core import commands, editing, gallery, history, marks, sharing, thumbnails
from core.accounts import network
from core.asking import Ask, picture_number
from core.cards import alt_text, details_of
from core.database import now
from core.errors import InvalidOptions, NotAllowed, NotFound, UserError
from core.gallery import Picture
from core.history import Filters
from core.house import House
from core.languages import mark, tr
from core.options import COMMAND_OF, DRAWN, Mode
from core.people import Asker
from core.policy import Show
from core.proposals import escaped
from core.receipts import bare
from core.settings import Web, read
from core.sharing import SHARED, Link

# Requests of a page, and at most.
PAGE, MOST = 40, 100
# Pictures that are named one by one: as many as an address has room for.
NAMED = 500
# A small picture never changes: another one has another number.
FOR_LONG = {"Cache-Control": "private, max-age=31536000, immutable"}
UNTOLD = mark("A picture that somebody shares.")
# What dies with a link stays nowhere.
NOWHERE = {"Cache-Control": "no-store", "X-Robots-Tag": "noindex"}
SMALL: dict[str, Any] = {"content": {"image/webp": {}}}
PACKED: dict[str, Any] = {"content": {"application/zip": {}}}


class Shown(BaseModel):
    """A finished picture among others."""

    number: str = Field(description="What commands call it: 12.1 is the first of job 12.")
    id: int = Field(description="The job's.")
    index: int = Field(description="Its place among the job's, from 0.")
    url: str = Field(description="Where the picture is, below this address.")
    small: str = Field(description="Where a small copy is, as WebP.")
    alt: str
    prompt: str
    width: int | None
    height: int | None
    created: datetime
    favourite: bool
    tags: list[str]
    show: Show = Field(description="How it is shown, as the policy says of those that are marked.")


class Page(BaseModel):
    """Pictures, newest first."""

    pictures: list[Shown]
    next: int | None = Field(description="What `before` goes on from; null at the end.")


class Shared(BaseModel):
    """A link that shows a picture to whoever has it."""

    url: str
    prompt: bool = Field(description="Whether the prompt and the recipe are shown, too.")
    until: datetime


class Told(Shown):
    """A finished picture, and all that is known of it."""

    seed: int | None
    bytes: int | None
    details: str
    parameters: dict[str, Any]
    parent: int | None
    of: int = Field(description="How many pictures the job has; they are deleted together.")
    line: str = Field(description="What one types to draw it again.")
    remix: str = Field(description="What one types to draw it anew, in other words.")
    link: Shared | None


class Number(BaseModel):
    """Something by name, and its number of pictures."""

    name: str
    pictures: int


class Count(BaseModel):
    """What somebody has."""

    pictures: int
    bytes: int
    favourites: int
    tags: list[Number]
    models: list[Number]


class Kept(BaseModel):
    """What a picture is kept under."""

    favourite: bool
    tags: list[str]


class Tags(Given):
    """Tags to put on a picture."""

    tags: list[str] = Field(min_length=1, max_length=marks.MOST)


class Wish(Given):
    """How a picture is shared."""

    prompt: bool = Field(False, description="Show the prompt, and leave the recipe in the file.")
    days: int = Field(sharing.DAYS, ge=1, le=sharing.MOST_DAYS)


class Looked:
    """What is looked for, as every route here takes it."""

    def __init__(
        self,
        words: OfPrompt = "", type: OfMode = "", model: OfModel = "", since: Since = "",
        until: Until = "",
        tag: Annotated[str, looked("What it is tagged with.")] = "",
        favourite: Annotated[Literal["", "yes"], Query(description="Favourites alone.")] = "",
    ) -> None:  # fmt: skip
        self.given = {
            "words": words, "mode": type, "model": model, "since": since, "until": until,
            "tag": tag, "favourite": favourite,
        }  # fmt: skip

    def filters(self, asked: Ask) -> Filters:
        """Raises InvalidOptions."""
        return history.filtered(self.given, asked, called=CALLED)[0]


def exhibition(house: House) -> APIRouter:
    """The page, what it is told, and where links lead."""
    routes = APIRouter()
    decoding = asyncio.Semaphore(DECODED_AT_ONCE)

    def link_of(link: Link | None, request: Request) -> dict[str, Any] | None:
        if link is None:
            return None
        base = read(Web).public_url.rstrip("/") or str(request.base_url).rstrip("/")
        return {"url": base + link.path, "prompt": link.prompt, "until": link.until}

    def mine(request: Request, id: int, index: int) -> tuple[Asker, Picture]:
        """Raises NotFound."""
        who = asker(request)
        return who, gallery.picture(house, who, id, index)

    @routes.get("/gallery", include_in_schema=False)
    async def exhibited(request: Request) -> Response:
        modes = [COMMAND_OF[mode] for mode in DRAWN]
        return page("gallery.html", modes=modes, most_tag=marks.LONGEST, me=session(request))

    @routes.get("/api/gallery", response_model=Page)
    async def pictures(
        request: Request,
        looked: Annotated[Looked, Depends()],
        limit: Annotated[int, Query(ge=1, le=MOST, description="Jobs, not pictures.")] = PAGE,
        before: Annotated[
            int | None, Query(ge=1, le=2**31 - 1, description="`next` of the page before.")
        ] = None,
    ) -> dict[str, Any]:
        """One's own finished pictures that fit everything that is asked for, newest first."""

        def work() -> dict[str, Any]:
            asked = ask(asker(request))
            found, after = gallery.page(house, asked, looked.filters(asked), limit, before)
            return {"pictures": [_shown(one) for one in found], "next": after}

        return await asyncio.to_thread(work)

    @routes.get("/api/gallery/count", response_model=Count)
    async def count(request: Request) -> dict[str, Any]:
        """How many pictures one has, the bytes they take, and what they are kept under."""

        def work() -> dict[str, Any]:
            found = gallery.count(house, asker(request))
            return {
                "pictures": found.pictures, "bytes": found.bytes, "favourites": found.favourites,
                "tags": [{"name": name, "pictures": n} for name, n in found.tags],
                "models": [{"name": name, "pictures": n} for name, n in found.models],
            }  # fmt: skip

        return await asyncio.to_thread(work)

    @routes.get("/api/gallery/zip", response_class=StreamingResponse, responses={200: PACKED})
    async def packed(
        request: Request,
        looked: Annotated[Looked, Depends()],
        ids: Annotated[
            str, Query(max_length=NAMED * 12, description="Pictures by number: 12.1,13.2.")
        ] = "",
    ) -> Response:
        """The pictures that fit, or those that are named, as a ZIP, each with its recipe."""

        def work() -> Iterator[Picture]:
            asked = ask(asker(request))
            if not ids:
                return gallery.every(house, asked, looked.filters(asked))
            return iter(named(ids, asked.asker))

        found = await asyncio.to_thread(work)
        name = f"drawqueue-{now().date()}.zip"
        return StreamingResponse(
            gallery.packed(house, found), media_type="application/zip",
            headers={**_as_file(name), "Cache-Control": "no-store"},
        )  # fmt: skip

    def named(ids: str, who: Asker) -> list[Picture]:
        """Raises UserError, and NotFound for what is not the asker's own."""
        numbers = list(dict.fromkeys(word for word in ids.split(",") if word.strip()))
        if len(numbers) > NAMED:
            raise InvalidOptions([tr("Name at most {most} pictures at once.", most=NAMED)])
        found = []
        for word in numbers:
            number, place = picture_number(word)
            found.append(gallery.picture(house, who, number, (place or 1) - 1))
        return found

    @routes.get("/api/gallery/{id}/{index}", response_model=Told)
    async def told(request: Request, id: JobId, index: Index) -> dict[str, Any]:
        """All that is known of one finished picture of one's own."""

        def work() -> dict[str, Any]:
            _, one = mine(request, id, index)
            row, result = one.one, one.result
            recipe = row.request.alone(int(result.get("seed", 0)))
            parameters = {name: value for name, value in recipe.told.items() if name != "prompt"}
            return {
                **_shown(one), "seed": result.get("seed"), "bytes": result.get("bytes"),
                "details": details_of(row), "parameters": parameters, "parent": row.parent,
                "of": len(row.results), "line": _line(one),
                "remix": f"/{COMMAND_OF[Mode.REMIX]} {escaped(row.request.prompt)} "
                f"--from {one.number}",
                "link": link_of(sharing.link(house, id, index), request),
            }  # fmt: skip

        return await asyncio.to_thread(work)

    @routes.get("/api/gallery/{id}/{index}/recipe", response_class=JSONResponse)
    async def recipe(request: Request, id: JobId, index: Index) -> Response:
        """All that is needed to draw a picture again, as a file."""

        def work() -> Response:
            _, one = mine(request, id, index)
            return JSONResponse(one.recipe, headers=_as_file(f"{one.number}.json"))

        return await asyncio.to_thread(work)

    @routes.get("/media/{id}/{index}/small", response_class=Response, responses={200: SMALL})
    async def small(request: Request, id: JobId, index: Index) -> Response:
        """A small copy of a finished picture, without its recipe."""

        def work() -> tuple[str, bytes | None]:
            found = house.generations.visible(id, asker(request))
            key = str(found.picture(index)["key"])
            withheld(found)
            return key, thumbnails.kept(house.media, key)

        key, data = await asyncio.to_thread(work)
        if data is None:
            async with decoding:
                try:
                    data = await asyncio.to_thread(thumbnails.of, house.media, key)
                except FileNotFoundError:
                    raise NotFound(tr("The picture of #{id} is no longer kept.", id=id)) from None
        return Response(data, media_type="image/webp", headers=FOR_LONG)

    # What is kept of one

    @routes.post("/api/jobs/{id}/{index}/favourite", response_model=Kept)
    async def keep(request: Request, id: JobId, index: Index) -> dict[str, Any]:
        """Keep a picture among one's favourites."""
        return await marked(request, id, index, put=[marks.FAVOURITE])

    @routes.delete("/api/jobs/{id}/{index}/favourite", response_model=Kept)
    async def keep_no_longer(request: Request, id: JobId, index: Index) -> dict[str, Any]:
        """Keep a picture among one's favourites no longer."""
        return await marked(request, id, index, take=[marks.FAVOURITE])

    @routes.post("/api/jobs/{id}/{index}/tags", response_model=Kept)
    async def tag(
        request: Request, id: JobId, index: Index, given: Annotated[Tags, Body()]
    ) -> dict[str, Any]:
        """Put tags on a picture."""
        return await marked(request, id, index, put=given.tags, tags=True)

    @routes.delete("/api/jobs/{id}/{index}/tags", response_model=Kept)
    async def untag(
        request: Request, id: JobId, index: Index,
        tag: Annotated[str, looked("The tag to take away.")],
    ) -> dict[str, Any]:  # fmt: skip
        """Take a tag from a picture."""
        return await marked(request, id, index, take=[tag], tags=True)

    async def marked(
        request: Request, id: int, index: int, *, put: list[str] | None = None,
        take: list[str] | None = None, tags: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        def work() -> dict[str, Any]:
            _, one = mine(request, id, index)
            for names, act in ((put, marks.put), (take, marks.take)):
                if names:
                    act(house, one.one, index, marks.tags_of(names) if tags else names)
            after = gallery.known(house, [one.one])[index]
            return {"favourite": after.favourite, "tags": list(after.tags)}

        return await asyncio.to_thread(work)

    @routes.post("/api/jobs/{id}/delete", response_model=Words, responses={
        409: refused("It is not over, or a key asks."),
    })  # fmt: skip
    async def delete(request: Request, id: JobId) -> dict[str, str]:
        """Delete a job of one's own that is over: its pictures, its prompt, what its card shows."""

        def work() -> dict[str, str]:
            who = asker(request)
            house.generations.own(id, who)
            return {"text": commands.run(house, "delete", ask(who, {"id": str(id)})).text}

        return await asyncio.to_thread(work)

    # Links

    @routes.post("/api/jobs/{id}/{index}/share", response_model=Shared, responses={
        409: refused("It is marked as not for everybody, or a key asks."),
    })  # fmt: skip
    async def share(
        request: Request, id: JobId, index: Index, wish: Annotated[Wish, Body()]
    ) -> dict[str, Any] | None:
        """Make a link that shows a picture to whoever has it, or change until when and what."""

        def work() -> dict[str, Any] | None:
            who, _ = mine(request, id, index)
            if who.program:
                raise NotAllowed(
                    tr("A key may not do that for you: share it on the page yourself.")
                )
            found = sharing.share(house, who, id, index, prompt=wish.prompt, days=wish.days)
            return link_of(found, request)

        return await asyncio.to_thread(work)

    @routes.delete("/api/jobs/{id}/{index}/share", response_model=Words)
    async def unshare(request: Request, id: JobId, index: Index) -> dict[str, str]:
        """Take a picture's link back, at once and for good."""

        def work() -> dict[str, str]:
            who, _ = mine(request, id, index)
            sharing.unshare(house, who, id, index)
            return {"text": tr("Nobody sees that picture by its link any more.")}

        return await asyncio.to_thread(work)

    def seen_as(token: str, done: str = "", fault: UserError | None = None) -> Response:
        try:
            one, index, link = sharing.opened(house, token)
        except UserError as error:
            made = page("shared.html", status_of(error), sorry=str(error))
        else:
            prompt = one.request.prompt if link.prompt else ""
            picture = one.picture(index)
            made = page(
                "shared.html", status_of(fault) if fault else 200, sorry="", prompt=prompt,
                path=link.path, alt=alt_text(prompt) if prompt else tr(UNTOLD), done=done,
                fault=str(fault or ""), width=picture.get("width"), height=picture.get("height"),
            )  # fmt: skip
        made.headers.update(NOWHERE)
        return made

    @routes.get(SHARED + "{token}", include_in_schema=False)
    async def seen(token: str) -> Response:
        """The page of one shared picture, for anybody."""
        return await asyncio.to_thread(seen_as, token)

    @routes.post(SHARED + "{token}/report", include_in_schema=False)
    async def reported(request: Request, token: str) -> Response:
        """Tell the moderators of a shared picture, whoever one is."""
        given = parse_qs((await request.body()).decode(errors="replace"), max_num_fields=5)
        host = request.client.host if request.client else ""

        def work() -> Response:
            who = asker(request)
            if not (session(request) or request.state.inside):
                who = sharing.visitor(house, network(host))
            try:
                one, _, _ = sharing.opened(house, token)
                words = {"reason": given.get("reason", [""])[0]}
                told = commands.run(house, "report", replace(ask(who, words), seen=one.id))
            except UserError as error:
                return seen_as(token, fault=error)
            return seen_as(token, told.text)

        return await asyncio.to_thread(work)

    @routes.get(SHARED + "{token}/picture", include_in_schema=False)
    async def seen_picture(token: str) -> Response:
        """The picture itself; without its recipe where its prompt is not shown."""

        def work() -> tuple[bytes, bool]:
            one, index, link = sharing.opened(house, token)
            try:
                return house.media.load(str(one.picture(index)["key"])), link.prompt
            except FileNotFoundError:
                raise NotFound(tr("This picture is no longer kept.")) from None

        data, whole = await asyncio.to_thread(work)
        if not whole:
            async with decoding:
                data = await asyncio.to_thread(bare, data)
        return Response(data, media_type="image/png", headers=NOWHERE)

    return routes


def _shown(one: Picture) -> dict[str, Any]:
    row, result = one.one, one.result
    return {
        "number": one.number, "id": row.id, "index": one.place,
        "url": f"/media/{row.id}/{one.place}", "small": f"/media/{row.id}/{one.place}/small",
        "alt": alt_text(row.request.prompt), "prompt": row.request.prompt,
        "width": result.get("width"), "height": result.get("height"), "created": row.created,
        "favourite": one.favourite, "tags": list(one.tags), "show": one.show,
    }  # fmt: skip


def _line(one: Picture) -> str:
    """What is typed to draw a picture again; what began with others is drawn again as it was."""
    row = one.one
    if row.request.mode != Mode.TEXT:
        return f"/retry {row.id}"
    alone = row.request.alone(int(one.result.get("seed", 0)))
    return f"/{COMMAND_OF[Mode.TEXT]} {editing.line(replace(row, request=alone))}"


def _as_file(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{quote(name)}"'}
