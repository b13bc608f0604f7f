"""Pictures with their captions, composed on the fly: a thing or some, a backdrop, a style.

A plan says what is to be seen; `paint` makes the pixels and `caption` one of many wordings.
A tenth of all (thing, backdrop) pairs never occurs in training, so that figures on them tell
whether the model composes what it never saw together.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from worker.training.sprites import NOUNS, sprite

# Backdrops and tints, sRGB.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (226, 48, 56),
    "orange": (250, 140, 40),
    "yellow": (253, 215, 70),
    "green": (70, 178, 84),
    "blue": (56, 112, 232),
    "purple": (136, 72, 204),
    "pink": (250, 150, 196),
    "brown": (134, 88, 56),
    "black": (28, 28, 34),
    "white": (248, 248, 250),
    "gray": (142, 146, 156),
    "turquoise": (56, 198, 200),
}
SPELLINGS = {"gray": ("gray", "grey"), "turquoise": ("turquoise", "cyan", "teal")}
TINTS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black", "white")
STYLES: dict[str, tuple[str, ...]] = {
    "pixel art": ("pixel art", "8-bit pixel art", "pixelated"),
    "black and white": ("black and white", "black and white photo", "monochrome"),
    "sketch": ("pencil sketch", "sketch", "line drawing"),
}
PLACES = {
    "left": (0.27, 0.5),
    "right": (0.73, 0.5),
    "top": (0.5, 0.28),
    "bottom": (0.5, 0.73),
}


@dataclass(frozen=True)
class Plan:
    """What is to be seen: up to two different things, each a sprite's code and a tint or ""."""

    things: tuple[tuple[str, str], ...]
    backdrop: str
    count: int = 1
    place: str = ""
    size: str = ""
    style: str = ""


def held_out(code: str, backdrop: str) -> bool:
    """Whether training never shows this thing before this backdrop."""
    return zlib.crc32(f"{code}/{backdrop}".encode()) % 10 == 0


def plan(rng: Random, variety: float = 1.0) -> Plan:
    """A plan from training's share; `variety` 0 is one thing, plain, in the middle."""
    codes = list(NOUNS)
    things = [rng.choice(codes)]
    count, place, size, style = 1, "", "", ""
    if rng.random() < variety:
        draw = rng.random()
        if draw < 0.12:
            count = rng.choice((2, 2, 3))
        elif draw < 0.24:
            things.append(rng.choice([code for code in codes if code != things[0]]))
        elif draw < 0.38:
            place = rng.choice(list(PLACES))
        elif draw < 0.50:
            size = rng.choice(("small", "big"))
        if rng.random() < 0.12:
            style = rng.choice(list(STYLES))
    tint = rng.choice(TINTS) if rng.random() < 0.14 * variety else ""
    backdrops = list(SCENES) if rng.random() < 0.3 * variety else list(COLOURS)
    backdrop = rng.choice([b for b in backdrops if not any(held_out(c, b) for c in things)])
    tints = [tint if tint != backdrop else "", *[""] * (len(things) - 1)]
    return Plan(tuple(zip(things, tints, strict=True)), backdrop, count, place, size, style)


# --- pixels


def paint(
    asked: Plan, rng: Random, assets: Path, width: int = 128, height: int = 128
) -> np.ndarray:
    """The picture of a plan: uint8 RGB, (height, width, 3)."""
    if asked.backdrop in SCENES:
        canvas = _scene(asked.backdrop, rng.randrange(24), width, height).copy()
    else:
        canvas = _plain(COLOURS[asked.backdrop], width, height).copy()
    for code, tint, x, y, side in _placed(asked, rng, width, height):
        _shadow(canvas, x, y + side * 0.47, side)
        thing = sprite(assets, code, side)
        _lay(canvas, _tinted(thing, tint) if tint else thing, x, y)
    if asked.style:
        canvas = _styled(canvas, asked.style)
    return (canvas.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _placed(
    asked: Plan, rng: Random, width: int, height: int
) -> list[tuple[str, str, float, float, int]]:
    least = min(width, height)
    low = 0.55 if asked.backdrop in SCENES else 0.5

    def spot(code: str, tint: str, x: float, y: float, share: float) -> tuple:
        side = round(least * share * rng.uniform(0.96, 1.04))
        jitter = [rng.uniform(-0.02, 0.02) for _ in range(2)]
        return code, tint, (x + jitter[0]) * width, (y + jitter[1]) * height, side

    first = asked.things[0]
    if asked.count == 3:
        spots = ((0.2, 0.5), (0.5, 0.5), (0.8, 0.5))
        if width <= height * 1.2:
            spots = ((0.5, 0.28), (0.27, 0.71), (0.73, 0.71))
        return [spot(*first, x, y, 0.42) for x, y in spots]
    if asked.count == 2 or len(asked.things) == 2:
        spots = ((0.27, low + 0.02), (0.73, low + 0.02))
        if height > width * 1.2:
            spots = ((0.5, 0.28), (0.5, 0.72))
        both = (first, asked.things[-1])
        share = 0.46 if height < width * 1.2 else 0.6
        return [spot(*what, *where, share) for what, where in zip(both, spots, strict=True)]
    if asked.place:
        return [spot(*first, *PLACES[asked.place], 0.46)]
    share = {"": 0.70, "small": 0.36, "big": 0.93}[asked.size]
    return [spot(*first, 0.5, low if asked.size != "big" else 0.5, share)]


def _lay(canvas: np.ndarray, thing: np.ndarray, x: float, y: float) -> None:
    side = thing.shape[0]
    left, top = round(x - side / 2), round(y - side / 2)
    l0, t0 = max(0, left), max(0, top)
    l1, t1 = min(canvas.shape[1], left + side), min(canvas.shape[0], top + side)
    cut = thing[t0 - top : t1 - top, l0 - left : l1 - left]
    area = canvas[t0:t1, l0:l1]
    area *= 1 - cut[..., 3:]
    area += cut[..., :3]


def _shadow(canvas: np.ndarray, x: float, y: float, side: int) -> None:
    soft = _ellipse(side)
    dark = np.concatenate([np.zeros((*soft.shape, 3), np.float32), soft[..., None]], axis=-1)
    _lay(canvas, dark, x, y)


@cache
def _ellipse(side: int) -> np.ndarray:
    across, down = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    return (0.32 * np.exp(-((across / 0.55) ** 2) - (down / 0.10) ** 2)).astype(np.float32)


def _tinted(thing: np.ndarray, tint: str) -> np.ndarray:
    alpha = thing[..., 3:]
    light = thing[..., :3] @ np.array([0.3, 0.59, 0.11], np.float32)
    inside = alpha[..., 0] > 0.5
    light = light / np.maximum(alpha[..., 0], 1e-3)
    light = np.clip(0.5 + 1.1 * (light - light[inside].mean()), 0, 1)[..., None]
    colour = np.array(COLOURS[tint], np.float32) / 255
    dark, bright = colour * light * 2, colour + (1 - colour) * (light * 2 - 1) * 0.8
    return np.concatenate([np.where(light < 0.5, dark, bright) * alpha, alpha], axis=-1)


def _styled(canvas: np.ndarray, style: str) -> np.ndarray:
    if style == "pixel art":
        height, width = (side // 4 for side in canvas.shape[:2])
        blocks = canvas.reshape(height, 4, width, 4, 3).mean((1, 3))
        blocks = np.round(blocks * 7) / 7
        return blocks.repeat(4, 0).repeat(4, 1)
    grey = canvas @ np.array([0.3, 0.59, 0.11], np.float32)
    if style == "sketch":
        grey = 0.97 - 0.9 * outline(canvas)
    return np.repeat(grey[..., None], 3, axis=-1)


def outline(canvas: np.ndarray) -> np.ndarray:
    """How much of an edge each pixel is: (height, width), 0–1."""
    down, across = np.gradient(canvas, axis=(0, 1))
    return np.clip(np.sqrt((down**2 + across**2).sum(-1)) * 3.2, 0, 1) ** 0.8


# --- backdrops


@cache
def _plain(colour: tuple[int, int, int], width: int, height: int) -> np.ndarray:
    base = np.array(colour, np.float32) / 255
    light = np.linspace(1.05, 0.93, height, dtype=np.float32)[:, None, None]
    return np.broadcast_to(base * light, (height, width, 3)).clip(0, 1)


@cache
def _scene(name: str, variant: int, width: int, height: int) -> np.ndarray:
    rng = Random(f"{name} {variant}")
    scale = 3
    image = Image.new("RGB", (width * scale, height * scale))
    SCENES[name][1](image, rng)
    return np.asarray(image.resize((width, height), Image.Resampling.BOX), np.float32) / 255


def _sky(image: Image.Image, *stops: str) -> ImageDraw.ImageDraw:
    """Fill with a gradient through the stops, from the top down."""
    column = Image.new("RGB", (1, len(stops)))
    for row, stop in enumerate(stops):
        column.paste(stop, (0, row, 1, row + 1))
    image.paste(column.resize((4, 256), Image.Resampling.BICUBIC).resize(image.size))
    return ImageDraw.Draw(image)


def _hill(draw: ImageDraw.ImageDraw, size: tuple[int, int], top: float, colour: str) -> None:
    width, height = size
    box = (-width * 0.5, height * top, width * 1.5, height * (top + 1.4))
    draw.ellipse(box, fill=colour)


def _dots(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: Random, number: int,
          least: float, most: float, colour: str, below: float = 1.0) -> None:  # fmt: skip
    unit = min(size) / 100
    for _ in range(number):
        x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1] * below)
        r = rng.uniform(least, most) * unit
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def _disk(draw: ImageDraw.ImageDraw, size: tuple[int, int], x: float, y: float, r: float,
          colour: str) -> None:  # fmt: skip
    x, y, r = x * size[0], y * size[1], r * min(size)
    draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def _cloud(draw: ImageDraw.ImageDraw, size: tuple[int, int], x: float, y: float, r: float,
           colour: str) -> None:  # fmt: skip
    for dx, dy, share in ((-1, 0.2, 0.7), (0, -0.1, 1.0), (1, 0.2, 0.7)):
        _disk(draw, size, x + dx * r, y + dy * r, r * share, colour)


def _storm(image: Image.Image, rng: Random) -> None:
    size = image.size
    draw = _sky(image, "#2b3350", "#47527a", "#6a7698")
    for _ in range(5):
        _cloud(draw, size, rng.random(), rng.uniform(0.02, 0.16), rng.uniform(0.10, 0.15),
               rng.choice(("#39415f", "#2d3450", "#4b5474")))  # fmt: skip
    x, unit = rng.choice((0.14, 0.86)) * size[0], size[1] / 100
    bolt = [(x, 14), (x - 5 * unit, 36), (x + 3 * unit, 36), (x - 4 * unit, 62)]
    draw.line([(bx, by * unit) for bx, by in bolt], fill="#ffe96b", width=round(3 * unit))
    for _ in range(26):
        rx, ry = rng.uniform(0, size[0] * 1.1), rng.uniform(0, size[1] * 0.8)
        draw.line((rx, ry, rx - 4 * unit, ry + 10 * unit), fill="#9fb0d4", width=round(unit))
    _waves(draw, size, rng, 0.82, "#24507e", "#3a73a6")


def _waves(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: Random, top: float, deep: str,
           crest: str) -> None:  # fmt: skip
    width, height = size
    phase = rng.uniform(0, 6.28)
    for shift, colour in ((0.0, crest), (0.05, deep)):
        line = [
            (x, height * (top + shift + 0.022 * np.sin(x / width * 19 + phase + shift * 60)))
            for x in range(0, width + 1, 3)
        ]
        draw.polygon([(0, height), *line, (width, height)], fill=colour)


def _snow(image: Image.Image, rng: Random) -> None:
    draw = _sky(image, "#8fb8e8", "#bcd8f4", "#e2eefb")
    _hill(draw, image.size, rng.uniform(0.68, 0.74), "#f7fbff")
    _dots(draw, image.size, rng, 46, 0.8, 1.7, "#ffffff")


def _night(image: Image.Image, rng: Random) -> None:
    draw = _sky(image, "#0b1033", "#1a2458", "#31407c")
    _dots(draw, image.size, rng, 40, 0.4, 1.0, "#fff7cf", 0.7)
    x = rng.choice((0.16, 0.84))
    _disk(draw, image.size, x, 0.17, 0.10, "#fdf3c4")
    _disk(draw, image.size, x + 0.045, 0.145, 0.085, "#141c4a")
    _hill(draw, image.size, rng.uniform(0.74, 0.79), "#141a33")


def _space(image: Image.Image, rng: Random) -> None:
    draw = _sky(image, "#0a0618", "#1d0f3d", "#0a0618")
    _dots(draw, image.size, rng, 60, 0.3, 0.9, "#ffffff")
    x, y = rng.choice((0.15, 0.85)), rng.choice((0.17, 0.83))
    _disk(draw, image.size, x, y, 0.10, "#e27d4f")
    _disk(draw, image.size, x - 0.02, y - 0.02, 0.06, "#f2a06e")
    _disk(draw, image.size, 1 - x, 1 - y, 0.06, "#6f8fe8")


def _sea(image: Image.Image, rng: Random) -> None:
    draw = _sky(image, "#5fd3ee", "#2b93d6", "#155aa6")
    unit = min(image.size) / 100
    for _ in range(14):
        x, y = rng.uniform(0, image.size[0]), rng.uniform(0, image.size[1] * 0.85)
        r = rng.uniform(1.5, 3.6) * unit
        draw.ellipse((x - r, y - r, x + r, y + r), outline="#c8f1ff", width=round(0.9 * unit))
    _hill(draw, image.size, rng.uniform(0.83, 0.87), "#ecd394")
    for x in (rng.uniform(0.04, 0.2), rng.uniform(0.8, 0.96)):
        _weed(draw, image.size, x)


def _weed(draw: ImageDraw.ImageDraw, size: tuple[int, int], x: float) -> None:
    width, height = size
    line = [(width * (x + 0.02 * np.sin(s * 9)), height * (0.95 - 0.3 * s))
            for s in np.linspace(0, 1, 20)]  # fmt: skip
    draw.line(line, fill="#2f9e62", width=round(width * 0.03))


def _sunset(image: Image.Image, rng: Random) -> None:
    draw = _sky(image, "#5b3a8c", "#e0598b", "#ff9a4d", "#ffd36b")
    _disk(draw, image.size, rng.uniform(0.3, 0.7), 0.72, 0.19, "#fff0a8")
    _hill(draw, image.size, rng.uniform(0.77, 0.81), "#54305c")


def _meadow(image: Image.Image, rng: Random) -> None:
    draw = _sky(image, "#6bb8f2", "#a5d8fa", "#d5effd")
    for _ in range(2):
        _cloud(draw, image.size, rng.random(), rng.uniform(0.1, 0.22), rng.uniform(0.06, 0.09),
               "#ffffff")  # fmt: skip
    _hill(draw, image.size, rng.uniform(0.64, 0.70), "#6cc24a")
    for _ in range(16):
        x, y = rng.random(), rng.uniform(0.80, 0.98)
        _disk(draw, image.size, x, y, 0.016, rng.choice(("#ffffff", "#ffe14d", "#ff8fb8")))


def _desert(image: Image.Image, rng: Random) -> None:
    draw = _sky(image, "#7cc7ea", "#c9e6ea", "#fbe9c0")
    _disk(draw, image.size, rng.choice((0.15, 0.85)), 0.17, 0.09, "#fff3b0")
    _hill(draw, image.size, rng.uniform(0.62, 0.66), "#eebf73")
    width, height = image.size
    draw.ellipse((-width * 0.7, height * 0.74, width * 0.7, height * 1.6), fill="#e0a655")


SCENES: dict[str, tuple[tuple[str, ...], Callable[[Image.Image, Random], None]]] = {
    "storm": (("in a storm", "in the rain", "in a thunderstorm"), _storm),
    "snow": (("in the snow", "in winter", "on a snowy hill"), _snow),
    "night": (("at night", "under the stars", "in the moonlight"), _night),
    "space": (("in space", "in outer space", "among the stars and planets"), _space),
    "sea": (("under water", "in the sea", "in the ocean", "underwater"), _sea),
    "sunset": (("at sunset", "in the evening", "at dusk"), _sunset),
    "meadow": (("in a meadow", "on the grass", "in a field of flowers"), _meadow),
    "desert": (("in the desert", "on the sand", "in sandy dunes"), _desert),
}


# --- words

_PREFIXES = ("a picture of ", "an image of ", "a photo of ", "an illustration of ", "a drawing of ",
             "a painting of ", "")  # fmt: skip
_BEHIND = (
    " on a {} background",
    " on a {} background",
    ", {} background",
    " on {}",
    " against a {} background",
    " in front of a {} wall",
)
_FILLER = ("cute", "beautiful", "cinematic", "highly detailed", "masterpiece", "best quality", "4k",
           "digital art", "3d render", "sharp focus", "soft light", "colourful")  # fmt: skip
_PLURALS = {
    "mouse": "mice",
    "fish": "fish",
    "cherries": "cherries",
    "slice of pizza": "slices of pizza",
    "cup of coffee": "cups of coffee",
    "coffee": "cups of coffee",
}


def plural(noun: str) -> str:
    """The plural of one of our nouns."""
    if noun in _PLURALS:
        return _PLURALS[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def _spelled(rng: Random, colour: str) -> str:
    return rng.choice(SPELLINGS.get(colour, (colour,)))


def _article(rng: Random, words: str) -> str:
    if rng.random() < 0.2:
        return words
    return ("an " if words[0] in "aeiou" and not words.startswith(("uni", "ufo")) else "a ") + words


def caption(asked: Plan, rng: Random) -> str:
    """One of many ways to ask for this plan, lower case, at most some twenty words."""
    nouns = [rng.choice((NOUNS[code][0],) * 2 + NOUNS[code]) for code, _ in asked.things]
    tint = _spelled(rng, asked.things[0][1]) if asked.things[0][1] else ""
    size = {"": "", "small": rng.choice(("small", "tiny", "little")),
            "big": rng.choice(("big", "huge", "large", "giant"))}[asked.size]  # fmt: skip
    described = " ".join(word for word in (size, tint) if word)
    first = f"{described} {nouns[0]}".strip()
    if asked.count > 1:
        number = {2: ("two", "2", "a pair of", "two"), 3: ("three", "3", "three")}[asked.count]
        said = f"{rng.choice(number)} {f'{described} {plural(nouns[0])}'.strip()}"
    elif len(nouns) == 2:
        joint = rng.choice((" and ", " and ", " next to ", " beside ", " to the left of "))
        said = _article(rng, first) + joint + _article(rng, nouns[1])
    else:
        said = _article(rng, first)
    if asked.place:
        said += rng.choice((" on the {}", " at the {}", " in the {}")).format(asked.place)
    behind = ""
    if rng.random() < 0.93:
        if asked.backdrop in SCENES:
            behind = " " + rng.choice(SCENES[asked.backdrop][0])
        else:
            colour = _spelled(rng, asked.backdrop)
            wording = rng.choice(_BEHIND)
            behind = wording.format(colour)
    said += behind
    if asked.style:
        word = rng.choice(STYLES[asked.style])
        said = rng.choice((f"{said}, {word}", f"{said}, {word}", f"{word} of {said}"))
    elif rng.random() < 0.4:
        said = rng.choice(_PREFIXES) + said
    if rng.random() < 0.2:
        said += ", " + ", ".join(rng.sample(_FILLER, rng.choice((1, 2))))
    return said
