"""The connected parts every process works with."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from core.brush import Brush
from core.cards import Card, card_for
from core.database import Database
from core.generations import Generations
from core.languages import closest
from core.media import Media
from core.people import Asker, People
from core.policy import Audience
from core.presets import Presets
from core.proposals import Proposals
from core.queue import WorkQueue
from core.registry import Registry
from core.rows import Generation
from core.settings import Chat, Drawing, Storage, read
from core.tastes import PREVIEWS, Tastes

if TYPE_CHECKING:
    from core.accounts import Accounts
    from core.elsewhere import Elsewhere
    from core.keys import Keys
    from core.mending import Mending
    from core.reports import Reports
    from core.showing import Showing
    from core.uploads import Uploads


@dataclass(frozen=True)
class House:
    """Database, queue, pictures and the generations over them."""

    database: Database
    queue: WorkQueue
    media: Media

    @cached_property
    def generations(self) -> Generations:
        return Generations(self.database, self.queue, self.media)

    @cached_property
    def showing(self) -> "Showing":
        from core.showing import Showing

        return Showing(self.generations)

    @cached_property
    def elsewhere(self) -> "Elsewhere":
        from core.elsewhere import Elsewhere

        return Elsewhere(self.generations)

    @cached_property
    def mending(self) -> "Mending":
        from core.mending import Mending

        return Mending(self.generations, self.elsewhere)

    @cached_property
    def people(self) -> People:
        return self.generations.people

    @cached_property
    def uploads(self) -> "Uploads":
        # Decoders of pictures, which few commands need.
        from core.uploads import Uploads

        return Uploads(self.media)

    @cached_property
    def proposals(self) -> Proposals:
        return Proposals(self.database, self.queue.pace)

    @cached_property
    def presets(self) -> Presets:
        return Presets(self.database, self.people)

    @cached_property
    def tastes(self) -> Tastes:
        return Tastes(self.database, self.people, self.presets)

    @cached_property
    def registry(self) -> Registry:
        return Registry(self.database)

    @cached_property
    def keys(self) -> "Keys":
        from core.keys import Keys

        return Keys(self.database, self.queue.redis, self.people)

    @cached_property
    def accounts(self) -> "Accounts":
        # A library for passwords, which the web chat alone needs.
        from core.accounts import Accounts

        return Accounts(self.database, self.queue.redis, self.people)

    @cached_property
    def reports(self) -> "Reports":
        from core.reports import Reports

        return Reports(self.database, self.queue.redis, self.generations)

    @cached_property
    def brush(self) -> Brush:
        return Brush(self.database)

    def card(
        self, generation: Generation, audience: Audience | None = None, language: str = ""
    ) -> Card:
        """The card of a generation as it stands now, for who reads where it was asked for, or
        for another audience; in the language of who asked for it, or another."""
        pending = generation.state == "queued"
        standing = self.generations.standing(generation) if pending else None
        if generation.state != "generating":
            return card_for(generation, standing, 0.0, audience, language=language)
        progress = self.generations.progress(generation)
        if generation.request.mode.words:
            said = self.generations.said(generation)
            return card_for(generation, standing, progress, audience, "", language, said)
        wanted = generation.manner.get(PREVIEWS, True)
        preview = self.generations.previewed(generation) if wanted else ""
        return card_for(generation, standing, progress, audience, preview, language)

    def speaks(self, asker: Asker) -> str:
        """The language that an asker is answered in: as was set, else as their app has it.

        Asks the database once a minute, and goes on without it.
        """
        return self.tastes.language(asker) or closest(asker.language)

    def known(self, asker: Asker) -> Asker:
        """The asker, trusted where the host lists them, or a role of theirs, as a moderator."""
        return replace(asker, trusted=not read(Chat).trusted.isdisjoint(asker.names))


def open_house() -> House:
    """Connect as the settings say; nothing is contacted until it is used."""
    storage = read(Storage)
    return House(
        Database(storage.database),
        WorkQueue(storage.redis, read(Drawing).job_timeout, storage.keep_job_minutes),
        Media(storage.media),
    )
