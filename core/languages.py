"""In whose language something is said: gettext's catalogs, and who is spoken to now.

What is said is marked in English where it is said: `tr("There is no key {number}.", number=3)`,
`trn("{n} step", "{n} steps", n)`, and `mark("…")` for what is declared once and said later, by
`tr`; `trc` says what means something else elsewhere, such as a command's name. `make languages`
gathers it into core/locale/; what stands in no catalog is said in English. Logs, settings and what
the host reads on a terminal are English.
"""

import gettext
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

DOMAIN = "drawqueue"
CATALOGS = Path(__file__).parent / "locale"
ENGLISH = "en"
# What each language calls itself.
LANGUAGES: Mapping[str, str] = MappingProxyType(
    {ENGLISH: "English", "de": "Deutsch", "es": "Español", "fr": "Français", "ru": "Русский"}
)
# What English calls them.
NAMES: Mapping[str, str] = MappingProxyType(
    {ENGLISH: "English", "de": "German", "es": "Spanish", "fr": "French", "ru": "Russian"}
)
_spoken: ContextVar[str] = ContextVar("language", default=ENGLISH)


def closest(tag: str | None) -> str:
    """The language that a client's tag (`es-419`, `de_AT`) names; English for one nobody has."""
    language = (tag or "").replace("_", "-").split("-")[0].strip().lower()
    return language if language in LANGUAGES else ENGLISH


def named(word: str) -> str:
    """The language that somebody means: by its own name, English's, or a tag; empty for none."""
    wanted = _plain(word)
    for language, name in LANGUAGES.items():
        if wanted in (language, _plain(name), _plain(NAMES[language])):
            return language
        if re.fullmatch(rf"{language}[-_][a-z0-9_-]+", wanted):
            return language
    return ""


def _plain(word: str) -> str:
    """A word without its accents and capitals."""
    parts = unicodedata.normalize("NFKD", word.strip().casefold())
    return "".join(sign for sign in parts if not unicodedata.combining(sign))


def preferred(header: str) -> str:
    """The language that a browser's Accept-Language likes best, of those there are."""
    liked = []
    for place, part in enumerate(header[:500].split(",")):
        tag, _, quality = part.partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            weight = 0.0
        language = tag.strip().replace("_", "-").split("-")[0].lower()
        if language in LANGUAGES and weight > 0:
            liked.append((-weight, place, language))
    return min(liked)[2] if liked else ENGLISH


def spoken() -> str:
    """The language that is spoken now."""
    return _spoken.get()


def speak(language: str) -> None:
    """Speak a language from now on, in this task or thread."""
    _spoken.set(language if language in LANGUAGES else ENGLISH)


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Speak a language for a while."""
    before = _spoken.set(language if language in LANGUAGES else ENGLISH)
    try:
        yield
    finally:
        _spoken.reset(before)


def tr(text: str, /, **values: Any) -> str:
    """A text in the language that is spoken, its values filled in."""
    told = _catalog(_spoken.get()).gettext(text) if text else text
    return told.format(**values) if values else told


def trc(context: str, text: str, /) -> str:
    """A text that means something else elsewhere, in the language that is spoken."""
    return _catalog(_spoken.get()).pgettext(context, text)


def trn(one: str, several: str, n: int, /, **values: Any) -> str:
    """One of a text's forms, as the language counts; `{n}` is the number."""
    return _catalog(_spoken.get()).ngettext(one, several, n).format(n=n, **values)


def forms(one: str, several: str) -> list[str]:
    """A text that counts as it is said of one, of few, and of many."""
    return [_catalog(_spoken.get()).ngettext(one, several, n) for n in (1, 2, 5)]


def mark(text: str, /) -> str:
    """The text itself: it is gathered into the catalogs, and said by `tr` later."""
    return text


@cache
def _catalog(language: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, CATALOGS, [language], fallback=True)
