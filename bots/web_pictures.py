"""Pictures of the web chat: what people bring, known by ids of their own, and what was drawn."""

import asyncio
import contextlib
import json
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath
from redis.exceptions import RedisError
from starlette.requests import ClientDisconnect

from bots.pictures import tree
from bots.web_cards import Upload
from bots.web_door import UPLOADS, TooLarge, asker, refused
from core import drawing, registry
from core.cards import show_of, why_not
from core.commands import Command
from core.errors import InvalidOptions, NotAllowed, NotFound, TooMuch, TryAgain, UserError, duration
from core.house import House
from core.keeping import UPLOAD_AFTER
from core.languages import mark, tr, trn
from core.lifecycle import State
from core.lineage import family
from core.media import Source
from core.options import COMMAND_OF, Mode
from core.people import Asker
from core.policy import ALONE, Show, policy
from core.rows import Generation
from core.settings import Uploads, read
from core.uploads import too_large

# The row's own bound (a signed 64-bit integer would pass, a chat's id never reaches it).
JobId = Annotated[int, InPath(ge=1, le=2**31 - 1)]
Index = Annotated[int, InPath(ge=0, le=99)]
# What is answered beside JSON, for the description of the interface.
PICTURE: dict[str, Any] = {"content": {"image/png": {}}}
PREVIEW: dict[str, Any] = {"content": {"image/jpeg": {}}}
BODY_OF_UPLOAD = {
    "requestBody": {
        "required": True,
        "description": "The picture itself: PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF.",
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
# So many pictures one may send, whether or not anything is drawn from them.
MOST_AN_HOUR, HOUR_SECONDS = 200, 3600
UPLOAD = re.compile(r"up_[\w-]{20}", re.ASCII)
# An id goes before its file does.
KEPT = UPLOAD_AFTER - timedelta(hours=1)
# Of what is too large so many times the limit is read and dropped: who still sends hears no answer.
DRAINED = 8
# Decoding takes hundreds of megabytes for the largest.
DECODED_AT_ONCE = 2
PLAIN = mark(
    "Send the picture itself as the body: curl --data-binary @cat.jpg -H 'Content-Type: image/jpeg'"
)


class Brought:
    """The pictures that people brought, each known for a day, to who brought it alone, by an id.

    Redis keeps what an id means: it is forgotten by itself, and nobody can read a key in it.
    """

    def __init__(self, house: House) -> None:
        self.house = house
        self._decoding = asyncio.Semaphore(DECODED_AT_ONCE)

    async def take(self, request: Request, who: Asker, most: int = 0) -> dict[str, Any]:
        """Take in the picture that a request's body is. Raises UserError."""
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise UserError(tr(PLAIN))
        data = await _whole(request, most or read(Uploads).max_mb * 10**6)
        async with self._decoding:
            return await asyncio.to_thread(self.keep, data, who)

    def keep(self, data: bytes, who: Asker) -> dict[str, Any]:
        """Check and store a picture, and say what it is called from now on.

        Raises TooMuch, and NotAllowed for who may not ask for anything.
        """
        self.house.generations.admission.check([], who)
        with _away():
            counted = f"drawqueue:uploads:{who.account}"
            with self.house.queue.redis.pipeline() as pipe:
                pipe.incr(counted)
                pipe.expire(counted, HOUR_SECONDS, nx=True)
                pipe.ttl(counted)
                number, _, wait = pipe.execute()
        if number > MOST_AN_HOUR:
            told = trn(
                "You have sent {n} picture within an hour. Please come back in {time}.",
                "You have sent {n} pictures within an hour. Please come back in {time}.",
                MOST_AN_HOUR, time=duration(wait),
            )  # fmt: skip
            raise TooMuch(told, wait)
        try:
            source = self.house.uploads.keep(data)
        except TryAgain:
            raise
        except UserError as error:
            raise InvalidOptions([str(error)]) from error
        id_ = f"up_{secrets.token_urlsafe(15)}"
        with _away():
            self.house.queue.redis.set(
                _name(who, id_), json.dumps(asdict(source)), ex=round(KEPT.total_seconds())
            )
        return {"id": id_, "width": source.width, "height": source.height}

    def get(self, id_: str, who: Asker) -> Source:
        """What one brought. Raises NotFound, also for what another brought."""
        found: Any = None
        if UPLOAD.fullmatch(id_):
            with _away():
                found = self.house.queue.redis.get(_name(who, id_))
        source = Source(**json.loads(found)) if found else None
        if source is None or not self.house.media.has(source.key):
            raise NotFound(
                tr("There is no picture “{id}” of yours. What is sent is kept for a day: "
                   "send it again, or name one that was drawn, such as 12 or 12.2.", id=id_[:40])
            )  # fmt: skip
        return source

    def along(
        self, who: Asker, command: Command, given: dict[str, Any], images: Sequence[str],
        mask: str = "",
    ) -> tuple[dict[str, Any], tuple[Source, ...]]:  # fmt: skip
        """What was given, with the pictures that it begins with: by number or address among it,
        and those that were brought.

        Raises UserError.
        """
        words = [word.strip() for word in images]
        named = [word for word in words if _drawn(word) or drawing.ADDRESS.fullmatch(word)]
        brought = [self.get(word, who) for word in words if word not in named]
        if command.draws:
            if mask and command.mode != Mode.INPAINT:
                raise InvalidOptions([_masked()])
            if mask and not words and not given.get("source"):
                raise InvalidOptions([tr(drawing.NO_PICTURE)])
            if named:
                # In the order they were given; a comma would end an address.
                places = iter(range(1, len(brought) + 1))
                told = [word if word in named else f"sent:{next(places)}" for word in words]
                told = [str(given.get("source") or ""), *told]
                given = {**given, "source": " ".join(told).replace(",", "%2C").strip()}
            return given, (*brought, *([self.get(mask, who)] if mask else []))
        if mask:
            raise InvalidOptions([_masked()])
        if not words:
            return given, ()
        if not any(option.name == "id" for option in command.takes):
            raise InvalidOptions([tr("/{command} takes no picture.", command=command.name)])
        if len(words) > 1 or given.get("id"):
            raise InvalidOptions([tr("/{command} takes one picture.", command=command.name)])
        if _drawn(words[0]):
            return {**given, "id": words[0]}, ()
        if not command.pictures:
            raise InvalidOptions([
                tr("/{command} takes the number of a picture that I drew.", command=command.name)
            ])  # fmt: skip
        return given, tuple(brought or [self.house.uploads.fetch(words[0])])


def _masked() -> str:
    return tr("A mask is for {command}.", command=COMMAND_OF[Mode.INPAINT])


def _drawn(word: str) -> bool:
    return bool(re.match(r"#?\d", word, re.ASCII))


def _name(who: Asker, id_: str) -> str:
    return f"drawqueue:upload:{who.account}:{id_}"


@contextlib.contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise TryAgain(tr("I could not take that in just now. Please try again.")) from error


async def _whole(request: Request, most: int) -> bytes:
    """A body of at most so many bytes. Raises TooLarge."""
    data, size = bytearray(), 0
    try:
        async for part in request.stream():
            size += len(part)
            if size <= most:
                data += part
            elif size > most * DRAINED:
                break
    except ClientDisconnect:
        raise UserError(tr("The picture did not arrive whole.")) from None
    if size > most:
        raise TooLarge(too_large(size))
    return bytes(data)


def sample_url(name: str) -> str:
    """Where the picture of what a model draws is."""
    return f"/samples/{quote(name, safe='')}"


def tree_of(number: int) -> dict[str, str]:
    """The picture of a family: what it is called, and where it is."""
    return {"name": tr("The family of #{number}", number=number), "url": f"/media/{number}/tree"}


def _begins(number: int, pictures: int) -> str:
    if not pictures:
        return tr("#{number} begins with no pictures.", number=number)
    return trn("#{number} begins with {n} picture.", "#{number} begins with {n} pictures.",
               pictures, number=number)  # fmt: skip


def withheld(generation: Generation) -> None:
    """Raises NotAllowed where the web chat shows none of its pictures."""
    if show_of(generation, ALONE) == Show.WITHHOLD:
        raise NotAllowed(f"#{generation.id}: {why_not(generation, ALONE)}")


def pictures(house: House, brought: Brought) -> APIRouter:
    """The routes that pictures come in and go out by."""
    routes = APIRouter()

    @routes.post(UPLOADS, status_code=201, response_model=Upload, openapi_extra=BODY_OF_UPLOAD,
                 responses={
        413: refused("More bytes than the host allows."),
        422: refused("No picture, or one with too many pixels."),
    })  # fmt: skip
    async def upload(request: Request) -> dict[str, Any]:
        """Bring a picture to begin with, or a mask; its id is yours alone, for a day.

        `curl --data-binary @cat.jpg -H 'Content-Type: image/jpeg'`
        """
        return await brought.take(request, asker(request))

    def stored(number: int, key: str) -> Response:
        try:
            data = house.media.load(key)
        except FileNotFoundError:
            raise NotFound(
                tr("The picture of #{number} is no longer kept.", number=number)
            ) from None
        return Response(
            data, media_type="image/png", headers={"Cache-Control": "private, max-age=31536000"}
        )

    @routes.get("/media/{id}/preview", response_class=Response, responses={200: PREVIEW})
    async def preview(request: Request, id: JobId, of: str = "") -> Response:
        """What is drawn by now, the newest whatever `of` says; gone when the drawing is over."""

        def work() -> Response:
            found = house.generations.visible(id, asker(request))
            shown = None
            with contextlib.suppress(RedisError):
                if found.state == State.GENERATING:
                    shown = house.queue.picture(id, found.attempt)
            if shown is None:
                raise NotFound(tr("There is no preview of #{number} now.", number=id))
            return Response(
                shown[1], media_type="image/jpeg", headers={"Cache-Control": "no-store"}
            )

        return await asyncio.to_thread(work)

    @routes.get("/media/{id}/tree", response_class=Response, responses={200: PICTURE})
    async def family_tree(request: Request, id: JobId) -> Response:
        """The family of a job as a picture; what is not one's own is an empty box."""

        def work() -> Response:
            who = asker(request)
            found = family(house, house.generations.visible(id, who), who, ALONE)
            return Response(
                tree(house, found), media_type="image/png", headers={"Cache-Control": "no-store"}
            )

        return await asyncio.to_thread(work)

    @routes.get("/media/{id}/{index}", response_class=Response, responses={200: PICTURE})
    async def media(request: Request, id: JobId, index: Index) -> Response:
        """A finished picture, with its recipe inside."""

        def work() -> Response:
            found = house.generations.visible(id, asker(request))
            if index >= len(found.results):
                raise NotFound(tr("#{number} has no picture {place}.", number=id, place=index + 1))
            withheld(found)
            return stored(id, str(found.results[index]["key"]))

        return await asyncio.to_thread(work)

    @routes.get("/samples/{name}", response_class=Response, responses={200: PICTURE})
    async def sample(name: str) -> Response:
        """A small picture of what a model draws, which a moderator chose for everybody."""

        def work() -> Response:
            try:
                data = house.media.load(dict(registry.samples())[name])
            except (KeyError, FileNotFoundError):
                raise NotFound(tr("There is no picture of {name}.", name=name[:60])) from None
            # Another may be chosen.
            return Response(data, media_type="image/png", headers={"Cache-Control": "no-cache"})

        return await asyncio.to_thread(work)

    @routes.get("/media/{id}/source/{index}", response_class=Response, responses={200: PICTURE})
    async def source(request: Request, id: JobId, index: Index) -> Response:
        """A picture that a job begins with, or its mask."""

        def work() -> Response:
            held = house.generations.visible(id, asker(request)).request.held
            if index >= len(held):
                raise NotFound(_begins(id, len(held)))
            closed = policy().marked.to(ALONE) == Show.WITHHOLD
            if closed and house.generations.marked([held[index]]):
                raise NotAllowed(tr("What #{number} begins with is not shown here.", number=id))
            return stored(id, held[index])

        return await asyncio.to_thread(work)

    return routes
