"""The JSON interface: jobs asked for, watched and pressed, for the page and for programs."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, replace
from functools import cache
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from redis.exceptions import RedisError
from sse_starlette import EventSourceResponse, ServerSentEvent

from bots.web_cards import Answer, Completed, Job, Made, Model, Queue, Stats, Words
from bots.web_door import ask, asker, refused, stays
from bots.web_pictures import Brought, JobId, sample_url, tree_of
from core import (
    catalog,
    commands,
    costs,
    events,
    history,
    options,
    parts,
    phrases,
    registry,
    writing,
)  # fmt: skip
from core.asking import Reply
from core.cards import ACTIONS, ASIDE, DECISIONS, PAINT, as_json
from core.commands import COMMANDS, PICTURE
from core.errors import InvalidOptions, NotAllowed, NotFound
from core.house import House
from core.languages import mark, spoken, tr
from core.lifecycle import FINAL, PENDING, State
from core.lines import titled
from core.people import Asker
from core.policy import ALONE, policy
from core.queue import DRAW, OURS
from core.queue import WRITE as LINE_OF_WORDS
from core.rows import Generation
from core.settings import Uploads, read
from core.supervisor import NONCE
from core.writers import captioners, writers

EVENTS: dict[str, Any] = {"content": {"text/event-stream": {}}}
FILE: dict[str, Any] = {"content": {"text/plain": {}}}
PROGRESS_SECONDS = 0.4
# What a page is shown: so many that are over, the newest, and of those that are not the next.
SHOWN, LIVE = 50, 300
# How long an answer is known that may have been lost on its way.
SAID_SECONDS = 3600
EVENT = r"^[ -~]*$"
# How many completions a page shows.
COMPLETED = 6
AMONG = mark("Give the prompt beside the parameters, not among them.")
Once = Annotated[str, Header(
    alias="Idempotency-Key", max_length=64, pattern=EVENT,
    description="Of your choice; sent twice with the same one, it is done once.",
)]  # fmt: skip
# Further back a database would count long.
MOST_PAGES = 1000
# Characters of what is looked for.
LOOKED = 200
# Cancelling is DELETE, editing PATCH, painting a page, asking why changes nothing, and what was
# reported is decided where it is shown.
PRESSED = tuple(
    one for one in ACTIONS
    if one not in (*ASIDE, *DECISIONS, PAINT, "cancel", "edit", "why")
)  # fmt: skip


class Health(BaseModel):
    """What answers."""

    database: bool
    redis: bool


class Given(BaseModel):
    """A JSON body, in which half a character (a lone surrogate, which no encoding takes) is “?”."""

    @model_validator(mode="before")
    @classmethod
    def _encodable(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return json.loads(json.dumps(given, ensure_ascii=False).encode(errors="replace"))


# What makes pictures or words: from a prompt, or from one picture.
WRITE = options.COMMAND_OF[options.Mode.WRITE]
PROMPTED = {
    one.name: one for one in COMMANDS
    if one.public and any(option.name == "prompt" for option in one.takes)
}  # fmt: skip
KINDS = PROMPTED | {one.name: one for one in COMMANDS if one.public and PICTURE in one.takes}
_OWN = {
    one.name: [option.name for option in one.takes if option.name not in (PICTURE.name, "prompt")]
    for one in KINDS.values() if not one.draws
}  # fmt: skip


def _kind(given: str) -> str:
    if given not in KINDS:
        raise ValueError(f"must be one of {', '.join(KINDS)}")
    return given


JobNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]
# An upload's id, the number of a finished picture, or where one is.
Image = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^\S+$")]
Images = Annotated[list[Image], Field(
    max_length=5, examples=[["12.2"]],
    description="What it begins with: ids of uploads, numbers of finished pictures such as 12 or "
    "12.2, or https addresses.",
)]  # fmt: skip


class Wanted(Given):
    """What `POST /api/jobs` takes."""

    model_config = ConfigDict(extra="forbid")
    type: Annotated[str, AfterValidator(_kind)] = Field(
        options.COMMAND_OF[options.Mode.TEXT], json_schema_extra={"enum": list(KINDS)},
        description=" ".join(f"{one.name}: {one.summary}" for one in KINDS.values()),
    )  # fmt: skip
    prompt: str = Field(
        "", description="What to draw; {red, green} bird is two pictures. Where it begins with a "
        "picture that was drawn here, that one's prompt counts when this is empty.",
    )  # fmt: skip
    images: Images = []
    mask: str = Field(
        "", max_length=64, description="An upload's id: white is painted anew, black stays."
    )
    priority: str = Field(
        "", max_length=20, json_schema_extra={"enum": ["", *options.PRIORITIES]},
        description="Among one's own; the same as among the parameters.",
    )  # fmt: skip
    enhance: bool | None = Field(
        None, description="Let a text engine write the prompt out first, or not; refused where "
        "none is. Left out: as one's settings have it.",
    )  # fmt: skip
    confirm: bool = Field(False, description="Queue them though they are many.")
    continue_: JobNumber | None = Field(
        None, alias="continue", description=f"For {WRITE}: the job that it goes on with; without a "
        "prompt what was written there goes on.",
    )  # fmt: skip
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Options by name: " + ", ".join(
            option.name for option in options.OPTIONS if not option.required
        ) + "; " + "; ".join(f"for {name}: {', '.join(own)}" for name, own in _OWN.items()),
    )  # fmt: skip


class Line(Given):
    """What a person typed in the chat."""

    text: str = Field(max_length=20_000)
    event: str = Field(
        default="", max_length=64, pattern=EVENT, description="Sent twice, handled once."
    )
    images: Images = []
    answers: JobNumber | None = Field(
        None, description="The job that is answered: what was written there goes on."
    )


class Chosen(Given):
    """What a person chose."""

    id: str = Field(max_length=100)


class Changed(Given):
    """What `PATCH /api/jobs/{id}` takes."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(
        max_length=20_000, examples=["a blue crown --steps 30"],
        description="The new prompt, and the flags that go with it; what is not among them is as "
        "the model does it best, but for the seed, which stays.",
    )  # fmt: skip
    enhance: bool = Field(
        False, description="Let a text engine write a better prompt besides; answers the job that "
        "shows it, whose `use` draws it.",
    )  # fmt: skip


class Presence:
    """Wakes every open page when something changed, from one reader of the stream."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.changed = asyncio.Event()

    async def listen(self) -> None:
        after = ""
        while True:
            try:
                if not after:
                    after = await asyncio.to_thread(events.latest, self.house.queue.redis)
                after, ids = await asyncio.to_thread(
                    events.wait, self.house.queue.redis, after, 2.0
                )
            except RedisError:
                await asyncio.sleep(1)
                continue
            if ids:
                self.changed.set()
                self.changed = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.changed.wait(), seconds)


@cache
def _kept() -> list[str]:
    """The commands that a page may keep over a reload, by all names: those that tell no secret."""
    public = [one for one in COMMANDS if not one.private]
    return [
        name for one in public for name in (one.name, *one.aliases, *commands.names(one).values())
    ]  # fmt: skip


def _count(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "total": row["total"], "states": {state: row[str(state)] for state in State},
        "average_seconds": row["average"], "seconds": row["seconds"],
        "elsewhere": row["elsewhere"],
        "cost": row["cost"] if policy().prices else None,
    }  # fmt: skip


def defaults(model: catalog.Model) -> dict[str, Any]:
    """What a model does where nothing is said, without what means nothing to it."""
    told = {
        "size": model.size, "largest": model.largest, "steps": model.steps,
        "guidance": model.guidance, "sampler": model.sampler,
    }  # fmt: skip
    lacks = {"size", "largest"} if all(mode.words for mode in model.modes) else set()
    return {
        what: None if what in lacks or what in model.family.lacks else value
        for what, value in told.items()
    }


def looked(description: str) -> Any:
    """Something that is looked for, as a query says it."""
    return Query(max_length=LOOKED, description=description)


# What a query calls filters that are typed by another name.
CALLED = {"mode": "type", "state": "status"}
# What is looked for among one's own, in every list of them.
OfPrompt = Annotated[str, looked("Words of the prompt, such as lighthouse storm, or light*.")]
OfMode = Annotated[str, looked(f"How it was made: {', '.join(history.MODES)}.")]
OfModel = Annotated[str, looked("What drew it.")]
Since = Annotated[str, looked("A date such as 2026-11-01, or how long ago: 7d.")]
Until = Annotated[str, looked("A date, its day included, or how long ago.")]


def interface(house: House, presence: Presence, brought: Brought) -> APIRouter:
    """Every route below /api, and what the page is told."""
    api = APIRouter()

    def shown(generation: Generation) -> dict[str, Any]:
        standing = (
            house.generations.standing(generation) if generation.state == State.QUEUED else None
        )
        marked = house.generations.marked(generation.request.held)
        # In the language of who looks, wherever it was asked for.
        card = house.card(generation, ALONE, spoken())
        return as_json(card, generation, standing, marked)

    def answer(reply: Reply) -> dict[str, Any]:
        return {
            "text": "" if reply.fresh else reply.said,
            "buttons": [{"id": one.id, "label": one.label} for one in reply.buttons],
            "job": reply.generation and shown(reply.generation),
            "fresh": reply.fresh,
            "also": list(reply.others),
            "samples": [
                *({"name": name, "url": sample_url(name)} for name, _ in reply.samples),
                *(
                    {"name": f"#{one.id}", "url": f"/media/{one.id}/0/small"}
                    for one in reply.thumbnails
                ),
                *([tree_of(reply.family.asked)] if reply.family else []),
            ],
            "choices": [asdict(one) for one in reply.choices],
        }

    def once(event: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do what an event asks for; when it comes again, answer what was answered to it."""
        kept = f"drawqueue:said:{event}"
        with contextlib.suppress(RedisError):
            found: Any = house.queue.redis.get(kept)
            if found:
                told = json.loads(found)
                return {**told, "job": told["job"] and shown(house.generations.get(told["job"]))}
        told = work()
        with contextlib.suppress(RedisError):
            words = json.dumps({**told, "job": told["job"] and told["job"]["id"]})
            house.queue.redis.set(kept, words, ex=SAID_SECONDS)
        return told

    def pressed_by(who: Asker, action: str, id: int, event: str = "") -> dict[str, Any]:
        house.generations.visible(id, who)
        reply = commands.press(house, action, id, ask(who, event=event))
        if reply.generation is None:
            raise NotAllowed(reply.text)
        return shown(reply.generation)

    async def in_thread(work: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(work)

    @api.post("/api/jobs", status_code=202, response_model=Made, responses={
        409: refused("So many need `confirm`."),
        422: refused("Options that are wrong, every fault at once."),
        429: refused("A limit is reached; Retry-After says for how many seconds."),
    })  # fmt: skip
    async def submit(
        request: Request, job: Annotated[Wanted, Body()], event: Once = ""
    ) -> dict[str, Any]:
        """Queue a picture, or several (`also` names the others), or words; answers at once.

        More than the host's threshold need `confirm`; without it the answer is 409.
        """
        command, faults = KINDS[job.type], list[str]()
        if command.draws:
            given = {**job.parameters, "prompt": job.prompt}
            if "prompt" in job.parameters:
                faults.append(tr(AMONG))
            if job.priority:
                given["priority"] = job.priority
            if job.enhance is not None:
                given["enhance"] = job.enhance
        else:
            given, known = job.parameters, _OWN[job.type]
            odd = [name[:40] for name in given if name not in known]
            if job.type in PROMPTED:
                given = {**given, "prompt": job.prompt}
            elif job.prompt.strip():
                faults.append(tr("{command} takes no prompt.", command=job.type))
            if job.priority:
                faults.append(tr("{command} takes no priority.", command=job.type))
            if job.enhance:
                faults.append(tr("{command} takes no enhance.", command=job.type))
            faults += [
                tr("There is no option “{name}” for {command}. Known: {known}.", name=name,
                   command=job.type, known=", ".join(known))
                for name in odd
            ]  # fmt: skip
            if faults:
                raise InvalidOptions(faults)
        before = job.continue_
        if before and job.type != WRITE:
            raise InvalidOptions([tr("{command} takes no continue.", command=job.type)])

        def work() -> dict[str, Any]:
            who = asker(request)
            if before:
                writing.going_on(house.generations.visible(before, who))
                if given == {"prompt": ""} and not job.images:
                    return {**pressed_by(who, "more", before, event), "also": []}
            full, sources = brought.along(who, command, given, job.images, job.mask)
            asked = ask(who, full, event, tuple(faults), agreed=job.confirm, pictures=sources)
            asked = replace(asked, seen=before)
            reply = commands.run(house, job.type, asked)
            if reply.generation is None:
                then = tr("Then send the same with confirm: true.")
                raise NotAllowed(f"{reply.text} {then}")
            return {**shown(reply.generation), "also": list(reply.others)}

        return dict(await in_thread(work))

    @api.get("/api/jobs", response_model=list[Job])
    async def jobs(
        request: Request,
        status: State | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = SHOWN,
        before: Annotated[
            int | None, Query(ge=1, le=2**31 - 1, description="The last id of the page before.")
        ] = None,
        page: Annotated[int, Query(
            ge=1, le=MOST_PAGES, description="So many times `limit` further back; `before` is "
            "quicker, and loses its place by nothing that is new.",
        )] = 1,
        words: OfPrompt = "", type: OfMode = "", model: OfModel = "", since: Since = "",
        until: Until = "",
    ) -> list[dict[str, Any]]:  # fmt: skip
        """One's own jobs, newest first, of those that fit everything that is asked for."""
        given = {
            "words": words, "mode": type, "model": model, "since": since, "until": until,
            "state": status,
        }  # fmt: skip

        def work() -> list[dict[str, Any]]:
            asked = ask(asker(request))
            filters, _ = history.filtered(given, asked, called=CALLED)
            found = history.find(
                house, asked, filters, limit, before=before, skip=(page - 1) * limit
            )
            return [shown(generation) for generation in found]

        return list(await in_thread(work))

    @api.get("/api/jobs/{id}", response_model=Job)
    async def job(request: Request, id: JobId) -> dict[str, Any]:
        """One job: status, progress, place and results."""
        return dict(await in_thread(lambda: shown(house.generations.visible(id, asker(request)))))

    @api.get("/api/jobs/{id}/stream", response_class=EventSourceResponse, responses={200: EVENTS})
    async def stream(request: Request, id: JobId) -> EventSourceResponse:
        """Server-sent events (`update`) until the job is over."""
        first = await in_thread(lambda: shown(house.generations.visible(id, asker(request))))

        async def tell() -> AsyncIterator[ServerSentEvent]:
            now = first
            said = ""
            while True:
                text = json.dumps(now)
                if text != said:
                    said = text
                    yield ServerSentEvent(text, event="update", id=str(now["version"]))
                if now["status"] not in PENDING:
                    return
                await presence.wait(PROGRESS_SECONDS)
                if not await stays(request):
                    return
                now = await in_thread(lambda: shown(house.generations.get(id)))

        return EventSourceResponse(tell())

    @api.delete("/api/jobs/{id}", response_model=Job)
    async def cancel(request: Request, id: JobId) -> dict[str, Any]:
        """Cancel a job that is not over."""
        return await press(request, id, "cancel")

    @api.get("/api/jobs/{id}/why", response_model=Words)
    async def why(request: Request, id: JobId) -> dict[str, str]:
        """Why a queued job waits, in words."""

        def work() -> dict[str, str]:
            house.generations.visible(id, asker(request))
            return {"text": commands.press(house, "why", id, ask(asker(request))).text}

        return dict(await in_thread(work))

    @api.get("/api/jobs/{id}/text", response_class=Response, responses={200: FILE})
    async def text(request: Request, id: JobId) -> PlainTextResponse:
        """What a finished job has written, as a file."""
        one = await in_thread(lambda: house.generations.visible(id, asker(request)))
        if not one.text:
            raise NotFound(tr("#{number} has no words yet.", number=id))
        named = {"Content-Disposition": f'attachment; filename="drawqueue-{id}.txt"'}
        return PlainTextResponse(one.text, headers=named)

    @api.get("/api/jobs/{id}/line", response_model=Words)
    async def line(request: Request, id: JobId) -> dict[str, str]:
        """The prompt and flags of a queued job of one's own, as one would type them."""

        def work() -> dict[str, str]:
            house.generations.visible(id, asker(request))
            return {"text": commands.press(house, "edit", id, ask(asker(request))).text}

        return dict(await in_thread(work))

    @api.patch("/api/jobs/{id}", response_model=Job)
    async def change(
        request: Request, id: JobId, changed: Annotated[Changed, Body()]
    ) -> dict[str, Any]:
        """Draw a queued job of one's own from other words; it keeps its place in line."""

        def work() -> dict[str, Any]:
            who = asker(request)
            house.generations.visible(id, who)
            reply = commands.change(house, id, changed.text, ask(who), enhance=changed.enhance)
            assert reply.generation
            return shown(reply.generation)

        return dict(await in_thread(work))

    @api.post("/api/jobs/{id}/{action}", status_code=202, response_model=Job)
    async def pressed(
        request: Request, id: JobId,
        action: Annotated[str, InPath(json_schema_extra={"enum": list(PRESSED)})], event: Once = "",
    ) -> dict[str, Any]:  # fmt: skip
        """Do what a button of the job's card does; answers the job that comes of it.

        retry draws the same id again when it failed or was cancelled, else a new one.
        """
        if action not in PRESSED:
            raise NotFound(
                tr("There is no “{action}” of a job. Known: {known}.", action=action[:40],
                   known=", ".join(PRESSED))
            )  # fmt: skip
        return await press(request, id, action, event and f"{action}:{id}:{event}")

    async def press(request: Request, id: int, action: str, event: str = "") -> dict[str, Any]:
        who = asker(request)
        return dict(await in_thread(lambda: pressed_by(who, action, id, event)))

    @api.post("/api/proposals/{id}/{answer}", response_model=Words)
    async def proposal(
        request: Request, id: JobId, answer: Literal["agree", "refuse"]
    ) -> dict[str, str]:
        """Say whether the many pictures that were asked about shall be queued."""
        said = await in_thread(lambda: commands.press(house, answer, id, ask(asker(request))))
        return {"text": said.text}

    @api.post("/api/pages/{id}/{way}", response_model=Answer)
    async def page(request: Request, id: JobId, way: Literal["newer", "older"]) -> dict[str, Any]:
        """Turn a list that a line was answered with to the page beside it."""

        def work() -> dict[str, Any]:
            return answer(commands.press(house, way, id, ask(asker(request))))

        return dict(await in_thread(work))

    @api.post("/api/choices", response_model=Answer)
    async def choice(request: Request, chosen: Chosen) -> dict[str, Any]:
        """Choose what a line was answered with; what is answered takes its place."""
        who = asker(request)
        return dict(
            await in_thread(lambda: answer(commands.choose(house, chosen.id, ask(who))))
        )  # fmt: skip

    @api.post("/api/words/{number}", response_model=Answer)
    async def words(
        request: Request, number: Annotated[int, InPath(ge=0, lt=10**18)]
    ) -> dict[str, Any]:
        """Press a button below words that help to write a prompt; what it answers takes their
        place."""

        def work() -> dict[str, Any]:
            return answer(commands.press(house, phrases.WORDS, number, ask(asker(request))))

        return dict(await in_thread(work))

    @api.post("/api/complete", response_model=Completed)
    async def complete(line: Line) -> dict[str, list[str]]:
        """What a line that is being typed may become."""
        return {"texts": commands.completions(line.text, COMPLETED)}

    @api.post("/api/chat", response_model=Answer)
    async def chat(request: Request, line: Line) -> dict[str, Any]:
        """Say a line as one would in any chat: a command, or a prompt."""
        said, given, faults = commands.from_text(line.text)
        who = asker(request)
        bare = ask(who, given, line.event, faults)

        def work() -> dict[str, Any]:
            name, asked = said, replace(bare, seen=line.answers)
            if line.answers and not line.text.lstrip().startswith("/"):
                writing.going_on(house.generations.visible(line.answers, who))
                name, asked = WRITE, replace(asked, given={"prompt": line.text}, faults=())
            if line.images and (command := commands.BY_NAME.get(name)):
                told, sources = brought.along(who, command, dict(asked.given), line.images)
                asked = replace(bare, given=told, pictures=sources)
            return {**answer(commands.run(house, name, asked)), "private": secret}

        # What is for one pair of eyes is kept nowhere.
        secret = said in commands.BY_NAME and commands.BY_NAME[said].private
        kept = line.event and not secret
        return dict(await in_thread(lambda: once(bare.event, work) if kept else work()))

    @api.get("/api/events", response_class=EventSourceResponse, responses={200: EVENTS})
    async def all_events(request: Request) -> EventSourceResponse:
        """One's own jobs as they change (`update`), for the page; first, who one is (`hello`)."""
        who = asker(request)
        said: dict[int, dict[str, Any]] = {}
        over: dict[int, int] = {}
        live: set[int] = set()

        def look() -> list[str]:
            """What the page has not seen, oldest first."""
            found = {one.id: one for one in house.generations.pending(who, LIVE)}
            found |= {one.id: one for one in house.generations.of(who, FINAL, SHOWN, taken=True)}
            for id in live - found.keys():
                with contextlib.suppress(NotFound):
                    found[id] = house.generations.get(id)
            live.clear()
            live.update(one.id for one in found.values() if one.state in PENDING)
            news = []
            for id, one in sorted(found.items()):
                if over.get(id) == one.version:
                    continue
                over.pop(id, None)
                if one.state in FINAL:
                    over[id] = one.version
                job = shown(one)
                # Of the estimate, which moves all the time, the card says what is worth saying.
                seen = {**job, "eta_seconds": None}
                if said.get(id) != seen:
                    said[id] = seen
                    news.append(json.dumps(job))
            return news

        async def tell() -> AsyncIterator[ServerSentEvent]:
            last = await in_thread(lambda: house.generations.of(who, limit=1))
            limits = read(Uploads)
            hello = {
                "user": who.account, "newest": last[0].id if last else 0,
                "bytes": limits.max_mb * 10**6, "pixels": limits.max_megapixels * 10**6,
                "kept": _kept(),
            }  # fmt: skip
            yield ServerSentEvent(json.dumps(hello), event="hello")
            while True:
                for text in await in_thread(look):
                    yield ServerSentEvent(text, event="update")
                await presence.wait(PROGRESS_SECONDS if live else 15)
                if not await stays(request):
                    return

        return EventSourceResponse(tell())

    @api.get("/api/models", response_model=list[Model])
    async def models() -> list[dict[str, Any]]:
        """What can draw, write and describe, and its defaults."""

        def work() -> list[dict[str, Any]]:
            loaded: frozenset[str] = frozenset()
            with contextlib.suppress(RedisError):
                loaded = house.queue.draw.loaded() | house.queue.line(LINE_OF_WORDS).loaded()
            pictures = {name: sample_url(name) for name, _key in registry.samples()}
            return [
                {"name": m.name, "engine": m.engine, **defaults(m),
                 "modes": sorted(m.modes), "lacks": sorted(m.family.lacks),
                 "loras": sorted(one.name for one in parts.loras(m).values()),
                 "loaded": m.name in loaded, "note": registry.note("model", m.name),
                 "picture": pictures.get(m.name)}
                for m in (*catalog.models().values(), *writers().values(), *captioners().values())
            ]  # fmt: skip

        return list(await in_thread(work))

    @api.get("/api/queue", response_model=Queue)
    async def queue() -> dict[str, Any]:
        """How busy it is."""

        def work() -> dict[str, Any]:
            counts = house.generations.counts()
            try:
                lines = house.queue.workers()
            except RedisError:
                lines = {}
            # Who writes draws nothing.
            workers = sum(number for name, number in lines.items() if name != LINE_OF_WORDS)
            told: dict[str, Any] = {str(state): counts.get(state, 0) for state in PENDING}
            # Elsewhere there are places, and nobody knows by whom they are filled.
            engines = [
                titled(name) for name, number in lines.items() if number and name not in OURS
            ]
            own = lines.get(DRAW, 0)
            return told | {"workers": workers, "own": own, "engines": engines, "lines": lines}

        return dict(await in_thread(work))

    @api.get("/api/stats", response_model=Stats)
    async def stats(request: Request) -> dict[str, Any]:
        """How much one asked for, the time it took, and what it cost, today and in all."""

        def work() -> dict[str, Any]:
            who = asker(request)
            today, every = (_count(one) for one in history.counts(house, who))
            everybody = costs.everybodys(house.database) if costs.may_see(who) else None
            return {
                "today": today, "all": every, "currency": policy().money.currency,
                "everybody": asdict(everybody) if everybody else None,
            }  # fmt: skip

        return dict(await in_thread(work))

    @api.get("/health", response_model=Health, responses={503: {"model": Health}})
    async def health() -> JSONResponse:
        """200 when database and Redis answer, else 503 naming what does not."""

        def work() -> dict[str, bool]:
            told = {"database": True, "redis": True}
            try:
                house.generations.counts()
            except Exception:  # Whatever it is, the answer is the same word.
                told["database"] = False
            try:
                house.queue.redis.ping()
            except RedisError:
                told["redis"] = False
            return told

        told = await in_thread(work)
        # For who started this process, and asks whether it is this one that answers.
        mine = {"Drawqueue-Nonce": os.environ.get(NONCE, "")}
        return JSONResponse(told, 200 if all(told.values()) else 503, mine)

    return api
