"""What draws: the protocol every engine keeps, and its errors named by what one can do."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from core.catalog import Model
from core.options import Request

if TYPE_CHECKING:
    from PIL.Image import Image


NOTHING: Mapping[str, Any] = MappingProxyType({})
# Where an image's `info`, and then a result, says why it is not for everybody: a label such as
# “nsfw”, or that nobody could look at it.
MARK, UNCHECKED = "marked", "unchecked"


class EngineError(Exception):
    """An engine could not draw; `str(error)` is written for the asker.

    `spent` says that its process is of no more use: another one draws what comes next.
    """

    spent = False


class AskDifferently(EngineError):
    """The request is at fault: the same one would fail again."""


class TransientError(EngineError):
    """Worth another try, as it stands."""


class GiveUp(EngineError):
    """Neither waiting nor asking differently will help; the host has to mend something."""


class Stopped(EngineError):
    """The drawing was stopped as asked."""


class Report(Protocol):
    """Told the share done from 0 to 1, and words for the asker where something is out of the
    ordinary; answers whether to go on."""

    def __call__(self, share: float, words: str = "") -> bool: ...


# Given now and then a small picture of what is being drawn.
ShowPreview = Callable[["Image"], None]


class Engine(Protocol):
    """Draws requests, keeping what it loaded warm; lives in a process of its own."""

    def load(self, model: Model, report: Callable[[str, float], None]) -> None:
        """Make a model ready; `report` is told what is loading and which share is done."""

    @property
    def held(self) -> Collection[str]:
        """The sources of the models that are loaded now."""

    def draw(
        self, model: Model, request: Request, report: Report,
        pictures: "Mapping[str, Image]" = NOTHING, show: ShowPreview | None = None,
    ) -> "list[Image]":  # fmt: skip
        """Draw one picture for each of `request.seeds`, asking `report` at each step.

        `pictures` holds what `request.held` names, RGB or RGBA; `show`, where there is one, is
        given previews, which change nothing of what is drawn. Raises Stopped when told to stop,
        and otherwise only EngineError.
        """
