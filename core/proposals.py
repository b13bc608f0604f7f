"""Many pictures from one message: `{red, green} bird`, `--repeat`, and asking before a lot."""

import contextlib
import math
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from itertools import product
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from core import wildcards
from core.catalog import settle
from core.database import Database, now, proposals
from core.errors import InvalidOptions, NotAllowed, NotFound, duration
from core.media import Source
from core.options import SEED_LIMIT, Mode, Options, Request
from core.pace import FIRST_GUESS_SECONDS, Pace
from core.people import Asker
from core.policy import policy

DEEPEST = 8
# A question stands for a while; who answers later is told to ask again.
KEPT = timedelta(days=30)
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
                raise InvalidOptions([f"Braces may stand in braces at most {DEEPEST} deep."])
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
        many = number if number < 10**6 else "millions of"
        raise InvalidOptions([f"These braces make {many} prompts; {most} is the most."])
    return [" ".join(made.split()) if number > 1 else made for made in _written(tree)]


def escaped(text: str) -> str:
    """What stands for this very prompt alone, whatever braces and wildcards are in it."""
    text = wildcards.escaped(text)
    with contextlib.suppress(InvalidOptions):
        if permutations(text, 1) == [text]:
            return text
    return re.sub(r"\\(?=[{},\\])|[{}]", r"\\\g<0>", text)


def counted(requests: Sequence[Request]) -> str:
    """How many these are, as the question and its answer say it."""
    pictures = sum(one.count for one in requests)
    jobs = f"{len(requests)} jobs with " if pictures != len(requests) else ""
    return f"{jobs}{pictures} pictures"


@dataclass(frozen=True)
class Proposal:
    """A request of many pictures that was shown with its cost, and what was answered to it."""

    id: int
    command: str
    given: Mapping[str, Any]
    pictures: tuple[Source, ...]
    answer: str | None


class Proposals:
    """The requests that wait for their asker's word; asking and answering twice does it once."""

    def __init__(self, database: Database, pace: Pace) -> None:
        self.database = database
        self.pace = pace

    def requests(
        self, options: Options, mode: Mode = Mode.TEXT, sources: Sequence[Source] = ()
    ) -> list[Request]:
        """Everything that one message asks for, settled. Raises InvalidOptions."""
        most = policy().line.permutations
        prompts = permutations(options.prompt, most)
        if not all(map(str.strip, prompts)):
            raise InvalidOptions(["One of the choices in braces leaves nothing to draw."])
        if len(prompts) * options.repeat > most:
            raise InvalidOptions([
                f"That makes {len(prompts) * options.repeat} pictures; "
                f"{most} from one message is the most."
            ])  # fmt: skip
        found = []
        for prompt in prompts:
            for index in range(options.repeat):
                made = settle(
                    options.model_copy(update={"prompt": prompt}),
                    secrets.randbelow(SEED_LIMIT + 1),
                    mode,
                    sources,
                )
                if options.seed != -1:
                    seed = (made.seed + index * made.count) % (SEED_LIMIT + 1)
                    made = replace(made, seed=seed)
                found.append(replace(made, prompt=wildcards.written(made.prompt, made.seed)))
        return found

    def words(self, requests: Sequence[Request]) -> str:
        """What is asked before so many are queued."""
        # Redis away: a guess is as good as none.
        seconds = FIRST_GUESS_SECONDS * len(requests)
        with contextlib.suppress(RedisError):
            seconds = sum(self.pace.expect(one).seconds for one in requests)
        about = duration(seconds)
        return f"That makes {counted(requests)}, about {about} of drawing. Queue them all?"

    def keep(
        self, asker: Asker, event: str, command: str, given: Mapping[str, Any],
        pictures: Sequence[Source], address: Mapping[str, Any],
    ) -> int:  # fmt: skip
        """Remember a request until it is agreed to; its number, the same one for an event."""
        row = {
            "platform": asker.platform, "event": event, "asker": asker.id,
            "command": command, "given": dict(given), "pictures": [asdict(one) for one in pictures],
            "address": dict(address), "created": now(),
        }  # fmt: skip
        try:
            with self.database.write() as connection:
                kept = connection.execute(insert(proposals).values(row).returning(proposals.c.id))
                return int(kept.scalar_one())
        except IntegrityError:
            with self.database.read() as connection:
                known = connection.execute(
                    select(proposals.c.id).where(
                        proposals.c.platform == asker.platform, proposals.c.event == event
                    )
                )
                return int(known.scalar_one())

    def get(self, number: int, asker: Asker) -> Proposal:
        """A request of the asker's own. Raises NotFound and NotAllowed."""
        with self.database.read() as connection:
            row = connection.execute(
                select(proposals).where(proposals.c.id == min(number, 2**31 - 1))
            ).one_or_none()
        if row is None:
            raise NotFound("That request is not known any more. Ask again with /imagine.")
        if (row.platform, row.asker) != (asker.platform, asker.id):
            raise NotAllowed("Only the person who asked for these can say so.")
        pictures = tuple(Source(**one) for one in row.pictures)
        return Proposal(row.id, row.command, row.given, pictures, row.answer)

    def prune(self) -> int:
        """Forget requests that were asked about long ago, with their prompts."""
        with self.database.write() as connection:
            gone = connection.execute(delete(proposals).where(proposals.c.created < now() - KEPT))
        return gone.rowcount

    def answer(self, number: int, answer: str) -> None:
        """Note the asker's word; the first one counts."""
        with self.database.write() as connection:
            connection.execute(
                update(proposals)
                .where(proposals.c.id == number, proposals.c.answer.is_(None))
                .values(answer=answer)
            )
