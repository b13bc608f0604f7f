"""`make gallery`: docs/gallery.md, a real picture of the starter model for each thing it can do."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageDraw

from bots.pictures import GAP
from core import catalog, settings
from core.drawing import STRENGTHS
from core.flags import split_flags
from core.media import Source
from core.options import COMMAND_OF, Mode, Request, validate
from tests.tables import ROOT
from worker.engines.local import LocalDiffusers

PAGE, FOLDER = ROOT / "docs" / "gallery.md", ROOT / "docs" / "gallery"
CROWN = "a red crown on a blue background --seed 7"


@dataclass(frozen=True)
class Shown:
    """One thing: what is typed, which of those before it begins with, and what is said of it."""

    name: str
    typed: str
    words: str
    mode: Mode = Mode.TEXT
    source: str = ""
    mask: bool = False


THINGS = (
    Shown("imagine", CROWN, "A prompt becomes a picture."),
    Shown("count", f"{CROWN} --count 4", "Four of them, with U1–U4 and V1–V4 below."),
    Shown("chaos", f"{CROWN} --count 4 --chaos 20", "Four that stay near to the first."),
    Shown("weights", "a (red:1.5) crown on a [blue] background --seed 7", "Words weighed."),
    Shown("apart",
          "a star on a blue background::3 a star on a yellow background::1 --seed 7",
          "Two things in one prompt, the first three times as important."),
    Shown("negative", "a crown --no blue --seed 9", "What to keep out."),
    Shown("aspect", "a rocket on a purple background --ar 2:3 --seed 3", "Another shape."),
    Shown("tile", "a star on a blue background --tile --seed 5", "Laid side by side, twice."),
    Shown("hires", f"{CROWN} --hires 2", "Drawn small, then larger with more detail."),
    Shown("lora", "a fox, blueprint --lora blueprint:1 --seed 4", "A style learned apart."),
    Shown("remix-15", "a frog on a blue background --strength 0.15 --seed 7", "Near the picture.",
          Mode.REMIX, "imagine"),
    Shown("remix-25", "a frog on a blue background --strength 0.25 --seed 7", "Further.",
          Mode.REMIX, "imagine"),
    Shown("remix-60", "a frog on a blue background --strength 0.6 --seed 7", "Far from it.",
          Mode.REMIX, "imagine"),
    Shown("inpaint", "a star on a blue background --seed 7",
          "Painted where a mask is white (its left half); the rest is as it was, bit for bit.",
          Mode.INPAINT, "imagine", mask=True),
    Shown("zoom", "a red crown on a blue background --zoom 1.5 --seed 8",
          "Around the picture. The starter knows whole pictures of 128 pixels alone; larger models "
          "go on with what is there.", Mode.INPAINT, "imagine"),
    Shown("pan", "a star on a blue background --pan right --seed 8", "To one side.",
          Mode.INPAINT, "imagine"),
    Shown("blend", "a red frog on a blue background --strength 0.35 --seed 8",
          "One of several: of the crown, and of the frog that is far from it.", Mode.BLEND,
          "imagine remix-60"),
    Shown("subtle", "", "Another, near it.", Mode.REMIX, "imagine"),
    Shown("strong", "", "Another, further off.", Mode.REMIX, "imagine"),
    Shown("upscale", "", "Four times larger, by Lanczos with sharpening.", Mode.UPSCALE, "imagine"),
)  # fmt: skip
# What those are called that others begin with.
NUMBERS = {"imagine": 12, "remix-60": 15}


def mask_of(size: tuple[int, int]) -> Image.Image:
    """White on the left half."""
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rectangle((0, 0, size[0] // 2, size[1]), fill=255)
    return mask


def request_of(thing: Shown, made: Mapping[str, Image.Image], crown: Request) -> Request:
    """What a thing asks of the engine."""
    sources = []
    for name in thing.source.split():
        sources.append(Source(name, *made[name].size, generation=1))
    if thing.mask:
        sources.append(Source("mask", *made[thing.source].size))
    if thing.mode == Mode.UPSCALE:
        return catalog.upscaled(crown, sources[0], 4)
    if thing.name in dict(STRENGTHS):
        return replace(
            crown, mode=Mode.REMIX, sources=(thing.source,), seed=crown.seed + 3,
            strength=dict(STRENGTHS)[thing.name],
        )  # fmt: skip
    given, faults = split_flags(thing.typed)
    return catalog.settle(validate(given, faults), 0, thing.mode, sources)


def sheet(images: list[Image.Image], columns: int) -> Image.Image:
    """Several as one."""
    width, height = images[0].size
    rows = -(-len(images) // columns)
    gap = GAP if len(set(map(id, images))) > 1 else 0
    made = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for at, image in enumerate(images):
        made.paste(image, (at % columns * (width + gap), at // columns * (height + gap)))
    return made


def heading(thing: Shown) -> str:
    """What one would type for it, or press."""
    match thing.name:
        case "subtle" | "strong":
            return f"**Vary ({thing.name})**, or `/vary 12 {thing.name}`"
        case "upscale":
            return "**Upscale 4×**, or `/upscale 12 4`"
    numbers = " ".join(str(NUMBERS[name]) for name in thing.source.split())
    begun = f" --from {numbers}" if numbers else ""
    return f"`/{COMMAND_OF[thing.mode]} {thing.typed}{begun}`"


def main() -> int:
    """Draw everything and write the page."""
    model = next(iter(catalog.models().values()))
    engine = LocalDiffusers(settings.read(settings.Drawing).device, 0, 0)
    crown = request_of(THINGS[0], {}, None)  # type: ignore[arg-type]
    made: dict[str, Image.Image] = {"mask": mask_of((crown.width, crown.height))}
    FOLDER.mkdir(exist_ok=True)
    page = [
        "# What becomes of a prompt, and of a picture",
        "",
        f"Drawn by `make gallery` with the model that ships ({model.name}, {model.size} pixels a "
        "side). `12` is the crown, the first picture. Hires fix (`--hires 2`) and clip skip do not "
        "gain on a model so small; they are for Stable Diffusion 1.5 and its like.",
        "",
    ]
    for thing in THINGS:
        request = request_of(thing, made, crown)
        images = engine.draw(model, request, lambda _share, _words="": True, made)
        made[thing.name] = images[0]
        image = images[0]
        if len(images) > 1:
            image = sheet(images, 2)
        if thing.name == "tile":
            image = sheet(images * 4, 2)
        image.save(FOLDER / f"{thing.name}.webp", quality=88, method=6)
        print(thing.name, image.size, file=sys.stderr)
        page += [f"{heading(thing)}: {thing.words}", "",
                  f"![{thing.words}](gallery/{thing.name}.webp)", ""]  # fmt: skip
    page += [
        "## What larger models do",
        "",
        "`/style` takes the style of a picture, for Stable Diffusion 1.5, SDXL and their like, "
        "where `DRAWQUEUE_IP_ADAPTER` names IP-Adapter's weights (`h94/IP-Adapter`); a blend then "
        "sees every one of its pictures too. SDXL, Stable Diffusion 3 and Flux draw with all "
        "commands above, but for what `/models` says they lack. Their code runs in the tests on "
        "tiny models without training, whose pictures show nothing. `/upscale` draws detail with "
        "weights of the ESRGAN family (`DRAWQUEUE_UPSCALER`), and `--vae` takes another VAE "
        "(`DRAWQUEUE_VAES`), where the host has them.",
        "",
    ]
    PAGE.write_text("\n".join(page))
    return 0


if __name__ == "__main__":
    assert Path.cwd() == ROOT, "begin in the project's folder"
    sys.exit(main())
