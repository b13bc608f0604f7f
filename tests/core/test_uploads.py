"""What people bring: odd, hostile and ordinary pictures, and addresses."""

import io
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms

from core import uploads
from core.errors import TryAgain, UserError
from core.media import Media
from core.settings import _read
from core.uploads import SIDE, Uploads, checked, fetched, flat, whiteness


def saved(image: Image.Image, kind: str, **more: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def halves(mode: str = "RGB", width: int = 40, height: int = 20) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    return image.convert(mode)


def near(colour: Any, wanted: tuple[int, int, int], slack: int = 24) -> bool:
    return all(abs(a - b) <= slack for a, b in zip(colour, wanted, strict=True))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_every_usual_kind_is_read(kind: str) -> None:
    image = checked(saved(halves(), kind))
    assert image.mode == "RGB" and image.size == (40, 20)
    assert near(image.getpixel((5, 10)), (255, 0, 0)) and near(
        image.getpixel((35, 10)), (0, 0, 255)
    )


@pytest.mark.parametrize(
    ("mode", "kind"), [("CMYK", "JPEG"), ("P", "PNG"), ("P", "GIF"), ("1", "PNG"), ("L", "JPEG")]
)
def test_every_mode_becomes_rgb(mode: str, kind: str) -> None:
    image = checked(saved(halves(mode), kind))
    assert image.mode == "RGB" and image.size == (40, 20)
    if mode in ("CMYK", "P"):
        assert near(image.getpixel((5, 10)), (255, 0, 0), 40)


def test_sixteen_bits_become_eight() -> None:
    deep = Image.new("I;16", (10, 10), 32768)
    assert near(checked(saved(deep, "PNG")).getpixel((5, 5)), (128, 128, 128), 2)


def test_a_phones_turned_picture_stands_upright() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # Turn by 90 degrees to the right.
    image = checked(saved(halves(), "JPEG", exif=turned))
    assert image.size == (20, 40)
    assert near(image.getpixel((10, 5)), (255, 0, 0)) and near(
        image.getpixel((10, 35)), (0, 0, 255)
    )


def test_an_animated_picture_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert near(checked(data).getpixel((4, 4)), (255, 0, 0))


def test_transparency_is_kept_until_it_is_known_what_lies_below() -> None:
    clear = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    clear.paste((255, 255, 255, 255), (0, 0, 5, 10))
    image = checked(saved(clear, "PNG"))
    assert image.mode == "RGBA"
    assert flat(image, "white").getpixel((8, 5)) == (255, 255, 255)
    # White strokes on nothing, as a mask: half of it is painted anew.
    assert abs(whiteness(image) - 0.5) < 0.01


def test_a_colour_profile_is_heeded() -> None:
    told = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # What this profile calls red is sRGB's blue.
    swapped = told.replace(b"rXYZ", b"####").replace(b"bXYZ", b"rXYZ").replace(b"####", b"bXYZ")
    image = checked(saved(halves(), "PNG", icc_profile=swapped))
    assert near(image.getpixel((5, 10)), (0, 0, 255), 8)
    assert near(image.getpixel((35, 10)), (255, 0, 0), 8)


def test_a_profile_that_does_not_fit_leaves_the_numbers_as_they_are() -> None:
    other = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    image = checked(saved(halves(), "PNG", icc_profile=other))
    assert image.tobytes() == checked(saved(halves(), "PNG")).tobytes()


def test_a_large_picture_is_made_smaller_at_once() -> None:
    assert checked(saved(Image.new("RGB", (6000, 3000)), "JPEG")).size == (SIDE, SIDE // 2)


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says it is large, and would be."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(
            ">I", zlib.crc32(kind + data)
        )  # fmt: skip

    rows = zlib.compress(b"\0" * min(10**6, (width // 8 + 1) * height), 9)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"hello", "cannot read that as a picture"),
        (b"<html><script>", "cannot read that as a picture"),
        (b"%PDF-1.7 something", "cannot read that as a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot read that as a picture"),
        (saved(Image.effect_noise((64, 64), 50), "PNG")[:2000], "damaged"),
        (saved(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG")[:300], "damaged"),
        (bomb(20_000, 10_000), "hundreds of megapixels; 50 is the most"),
        (bomb(2**31 - 1, 2**31 - 1), "hundreds of megapixels; 50 is the most"),
        (bomb(10_000, 6_000), "60 megapixels; 50 is the most"),
        (b"\x00" * 21_000_000, "21.0 MB; 20 MB is the most"),
    ],
)
def test_what_is_no_picture_or_too_large_is_told_in_words(data: bytes, words: str) -> None:
    with pytest.raises(UserError) as told:
        checked(data)
    assert words in str(told.value) and "Error" not in str(told.value)


def test_pixels_are_counted_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("its pixels were read"))
    with pytest.raises(UserError, match="megapixels"):
        checked(bomb(20_000, 10_000))


def test_what_is_kept_is_a_plain_png_without_the_phones_notes(tmp_path: Path) -> None:
    notes = Image.Exif()
    notes[0x010F] = "A phone of somebody"
    kept = Uploads(Media(str(tmp_path))).keep(saved(halves(), "JPEG", exif=notes))
    data = (tmp_path / kept.key).read_bytes()
    assert (kept.width, kept.height) == (40, 20) and kept.generation is None
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG" and not image.getexif() and b"phone" not in data


def test_a_full_storage_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "uploads").write_text("in the way")
    with pytest.raises(TryAgain, match="could not store that picture"):
        Uploads(Media(str(tmp_path))).keep(saved(halves(), "PNG"))


class Site(BaseHTTPRequestHandler):
    """A web server that answers as its paths say."""

    def do_GET(self) -> None:
        kind, _, rest = self.path.strip("/").partition("/")
        body = saved(halves(), "PNG")
        match kind:
            case "picture":
                self._answer(200, body)
            case "status":
                self._answer(int(rest), b"")
            case "to":
                self._answer(302, b"", Location=rest)
            case "round":
                self._answer(302, b"", Location="/round/again")
            case "endless":
                self.send_response(200)
                self.end_headers()
                with_some = b"x" * 100_000
                for _ in range(1000):
                    self.wfile.write(with_some)
            case "html":
                self._answer(200, b"<html>not a picture</html>")
            case "short":
                self.send_response(200)
                self.send_header("Content-Length", "999999")
                self.end_headers()
                self.wfile.write(body)
            case "garbage":
                self.wfile.write(b"\x00\x01 no http \r\n\r\n")

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def allow(hosts: str) -> None:
        monkeypatch.setenv("DRAWQUEUE_FETCH_HOSTS", hosts)
        _read.cache_clear()

    return allow


def test_a_picture_is_fetched_through_redirects(site: str, allowed: Callable[[str], None]) -> None:
    allowed("127.0.0.1")
    assert checked(fetched(f"{site}/to//picture/a b.png")).size == (40, 20)
    assert checked(fetched(f"{site}/to/{site}/picture")).size == (40, 20)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/status/404", "127.0.0.1 answers 404"),
        ("/status/500", "answers 500"),
        ("/round", "from one address to the next"),
        ("/endless", "20 MB is the most"),
        ("/short", "cannot reach"),
        ("/garbage", "cannot reach"),
        ("/to/ftp://127.0.0.1/x", "cannot reach"),
        ("/to/file:///etc/passwd", "cannot reach"),
    ],
)
def test_what_a_site_does_wrong_is_told_in_words(
    site: str, allowed: Callable[[str], None], path: str, words: str
) -> None:
    allowed("127.0.0.1")
    with pytest.raises(UserError) as told:
        fetched(site + path)
    assert words in str(told.value)


def test_a_page_is_no_picture(
    site: str, allowed: Callable[[str], None], tmp_path: Path
) -> None:  # fmt: skip
    allowed("127.0.0.1")
    with pytest.raises(UserError, match="cannot read that as a picture"):
        Uploads(Media(str(tmp_path))).fetch(f"{site}/html")


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1/x", "http://localhost/x", "http://[::1]/x", "http://0.0.0.0/x",
        "http://10.0.0.1/x", "http://192.168.1.1/x", "http://172.16.0.1/x",
        "http://169.254.169.254/latest/meta-data", "http://100.64.0.1/x", "http://[fd00::1]/x",
        "http://[::ffff:127.0.0.1]/x", "http://2130706433/x", "http://0x7f.1/x",
        "http://127.1/x", "http://224.0.0.1/x", "http://[fe80::1]/x", "http://user@127.0.0.1/x",
    ],
)  # fmt: skip
def test_no_private_place_is_reached(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    import socket

    monkeypatch.setattr(
        socket, "create_connection", lambda *_a, **_k: pytest.fail("it was connected to")
    )
    with pytest.raises(UserError, match=r"no public address|cannot reach"):
        fetched(address)


def test_a_redirect_leads_to_no_private_place_either(
    site: str, allowed: Callable[[str], None]
) -> None:
    allowed("localhost")
    address = site.replace("127.0.0.1", "localhost")
    assert fetched(f"{address}/picture")
    # The same machine by its number, which nobody allowed.
    with pytest.raises(UserError, match=r"may not fetch from 127\.0\.0\.1"):
        fetched(f"{address}/to/{site}/picture")


def test_a_name_means_what_it_meant_when_it_was_looked_at(
    monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    """A name that is public when it is checked and private when it is connected to."""
    import socket

    told = iter(["93.184.216.34", "127.0.0.1", "127.0.0.1"])
    connected: list[str] = []

    def lookup(host: str, port: int, *_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(told), port))]

    def connect(where: tuple[str, int], *_: Any, **__: Any) -> Any:
        connected.append(where[0])
        raise OSError("no such way out of here")

    monkeypatch.setattr(uploads.socket, "getaddrinfo", lookup)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(UserError, match="cannot reach"):
        fetched("http://changing.example/x")
    assert connected == ["93.184.216.34"]


def test_odd_addresses_are_told_in_words() -> None:
    for odd in ("http://", "https://:80", "http://[::1", "http://a b", "http://\ud800.example/"):
        with pytest.raises(UserError):
            fetched(odd)
