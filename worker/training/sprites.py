"""The things the starter model can draw: one sprite a noun, from Microsoft's Fluent 3D emoji.

The sprites come from the npm package @lobehub/fluent-emoji-3d (MIT, as is microsoft/fluentui-emoji,
its source), fetched with `npm pack`. The lighthouse, which no emoji shows, is drawn here.
"""

import hashlib
import subprocess
import tarfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

PACKAGE = "@lobehub/fluent-emoji-3d@1.1.0"
SHA256 = "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"

# Code point of the emoji: the noun first, then other words for it.
NOUNS: dict[str, tuple[str, ...]] = {
    "1f431": ("cat", "kitten", "kitty"),
    "1f436": ("dog", "puppy"),
    "1f98a": ("fox",),
    "1f43b": ("bear",),
    "1f43c": ("panda",),
    "1f981": ("lion",),
    "1f42f": ("tiger",),
    "1f438": ("frog",),
    "1f435": ("monkey",),
    "1f437": ("pig", "piglet"),
    "1f42d": ("mouse",),
    "1f430": ("rabbit", "bunny"),
    "1f42e": ("cow",),
    "1f984": ("unicorn",),
    "1f40e": ("horse", "pony"),
    "1f427": ("penguin",),
    "1f989": ("owl",),
    "1f426": ("bird",),
    "1f986": ("duck",),
    "1f422": ("turtle", "tortoise"),
    "1f420": ("fish",),
    "1f433": ("whale",),
    "1f42c": ("dolphin",),
    "1f419": ("octopus",),
    "1f980": ("crab",),
    "1f98b": ("butterfly",),
    "1f41d": ("bee",),
    "1f41e": ("ladybug", "beetle"),
    "1f40c": ("snail",),
    "1f996": ("dinosaur", "t-rex"),
    "1f409": ("dragon",),
    "1f418": ("elephant",),
    "1f993": ("zebra",),
    "1f992": ("giraffe",),
    "1f99c": ("parrot",),
    "1f9a9": ("flamingo",),
    "1f34e": ("apple",),
    "1f34c": ("banana",),
    "1f353": ("strawberry",),
    "1f349": ("watermelon", "melon"),
    "1f34b": ("lemon",),
    "1f352": ("cherry", "cherries"),
    "1f34d": ("pineapple",),
    "1f355": ("pizza", "slice of pizza"),
    "1f354": ("hamburger", "burger"),
    "1f369": ("donut", "doughnut"),
    "1f9c1": ("cupcake", "muffin"),
    "1f366": ("ice cream",),
    "1f382": ("cake", "birthday cake"),
    "2615": ("cup of coffee", "coffee", "mug"),
    "1f33b": ("sunflower", "flower"),
    "1f339": ("rose",),
    "1f335": ("cactus",),
    "1f333": ("tree",),
    "1f334": ("palm tree",),
    "1f344": ("mushroom", "toadstool"),
    "1f680": ("rocket", "spaceship"),
    "1f697": ("car",),
    "1f68c": ("bus",),
    "1f682": ("train", "locomotive"),
    "2708-fe0f": ("airplane", "plane"),
    "26f5": ("sailboat", "boat"),
    "1f6b2": ("bicycle", "bike"),
    "1f681": ("helicopter",),
    "1f6f8": ("ufo", "flying saucer"),
    "1f69c": ("tractor",),
    "1f388": ("balloon",),
    "1f3e0": ("house", "cottage"),
    "1f3f0": ("castle", "palace"),
    "lighthouse": ("lighthouse",),
    "1f30b": ("volcano",),
    "26fa": ("tent",),
    "1f451": ("crown",),
    "1f48e": ("diamond", "gem"),
    "2764-fe0f": ("heart",),
    "2b50": ("star",),
    "1f511": ("key",),
    "1f4a1": ("light bulb", "lamp"),
    "23f0": ("clock", "alarm clock"),
    "1f4d6": ("book",),
    "1f3b8": ("guitar",),
    "1f941": ("drum",),
    "26bd": ("football", "ball"),
    "2602-fe0f": ("umbrella",),
    "1f381": ("gift", "present"),
    "1f9f8": ("teddy bear", "teddy"),
    "1f916": ("robot",),
    "1f47b": ("ghost",),
    "1f47d": ("alien",),
    "26c4": ("snowman",),
    "1f383": ("pumpkin", "jack-o'-lantern"),
    "1f9d9": ("wizard",),
    "1f3c6": ("trophy",),
    "1f514": ("bell",),
    "1f4f7": ("camera",),
    "2693": ("anchor",),
}


def fetch(home: Path) -> Path:
    """Fetch and unpack the sprites below `home`, once; returns their folder.

    Raises SystemExit, in words, where npm is missing or the package is not the one expected.
    """
    assets = home / "package" / "assets"
    if assets.is_dir():
        return assets
    home.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=home, check=True)
    except FileNotFoundError:
        raise SystemExit(
            "Training needs npm, which fetches the sprites; install Node.js."
        ) from None
    packed = next(home.glob("*.tgz"))
    if hashlib.sha256(packed.read_bytes()).hexdigest() != SHA256:
        raise SystemExit(f"{packed.name} is not the {PACKAGE} these scripts were written for.")
    with tarfile.open(packed) as archive:
        archive.extractall(home, filter="data")
    return assets


@cache
def sprite(assets: Path, code: str, side: int) -> np.ndarray:
    """One thing, cut to its outline and fitted into a square: float32 RGBA, (side, side, 4), 0–1.

    Colours are premultiplied by alpha.
    """
    drawn = _whole(assets, code)
    drawn.thumbnail((side, side), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (side, side))
    square.paste(drawn, ((side - drawn.width) // 2, (side - drawn.height) // 2))
    pixels = np.asarray(square, np.float32) / 255
    return np.concatenate([pixels[..., :3] * pixels[..., 3:], pixels[..., 3:]], axis=-1)


def _whole(assets: Path, code: str) -> Image.Image:
    drawn = _lighthouse() if code == "lighthouse" else Image.open(assets / f"{code}.webp")
    drawn = drawn.convert("RGBA")
    return drawn.crop(drawn.getbbox())


def _lighthouse() -> Image.Image:
    side = 1024
    image = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(image)
    draw.ellipse((230, 840, 790, 1010), fill="#8a8fa3")
    draw.ellipse((280, 820, 740, 940), fill="#a9aec2")
    # A tapering tower in red and white bands.
    top, bottom = 330, 880
    for row in range(top, bottom):
        share = (row - top) / (bottom - top)
        half = 70 + 60 * share
        colour = "#f2364d" if int(share * 5) % 2 == 0 else "#fbf7f4"
        draw.line((512 - half, row, 512 + half, row), fill=colour)
    draw.rounded_rectangle((400, 300, 624, 345), 20, fill="#4a5170")
    draw.rectangle((446, 190, 578, 300), fill="#ffd94a")
    draw.ellipse((476, 205, 548, 285), fill="#fff6c8")
    draw.polygon(((425, 195), (599, 195), (512, 90)), fill="#f2364d")
    draw.ellipse((498, 66, 526, 94), fill="#4a5170")
    draw.rounded_rectangle((480, 770, 544, 890), 30, fill="#4a5170")
    draw.rounded_rectangle((490, 480, 534, 540), 20, fill="#5bb4f0")
    # Shading from the side, as on the 3D emoji.
    alpha = image.getchannel("A")
    shade = Image.linear_gradient("L").rotate(90).resize((side, side)).point(lambda v: v * 0.45)
    dark = Image.new("RGBA", (side, side), "#5a2a6a")
    dark.putalpha(shade)
    image = Image.alpha_composite(image, dark)
    image.putalpha(alpha)
    return image.filter(ImageFilter.GaussianBlur(2)).resize((256, 256), Image.Resampling.LANCZOS)
