"""Many pictures from one message: `{red, green} bird`, `--repeat`, and asking before a lot."""

import contextlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from itertools import product
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from core import wildcards
from core.braces import permutations, plainly
from core.catalog import settle
from core.database import Database, now, proposals
from core.errors import InvalidOptions, NotAllowed, NotFound, duration
from core.languages import tr, trn
from core.media import Source
from core.options import SEED_LIMIT, Mode, Options, Request
from core.pace import FIRST_GUESS_SECONDS, Pace
from core.people import Asker
from core.policy import policy

# A question stands for a while; who answers later is told to ask again.
KEPT = timedelta(days=30)


def escaped(text: str) -> str:
    """What stands for this very prompt alone, whatever braces and wildcards are in it."""
    return plainly(wildcards.escaped(text))


def counted(requests: Sequence[Request]) -> str:
    """How many these are, as the question and its answer say it."""
    pictures = sum(one.count for one in requests)
    told = trn("{n} picture", "{n} pictures", pictures)
    if pictures == len(requests):
        return told
    return trn("{n} job with {pictures}", "{n} jobs with {pictures}", len(requests), pictures=told)


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
        self, options: Options, mode: Mode = Mode.TEXT, sources: Sequence[Source] = (),
        seed: int | None = None,
    ) -> list[Request]:  # fmt: skip
        """Everything that one message asks for, settled; `seed` is the first where it says none.

        Raises InvalidOptions.
        """
        most = policy().line.permutations
        prompts = permutations(options.prompt, most)
        if not all(map(str.strip, prompts)):
            raise InvalidOptions([tr("One of the choices in braces leaves nothing to draw.")])
        number = len(prompts) * sum(one.repeat for one in options.each)
        if number > most:
            raise InvalidOptions([
                trn(
                    "That makes {n} picture; {most} from one message is the most.",
                    "That makes {n} pictures; {most} from one message is the most.",
                    number, most=most,
                )
            ])  # fmt: skip
        found = []
        for prompt, one in product(prompts, options.each):
            for index in range(one.repeat):
                made = settle(
                    one.model_copy(update={"prompt": prompt}),
                    secrets.randbelow(SEED_LIMIT + 1) if seed is None else seed,
                    mode,
                    sources,
                )
                if seed is not None or one.seed != -1:
                    further = (made.seed + index * made.count) % (SEED_LIMIT + 1)
                    made = replace(made, seed=further)
                found.append(replace(made, prompt=wildcards.written(made.prompt, made.seed)))
        return found

    def words(self, requests: Sequence[Request]) -> str:
        """What is asked before so many are queued."""
        # Redis away: a guess is as good as none.
        seconds = FIRST_GUESS_SECONDS * len(requests)
        with contextlib.suppress(RedisError):
            seconds = sum(map(self.pace.whole, requests))
        about = duration(seconds)
        return tr(
            "That makes {pictures}, about {time} of drawing. Queue them all?",
            pictures=counted(requests), time=about,
        )  # fmt: skip

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
            raise NotFound(tr("That request is not known any more. Ask again with /imagine."))
        if (row.platform, row.asker) != (asker.platform, asker.id):
            raise NotAllowed(tr("Only the person who asked for these can say so."))
        pictures = tuple(Source(**one) for one in row.pictures)
        return Proposal(row.id, row.command, row.given, pictures, row.answer)

    def rewrite(self, number: int, given: Mapping[str, Any]) -> bool:
        """Change what is asked about; False where it was answered already."""
        with self.database.write() as connection:
            done = connection.execute(
                update(proposals)
                .where(proposals.c.id == number, proposals.c.answer.is_(None))
                .values(given=dict(given))
            )
        return bool(done.rowcount)

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
