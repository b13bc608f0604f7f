"""ComfyUI, somewhere at home: what is to be drawn is put into its queue as a workflow.

By its own server's code and documentation (server.py, execution.py, protocol.py of
comfyanonymous/ComfyUI; docs.comfy.org: routes, messages). What is told of a drawing is heard on a
web socket; how it ended is read from the history, so that nothing is lost where that breaks. Its
owner draws with it, too: what is stopped is only ever ours, by the name that we called with.
"""

import asyncio
import contextlib
import io
import json
import logging
import queue
import struct
import time
import uuid
from collections.abc import Iterable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import PureWindowsPath
from typing import Any

from PIL import Image
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from core import samplers, workflows
from core.catalog import Model
from core.engine import (
    NOTHING,
    AskDifferently,
    EngineError,
    GiveUp,
    Remote,
    Report,
    ShowPreview,
    Stopped,
    TransientError,
    TryAnother,
)
from core.languages import tr
from core.options import Request
from core.providers import provider_of
from core.settings import Remote as Settings
from core.settings import read
from core.workflows import Workflow
from worker import frames, previews
from worker.engines.calls import ASK_SECONDS, MOST_BYTES, Caller, Calling
from worker.engines.several import servers

log = logging.getLogger("drawqueue")

# How often one looks into the history while one hears of a drawing, and while one does not.
HEARING_SECONDS, DEAF_SECONDS = 5.0, 1.0
# So long one waits for the web socket before one asks for a drawing.
SOCKET_SECONDS = 2.0
# So often a drawing must be missed everywhere before it is lost.
MISSED = 2
# What a refused workflow has wrong that who asked can mend: a number.
NUMBERS = ("value_smaller_than_min", "value_bigger_than_max")
# And what says that the workflow itself, or what it needs, is the matter.
UNFIT = ("prompt_outputs_failed_validation", "invalid_prompt", "missing_node_type",
         "prompt_no_outputs", "no_prompt")  # fmt: skip
PREVIEW, PREVIEW_TOLD = 1, 4
# Where what is uploaded goes: the folder that ComfyUI empties when it starts.
FOLDER, KIND = "drawqueue", "temp"


def made() -> Remote:
    """The ComfyUIs of the settings as an engine."""
    return servers([Comfy(one) for one in read(Settings).addresses("comfyui") or ("",)])


class Comfy(Calling):
    """Draws on one ComfyUI."""

    calls: "_Caller"

    def __init__(self, address: str) -> None:
        token = read(Settings).comfyui_token.get_secret_value()
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.calls = _Caller("comfyui", address, self._headers)
        self._names: dict[workflows.Place, list[str]] = {}

    def away(self, report: Report) -> list[str]:
        """Why it does not answer, in words; empty when it does."""
        return self.calls.away("/queue", report)

    def draw(
        self, model: Model, request: Request, report: Report,
        pictures: Mapping[str, Image.Image] = NOTHING, show: ShowPreview | None = None,
    ) -> list[Image.Image]:  # fmt: skip
        frame = frames.laid(request, pictures) if request.begun else None
        if frame and int(request.steps * request.strength) < 1:
            return [frame.image.copy() for _ in request.seeds]
        workflow = self._workflow()
        values = _values(workflow, request)
        if checkpoint := self._checkpoint(workflow, model, report):
            values["checkpoint"] = checkpoint
        begun = self._uploaded(frame, report) if frame else ()
        found: list[Image.Image] = []
        # One after the other: of a batch, only the first would have the noise of its seed.
        for seed in request.seeds:
            nodes = workflow.filled({**values, "seed": seed})
            _begin(nodes, workflow, begun)
            done = len(found)

            drawing = _Drawing(
                self.calls, workflow, partial(_of_all, report, done, request.count), show
            )
            drawn = drawing.made(nodes, self._headers)
            if frame and frame.mask:
                drawn = frame.kept(drawn.convert("RGB").resize(frame.image.size))
            found.append(drawn)
        return found

    def _workflow(self) -> Workflow:
        try:
            return workflows.workflow(read(Settings).comfyui_workflow)
        except ValueError as error:
            log.error("COMFYUI_WORKFLOW: %s", error)
            raise TryAnother(self.calls.unfit()) from None

    def _checkpoint(self, workflow: Workflow, model: Model, report: Report) -> str:
        """The file that a model's name means; empty where the workflow's own one is meant."""
        wanted = (provider_of(model.source) or ("", ""))[1]
        if not wanted and workflow.own:
            return ""
        title = self.calls.provider.title
        for place in workflow.places.get("checkpoint", ()):
            for old in (True, False):
                if not old or place not in self._names:
                    self._names[place] = self._offered(workflow, place, report)
                    old = False
                names = self._names[place]
                found = next((one for one in names if _called(one, wanted)), "")
                if found or not old:
                    break
            if found:
                return found
            log.error("%s has no checkpoint %s; it has %s", title, wanted, ", ".join(names))
            raise TryAnother(tr("{engine} has no model {name}.", engine=title, name=wanted))
        log.error("COMFYUI_WORKFLOW loads no checkpoint that %s could stand for", model.name)
        raise TryAnother(self.calls.unfit())

    def _offered(self, workflow: Workflow, place: workflows.Place, report: Report) -> list[str]:
        """What a node's input can be chosen from."""
        kind = workflow.nodes[place[0]]["class_type"]
        told = self.calls.json("GET", f"/object_info/{kind}", report, again=True)
        try:
            first, *more = told[kind]["input"]["required"][place[1]]
            # Newer nodes tell their choices beside their kind.
            found = first if isinstance(first, list) else more[0]["options"]
        except (KeyError, IndexError, TypeError, ValueError):
            return []
        return [one for one in found if isinstance(one, str)]

    def _uploaded(self, frame: frames.Frame, report: Report) -> tuple[str, ...]:
        """A frame's picture, and its mask if it has one, as the server calls them from now on."""
        return tuple(
            self._upload(one, report) for one in (frame.image, frame.mask) if one is not None
        )

    def _upload(self, image: Image.Image, report: Report) -> str:
        out = io.BytesIO()
        image.save(out, "PNG")
        # By what it shows, so that the same one is there but once.
        name = f"{sha256(out.getvalue()).hexdigest()[:32]}.png"
        told = self.calls.json(
            "POST", "/upload/image", report, again=True,
            files={"image": (name, out.getvalue(), "image/png")},
            data={"type": KIND, "subfolder": FOLDER, "overwrite": "true"},
        )  # fmt: skip
        where = (told.get("subfolder"), told.get("name")) if isinstance(told, dict) else ()
        return "/".join(filter(None, where or (FOLDER, name))) + f" [{KIND}]"


class _Caller(Caller):
    """Calls ComfyUI, whose refusals tell of each node."""

    def unfit(self) -> str:
        return tr("{engine} cannot use the host's workflow.", engine=self.provider.title)

    def said(self, refusal: Any) -> str:
        told = refusal
        error = told.get("error") if isinstance(told, dict) else None
        kind = error.get("type") if isinstance(error, dict) else None
        if kind not in UNFIT:
            return super().said(refusal)
        faults = [*_faults(told.get("node_errors"))]
        log.error("%s refuses a workflow: %s", self.provider.title, faults or error)
        numbers = [words for kind, words in faults if kind in NUMBERS]
        return "; ".join(numbers) if len(numbers) == len(faults) > 0 else str(kind)

    def refused(self, status: int, words: str, after: float | None = None) -> EngineError:
        if words in UNFIT:
            return TryAnother(self.unfit())
        return super().refused(status, words, after)


class _Drawing:
    """One workflow in the server's queue, until its picture is there."""

    def __init__(
        self, caller: _Caller, workflow: Workflow, report: Report, show: ShowPreview | None
    ) -> None:
        self.calls, self._workflow, self._report = caller, workflow, report
        self._show, self._clock = show, previews.Clock()
        # What the server knows us by: in its queue, and on the web socket.
        self._client = uuid.uuid4().hex
        self._task = ""
        self._shares: dict[str, float] = {}
        self._hearing = False
        self._came: queue.SimpleQueue[str | bytes | bool] = queue.SimpleQueue()

    def made(self, nodes: Mapping[str, Any], headers: Mapping[str, str]) -> Image.Image:
        """The picture of a workflow. Raises EngineError."""
        heard = self.calls.start(self._listen(headers))
        try:
            end = time.monotonic() + SOCKET_SECONDS
            while not self._hearing and time.monotonic() < end and not heard.done():
                self._go_on()
                self._hear()
            told = self.calls.json(
                "POST", "/prompt", self._tell, paid=True,
                json={"prompt": nodes, "client_id": self._client},
            )  # fmt: skip
            self._task = str(told.get("prompt_id")) if isinstance(told, dict) else ""
            return self._picture(self._ended())
        except (Stopped, TransientError) as error:
            if not getattr(error, "unsent", False):
                self.calls.start(self._drop())
            raise
        finally:
            heard.cancel()

    # What is heard of it

    async def _listen(self, headers: Mapping[str, str]) -> None:
        """Put what the web socket says where it is waited for; True when it is there, False when it
        is not. It is opened again by itself."""
        address = f"ws{self.calls.address.removeprefix('http')}/ws?clientId={self._client}"
        try:
            async for socket in connect(address, additional_headers=headers, max_size=MOST_BYTES):
                self._came.put(True)
                try:
                    async for message in socket:
                        self._came.put(message)
                except ConnectionClosed:
                    pass
                self._came.put(False)
        except (WebSocketException, OSError, ValueError) as error:
            log.info("%s: no web socket: %s", self.calls.provider.title, type(error).__name__)
            self._came.put(False)

    def _hear(self) -> bool:
        """Take in what came next; whether it is worth a look into the history."""
        try:
            message = self._came.get(timeout=ASK_SECONDS)
        except queue.Empty:
            return False
        if isinstance(message, bool):
            self._hearing = message
            return not message
        if isinstance(message, bytes):
            self._preview(message)
            return False
        try:
            said = json.loads(message)
            kind, data = said["type"], said["data"]
            if data.get("prompt_id", self._task) != self._task:
                return False
            if kind == "progress":
                node, share = str(data.get("node")), data["value"] / data["max"]
                self._shares[node] = min(1.0, float(share))
        except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError):
            return False
        ended = kind == "executing" and data.get("node") is None
        return ended or kind in (
            "execution_success", "execution_error", "execution_interrupted",
        )  # fmt: skip

    def _preview(self, message: bytes) -> None:
        """Show what is drawn by now, where it is time for it (protocol.py: BinaryEventTypes)."""
        if not self._show or len(message) < 8 or not self._clock.due(self._share):
            return
        kind, number = struct.unpack(">II", message[:8])
        if kind not in (PREVIEW, PREVIEW_TOLD):
            return
        begin = 8 + (number if kind == PREVIEW_TOLD else 0)
        # One that cannot be read is none.
        with contextlib.suppress(EngineError, OSError):
            image = self.calls.opened(io.BytesIO(message[begin:]))
            self._show(previews.sheet([image.convert("RGB")]))
            self._clock.made()

    @property
    def _share(self) -> float:
        drawing = self._workflow.samplers
        return sum(self._shares.get(node, 0.0) for node in drawing) / len(drawing)

    def _tell(self, share: float, words: str = "") -> bool:
        """Report what is done of the drawing, whatever is done of a call."""
        return self._report(max(share, self._share), words)

    def _go_on(self) -> None:
        if not self._report(self._share):
            raise Stopped

    # How it ended

    def _ended(self) -> dict[str, Any]:
        """What the history says of it in the end. Raises EngineError."""
        due, missed = time.monotonic() + DEAF_SECONDS, 0
        since = time.monotonic()
        while True:
            self._go_on()
            if self._hear():
                due = time.monotonic()
            if time.monotonic() < due:
                continue
            path = f"/history/{self._task}"
            told = self.calls.json("GET", path, self._tell, again=True)
            if isinstance(told, dict) and isinstance(told.get(self._task), dict):
                return dict(told[self._task])
            running, waiting = self._queued(
                self.calls.json("GET", "/queue", self._tell, again=True)
            )
            missed = 0 if running or waiting else missed + 1
            if waiting:
                since = time.monotonic()
            if missed >= MISSED:
                # The server was started anew, and its queue is gone.
                raise TransientError(
                    tr("{engine} has lost this drawing.", engine=self.calls.provider.title)
                )
            if time.monotonic() - since > self.calls.provider.seconds:
                raise TransientError(
                    tr("{engine} took too long to answer.", engine=self.calls.provider.title)
                )
            soon = DEAF_SECONDS if missed or not self._hearing else HEARING_SECONDS
            due = time.monotonic() + (ASK_SECONDS if missed else soon)

    def _picture(self, ended: Mapping[str, Any]) -> Image.Image:
        """The picture of what has ended. Raises EngineError."""
        title = self.calls.provider.title
        status = ended.get("status")
        if isinstance(status, dict) and status.get("status_str") == "error":
            raise self._failed(status.get("messages"))
        outputs = ended.get("outputs")
        found = [
            file
            for node in self._workflow.nodes
            for file in (_files(outputs.get(node)) if isinstance(outputs, dict) else ())
        ]
        # What is kept counts before what is but shown, and what comes last before what it is of.
        kept = [one for one in found if one.get("type") == "output"] or found
        if not kept:
            log.error("%s: the workflow has ended without a picture", title)
            raise GiveUp(tr("{engine} answered without a picture.", engine=title))
        which = {name: str(kept[-1].get(name, "")) for name in ("filename", "subfolder", "type")}
        return self.calls.picture("GET", "/view", self._tell, again=True, params=which)

    def _failed(self, messages: Any) -> EngineError:
        """Why it was not drawn, by the history's messages."""
        title = self.calls.provider.title
        told: dict[str, Any] = dict(
            one for one in messages or () if isinstance(one, list) and len(one) == 2
        )
        if "execution_interrupted" in told:
            # Not by us: the host's own hand.
            return GiveUp(tr("This was stopped at {engine} itself.", engine=title))
        error: dict[str, Any] = told.get("execution_error") or {}
        words = f"{error.get('exception_type')}: {error.get('exception_message')}"
        log.error("%s: %s failed: %s", title, error.get("node_type"), words.strip()[:2000])
        if "OutOfMemory" in words or "out of memory" in words.lower():
            return AskDifferently(
                tr(
                    "{engine} has not enough memory for this. Ask for a smaller picture.",
                    engine=title,
                )
            )
        return GiveUp(tr("{engine} failed while it drew this; the host has to look.", engine=title))

    # Stopping it

    def _queued(self, told: Any) -> tuple[list[str], list[str]]:
        """What of ours runs, and what waits, by the names that the server gave it."""
        lists = told if isinstance(told, dict) else {}
        running, waiting = (
            [one[1] for one in lists.get(f"queue_{kind}") or () if self._ours(one)]
            for kind in ("running", "pending")
        )
        return running, waiting

    def _ours(self, one: Any) -> bool:
        """Whether an entry of the queue is ours: number, name, workflow, and what came with it."""
        return (
            isinstance(one, list) and len(one) > 3 and isinstance(one[3], dict)
            and one[3].get("client_id") == self._client
        )  # fmt: skip

    async def _drop(self) -> None:
        """Take ours out of the queue, or stop it if it runs; nobody else's."""
        for _ in range(3):
            running, waiting = self._queued(await self.calls.aside("GET", "/queue"))
            if waiting:
                await self.calls.aside("POST", "/queue", json={"delete": waiting})
            if running:
                # Servers of late stop this one alone; older ones whatever runs.
                await self.calls.aside("POST", "/interrupt", json={"prompt_id": running[0]})
                return
            # It may have begun meanwhile, or come only now.
            await asyncio.sleep(ASK_SECONDS)


def _of_all(report: Report, done: int, count: int, share: float, words: str = "") -> bool:
    """Report the share of one picture as that of all."""
    return report((done + share) / count, words)


def _values(workflow: Workflow, request: Request) -> dict[str, Any]:
    """What a request sets in a workflow; the host's own sampler and words stay where nothing else
    was asked for."""
    values: dict[str, Any] = {
        "prompt": request.prompt, "steps": request.steps, "guidance": request.guidance,
        "width": request.width, "height": request.height, "batch": 1,
    }  # fmt: skip
    if request.negative_prompt:
        values["negative"] = request.negative_prompt
    if request.sampler and request.sampler != workflow.sampler:
        name, schedule = samplers.parts(request.sampler)
        values["sampler"] = workflows.SAMPLERS[name]
        values["schedule"] = workflows.SCHEDULES[schedule]
    if request.begun:
        values["strength"] = request.strength
    return values


def _begin(nodes: dict[str, Any], workflow: Workflow, begun: tuple[str, ...]) -> None:
    """Let a workflow begin with a picture, and paint but where its mask is white."""
    if not begun:
        return
    image, *masks = begun
    nodes["drawqueue-image"] = {"class_type": "LoadImage", "inputs": {"image": image}}
    nodes["drawqueue-latent"] = {
        "class_type": "VAEEncode",
        "inputs": {"pixels": ["drawqueue-image", 0], "vae": workflow.vae},
    }
    latent = "drawqueue-latent"
    for mask in masks:
        nodes["drawqueue-mask"] = {
            "class_type": "LoadImageMask", "inputs": {"image": mask, "channel": "red"},
        }  # fmt: skip
        nodes["drawqueue-masked"] = {
            "class_type": "SetLatentNoiseMask",
            "inputs": {"samples": [latent, 0], "mask": ["drawqueue-mask", 0]},
        }
        latent = "drawqueue-masked"
    nodes[workflow.first]["inputs"]["latent_image"] = [latent, 0]


def _called(file: str, wanted: str) -> bool:
    """Whether a file is meant by a name: its path, its name, or that without its kind."""
    # The server may run on another system than this worker.
    path = PureWindowsPath(file)
    return not wanted or wanted.lower() in (file.lower(), path.name.lower(), path.stem.lower())


def _files(output: Any) -> list[dict[str, Any]]:
    found = output.get("images") if isinstance(output, dict) else None
    return [one for one in found or () if isinstance(one, dict)]


def _faults(told: Any) -> Iterable[tuple[str, str]]:
    """What is wrong with each node, by its kind and in words."""
    for node in told.values() if isinstance(told, dict) else ():
        for error in node.get("errors", ()) if isinstance(node, dict) else ():
            words = f"{error.get('message')}: {error.get('details')}"
            yield str(error.get("type")), f"{node.get('class_type')}: {words}"
