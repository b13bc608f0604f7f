"""Pictures as chats take them: several as one grid, and small enough."""

import io
import math

from PIL import Image

from core.cards import Card
from core.house import House
from core.policy import Show
from core.receipts import GAP, copied

# Pixels of a longer side that are left of what is blurred.
BLURRED = 6


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
        return "picture.png", data
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
