"""What a person sees of a generation, as data; each chat draws it in its own way."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from core.catalog import models, repeats
from core.engine import MARK, UNCHECKED
from core.errors import UserError, duration
from core.languages import mark, speaking, tr, trn
from core.lifecycle import PENDING, State
from core.options import COMMAND_OF, Mode
from core.policy import Audience, Show, policy
from core.providers import PROVIDERS
from core.queue import Standing
from core.rows import HELD, INSTEAD, LEFT, PLAINLY, TAKEN_DOWN, Generation
from core.settings import Web, read
from core.tastes import credits
from core.writers import writer

# The pictures of a grid, as their buttons count them.
PLACES = (1, 2, 3, 4)
# Answers with a link to the page with the brush; the web's own page has one on each picture.
PAINT = "paint"
# What each button is called; said by `tr`.
ACTIONS = {
    "cancel": mark("Cancel"),
    "edit": mark("Edit"),
    "enhance": mark("✨ Enhance"),
    # Draws the better prompt that a card shows.
    "use": mark("Use it"),
    "retry": mark("Retry"),
    "reseed": mark("🎲 New seed"),
    "why": mark("Why am I waiting?"),
    "subtle": mark("Vary (subtle)"),
    "strong": mark("Vary (strong)"),
    "up2": mark("Upscale 2×"),
    "up4": mark("Upscale 4×"),
    PAINT: mark("🖌 Paint"),
    # As other bots call them, in every language.
    **{f"u{place}": f"U{place}" for place in PLACES},
    **{f"v{place}": f"V{place}" for place in PLACES},
    "agree": mark("Queue them all"),
    "refuse": mark("No, none"),
    "takedown": mark("Take down"),
    "keep": mark("Keep"),
    "newer": mark("◀ Newer"),
    "older": mark("Older ▶"),
    "words": mark("Words"),
    "more": mark("Continue"),
    "picture": mark("Draw it"),
}
# What stands under a question, which is no card.
QUESTIONS = ("agree", "refuse")
# What moderators decide of a picture that was reported.
DECISIONS = ("takedown", "keep")
# What turns a list's pages, each in the place of the one before.
PAGES = ("newer", "older")
# What stands under words and puts others in their place.
TURNING = (*PAGES, "words")
# What stands under no card, and whose number is no generation's.
ASIDE = (*QUESTIONS, *TURNING)
# Which buttons a card carries in which state, row by row.
BUTTONS: dict[State, tuple[tuple[str, ...], ...]] = {
    State.QUEUED: (("edit", "cancel"), ("why",)),
    State.GENERATING: (("cancel",),),
    State.WAITING: (("cancel",),),
    State.DONE: (("retry", "reseed"),),
    State.FAILED: (("retry",),),
    State.CANCELLED: (("retry",),),
}
# What can be done with words that are written.
WRITTEN: dict[Mode, tuple[str, ...]] = {
    Mode.WRITE: ("retry", "more"),
    Mode.ENHANCE: ("use", "retry"),
    Mode.DESCRIBE: ("picture", "retry"),
}
# What of a request means something where words come of it.
OF_WORDS = ("model", "mode", "seed")
# What can be made of one finished picture.
FURTHER = (("subtle", "strong"), ("up2", "up4"))
# The first of each row that draws over a picture, which not every model can.
VARYING = ("subtle", "v1")
ICONS = {
    State.QUEUED: "🕓",
    State.GENERATING: "🎨",
    State.WAITING: "🕓",
    State.DONE: "✅",
    State.FAILED: "⚠️",
    State.CANCELLED: "✖️",
}


# Why what is marked, and what could not be looked at, is not shown plainly.
NOT_PLAIN = {
    Show.SPOILER: (mark("Covered: marked as {label}."), mark("Covered: it could not be checked.")),
    Show.BLUR: (mark("Blurred: marked as {label}."), mark("Blurred: it could not be checked.")),
    Show.WITHHOLD: (
        mark("The picture is not shown here: marked as {label}."),
        mark("The picture is not shown here: it could not be checked."),
    ),
}


@dataclass(frozen=True)
class Button:
    """A button: what it does to which generation, and its label."""

    action: str
    generation: int
    label: str
    # Those of a row stand side by side.
    row: int = 0

    @property
    def id(self) -> str:
        """What the platform hands back when it is pressed."""
        return f"{self.action}:{self.generation}"


def pressed(data: str) -> tuple[str, int]:
    """The action and generation of a pressed button. Raises UserError for anything else."""
    action, _, number = data.partition(":")
    if action not in ACTIONS or not (number.isascii() and number.isdigit()) or len(number) > 18:
        raise UserError(tr("That button is not one I know."))
    return action, int(number)


@dataclass(frozen=True)
class Card:
    """One message about one generation."""

    generation: int
    version: int
    state: State
    status: str
    prompt: str
    details: str
    progress: float
    buttons: tuple[Button, ...]
    media: tuple[str, ...]
    alt: str
    notice: str = ""
    # How its pictures are shown to those who see this card; nobody is sent what is withheld.
    show: Show = Show.PLAIN
    # When it is expected to be there, as a Unix time, where that is known well enough.
    ready: int | None = None
    # What tells its newest preview from those before; empty where there is none.
    preview: str = ""
    # What was written, as far as it is.
    text: str = ""
    # The better prompt that was written of the one that was asked for, in words.
    better: str = ""
    # Whether words are what it makes, or makes first: of those nobody knows which share is done.
    words: bool = False

    @property
    def live(self) -> bool:
        """Whether it will still change by itself."""
        return self.state in PENDING


def status_line(generation: Generation, standing: Standing | None, progress: float) -> str:
    """The one line that tells the story."""
    match generation.state:
        case State.QUEUED if generation.enqueued == HELD:
            return tr("queued (until another picture of yours is drawn)")
        case State.QUEUED if generation.request.enhance and standing:
            return tr("queued for its prompt to be written (place {place})", place=standing.place)
        case State.GENERATING if generation.request.enhance:
            return tr("its prompt is being written")
        case State.QUEUED if standing and not standing.workers:
            return tr("queued (place {place}, no worker is on line)", place=standing.place)
        case State.QUEUED if standing:
            least, about, most = (
                duration(max(1, round(standing.seconds * share))) for share in (0.5, 1, 2)
            )
            if standing.sure or least == most:
                return tr("queued (place {place}, about {time})", place=standing.place, time=about)
            return tr(
                "queued (place {place}, {least} to {most})",
                place=standing.place, least=least, most=most,
            )  # fmt: skip
        case State.GENERATING if generation.request.mode.words:
            return tr("writing")
        case State.GENERATING if generation.request.enhance:
            return tr("writing a better prompt")
        case State.DONE if generation.request.mode.words:
            return tr("written in {time}", time=duration(generation.seconds or 0))
        case State.GENERATING if progress:
            return tr("generating {percent} %", percent=f"{100 * progress:.0f}")
        case State.WAITING:
            return tr("waiting for another server")
        case State.DONE if generation.results and generation.results[0].get("reused"):
            return tr("done at once: this was drawn before")
        case State.DONE:
            return tr("done in {time}", time=duration(generation.seconds or 0))
        case _:
            return generation.state.said


def waiting_line(generation: Generation, standing: Standing | None) -> str:
    """Why a queued picture waits: what is ahead, the class and its share; nobody is named."""
    if generation.enqueued == HELD:
        return tr(
            "As many pictures of yours (or of this chat) are being drawn as may be at once. "
            "This one gets its place in line when one of them is done."
        )
    if standing is None:
        return tr("This picture is not in line any more.")
    ahead = standing.place - 1
    pictures = trn("{n} picture", "{n} pictures", ahead) if ahead else tr("no picture")
    if not standing.workers:
        return tr(
            "No worker is on line. Before yours: {pictures}. Nothing is lost meanwhile.",
            pictures=pictures,
        )
    place, time = standing.place, duration(round(standing.ahead))
    before = trn(
        "Place {place}. Before yours: {pictures}, {time} of drawing, on {n} worker.",
        "Place {place}. Before yours: {pictures}, {time} of drawing, on {n} workers.",
        standing.workers, place=place, pictures=pictures, time=time,
    )  # fmt: skip
    if generation.line in PROVIDERS:
        before = tr(
            "Place {place} at {engine}. Before yours: {pictures}, {time} of drawing, {number} at "
            "once.",
            place=place, engine=PROVIDERS[generation.line].title, pictures=pictures, time=time,
            number=standing.workers,
        )  # fmt: skip
    if standing.share >= 1:
        return f"{before} {tr('Nobody else waits: the drawing is all yours.')}"
    shared = tr(
        "All are served in turn, by seconds drawn; your class ({name}) gives you {percent} % while "
        "all wait.",
        name=generation.class_name, percent=f"{100 * standing.share:.0f}",
    )  # fmt: skip
    return f"{before} {shared}"


def buttons_of(generation: Generation) -> tuple[Button, ...]:
    """The buttons of a card: of several pictures one is picked or varied first."""
    rows = list(BUTTONS[generation.state])
    if generation.request.mode.words:
        if generation.state == State.DONE:
            rows = [WRITTEN[generation.request.mode]]
        rows = [tuple(one for one in row if one != "edit") for row in rows]
        return _buttons(generation, rows)
    several = len(generation.results)
    if generation.request.enhance and generation.state == State.GENERATING:
        rows = [("edit", "cancel")]
    elif generation.state == State.QUEUED and _enhanceable(generation):
        rows[0] = ("edit", "enhance", "cancel")
    if generation.state == State.DONE and several > 1:
        places = PLACES[:several]
        rows = [tuple(f"u{n}" for n in places), tuple(f"v{n}" for n in places), *rows]
    elif generation.state == State.DONE:
        # The same again is the same: an upscaled picture has neither seed nor other ways.
        rows = [*FURTHER, *rows] if generation.request.mode != Mode.UPSCALE else [FURTHER[0]]
        if generation.platform != "web" and read(Web).public_url and paintable():
            rows[-1] = (*rows[-1], PAINT)
    if generation.request.mode == Mode.UPSCALE:
        rows = [tuple(one for one in row if one != "edit") for row in rows]
    model = models().get(generation.request.model)
    if model and Mode.REMIX not in model.modes:
        rows = [row for row in rows if row[0] not in VARYING]
    if not repeats(generation.request):
        # The same again is another already.
        rows = [tuple(one for one in row if one != "reseed") for row in rows]
    return _buttons(generation, rows)


def paintable() -> bool:
    """Whether anything here paints over pictures."""
    return any(Mode.INPAINT in model.modes for model in models().values())


def _buttons(generation: Generation, rows: Sequence[Sequence[str]]) -> tuple[Button, ...]:
    return tuple(
        Button(action, generation.id, tr(ACTIONS[action]), row)
        for row, actions in enumerate(rows)
        for action in actions
    )


def _enhanceable(generation: Generation) -> bool:
    """Whether a better prompt can be asked for, and none is about to be written."""
    request = generation.request
    drawn = request.mode != Mode.UPSCALE and not request.mode.words
    return drawn and not request.enhance and writer(Mode.ENHANCE) is not None


def details_of(generation: Generation) -> str:
    """How it is drawn, in one line."""
    request = generation.request
    if request.mode == Mode.ENHANCE:
        about = generation.parent
        told = tr("a better prompt for #{number}", number=about) if about else ""
        return " · ".join(filter(None, [request.model, told]))
    size = f"{request.width}×{request.height}"
    parent = generation.parent
    if request.mode.words:
        if parent and request.mode != Mode.WRITE:
            return tr("{model}, of #{number}", model=request.model, number=parent)
        return request.model
    if request.mode == Mode.UPSCALE:
        larger = tr("upscaled {factor}×", factor=request.factor)
        if parent:
            larger = tr("upscaled {factor}× from #{number}", factor=request.factor, number=parent)
        return f"{larger} · {request.upscaler} · {size}"
    model = models().get(request.model)
    # What an engine elsewhere does not know was not asked of it, and the size is its own.
    lacks = model.family.lacks if model else frozenset()
    if model and model.engine in PROVIDERS and generation.results:
        first = generation.results[0]
        size = f"{first['width']}×{first['height']}"
    steered = {
        "seed": tr("seed {number}", number=request.seed),
        "width": size,
        "steps": trn("{n} step", "{n} steps", request.steps),
        "guidance": tr("guidance {number}", number=f"{request.guidance:g}"),
        "sampler": request.sampler,
    }
    parts = [request.model, *(told for name, told in steered.items() if told and name not in lacks)]
    if instead := generation.manner.get(INSTEAD):
        parts[0] = tr("{model} in place of {other}", model=request.model, other=instead["model"])
    if request.mode != Mode.TEXT:
        how = [str(request.mode)]
        if parent:
            how = [tr("{mode} from #{number}", mode=request.mode, number=parent)]
        if request.begun:
            how.append(tr("strength {number}", number=f"{request.strength:g}"))
        if request.style_strength:
            how.append(tr("style strength {number}", number=f"{request.style_strength:g}"))
        parts.append(", ".join(how))
    if request.zoom > 1:
        parts.append(tr("zoom {number}", number=f"{request.zoom:g}"))
    if request.pan:
        parts.append(tr("pan {side}", side=request.pan))
    if request.chaos < 100:
        parts.append(tr("chaos {number}", number=f"{request.chaos:g}"))
    if request.subseed != -1:
        parts.append(tr("subseed {number}", number=request.subseed))
    parts += [f"{name} {weight:g}" for name, weight in request.loras]
    if request.vae:
        parts.append(f"VAE {request.vae}")
    if request.clip_skip:
        parts.append(tr("clip skip {number}", number=request.clip_skip))
    if request.tile:
        parts.append(tr("tiled"))
    if request.hires > 1:
        parts.append(tr("hires {number}×", number=f"{request.hires:g}"))
    return " · ".join([*parts, *credits(generation.manner)])


def show_of(generation: Generation, audience: Audience) -> Show:
    """How a row's pictures are shown to an audience: all alike, one that is marked among them."""
    if any(result.get(MARK) for result in generation.results):
        return policy().marked.to(audience)
    return Show.PLAIN


def why_not(generation: Generation, audience: Audience) -> str:
    """Why a row's pictures are not shown plainly to an audience, in words; empty when they are."""
    show = show_of(generation, audience)
    if show == Show.PLAIN:
        return ""
    labels = [str(result[MARK]) for result in generation.results if result.get(MARK)]
    known = [label for label in labels if label != UNCHECKED]
    is_marked, unchecked = NOT_PLAIN[show]
    told = tr(is_marked, label=known[0]) if known else tr(unchecked)
    if show.hides and not audience.alone and not policy().marked.alone.hides:
        asker = tr(
            "Who asked for it sees it by /show {number} in a chat with me alone.",
            number=generation.id,
        )
        told += f" {asker}"
    return told


def card_for(
    generation: Generation, standing: Standing | None, progress: float,
    audience: Audience | None = None, preview: str = "", language: str = "", said: str = "",
) -> Card:  # fmt: skip
    """The card of a row, its place in line, its progress and what is drawn by now, as an audience
    sees it; in the language of who asked for it where no other is named. `said` is what is written
    by now.

    None are those who read where it was asked for.
    """
    with speaking(language or generation.language):
        return _card_for(generation, standing, progress, audience, preview, said)


def _card_for(
    generation: Generation, standing: Standing | None, progress: float,
    audience: Audience | None, preview: str, said: str,
) -> Card:  # fmt: skip
    request = generation.request
    if generation.deleted:
        taken = generation.removed == TAKEN_DOWN
        status = f"🗑️ {tr('deleted by its asker')}"
        if taken:
            status = f"🛡️ {tr('taken down by a moderator')}"
        return Card(
            generation.id, generation.version, generation.state, status, "",
            tr("its picture and its prompt are gone"), 0.0, (), (), "", why_gone(generation),
        )  # fmt: skip
    audience = audience or Audience.of(generation.platform, generation.address)
    keys: list[str] = []
    show, notice = Show.PLAIN, generation.error or ""
    if generation.state == State.DONE:
        show = show_of(generation, audience)
        notice = why_not(generation, audience) or notice
    if generation.state == State.DONE and show != Show.WITHHOLD:
        keys = [str(result["key"]) for result in generation.results]
    told = [notice, generation.manner.get(PLAINLY), *generation.manner.get(LEFT, ())]
    notice = "\n".join(filter(None, told))
    better = better_of(generation)
    return Card(
        generation=generation.id,
        version=generation.version,
        state=generation.state,
        status=f"{_icon(generation)} {status_line(generation, standing, progress)}",
        prompt=request.original or request.prompt,
        details=details_of(generation),
        progress=progress if generation.state == State.GENERATING else 0.0,
        buttons=buttons_of(generation),
        media=tuple(keys),
        text=(generation.text or said) if request.mode.words else "",
        words=request.mode.words or bool(request.enhance),
        alt=(f"{tr('Not finished yet.')} " if preview else "") + alt_text(request.prompt),
        notice=notice,
        show=show,
        ready=_ready(standing),
        preview=preview,
        better=tr("Enhanced: {prompt}", prompt=better) if better else "",
    )


def _icon(generation: Generation) -> str:
    writes = generation.request.enhance or generation.request.mode.words
    return "✍️" if writes and generation.state == State.GENERATING else ICONS[generation.state]


def better_of(generation: Generation) -> str:
    """The better prompt that is drawn; empty where there is none."""
    return generation.request.prompt if generation.request.original else ""


def why_gone(generation: Generation) -> str:
    """Why a moderator took one down, for who asked for it; empty for any other."""
    if generation.removed != TAKEN_DOWN:
        return ""
    if generation.error:
        return tr("Why: {reason}", reason=generation.error)
    return tr("The moderators of this chat can tell you why.")


def _ready(standing: Standing | None) -> int | None:
    """The expected moment, in steps of a minute, so that a steady queue leaves it as it is."""
    if standing is None or not standing.workers or not standing.sure or standing.seconds < 60:
        return None
    return round((time.time() + standing.seconds) / 60) * 60


def alt_text(prompt: str, limit: int = 1000) -> str:
    """A description for those who cannot see the picture."""
    text = tr("A picture, made larger.")
    if prompt:
        text = tr("Picture drawn from the prompt: {prompt}", prompt=prompt)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def as_json(
    card: Card, generation: Generation, standing: Standing | None,
    marked: Collection[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """The card as the JSON interface answers it; `marked` are keys of what it begins with."""
    return {
        "id": generation.id,
        "type": COMMAND_OF[generation.request.mode],
        "status": str(generation.state),
        "progress": 1.0 if generation.state == State.DONE else card.progress,
        "place": standing.place if standing else None,
        "eta_seconds": round(standing.seconds, 1) if standing else None,
        "ready": datetime.fromtimestamp(card.ready, UTC).isoformat() if card.ready else None,
        "prompt": generation.request.prompt,
        "original": generation.request.original or None,
        "enhanced": better_of(generation) or None,
        "parameters": {
            name: value
            for name, value in generation.request.told.items()
            if name not in ("prompt", "original")
            and (name in OF_WORDS or not generation.request.mode.words)
        },
        "sources": [
            {
                "url": f"/media/{generation.id}/source/{index}",
                "mask": key == generation.request.mask,
                "marked": key in marked,
            }
            for index, key in enumerate(generation.request.held)
        ],
        "parent": generation.parent,
        "text": card.text if generation.request.mode.words and not generation.deleted else None,
        "error": generation.error,
        "seconds": generation.seconds,
        "created": generation.created.isoformat(),
        "ended": generation.ended.isoformat() if generation.ended else None,
        "results": [
            {"url": f"/media/{generation.id}/{index}", "alt": card.alt, **_public(result)}
            for index, result in enumerate(generation.results)
            if card.show != Show.WITHHOLD
        ],
        "preview": f"/media/{generation.id}/preview?of={card.preview}" if card.preview else None,
        "version": generation.version,
        "card": {
            "status": card.status,
            "details": card.details,
            "notice": card.notice,
            "better": card.better,
            "show": str(card.show),
            "paints": paintable(),
            "buttons": [
                {"action": one.action, "label": one.label, "row": one.row}
                for one in card.buttons
                if one.action != PAINT
            ],
        },
    }


def _public(result: Any) -> dict[str, Any]:
    return {MARK: None} | {name: value for name, value in dict(result).items() if name != "key"}
