"""What a drawing under way looks like: small, seldom, and never at the drawing's expense.

The latents that the scheduler believes it will end at are pooled to a few cells and decoded by
the pipeline's own VAE: any VAE will do, without weights of its own. Nothing here draws from a
generator or writes to what the pipeline uses: the finished picture is the same, bit for bit.
"""

import contextlib
import functools
import io
import math
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

from PIL import Image

from core.engine import ShowPreview
from core.errors import report
from core.settings import Drawing, read

# The first and each further one; one that comes as late as that before the end helps nobody.
EVERY_SECONDS = 2.0
# Before so much is drawn there is little to be seen.
FIRST = 0.1
# Of a drawing's time, at most.
COST = 0.02
# Latent cells along the longer side, each some 8 pixels of the decoder's: on a CPU, and elsewhere;
# of several pictures each has fewer.
CELLS, MORE_CELLS, OF_SEVERAL = 16, 32, 3 / 4
# Pixels of one picture's longer side, as it is shown.
SIDE = 256
QUALITY = 80


def wanted() -> bool:
    """Whether this process makes any: what must not be seen before it was looked at says no."""
    return read(Drawing).previews


_show: ContextVar[ShowPreview | None] = ContextVar("show", default=None)


@contextlib.contextmanager
def shown_to(show: ShowPreview | None) -> Iterator[None]:
    """Whoever draws in here has its previews shown, if `show` is given."""
    before = _show.set(show)
    try:
        yield
    finally:
        _show.reset(before)


class Clock:
    """Says when the next preview is due, by the time that passed and what one costs."""

    def __init__(self) -> None:
        self.begun = self.last = time.monotonic()

    def due(self, share: float, cost: float = 0.0) -> bool:
        """`cost` is how many seconds one takes, as far as one knows."""
        moment = time.monotonic()
        if share < FIRST or moment - self.last < max(EVERY_SECONDS, cost / COST):
            return False
        left = (moment - self.begun) * (1 - share) / share
        return left >= EVERY_SECONDS

    def made(self) -> None:
        """One was made just now."""
        self.last = time.monotonic()


def sheet(images: Sequence[Image.Image]) -> Image.Image:
    """Small pictures of one size as one, row by row, with nothing between them."""
    width, height = images[0].size
    scale = SIDE / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    made = Image.new("RGB", (columns * size[0], rows * size[1]), "white")
    for index, image in enumerate(images):
        place = index % columns * size[0], index // columns * size[1]
        made.paste(image.resize(size, Image.Resampling.BICUBIC), place)
    return made


def encoded(image: Image.Image) -> bytes:
    """A preview as a file of some kilobytes."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


# By decoder: the seconds that a picture took last; for ever where it went wrong once.
_seconds: WeakKeyDictionary[Any, float] = WeakKeyDictionary()


class Latents:
    """Previews of one run of a diffusers pipeline, whose scheduler is this run's alone."""

    def __init__(self, pipeline: Any, ratio: float) -> None:
        """`ratio` is the drawing's width over its height."""
        self._pipeline, self._ratio = pipeline, ratio
        self._clock = Clock()
        self._said: tuple[Any, ...] = ()
        seen = getattr(pipeline, "vae", None) is not None
        self._show = _show.get() if seen else None
        if self._show:
            self._listen(pipeline.scheduler)

    def _listen(self, scheduler: Any) -> None:
        """Keep what the scheduler was told last and what it answered: callbacks are not told."""
        step = scheduler.step

        # Pipelines look at the signature, which stays as it was.
        @functools.wraps(step)
        def heard(out: Any, moment: Any, sample: Any, *given: Any, **named: Any) -> Any:
            answer = step(out, moment, sample, *given, **named)
            self._said = out, moment, sample, answer
            return answer

        scheduler.step = heard

    def offer(self, share: float) -> None:
        """Show what is drawn by now, where it is time for it; never raises."""
        if not (self._show and self._said):
            return
        vae, count = self._pipeline.vae, len(self._said[2])
        if not self._clock.due(share, _seconds.get(vae, 0.0) * count) or _saving(self._pipeline):
            return
        begun = time.monotonic()
        try:
            self._show(sheet(self._decoded(self._foreseen())))
        except Exception as error:  # The drawing goes on without.
            report(f"no previews of {type(self._pipeline).__name__} from now on", error)
            _seconds[vae] = math.inf
            return
        _seconds[vae] = (time.monotonic() - begun) / count
        self._clock.made()

    def _foreseen(self) -> Any:
        """The latents without the noise that is still in them, as this step foresees them."""
        out, moment, sample, answer = self._said
        if isinstance(answer, tuple) and len(answer) > 1:
            return answer[1]
        scheduler = self._pipeline.scheduler
        alphas = getattr(scheduler, "alphas_cumprod", None)
        if alphas is None:
            # Flow matching: the noise goes down in a straight line, and so does the clock.
            return sample - float(moment) / scheduler.config.num_train_timesteps * out
        kind = scheduler.config.prediction_type
        if kind == "sample":
            return out
        alpha = float(alphas[int(moment)])
        signal, noise = math.sqrt(alpha), math.sqrt(1 - alpha)
        if kind == "v_prediction":
            return signal * sample - noise * out
        return (sample - noise * out) / max(signal, 1e-3)

    def _decoded(self, latents: Any) -> list[Image.Image]:
        """Small pictures of latents, by the pipeline's decoder."""
        import torch
        from torch.nn.functional import interpolate

        pipeline, vae = self._pipeline, self._pipeline.vae
        if latents.ndim == 3:
            latents = self._unpacked(latents)
        device = latents.device.type
        count, _, height, width = latents.shape
        cells = (CELLS if device == "cpu" else MORE_CELLS) * (OF_SEVERAL if count > 1 else 1)
        scale = cells / max(height, width)
        latents = latents.float()
        if scale < 1:
            size = max(1, round(height * scale)), max(1, round(width * scale))
            latents = interpolate(latents, size, mode="area")
        config = vae.config
        mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        if mean is not None and std is not None:
            spread, middle = (latents.new_tensor(one).view(1, -1, 1, 1) for one in (std, mean))
            latents = latents * spread / config.scaling_factor + middle
        else:
            shift = getattr(config, "shift_factor", None) or 0.0
            latents = latents / config.scaling_factor + shift
        # In half precision some VAEs overflow; bfloat16 has the range, on the same weights.
        wide = vae.dtype == torch.float16 and getattr(config, "force_upcast", False)
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=wide):
            pixels = vae.decode(latents.to(vae.dtype), return_dict=False)[0].float()
        if not torch.isfinite(pixels).all():
            raise ArithmeticError(f"{type(vae).__name__} overflows")
        levels = ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu()
        del pixels
        return [pipeline.image_processor.numpy_to_pil(one.numpy() / 255)[0] for one in levels]

    def _unpacked(self, latents: Any) -> Any:
        """Latents in rows and columns, of a family that has them in one row (Flux)."""
        pipeline = self._pipeline
        columns = round(math.sqrt(latents.shape[1] * self._ratio))
        cell = pipeline.vae_scale_factor * 2
        height, width = latents.shape[1] // columns * cell, columns * cell
        return pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor)


def _saving(pipeline: Any) -> bool:
    """Whether a pipeline is short of memory: then its decoder is left alone until the end."""
    tiled = getattr(pipeline.vae, "use_tiling", False)
    return bool(tiled or getattr(pipeline, "_offload_device", None) is not None)
