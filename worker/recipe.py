"""The recipe inside the picture: PNG text that other tools read, and ours."""

import io
import json
from dataclasses import asdict, dataclass

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from core.catalog import Model
from core.options import Request


@dataclass(frozen=True)
class Picture:
    """PNG bytes with the recipe in them, the seed, and the size in pixels."""

    png: bytes
    seed: int
    width: int
    height: int


def parameters(model: Model, request: Request, seed: int) -> str:
    """The recipe as AUTOMATIC1111 writes it under the PNG key `parameters`."""
    lines = [request.prompt]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    lines.append(
        f"Steps: {request.steps}, Sampler: {request.sampler}, CFG scale: {request.guidance:g}, "
        f"Seed: {seed}, Size: {request.width}x{request.height}, Model: {model.name}"
    )
    return "\n".join(lines)


def sealed(image: Image.Image, model: Model, request: Request, seed: int) -> Picture:
    """The image as PNG with its whole recipe inside."""
    notes = PngInfo()
    notes.add_itxt("parameters", parameters(model, request, seed))
    notes.add_itxt("drawqueue", json.dumps({**asdict(request), "seed": seed, "count": 1}))
    out = io.BytesIO()
    # Level 4 is a third of the default's time for a few per cent more bytes.
    image.save(out, "PNG", pnginfo=notes, compress_level=4)
    return Picture(out.getvalue(), seed, image.width, image.height)
