"""A web UI on loopback, as AUTOMATIC1111's and Forge's answer: their API, and what their pages ask.

By modules/api/api.py, models.py and modules/progress.py of AUTOMATIC1111/stable-diffusion-webui:
one drawing at a time; fields of a wrong type are refused, unknown ones and unknown names of
checkpoints and samplers are passed over in silence.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import io
import json
from collections.abc import Iterator
from typing import Any

from aiohttp import web
from PIL import Image

from tests.servers.remote import RemoteServer, picture

USER = "ann"
SAMPLERS = (
    "DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2S a", "Euler a", "Euler", "LMS", "Heun",
    "DPM2", "DPM2 a", "DDIM", "PLMS", "UniPC", "LCM",
)  # fmt: skip
# Before 1.9 a schedule was a part of a sampler's name.
OLD = ("DPM++ 2M Karras", "DPM++ SDE Karras", "Euler a", "Euler", "LMS", "LMS Karras", "DDIM")
SCHEDULERS = (("automatic", "Automatic"), ("uniform", "Uniform"), ("karras", "Karras"),
              ("exponential", "Exponential"), ("sgm_uniform", "SGM Uniform"),
              ("simple", "Simple"), ("beta", "Beta"))  # fmt: skip
CHECKPOINTS = ("v1-5-pruned-emaonly", "sd_xl_base_1.0", "flux1-dev")
FIELDS: dict[str, tuple[type, ...]] = {
    "prompt": (str,), "negative_prompt": (str,), "steps": (int,), "cfg_scale": (int, float),
    "width": (int,), "height": (int,), "seed": (int,), "subseed": (int,),
    "subseed_strength": (int, float), "sampler_name": (str,), "scheduler": (str,),
    "n_iter": (int,), "batch_size": (int,), "tiling": (bool,), "enable_hr": (bool,),
    "hr_scale": (int, float), "hr_upscaler": (str,), "hr_resize_x": (int,), "hr_resize_y": (int,),
    "hr_second_pass_steps": (int,), "denoising_strength": (int, float), "init_images": (list,),
    "mask": (str,), "mask_blur": (int,), "inpainting_fill": (int,), "inpaint_full_res": (bool,),
    "inpainting_mask_invert": (int,), "resize_mode": (int,), "override_settings": (dict,),
    "override_settings_restore_afterwards": (bool,), "send_images": (bool,),
    "save_images": (bool,), "force_task_id": (str,), "distilled_cfg_scale": (int, float),
}  # fmt: skip
UPSCALERS = ("None", "Lanczos", "Nearest", "Latent")
STEPS = 4


class A1111Server(RemoteServer):
    engine = "a1111"
    source = "a1111:v1-5-pruned-emaonly"

    def __init__(self) -> None:
        super().__init__()
        # What its memory holds, and how long a step takes.
        self.pixels, self.step_seconds = 2048 * 2048, 0.0
        # Whether it is of before 1.9, and whether it runs without its pages.
        self.old = self.nowebui = False
        self.loaded = CHECKPOINTS[0]
        # What it drew with: the checkpoint, the sampler, the schedule, and each seed.
        self.drew: list[dict[str, Any]] = []
        # The tasks that were interrupted, by their names.
        self.interrupted: list[str] = []
        # Whether it sends its pictures, and what it fails with, as Python calls that.
        self.empty, self.failing = False, ""
        self._one = asyncio.Lock()
        self._current = ""
        self._waiting: list[str] = []
        self._finished: list[str] = []
        self._share, self._stop, self._preview = 0.0, False, 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/sdapi/v1/txt2img", self._txt2img),
            web.post("/sdapi/v1/img2img", self._img2img),
            web.get("/sdapi/v1/samplers", self._samplers),
            web.get("/sdapi/v1/schedulers", self._schedulers),
            web.get("/sdapi/v1/sd-models", self._models),
            web.get("/sdapi/v1/progress", self._progress),
            web.post("/sdapi/v1/interrupt", self._interrupt),
            web.post("/internal/progress", self._own_progress),
        ]

    def settings(self) -> dict[str, str]:
        return {"A1111_BASE_URL": f"{self.address}/", "A1111_AUTH": f"{USER}:{self.key}"}

    def refusal(self, status: int) -> Any:
        if status >= 500:
            return {"error": "RuntimeError", "detail": "", "body": "", "errors": "it failed"}
        return {"detail": f"refused with {status}"}

    def heard(self, call: tuple[str, str, Any]) -> str:
        method, path, given = call
        drawn = method == "POST" and path in ("/sdapi/v1/txt2img", "/sdapi/v1/img2img")
        return str(given["prompt"]) if drawn else ""

    def allowed(self, request: web.Request) -> bool:
        # The pages' own calls are not the API's.
        if request.path.startswith("/internal/"):
            return True
        proof = base64.b64encode(f"{USER}:{self.key}".encode()).decode()
        return request.headers.get("authorization") == f"Basic {proof}"

    @contextlib.contextmanager
    def owner_draws(self) -> Iterator[None]:
        """Its owner draws in the pages, as long as this lasts."""
        asyncio.run_coroutine_threadsafe(self._one.acquire(), self._loop).result(5)
        self._current = "task(owner)"
        try:
            yield
        finally:
            self._current = ""
            self._loop.call_soon_threadsafe(self._one.release)

    # Its calls

    async def _txt2img(self, request: web.Request) -> web.Response:
        given = await request.json()
        if refused := _invalid(given):
            return refused
        return await self._draw(given)

    async def _img2img(self, request: web.Request) -> web.Response:
        given = await request.json()
        if refused := _invalid(given):
            return refused
        if not given.get("init_images"):
            return web.json_response({"detail": "Init image not found"}, status=404)
        try:
            for one in (*given["init_images"], *filter(None, [given.get("mask")])):
                Image.open(io.BytesIO(base64.b64decode(one, validate=True))).load()
        except (binascii.Error, OSError):
            return web.json_response({"detail": "Invalid encoded image"}, status=500)
        return await self._draw(given)

    async def _draw(self, given: dict[str, Any]) -> web.Response:
        task = given.get("force_task_id") or "task(txt2img-1234567)"
        self._waiting.append(task)
        async with self._one:
            self._waiting.remove(task)
            self._current, self._share, self._stop = task, 0.0, False
            if self.failing:
                # What fails stays the current task until the next one begins.
                return _failed(self.failing, "it failed")
            width, height = given.get("width", 512), given.get("height", 512)
            if given.get("enable_hr"):
                if given.get("hr_upscaler") not in UPSCALERS:
                    return _failed("Exception", "could not find upscaler named")
                width, height = given["hr_resize_x"], given["hr_resize_y"]
            if width * height > self.pixels:
                return _failed("OutOfMemoryError", "CUDA out of memory. Tried to allocate 9 GiB")
            drawn = await self._pictures(given, (width, height))
            self._finished.append(task)
            self._current = ""
        info = {"prompt": given.get("prompt", ""), "index_of_first_image": 0}
        told = {"images": drawn, "parameters": given, "info": json.dumps(info)}
        return web.json_response(told)

    async def _pictures(self, given: dict[str, Any], size: tuple[int, int]) -> list[str]:
        wanted = given.get("override_settings", {}).get("sd_model_checkpoint")
        known = {name for one in self._checkpoints() for name in (one["title"], one["model_name"])}
        checkpoint = wanted if wanted in known else self.loaded
        names = OLD if self.old else SAMPLERS
        sampler = given.get("sampler_name")
        labels = [label for _, label in SCHEDULERS]
        schedule = given.get("scheduler")
        count = given.get("n_iter", 1) * given.get("batch_size", 1)
        strength = given.get("subseed_strength", 0)
        drawn = []
        for index in range(count):
            for step in range(STEPS):
                self._share = (index + step / STEPS) / count
                self._preview += 1
                await asyncio.sleep(self.step_seconds)
            seed = given["seed"] + (0 if strength else index)
            self.drew.append({
                "checkpoint": checkpoint, "seed": seed, "subseed": given["subseed"] + index,
                "sampler": sampler if sampler in names else names[0],
                "schedule": schedule if schedule in labels and not self.old else "Automatic",
                "size": size,
            })  # fmt: skip
            told = f"{checkpoint}|{given.get('prompt')}|{seed}"
            drawn.append(base64.b64encode(picture(told, size)).decode())
            if self._stop:
                break
        return [] if self.empty or not given.get("send_images", True) else drawn

    async def _samplers(self, _request: web.Request) -> web.Response:
        names = OLD if self.old else SAMPLERS
        return web.json_response([{"name": one, "aliases": [], "options": {}} for one in names])

    async def _schedulers(self, _request: web.Request) -> web.Response:
        if self.old:
            raise web.HTTPNotFound
        return web.json_response(
            [{"name": name, "label": label, "aliases": None} for name, label in SCHEDULERS]
        )

    def _checkpoints(self) -> list[dict[str, Any]]:
        return [
            {
                "title": f"{name}.safetensors [6ce0161689]", "model_name": name,
                "hash": "6ce0161689", "sha256": None,
                "filename": f"C:\\webui\\models\\Stable-diffusion\\{name}.safetensors",
            }
            for name in CHECKPOINTS
        ]  # fmt: skip

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response(self._checkpoints())

    async def _progress(self, _request: web.Request) -> web.Response:
        told = {"progress": self._share, "eta_relative": 0.0, "state": {}, "current_image": None,
                "textinfo": None, "current_task": None}  # fmt: skip
        return web.json_response(told)

    async def _interrupt(self, _request: web.Request) -> web.Response:
        self.interrupted.append(self._current)
        self._stop = True
        return web.json_response({})

    async def _own_progress(self, request: web.Request) -> web.Response:
        if self.nowebui:
            raise web.HTTPNotFound
        given = await request.json()
        task = given["id_task"]
        active = bool(task) and task == self._current
        told: dict[str, Any] = {
            "active": active, "queued": task in self._waiting, "completed": task in self._finished,
            "progress": None, "eta": None, "live_preview": None, "id_live_preview": -1,
            "textinfo": "Waiting...",
        }  # fmt: skip
        if active:
            told |= {"progress": self._share, "id_live_preview": self._preview}
            if given.get("live_preview", True) and given.get("id_live_preview") != self._preview:
                small = base64.b64encode(picture(task, (32, 32))).decode()
                told["live_preview"] = f"data:image/png;base64,{small}"
        return web.json_response(told)


def _invalid(given: dict[str, Any]) -> web.Response | None:
    faults = [
        {"loc": ["body", name], "msg": "value is not valid", "type": "type_error"}
        for name, value in given.items()
        if name in FIELDS and (not isinstance(value, FIELDS[name]) or
                               (isinstance(value, bool) and bool not in FIELDS[name]))
    ]  # fmt: skip
    return web.json_response({"detail": faults}, status=422) if faults else None


def _failed(kind: str, words: str) -> web.Response:
    told = {"error": kind, "detail": "", "body": "", "errors": words}
    return web.json_response(told, status=500)
