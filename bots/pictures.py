"""Pictures as chats take them: several as one grid, and small enough."""

import contextlib
import io
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from core.asking import Reply
from core.cards import Card
from core.house import House
from core.languages import tr
from core.lineage import Family
from core.policy import Show
from core.receipts import GAP, copied

# Of a sheet of samples: how many, and pixels of each and of its name.
SAMPLES, TILE, LABEL = 16, 256, 28
# Of a family: pixels of a picture, and between it and its children; the colours of lines, of
# empty boxes, and around the one that is meant.
NODE, BRANCH = 144, 36
LINE, BOX, ASKED = "#8a8f99", "#e5e7eb", "#d97706"
# Pixels of a longer side that are left of what is blurred.
BLURRED = 6
# How such a file begins.
JPEG = b"\xff\xd8"


def picture_of(house: House, card: Card) -> bytes | None:
    """The card's pictures as one PNG, as its audience may see them."""
    if not card.media:
        return None
    made = grid([house.media.load(key) for key in card.media])
    return blurred(made) if card.show == Show.BLUR else made


def blurred(data: bytes) -> bytes:
    """A PNG of which nothing but its colours is left, as large as it was, with its recipe.

    So few pixels are kept that no sharpening brings anything back.
    """
    opened = Image.open(io.BytesIO(data))
    notes = copied(opened.info)
    share = BLURRED / max(opened.size)
    few = max(1, round(opened.width * share)), max(1, round(opened.height * share))
    soft = opened.convert("RGB").resize(few, Image.Resampling.BOX)
    out = io.BytesIO()
    soft.resize(opened.size, Image.Resampling.BICUBIC).save(
        out, "PNG", compress_level=4, pnginfo=notes.png() if notes else None
    )
    return out.getvalue()


def sheet(house: House, samples: Sequence[tuple[str, str]]) -> bytes | None:
    """Small pictures side by side, each above its name; those that are gone are left out."""
    tiles = []
    for name, key in samples[:SAMPLES]:
        with contextlib.suppress(Exception):  # A storage that is away: then without it.
            tiles.append((name, Image.open(io.BytesIO(house.media.load(key))).convert("RGB")))
    if not tiles:
        return None
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    made = Image.new("RGB", (columns * TILE, rows * (TILE + LABEL)), "white")
    pen, font = ImageDraw.Draw(made), ImageFont.load_default(LABEL * 0.6)
    for index, (name, image) in enumerate(tiles):
        left, top = index % columns * TILE, index // columns * (TILE + LABEL)
        image.thumbnail((TILE - GAP, TILE - GAP))
        made.paste(image, (left + (TILE - image.width) // 2, top + (TILE - image.height) // 2))
        while name and pen.textlength(name, font) > TILE - GAP:
            name = name[:-1]
        pen.text((left + TILE / 2, top + TILE + LABEL / 2), name, "black", font, "mm")
    out = io.BytesIO()
    made.save(out, "PNG")
    return out.getvalue()


def tree(house: House, family: Family) -> bytes:
    """A family as a picture: children below their parents, each above its number."""
    levels = family.levels
    columns, rows = _columns(family), max(levels.values()) + 1
    wide, high = NODE + 2 * GAP, NODE + LABEL + BRANCH
    width = int((max(columns.values()) + 1) * wide)
    below = LABEL if family.more else 0
    made = Image.new("RGB", (width, rows * high - BRANCH + 2 * GAP + below), "white")
    pen, font = ImageDraw.Draw(made), ImageFont.load_default(LABEL * 0.6)
    if below:
        words = tr("and {number} more", number=family.more)
        # Other letters the font has not.
        told = words if words.isascii() else f"+ {family.more}"
        pen.text((width / 2, made.height - LABEL / 2), told, "black", font, "mm")
    spots = {
        one.id: (int(columns[one.id] * wide) + GAP, levels[one.id] * high + GAP)
        for one in family.members
    }
    for one in family.members:
        left, top = spots[one.id]
        middle = left + NODE // 2
        if one.parent in spots:
            begin = spots[one.parent][0] + NODE // 2, spots[one.parent][1] + NODE + LABEL
            bend = top - BRANCH // 2
            pen.line([begin, (begin[0], bend), (middle, bend), (middle, top)], LINE, 2)
        box = (left, top, left + NODE, top + NODE)
        pen.rectangle(box, BOX, LINE)
        with contextlib.suppress(Exception):  # A storage that is away: then an empty box.
            if one.key:
                image = Image.open(io.BytesIO(house.media.load(one.key))).convert("RGB")
                image.thumbnail((NODE, NODE))
                at = left + (NODE - image.width) // 2, top + (NODE - image.height) // 2
                made.paste(image, at)
        if one.id == family.asked:
            pen.rectangle(box, outline=ASKED, width=GAP)
        pen.text((middle, top + NODE + LABEL / 2), one.label, "black", font, "mm")
    out = io.BytesIO()
    made.save(out, "PNG")
    return out.getvalue()


def _columns(family: Family) -> dict[int, float]:
    """How far to the right each stands: those without children side by side, a parent above the
    middle of its own."""
    ids = {one.id for one in family.members}
    children: dict[int | None, list[int]] = {}
    for one in family.members:
        children.setdefault(one.parent if one.parent in ids else None, []).append(one.id)
    columns: dict[int, float] = {}
    free = 0

    def place(id_: int) -> None:
        nonlocal free
        own = children.get(id_, [])
        for child in own:
            place(child)
        if own:
            columns[id_] = (columns[own[0]] + columns[own[-1]]) / 2
        else:
            columns[id_] = free
            free += 1

    for first in children[None]:
        place(first)
    return columns


def beside(house: House, reply: Reply) -> bytes | None:
    """The picture that goes with an answer's words, where there is one."""
    if reply.family:
        return tree(house, reply.family)
    return sheet(house, reply.small)


def grid(pictures: list[bytes]) -> bytes:
    """Several PNGs of one size as one, row by row, with the first's recipe; one as it is."""
    if len(pictures) == 1:
        return pictures[0]
    opened = [Image.open(io.BytesIO(data)) for data in pictures]
    notes = copied(opened[0].info, len(opened))
    images = [image.convert("RGB") for image in opened]
    width, height = images[0].size
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), "white")
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * (width + GAP), index // columns * (height + GAP)))
    out = io.BytesIO()
    sheet.save(out, "PNG", compress_level=4, pnginfo=notes.png() if notes else None)
    return out.getvalue()


def fitted(data: bytes, limit: int) -> tuple[str, bytes]:
    """A file name and bytes of at most `limit` bytes: as it is, else WebP, else smaller.

    Raises ValueError when even a thumbnail is too large.
    """
    if len(data) <= limit:
        return ("picture.jpg" if data.startswith(JPEG) else "picture.png"), data
    opened = Image.open(io.BytesIO(data))
    notes = copied(opened.info)
    exif = notes.exif() if notes else Image.Exif()
    image = opened.convert("RGB")
    for quality in (95, 85, 70):
        out = io.BytesIO()
        image.save(out, "WEBP", quality=quality, exif=exif)
        if out.tell() <= limit:
            return "picture.webp", out.getvalue()
    for share in (2, 4, 8):
        out = io.BytesIO()
        image.resize((max(1, image.width // share), max(1, image.height // share))).save(
            out, "WEBP", quality=80, exif=exif
        )
        if out.tell() <= limit:
            return "picture.webp", out.getvalue()
    raise ValueError("no size of this picture fits")
