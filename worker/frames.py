"""Where the pictures to begin with lie on what is drawn: cut to shape, shrunk, moved, masked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageFilter, ImageOps

from core.catalog import PANNED, SLACK
from core.options import Mode, Request
from core.uploads import flat

# Sharpening after Lanczos: radius in pixels of the small picture, per cent, and threshold.
SHARPEN = (0.6, 80, 1)
# Levels, of 255, by which sharpening may go beyond what lies around a pixel.
HALO = 6
# What is painted around a picture reaches so far into it, as a share of its shorter side.
OVERLAP = 1 / 16
# What is painted fades in along its border, over this share of the drawing's shorter side.
FADE = 1 / 32
# Pixels a side of what one latent value stands for.
CELL = 8

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Frame:
    """A picture of the size to draw, and what of it is painted anew (white), if not all of it."""

    image: Image.Image
    mask: Image.Image | None = None

    @property
    def painted(self) -> Image.Image:
        """The mask as a model sees it, each of whose cells is painted if a pixel of it is."""
        assert self.mask
        white = self.mask.point(lambda value: 255 if value >= 128 else 0)
        cells = white.reduce(CELL).point(lambda value: 255 if value else 0)
        return cells.resize(self.mask.size, Image.Resampling.NEAREST)

    def kept(self, drawn: Image.Image) -> Image.Image:
        """The drawing with every pixel that the mask keeps as it was."""
        if self.mask is None:
            return drawn
        return Image.composite(drawn, self.image, _faded(self.mask))


def _faded(mask: Image.Image) -> Image.Image:
    """A mask that begins softly, inside its white: what is black stays black.

    Strokes too thin to fade in stay as they are.
    """
    wide = max(1, round(min(mask.size) * FADE))
    inside = mask.filter(ImageFilter.GaussianBlur(wide / 2)).point(lambda value: 2 * value - 255)
    broad = _spread(_spread(mask, wide, ImageChops.darker), 2 * wide, ImageChops.lighter)
    return ImageChops.darker(mask, ImageChops.lighter(inside, ImageChops.invert(broad)))


def _spread(
    mask: Image.Image, reach: int, choose: Callable[[Image.Image, Image.Image], Image.Image]
) -> Image.Image:
    """Each pixel as the darkest, or the lightest, of the square that reaches so far around it.

    A filter's time would grow with the square's size; this one's hardly does.
    """
    outside = 255 if choose is ImageChops.darker else 0
    wide = ImageOps.expand(mask, reach, outside)
    for across, down in ((1, 0), (0, 1)):
        seen = 1
        while seen <= 2 * reach:
            step = min(seen, 2 * reach + 1 - seen)
            wide = choose(wide, ImageChops.offset(wide, across * step, down * step))
            seen += step
    # What was seen lies before each pixel, not around it.
    return wide.crop((2 * reach, 2 * reach, wide.width, wide.height))


def laid(request: Request, pictures: Mapping[str, Image.Image]) -> Frame:
    """The frame that a request is drawn from."""
    width, height = size = request.width, request.height
    image = flat(pictures[request.sources[0]], "white")
    if request.mode == Mode.BLEND:
        return Frame(_blended([pictures[key] for key in request.sources], size))
    if request.mode != Mode.INPAINT:
        return Frame(_covering(image, size))
    left, top, right, bottom = box = _box(image.size, request)
    inner = right - left, bottom - top
    canvas = _ground(image, box, size)
    canvas.paste(image.resize(inner, Image.Resampling.LANCZOS), (left, top))
    within = Image.new("L", inner, 0)
    if request.mask:
        within = flat(pictures[request.mask], "black").convert("L")
        within = within.resize(inner, Image.Resampling.BILINEAR)
    # Along a seam both sides know what is there.
    reach = max(1, round(min(inner) * OVERLAP))
    stays = (
        reach if left else 0,
        reach if top else 0,
        inner[0] - (reach if right < width else 0),
        inner[1] - (reach if bottom < height else 0),
    )
    anew = Image.new("L", size, 255)
    anew.paste(within.crop(stays), (left + stays[0], top + stays[1]))
    return Frame(canvas, anew)


def _blended(images: Sequence[Image.Image], size: tuple[int, int]) -> Image.Image:
    """Pictures laid over each other, each as much as the others."""
    blend = Image.new("RGB", size)
    for number, image in enumerate(images, 1):
        blend = Image.blend(blend, _covering(flat(image, "white"), size), 1 / number)
    return blend


def _covering(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of a picture in another shape, as much of it as fits."""
    scale = max(size[0] / image.width, size[1] / image.height)
    width, height = size[0] / scale, size[1] / scale
    left, top = (image.width - width) / 2, (image.height - height) / 2
    return image.resize(
        size, Image.Resampling.LANCZOS, box=(left, top, left + width, top + height)
    )  # fmt: skip


def _box(source: tuple[int, int], request: Request) -> Box:
    """Where the picture lies on the canvas: in the middle, or away from where it goes on."""
    width, height = request.width, request.height
    scale = min(width / source[0], height / source[1]) / request.zoom
    sideways = request.pan in ("left", "right")
    free = width - source[0] * scale if sideways else height - source[1] * scale
    if request.pan and free <= SLACK:
        # The canvas could not grow to that side.
        scale /= 1 + PANNED
    inner = _snapped(source[0] * scale, width), _snapped(source[1] * scale, height)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    match request.pan:
        case "left":
            left = width - inner[0]
        case "right":
            left = 0
        case "up":
            top = height - inner[1]
        case "down":
            top = 0
    return left, top, left + inner[0], top + inner[1]


def _snapped(side: float, canvas: int) -> int:
    return canvas if abs(canvas - side) <= SLACK else min(canvas, max(1, round(side)))


def _ground(image: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """What the drawing begins with around a picture: the colours of its edges, going on."""
    left, top, right, bottom = box
    inner = image.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", size)
    canvas.paste(inner, (left, top))
    columns = ((0, 0, left), (inner.width - 1, right, size[0] - right))
    for column, at, wide in columns:
        if wide:
            strip = inner.crop((column, 0, column + 1, inner.height))
            canvas.paste(strip.resize((wide, inner.height)), (at, top))
    for row, at, tall in ((top, 0, top), (bottom - 1, bottom, size[1] - bottom)):
        if tall:
            strip = canvas.crop((0, row, size[0], row + 1))
            canvas.paste(strip.resize((size[0], tall)), (0, at))
    return canvas.filter(ImageFilter.GaussianBlur(min(size) / 16))


def grown(image: Image.Image, request: Request) -> Image.Image:
    """A small picture at the size that it is drawn over at."""
    if not request.tile:
        return image.resize(request.size, Image.Resampling.LANCZOS)
    # Beyond each edge lies the opposite one.
    wide = Image.new("RGB", (3 * image.width, 3 * image.height))
    for left in range(0, wide.width, image.width):
        for top in range(0, wide.height, image.height):
            wide.paste(image, (left, top))
    middle = image.width, image.height, 2 * image.width, 2 * image.height
    return wide.resize(request.size, Image.Resampling.LANCZOS, box=middle)


def enlarged(image: Image.Image, request: Request) -> Image.Image:
    """The picture made larger by Lanczos and sharpened without halos, transparency kept."""
    size = request.width, request.height
    radius, percent, threshold = SHARPEN
    large = image.resize(size, Image.Resampling.LANCZOS)
    sharp = large.filter(ImageFilter.UnsharpMask(radius * request.factor, percent, threshold))
    # Nothing becomes much darker or lighter than what lies around it.
    darkest = image.filter(ImageFilter.MinFilter(3)).point(lambda value: value - HALO)
    lightest = image.filter(ImageFilter.MaxFilter(3)).point(lambda value: value + HALO)
    sharp = ImageChops.lighter(sharp, darkest.resize(size, Image.Resampling.BILINEAR))
    return ImageChops.darker(sharp, lightest.resize(size, Image.Resampling.BILINEAR))
