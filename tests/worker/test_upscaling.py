"""Pictures made larger: by Lanczos and sharpening, and by weights of the ESRGAN family."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from core import catalog, settings
from core.catalog import Model
from core.engine import AskDifferently, GiveUp, Stopped
from core.options import Mode, Request
from worker import frames, upscaler
from worker.engines.local import LocalDiffusers
from worker.upscaler import Upscaler

MODEL = Model("starter", str(catalog.STARTER))


def request(image: Image.Image, factor: int, by: str = catalog.LANCZOS) -> Request:
    return Request(
        prompt="a fox", negative_prompt="", width=image.width * factor,
        height=image.height * factor, steps=4, guidance=3.0, seed=7, sampler="DPM++ 2M",
        model="starter", count=1, mode=Mode.UPSCALE, sources=("k",), factor=factor, upscaler=by,
    )  # fmt: skip


def on(_share: float, _words: str = "") -> bool:
    return True


@pytest.fixture
def disc() -> Image.Image:
    """A light disc on dark ground, its border as soft as a picture of that size has it."""
    large = Image.new("RGB", (512, 512), (40, 60, 90))
    ImageDraw.Draw(large).ellipse((120, 120, 400, 400), fill=(200, 180, 150))
    return large.resize((64, 64), Image.Resampling.BOX)


@pytest.fixture
def engine() -> LocalDiffusers:
    return LocalDiffusers("cpu", 1, 0)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes the weights of a small ESRGAN that makes so many times larger, and sets them."""

    def write(scale: int, name: str = "tiny.safetensors", spoil: bytes = b"") -> Path:
        upscaler._spandrel()
        from spandrel.architectures.ESRGAN import ESRGAN

        torch.manual_seed(1)
        net = ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=2, scale=scale)
        path = tmp_path / name
        if spoil:
            path.write_bytes(spoil)
        elif path.suffix == ".pth":
            torch.save(net.state_dict(), path)
        else:
            save_file(net.state_dict(), path)
        monkeypatch.setenv("DRAWQUEUE_UPSCALER", str(path))
        settings._read.cache_clear()
        return path

    return write


def edge_energy(image: Image.Image) -> float:
    """The mean square of the gradient, where it is steepest: along edges."""
    grey = np.asarray(image.convert("L"), dtype=float)
    down, across = np.gradient(grey)
    energy = down**2 + across**2
    return float(energy[energy > np.quantile(energy, 0.97)].mean())


@pytest.mark.parametrize("factor", [2, 4])
def test_lanczos_with_sharpening_has_sharper_edges_than_bicubic(
    engine: LocalDiffusers, disc: Image.Image, factor: int
) -> None:
    drawn = engine.draw(MODEL, request(disc, factor), on, {"k": disc})[0]
    bicubic = disc.resize(drawn.size, Image.Resampling.BICUBIC)
    assert edge_energy(drawn) > 1.3 * edge_energy(bicubic)
    # Of a contrast of 160 levels, halos are but few: by UnsharpMask alone they were 44.
    before, after = np.asarray(disc, float), np.asarray(drawn, float)
    assert after.max() < before.max() + 10 and after.min() > before.min() - 10
    # It is the same picture.
    again = np.asarray(drawn.resize(disc.size, Image.Resampling.BOX), float)
    assert np.abs(again - before).mean() < 2
    assert not engine.warm, "no model is loaded for it"


def test_transparency_is_kept(engine: LocalDiffusers, weights: Any, disc: Image.Image) -> None:
    disc.putalpha(Image.linear_gradient("L").resize(disc.size))
    weights(2)
    for by in (catalog.LANCZOS, catalog.upscaler()):
        drawn = engine.draw(MODEL, request(disc, 2, by), on, {"k": disc})[0]
        assert drawn.mode == "RGBA" and drawn.size == (128, 128)
        assert abs(drawn.getpixel((64, 64))[3] - disc.getpixel((32, 32))[3]) < 8


@pytest.mark.parametrize("name", ["tiny.safetensors", "tiny.pth"])
@pytest.mark.parametrize(("scale", "factor"), [(2, 2), (2, 4), (4, 4), (4, 2)])
def test_weights_make_it_larger_whatever_they_were_made_for(
    engine: LocalDiffusers, weights: Any, disc: Image.Image, scale: int, factor: int, name: str
) -> None:
    weights(scale, name)
    assert catalog.upscaler() == "tiny"
    shares: list[float] = []
    drawn = engine.draw(
        MODEL, request(disc, factor, "tiny"), lambda share, _words="": not shares.append(share),
        {"k": disc},
    )[0]  # fmt: skip
    assert drawn.size == (64 * factor, 64 * factor)
    assert shares == sorted(shares) and shares[-1] == 1.0
    plain = frames.enlarged(disc, request(disc, factor))
    assert drawn.tobytes() != plain.tobytes()
    again = engine.draw(MODEL, request(disc, factor, "tiny"), on, {"k": disc})[0]
    assert again.tobytes() == drawn.tobytes()


def test_pieces_leave_no_seams(weights: Any, disc: Image.Image) -> None:
    tool = Upscaler(weights(2), "cpu")
    wide = disc.resize((150, 90))
    whole = tool.enlarged(wide, (300, 180), 256, on)
    shares: list[float] = []
    pieces = tool.enlarged(wide, (300, 180), 64, lambda share, _w="": not shares.append(share))
    assert len(shares) == 6
    assert np.abs(np.asarray(whole, int) - np.asarray(pieces, int)).max() <= 1
    assert np.asarray(whole).std() > 0


def test_a_stop_takes_one_piece(weights: Any, disc: Image.Image) -> None:
    tool = Upscaler(weights(2), "cpu")
    shares: list[float] = []
    with pytest.raises(Stopped):
        tool.enlarged(disc.resize((300, 300)), (600, 600), 64,
                      lambda share, _w="": bool(shares.append(share)))  # fmt: skip
    assert len(shares) == 1


def test_short_of_memory_it_takes_smaller_pieces(
    engine: LocalDiffusers, weights: Any, disc: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights(2)
    large = disc.resize((140, 140))
    plain = engine.draw(MODEL, request(large, 2, "tiny"), on, {"k": large})[0]
    through, told = Upscaler._through, list[str]()
    fits = 64 + 2 * upscaler.AROUND

    def scarce(self: Upscaler, image: Image.Image) -> Image.Image:
        if image.width > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. (injected)")
        return through(self, image)

    def report(_share: float, words: str = "") -> bool:
        told.extend([words] if words else [])
        return True

    monkeypatch.setattr(Upscaler, "_through", scarce)
    drawn = engine.draw(MODEL, request(large, 2, "tiny"), report, {"k": large})[0]
    assert np.abs(np.asarray(drawn, int) - np.asarray(plain, int)).max() <= 1
    assert told == ["Short of memory: making room."] * 2
    fits = 0
    with pytest.raises(AskDifferently, match="not enough memory"):
        engine.draw(MODEL, request(large, 2, "tiny"), report, {"k": large})


def torn() -> bytes:
    out = io.BytesIO()
    torch.save({"some.layer": torch.zeros(3)}, out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "spoil"),
    [("tiny.safetensors", b"\xff" * 40), ("tiny.pth", b"no pickle"), ("tiny.pth", torn()),
     ("tiny.txt", b"words")],
)  # fmt: skip
def test_broken_weights_are_the_hosts_to_mend(
    engine: LocalDiffusers, weights: Any, disc: Image.Image, name: str, spoil: bytes
) -> None:
    weights(2, name, spoil)
    with pytest.raises(GiveUp, match="upscaler tiny could not be loaded; the host") as told:
        engine.draw(MODEL, request(disc, 2, "tiny"), on, {"k": disc})
    assert "pickle" not in str(told.value)
    weights(2, "whole.safetensors")
    assert engine.draw(MODEL, request(disc, 2, "whole"), on, {"k": disc})[0].width == 128


def test_weights_that_are_set_no_more(
    engine: LocalDiffusers, weights: Any, disc: Image.Image
) -> None:
    weights(2, "other.safetensors")
    with pytest.raises(AskDifferently, match="upscaler tiny is no longer on offer"):
        engine.draw(MODEL, request(disc, 2, "tiny"), on, {"k": disc})
