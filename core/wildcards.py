"""Words that stand for others: `a __colour__ fox` takes a line of the host's `colour.txt`.

Which line, the seed decides: the same request stays the same, and each of several has its own.
One that is escaped, as `\\__colour__`, means itself.
"""

import random
import re
from functools import cache
from pathlib import Path

from core.errors import InvalidOptions, nearest
from core.languages import tr
from core.settings import Drawing, read

_CARD = re.compile(r"\\?__([A-Za-z0-9][A-Za-z0-9-]{0,40}?)__")
# A line may hold cards itself, so deep.
DEEPEST = 5
# Lines of a file that are read.
MOST = 10_000


def _folder() -> Path | None:
    set_to = read(Drawing).wildcards
    return Path(set_to) if set_to else None


def names() -> list[str]:
    """The cards that the host has, by their files' names."""
    folder = _folder()
    return sorted(path.stem.lower() for path in folder.glob("*.txt")) if folder else []


@cache
def _lines(folder: Path, name: str, _written: float) -> tuple[str, ...]:
    for path in folder.glob("*.txt"):
        if path.stem.lower() == name:
            text = path.read_text(errors="replace").splitlines()[:MOST]
            return tuple(line.strip() for line in text if line.strip() and line.lstrip()[0] != "#")
    return ()


def written(prompt: str, seed: int) -> str:
    """A prompt with a line in each card's place. Raises InvalidOptions for cards nobody has."""
    folder = _folder()
    draw = random.Random(seed)
    faults: list[str] = []

    def line(match: re.Match[str]) -> str:
        if folder is None or match[0][0] == "\\":
            return match[0]
        name = match[1].lower()
        try:
            lines = _lines(folder, name, folder.stat().st_mtime)
        except OSError:
            lines = ()
        if not lines:
            near = nearest(name, names())
            words = tr("There is no wildcard {card}.", card=f"__{name}__")
            meant = near and tr("Did you mean {meant}?", meant=f"__{near}__")
            faults.append(f"{words} {meant}".rstrip())
            return ""
        return draw.choice(lines)

    for _ in range(DEEPEST):
        prompt = _CARD.sub(line, prompt)
        if faults:
            raise InvalidOptions(faults)
    return _CARD.sub(lambda match: match[0].removeprefix("\\"), prompt)


def escaped(prompt: str) -> str:
    """A prompt whose cards mean themselves."""
    return _CARD.sub(lambda match: f"\\{match[0]}", prompt)
