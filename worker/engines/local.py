"""The local engine: any Stable-Diffusion-family folder or hub id, through diffusers.

It runs in the engine process alone, as everything that imports torch does.
"""

import contextlib
import gc
import inspect
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from diffusers import (
    AutoPipelineForImage2Image,
    AutoPipelineForInpainting,
    AutoPipelineForText2Image,
    schedulers,
)
from PIL.Image import Image
from tqdm import tqdm

from core import samplers
from core.catalog import LANCZOS, Model, every_upscaler, gone_upscaler
from core.engine import (
    NOTHING,
    AskDifferently,
    GiveUp,
    Report,
    ShowPreview,
    Stopped,
    TransientError,
)
from core.errors import report as report_fault
from core.languages import mark, tr
from core.options import Mode, Request
from worker import frames, previews, safety, wording
from worker.adapters import Adapters, Styles, Vaes
from worker.engines.memory import SPENT, short_of_memory, total_memory
from worker.frames import Frame
from worker.seamless import seamless
from worker.upscaler import PIECES, Upscaler

log = logging.getLogger("drawqueue")

# tqdm's own lock is a semaphore of the system, which a killed engine process would leave behind.
tqdm.set_lock(threading.RLock())

# diffusers' class and settings behind each of A1111's names
# (huggingface/diffusers:docs/source/en/api/schedulers/overview.md).
SAMPLERS: Mapping[str, tuple[str, dict[str, Any]]] = MappingProxyType(
    {
        "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
        "DPM++ 2M SDE": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        "DPM++ SDE": ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        # Not the ancestral one, which diffusers lacks: the nearest that it has.
        "DPM++ 2S a": ("DPMSolverSinglestepScheduler", {}),
        "Euler": ("EulerDiscreteScheduler", {}),
        "Euler a": ("EulerAncestralDiscreteScheduler", {}),
        "Heun": ("HeunDiscreteScheduler", {}),
        "LMS": ("LMSDiscreteScheduler", {}),
        "DPM2": ("KDPM2DiscreteScheduler", {}),
        "DPM2 a": ("KDPM2AncestralDiscreteScheduler", {}),
        "UniPC": ("UniPCMultistepScheduler", {}),
        "DDIM": ("DDIMScheduler", {}),
        "DEIS": ("DEISMultistepScheduler", {}),
        "PNDM": ("PNDMScheduler", {}),
        "LCM": ("LCMScheduler", {}),
    }
)
SCHEDULES: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "": {},
        "Karras": {"use_karras_sigmas": True},
        "Exponential": {"use_exponential_sigmas": True},
        "Beta": {"use_beta_sigmas": True},
        "Uniform": {"timestep_spacing": "trailing"},
    }
)


# What is tried where memory does not suffice, each on top of those before; and what the card says.
RUNGS = (
    ("free", mark("Short of memory: making room.")),
    ("slices", mark("Short of memory: drawing in smaller slices.")),
    ("tiles", mark("Short of memory: drawing in tiles.")),
    ("offload", mark("Short of memory: using the computer's own memory, which is slower.")),
    ("one by one", mark("Short of memory: drawing one picture after the other.")),
)


class LocalDiffusers:
    """Keeps pipelines warm on one device, dropping the least used when memory asks."""

    def __init__(self, device: str, threads: int, memory_gb: float) -> None:
        self.device = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
        if self.device == "cpu" and threads:
            torch.set_num_threads(threads)
        self.memory = memory_gb * 1e9 or total_memory(self.device) * 0.8
        self.warm: OrderedDict[str, Any] = OrderedDict()
        # By model: pixels that did not fit, and the rung on which they did.
        self.thrift: dict[str, tuple[int, int]] = {}
        # The host's upscaler, and when its file was written.
        self.upscaler: tuple[Upscaler, int] | None = None

    def load(self, model: Model, report: Callable[[str, float], None]) -> None:
        self._pipeline(model, report)

    @property
    def held(self) -> list[str]:
        return list(self.warm)

    def draw(
        self, model: Model, request: Request, report: Report,
        pictures: Mapping[str, Image] = NOTHING, show: ShowPreview | None = None,
    ) -> list[Image]:  # fmt: skip
        if request.mode == Mode.UPSCALE:
            return [self._enlarged(pictures[request.sources[0]], request, report)]
        frame = frames.laid(request, pictures) if request.begun else None
        if frame and int(request.steps * request.strength) < 1:
            # Not one step is left to leave it by.
            return [frame.image.copy() for _ in request.seeds]
        pipeline = self._pipeline(model, lambda _name, _share: None)
        if wording.unheard(pipeline, request.prompt, request.negative_prompt) and not report(
            0.0, tr("{model} knows no weights of words: they are drawn alike.", model=model.name)
        ):
            raise Stopped
        work = round(request.width * request.height * request.count * request.hires**2)
        least, known = self.thrift.get(model.source, (work, 0))
        rungs = RUNGS if request.count > 1 else RUNGS[:-1]
        first = min(known, len(rungs)) if work >= least else 0
        fault, spent = "", False
        with contextlib.ExitStack() as undone:
            undone.enter_context(pipeline.adapters.on(model, request.loras))
            undone.enter_context(pipeline.vaes.on(model, request.vae))
            liked = [pictures[key] for key in request.sources if request.style_strength]
            styled = undone.enter_context(pipeline.styles.on(
                model, liked[-1:] if request.mode == Mode.STYLE else liked, request.style_strength
            ))  # fmt: skip
            undone.enter_context(_as_it_was(pipeline, self.device))
            undone.enter_context(previews.shown_to(show))
            tiling = undone.enter_context(seamless(pipeline, model)) if request.tile else None
            for rung in range(len(rungs) + 1):
                if rung and not self._save_memory(pipeline, rungs[rung - 1][0], request):
                    continue
                if rung < first:
                    continue
                if rung and not report(0.0, tr(rungs[rung - 1][1])):
                    raise Stopped
                try:
                    images = self._images(
                        pipeline, request, frame, styled, report, tiling, rung == len(RUNGS)
                    )
                except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                    if not short_of_memory(error):
                        raise
                    # Only when the error is forgotten, at this block's end, so are its tensors.
                    fault = report_fault(f"out of memory, rung {rung}", error)
                    spent = spent or any(words in str(error) for words in SPENT)
                else:
                    if rung:
                        self.thrift[model.source] = (work, rung)
                    return images
        self._forget_all()
        refused = AskDifferently(
            tr(
                "There was not enough memory for this, even in small pieces. "
                "Ask for a smaller or a single picture. (fault {fault})",
                fault=fault,
            )
        )
        refused.spent = spent
        raise refused

    def _images(
        self, pipeline: Any, request: Request, frame: Frame | None, styled: dict[str, Any],
        report: Report, tiling: Callable[[float], None] | None, one_by_one: bool,
    ) -> list[Image]:  # fmt: skip
        """The pictures of a request, in one batch or one after the other."""
        batches = [[seed] for seed in request.seeds] if one_by_one else [list(request.seeds)]
        images: list[Image] = []
        for done, seeds in enumerate(batches):

            def share_of_all(share: float, words: str = "", done: int = done) -> bool:
                if tiling:
                    tiling(share)
                return report((done + share) / len(batches), words)

            if tiling:
                tiling(0.0)
            images += _batch(pipeline, request, frame, styled, seeds, share_of_all)
        return images

    def _enlarged(self, image: Image, request: Request, report: Report) -> Image:
        """A picture made larger by what the request names."""
        if request.upscaler in ("", LANCZOS):
            return frames.enlarged(image, request)
        weights = every_upscaler().get(request.upscaler)
        if weights is None:
            raise AskDifferently(gone_upscaler(request.upscaler))
        written = weights.stat().st_mtime_ns if weights.is_file() else 0
        if not self.upscaler or (self.upscaler[0].weights, self.upscaler[1]) != (weights, written):
            self.upscaler = None
            self.upscaler = Upscaler(weights, self.device), written
        size = request.width, request.height
        for piece in PIECES:
            try:
                return self.upscaler[0].enlarged(image, size, piece, report)
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                if not short_of_memory(error):
                    raise
                fault = report_fault(f"out of memory, pieces of {piece}", error)
            self._forget_all()
            if not report(0.0, tr(RUNGS[0][1])):
                raise Stopped
        raise AskDifferently(
            tr(
                "There was not enough memory to make this picture so large. (fault {fault})",
                fault=fault,
            )
        )

    def _save_memory(self, pipeline: Any, rung: str, request: Request) -> bool:
        """Do what a rung says; False where this pipeline or device cannot."""
        match rung:
            case "free":
                for source in [one for one, warm in self.warm.items() if warm is not pipeline]:
                    del self.warm[source]
                self._empty()
            # Slices know nothing of a style.
            case "slices" if not request.style_strength and hasattr(
                pipeline, "enable_attention_slicing"
            ):
                pipeline.enable_attention_slicing("max")
            # Pieces of a decoder's do not meet at the picture's edges.
            case "tiles" if not request.tile and hasattr(
                getattr(pipeline, "vae", None), "enable_tiling"
            ):
                pipeline.vae.enable_tiling()
                pipeline.vae.enable_slicing()
            case "offload" if self.device != "cpu":
                pipeline.enable_model_cpu_offload(device=self.device)
                self._empty()
            case "one by one":
                self._empty()
            case _:
                return False
        return True

    def _pipeline(self, model: Model, report: Callable[[str, float], None]) -> Any:
        if model.source in self.warm:
            self.warm.move_to_end(model.source)
            return self.warm[model.source]
        report(model.name, 0.0)
        numbers = model.family.numbers if self.device.startswith("cuda") else "float32"
        try:
            pipeline = AutoPipelineForText2Image.from_pretrained(
                model.source, dtype=getattr(torch, numbers), **safety.left_out(model.source)
            )
        except (OSError, ValueError, KeyError) as error:
            fault = report_fault(f"cannot load {model.source}", error)
            raise GiveUp(
                tr(
                    "The model {name} could not be loaded; the host has to look. (fault {fault})",
                    name=model.name, fault=fault,
                )
            ) from error  # fmt: skip
        report(model.name, 0.7)
        self._make_room(_size(pipeline))
        pipeline.set_progress_bar_config(disable=True)
        # Where there is but one, it is the model's own.
        several = len(model.family.samplers) > 1
        kind = None if several else type(pipeline.scheduler)
        pipeline.sampled_by = partial(_scheduler, kind, pipeline.scheduler.config)
        pipeline.adapters, pipeline.vaes = Adapters(pipeline), Vaes(pipeline)
        pipeline.styles = Styles(pipeline)
        try:
            pipeline.to(self.device)
        except torch.OutOfMemoryError as error:
            self._forget_all()
            raise TransientError(
                tr("There was no memory to load {model}.", model=model.name)
            ) from error
        self.warm[model.source] = pipeline
        report(model.name, 1.0)
        return pipeline

    def _make_room(self, needed: int) -> None:
        while self.warm and needed + sum(map(_size, self.warm.values())) > self.memory:
            name, _ = self.warm.popitem(last=False)
            log.info("dropped %s to make room", name)
            self._empty()

    def _forget_all(self) -> None:
        self.warm.clear()
        self._empty()

    def _empty(self) -> None:
        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()


def _batch(
    pipeline: Any, request: Request, frame: Frame | None, styled: dict[str, Any],
    seeds: Sequence[int], report: Report,
) -> list[Image]:  # fmt: skip
    """One picture for each seed, drawn at once."""
    if frame is None:
        size = {"width": request.width, "height": request.height, **styled}
        if request.hires == 1:
            return _denoised(pipeline, request, seeds, report, size)
        small = request.steps / request.passes
        images = _denoised(
            pipeline, request, seeds, lambda share, _words="": report(share * small), size
        )
        begun: dict[str, Any] = {
            "image": [frames.grown(image, request) for image in images],
            "strength": max(request.hires_strength, 1 / request.steps),
            **styled,
        }
        return _denoised(
            _derived(AutoPipelineForImage2Image, pipeline), request, seeds,
            lambda share, _words="": report(small + share * (1 - small)), begun,
        )  # fmt: skip
    begun = {
        # One for each, so that each is encoded with the chance of its own seed.
        "image": [frame.image] * len(seeds),
        "strength": request.strength,
        **styled,
    }
    if frame.mask is None:
        return _denoised(_derived(AutoPipelineForImage2Image, pipeline), request, seeds, report,
                         begun)  # fmt: skip
    begun["mask_image"] = [frame.painted] * len(seeds)
    painter = _derived(AutoPipelineForInpainting, pipeline)
    return [frame.kept(one) for one in _denoised(painter, request, seeds, report, begun)]


def _derived(kind: Any, pipeline: Any) -> Any:
    """A pipeline for another task, with the very same weights."""
    try:
        other = kind.from_pipe(pipeline)
    except ValueError as error:
        fault = report_fault(f"{type(pipeline).__name__} does not do this", error)
        raise AskDifferently(
            tr("This model cannot begin with a picture. (fault {fault})", fault=fault)
        ) from error
    other.set_progress_bar_config(disable=True)
    for name in ("sampled_by", "_all_hooks", "_offload_device"):
        if hasattr(pipeline, name):
            setattr(other, name, getattr(pipeline, name))
    return other


def _denoised(
    pipeline: Any, request: Request, seeds: Sequence[int], report: Report, begun: dict[str, Any]
) -> list[Image]:
    """Run a pipeline once from what is begun with. Raises Stopped."""
    going = True

    def step(pipe: Any, index: int, _moment: Any, values: dict[str, Any]) -> dict[str, Any]:
        nonlocal going
        # Samplers of second order call twice a step: the share never passes 1.
        share = min(1.0, (index + 1) / int(pipe.num_timesteps))
        going = report(share)
        if not going:
            pipe._interrupt = True
        else:
            under_way.offer(share)
        return values

    pipeline.scheduler = pipeline.sampled_by(request.sampler)
    under_way = previews.Latents(pipeline, request.width / request.height)
    told = wording.told(
        pipeline, request.prompt, request.negative_prompt, request.clip_skip, len(seeds)
    )
    known = inspect.signature(pipeline.__call__).parameters
    if "negative_prompt" not in known:
        told.pop("negative_prompt", None)
    if "image" in begun and "width" in known:
        # Some have a size of their own, whatever they begin with.
        begun = dict(zip(("width", "height"), begun["image"][0].size, strict=True)) | begun
    # One CPU generator a picture: picture i is the same alone and in a batch.
    chances = seeds if request.chaos == 100 else [request.seed] * len(seeds)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in chances]
    if request.chaos < 100 and "image" not in begun:
        begun = {**begun, "latents": _spread(pipeline, request, seeds, generators)}
    with torch.inference_mode():
        images: list[Image] = pipeline(
            num_inference_steps=request.steps,
            guidance_scale=request.guidance,
            generator=generators,
            callback_on_step_end=step,
            **told,
            **begun,
        ).images
    if not going:
        raise Stopped
    return images


def _spread(
    pipeline: Any, request: Request, seeds: Sequence[int], generators: Sequence[torch.Generator]
) -> torch.Tensor:
    """The noise that pictures begin with: that of the seed, turned so far towards each one's own.

    As A1111's variation seeds have it (modules/processing.py: create_random_tensors, slerp).
    """
    network = getattr(pipeline, "unet", None) or pipeline.transformer
    cell = pipeline.vae_scale_factor
    shape = (1, network.config.in_channels, request.height // cell, request.width // cell)
    found, share = [], request.chaos / 100
    for seed, generator in zip(seeds, generators, strict=True):
        # In the numbers that the pipeline would draw it in.
        first = torch.randn(shape, generator=generator, dtype=network.dtype)
        own = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed),
                          dtype=network.dtype)  # fmt: skip
        one, other = first.double(), own.double()
        between = (one * other).sum() / (one.norm() * other.norm())
        angle = between.clamp(-1, 1).acos()
        if angle < 1e-6:
            found.append(first)
            continue
        turned = ((1 - share) * angle).sin() * one + (share * angle).sin() * other
        found.append((turned / angle.sin()).to(first.dtype))
    return torch.cat(found).to(pipeline._execution_device)


@contextlib.contextmanager
def _as_it_was(pipeline: Any, device: str) -> Iterator[None]:
    """Whatever was done to a pipeline for want of memory is undone for the next drawing."""
    parts = [part for part in pipeline.components.values() if hasattr(part, "attn_processors")]
    kept = [dict(part.attn_processors) for part in parts]
    vae = getattr(pipeline, "vae", None)
    tiled = {
        name: getattr(vae, name) for name in ("use_tiling", "use_slicing") if hasattr(vae, name)
    }
    try:
        yield
    finally:
        for part, processors in zip(parts, kept, strict=True):
            if part.attn_processors != processors:
                part.set_attn_processor(processors)
        for name, value in tiled.items():
            setattr(vae, name, value)
        if getattr(pipeline, "_offload_device", None) is not None:
            pipeline.remove_all_hooks()
            pipeline._offload_device = None
            pipeline.to(device)


def _scheduler(kind: Any, config: Any, sampler: str) -> Any:
    if kind:
        return kind.from_config(config)
    name, schedule = samplers.parts(sampler)
    called, changes = SAMPLERS[name]
    made: Any = getattr(schedulers, called)
    return made.from_config(config, **changes, **SCHEDULES[schedule])


def _size(pipeline: Any) -> int:
    """Bytes of a pipeline's weights, and of what was added to it."""
    held = [one for added in ("vaes", "styles") if hasattr(pipeline, added)
            for one in getattr(pipeline, added).held]  # fmt: skip
    parts = {one for one in (*pipeline.components.values(), *held)
             if isinstance(one, torch.nn.Module)}  # fmt: skip
    return sum(p.numel() * p.element_size() for part in parts for p in part.parameters())
