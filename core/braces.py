"""Braces that stand for many: `{red, green} bird` is two prompts, `--steps {10, 20}` two jobs."""

import contextlib
import math
import re
from collections.abc import Container, Iterator, Mapping
from itertools import product
from typing import Any

from core.errors import InvalidOptions
from core.languages import tr, trn

DEEPEST = 8
# From here on nobody is told the number.
MILLIONS = 10**6
# A prompt is a sequence of words and groups; a group is a list of prompts to choose from.
Prompt = list[Any]


def _parse(text: str) -> Prompt:
    """The prompt as a tree; braces that do not pair, or hold no comma, are words."""
    stack: list[list[Prompt]] = [[[]]]
    starts: list[int] = []
    index = 0
    while index < len(text):
        letter = text[index]
        if letter == "\\" and text[index + 1 : index + 2] in tuple("{},\\"):
            stack[-1][-1].append(text[index + 1])
            index += 1
        elif letter == "{" and _emphasis(text, index):
            # Double braces are emphasis, as other bots' users write it.
            end = text.index("}}", index) + 2
            stack[-1][-1].append(text[index:end])
            index = end - 1
        elif letter == "{":
            if len(stack) > DEEPEST:
                raise InvalidOptions(
                    [tr("Braces may stand in braces at most {most} deep.", most=DEEPEST)]
                )
            stack.append([[]])
            starts.append(index)
        elif letter == "}" and len(stack) > 1:
            choices = stack.pop()
            start = starts.pop()
            if len(choices) > 1:
                stack[-1][-1].append(choices)
            else:
                stack[-1][-1] += [text[start], *choices[0], letter]
        elif letter == "," and len(stack) > 1:
            stack[-1].append([])
        else:
            stack[-1][-1].append(letter)
        index += 1
    while len(stack) > 1:
        # Never closed: its commas and brace are words.
        choices = stack.pop()
        stack[-1][-1].append("{")
        for number, one in enumerate(choices):
            stack[-1][-1] += [",", *one] if number else one
    return stack[0][0]


def _emphasis(text: str, index: int) -> bool:
    """Whether `{{words}}` without a brace in it begins here."""
    inside = text[index + 2 : text.find("}}", index)] if text.startswith("{{", index) else "{"
    return "}}" in text[index:] and not set(inside) & set("{}")


def _count(prompt: Prompt) -> int:
    return math.prod(sum(map(_count, part)) for part in prompt if isinstance(part, list))


def _written(prompt: Prompt) -> Iterator[str]:
    parts = [
        [text for choice in part for text in _written(choice)] if isinstance(part, list) else [part]
        for part in prompt
    ]
    for chosen in product(*parts):
        yield "".join(chosen)


def permutations(text: str, most: int) -> list[str]:
    """Every prompt that `{red, green} bird` stands for, in the order written.

    Raises InvalidOptions for more than `most`; those are counted, not made.
    """
    tree = _parse(text)
    number = _count(tree)
    if number > most:
        raise InvalidOptions([_too_many_prompts(number, most)])
    return [" ".join(made.split()) if number > 1 else made for made in _written(tree)]


def plainly(text: str) -> str:
    """A text as it is typed where its braces stand for themselves."""
    with contextlib.suppress(InvalidOptions):
        if permutations(text, 1) == [text]:
            return text
    return re.sub(r"\\(?=[{},\\])|[{}]", r"\\\g<0>", text)


def _too_many_prompts(number: int, most: int) -> str:
    if number >= MILLIONS:
        return tr("These braces make millions of prompts; {most} is the most.", most=most)
    return trn(
        "These braces make {n} prompt; {most} is the most.",
        "These braces make {n} prompts; {most} is the most.",
        number, most=most,
    )  # fmt: skip


def _too_many_jobs(number: int, most: int) -> str:
    if number >= MILLIONS:
        return tr("These braces make millions of jobs; {most} is the most.", most=most)
    return trn(
        "These braces make {n} job; {most} is the most.",
        "These braces make {n} jobs; {most} is the most.",
        number, most=most,
    )  # fmt: skip


def each(given: Mapping[str, Any], but: Container[str], most: int) -> list[dict[str, Any]]:
    """Every way to take the braces in options' values, `but` some options': `{10, 20}` is two.

    The first that was given changes last. Raises InvalidOptions for more than `most`.
    """
    values = {
        name: permutations(value, most)
        for name, value in given.items()
        if isinstance(value, str) and "{" in value and name not in but
    }
    number = math.prod(map(len, values.values()))
    if number > most:
        raise InvalidOptions([_too_many_jobs(number, most)])
    return [
        {**given, **dict(zip(values, chosen, strict=True))} for chosen in product(*values.values())
    ]
