"""Upscaling with the host's weights: tile by tile, so that memory stays bounded."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

from core.engine import GiveUp, Report, Stopped
from core.errors import report as report_fault
from core.languages import tr

# Pixels a side of a piece, smaller ones where memory is short.
PIECES = (256, 128, 64)
# What is drawn around a piece and thrown away: further off, nothing shows in it.
AROUND = 24


def _spandrel() -> Any:
    """The library, where torchvision is not installed too. Raises ImportError.

    Two of its architectures, which fill holes and mend faces, ask for torchvision; none that
    upscales does. The registry's does not load beside a torch without CUDA, and then neither do
    diffusers and transformers: so it is no dependency of ours.
    """
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    absent = "spandrel" not in sys.modules and find_spec(names[0]) is None
    try:
        if absent:
            sys.modules.update({name: ModuleType(name) for name in names})
            functional: Any = sys.modules[names[-1]]
            functional.InterpolationMode = functional.rotate = functional.normalize = None
        return import_module("spandrel")
    finally:
        for name in names if absent else ():
            del sys.modules[name]


class Upscaler:
    """Weights that make pictures larger, kept on a device."""

    def __init__(self, weights: Path, device: str) -> None:
        """Read the weights, whose architecture is told by their names. Raises GiveUp."""
        self.weights, self.device = weights, device
        try:
            spandrel = _spandrel()
        except ImportError as error:
            fault = report_fault("spandrel is not installed", error)
            raise GiveUp(
                tr(
                    "The upscaler needs spandrel, which is not installed; the host has to look. "
                    "(fault {fault})",
                    fault=fault,
                )
            ) from error
        try:
            model = spandrel.ModelLoader().load_from_file(weights)
            if not isinstance(model, spandrel.ImageModelDescriptor):
                raise ValueError(f"{type(model).__name__} is no upscaler")
            if model.scale < 2 or model.input_channels != 3 or model.output_channels != 3:
                raise ValueError("it does not make RGB larger")
        except Exception as error:  # Files of others: libraries meet them with whatever.
            fault = report_fault(f"cannot load {weights}", error)
            raise GiveUp(
                tr(
                    "The upscaler {name} could not be loaded; the host has to look. "
                    "(fault {fault})",
                    name=weights.stem, fault=fault,
                )
            ) from error  # fmt: skip
        self.model = model.to(torch.device(device)).eval()
        self.scale = int(model.scale)

    def enlarged(
        self, image: Image.Image, size: tuple[int, int], piece: int, report: Report
    ) -> Image.Image:
        """A picture at a larger size, drawn in pieces of so many pixels a side.

        Its transparency is kept. Raises Stopped.
        """
        alpha = image.getchannel("A") if image.mode == "RGBA" else None
        large = image.convert("RGB")
        runs = 1
        while large.width * self.scale**runs < size[0]:
            runs += 1
        for run in range(runs):

            def share_of_all(share: float, words: str = "", run: int = run) -> bool:
                return report((run + share) / runs, words)

            large = self._run(large, piece, share_of_all)
        large = large.resize(size, Image.Resampling.LANCZOS)
        if alpha:
            large.putalpha(alpha.resize(size, Image.Resampling.LANCZOS))
        return large

    def _run(self, image: Image.Image, side: int, report: Report) -> Image.Image:
        """Once through the weights, piece by piece."""
        out = Image.new("RGB", (image.width * self.scale, image.height * self.scale))
        corners = [
            (left, top)
            for top in range(0, image.height, side)
            for left in range(0, image.width, side)
        ]
        for done, (left, top) in enumerate(corners):
            right, bottom = min(image.width, left + side), min(image.height, top + side)
            begin = max(0, left - AROUND), max(0, top - AROUND)
            end = min(image.width, right + AROUND), min(image.height, bottom + AROUND)
            piece = self._through(image.crop((*begin, *end)))
            corner = (left - begin[0]) * self.scale, (top - begin[1]) * self.scale
            wide, high = (right - left) * self.scale, (bottom - top) * self.scale
            kept = piece.crop((*corner, corner[0] + wide, corner[1] + high))
            out.paste(kept, (left * self.scale, top * self.scale))
            if not report((done + 1) / len(corners)):
                raise Stopped
        return out

    def _through(self, image: Image.Image) -> Image.Image:
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            drawn = self.model(values.to(self.device))[0].clamp(0, 1)
        pixels = (drawn.permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        return Image.fromarray(pixels)
