"""What was written, as chats take it: as much of it as there is room for."""

from collections.abc import Callable

# How far back one looks for a blank, so that no word is cut.
WORD = 40


def parted(
    text: str, room: int, shown: Callable[[str], str] = str, *, end: bool = False,
    length: Callable[[str], int] = len,
) -> str:  # fmt: skip
    """A text as it is shown, within so much room: all of it, its beginning, or its end.

    `shown` may make it longer, and `length` counts as the platform does.
    """
    made = shown(text)
    if length(made) <= room:
        return made

    def some(signs: int) -> str:
        return shown(text[len(text) - signs :] if end else text[:signs])

    # One more is the sign that stands for what is left out.
    least, most = 0, len(text)
    while least < most:
        half = (least + most + 1) // 2
        if length(some(half)) < room:
            least = half
        else:
            most = half - 1
    part = text[len(text) - least :] if end else text[:least]
    if end:
        blank = part.find(" ", 0, WORD)
        return "…" + shown(part[blank + 1 :].lstrip() if blank >= 0 else part)
    blank = part.rfind(" ", max(0, len(part) - WORD))
    return shown(part[:blank].rstrip() if blank > 0 else part) + "…"
