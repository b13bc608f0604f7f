"""Pictures that people bring: checked before anything sees them, stored, fetched from addresses.

What was given may be anything: the type counts by content, bytes and pixels are bounded before
pixels are read, and an address leads to no private place.
"""

import io
import logging
import socket
import time
from collections.abc import Iterable
from ipaddress import ip_address
from typing import IO, Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from PIL import Image, ImageCms, ImageOps, ImageStat, UnidentifiedImageError

from core.errors import TryAgain, UserError, report
from core.languages import mark, tr
from core.media import Media, Source, drawn_by
from core.receipts import found
from core.settings import Uploads as Limits
from core.settings import read

log = logging.getLogger("drawqueue")

# A JPEG of several pictures (MPO) is opened as a JPEG; Pillow knows no format of that name.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
# No model sees more: larger ones are made smaller when they come in.
SIDE = 2048
FETCH_SECONDS = 20.0
REDIRECTS = 5
HEADERS = [("User-Agent", "Drawqueue"), ("Accept", "image/*")]
RECIPE = "recipe"
UNREADABLE = mark("I cannot read that as a picture. Send a PNG, JPEG, WebP or GIF.")

# Pixels a side of a picture that shows what a model draws.
SMALL = 256


def checked(data: bytes) -> Image.Image:
    """The picture in some bytes: upright, RGB or RGBA, its first frame, at most SIDE pixels a side.

    The recipe that its file carries is in `info` under that name. Raises UserError with words for
    who sent it.
    """
    limits = read(Limits)
    if not data:
        raise UserError(tr("That file is empty."))
    if len(data) > limits.max_mb * 1e6:
        raise UserError(too_large(len(data)))
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            pixels = image.width * image.height
            if pixels > limits.max_megapixels * 1e6:
                raise UserError(
                    tr(
                        "That picture has {pixels} megapixels; {most} is the most.",
                        pixels=f"{pixels / 1e6:.0f}", most=limits.max_megapixels,
                    )
                )  # fmt: skip
            # A JPEG is read small at once.
            image.draft("RGB", (SIDE, SIDE))
            image.load()
            plain = upright(image)
            plain.info = {RECIPE: found(image)}
    except UserError:
        raise
    except Image.DecompressionBombError:
        # Pillow's own bound, which is higher than any of ours; it tells no size.
        raise UserError(
            tr(
                "That picture has hundreds of megapixels; {most} is the most.",
                most=limits.max_megapixels,
            )
        ) from None
    except UnidentifiedImageError:
        raise UserError(tr(UNREADABLE)) from None
    except Exception as error:  # Decoders meet hostile files with whatever they have.
        fault = report("a picture could not be read", error)
        raise UserError(
            tr(
                "That picture is damaged. I cannot read that as a picture. Send a PNG, JPEG, WebP "
                "or GIF. (fault {fault})",
                fault=fault,
            )
        ) from None
    plain.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return plain


def too_large(size: int, most: int = 0) -> str:
    """What to say of a file of so many bytes, where others than an upload's are the most."""
    return tr(
        "That file has {size} MB; {most} MB is the most.",
        size=f"{size / 1e6:.1f}", most=f"{most / 1e6:.0f}" if most else read(Limits).max_mb,
    )  # fmt: skip


def upright(image: Image.Image) -> Image.Image:
    """A picture as it is meant to be looked at, RGB or RGBA."""
    return _plain(ImageOps.exif_transpose(image))


def _plain(image: Image.Image) -> Image.Image:
    """The colours as sRGB, eight bits each, transparency kept."""
    if image.mode.startswith(("I", "F")):
        # 16 bits a pixel, or whatever range a float has.
        most: Any = image.getextrema()[1]
        top = 65535 if image.mode.startswith("I") else max(1e-9, most)
        image = image.convert("F").point(lambda value: value * (255 / top) + 0).convert("L")
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        try:
            told = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            made = ImageCms.profileToProfile(
                image, told, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            image = made or image
        except ImageCms.PyCMSError:
            pass  # A profile that does not fit: the bare numbers, then.
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def flat(image: Image.Image, ground: str) -> Image.Image:
    """An RGB picture, what is transparent in it filled with a colour."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    below = Image.new("RGBA", image.size, ground)
    return Image.alpha_composite(below, image).convert("RGB")


def whiteness(image: Image.Image) -> float:
    """How white a picture is as a mask, from 0 to 1; transparent is black."""
    return ImageStat.Stat(flat(image, "black").convert("L")).mean[0] / 255


class Uploads:
    """Takes pictures in, and keeps them in the house's storage."""

    def __init__(self, media: Media) -> None:
        self.media = media

    def keep(self, data: bytes) -> Source:
        """Check and store a picture. Raises UserError; TryAgain where the storage is away."""
        image = checked(data)
        out = io.BytesIO()
        image.save(out, "PNG", compress_level=4)
        try:
            key = self.media.save_upload(out.getvalue())
        except Exception as error:
            fault = report("an upload could not be stored", error)
            raise TryAgain(
                tr(
                    "I could not store that picture just now. Please try again. (fault {fault})",
                    fault=fault,
                )
            ) from error
        return Source(
            key, image.width, image.height, whiteness(image), receipt=image.info[RECIPE]
        )  # fmt: skip

    def stored(self, key: str) -> Source:
        """A picture that something begins with, as it lies in the storage. Raises UserError."""
        try:
            with Image.open(io.BytesIO(self.media.load(key))) as image:
                return Source(key, image.width, image.height, generation=drawn_by(key))
        except FileNotFoundError:
            raise UserError(tr("The picture that this begins with is not kept any more.")) from None
        except Exception as error:
            fault = report("a stored picture could not be read", error)
            raise TryAgain(
                tr(
                    "I could not look at the picture that this begins with. (fault {fault})",
                    fault=fault,
                )
            ) from error

    def opened(self, source: Source) -> Image.Image:
        """The pixels of a stored picture, RGB."""
        with Image.open(io.BytesIO(self.media.load(source.key))) as image:
            return flat(image, "white")

    def small(self, data: bytes) -> bytes:
        """A small copy of a stored picture, with nothing of its recipe."""
        image = flat(Image.open(io.BytesIO(data)), "white")
        image.thumbnail((SMALL, SMALL))
        out = io.BytesIO()
        image.save(out, "PNG")
        return out.getvalue()

    def fetch(self, address: str) -> Source:
        """Fetch, check and store the picture at a web address. Raises UserError."""
        return self.keep(fetched(address))


def fetched(address: str) -> bytes:
    """The bytes at a web address that anybody may reach, at most as many as an upload has.

    Raises UserError with words for who gave the address.
    """
    found = io.BytesIO()
    fetch_into(found, address, int(read(Limits).max_mb * 1e6), FETCH_SECONDS)
    return found.getvalue()


def fetch_into(
    file: IO[bytes], address: str, most: int, seconds: float,
    hosts: frozenset[str] = frozenset(),
) -> None:  # fmt: skip
    """Write what is at a web address to a file, at most so many bytes; of private addresses only
    those of `hosts`, and of the settings.

    Raises UserError with words for who gave the address.
    """
    # Only who is given an address needs it.
    import httpcore

    class Public(httpcore.SyncBackend):
        """Connects to what a name means at that moment, if anybody may reach it."""

        def connect_tcp(self, host: str, port: int, *more: Any, **options: Any) -> Any:
            return super().connect_tcp(_public(host, port, hosts), port, *more, **options)

    end = time.monotonic() + seconds
    waits = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), seconds / 2)}
    name = ""
    try:
        with httpcore.ConnectionPool(network_backend=Public()) as pool:
            for _ in range(REDIRECTS + 1):
                # International names and paths as they are sent.
                url, name = _written(address)
                with pool.stream("GET", url, headers=HEADERS, extensions=waits) as answer:
                    given = {key.lower(): value for key, value in answer.headers}
                    if answer.status in (301, 302, 303, 307, 308) and b"location" in given:
                        address = urljoin(url, given[b"location"].decode("latin-1"))
                        continue
                    if answer.status != 200:
                        raise UserError(
                            tr(
                                "{host} answers {status} for that address.",
                                host=name, status=answer.status,
                            )
                        )  # fmt: skip
                    _copy(answer.iter_stream(), file, most, end, name)
                    return
    except (httpcore.TimeoutException, TimeoutError):
        raise UserError(_too_slow(name)) from None
    except (
        httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError,
        ValueError,
    ) as error:  # fmt: skip
        log.info("an address could not be fetched: %s", type(error).__name__)
        raise UserError(
            tr("I cannot reach {host}.", host=name) if name else tr("I cannot reach that address.")
        ) from None
    raise UserError(tr("{host} sends me from one address to the next.", host=name))


def _too_slow(host: str) -> str:
    return tr("{host} took too long to answer.", host=host)


def _written(address: str) -> tuple[str, str]:
    """An address as it is sent, and its host's name for words. Raises ValueError."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("no web address")
    host = parts.hostname if ":" in parts.hostname else parts.hostname.encode("idna").decode()
    where = f"[{host}]" if ":" in host else host
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~") or "/"
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit((parts.scheme, where + port, path, query, "")), parts.hostname[:60]


def _public(host: str, port: int, hosts: frozenset[str]) -> str:
    """The number of a host that anybody may reach, or that `hosts` or the settings name."""
    found = [str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if host.lower() not in read(Limits).hosts | hosts:
        for number in found:
            address = ip_address(number)
            inner = getattr(address, "ipv4_mapped", None) or address
            if not inner.is_global or inner.is_multicast:
                raise UserError(
                    tr("I may not fetch from {host}: it is no public address.", host=host[:60])
                )
    return found[0]


def _copy(parts: Iterable[bytes], file: IO[bytes], most: int, end: float, name: str) -> None:
    size = 0
    for part in parts:
        size += len(part)
        if size > most:
            raise UserError(too_large(size, most))
        if time.monotonic() > end:
            raise UserError(_too_slow(name))
        file.write(part)
