"""Small copies of pictures: made once, kept beside each in the storage, gone when it goes."""

import io
import logging

from PIL import Image

from core.media import Media, small_of

log = logging.getLogger("drawqueue")

# Pixels of the longer side: a third of a phone's screen, at three of them a point.
SIDE = 384
QUALITY = 80


def made(image: Image.Image) -> bytes:
    """A small copy, as WebP, with nothing of a recipe."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=2.0)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=QUALITY)
    return out.getvalue()


def keep(media: Media, key: str, image: Image.Image) -> bytes:
    """Make and store the small copy of a stored picture; a storage that is away is no fault."""
    data = made(image)
    try:
        media.save_small(key, data)
    except Exception as error:
        log.warning("a small picture is not stored: %s", type(error).__name__)
    return data


def kept(media: Media, key: str) -> bytes | None:
    """The small copy of a stored picture, where there is one yet."""
    try:
        return media.load(small_of(key))
    except FileNotFoundError:
        return None


def of(media: Media, key: str) -> bytes:
    """The small copy of a stored picture, made now if need be. Raises FileNotFoundError."""
    found = kept(media, key)
    if found is None:
        with Image.open(io.BytesIO(media.load(key))) as image:
            found = keep(media, key, image)
    return found
