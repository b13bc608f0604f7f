"""The states of a generation, the moves between them, and the groups they form."""

from enum import StrEnum
from types import MappingProxyType

from core.languages import mark, tr


class State(StrEnum):
    """Where a generation stands; the same words in rows, the API, cards and metrics."""

    QUEUED = "queued"
    GENERATING = "generating"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def said(self) -> str:
        """The state as a person reads it."""
        return tr(_SAID[self])


_SAID = {
    State.QUEUED: mark("queued"),
    State.GENERATING: mark("generating"),
    State.WAITING: mark("waiting"),
    State.DONE: mark("done"),
    State.FAILED: mark("failed"),
    State.CANCELLED: mark("cancelled"),
}

PENDING = frozenset({State.QUEUED, State.GENERATING, State.WAITING})
FINAL = frozenset(State) - PENDING
RUNNING = frozenset({State.GENERATING, State.WAITING})
REDOABLE_IN_PLACE = frozenset({State.FAILED, State.CANCELLED})

MOVES = MappingProxyType(
    {
        # Done at once is what an edit made the same as something that was drawn before.
        State.QUEUED: frozenset({State.GENERATING, State.CANCELLED, State.FAILED, State.DONE}),
        State.GENERATING: frozenset(
            {State.DONE, State.FAILED, State.CANCELLED, State.WAITING, State.QUEUED}
        ),
        State.WAITING: frozenset({State.DONE, State.FAILED, State.CANCELLED, State.QUEUED}),
        State.DONE: frozenset(),
        State.FAILED: frozenset({State.QUEUED}),
        State.CANCELLED: frozenset({State.QUEUED}),
    }
)


def sources(target: State) -> frozenset[State]:
    """The states from which `target` may be reached."""
    return frozenset(state for state, reach in MOVES.items() if target in reach)
