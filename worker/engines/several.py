"""Several servers of one kind as one engine: each drawing goes to the one with least to do."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from PIL.Image import Image

from core.catalog import Model
from core.engine import (
    NOTHING,
    EngineError,
    Remote,
    Report,
    ShowPreview,
    TransientError,
    TryAnother,
)
from core.options import Request


class Server(Remote, Protocol):
    """A server at home, of which one can ask whether it is there."""

    def away(self, report: Report) -> list[str]:
        """Why it does not answer, in words; empty when it does."""


class Several:
    """Draws on whichever server has least of ours to do; where one cannot, another one may."""

    held: Collection[str] = ()

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._busy = [0] * len(servers)
        self._lock = threading.Lock()

    def load(self, model: Model, report: Callable[[str, float], None]) -> None:
        report(model.name, 1.0)

    def draw(
        self, model: Model, request: Request, report: Report,
        pictures: Mapping[str, Image] = NOTHING, show: ShowPreview | None = None,
    ) -> list[Image]:  # fmt: skip
        left, fault = set(range(len(self._servers))), EngineError()
        while left:
            with self._lock:
                place = min(left, key=self._busy.__getitem__)
                self._busy[place] += 1
            left.remove(place)
            try:
                return self._servers[place].draw(model, request, report, pictures, show)
            except (TransientError, TryAnother) as error:
                if isinstance(error, TransientError) and not error.unsent:
                    raise
                fault = error
            finally:
                with self._lock:
                    self._busy[place] -= 1
        raise fault

    def away(self, report: Report) -> list[str]:
        """Why those do not answer that don't, in words."""
        return [words for one in self._servers for words in one.away(report)]

    def close(self) -> None:
        for one in self._servers:
            one.close()


def servers(made: Sequence[Server]) -> Server:
    """One engine of as many servers as there are."""
    return made[0] if len(made) == 1 else Several(made)
