"""What draws and writes: the protocols every engine keeps, and errors named by what one can do."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
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
    """Worth another try, as it stands; `unsent` ones never reached who was asked."""

    unsent = False


class Wait(TransientError):
    """Worth another try, but not before so many seconds have gone: a limit was reached."""

    def __init__(self, words: str, seconds: float) -> None:
        super().__init__(words, seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return str(self.args[0])


class TryAnother(EngineError):
    """This engine cannot now, whoever asks it (no credit, a key refused, a server that is down);
    another one may."""


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


@dataclass(frozen=True)
class Task:
    """A drawing that another machine has taken on, by what it calls it.

    `again` are the seconds after which to ask for it where no word came; `begun` is how many
    pictures were taken on so far, those in vain too, where that is not how many were asked for.
    """

    name: str
    again: float = 10.0
    begun: int = 0


class Remote(Engine, Protocol):
    """Draws on other machines, many at a time: its methods are called from many threads.

    Its images may be opened files that are not yet decoded.
    """

    def close(self) -> None:
        """Let go of connections."""


class Deferred(Remote, Protocol):
    """Draws where the picture comes later: the worker takes the next job meanwhile."""

    def begin(
        self, model: Model, request: Request, report: Report, callback: str,
        pictures: "Mapping[str, Image]" = NOTHING,
    ) -> Task:  # fmt: skip
        """Let another machine take a drawing on, which sends its news to `callback`, an address,
        where that is not empty. Raises only EngineError."""

    def collect(
        self, model: Model, request: Request, report: Report, task: str,
        news: Mapping[str, Any] | None = None,
    ) -> "list[Image] | Task":  # fmt: skip
        """The pictures of a task, by the news of it where some came, else by asking; the task again
        as long as it is not done. Raises only EngineError."""


# Told all that was written so far; answers whether to go on.
Say = Callable[[str], bool]


class Writer(Protocol):
    """Writes what a request of words asks for, in a process of its own or on another machine."""

    def load(self, model: Model, report: Callable[[str, float], None]) -> None:
        """Make a model ready; `report` is told what is loading and which share is done."""

    @property
    def held(self) -> Collection[str]:
        """The sources of the models that are loaded now."""

    def write(
        self, model: Model, request: Request, say: Say, talk: "Sequence[Turn]",
        pictures: "Mapping[str, Image]" = NOTHING,
    ) -> str:  # fmt: skip
        """Write the answer to a talk whose last turn is the asker's; `say` hears it grow.

        `pictures` holds what `request.held` names, for what describes. Raises Stopped when told to
        stop, and otherwise only EngineError.
        """


@dataclass(frozen=True)
class Turn:
    """What one side of a talk said: `system`, `user` or `assistant`."""

    role: str
    words: str
