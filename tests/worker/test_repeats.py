"""The same request draws the same picture, bit for bit, whatever was drawn between."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from core import catalog
from core.engine import Stopped
from core.options import DRAWN, Mode
from core.parts import StyleAdapter
from tests.worker.families import style_adapter
from tests.worker.test_modes import FROG, INPAINT, REMIX, on, request
from tests.worker.test_upscaling import request as upscaled
from tests.worker.test_upscaling import weights
from worker.engines.local import LocalDiffusers

__all__ = ["weights"]

BLUE = (("blueprint", 0.8),)
REQUESTS: tuple[dict[str, Any], ...] = (
    {},
    {"count": 2, "seed": 11},
    {"sampler": "Euler a", "steps": 5},
    {"sampler": "DPM++ 2M SDE Karras", "width": 96},
    {"negative_prompt": "blue background", "guidance": 5.0},
    {"prompt": "a (red:1.4) [crown] on a blue background"},
    {"prompt": "a crown, " * 30 + FROG},
    {"clip_skip": 1},
    {"mode": Mode.BLEND, "sources": ("crown", "disc"), "strength": 0.5},
    {"tile": True, "loras": BLUE},
    {"loras": BLUE},
    {"mode": Mode.STYLE, "sources": ("disc",), "style_strength": 0.6, "loras": BLUE},
    {"hires": 1.25, "hires_strength": 0.25},
    {**REMIX, "strength": 0.5, "prompt": FROG},
    {**REMIX, "strength": 0.7, "loras": BLUE, "count": 2},
    {**REMIX, "strength": 0.4, "sampler": "UniPC", "tile": True},
    {**INPAINT, "mask": "disc", "prompt": FROG},
    {**INPAINT, "mask": "disc", "strength": 0.6, "sampler": "Heun"},
    {**INPAINT, "zoom": 1.5, "loras": BLUE},
    {**INPAINT, "pan": "left", "width": 192},
)


@pytest.mark.slow
def test_twenty_requests_twice(starter_model: str, weights: Any, tmp_path: Path) -> None:
    engine, starter = LocalDiffusers("cpu", 1, 0), catalog._model(starter_model)
    folder, file, _ = starter.family.adapter or ("", "", 0)
    adapter = StyleAdapter(str(style_adapter(starter, tmp_path)), folder, file)
    starter = replace(starter, style=adapter)
    weights(2)
    crown = engine.draw(starter, request(steps=4), on)[0]
    disc = Image.radial_gradient("L").resize((128, 128)).point(lambda value: 255 * (value < 90))
    pictures = {"crown": crown, "disc": disc, "k": crown}
    wanted = [request(**{"steps": 4, **one}) for one in REQUESTS]
    wanted += [upscaled(crown, 2), upscaled(crown, 2, "tiny")]
    assert len(REQUESTS) == 20 and {one.mode for one in wanted} == set(DRAWN)

    first = [engine.draw(starter, one, on, pictures) for one in wanted]
    # Other work meanwhile: another order, and one that is stopped.
    with pytest.raises(Stopped):
        engine.draw(starter, request(tile=True, loras=BLUE), lambda share, _words="": share < 0.6)
    again = [engine.draw(starter, one, on, pictures) for one in reversed(wanted)]
    again.reverse()
    for one, drawn, other in zip(wanted, first, again, strict=True):
        assert [i.tobytes() for i in drawn] == [i.tobytes() for i in other], one
    # Each is a picture of its own.
    assert len({drawn[0].tobytes() for drawn in first}) == len(first)
