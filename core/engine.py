"""What draws: the protocol every engine keeps, and its errors named by what one can do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from core.catalog import Model
from core.options import Request


class EngineError(Exception):
    """An engine could not draw; `str(error)` is written for the asker."""


class AskDifferently(EngineError):
    """The request is at fault: the same one would fail again."""


class TransientError(EngineError):
    """Worth another try, as it stands."""


class GiveUp(EngineError):
    """Neither waiting nor asking differently will help; the host has to mend something."""


class Stopped(EngineError):
    """The drawing was stopped as asked."""


@dataclass(frozen=True)
class Picture:
    """One drawn picture: PNG bytes with the recipe in them, its seed and its size in pixels."""

    png: bytes
    seed: int
    width: int
    height: int


# Told (share done from 0 to 1); answers whether to go on.
Report = Callable[[float], bool]


class Engine(Protocol):
    """Draws requests, keeping what it loaded warm; lives in a process of its own."""

    def load(self, model: Model, report: Callable[[str, float], None]) -> None:
        """Make a model ready; `report` is told what is loading and which share is done."""

    def draw(self, model: Model, request: Request, report: Report) -> list[Picture]:
        """Draw `request.count` pictures, asking `report` at each step whether to go on.

        Raises Stopped when told to stop, and otherwise only EngineError.
        """
