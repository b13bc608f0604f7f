"""A ComfyUI on loopback: its queue, its history, its web socket, and the nodes that come with it.

By server.py, execution.py, nodes.py and protocol.py of comfyanonymous/ComfyUI, and docs.comfy.org.
A workflow is looked through as there before it is queued; one is drawn at a time.
"""

from __future__ import annotations

import asyncio
import email
import json
import struct
import threading
import uuid
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from tests.servers.remote import RemoteServer, picture

CHECKPOINTS = ["XL/sd_xl_base_1.0.safetensors", "v1-5-pruned-emaonly.safetensors"]
KSAMPLERS = [
    "euler", "euler_ancestral", "heun", "dpm_2", "dpm_2_ancestral", "lms", "dpmpp_2s_ancestral",
    "dpmpp_sde", "dpmpp_2m", "dpmpp_2m_sde", "res_multistep", "lcm", "deis", "ddim", "uni_pc",
]  # fmt: skip
SCHEDULES = ["simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal"]
LINK, TEXT, FILE = "LINK", "STRING", "FILE"
SEED, SIDE, STEPS = ("INT", 0, 2**64 - 1), ("INT", 16, 16384), ("INT", 1, 10000)
CFG, SHARE = ("FLOAT", 0.0, 100.0), ("FLOAT", 0.0, 1.0)
# The inputs of each node, and whether something comes out of ComfyUI by it.
NODES: dict[str, dict[str, Any]] = {
    "CheckpointLoaderSimple": {"ckpt_name": CHECKPOINTS},
    "UNETLoader": {"unet_name": ["flux1-dev.safetensors"], "weight_dtype": ["default"]},
    "DualCLIPLoader": {"clip_name1": ["t5xxl.safetensors"], "clip_name2": ["clip_l.safetensors"],
                       "type": ["flux"]},
    "VAELoader": {"vae_name": ["ae.safetensors"]},
    "CLIPTextEncode": {"text": TEXT, "clip": LINK},
    "EmptyLatentImage": {"width": SIDE, "height": SIDE, "batch_size": ("INT", 1, 4096)},
    "EmptySD3LatentImage": {"width": SIDE, "height": SIDE, "batch_size": ("INT", 1, 4096)},
    "KSampler": {
        "model": LINK, "seed": SEED, "steps": STEPS, "cfg": CFG, "sampler_name": KSAMPLERS,
        "scheduler": SCHEDULES, "positive": LINK, "negative": LINK, "latent_image": LINK,
        "denoise": SHARE,
    },
    "LatentUpscale": {"samples": LINK, "width": SIDE, "height": SIDE},
    "RandomNoise": {"noise_seed": SEED},
    "KSamplerSelect": {"sampler_name": KSAMPLERS},
    "BasicScheduler": {"model": LINK, "scheduler": SCHEDULES, "steps": STEPS, "denoise": SHARE},
    "FluxGuidance": {"conditioning": LINK, "guidance": CFG},
    "BasicGuider": {"model": LINK, "conditioning": LINK},
    "SamplerCustomAdvanced": {"noise": LINK, "guider": LINK, "sampler": LINK, "sigmas": LINK,
                              "latent_image": LINK},
    "PrimitiveInt": {"value": SEED},
    "VAEDecode": {"samples": LINK, "vae": LINK},
    "VAEEncode": {"pixels": LINK, "vae": LINK},
    "LoadImage": {"image": FILE},
    "LoadImageMask": {"image": FILE, "channel": ["alpha", "red", "green", "blue"]},
    "SetLatentNoiseMask": {"samples": LINK, "mask": LINK},
    "SaveImage": {"images": LINK, "filename_prefix": TEXT},
    "PreviewImage": {"images": LINK},
}  # fmt: skip
OUTPUTS = {"SaveImage": "output", "PreviewImage": "temp"}
DRAWING = ("KSampler", "SamplerCustomAdvanced")
# Steps that are told of, of each node that draws.
TOLD = 4


class ComfyServer(RemoteServer):
    engine = "comfyui"
    source = "comfyui:v1-5-pruned-emaonly"
    spared = "/ws"

    def __init__(self) -> None:
        super().__init__()
        self.step_seconds = 0.0
        # Whether web sockets are taken, and are cut when something is drawn.
        self.sockets, self.cutting = True, False
        # What a drawing fails with: an exception's kind and its words.
        self.failing: tuple[str, str] | None = None
        # What was drawn, workflow by workflow; what was interrupted, and taken out, by their names.
        self.drew: list[dict[str, Any]] = []
        self.interrupted: list[str] = []
        self.deleted: list[str] = []
        # Whether /interrupt knows names: older ones stop whatever runs.
        self.late = True
        self.files: dict[tuple[str, str, str], bytes] = {}
        self._open: dict[str, web.WebSocketResponse] = {}
        self._pending: list[list[Any]] = []
        self._running: list[Any] | None = None
        self._history: dict[str, Any] = {}
        self._stop, self._number = False, 0
        self._work: asyncio.Task[None] | None = None

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/ws", self._socket),
            web.get("/object_info/{kind}", self._object_info),
            web.post("/prompt", self._prompt),
            web.get("/history/{task}", self._told),
            web.get("/queue", self._queue),
            web.post("/queue", self._unqueue),
            web.post("/interrupt", self._interrupt),
            web.post("/upload/image", self._upload),
            web.get("/view", self._view),
        ]

    def settings(self) -> dict[str, str]:
        return {"COMFYUI_BASE_URL": self.address, "COMFYUI_TOKEN": self.key}

    def refusal(self, status: int) -> Any:
        error = {"type": "refused", "message": f"refused with {status}", "details": "",
                 "extra_info": {}}  # fmt: skip
        return {"error": error, "node_errors": {}}

    def heard(self, call: tuple[str, str, Any]) -> str:
        method, path, given = call
        if (method, path) != ("POST", "/prompt"):
            return ""
        return str(_words(given["prompt"]))

    # What its owner and the tests do

    def owner_draws(self, nodes: dict[str, Any]) -> str:
        """Its owner puts something into the queue; its name."""

        async def put() -> str:
            return self._put(nodes, {"client_id": "owner"})

        return asyncio.run_coroutine_threadsafe(put(), self._loop).result(5)

    def restart(self) -> None:
        """It is started anew: its queue and its history are gone."""
        done = threading.Event()

        def forget() -> None:
            self._stop = True
            self._pending.clear()
            self._history.clear()
            self._running = None
            if self._work:
                self._work.cancel()
                self._work = None
            done.set()

        self._loop.call_soon_threadsafe(forget)
        done.wait(5)

    # Its calls

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if not self.sockets:
            raise web.HTTPNotFound
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client = request.query.get("clientId") or uuid.uuid4().hex
        self._open[client] = socket
        status = {"exec_info": {"queue_remaining": len(self._pending)}}
        await socket.send_json(
            {"type": "status", "data": {"status": status, "sid": client}}
        )  # fmt: skip
        try:
            async for _ in socket:
                pass
        finally:
            if self._open.get(client) is socket:
                del self._open[client]
        return socket

    async def _object_info(self, request: web.Request) -> web.Response:
        kind = request.match_info["kind"]
        if kind not in NODES:
            return web.json_response({})
        required = {
            name: [of] if isinstance(of, list) else [of[0], {"min": of[1], "max": of[2]}]
            if isinstance(of, tuple) else [of, {}]
            for name, of in NODES[kind].items()
        }  # fmt: skip
        return web.json_response({kind: {"input": {"required": required}, "name": kind}})

    async def _prompt(self, request: web.Request) -> web.Response:
        given = await request.json()
        nodes = given.get("prompt")
        if nodes is None:
            error = {"type": "no_prompt", "message": "No prompt provided",
                     "details": "No prompt provided", "extra_info": {}}  # fmt: skip
            return web.json_response({"error": error, "node_errors": {}}, status=400)
        if refused := self._invalid(nodes):
            return web.json_response(refused, status=400)
        extra = {"client_id": given["client_id"]} if "client_id" in given else {}
        task = self._put(nodes, extra)
        return web.json_response({"prompt_id": task, "number": self._number, "node_errors": {}})

    def _put(self, nodes: dict[str, Any], extra: dict[str, Any]) -> str:
        task = str(uuid.uuid4())
        self._number += 1
        out = [node for node, one in nodes.items() if one["class_type"] in OUTPUTS]
        self._pending.append([self._number, task, nodes, extra, out])
        if self._work is None or self._work.done():
            self._work = asyncio.get_running_loop().create_task(self._draw_all())
        return task

    def _invalid(self, nodes: dict[str, Any]) -> dict[str, Any] | None:
        """Why a workflow is refused, as there."""
        for node, one in nodes.items():
            if one.get("class_type") not in NODES:
                words = f"Node '{one.get('class_type')}' not found."
                return {"error": {"type": "missing_node_type", "message": words,
                                  "details": f"Node ID '#{node}'", "extra_info": {}},
                        "node_errors": {}}  # fmt: skip
        if not any(one["class_type"] in OUTPUTS for one in nodes.values()):
            return {"error": {"type": "prompt_no_outputs", "message": "Prompt has no outputs",
                              "details": "", "extra_info": {}}, "node_errors": {}}  # fmt: skip
        found = {}
        for node, one in nodes.items():
            faults = [
                {"type": kind, "message": message, "details": details, "extra_info": {}}
                for name, of in NODES[one["class_type"]].items()
                for kind, message, details in self._faults(nodes, one["inputs"], name, of)
            ]
            if faults:
                found[node] = {"errors": faults, "dependent_outputs": ["picture"],
                               "class_type": one["class_type"]}  # fmt: skip
        if not found:
            return None
        return {
            "error": {"type": "prompt_outputs_failed_validation",
                      "message": "Prompt outputs failed validation", "details": "",
                      "extra_info": {}},
            "node_errors": found,
        }  # fmt: skip

    def _faults(
        self, nodes: dict[str, Any], inputs: dict[str, Any], name: str, of: Any
    ) -> list[tuple[str, str, str]]:
        if name not in inputs:
            return [("required_input_missing", "Required input is missing", name)]
        value = inputs[name]
        if isinstance(value, list):
            good = len(value) == 2 and value[0] in nodes and isinstance(value[1], int)
            return [] if good else [("bad_linked_input", "Bad linked input", name)]
        if of == LINK:
            return [("bad_linked_input", "Bad linked input", f"{name}, {value!r}")]
        if of == FILE:
            there = _place(value) in self.files
            return [] if there else [("custom_validation_failed", "Custom validation failed",
                                      f"{name} - Invalid image file: {value}")]  # fmt: skip
        if isinstance(of, list):
            told = f"{name}: '{value}' not in {of}"
            return [] if value in of else [("value_not_in_list", "Value not in list", told)]
        if isinstance(of, tuple):
            if isinstance(value, bool) or not isinstance(value, int | float):
                return [("invalid_input_type", "Failed to convert an input value", name)]
            if value < of[1]:
                told = f"Value {value} smaller than min of {of[1]}"
                return [("value_smaller_than_min", told, name)]
            if value > of[2]:
                return [
                    ("value_bigger_than_max", f"Value {value} bigger than max of {of[2]}", name)
                ]
        return []

    async def _told(self, request: web.Request) -> web.Response:
        task = request.match_info["task"]
        return web.json_response({task: self._history[task]} if task in self._history else {})

    async def _queue(self, _request: web.Request) -> web.Response:
        running = [self._running] if self._running else []
        return web.json_response({"queue_running": running, "queue_pending": self._pending})

    async def _unqueue(self, request: web.Request) -> web.Response:
        for task in (await request.json()).get("delete", ()):
            self.deleted += [one[1] for one in self._pending if one[1] == task]
            self._pending = [one for one in self._pending if one[1] != task]
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        given = await request.json() if await request.read() else {}
        wanted = given.get("prompt_id")
        if self._running and (not self.late or wanted in (None, self._running[1])):
            self.interrupted.append(self._running[1])
            self._stop = True
        return web.Response()

    async def _upload(self, request: web.Request) -> web.Response:
        kind = request.headers["Content-Type"].encode()
        form = email.message_from_bytes(b"Content-Type: " + kind + b"\n\n" + await request.read())
        fields: dict[str, Any] = {}
        for part in form.get_payload():
            name = part.get_param("name", header="content-disposition")  # type: ignore[union-attr]
            content = part.get_payload(decode=True)  # type: ignore[union-attr]
            if name == "image":
                fields["name"] = part.get_filename()  # type: ignore[union-attr]
            fields[str(name)] = content if name == "image" else content.decode()  # type: ignore[union-attr]
        if not fields.get("image") or not fields.get("name"):
            return web.Response(status=400)
        where = fields.get("type") or "input", fields.get("subfolder", ""), fields["name"]
        if where[0] not in ("input", "temp", "output") or ".." in where[1]:
            return web.Response(status=400)
        assert fields.get("overwrite") in ("true", "1") or where not in self.files
        self.files[where] = fields["image"]
        return web.json_response({"name": where[2], "subfolder": where[1], "type": where[0]})

    async def _view(self, request: web.Request) -> web.Response:
        asked = {name: one[0] for name, one in parse_qs(urlsplit(request.path_qs).query).items()}
        place = asked.get("type", "output"), asked.get("subfolder", ""), asked.get("filename", "")
        if place not in self.files:
            return web.Response(status=404)
        return web.Response(body=self.files[place], content_type="image/png")

    # What it draws

    async def _draw_all(self) -> None:
        while self._pending:
            self._running = self._pending.pop(0)
            await self._draw(self._running)
            self._running = None

    async def _tell(self, client: str, kind: str, data: dict[str, Any]) -> None:
        if socket := self._open.get(client):
            await socket.send_json({"type": kind, "data": data})

    async def _draw(self, one: list[Any]) -> None:
        _, task, nodes, extra, out = one
        client, self._stop = extra.get("client_id", ""), False
        messages: list[Any] = [["execution_start", {"prompt_id": task}]]
        outputs: dict[str, Any] = {}
        told, failed = {"prompt_id": task}, ""
        await self._tell(client, "execution_start", told)
        for node in (node for node in nodes if nodes[node]["class_type"] in DRAWING):
            await self._tell(client, "executing", {**told, "node": node})
            for step in range(TOLD):
                await asyncio.sleep(self.step_seconds)
                if self._stop:
                    break
                if self.cutting and client in self._open:
                    transport = self._open.pop(client)._req.transport  # type: ignore[union-attr]
                    assert transport
                    transport.abort()
                await self._tell(
                    client, "progress", {**told, "node": node, "value": step + 1, "max": TOLD}
                )
                if socket := self._open.get(client):
                    frame = picture(f"{task}{step}", (32, 32), "JPEG")
                    await socket.send_bytes(struct.pack(">II", 1, 1) + frame)
        if self._stop:
            failed = "execution_interrupted"
            messages.append([failed, {**told, "node_id": "sampler", "executed": []}])
        elif self.failing:
            failed = "execution_error"
            kind, words = self.failing
            messages.append([failed, {
                **told, "node_id": "sampler", "node_type": "KSampler", "exception_type": kind,
                "exception_message": words, "traceback": [],
            }])  # fmt: skip
        else:
            self.drew.append(nodes)
            for node in out:
                outputs[node] = {"images": [self._kept(nodes, node)]}
                await self._tell(client, "executed", {**told, "node": node, **outputs[node]})
            messages.append(["execution_success", told])
            await self._tell(client, "execution_success", told)
        if failed:
            await self._tell(client, *messages[-1])
        self._history[task] = {
            "prompt": one, "outputs": outputs,
            "status": {"status_str": "error" if failed else "success", "completed": not failed,
                       "messages": messages},
        }  # fmt: skip
        await self._tell(client, "executing", {**told, "node": None})

    def _kept(self, nodes: dict[str, Any], node: str) -> dict[str, str]:
        kind = OUTPUTS[nodes[node]["class_type"]]
        name = f"ComfyUI_{len(self.files):05}_.png"
        told = json.dumps(nodes, sort_keys=True)
        self.files[kind, "", name] = picture(told + node, _size(nodes))
        return {"filename": name, "subfolder": "", "type": kind}


def _size(nodes: dict[str, Any]) -> tuple[int, int]:
    for one in nodes.values():
        if one["class_type"].startswith("Empty"):
            return one["inputs"]["width"], one["inputs"]["height"]
    return 64, 64


def _words(nodes: dict[str, Any]) -> str:
    texts = [one["inputs"]["text"] for one in nodes.values() if "text" in one["inputs"]]
    return str(texts[0]) if texts else ""


def _place(value: str) -> tuple[str, str, str]:
    """Where a file lies that an input names, as `folder/name [temp]`."""
    kind = "input"
    for one in ("input", "output", "temp"):
        if value.endswith(f" [{one}]"):
            kind, value = one, value.removesuffix(f" [{one}]")
    folder, _, name = value.rpartition("/")
    return kind, folder, name
