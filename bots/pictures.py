"""Pictures as chats take them: several as one grid, and small enough."""

import io
import math

from PIL import Image

from core.cards import Card
from core.house import House
from core.receipts import GAP, copied

# How such a file begins.
JPEG = b"\xff\xd8"


def picture_of(house: House, card: Card) -> bytes | None:
    """The card's pictures as one PNG."""
    return grid([house.media.load(key) for key in card.media]) if card.media else None


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
