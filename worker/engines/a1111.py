"""AUTOMATIC1111's web UI and Forge: servers at home that draw for their owner, and for us.

By the API that a web UI with --api describes itself at /docs (modules/api/api.py, models.py,
modules/progress.py of AUTOMATIC1111/stable-diffusion-webui). Its owner draws with it, too: what is
stopped is only ever a task of ours, by the name that we gave it.
"""

import asyncio
import base64
import binascii
import contextlib
import io
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import PureWindowsPath
from typing import Any

from PIL import Image

from core import samplers
from core.catalog import Model
from core.engine import (
    NOTHING,
    AskDifferently,
    EngineError,
    Remote,
    Report,
    ShowPreview,
    Stopped,
    TransientError,
    TryAnother,
)
from core.languages import tr
from core.options import Mode, Request
from core.providers import provider_of
from core.settings import Remote as Settings
from core.settings import read
from worker import frames, previews
from worker.engines.calls import Caller, Calling
from worker.engines.several import servers

log = logging.getLogger("drawqueue")

API = "/sdapi/v1"
# How often one asks how far a drawing is.
PROGRESS_SECONDS = 0.5
# What the web UI calls otherwise.
NAMES = {"PNDM": "PLMS"}
SCHEDULES = {"": "Automatic", "Uniform": "SGM Uniform"}
# Of its fillings of what is painted anew, the one that leaves it as it is: frames fill it.
AS_IT_IS = 1


def made() -> Remote:
    """The web UIs of the settings as an engine."""
    return servers([WebUI(one) for one in read(Settings).addresses("a1111") or ("",)])


class WebUI(Calling):
    """Draws on one web UI."""

    def __init__(self, address: str) -> None:
        secret = read(Settings).a1111_auth.get_secret_value()
        proof = base64.b64encode(secret.encode()).decode()
        self.calls = _Caller(
            "a1111", address, {"Authorization": f"Basic {proof}"} if secret else {}
        )
        self._lists: dict[str, list[dict[str, Any]]] = {}

    def away(self, report: Report) -> list[str]:
        """Why it does not answer, in words; empty when it does."""
        return self.calls.away(f"{API}/sd-models", report)

    def draw(
        self, model: Model, request: Request, report: Report,
        pictures: Mapping[str, Image.Image] = NOTHING, show: ShowPreview | None = None,
    ) -> list[Image.Image]:  # fmt: skip
        frame = frames.laid(request, pictures) if request.begun else None
        if frame and int(request.steps * request.strength) < 1:
            return [frame.image.copy() for _ in request.seeds]
        # Without any chaos they are all alike.
        count = request.count if request.chaos else 1
        task = f"drawqueue-{uuid.uuid4().hex}"
        body = {
            **_asked(request, count),
            **self._sampler(request.sampler, report),
            "override_settings": self._overridden(model, request, report),
            "override_settings_restore_afterwards": True,
            "force_task_id": task,
        }
        if "flux" in model.name.lower():
            # Forge's own: such models are told how closely to follow in another way.
            body |= {"cfg_scale": 1.0, "distilled_cfg_scale": request.guidance}
        if frame:
            body |= _begun(frame, request)
        watch = _Watch(self.calls, task, show)
        try:
            answer = self.calls.json(
                "POST", f"{API}/{'img2img' if frame else 'txt2img'}", report, paid=True,
                share=watch, json=body,
            )  # fmt: skip
        except (Stopped, TransientError) as error:
            if not getattr(error, "unsent", False):
                self.calls.start(self._drop(task))
            raise
        finally:
            watch.end()
        images = self._images(answer, count)
        images += [images[0].copy() for _ in range(request.count - count)]
        return [_fitted(frame, one) for one in images] if frame else images

    def _images(self, answer: Any, count: int) -> list[Image.Image]:
        """The pictures of an answer; extensions may have put their own behind them."""
        told = answer.get("images") if isinstance(answer, dict) else None
        found = [one for one in told or () if isinstance(one, str)][:count]
        if len(found) < count:
            raise TransientError(
                tr("{engine} answered without a picture.", engine=self.calls.provider.title)
            )
        return [self.calls.opened(_decoded(one)) for one in found]

    def _overridden(self, model: Model, request: Request, report: Report) -> dict[str, Any]:
        """The settings of the web UI that hold for this drawing alone."""
        found: dict[str, Any] = {}
        wanted = (provider_of(model.source) or ("", ""))[1]
        if wanted:
            one = self._known("sd-models", lambda one: wanted.lower() in _names(one), report)
            if one is None:
                # It would draw with whatever is loaded.
                title = self.calls.provider.title
                log.error("%s has no checkpoint %s", title, wanted)
                raise TryAnother(tr("{engine} has no model {name}.", engine=title, name=wanted))
            found["sd_model_checkpoint"] = one["title"]
        if request.clip_skip:
            found["CLIP_stop_at_last_layers"] = request.clip_skip + 1
        return found

    def _sampler(self, wanted: str, report: Report) -> dict[str, str]:
        """A sampler as this web UI calls it: before 1.9 the schedule was a part of its name."""
        name, schedule = samplers.parts(wanted)
        name = NAMES.get(name, name)
        whole = f"{name} {schedule}".strip()
        old = self._called("samplers", whole, report) if schedule else None
        if old:
            return {"sampler_name": old}
        found = self._called("samplers", name, report)
        label: str | None = SCHEDULES.get(schedule, schedule)
        if schedule and found:
            try:
                label = self._called("schedulers", label or "", report)
            except TryAnother:
                label = None  # It has no list of them.
        if found is None or label is None:
            title = self.calls.provider.title
            log.warning("%s has no sampler %s", title, whole)
            known = ", ".join(str(one.get("name")) for one in self._lists.get("samplers", ()))
            raise AskDifferently(
                tr(
                    "{model} has no sampler {sampler}. It has {known}.",
                    model=title, sampler=whole, known=known,
                )
            )  # fmt: skip
        return {"sampler_name": found, "scheduler": label}

    def _called(self, kind: str, name: str, report: Report) -> str | None:
        """How a list of the web UI spells a name."""

        def label(one: dict[str, Any]) -> str:
            return str(one.get("label") or one.get("name"))

        found = self._known(kind, lambda one: label(one).lower() == name.lower(), report)
        return label(found) if found else None

    def _known(
        self, kind: str, fits: Callable[[dict[str, Any]], bool], report: Report
    ) -> dict[str, Any] | None:
        """What fits of one of the web UI's lists, which is read again where nothing did."""
        for old in (True, False):
            if not old or kind not in self._lists:
                told = self.calls.json("GET", f"{API}/{kind}", report, again=True)
                self._lists[kind] = [one for one in told if isinstance(one, dict)]
                old = False
            found = next(filter(fits, self._lists[kind]), None)
            if found or not old:
                return found
        return None

    async def _drop(self, task: str) -> None:
        """Stop a task of ours, at once or when its turn comes; nobody else's."""
        end = time.monotonic() + self.calls.provider.seconds
        while time.monotonic() < end:
            told = await self.calls.aside(
                "POST", "/internal/progress", json={"id_task": task, "live_preview": False}
            )
            if not told or not (told.get("active") or told.get("queued")):
                return
            if told.get("active"):
                await self.calls.aside("POST", f"{API}/interrupt")
                return
            await asyncio.sleep(PROGRESS_SECONDS)


class _Caller(Caller):
    def refused(self, status: int, words: str, after: float | None = None) -> EngineError:
        if status == 500 and "OutOfMemory" in words:
            log.warning("%s is out of memory", self.provider.title)
            return AskDifferently(
                tr(
                    "{engine} has not enough memory for this. Ask for a smaller picture.",
                    engine=self.provider.title,
                )
            )
        return super().refused(status, words, after)


class _Watch:
    """Asks now and then how far a task is; called while one waits for its end."""

    def __init__(self, caller: Caller, task: str, show: ShowPreview | None) -> None:
        self.calls, self._task, self._show = caller, task, show
        self._share, self._seen = 0.0, -1
        self._clock, self._last = previews.Clock(), time.monotonic()
        self._asked: Future[Any] | None = None
        # Without its pages a web UI knows no tasks by name, but draws for its API alone.
        self._nameless = False

    def __call__(self) -> float:
        """The share that is done, as far as was heard."""
        if self._asked is None and time.monotonic() - self._last >= PROGRESS_SECONDS:
            self._asked = self.calls.start(self._ask())
        elif self._asked and self._asked.done():
            self._hear(self._asked.result())
            self._asked, self._last = None, time.monotonic()
        return self._share

    def end(self) -> None:
        if self._asked:
            self._asked.cancel()

    async def _ask(self) -> Any:
        if self._nameless:
            return await self.calls.aside("GET", f"{API}/progress?skip_current_image=true")
        wanted = self._show is not None and self._clock.due(self._share)
        asked = {
            "id_task": self._task, "id_live_preview": self._seen, "live_preview": wanted,
        }  # fmt: skip
        return await self.calls.aside("POST", "/internal/progress", json=asked)

    def _hear(self, told: Any) -> None:
        if not isinstance(told, dict):
            self._nameless = True
            return
        if not self._nameless and not told.get("active"):
            return
        share = told.get("progress")
        if isinstance(share, int | float):
            self._share = max(self._share, min(1.0, float(share)))
        preview = told.get("live_preview")
        if not isinstance(preview, str) or not self._show or not self._clock.due(self._share):
            return
        self._seen = int(told.get("id_live_preview") or -1)
        # One that cannot be read is none.
        with contextlib.suppress(EngineError, OSError):
            self._show(previews.sheet([self.calls.opened(_decoded(preview)).convert("RGB")]))
            self._clock.made()


def _asked(request: Request, count: int) -> dict[str, Any]:
    """What is asked for, as both calls have it."""
    spread = request.chaos < 100
    asked = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "steps": request.steps,
        "cfg_scale": request.guidance,
        "width": request.width,
        "height": request.height,
        # Picture i has seed + i, or with chaos subseed + i, as here.
        "seed": request.seed if spread else request.seeds[0],
        "subseed": request.seeds[0] if spread else -1,
        "subseed_strength": request.chaos / 100 if spread else 0,
        # One after the other: each is as it would be alone.
        "n_iter": count,
        "batch_size": 1,
        "tiling": request.tile,
        "send_images": True,
        "save_images": False,
    }
    if request.hires > 1:
        asked |= {
            "enable_hr": True,
            "hr_upscaler": "Lanczos",
            "hr_resize_x": request.size[0],
            "hr_resize_y": request.size[1],
            "hr_scale": request.hires,
            "hr_second_pass_steps": 0,
            "denoising_strength": request.hires_strength,
            # Forge cannot do without.
            "hr_additional_modules": ["Use same choices"],
        }
    return asked


def _begun(frame: frames.Frame, request: Request) -> dict[str, Any]:
    """What a drawing begins with, and what of it is painted anew."""
    begun: dict[str, Any] = {
        "init_images": [_encoded(frame.image)],
        "denoising_strength": request.strength,
        "resize_mode": 0,
    }
    if request.mode == Mode.INPAINT and frame.mask:
        begun |= {
            "mask": _encoded(frame.mask),
            "mask_blur": 4,
            "inpainting_fill": AS_IT_IS,
            "inpaint_full_res": False,
            "inpainting_mask_invert": 0,
        }
    return begun


def _fitted(frame: frames.Frame, drawn: Image.Image) -> Image.Image:
    """A drawing with what its mask keeps."""
    if frame.mask is None:
        return drawn
    return frame.kept(drawn.convert("RGB").resize(frame.image.size))


def _names(one: dict[str, Any]) -> set[str]:
    """What a checkpoint may be called, in small letters."""
    title = str(one.get("title"))
    # The server may run on another system than this worker.
    file = PureWindowsPath(str(one.get("filename")))
    names = (title, title.rsplit(" [", 1)[0], one.get("model_name"), file.name, file.stem)
    return {str(name).lower() for name in (*names, one.get("hash")) if name}


def _encoded(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def _decoded(text: str) -> io.BytesIO:
    """The bytes of a picture in an answer; of nothing where it is none."""
    try:
        return io.BytesIO(base64.b64decode(text.rpartition(",")[2]))
    except (binascii.Error, ValueError):
        return io.BytesIO()
