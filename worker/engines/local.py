"""The local engine: any Stable-Diffusion-family folder or hub id, through diffusers.

Only this file imports torch, and only in the engine process.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from diffusers import AutoPipelineForText2Image, schedulers
from tqdm import tqdm

from core.catalog import Model
from core.engine import AskDifferently, GiveUp, Picture, Report, Stopped, TransientError
from core.errors import report as report_fault
from core.options import Request
from worker.recipe import sealed

log = logging.getLogger("drawqueue")

# tqdm's own lock is a semaphore of the system, which a killed engine process would leave behind.
tqdm.set_lock(threading.RLock())

# diffusers' class and settings behind each of A1111's names
# (huggingface/diffusers:docs/source/en/api/schedulers/overview.md).
SAMPLERS: Mapping[str, tuple[str, dict[str, Any]]] = MappingProxyType(
    {
        "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
        "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        "DPM++ 2M SDE": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        "DPM++ 2M SDE Karras": (
            "DPMSolverMultistepScheduler",
            {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
        ),
        "Euler": ("EulerDiscreteScheduler", {}),
        "Euler a": ("EulerAncestralDiscreteScheduler", {}),
        "Heun": ("HeunDiscreteScheduler", {}),
        "DPM2": ("KDPM2DiscreteScheduler", {}),
        "DPM2 a": ("KDPM2AncestralDiscreteScheduler", {}),
        "UniPC": ("UniPCMultistepScheduler", {}),
        "DDIM": ("DDIMScheduler", {}),
        "DEIS": ("DEISMultistepScheduler", {}),
        "PNDM": ("PNDMScheduler", {}),
        "LCM": ("LCMScheduler", {}),
    }
)


class LocalDiffusers:
    """Keeps pipelines warm on one device, dropping the least used when memory asks."""

    def __init__(self, device: str, threads: int, memory_gb: float) -> None:
        self.device = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
        if self.device == "cpu" and threads:
            torch.set_num_threads(threads)
        self.memory = memory_gb * 1e9 or _memory(self.device) * 0.8
        self.warm: OrderedDict[str, Any] = OrderedDict()

    def load(self, model: Model, report: Callable[[str, float], None]) -> None:
        self._pipeline(model, report)

    def draw(self, model: Model, request: Request, report: Report) -> list[Picture]:
        pipeline = self._pipeline(model, lambda _name, _share: None)
        pipeline.scheduler = _scheduler(pipeline.scheduler_config, request.sampler)
        total = request.steps
        going = True

        def step(pipe: Any, index: int, _moment: Any, values: dict[str, Any]) -> dict[str, Any]:
            nonlocal going
            # Samplers of second order call twice a step: the share never passes 1.
            going = report(min(1.0, (index + 1) / max(total, int(pipe.num_timesteps))))
            if not going:
                pipe._interrupt = True
            return values

        try:
            with torch.inference_mode():
                images = pipeline(
                    prompt=[request.prompt] * request.count,
                    negative_prompt=[request.negative_prompt] * request.count,
                    width=request.width,
                    height=request.height,
                    num_inference_steps=request.steps,
                    guidance_scale=request.guidance,
                    # One CPU generator a picture: picture i is the same alone and in a batch.
                    generator=[torch.Generator("cpu").manual_seed(seed) for seed in request.seeds],
                    callback_on_step_end=step,
                ).images
        except torch.OutOfMemoryError as error:
            self._forget_all()
            fault = report_fault("out of memory", error)
            raise AskDifferently(
                f"The GPU ran out of memory. Ask for a smaller or a single picture. (fault {fault})"
            ) from error
        if not going:
            raise Stopped
        return [
            sealed(image, model, request, seed)
            for image, seed in zip(images, request.seeds, strict=True)
        ]

    def _pipeline(self, model: Model, report: Callable[[str, float], None]) -> Any:
        if model.source in self.warm:
            self.warm.move_to_end(model.source)
            return self.warm[model.source]
        report(model.name, 0.0)
        half = self.device.startswith("cuda")
        try:
            pipeline = AutoPipelineForText2Image.from_pretrained(
                model.source, dtype=torch.float16 if half else torch.float32
            )
        except (OSError, ValueError, KeyError) as error:
            fault = report_fault(f"cannot load {model.source}", error)
            raise GiveUp(
                f"The model {model.name} could not be loaded; the host has to look. (fault {fault})"
            ) from error
        report(model.name, 0.7)
        self._make_room(_size(pipeline))
        pipeline.set_progress_bar_config(disable=True)
        pipeline.scheduler_config = pipeline.scheduler.config
        try:
            pipeline.to(self.device)
        except torch.OutOfMemoryError as error:
            self._forget_all()
            raise TransientError(f"There was no memory to load {model.name}.") from error
        self.warm[model.source] = pipeline
        report(model.name, 1.0)
        return pipeline

    def _make_room(self, needed: int) -> None:
        while self.warm and needed + sum(map(_size, self.warm.values())) > self.memory:
            name, _ = self.warm.popitem(last=False)
            log.info("dropped %s to make room", name)
            if self.device.startswith("cuda"):
                torch.cuda.empty_cache()

    def _forget_all(self) -> None:
        self.warm.clear()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()


def _scheduler(config: Any, sampler: str) -> Any:
    name, changes = SAMPLERS[sampler]
    return getattr(schedulers, name).from_config(config, **changes)


def _size(pipeline: Any) -> int:
    """Bytes of a pipeline's weights."""
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(p.numel() * p.element_size() for part in parts for p in part.parameters())


def _memory(device: str) -> float:
    if device.startswith("cuda"):
        return float(torch.cuda.get_device_properties(device).total_memory)
    import os

    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
