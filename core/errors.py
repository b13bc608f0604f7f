"""Errors whose message is written for the person who reads it."""

import logging
import secrets

log = logging.getLogger("drawqueue")


class UserError(Exception):
    """Something the asker can mend; `str(error)` is shown to them as it stands."""


class InvalidOptions(UserError):
    """One or more options are wrong; `faults` holds one sentence for each."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__(
            faults[0] if len(faults) == 1 else "\n".join(f"• {fault}" for fault in faults)
        )


class NotFound(UserError):
    """The generation does not exist, or is not the asker's to see."""


class NotAllowed(UserError):
    """The asker may not do this to that generation."""


class TryAgain(UserError):
    """The house is unwell for a moment; nothing was done."""


def report(what: str, error: BaseException) -> str:
    """Log an unexpected error in full and return a short id that its finder can quote."""
    fault = secrets.token_hex(4)
    log.error("%s [fault %s]", what, fault, exc_info=error)
    return fault
