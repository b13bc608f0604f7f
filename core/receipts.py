"""The recipe inside a picture's file, for other tools and for ours, and how a picture looks.

PNG carries it as text (`parameters`, as AUTOMATIC1111 writes it, and our own JSON); JPEG and WebP
in EXIF. Who got a copy without it is helped by its looks.
"""

import base64
import contextlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from core import samplers
from core.catalog import meant
from core.options import OPTIONS, Mode, Request, typed
from core.proposals import escaped

OURS, THEIRS = "drawqueue", "parameters"
# EXIF 2.32: where a comment stands, and what may be said of a picture.
_EXIF, _COMMENT, _DESCRIPTION = 0x8769, 0x9286, 0x010E
_UNICODE = b"UNICODE\x00"
# Characters of a recipe that are read: prompts have 4,000.
MOST = 40_000
# A look is the mean colours of so many by so many fields.
LOOK = 8
# Of 256 shades, in the mean: a JPEG of quality 40, or of half the size, differs from its picture by
# 1.0 at most, two drawings of one prompt by 1.8 at least (tests/worker/test_receipts.py).
ALIKE = 1.4
# A copy's shape may be off by rounding.
OUT_OF_SHAPE = 0.03
# Pixels between the pictures of a grid.
GAP = 4


@dataclass(frozen=True)
class Receipt:
    """What a picture's file tells of it: options by name, and which generation it says it is of."""

    given: Mapping[str, Any]
    generation: int | None = None
    # Whether it began with another picture, which no file holds.
    begun: bool = False

    def line(self) -> str:
        """The line that asks for it again, without what its model knows nothing of."""
        lacks = meant(str(self.given.get("model", ""))).family.lacks
        given = {name: value for name, value in self.given.items() if name not in lacks}
        prompt = escaped(str(given.get("prompt", "")))
        return f"/imagine {typed({**given, 'prompt': prompt})}".strip()


@dataclass(frozen=True)
class Notes:
    """What is written into a file: AUTOMATIC1111's text, and our JSON."""

    theirs: str
    ours: str

    def png(self) -> PngInfo:
        notes = PngInfo()
        notes.add_itxt(THEIRS, self.theirs)
        notes.add_itxt(OURS, self.ours)
        return notes

    def exif(self) -> Image.Exif:
        exif = Image.Exif()
        exif[_DESCRIPTION] = self.ours  # JSON is ASCII as it is written here.
        exif.get_ifd(_EXIF)[_COMMENT] = _UNICODE + self.theirs.encode("utf-16-be", "replace")
        return exif


def notes(generation: int, request: Request, seed: int) -> Notes:
    """The notes of one picture of a generation."""
    alone = request.alone(seed)
    # What was to write its prompt has done so, and says nothing to who draws it again.
    told = {name: value for name, value in alone.told.items() if name != "enhance"}
    return Notes(parameters(alone), json.dumps({**told, "id": generation}))


def parameters(request: Request) -> str:
    """The recipe as AUTOMATIC1111 writes it (modules/processing.py: create_infotext)."""
    loras = "".join(f" <lora:{name}:{weight:g}>" for name, weight in request.loras)
    lines = [request.prompt + loras]
    # Of an upscaled one, that of the picture that was drawn.
    width, height = request.width // request.factor, request.height // request.factor
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    facts: dict[str, Any] = {
        "Steps": request.steps,
        "Sampler": request.sampler,
        "CFG scale": f"{request.guidance:g}",
        "Seed": request.seed,
        "Size": f"{width}x{height}",
        "Model": request.model,
    }
    if request.begun and request.mode != Mode.UPSCALE:
        facts["Denoising strength"] = f"{request.strength:g}"
    if request.style_strength or request.mode == Mode.STYLE:
        # For us: others know no such fact, and pass over it.
        facts["Style strength"] = f"{request.style_strength:g}"
    if request.factor > 1:
        facts["Postprocess upscale by"] = request.factor
        facts["Postprocess upscaler"] = request.upscaler
    if request.chaos != 100:
        facts["Variation seed"] = request.seeds[0]
        facts["Variation seed strength"] = f"{request.chaos / 100:g}"
    if request.vae:
        facts["VAE"] = request.vae
    if request.clip_skip:
        # A1111 counts the layer that is used, diffusers those that are left out.
        facts["Clip skip"] = request.clip_skip + 1
    if request.tile:
        facts["Tiling"] = True
    if request.hires > 1:
        facts["Hires upscale"] = f"{request.hires:g}"
    return "\n".join([*lines, ", ".join(f"{name}: {value}" for name, value in facts.items())])


def copied(info: Mapping[Any, Any], count: int = 1) -> Notes | None:
    """The notes that a PNG of ours carries, for another file; of a grid, for so many pictures."""
    if OURS not in info or THEIRS not in info:
        return None
    return Notes(info[THEIRS], json.dumps({**json.loads(info[OURS]), "count": count}))


def found(image: Image.Image) -> str:
    """The recipe that an opened picture carries, ours before others', as text; empty for none."""
    info = image.info
    if isinstance(text := info.get(OURS) or info.get(THEIRS), str):
        return text[:MOST]
    try:
        exif = image.getexif()
        description, comment = exif.get(_DESCRIPTION), exif.get_ifd(_EXIF).get(_COMMENT)
    except Exception:  # Whatever stands where a camera writes.
        return ""
    if isinstance(description, str) and description.startswith("{"):
        return description[:MOST]
    if isinstance(comment, bytes) and comment.startswith(_UNICODE):
        return comment.removeprefix(_UNICODE).decode("utf-16-be", "replace")[:MOST]
    return ""


def read(text: str) -> Receipt | None:
    """What a recipe says, whoever wrote it; None where it is none."""
    try:
        told = json.loads(text)
    except ValueError:
        return infotext(text)
    except RecursionError:
        return None
    if not isinstance(told, dict) or not isinstance(told.get("prompt"), str):
        return None
    given = {
        option.name: told[option.name] for option in OPTIONS
        if option.name in told and option.name != "enhance"
    }  # fmt: skip
    given = {name: value for name, value in given.items() if isinstance(value, str | int | float)}
    if isinstance(loras := told.get("loras"), list):
        pairs = [one for one in loras if isinstance(one, list) and len(one) == 2]
        given["lora"] = ", ".join(f"{name}:{weight}" for name, weight in pairs)
    factor = told.get("factor")
    if isinstance(factor, int) and factor > 1:
        # It asks for the picture that was made larger.
        for name in ("width", "height"):
            if isinstance(given.get(name), int):
                given[name] //= factor
    number = told.get("id")
    ours = isinstance(number, int) and 0 < number < 2**31
    begun = told.get("mode", Mode.TEXT) != Mode.TEXT
    for name in ("strength", "style_strength", "zoom", "pan"):
        given.pop(name, None)
    return Receipt(given, number if ours else None, begun)


# AUTOMATIC1111's words for our options.
_NAMES = {
    "steps": "steps", "cfg scale": "guidance", "seed": "seed",
    "vae": "vae", "clip skip": "clip_skip", "tiling": "tile", "hires upscale": "hires",
    "variation seed": "subseed",
}  # fmt: skip


def infotext(text: str) -> Receipt | None:
    """A recipe as AUTOMATIC1111 and those who follow it write it."""
    match = re.search(r"(?:^|\n)(Steps: \d+,[^\n]*)\s*$", text)
    if not match:
        return None
    prompt, _, negative = text[: match.start()].partition("\nNegative prompt:")
    loras = re.findall(r"<lora:([^:<>]+):(-?[\d.]+)>", prompt)
    given: dict[str, Any] = {
        "prompt": re.sub(r"\s*<lora:[^<>]*>", "", prompt).strip(),
        "negative_prompt": negative.strip(),
        "lora": ", ".join(f"{name}:{weight}" for name, weight in loras),
    }
    pairs = re.findall(r"([\w ]+): (\"[^\"]*\"|[^,]*)", match[1])
    facts = {name.strip().lower(): value.strip() for name, value in pairs}
    given |= {ours: facts[theirs] for theirs, ours in _NAMES.items() if theirs in facts}
    # Newer ones write the schedule apart.
    named = f"{facts.get('sampler', '')} {facts.get('schedule type', '')}"
    if sampler := samplers.sampler(named) or samplers.sampler(facts.get("sampler", "")):
        given["sampler"] = sampler
    if str(given.get("clip_skip", "")).isdigit():
        given["clip_skip"] = max(0, int(given["clip_skip"]) - 1)
    with contextlib.suppress(KeyError, ValueError):
        given["chaos"] = float(facts["variation seed strength"]) * 100
    if size := re.fullmatch(r"(\d+)x(\d+)", facts.get("size", "")):
        given |= {"width": int(size[1]), "height": int(size[2])}
    over = "denoising strength" in facts and "hires upscale" not in facts
    return Receipt(given, begun=over or "style strength" in facts)


@dataclass(frozen=True)
class Picture:
    """PNG bytes with the recipe in them, the seed, the size in pixels, and its look."""

    png: bytes
    seed: int
    width: int
    height: int
    look: str


def sealed(image: Image.Image, generation: int, request: Request, seed: int) -> Picture:
    """The image as PNG with its whole recipe inside."""
    out = io.BytesIO()
    # Level 4 is a third of the default's time for a few per cent more bytes.
    image.save(out, "PNG", pnginfo=notes(generation, request, seed).png(), compress_level=4)
    return Picture(out.getvalue(), seed, image.width, image.height, look(image))


def bare(data: bytes) -> bytes:
    """A PNG without its recipe."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.save(out, "PNG", compress_level=4)
    return out.getvalue()


def look(image: Image.Image) -> str:
    """How a picture looks, in 256 characters: the mean colours of eight by eight fields.

    Bits of a difference hash tell photographs apart, but not two crowns on one plain ground.
    """
    small = image.convert("RGB").resize((LOOK, LOOK), Image.Resampling.BILINEAR)
    return base64.b64encode(small.tobytes()).decode()


def apart(one: str, other: str) -> float:
    """How far two looks differ, in shades of 256, in the mean."""
    pairs = zip(base64.b64decode(one), base64.b64decode(other), strict=True)
    return sum(abs(left - right) for left, right in pairs) / (LOOK * LOOK * 3)


@dataclass(frozen=True)
class Known:
    """How one finished picture looks, its size, and its generation."""

    generation: int
    look: str
    width: int
    height: int


def nearest(image: Image.Image, known: Sequence[Known]) -> int | None:
    """The generation of the picture that looks most like an image; None where none is like it.

    The image may be a grid of several: it then looks like the first of them.
    """
    looks = {size: _looks_of(image, *size) for size in {(one.width, one.height) for one in known}}
    best, least = None, ALIKE
    for one in known:
        for wanted in looks[one.width, one.height]:
            difference = apart(one.look, wanted)
            if difference < least:
                best, least = one.generation, difference
    return best


def _looks_of(image: Image.Image, width: int, height: int) -> list[str]:
    """The looks of what may be a picture of that size, or the first of a grid of such."""
    looks = []
    for columns, rows in ((1, 1), (2, 1), (2, 2)):
        across, down = columns * (width + GAP) - GAP, rows * (height + GAP) - GAP
        if abs(image.width * down / (image.height * across) - 1) < OUT_OF_SHAPE:
            cell = image.width * width / across, image.height * height / down
            looks.append(look(image.crop((0, 0, round(cell[0]) or 1, round(cell[1]) or 1))))
    return looks
