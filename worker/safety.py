"""What looks at pictures before anybody sees them: a model's own safety checker at what it draws,
and the classifier that the host names at everything.

It runs in the engine process, and only marks: how what is marked is shown, the policy says.
Whatever nobody could look at is marked, too. Run as `python -m worker.safety --check`, it says
what is wrong with the classifier.
"""

import argparse
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.catalog import Model, at_hand, own_check
from core.engine import MARK, UNCHECKED
from core.errors import report as report_fault
from core.settings import Safety, read
from core.uploads import flat

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger("drawqueue")

# What a model's own checker says of a picture, which it has no labels for.
OWN_LABEL = "nsfw"
# How long what could not be loaded is left alone: a hub that is away takes its time to say so.
RETRY_SECONDS = 60.0
# No classifier sees more of a picture than so many pixels a side.
SIDE = 512

# The mark of each picture; empty for none.
Look = Callable[[Sequence["Image"]], list[str]]


class Inspector:
    """Marks pictures, keeping what looks at them warm on one device."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._warm: dict[str, Look] = {}
        self._resting: dict[str, float] = {}

    def active(self, model: Model) -> bool:
        """Whether what a model draws is looked at before it is shown: nothing of it may be shown
        earlier."""
        return bool(read(Safety).classifier) or self._may_bring_a_check(model)

    def load(self, model: Model) -> None:
        """Make ready what looks at a model's pictures; what is wrong is logged."""
        self._looks(model)

    def marked(self, model: Model, images: Sequence["Image"]) -> "list[Image]":
        """The same images, each with its mark, if any, in its `info`."""
        looks = self._looks(model)
        whole = [flat(image, "white") for image in images] if looks else []
        marks = [""] * len(images)
        for look in looks:
            try:
                found = look(whole)
            except Exception as error:
                report_fault("pictures could not be looked at", error)
                found = [UNCHECKED] * len(images)
            # What somebody saw says more than that another could not look.
            marks = [
                new if new and one in ("", UNCHECKED) else one
                for one, new in zip(marks, found, strict=True)
            ]
        for image, mark in zip(images, marks, strict=True):
            # Whatever else came along with the picture that it was made from is not ours.
            image.info = {MARK: mark} if mark else {}
        return list(images)

    def _looks(self, model: Model) -> list[Look]:
        """Who looks at a model's pictures; in the place of who cannot be loaded, one who marks."""
        looks, classifier = [], read(Safety).classifier
        if classifier:
            looks.append(self._kept(classifier, lambda: Classifier(self._device())))
        if not self._may_bring_a_check(model):
            return looks
        own = f"the safety checker of {model.source}"
        if own not in self._warm:
            # One such is kept: it is as large as a part of its model.
            self._warm = {name: one for name, one in self._warm.items() if name == classifier}
        return [*looks, self._kept(own, lambda: OwnCheck(model.source, self._device()))]

    def _may_bring_a_check(self, model: Model) -> bool:
        """Whether a model brings a safety checker along, also where nobody can tell."""
        if model.engine != "diffusers":
            return False
        if at_hand(model):
            return own_check(model.source)
        if self._resting.get(model.source, 0.0) > time.monotonic():
            return True
        try:
            return bool((_told(model.source).get("safety_checker") or [None])[0])
        except Exception as error:  # Whatever a hub that is away makes the library raise.
            report_fault(f"cannot tell whether {model.source} brings a safety checker", error)
            self._resting[model.source] = time.monotonic() + RETRY_SECONDS
            return True

    def _kept(self, name: str, make: Callable[[], Look]) -> Look:
        if name in self._warm:
            return self._warm[name]
        if self._resting.get(name, 0.0) > time.monotonic():
            return _unchecked
        try:
            self._warm[name] = make()
        except Exception as error:  # Files of others: libraries meet them with whatever.
            report_fault(f"nothing looks at pictures: cannot load {name}", error)
            log.error("Until %s can be loaded, every picture counts as marked.", name)
            self._resting[name] = time.monotonic() + RETRY_SECONDS
            return _unchecked
        log.info("%s looks at what is drawn", name)
        return self._warm[name]

    def _device(self) -> str:
        import torch

        named = read(Safety).device or self.device
        return named or ("cuda:0" if torch.cuda.is_available() else "cpu")


def left_out(source: str) -> dict[str, Any]:
    """What to load a model with, so that it does not blacken pictures itself."""
    if not _told(source).get("safety_checker"):
        return {}
    return {"safety_checker": None, "requires_safety_checker": False}


@cache
def _told(source: str) -> dict[str, Any]:
    """What a model's index says of its parts; a hub is asked once."""
    from diffusers import DiffusionPipeline

    found: dict[str, Any]
    with warnings.catch_warnings():
        # The library uses what it deprecates.
        warnings.simplefilter("ignore")
        try:
            found = DiffusionPipeline.load_config(source, local_files_only=True)
        except OSError:
            found = DiffusionPipeline.load_config(source)
    return found


def _unchecked(images: "Sequence[Image]") -> list[str]:
    return [UNCHECKED] * len(images)


def _squares(image: "Image") -> "list[Image]":
    """Squares that hold all of a picture: checkers see the middle of what is longer, or squeeze it.

    They are made small, as they would be anyway.
    """
    side, long = min(image.size), max(image.size)
    number = 1 if long < side * 1.1 else math.ceil(long / side)
    found = []
    for index in range(number):
        at = round((long - side) * index / max(1, number - 1))
        left, top = (at, 0) if image.width > image.height else (0, at)
        square = image.crop((left, top, left + side, top + side))
        square.thumbnail((SIDE, SIDE))
        found.append(square)
    return found


def _by_picture(images: "Sequence[Image]", look: Look) -> list[str]:
    """The first mark among each picture's squares, all of which are looked at at once."""
    squares = [_squares(image) for image in images]
    found = iter(look([one for several in squares for one in several]))
    return [next(filter(None, [next(found) for _ in several]), "") for several in squares]


class NoLabel(Exception):
    """A classifier has no label that marks; the words are for the host."""


class Classifier:
    """A transformers image classifier, some of whose labels mark."""

    def __init__(self, device: str, *, at_hand: bool = False) -> None:
        """Load it, from what is `at_hand` only where so asked.

        Raises NoLabel when none of its labels marks, and whatever its files raise.
        """
        _quiet()
        from transformers import pipeline

        settings = read(Safety)
        self.threshold = settings.threshold
        only = {"model_kwargs": {"local_files_only": True}} if at_hand else {}
        self.classify: Any = pipeline(
            "image-classification", model=settings.classifier, device=device,
            dtype=_precision(device), **only,
        )  # fmt: skip
        config = self.classify.model.config
        labels = [str(label) for label in config.id2label.values()]
        self.marking = [one for one in labels if _folded(one) in map(_folded, settings.marking)]
        if not self.marking:
            raise NoLabel(
                f"none of its labels marks ({', '.join(labels[:12])}): "
                "name those that do in DRAWQUEUE_CLASSIFIER_LABELS"
            )
        # Labels that do not exclude each other add up to nothing.
        alone = config.problem_type == "multi_label_classification" or len(labels) == 1
        self.total: Callable[[Sequence[float]], float] = max if alone else sum

    def __call__(self, images: "Sequence[Image]") -> list[str]:
        return _by_picture(images, self._look)

    def _look(self, images: "Sequence[Image]") -> list[str]:
        told = _where_there_is_memory(
            lambda: self.classify(list(images), top_k=None, batch_size=len(images)), self._move
        )
        return [self._mark({one["label"]: one["score"] for one in single}) for single in told]

    def _mark(self, scores: dict[str, float]) -> str:
        marking = {label: scores[label] for label in self.marking}
        # Written so that what is no number marks.
        if self.total(list(marking.values())) < self.threshold:
            return ""
        return max(marking, key=lambda label: marking[label]).lower()

    def _move(self) -> None:
        import torch

        # The pipeline prepares pictures for where its model is said to be.
        self.classify.model.to(device="cpu", dtype=torch.float32)
        self.classify.device = torch.device("cpu")


class OwnCheck:
    """The safety checker that a model brings along, which says yes or no."""

    def __init__(self, source: str, device: str) -> None:
        _quiet()
        from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
        from transformers import CLIPImageProcessor

        self.prepare = CLIPImageProcessor.from_pretrained(source, subfolder="feature_extractor")
        self.checker: Any
        self.checker, told = StableDiffusionSafetyChecker.from_pretrained(
            source, subfolder="safety_checker", dtype=_precision(device), output_loading_info=True
        )
        if missing := told["missing_keys"]:
            # Of another kind: what is missing was made up.
            raise ValueError(f"no StableDiffusionSafetyChecker: {len(missing)} weights are missing")
        self.checker.to(device).eval()

    def __call__(self, images: "Sequence[Image]") -> list[str]:
        return _by_picture(images, self._look)

    def _look(self, images: "Sequence[Image]") -> list[str]:
        def look() -> list[bool]:
            import numpy as np

            seen = self.prepare(list(images), return_tensors="pt").pixel_values
            seen = seen.to(self.checker.device, self.checker.dtype)
            # It blackens what it is given beside them: that is for nobody.
            _, found = self.checker(clip_input=seen, images=np.zeros((len(images), 1, 1, 3)))
            return list(found)

        told = _where_there_is_memory(look, lambda: self.checker.float().to("cpu"))
        return [OWN_LABEL if one else "" for one in told]


def _where_there_is_memory(look: Callable[[], Any], move: Callable[[], Any]) -> Any:
    """Look, on the CPU from then on where the device has no memory for it."""
    import torch

    try:
        return look()
    except torch.OutOfMemoryError as error:
        report_fault("no memory to look at pictures: the CPU does that now", error)
    move()
    return look()


def _precision(device: str) -> Any:
    import torch

    return torch.float16 if device.startswith("cuda") else torch.float32


def _folded(label: str) -> str:
    return label.strip().lower().replace("_", " ")


def _quiet() -> None:
    """Let the libraries say nothing to who reads a worker's log."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    from transformers.utils import logging as told

    # A bar would keep a semaphore of the system, which a killed process leaves behind.
    told.disable_progress_bar()


def fault() -> str:
    """Why the host's classifier cannot look at pictures, in words; empty when it can.

    One that has to be fetched from a hub is not: it is when it is needed.
    """
    source = read(Safety).classifier
    if not source:
        return ""
    try:
        Classifier("cpu", at_hand=not Path(source).is_dir())
    except ImportError:
        return "transformers is not installed: pip install 'drawqueue[draw]'."
    except NoLabel as error:
        return f"{source}: {error}."
    except Exception as error:
        if not Path(source).is_dir() and isinstance(error, OSError):
            return ""
        return f"{source} cannot be loaded ({type(error).__name__})."
    return ""


def main() -> int:
    """Say what is wrong with the host's classifier."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", required=True)
    parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if words := fault():
        log.error("DRAWQUEUE_CLASSIFIER: %s Every picture counts as marked.", words)
    return bool(words)


if __name__ == "__main__":
    sys.exit(main())
