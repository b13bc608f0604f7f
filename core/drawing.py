"""The commands that draw: from a prompt, from pictures, from what was drawn before."""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from core import catalog, flags, options
from core.asking import Ask, Reply, index_of, one_picture, picture_number
from core.braces import plainly
from core.brush import Ticket
from core.cards import ACTIONS, QUESTIONS, Button
from core.errors import InvalidOptions, NotAllowed, UserError
from core.house import House
from core.languages import mark, tr, trn
from core.media import Source
from core.options import COMMAND_OF, Mode, Option, Request
from core.people import Asker
from core.policy import policy
from core.proposals import counted, escaped
from core.rows import LEFT, Generation
from core.settings import Web, read

# One of the pictures sent along, by its place among them, where an order matters.
SENT = re.compile(r"sent:([1-9])")
# What a blend shows where nobody says.
BLENDED = "a picture"  # A prompt: models read English.
ADDRESS = re.compile(r"https?://\S+", re.IGNORECASE)
NO_PICTURE = mark(
    "Which picture? Send one along, answer one with this command, or give the number of one that "
    "I drew: --from 12"
)
# What a picture that is drawn on brings along, where nothing else is said.
INHERITED = (
    "prompt", "negative_prompt", "steps", "guidance", "sampler", "model", "vae", "clip_skip",
)  # fmt: skip
# How far a variation may leave its picture.
STRENGTHS = (("subtle", 0.35), ("strong", 0.65))
FACTORS = ("2", "4")
IMAGE = Option("image", mark("A picture of yours."), bytes)
MASK = replace(
    IMAGE, name="mask", help=mark("As large as the picture: white is painted, black stays.")
)
LOOK = replace(IMAGE, name="style", help=mark("The picture whose style is taken."))
BLENDS = tuple(replace(IMAGE, name=f"image{place}") for place in range(1, 6))
# What each way to draw begins with, and the fewest of it.
BEGUN: Mapping[Mode, tuple[Option, ...]] = {
    Mode.TEXT: (),
    Mode.REMIX: (IMAGE,),
    Mode.INPAINT: (IMAGE, MASK),
    Mode.STYLE: (IMAGE, LOOK),
    Mode.BLEND: BLENDS,
}
LOOKING = next(option.modes for option in options.OPTIONS if option.name == "look")
FEWEST = {Mode.TEXT: 0, Mode.BLEND: 2}
TAKES = {mode: (FEWEST.get(mode, 1), len(pictures)) for mode, pictures in BEGUN.items()}


def draw(house: House, ask: Ask, mode: Mode, seed: int | None = None) -> Reply:
    """Draw what is asked for; `seed` counts where it says none. Raises UserError."""
    given, named, looks = named_in(ask.given, mode)
    mode = meant(mode, len(named) + len(ask.pictures), looks)
    brought = dict(enumerate(ask.pictures, 1))
    # In their order: what was sent along comes last where nothing says otherwise.
    placed = [brought.pop(int(found[1]), word) if (found := SENT.fullmatch(word)) else word
              for word in named]  # fmt: skip
    placed += [*brought.values(), *looks]
    drawn = {
        word: drawn_here(house, ask, word)
        for word in placed
        if isinstance(word, str) and not ADDRESS.match(word)
    }
    # The picture whose style is taken brings nothing else along.
    over = placed[:-1] if mode == Mode.STYLE else placed
    parents = [drawn[word][0].request for word in over if word in drawn]
    said = {name: value for name, value in given.items() if value not in (None, "")}
    brought_on = inherited(parents, said) if parents else {}
    settled, manner = brought_on | said, dict[str, Any]()
    if not ask.settled:
        settled, manner = with_tastes(house, ask.asker, said, brought_on, mode)
    given = settled if parents else _unset(given) | settled
    wordless = mode == Mode.BLEND and not given.get("prompt")
    if wordless:
        given["prompt"] = BLENDED
    faults = [*ask.faults, *_counted(mode, len(placed))]
    wanted = catalog.requested(given, faults, mode)
    if wordless and wanted.enhance:
        raise InvalidOptions([tr("There is no prompt to enhance: write one.")])
    # What is fetched comes last: nobody waits for it to hear of a mistake.
    sources = [
        word if isinstance(word, Source)
        else drawn[word][1] if word in drawn else house.uploads.fetch(word)
        for word in placed
    ]  # fmt: skip
    requests = house.proposals.requests(wanted, mode, sources, seed)
    if len(requests) > policy().line.ask_above and not ask.agreed:
        if seed is not None and all(map(catalog.repeats, requests)):
            given["seed"] = seed
        return _propose(house, ask, mode, given, sources, requests, manner)
    made = house.generations.accept(
        requests, ask.asker, ask.event, ask.address, options.PRIORITIES.index(wanted.priority),
        _parent(mode, sources), ask.message, posted=ask.agreed, manner=manner,
    )  # fmt: skip
    others = tuple(one.id for one in made[1:])
    if ask.agreed:
        words = tr(
            "{pictures} are in line, #{first} to #{last}.",
            pictures=counted([one.request for one in made]), first=made[0].id, last=made[-1].id,
        )  # fmt: skip
        return Reply(words, made[0], others=others)
    return Reply(generation=made[0], fresh=True, others=others)


def _parent(mode: Mode, sources: Sequence[Source]) -> int | None:
    """Of several the first that was drawn here, whatever was brought beside it; not the one whose
    style is taken, where there is another."""
    over = sources[:-1] if mode == Mode.STYLE and len(sources) > 1 else sources
    return next((one.generation for one in over if one.generation), None)


def with_tastes(
    house: House, asker: Asker, said: Mapping[str, Any], inherited: Mapping[str, Any], mode: Mode
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was said with what the asker, or the chat, has set beside it; and the row's manner."""
    rules = policy()
    person = cache(lambda: house.people.get(asker.platform, asker.id))

    def faults(given: Mapping[str, Any]) -> list[str]:
        try:
            # The pictures that it begins with change nothing about what fits together.
            found = house.proposals.requests(catalog.requested(given, (), mode), mode)
            rules.drawable(found)
            rules.suits(person().classes(rules, asker)[0], found)
        except UserError as error:
            return list(getattr(error, "faults", [str(error)]))
        return []

    return house.tastes.settle(asker, said, inherited, mode, faults)


def _unset(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given without a value, for which nothing else counts either."""
    return {name: value for name, value in given.items() if value in (None, "")}


def meant(mode: Mode, pictures: int, looks: Sequence[str]) -> Mode:
    """How to draw, by the pictures that a prompt comes with."""
    if looks:
        return Mode.STYLE
    return Mode.REMIX if mode == Mode.TEXT and pictures else mode


def named_in(given: Mapping[str, Any], mode: Mode) -> tuple[dict[str, Any], list[str], list[str]]:
    """What was given without the pictures it names; those, and those whose style is taken.

    Pictures are numbers and web addresses. Addresses in front of a prompt are pictures too, as
    other bots' users write them.
    """
    left = {name: value for name, value in given.items() if name != "source"}
    named, looks = (
        [word for word in re.split(r"[\s,]+", str(given.get(name) or "")) if word]
        for name in ("source", "look")
    )
    if looks and mode in LOOKING:
        del left["look"]
    else:
        looks = []
    words = str(left.get("prompt") or "").split()
    while words and ADDRESS.fullmatch(words[0]):
        named.append(words.pop(0))
        left["prompt"] = str(left["prompt"]).split(maxsplit=1)[1] if words else ""
    return left, named, looks


def drawn_here(house: House, ask: Ask, word: str) -> tuple[Generation, Source]:
    """A finished picture by its number, as `12` or `12.2`. Raises UserError."""
    number, place = picture_number(word)
    one = house.generations.visible(number, ask.asker)
    result = one.picture(index_of(one, place))
    return one, Source(
        str(result["key"]), int(result["width"]), int(result["height"]), generation=one.id
    )


def inherited(parents: Sequence[Request], said: Mapping[str, Any]) -> dict[str, Any]:
    """What pictures bring along; to another model only their words, which any understands."""
    first = parents[0]
    words = ", ".join(dict.fromkeys(filter(None, (one.prompt for one in parents))))
    # What stood for others has done so already.
    words = escaped(words)
    model = str(said.get("model") or "").strip().lower()
    # One that is gone, nobody named.
    if (model and model != first.model.lower()) or first.model not in catalog.models():
        return {"prompt": words}
    given: dict[str, Any] = {name: getattr(first, name) for name in INHERITED}
    if "{" in first.negative_prompt:
        given["negative_prompt"] = plainly(first.negative_prompt)
    if "quality" in said:
        # So many times the model's own steps, not those of the picture.
        del given["steps"]
    if first.loras:
        given["lora"] = ", ".join(f"{name}:{weight:g}" for name, weight in first.loras)
    return given | {"prompt": words[: options.PROMPT_LIMIT]}


def _counted(mode: Mode, number: int) -> list[str]:
    """What is wrong with how many pictures there are, in words."""
    least, most = TAKES[mode]
    if number > most:
        return [
            trn(
                "/{command} takes {n} picture; got {number}.",
                "/{command} takes {n} pictures; got {number}.",
                most, command=COMMAND_OF[mode], number=number,
            )
        ]  # fmt: skip
    if number >= least:
        return []
    if least == 1:
        return [tr(NO_PICTURE)]
    return [
        tr(
            "/{command} takes {least} to {most} pictures; got {number}. Send them along, or give "
            "the numbers of some that I drew: --from 12 13",
            command=COMMAND_OF[mode], least=least, most=most, number=number,
        )
    ]  # fmt: skip


def precheck(
    mode: Mode, given: Mapping[str, Any], pictures: int,
    asked: tuple[House, Asker] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The given options with the flags in their prompt, every fault found from memory alone.

    `pictures` is how many were sent along. What the asker has set may mend a fault: where it is
    `asked` who that is, the database is, too. Raises UserError.
    """
    found, faults = flags.unfolded(given)
    plain, named, looks = named_in(found, mode)
    mode = meant(mode, len(named) + pictures, looks)
    number = pictures + sum(not SENT.fullmatch(word) for word in (*named, *looks))
    # What is drawn over may bring its words along.
    over = number - 1 if mode == Mode.STYLE else len(named)
    if (over > 0 or mode == Mode.BLEND) and not plain.get("prompt"):
        plain["prompt"] = BLENDED
    faults = [*faults, *_counted(mode, number)]
    if asked:
        said = {name: value for name, value in plain.items() if value not in (None, "")}
        plain = _unset(plain) | with_tastes(*asked, said, {}, mode)[0]
    wanted = catalog.requested(plain, faults, mode)
    if mode == Mode.TEXT:
        for one in wanted.each:
            catalog.settle(one, 0)
    if faults:
        raise InvalidOptions(faults)
    return found


def _propose(
    house: House, ask: Ask, mode: Mode, given: Mapping[str, Any], sources: Sequence[Source],
    requests: Sequence[Request], manner: Mapping[str, Any],
) -> Reply:  # fmt: skip
    # Nobody is asked about what would be refused.
    house.generations.admission.check(requests, ask.asker)
    number = house.proposals.keep(
        ask.asker, ask.event, COMMAND_OF[mode], given, sources, ask.address
    )
    return Reply(
        "\n".join([house.proposals.words(requests), *manner.get(LEFT, ())]),
        buttons=tuple(Button(action, number, tr(ACTIONS[action])) for action in QUESTIONS),
    )


def vary(house: House, ask: Ask) -> Reply:
    number, place = one_picture(house, ask, mark("You have nothing to vary."))
    old = house.generations.visible(number, ask.asker)
    return varied(
        house, ask, old, index_of(old, place), str(ask.given.get("how") or STRENGTHS[0][0])
    )


def varied(house: House, ask: Ask, old: Generation, index: int, how: str) -> Reply:
    """Others like one picture, near to it or less so."""
    result, request = old.picture(index), old.request
    small = request.factor if request.mode == Mode.UPSCALE else 1
    size = int(result["width"]) // small, int(result["height"]) // small
    other = replace(
        request, mode=Mode.REMIX, sources=(str(result["key"]),), mask="", zoom=1.0, pan="",
        hires=1.0, factor=1, upscaler="", style_strength=0.0, strength=dict(STRENGTHS)[how],
        seed=secrets.randbelow(options.SEED_LIMIT + 1), chaos=100.0, subseed=-1,
        width=size[0], height=size[1],
    )  # fmt: skip
    model = catalog.models().get(other.model)
    if model and (faults := catalog.unable(model, other.mode)):
        raise InvalidOptions(faults)
    if not other.prompt:
        raise UserError(tr("I do not know what that picture shows: /remix it with a prompt."))
    return _accepted(house, ask, other, old)


def upscale(house: House, ask: Ask) -> Reply:
    factor = int(ask.given.get("factor") or FACTORS[0])
    if ask.pictures:
        plain = catalog.settle(options.Options.model_construct(prompt=""), 0)
        request = catalog.upscaled(plain, ask.pictures[0], factor)
        return _accepted(house, ask, request, None)
    number, place = one_picture(house, ask, mark("You have nothing to upscale."))
    old = house.generations.visible(number, ask.asker)
    return upscaled(house, ask, old, index_of(old, place), factor)


def upscaled(house: House, ask: Ask, old: Generation, index: int, factor: int) -> Reply:
    result = old.picture(index)
    source = Source(str(result["key"]), int(result["width"]), int(result["height"]))
    seeded = old.request.alone(int(result["seed"]))
    return _accepted(house, ask, catalog.upscaled(seeded, source, factor), old)


def paint(house: House, ask: Ask) -> Reply:
    number, place = one_picture(house, ask, mark("You have nothing to paint on."))
    one = house.generations.touchable(number, ask.asker)
    index = index_of(one, place)
    one.picture(index)
    catalog.painter(one.request.model)
    name = f"#{number}.{index + 1}" if len(one.results) > 1 else f"#{number}"
    if ask.asker.platform == "web":
        page = f"/paint/{number}.{index + 1}"
        return Reply(tr("Paint on {picture} here: {link}", picture=name, link=page))
    if one.platform != ask.asker.platform:
        # Its card could not come back to this chat.
        raise NotAllowed(
            tr(
                "{picture} was drawn on {platform}: ask for /paint there.",
                picture=name, platform=one.platform,
            )
        )  # fmt: skip
    if not (public := read(Web).public_url.rstrip("/")):
        raise UserError(
            tr(
                "There is no page to paint on here: the host has set no DRAWQUEUE_PUBLIC_URL. "
                "/inpaint takes a mask as a second picture."
            )
        )
    link = house.brush.link(Ticket.of(ask.asker, one, index))
    told = tr("Paint on {picture} here: {link}", picture=name, link=f"{public}{link}")
    return Reply(f"{told}\n{tr('The link is yours alone and works for a day.')}")


def _accepted(house: House, ask: Ask, request: Request, parent: Generation | None) -> Reply:
    made = house.generations.submit(
        request, ask.asker, ask.event, ask.address, parent.id if parent else None, ask.message,
        house.tastes.manner(ask.asker),
    )  # fmt: skip
    return Reply(generation=made, fresh=True)


def picked(house: House, ask: Ask, old: Generation, index: int) -> Reply:
    made, fresh = house.generations.pick(old, index, ask.asker, ask.address, ask.message)
    if fresh:
        return Reply(generation=made, fresh=True)
    told = tr(
        "#{number} shows that picture already; /show {number} shows it again.", number=made.id
    )
    return Reply(told, made)
