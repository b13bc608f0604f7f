"""Words that help to write a prompt: by category, ours and the host's, and what is made of them."""

import logging
import random
import re
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from core.asking import Ask, Reply
from core.cards import QUESTIONS, Button
from core.drawing import draw
from core.errors import NotAllowed, NotFound, UserError, nearest
from core.house import House
from core.languages import mark, tr
from core.options import SEED_LIMIT, Mode, Option, of, validate
from core.settings import Drawing, read

log = logging.getLogger("drawqueue")

OWN = Path(__file__).with_name("phrases.toml")
# How long a phrase may be, and how many a file may hold.
LONGEST, MOST = 80, 5000
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
# What a prompt reads as something else: flags, choices, lines.
_ODD = re.compile(r"--|—|–|[{}\x00-\x1f\x7f,]")
_FLAG = re.compile(r"(?:^|\s)(?:--|—|–)[A-Za-z]")
# So many of the last words may be the beginning of a phrase.
DEEPEST = 4
# Examples of a category where all are told, and as long as an answer may be.
FEW, ANSWER = 4, 1500
# How many categories have a button, how many stand side by side, and phrases on a page: one row of
# five is left, for what stands below them.
BUTTONS, A_ROW, A_PAGE = 16, 4, 16
# What is shown of a prompt that is put together.
LINE = 300
WORDS = "words"
# The number of a button under words holds a draft's, a category's place and a code: a phrase's
# place, or which page of the category is shown, or all categories.
CATEGORIES_MOST, PHRASES = 100, 10_000
PAGES_FROM, OVERVIEW = MOST, PHRASES - 1
CHANGED = mark("The words have changed since: /words shows them as they are now.")
CATEGORY = Option("category", mark("Which words; empty: all categories."))
PROMPT = replace(CATEGORY, name="prompt", help=mark("What the words are added to."))
CATEGORIES = replace(
    CATEGORY, help=mark("What to take words from, such as subjects styles; empty: everything.")
)
RANDOM = (CATEGORIES, *(one for one in of(Mode.TEXT) if one.name not in ("prompt", "source")))


@cache
def phrases() -> Mapping[str, tuple[str, ...]]:
    """The phrases of each category, the host's behind ours; a host's broken file adds nothing."""
    own = _read(OWN)[0]
    more, wrong = _hosts()
    if wrong:
        log.warning("DRAWQUEUE_WORDS is left out: %s", wrong[0])
        return own
    both = {name: (*own.get(name, ()), *more.get(name, ())) for name in {**own, **more}}
    return {name: tuple(dict.fromkeys(words)) for name, words in both.items()}


def faults() -> list[str]:
    """What is wrong with the host's file, in words."""
    return [f"DRAWQUEUE_WORDS: {fault}" for fault in _hosts()[1]]


def _hosts() -> tuple[dict[str, tuple[str, ...]], list[str]]:
    path = read(Drawing).words
    return _read(Path(path)) if path else ({}, [])


def _read(path: Path) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """A file's phrases by category, and what is wrong with it."""
    try:
        told = tomllib.loads(path.read_text("utf-8-sig"))
    except UnicodeDecodeError:
        return {}, [f"{path} is not UTF-8. Save the file as UTF-8."]
    except OSError as error:
        return {}, [f"{str(path)[:200]} cannot be read: {error.strerror}."]
    except (ValueError, RecursionError) as error:
        why = error if isinstance(error, tomllib.TOMLDecodeError) else "nested too deeply"
        return {}, [f"{path} is not TOML: {str(why)[:200].rstrip('.')}."]
    found: dict[str, tuple[str, ...]] = {}
    wrong = []
    for name, words in told.items():
        if not _NAME.fullmatch(name):
            wrong.append(
                f"“{name[:60]}” is no name of a category; use up to 31 small letters, digits, - "
                "and _."
            )
        elif not isinstance(words, list) or not all(isinstance(one, str) for one in words):
            wrong.append(f'“{name}” must be a list of texts, such as ["woodcut", "mosaic"].')
        else:
            found[name] = tuple(filter(None, map(str.strip, words)))
            wrong += [
                f"“{one[:40]}” in “{name}” is no phrase: at most {LONGEST} characters, without "
                "commas, braces and --."
                for one in found[name]
                if len(one) > LONGEST or _ODD.search(one)
            ]
    if sum(map(len, found.values())) > MOST:
        wrong.append(f"{path} holds more than {MOST} phrases.")
    return {name: words for name, words in found.items() if words}, wrong


def _category(name: str) -> str:
    """A category as it is called. Raises UserError."""
    wanted = name.strip().lower()
    if wanted in phrases():
        return wanted
    near = nearest(wanted, phrases())
    name, known = name.strip()[:40], ", ".join(phrases())
    if near:
        raise UserError(
            tr(
                "There is no category “{name}”. Did you mean {near}? Known: {names}.",
                name=name, near=near, names=known,
            )
        )  # fmt: skip
    raise UserError(tr("There is no category “{name}”. Known: {names}.", name=name, names=known))


def words(house: House, ask: Ask) -> Reply:
    """Tell the phrases of a category, or some of each; pressing one begins a prompt, or adds to
    the one that was given. Raises UserError."""
    named, prompt = (str(ask.given.get(one) or "").strip() for one in ("category", "prompt"))
    if prompt and named.lower() not in phrases():
        # Somebody who typed a prompt alone.
        named, prompt = "", f"{named} {prompt}".strip()
    draft = _begun(house, ask, {"prompt": prompt, "words": []}) if prompt else _NEW
    if named:
        return _page(draft, list(phrases()).index(_category(named)))
    return _overview(draft)


def pressed(house: House, number: int, ask: Ask) -> Reply:
    """What a button under words does: show a category or the next of it, add a phrase to the
    prompt or take it away again. Raises UserError."""
    kept, code = divmod(number, PHRASES)
    kept, place = divmod(kept, CATEGORIES_MOST)
    draft = _kept(house, ask, kept) if kept else _NEW
    if code == OVERVIEW:
        return _overview(draft)
    if place >= len(phrases()):
        raise UserError(tr(CHANGED))
    if code >= PAGES_FROM:
        return _page(draft, place, code - PAGES_FROM)
    found = list(phrases().values())[place]
    if code >= len(found):
        raise UserError(tr(CHANGED))
    chosen = [*draft.words]
    if found[code] in chosen:
        chosen.remove(found[code])
    else:
        chosen.append(found[code])
    given = {"prompt": draft.prompt, "words": chosen}
    if not kept:
        draft = _begun(house, ask, given)
    elif not house.proposals.rewrite(kept, given):
        raise UserError(tr("That prompt is drawn already. /words begins another."))
    else:
        draft = replace(draft, words=tuple(chosen))
    return _page(draft, place, code // A_PAGE)


def drawn(house: House, ask: Ask, given: Mapping[str, Any]) -> Reply:
    """Draw the prompt that was put together. Raises UserError."""
    prompt = Draft(0, given["prompt"], tuple(given["words"])).line
    return draw(house, replace(ask, given={"prompt": prompt}), Mode.TEXT)


@dataclass(frozen=True)
class Draft:
    """A prompt that is put together by buttons, and the number it is kept under."""

    number: int
    prompt: str
    words: tuple[str, ...]

    @property
    def line(self) -> str:
        return ", ".join(filter(None, (self.prompt, *self.words)))


_NEW = Draft(0, "", ())


def _begun(house: House, ask: Ask, given: Mapping[str, Any]) -> Draft:
    number = house.proposals.keep(ask.asker, f"words:{ask.event}", WORDS, given, (), ask.address)
    return Draft(number, str(given["prompt"]), tuple(given["words"]))


def _kept(house: House, ask: Ask, number: int) -> Draft:
    try:
        found = house.proposals.get(number, ask.asker)
    except NotAllowed:
        raise NotAllowed(
            tr("Only who asked for these words puts a prompt together. /words gives you yours.")
        ) from None
    except NotFound:
        raise NotFound(tr(CHANGED)) from None
    if found.command != WORDS:
        raise NotFound(tr(CHANGED))
    return Draft(number, found.given["prompt"], tuple(found.given["words"]))


def _button(draft: Draft, place: int, code: int, label: str, row: int) -> Button:
    number = (draft.number * CATEGORIES_MOST + place) * PHRASES + code
    return Button(WORDS, number, label, row)


def _overview(draft: Draft) -> Reply:
    """Some of each category, with a button for it."""
    lines = [
        f"{name}: {', '.join(found[:FEW])}{' …' if len(found) > FEW else ''}"
        for name, found in phrases().items()
    ]
    first = next(iter(phrases()))
    lines.append(tr("All of one: /words {category}. By chance: /random", category=first))
    buttons = [
        _button(draft, place, PAGES_FROM, name, place // A_ROW)
        for place, name in enumerate(list(phrases())[:BUTTONS])
    ]
    return _answer(draft, "\n".join(lines), buttons, ())


def _page(draft: Draft, place: int, page: int = 0) -> Reply:
    """Phrases of a category, with a button for each of some of them."""
    name, found = list(phrases().items())[place]
    shown = found[page * A_PAGE : (page + 1) * A_PAGE]
    buttons = [
        _button(
            draft, place, page * A_PAGE + index, f"✓ {one}" if one in draft.words else one,
            index // A_ROW,
        )
        for index, one in enumerate(shown)
    ]  # fmt: skip
    last = [(OVERVIEW, tr("‹ Categories"))]
    if len(found) > A_PAGE:
        following = page + 1 if (page + 1) * A_PAGE < len(found) else 0
        last.append((PAGES_FROM + following, tr("More ›")))
    row = (len(shown) - 1) // A_ROW + 1
    return _answer(
        draft, told(name), buttons, tuple(_button(draft, place, *one, row) for one in last)
    )


def _answer(draft: Draft, text: str, buttons: Sequence[Button], last: Sequence[Button]) -> Reply:
    if not draft.line:
        return Reply(text, buttons=(*buttons, *last))
    row = (last or buttons)[-1].row + (0 if last else 1)
    go = Button(QUESTIONS[0], draft.number, tr("Draw it"), row)
    return Reply(
        "\n".join([text, "", tr("Your prompt: {prompt}", prompt=_cut(draft.line))]),
        buttons=(*buttons, *last, go),
    )


def _cut(line: str) -> str:
    """A prompt as the answer shows it."""
    return line if len(line) <= LINE else f"{line[: LINE - 1]}…"


def told(category: str) -> str:
    """The phrases of a category in one answer."""
    found = phrases()[category]
    shown = list(found)
    while len(", ".join(shown)) > ANSWER:
        shown.pop()
    left = len(found) - len(shown)
    words = f"{category}: {', '.join(shown)}"
    return f"{words} {tr('… and {number} more.', number=left)}" if left else words


def composed(seed: int, categories: Sequence[str] = ()) -> str:
    """A prompt of a phrase of each category; the same seed makes the same one."""
    draws = random.Random(seed)
    return ", ".join(draws.choice(phrases()[name]) for name in categories or phrases())


def at_random(house: House, ask: Ask) -> Reply:
    """Draw what chance makes of the categories. Raises UserError."""
    given: dict[str, Any] = {**ask.given}
    named = re.split(r"[\s,]+", str(given.pop("category", None) or "").strip())
    wanted = list(dict.fromkeys(_category(name) for name in named if name))
    checked = validate({**given, "prompt": "any"}, list(ask.faults))
    seed = secrets.randbelow(SEED_LIMIT + 1) if checked.seed == -1 else checked.seed
    given["prompt"] = composed(seed, wanted)
    # What takes no seed draws it as well: nobody asked for one.
    return draw(house, replace(ask, given=given), Mode.TEXT, seed)


def completions(text: str, most: int) -> list[str]:
    """What a prompt that is being typed may become: its last words as the beginning of a phrase.

    Of the longest beginning first; nothing within flags.
    """
    if _FLAG.search(text):
        return []
    known = [phrase for found in phrases().values() for phrase in found]
    starts = [match.start() for match in re.finditer(r"[^\s,]+", text)]
    made: dict[str, None] = {}
    # As they were typed: a space at the end begins another word.
    for start in starts[-DEEPEST:]:
        typed = text[start:].lower()
        if "," in typed:
            continue
        for phrase in known:
            if phrase.lower().startswith(typed) and phrase.lower() != typed:
                made[text[:start] + phrase] = None
    if re.search(r"(^|,)\s*$", text):
        # Nothing is begun: one of each in turn.
        head = text if not text or text[-1].isspace() else f"{text} "
        deepest = max(map(len, phrases().values()))
        for index in range(deepest):
            for found in phrases().values():
                if index < len(found) and found[index] not in text:
                    made[head + found[index]] = None
    return list(made)[:most]
