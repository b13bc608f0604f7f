"""What looks at pictures: real networks in small, through the engine process and on the starter."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from core import catalog, settings
from core.cards import Audience, show_of
from core.catalog import Model
from core.engine import MARK, UNCHECKED
from core.house import House
from core.options import Mode, Request, validate
from core.people import Asker
from core.policy import Show
from core.rows import Generation
from tests import checkers
from worker import safety
from worker.finishing import Drawing, Finisher, Heart
from worker.safety import Classifier, Inspector
from worker.warm import WarmEngine

PATTERN = Model("pattern", "pattern", engine="pattern", size=64, steps=2)
RED, BLUE = "a blue crown on a red background", "a red crown on a blue background"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return checkers.classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The starter model, with a safety checker in its folder."""
    return catalog._model(checkers.with_own_check(tmp_path_factory.mktemp("own") / "model"))


@pytest.fixture
def set_to(monkeypatch: pytest.MonkeyPatch) -> Any:
    def change(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"DRAWQUEUE_{name}", value)
        settings._read.cache_clear()

    return change


def plain(colour: str, size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


def marks(images: list[Image.Image]) -> list[str]:
    return [image.info.get(MARK, "") for image in images]


def request(prompt: str, **changes: Any) -> Request:
    return Request(**{
        "prompt": prompt, "negative_prompt": "", "width": 128, "height": 128, "steps": 12,
        "guidance": 5.0, "seed": 7, "sampler": "DPM++ 2M", "model": "starter", "count": 1,
        **changes,
    })  # fmt: skip


# The host's classifier


def test_the_classifier_marks_what_it_is_sure_of(folder: str, set_to: Any) -> None:
    set_to(CLASSIFIER=folder)
    images = [plain(colour) for colour in ("red", "blue", "white", "#c02060")]
    assert marks(Inspector("cpu").marked(PATTERN, images)) == ["nsfw", "", "", ""]
    set_to(CLASSIFIER_THRESHOLD="0.01")
    assert marks(Inspector("cpu").marked(PATTERN, images))[3] == "nsfw"


def test_all_of_a_wide_or_transparent_picture_is_looked_at(folder: str, set_to: Any) -> None:
    set_to(CLASSIFIER=folder)
    wide, high = plain("blue", (192, 64)), plain("blue", (64, 256))
    wide.paste("red", (140, 0, 192, 64))
    high.paste("red", (0, 0, 64, 60))
    half = Image.new("RGBA", (64, 64), (255, 0, 0, 255))
    found = Inspector("cpu").marked(PATTERN, [wide, high, half, plain("blue", (300, 64))])
    assert marks(found) == ["nsfw", "nsfw", "nsfw", ""]
    assert found[0].size == (192, 64) and found[0].getpixel((191, 0)) == (255, 0, 0), "it is whole"


def test_labels_of_another_name(tmp_path: Path, set_to: Any) -> None:
    named = checkers.classifier(tmp_path / "other", ("cats", "Red_Things"))
    set_to(CLASSIFIER=named, CLASSIFIER_LABELS="red things, dogs")
    assert marks(Inspector("cpu").marked(PATTERN, [plain("red")])) == ["red_things"]
    assert safety.fault() == ""
    set_to(CLASSIFIER_LABELS="dogs")
    assert "none of its labels marks (cats, Red_Things)" in safety.fault()
    assert marks(Inspector("cpu").marked(PATTERN, [plain("blue")])) == [UNCHECKED]


def test_what_is_no_number_marks(folder: str, set_to: Any) -> None:
    set_to(CLASSIFIER=folder)
    look = Classifier("cpu")
    with torch.no_grad():
        look.classify.model.classifier[1].weight.fill_(float("nan"))
    assert look([plain("blue")]) == ["nsfw"]


def test_without_a_classifier_that_can_be_loaded_everything_is_marked(
    tmp_path: Path, set_to: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    set_to(CLASSIFIER=str(tmp_path))
    inspector = Inspector("cpu")
    inspector.load(PATTERN)
    assert f"Until {tmp_path} can be loaded, every picture counts as marked." in caplog.text
    assert marks(inspector.marked(PATTERN, [plain("blue"), plain("red")])) == [UNCHECKED] * 2
    assert "cannot be loaded" in safety.fault()


def test_what_cannot_be_looked_at_is_marked(folder: str, set_to: Any) -> None:
    set_to(CLASSIFIER=folder)
    inspector = Inspector("cpu")
    assert marks(inspector.marked(PATTERN, [plain("blue")])) == [""]
    classifier: Any = inspector._warm[folder]
    del classifier.classify.model.resnet
    assert marks(inspector.marked(PATTERN, [plain("blue")])) == [UNCHECKED]


def test_without_memory_on_the_device_the_cpu_looks(
    folder: str, set_to: Any, caplog: pytest.LogCaptureFixture
) -> None:
    set_to(CLASSIFIER=folder)
    look = Classifier("cpu")
    forward, tries = look.classify.model.forward, []

    def scarce(*given: Any, **named: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. (injected)")
        return forward(*given, **named)

    look.classify.model.forward = scarce
    assert look([plain("red"), plain("blue")]) == ["nsfw", ""]
    assert look.classify.model.dtype == torch.float32 and len(tries) == 2


def test_nobody_looks_where_nothing_is_set(set_to: Any) -> None:
    image = plain("red")
    # A file of somebody's may hold any words.
    image.info = {MARK: "made up"}
    inspector = Inspector("cpu")
    assert marks(inspector.marked(PATTERN, [image])) == [""]
    assert not inspector.active(PATTERN) and safety.fault() == ""


@pytest.mark.slow
def test_the_mark_leaves_the_engine_process(folder: str, set_to: Any) -> None:
    set_to(CLASSIFIER=folder)
    engine = WarmEngine("cpu", 1, 0)
    try:
        engine.load(PATTERN, lambda _name, _share: None)
        for colour, mark in (("red", "nsfw"), ("blue", "")):
            out = io.BytesIO()
            plain(colour).save(out, "PNG")
            larger = request("", mode=Mode.UPSCALE, sources=("key",), factor=2, upscaler="Lanczos")
            (made,) = engine.draw(PATTERN, larger, lambda *_: True, {"key": out.getvalue()})
            assert made.info == ({MARK: mark} if mark else {}), "upscaled ones are looked at, too"
    finally:
        engine.kill()


# A model's own checker


@pytest.fixture(scope="module")
def engine() -> Iterator[WarmEngine]:
    made = WarmEngine("cpu", 1, 0)
    yield made
    made.kill()


def test_a_models_own_checker_marks_and_blackens_nothing(engine: WarmEngine, own: Model) -> None:
    images = [
        engine.draw(own, request(prompt), lambda *_: True)[0] for prompt in (RED, BLUE)
    ]  # fmt: skip
    assert marks(images) == ["nsfw", ""]
    without = engine.draw(catalog._model(str(catalog.STARTER)), request(RED), lambda *_: True)[0]
    assert images[0].tobytes() == without.tobytes(), "bit for bit the same picture"
    assert without.info == {}


def test_what_is_remixed_and_upscaled_is_looked_at_too(engine: WarmEngine, own: Model) -> None:
    out = io.BytesIO()
    plain("red", (128, 128)).save(out, "PNG")
    pictures = {"key": out.getvalue()}
    remixed = request(RED, mode=Mode.REMIX, sources=("key",), strength=0.3)
    upscaled = request(
        RED, mode=Mode.UPSCALE, sources=("key",), factor=2, upscaler="Lanczos", width=256,
        height=256,
    )  # fmt: skip
    kept = replace(remixed, strength=0.01)
    for one in (remixed, upscaled, kept):
        assert marks(engine.draw(own, one, lambda *_: True, pictures)) == ["nsfw"]


def test_a_checker_that_is_none_marks_everything(own: Model, tmp_path: Path) -> None:
    folder = Path(checkers.with_own_check(tmp_path / "broken"))
    from safetensors.torch import load_file, save_file

    weights = folder / "safety_checker" / "model.safetensors"
    some = {name: one for name, one in load_file(weights).items() if "concept" not in name}
    save_file(some, weights, {"format": "pt"})
    broken = catalog._model(str(folder))
    inspector = Inspector("cpu")
    assert marks(inspector.marked(broken, [plain("blue")])) == [UNCHECKED]
    assert inspector.active(broken)


def test_one_checker_is_kept_beside_the_classifier(
    own: Model, tmp_path: Path, folder: str, set_to: Any
) -> None:
    set_to(CLASSIFIER=folder)
    another = catalog._model(checkers.with_own_check(tmp_path / "another"))
    inspector = Inspector("cpu")
    for model in (own, another, PATTERN):
        assert marks(inspector.marked(model, [plain("red"), plain("blue")])) == ["nsfw", ""]
    assert list(inspector._warm) == [folder, f"the safety checker of {another.source}"]


def test_a_model_that_no_hub_tells_of_may_bring_a_checker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    nowhere = Model("nowhere", f"{tmp_path.name}/nowhere")
    inspector = Inspector("cpu")
    assert inspector.active(nowhere) and not catalog.own_check(nowhere.source)
    assert marks(inspector.marked(nowhere, [plain("blue")])) == [UNCHECKED]


def test_who_looks_at_which_model(own: Model, folder: str, set_to: Any) -> None:
    starter = catalog._model(str(catalog.STARTER))
    assert Inspector("cpu").active(own) and not Inspector("cpu").active(starter)
    before = catalog.revision.__wrapped__(starter)
    set_to(CLASSIFIER=folder)
    assert Inspector("cpu").active(starter)
    assert catalog.revision.__wrapped__(starter) != before, "what nobody looked at is drawn again"


# Into the row


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_mark_is_kept_with_the_picture(house: House, ann: Asker) -> None:
    def finished(mark: str, event: str) -> Generation:
        made = house.generations.submit(
            validate({"prompt": "a fox", "count": 2, "seed": 7}), ann, event, {"chat": "web"}
        )
        if made.state == "done":
            return made
        claimed = house.generations.claim(made.id)
        assert claimed
        images = [plain("blue"), plain("red")]
        images[1].info = {MARK: mark}
        finisher = Finisher(house)
        model = catalog.models()["pattern"]
        finisher.take(Drawing(claimed, model, images, 1.0, Heart(house.queue, claimed)))
        assert finisher.drain(20)
        return house.generations.get(made.id)

    first = finished(UNCHECKED, "e1")
    assert [one.get(MARK) for one in first.results] == [None, UNCHECKED]
    again = finished("nsfw", "e2")
    assert again.results[0]["key"] != first.results[0]["key"], "looked at anew, now somebody can"
    reused = finished("", "e3")
    assert reused.results[1]["reused"] and reused.results[1][MARK] == "nsfw"
    assert show_of(reused, Audience()) == Show.SPOILER
    picked, _ = house.generations.pick(reused, 1, ann, {"chat": "web"})
    assert picked.results[0][MARK] == "nsfw"
    assert house.generations.marked(
        [str(one["key"]) for one in reused.results]
    ) == {reused.results[1]["key"]}  # fmt: skip
