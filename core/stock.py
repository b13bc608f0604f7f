"""What draws: its list for everybody, and what moderators do with it."""

import contextlib

from redis.exceptions import RedisError

from core import catalog, parts, registry
from core.asking import LISTED, Ask, Reply, index_of, picture_number
from core.engine import MARK
from core.errors import NotAllowed, NotFound, UserError
from core.house import House
from core.languages import mark, tr, trn
from core.offers import KINDS
from core.options import COMMAND_OF, OPTIONS, Mode, Option
from core.providers import PROVIDERS, provider_of
from core.queue import DRAW

# So many of a model's LoRAs and VAEs are named; autocomplete knows them all.
FEW_PARTS = 8
# What moderators do, and how that is typed.
EXAMPLES = {
    "add": "add model owner/name",
    "hide": "hide model sdxl",
    "unhide": "unhide model sdxl",
    "default": "default model sdxl",
    "note": "note model sdxl Good with faces.",
    "picture": "picture model sdxl 12",
    "remove": "remove model sdxl",
    "list": "list",
}
DO = Option("do", f"{', '.join(EXAMPLES)}.", required=True, choices=tuple(EXAMPLES))
OF = Option("kind", f"{', '.join(KINDS)}.", choices=KINDS)
WHAT = Option(
    "what", mark("Its name; when adding, the folder, file or hub id, as the worker has it.")
)
DETAIL = Option(
    "detail", mark("What to call it when adding; the words of a note; a picture's number.")
)
CHANGES = (DO, OF, WHAT, DETAIL)


def models(house: House, ask: Ask) -> Reply:
    """What each model can do, a line each."""
    loaded: frozenset[str] = frozenset()
    with contextlib.suppress(RedisError):
        loaded = house.queue.draw.loaded()
    shown = list(catalog.models().values())
    lines = [_told_of(model, model.name in loaded) for model in shown[:LISTED]]
    if len(shown) > LISTED:
        others = ", ".join(model.name for model in shown[LISTED:])
        lines.append(tr("Also: {names}", names=others[:300]))
    return Reply("\n".join(lines), samples=registry.samples())


def _told_of(model: catalog.Model, loaded: bool) -> str:
    """What one model can do, in a line."""
    # What an engine elsewhere does not know is not its own to tell.
    steered = {"steps": trn("{n} step", "{n} steps", model.steps), "sampler": model.sampler}
    what = [
        f"{model.size}×{model.size}",
        *(told for name, told in steered.items() if told and name not in model.family.lacks),
        tr("up to {number} pixels a side", number=model.largest),
    ]  # fmt: skip
    ways = [f"/{COMMAND_OF[mode]}" for mode in Mode if mode in model.modes and mode != Mode.UPSCALE]
    name = tr("{model} (loaded)", model=model.name) if loaded else model.name
    if elsewhere := PROVIDERS.get(model.engine):
        # Translators: of a model that a service or a server draws with, such as kie.ai.
        name = tr("{model} (elsewhere, by {engine})", model=model.name, engine=elsewhere.title)
    words = f"{name}: {', '.join(what)}; {' '.join(ways)}"
    for title, kind in (("LoRAs", parts.loras), ("VAEs", parts.vaes)):
        if fitting := [one.name for one in kind(model).values()]:
            known, more = ", ".join(fitting[:FEW_PARTS]), len(fitting) - FEW_PARTS
            if more > 0:
                known = tr("{names} and {number} more", names=known, number=more)
            words += f"; {title}: {known}"
    if lacks := [one.flags[0] for one in OPTIONS if one.name in model.family.lacks]:
        without = tr("without {flags}", flags=" ".join(f"--{flag}" for flag in lacks))
        words += f"; {without}"
    note = registry.note("model", model.name)
    return f"{words}. {note}".strip() if note else words


def change(house: House, ask: Ask) -> Reply:
    """Do what a moderator says with what draws; see core/registry.py. Raises UserError."""
    if not ask.asker.trusted:
        raise NotAllowed(tr("Only a moderator whom the host lists can change what draws."))
    do, kind, what, name = (str(ask.given.get(option.name) or "").strip() for option in CHANGES)
    kept = house.registry
    if do == "list":
        lines = [one for one in kept.listed() if not kind or one.startswith(f"{kind} ")]
        if len(lines) > LISTED:
            more = tr("… and {number} more: /model list lora", number=len(lines) - LISTED)
            lines = [*lines[:LISTED], more]
        nothing = tr("Nobody added anything yet: /models lists what draws.")
        return Reply("\n".join(lines) or nothing)
    if not kind or not what:
        raise UserError(
            tr(
                "/model {act} needs kind and what, such as /model {example}.",
                act=do, example=EXAMPLES[do],
            )
        )  # fmt: skip
    match do:
        case "add":
            return Reply(kept.add(kind, what, name, ask.asker, workers=_workers(house, what)))
        case "hide" | "unhide":
            return Reply(kept.hide(kind, what, ask.asker, do == "hide"))
        case "default":
            return Reply(kept.choose(kind, what, ask.asker))
        case "picture":
            return Reply(_sampled(house, ask, kind, what, name))
        case "note":
            return Reply(kept.describe(kind, what, name, ask.asker))
        case _:
            picture = registry.picture_of(kind, what)
            said = kept.remove(kind, what)
            if picture:
                house.media.delete(picture)
            return Reply(said)


def _sampled(house: House, ask: Ask, kind: str, what: str, number: str) -> str:
    """Let one's own finished picture show what a model or a LoRA draws."""
    generation, place = picture_number(number)
    one = house.generations.own(generation, ask.asker)
    result = one.picture(index_of(one, place))
    drawn = [one.request.model] if kind == "model" else [name for name, _ in one.request.loras]
    if kind not in ("model", "lora"):
        raise UserError(tr("Only models and LoRAs have a picture of what they draw."))
    if what.lower() not in [name.lower() for name in drawn] or one.request.mode == Mode.UPSCALE:
        raise UserError(tr("#{number} was not drawn with {what}.", number=one.id, what=what[:60]))
    if result.get(MARK):
        raise UserError(
            tr(
                "#{number} is not for everybody: it is marked as {label}.",
                number=one.id, label=result[MARK],
            )
        )  # fmt: skip
    what = house.registry.named(kind, what)
    try:
        small = house.uploads.small(house.media.load(str(result["key"])))
    except FileNotFoundError:
        told = tr("The picture of #{number} is no longer kept.", number=one.id)
        raise NotFound(told) from None
    old = registry.picture_of(kind, what)
    house.registry.picture(kind, what, house.media.save_sample(one.id, small), ask.asker)
    if old:
        house.media.delete(old)
    return tr(
        "Everybody sees a small copy of #{number} beside {what} in /models now.",
        number=one.id, what=what,
    )  # fmt: skip


def _workers(house: House, source: str) -> bool:
    """Whether somebody is on line who sees, or asks, what a source names."""
    elsewhere = provider_of(source)
    with contextlib.suppress(RedisError):
        return house.queue.line(elsewhere[0] if elsewhere else DRAW).workers() > 0
    return False
