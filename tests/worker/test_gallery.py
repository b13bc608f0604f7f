"""The page of pictures shows what is there, and shows it as it is drawn."""

import numpy as np
import pytest
from PIL import Image

from core import catalog
from core.catalog import models
from tests.gallery import FOLDER, PAGE, THINGS, heading, request_of
from worker.engines.local import LocalDiffusers


def test_everything_is_on_the_page_with_its_picture() -> None:
    page = PAGE.read_text()
    for thing in THINGS:
        assert heading(thing) in page and f"(gallery/{thing.name}.webp)" in page
        assert (FOLDER / f"{thing.name}.webp").is_file()
    assert len(list(FOLDER.iterdir())) == len(THINGS)


def test_a_picture_of_the_page_is_what_the_model_draws(
    starter_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    starter = catalog._model(starter_model)
    models().clear()
    monkeypatch.setitem(models(), starter.name, starter)
    request = request_of(THINGS[0], {}, None)  # type: ignore[arg-type]
    engine = LocalDiffusers("cpu", 1, 0)
    drawn = engine.draw(starter, request, lambda _share, _words="": True)[0]
    shown = Image.open(FOLDER / f"{THINGS[0].name}.webp").convert("RGB")
    # WebP loses a little, and so does another machine's arithmetic.
    assert np.abs(np.asarray(drawn, float) - np.asarray(shown, float)).mean() < 6
