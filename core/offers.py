"""What moderators put on offer beside the settings, as this process was told last."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS = ("model", "lora", "vae", "upscaler")


@dataclass(frozen=True)
class Offer:
    """One model, LoRA, VAE or upscaler; without a source it is one that the settings name.

    `facts` are what a machine that sees the files knows of them, None until one has looked;
    `fault` is why it cannot be used, in words; `chosen` says that it is its kind's default;
    `picture` is the key of a picture of what it draws.
    """

    kind: str
    name: str
    source: str = ""
    hidden: bool = False
    chosen: bool = False
    note: str = ""
    picture: str = ""
    facts: Mapping[str, Any] | None = field(default=None, hash=False)
    fault: str = ""

    @property
    def usable(self) -> bool:
        """Whether its files were found to be what they should be."""
        return bool(self.source) and self.facts is not None and not self.fault

    @property
    def file(self) -> str:
        """The file of its weights: the source, or what lies in that folder."""
        return str((self.facts or {}).get("file", self.source))


_told: tuple[Offer, ...] = ()
# What is worked out from the offers, to be forgotten when they change.
on_change: list[Callable[[], None]] = []


def show(offers: Iterable[Offer]) -> None:
    """Let this process know what is on offer from now on."""
    global _told
    new = tuple(offers)
    if new != _told:
        _told = new
        for forget in on_change:
            forget()


def told() -> tuple[Offer, ...]:
    """All of them."""
    return _told


def of(kind: str) -> list[Offer]:
    """Those of a kind, by name."""
    return [one for one in _told if one.kind == kind]


def found(kind: str, name: str) -> Offer | None:
    """What a moderator said of one, by its name in whatever letters."""
    return next((one for one in of(kind) if one.name.lower() == name.lower()), None)


def hidden(kind: str, name: str) -> bool:
    """Whether a moderator hid it."""
    one = found(kind, name)
    return one is not None and one.hidden


def sources(kind: str) -> dict[str, str]:
    """Where those that were added lie, by name; hidden ones are not among them."""
    return {one.name: one.source for one in of(kind) if one.usable and not one.hidden}


def default(kind: str) -> str:
    """The name of the one that was made its kind's default; empty when none was."""
    return next((one.name for one in of(kind) if one.chosen and not one.hidden), "")
