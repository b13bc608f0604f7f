"""Errors whose message is written for the person who reads it, and how one says a time."""

import difflib
import logging
import secrets
from collections.abc import Iterable

from core.languages import tr

log = logging.getLogger("drawqueue")


# Told at once; so many fit into the shortest of the chats' messages.
MOST_FAULTS = 8


class UserError(Exception):
    """Something the asker can mend; `str(error)` is shown to them as it stands."""


class InvalidOptions(UserError):
    """One or more options are wrong; `faults` holds one sentence for each of the first."""

    def __init__(self, faults: Iterable[str]) -> None:
        each = list(dict.fromkeys(faults))
        self.faults = each[:MOST_FAULTS]
        if len(each) > MOST_FAULTS:
            self.faults.append(tr("… and {number} more.", number=len(each) - MOST_FAULTS))
        super().__init__(
            each[0] if len(each) == 1 else "\n".join(f"• {fault}" for fault in self.faults)
        )


class NotFound(UserError):
    """The generation does not exist, or is not the asker's to see."""


class NotAllowed(UserError):
    """The asker may not do this to that generation."""


class TooLate(NotAllowed):
    """It has gone on since, and can be changed no more."""


class TooMuch(UserError):
    """A limit is reached; `wait` is how many seconds until it is not, where that is known."""

    def __init__(self, words: str, wait: float | None = None) -> None:
        self.wait = wait
        super().__init__(words)


class TryAgain(UserError):
    """The house is unwell for a moment; nothing was done."""


def duration(seconds: float) -> str:
    """Seconds as people say them: 8 s, 4 min, 2 h."""
    if seconds < 10:
        return tr("{number} s", number=f"{seconds:.1f}".rstrip("0").rstrip("."))
    if seconds < 100:
        return tr("{number} s", number=f"{seconds:.0f}")
    if seconds < 5400:
        return tr("{number} min", number=f"{seconds / 60:.0f}")
    return tr("{number} h", number=f"{seconds / 3600:.0f}")


def nearest(word: str, known: Iterable[str], alike: float = 0.6) -> str:
    """The known word that was probably meant; empty when none is like it."""
    return next(iter(difflib.get_close_matches(word, list(known), 1, alike)), "")


def report(what: str, error: BaseException) -> str:
    """Log an unexpected error in full and return a short id that its finder can quote."""
    fault = secrets.token_hex(4)
    log.error("%s [fault %s]", what, fault, exc_info=error)
    return fault
