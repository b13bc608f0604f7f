"""The catalogs of core/locale: gathered from the code and compiled by `make languages`."""

import io
import sys
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from core.commands import COMMANDS, NAME
from core.languages import CATALOGS, DOMAIN, ENGLISH, LANGUAGES

ROOT = Path(__file__).parent.parent
KEYWORDS = {"tr": None, "mark": None, "trn": (1, 2), "trc": ((1, "c"), 2)}
OTHERS = tuple(one for one in LANGUAGES if one != ENGLISH)
# This moment would change with every run.
STAMP = datetime(2026, 11, 22, tzinfo=UTC)
FOLDERS = ("core", "bots", "worker")
# What a translator reads of a command's name.
NAMING = "A command: at most 32 small letters, digits, - and _; no other command's, in no language."
METHODS = [("**.py", "python"), ("**.html", "jinja2"), ("**.js", "javascript")]


def template() -> Catalog:
    """Everything that is marked in the code, where it stands."""
    found = Catalog(project="Drawqueue", charset="utf-8")
    for folder in FOLDERS:
        for name, _line, text, comments, context in extract_from_dir(
            ROOT / folder, METHODS, keywords=KEYWORDS, comment_tags=("Translators:",),
            strip_comment_tags=True,
        ):  # fmt: skip
            # Line numbers would change with every commit.
            found.add(text, None, [(f"{folder}/{name}", None)], auto_comments=comments,
                      context=context)  # fmt: skip
    for command in COMMANDS:
        found.add(command.name, None, [("core/commands.py", None)], auto_comments=[NAMING],
                  context=NAME)  # fmt: skip
    return found


def po(language: str) -> Path:
    """Where a language's texts are written."""
    return CATALOGS / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def kept(language: str) -> Catalog:
    """A language's texts as they are committed."""
    if not po(language).exists():
        return Catalog(language, project="Drawqueue", charset="utf-8")
    with po(language).open("rb") as file:
        return read_po(file, language)


def compiled(catalog: Catalog) -> bytes:
    """What gettext reads."""
    made = io.BytesIO()
    write_mo(made, catalog)
    return made.getvalue()


def write() -> None:
    """Gather what is new, leave out what is gone, and compile."""
    gathered = template()
    for language in OTHERS:
        catalog = kept(language)
        catalog.update(gathered, no_fuzzy_matching=True)
        catalog.obsolete.clear()
        catalog.fuzzy, catalog.header_comment = (
            False,
            f"# {LANGUAGES[language]}; see `make languages`.",
        )
        catalog.msgid_bugs_address = catalog.last_translator = catalog.language_team = ""
        catalog.revision_date = catalog.creation_date = STAMP
        po(language).parent.mkdir(parents=True, exist_ok=True)
        with po(language).open("wb") as file:
            write_po(file, catalog, width=100, include_lineno=False, sort_output=True)
        po(language).with_suffix(".mo").write_bytes(compiled(catalog))
        missing = sum(1 for one in catalog if one.id and not translated(one.string))
        print(f"{language}: {len(catalog)} texts, {missing} not translated")


def translated(string: str | tuple[str, ...]) -> bool:
    """Whether a text has a translation, in each of its forms."""
    return all(string) if isinstance(string, tuple) else bool(string)


if __name__ == "__main__" and "--write" in sys.argv:
    write()
