"""Pictures whose edges meet: every convolution sees what lies at the opposite edge."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from core.catalog import Model
from core.engine import AskDifferently
from core.languages import tr

# A model this small knows by the edges alone where it is: without them it draws nothing but
# ground. Its first half is drawn with them.
SMALL, HALF = 256, 0.5


@contextlib.contextmanager
def seamless(pipeline: Any, model: Model) -> Iterator[Callable[[float], None]]:
    """Draw tiles with a pipeline; what is yielded is to be told the share that is drawn.

    Raises AskDifferently where a pipeline draws without convolutions.
    """
    if getattr(pipeline, "unet", None) is None:
        raise AskDifferently(tr("{model} cannot draw tiles. Ask without --tile.", model=model.name))
    padded = [
        layer
        for part in (pipeline.unet, pipeline.vae)
        for layer in part.modules()
        if isinstance(layer, torch.nn.Conv2d) and any(layer.padding)
    ]
    before = [layer.padding_mode for layer in padded]
    begin = HALF if model.size <= SMALL else 0.0

    def drawn(share: float) -> None:
        for layer, mode in zip(padded, before, strict=True):
            layer.padding_mode = "circular" if share >= begin else mode

    try:
        yield drawn
    finally:
        for layer, mode in zip(padded, before, strict=True):
            layer.padding_mode = mode
