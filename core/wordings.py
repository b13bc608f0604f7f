"""What a model that writes is told, and what of its answer becomes a prompt: pure functions."""

import re
from collections.abc import Callable, Sequence

from core.engine import Turn
from core.languages import ENGLISH, NAMES, spoken
from core.options import PROMPT_LIMIT, Mode, Request

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
HELPFUL = (
    "You are a helpful assistant in a chat. Answer briefly and plainly, in the language that the "
    "question is asked in."
)
ENHANCING = (
    "You turn a short idea into one rich description of a picture, in the idea's own language. "
    "Begin with the idea, then tell of the place, the light, the colours, small details and the "
    "style. Answer with the description alone: one line of at most 50 words."
)
# Small models do as they are shown rather than as they are told. Of what was tried with SmolLM2,
# sentences that begin with the idea itself led it on best; of lists it makes endless ones.
SHOWN = (
    ("a cat on a roof",
     "a cat on a roof at dusk, a grey tabby with green eyes sitting on red tiles, warm light in "
     "the windows below, smoke rising from the chimneys, soft pink clouds, cinematic lighting"),
    ("old sailor",
     "old sailor with a white beard and a knitted cap, deep wrinkles in his weathered face, a "
     "stormy sea behind him, dramatic light from the side, oil painting"),
    ("a robot in a garden",
     "a robot in a garden full of wild flowers, small and rusty, holding a watering can, morning "
     "sun falling through the leaves, butterflies in the air, storybook illustration"),
)  # fmt: skip
DESCRIBING = (
    "You tell what a picture shows, so that it could be painted from your words: subject, setting, "
    "composition, colours, light and style, in one paragraph of at most 80 words."
)
QUESTION = "What does this picture show?"
IN_LANGUAGE = " Answer in {language}."
# How long a prompt is that was made richer: models read little more (CLIP reads 75 tokens).
WORDS, SIGNS = 60, 600
# A prompt that was long before may grow by so many words.
GROWN = 20


def talk_for(request: Request, before: Sequence[Turn] = ()) -> list[Turn]:
    """The talk that ends with what a request asks; `before` is what was said already."""
    if request.mode == Mode.ENHANCE:
        shown = [turn for idea, prompt in SHOWN for turn in _said(idea, prompt)]
        return [Turn(SYSTEM, ENHANCING), *shown, Turn(USER, request.prompt)]
    if request.mode == Mode.DESCRIBE:
        # Who asks nothing has no language but the one they are spoken to in.
        told = DESCRIBING
        if spoken() != ENGLISH and not request.prompt.strip():
            told += IN_LANGUAGE.format(language=NAMES[spoken()])
        return [Turn(SYSTEM, told), *before, Turn(USER, request.prompt.strip() or QUESTION)]
    return [Turn(SYSTEM, HELPFUL), *before, Turn(USER, request.prompt)]


def _said(idea: str, prompt: str) -> tuple[Turn, Turn]:
    return Turn(USER, idea), Turn(ASSISTANT, prompt)


def fitted(
    talk: Sequence[Turn], length: Callable[[Sequence[Turn]], int], room: int
) -> list[Turn] | None:
    """A talk of which the oldest turns are left out until it fits; None where its last is too long.

    What is said by `system` and the last turn stay; the first of what is left is the asker's.
    """
    ruled = [turn for turn in talk[:-1] if turn.role == SYSTEM]
    rest = [turn for turn in talk[:-1] if turn.role != SYSTEM]
    while length(kept := [*ruled, *rest, talk[-1]]) > room:
        if not rest:
            return None
        del rest[0]
        while rest and rest[0].role != USER:
            del rest[0]
    return kept


_THOUGHTS = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)


def aloud(words: str) -> str:
    """What a model says, without what it thinks (as reasoning models write it)."""
    return _THOUGHTS.sub("", words).strip()


# What stands before a prompt: “Sure! Here is an improved prompt:”, “**Prompt:**”.
_OPENING = re.compile(
    r"(?:(?:sure|certainly|of course|absolutely|okay|ok|great|alright|thank you|thanks)\b"
    r"[^.!:\n]{0,40}[.!,:]+\s*)+",
    re.IGNORECASE,
)
_PREFACE = re.compile(
    r"(?:here(?:['’]s| is| are| you go)|this is|the following|below is|try this)\b[^:\n]{0,120}:\s*"
    r"|here(?:['’]s| is)\b[^,:\n]{0,60}\b(?:prompt|version|description)\b[^,:\n]{0,60}[.:]\s*",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"(?:[\w-]+ ){0,4}(?:prompt|description|version|idea|answer|output|result|rewritten|enhanced)"
    r"\s*(?:\(\w+\))?\s*:\s*",
    re.IGNORECASE,
)
# Who says no, or asks back, made no prompt; in the languages of the house.
_REFUSAL = re.compile(
    r"(?:i(?:['’]?m| am) (?:sorry|afraid|unable|not able|just an?|an ai)"
    r"|i (?:can(?:['’]?t|not| not)|could not|couldn['’]t|won['’]t|will not|do not|don['’]t) "
    r"|sorry\b|unfortunately|as an? (?:ai|language model|assistant)"
    r"|please (?:provide|give|tell|share)"
    r"|(?:what|which|could|can|would|do) (?:you|kind|would|style|is your)\b"
    r"|how (?:can|may) i\b|es tut mir leid|ich kann\b|leider\b|lo siento|no puedo\b|désolé"
    r"|je suis désolé|je ne peux\b|к сожалению|извините|я не могу)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^\s*(?:```|~~~).*$", re.MULTILINE)
_RULE = re.compile(r"\s*[-*_=#]{3,}\s*")
_BULLET = re.compile(r"^\s*(?:[-*•·–—]|\(?\d{1,2}[.)])\s+")
# What an item of a list begins with: “**Lighting**: soft”.
_ITEM = re.compile(r"^[^\W\d][\w /&-]{1,24}:\s+")
# What is longer is no heading.
_HEADING = re.compile(r"\s*#{1,6}(?:\s+\S+){1,4}\s*")
_CLOSING = re.compile(
    r"[\s*_]*(?:note|negative prompt|explanation|tip|let me know|feel free|i hope)\b",
    re.IGNORECASE,
)
QUOTES = "\"'“”„«»‘’`"
# A list of so long lines is one of prompts to choose from, a shorter one tells of one picture.
WHOLE = 8


def enhanced(original: str, answer: str) -> str:
    """The prompt that a model's answer makes of the original, which is given back as it was where
    the answer makes none.

    What comes is one line that means nothing but itself: no flags, braces, cards or weights.
    """
    found = _plain(_line(aloud(answer)))
    if not re.search(r"\w", found) or _REFUSAL.match(found) or found.endswith("?"):
        return original
    most = max(WORDS, len(original.split()) + GROWN)
    found = _short(_once(found), most, max(SIGNS, len(original) + SIGNS // 2))
    if not keeps(original, found):
        begun = _plain(" ".join(original.split()))
        found = _once(found, begun)
        # What stands in front is whole; what it leaves no room for goes.
        found = _short(found, most - len(begun.split()), PROMPT_LIMIT - len(begun) - 2)
        if not begun or not found:
            return original
        found = f"{begun}, {found}"
    return original if found.casefold() == original.casefold().strip(" .,") else found


def _line(answer: str) -> str:
    """The prompt within an answer: one line, without what stands around it."""
    text = _FENCE.sub("", answer.replace("\r", "\n"))
    lines = [line.strip() for line in text.split("\n") if not _HEADING.fullmatch(line)]
    found: list[str] = []
    listed = False
    for line in lines:
        if _RULE.fullmatch(line) or not line:
            # The first paragraph is the prompt; what comes before it ends with a colon.
            if found and not listed:
                break
            continue
        bare = _bare(line)
        if not bare:
            continue
        if found and _CLOSING.match(line):
            break
        if _BULLET.match(line):
            # What stands before a list speaks of it.
            found, listed = found if listed else [], True
            bare = _ITEM.sub("", bare)
        elif listed:
            break
        found.append(bare)
    if listed and (long := [one for one in found if len(one.split()) >= WHOLE]):
        return long[0]
    return ", ".join(one.rstrip(" .,;:") for one in found) if listed else " ".join(found)


def _bare(line: str) -> str:
    """A line without its bullet, its emphasis, what introduces it and its quotes."""
    line = re.sub(r"(\*{1,3}|_{2,3}|`+|~~)(?=\S)(.+?)(?<=\S)\1", r"\2", _BULLET.sub("", line, 1))
    for _ in range(3):
        before = line
        for one in (_OPENING, _PREFACE, _LABEL):
            line = one.sub("", line, 1) if one.match(line) else line
        line = line.strip().strip(QUOTES + "*_").strip()
        if line == before:
            break
    return "" if line.endswith(":") else line


def _plain(text: str) -> str:
    """A text with nothing in it that a prompt is read for: it means itself."""
    text = re.sub(r"<[^<>]*>|\\", " ", text)
    # Weights: (word:1.3), word::2.
    text = re.sub(r":\s*[+-]?\d+(?:\.\d+)?\s*(?=\))|::+(?:\s*[+-]?\d[\d.]*)?", "", text)
    text = re.sub(r"[{}()\[\]*#|~`<>]|_{2,}|(?<!\w)_|_(?!\w)", " ", text)
    # A dash, and what stands behind the first flag.
    text = re.sub(r"(?:^|\s)--[A-Za-z].*", "", text)
    text = re.sub(r"(?:^|\s)(?:-{2,}|[—–])\s*|-{3,}|—", ", ", text)
    text = re.sub(r"\bnegative prompt:.*|\bsteps: ?\d+,.*", "", text, flags=re.IGNORECASE)
    text = "".join(one if one.isprintable() else " " for one in text)
    text = re.sub(r"\s+([,.;:!?])", r"\1", " ".join(text.split()))
    return re.sub(r"([,;])(?:\s*[,;.])+", r"\1", text).strip(" ,;:" + QUOTES)


def _once(text: str, said: str = "") -> str:
    """A text without the phrases that were said, or that it says again, as small models do."""
    known = {_heard(phrase) for phrase in said.split(",")} | {""}
    found = []
    for phrase in text.split(","):
        if (heard := _heard(phrase)) not in known:
            known.add(heard)
            found.append(phrase.strip())
    return ", ".join(found)


def _heard(phrase: str) -> str:
    return " ".join(re.findall(r"\w+", phrase.casefold()))


def whole_phrases(text: str) -> str:
    """A text that broke off, without the phrase that it broke off in, if much is left."""
    ends = [found.start() for found in re.finditer(r"[,;.](?=\s|$)", text)]
    return text[: ends[-1]] if ends and ends[-1] > len(text) / 2 else text


def _short(text: str, words: int, signs: int) -> str:
    """A text of at most so many words and signs, cut where a phrase ends if one does."""
    kept = " ".join(text.split()[: max(0, words)])
    if len(kept) > signs:
        kept = kept[: max(0, signs)].rsplit(" ", 1)[0]
    if kept != text:
        kept = whole_phrases(kept)
    return kept.strip(" ,;.:-–—" + QUOTES)


# Words that stand in any prompt.
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be by for from he her his in into is it its me my of off on one or our "
        "she some that the their them there they this to under up was we with you your "
        "draw make paint show picture image photo please want like very "
        "der die das den dem des ein eine einen einem einer und mit von vom zum zur auf aus bei "
        "ist im le la les un une des du de et au aux en dans sur avec pour el los las una unos y "
        "con por del и в на с из под над у о",
    )
)
# Scripts that put no blanks between words.
_RUN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f\uac00-\ud7a3]")
# From so many words on, some may be said otherwise.
FEW, SHARE = 3, 0.75


def keeps(original: str, answer: str) -> bool:
    """Whether an answer still speaks of what the original does."""
    there = set(re.findall(r"[^\W_]+", answer.casefold()))
    words = {one for one in re.findall(r"[^\W_]+", original.casefold()) if one not in _COMMON}
    kept = sum(_among(one, there, answer.casefold()) for one in words)
    return kept == len(words) if len(words) <= FEW else kept >= SHARE * len(words)


def _among(word: str, there: set[str], answer: str) -> bool:
    """Whether a word is said, in whatever form."""
    if word in there:
        return True
    if _RUN.search(word):
        pairs = [word[at : at + 2] for at in range(max(1, len(word) - 1))]
        return sum(pair in answer for pair in pairs) * 2 >= len(pairs)
    if len(word) < 3:
        return False
    stem = word if len(word) < 5 else word[: max(4, len(word) - 2)]
    return any(one.startswith(stem) and abs(len(one) - len(word)) <= 3 for one in there)
