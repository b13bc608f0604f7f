"""The page of pictures shows what is there, and shows it as it is drawn."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from core import catalog
from core.catalog import models
from core.options import Request
from tests.gallery import FOLDER, PAGE, THINGS, Shown, heading, mask_of, request_of, sheet
from worker.engines.local import LocalDiffusers

# Of the sheets of four the first two are drawn.
DRAWN = 2


def test_everything_is_on_the_page_with_its_picture() -> None:
    page = PAGE.read_text()
    for thing in THINGS:
        assert heading(thing) in page and f"(gallery/{thing.name}.webp)" in page
        assert (FOLDER / f"{thing.name}.webp").is_file()
    assert len(list(FOLDER.iterdir())) == len(THINGS)


@pytest.fixture(scope="module")
def shown() -> dict[str, Image.Image]:
    """The pictures of the page."""
    return {one.name: Image.open(FOLDER / f"{one.name}.webp").convert("RGB") for one in THINGS}


def apart(one: Image.Image, other: Image.Image) -> float:
    if one.size != other.size:
        return 255
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.slow
def test_each_picture_of_the_page_is_what_the_model_draws(
    starter_model: str, monkeypatch: pytest.MonkeyPatch, shown: dict[str, Image.Image]
) -> None:
    starter = catalog._model(starter_model)
    models().clear()
    monkeypatch.setitem(models(), starter.name, starter)
    engine = LocalDiffusers("cpu", 1, 0)
    crown: Request = request_of(THINGS[0], {}, None)  # type: ignore[arg-type]
    made = {"mask": mask_of((crown.width, crown.height))}

    def drawn(thing: Shown) -> Image.Image:
        request = request_of(thing, made, crown)
        few = replace(request, count=min(DRAWN, request.count))
        images = engine.draw(starter, few, lambda _share, _words="": True, made)
        made[thing.name] = images[0]
        if thing.name == "tile":
            return sheet(images * 4, 2)
        return sheet(images, DRAWN) if len(images) > 1 else images[0]

    for thing in THINGS:
        found = drawn(thing)
        pages = {
            name: image.crop((0, 0, *found.size)) if image.width == found.width else image
            for name, image in shown.items()
        }
        far = {name: apart(found, image) for name, image in pages.items()}
        # WebP loses a little, and so does another machine's arithmetic.
        assert far[thing.name] < 5 and min(far, key=far.__getitem__) == thing.name, (thing, far)
