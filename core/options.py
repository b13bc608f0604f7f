"""Every generation option, declared once.

A field's type and bounds validate it, its description is its help, and `json_schema_extra`
holds its flags. Slash parameters, `--flags` (read in `core.flags`), forms, the README table and the
JSON schema are derived from here; adding an option is adding a field to `Options`, and one to
`Request` where it shapes the picture.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Annotated, Any

from annotated_types import Ge, Le, MaxLen, MultipleOf
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from core import samplers
from core.braces import plainly
from core.errors import InvalidOptions
from core.languages import mark, tr, trn

PROMPT_LIMIT = 4000
SEED_LIMIT = 2**32 - 1
STEPS = 150
REPEAT_LIMIT = 40
# Of pixels a side, which is what models can draw; the options' help says it too.
MULTIPLE = 8
PRIORITIES = ("low", "normal", "high")
SIDES = ("left", "right", "up", "down")
# Of noise: the model's own first.
SCHEDULES = ("normal", *samplers.SCHEDULES)


class Mode(StrEnum):
    """What a request makes its pictures, or its words, from."""

    TEXT = "text"
    REMIX = "remix"
    INPAINT = "inpaint"
    STYLE = "style"
    BLEND = "blend"
    UPSCALE = "upscale"
    # What makes words.
    WRITE = "write"
    ENHANCE = "enhance"
    DESCRIBE = "describe"

    @property
    def words(self) -> bool:
        """Whether words come of it, and no picture."""
        return self in (Mode.WRITE, Mode.ENHANCE, Mode.DESCRIBE)


# What pictures come of.
DRAWN = tuple(mode for mode in Mode if not mode.words)
# What one types for each, where one says so.
COMMAND_OF = {
    Mode.TEXT: "imagine",
    Mode.REMIX: "remix",
    Mode.INPAINT: "inpaint",
    Mode.STYLE: "style",
    Mode.BLEND: "blend",
    Mode.UPSCALE: "upscale",
    Mode.WRITE: "write",
    Mode.ENHANCE: "enhance",
    Mode.DESCRIBE: "describe",
}


class Misfit(ValueError):
    """Why a value is none of an option's: a marked text, and the values that it tells."""

    def __init__(self, text: str, **values: object) -> None:
        super().__init__(text)
        self.text, self.values = text, values

    def said(self, **more: object) -> str:
        """The sentence for who gave the value, with what its reader knows besides."""
        return tr(self.text, **self.values, **more)


def _among(choices: Iterable[str]) -> Misfit:
    text = mark("“{name}” must be one of {choices}; got {given}.")
    return Misfit(text, choices=", ".join(choices))


def _sampler(value: Any) -> Any:
    if value in (None, ""):
        return None
    name = samplers.sampler(str(value))
    if name is None:
        raise _among(samplers.OFFERED)
    return name


def _schedule(value: Any) -> Any:
    if value is None:
        return None
    name = samplers.schedule(str(value))
    if name is None:
        raise _among(SCHEDULES)
    return name or SCHEDULES[0]


def _aspect(value: Any) -> Any:
    if value in (None, ""):
        return None
    words = {"square": "1:1", "portrait": "2:3", "landscape": "3:2"}
    text = words.get(str(value).strip().lower(), str(value).strip())
    match = re.fullmatch(r"(\d{1,4})\s*[:x/]\s*(\d{1,4})", text)
    if not match or not int(match[1]) or not int(match[2]):
        raise Misfit(
            mark(
                "“{name}” must be two whole numbers such as 3:2, or square, portrait, landscape; "
                "got {given}."
            )
        )
    width, height = int(match[1]), int(match[2])
    if not 1 / 4 <= width / height <= 4:
        raise Misfit(mark("“{name}” must lie between 1:4 and 4:1; got {given}."))
    return f"{width}:{height}"


def _priority(value: Any) -> Any:
    level = str(value).strip().lower()
    if level not in PRIORITIES:
        raise _among(PRIORITIES)
    return level


def _number(value: Any) -> Any:
    """Accept a decimal comma, as people type it."""
    if isinstance(value, str) and re.fullmatch(r"-?\d+,\d+", value.strip()):
        return value.replace(",", ".")
    return value


def _side(value: Any) -> Any:
    side = str(value).strip().lower()
    if side not in SIDES:
        raise _among(SIDES)
    return side


def _loras(value: Any) -> Any:
    """`name:0.8, other` as `name:0.8, other:1`, each name once."""
    found: dict[str, float] = {}
    for word in filter(None, re.split(r"[,\s]+", str(value))):
        match = re.fullmatch(r"([^:]+)(?::(-?\d{1,2}(?:\.\d{1,3})?))?", word)
        if not match or abs(weight := float(match[2] or 1)) > 2:
            raise Misfit(
                mark(
                    "“{name}” must be a name and a weight from -2 to 2, such as blueprint:0.8; "
                    "got {given}."
                )
            )
        found[match[1]] = weight
    return ", ".join(f"{name}:{weight:g}" for name, weight in found.items()) or None


def _word(value: Any) -> Any:
    return str(value).strip() or None


def _yes(value: Any) -> Any:
    """Accept a flag that stands alone."""
    return {"": True, "on": True, "off": False}.get(str(value).strip().lower(), value)


def _text(value: Any) -> Any:
    # Lone surrogates and NUL are text that no database, or no answer, can hold.
    if isinstance(value, str):
        return value.replace("\0", "").encode(errors="replace").decode().strip()
    return value


Side = Annotated[int | None, Ge(64), Le(4096), MultipleOf(MULTIPLE)]


# What leaves the pictures it begins with by its strength.
DRAWN_OVER = (Mode.REMIX, Mode.INPAINT, Mode.STYLE, Mode.BLEND)


def _flags(
    *names: str, modes: Iterable[Mode] = (), rare: bool = False, also: Iterable[str] = (),
    alone: str = "", notes: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """An option's flags; `also` are another's that mean this one where the value can only be
    this one's, `alone` is what they stand for without a value, `notes` tell of single ones."""
    return {
        "flags": list(names), "modes": list(modes), "rare": rare, "also": list(also),
        "alone": alone, "notes": dict(notes or {}),
    }  # fmt: skip


class Options(BaseModel):
    """What a person asked for; `None` means as the model does it best."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Annotated[str, BeforeValidator(_text), MaxLen(PROMPT_LIMIT)] = Field(
        min_length=1, description=mark("What to draw.")
    )
    source: Annotated[str, BeforeValidator(_text), MaxLen(PROMPT_LIMIT)] = Field(
        "",
        description=mark(
            "The picture to begin with: its number, such as 12 or 12.2, or a web address."
        ),
        json_schema_extra=_flags("from", "image", "init-image", "init-url", modes=DRAWN),
        examples=["12"],
    )
    look: Annotated[str, BeforeValidator(_text), MaxLen(PROMPT_LIMIT)] = Field(
        "",
        description=mark("The picture whose style is taken: its number or a web address."),
        json_schema_extra=_flags("sref", modes=[Mode.TEXT, Mode.REMIX, Mode.STYLE], rare=True),
        examples=["12"],
    )
    strength: Annotated[float | None, BeforeValidator(_number), Ge(0), Le(1)] = Field(
        None,
        description=mark("How far to leave the picture it begins with: 0 keeps it, 1 ignores it."),
        json_schema_extra=_flags(
            "strength",
            "str",
            "denoising",
            "iw",
            modes=DRAWN_OVER,
            also=["n"],
            notes={"iw": "0 to 3, and more keeps more", "n": "a share"},
        ),
        examples=[0.6],
    )
    style_strength: Annotated[float | None, BeforeValidator(_number), Ge(0), Le(1)] = Field(
        None,
        description=mark("How much of the other picture's style to take: 0 takes none."),
        json_schema_extra=_flags(
            "style-strength", "sw", modes=[Mode.STYLE], notes={"sw": "above 1: thousandths"}
        ),
        examples=[0.6],
    )
    zoom: Annotated[float | None, BeforeValidator(_number), Ge(1), Le(3)] = Field(
        None,
        description=mark("Step back so many times: what lies around the picture is drawn."),
        json_schema_extra=_flags("zoom", modes=[Mode.INPAINT]),
        examples=[1.5],
    )
    pan: Annotated[str | None, BeforeValidator(_side)] = Field(
        None,
        description=mark("Go on drawing to one side: left, right, up or down."),
        json_schema_extra={**_flags("pan", modes=[Mode.INPAINT]), "choices": list(SIDES)},
        examples=["left"],
    )
    negative_prompt: Annotated[str, BeforeValidator(_text), MaxLen(PROMPT_LIMIT)] = Field(
        "",
        description=mark("What to keep out of the picture."),
        json_schema_extra=_flags("no", "negative", "u"),
        examples=["people"],
    )
    aspect: Annotated[str | None, BeforeValidator(_aspect)] = Field(
        None,
        description=mark("Shape of the picture, such as 3:2, at the model's own size."),
        json_schema_extra=_flags("ar", "aspect", "r"),
        examples=["3:2"],
    )
    width: Side = Field(
        None,
        description=mark("Width in pixels, a multiple of 8."),
        json_schema_extra=_flags("width", "w"),
        examples=[512],
    )
    height: Side = Field(
        None,
        description=mark("Height in pixels, a multiple of 8."),
        json_schema_extra=_flags("height", "h"),
        examples=[512],
    )
    steps: Annotated[int | None, Ge(1), Le(STEPS)] = Field(
        None,
        description=mark("Denoising steps: more take longer and draw finer."),
        json_schema_extra=_flags("steps", "t"),
        examples=[30],
    )
    quality: Annotated[float | None, BeforeValidator(_number), Ge(0.25), Le(4)] = Field(
        None,
        description=mark("So many times the model's own steps: 0.5 is a draft."),
        json_schema_extra=_flags(
            "quality", "q", "draft", "hd", rare=True, notes={"draft": "0.5", "hd": "2"}
        ),
        examples=[0.5],
    )
    guidance: Annotated[float | None, BeforeValidator(_number), Ge(0), Le(30)] = Field(
        None,
        description=mark(
            "Guidance scale: how closely to follow the prompt. (--c is it, not chaos.)"
        ),
        json_schema_extra=_flags(
            "guidance", "guidance-scale", "cfg", "cfgscale", "cfg-scale", "scale", "c"
        ),
        examples=[7],
    )
    seed: Annotated[int, Ge(-1), Le(SEED_LIMIT)] = Field(
        -1,
        description=mark(
            "The same seed draws the same picture; -1 is random. (--s is it, not stylize.)"
        ),
        json_schema_extra=_flags("seed", "s", "x"),
        examples=[7],
    )
    sampler: Annotated[str | None, BeforeValidator(_sampler)] = Field(
        None,
        description=mark("Sampler, such as Euler a or DPM++ 2M Karras."),
        json_schema_extra={
            **_flags(
                "sampler",
                "sampler-name",
                also=["r", "s"],
                notes=dict.fromkeys(("r", "s"), "a sampler's name"),
            ),
            "choices": list(samplers.OFFERED),
        },
        examples=["Euler a"],
    )
    schedule: Annotated[str | None, BeforeValidator(_schedule)] = Field(
        None,
        description=mark("How the sampler's noise goes down, such as Karras."),
        json_schema_extra={
            **_flags("schedule", "scheduler", rare=True),
            "choices": list(SCHEDULES),
        },
        examples=["Karras"],
    )
    model: str | None = Field(
        None,
        description=mark("Which model draws; /models lists them."),
        json_schema_extra=_flags("model", "m", "v", "version", "data-model"),
    )
    preset: Annotated[str | None, BeforeValidator(_word)] = Field(
        None,
        description=mark("A preset by its name, or none; /preset lists them."),
        json_schema_extra=_flags("preset"),
        examples=["Anime"],
    )
    count: Annotated[int, Ge(1), Le(4)] = Field(
        1,
        description=mark("How many pictures; picture i uses seed + i."),
        json_schema_extra=_flags(
            "count", "n", "i", "b", "o", "batch", "number", "amount", "outcnt"
        ),
        examples=[4],
    )
    chaos: Annotated[float, BeforeValidator(_number), Ge(0), Le(100)] = Field(
        100.0,
        description=mark(
            "How far several pictures differ: 100 as they would anyway, 0 not at all."
        ),
        json_schema_extra=_flags("chaos", "variety", modes=[Mode.TEXT], rare=True),
        examples=[20],
    )
    subseed: Annotated[int, Ge(-1), Le(SEED_LIMIT)] = Field(
        -1,
        description=mark("The seed that --chaos goes towards; -1 is the seed itself."),
        json_schema_extra=_flags("subseed", "variation-seed", modes=[Mode.TEXT], rare=True),
        examples=[8],
    )
    lora: Annotated[str | None, BeforeValidator(_loras)] = Field(
        None,
        description=mark("Styles and subjects learned apart, with their weights."),
        json_schema_extra=_flags("lora", "loras", "extra-net"),
        examples=["blueprint:0.8"],
    )
    vae: Annotated[str | None, BeforeValidator(_word)] = Field(
        None,
        description=mark("Another VAE, which turns what was drawn into pixels."),
        json_schema_extra=_flags("vae"),
        examples=["ft-mse"],
    )
    clip_skip: Annotated[int, Ge(0), Le(12)] = Field(
        0,
        description=mark(
            "Leave out so many last layers of the text encoder: 1 is A1111's clip skip 2."
        ),
        json_schema_extra=_flags("clip-skip", "clipskip", rare=True),
        examples=[1],
    )
    tile: Annotated[bool, BeforeValidator(_yes)] = Field(
        False,
        description=mark("A picture whose edges meet, to be laid side by side."),
        json_schema_extra=_flags("tile", "tiling"),
    )
    hires: Annotated[float, BeforeValidator(_number), Ge(1), Le(4)] = Field(
        1.0,
        description=mark(
            "Draw small first, then so many times larger with more detail (hires fix)."
        ),
        json_schema_extra=_flags(
            "hires", "hr", "hires-fix", "highres-fix", modes=[Mode.TEXT], alone="2"
        ),
        examples=[2],
    )
    repeat: Annotated[int, Ge(1), Le(REPEAT_LIMIT)] = Field(
        1,
        description=mark("Ask this many times, each with a seed of its own."),
        json_schema_extra=_flags("repeat", also=["r"], notes={"r": "a number"}),
        examples=[3],
    )
    enhance: Annotated[bool, BeforeValidator(_yes)] = Field(
        False,
        description=mark("Let a text engine write the prompt out before it is drawn."),
        json_schema_extra=_flags(
            "enhance", "magic", "no-enhance", rare=True, notes={"no-enhance": "off"}
        ),
    )
    priority: Annotated[str, BeforeValidator(_priority)] = Field(
        "normal",
        description=mark("Its turn among your own pictures: low, normal or high."),
        json_schema_extra={**_flags("priority"), "choices": list(PRIORITIES)},
        examples=["high"],
    )

    # What else was asked for by braces in flags: `--steps {10, 20}`.
    _others: tuple["Options", ...] = PrivateAttr(())

    @property
    def each(self) -> tuple["Options", ...]:
        """All that was asked for at once."""
        return (self, *self._others)

    def beside(self, others: Iterable["Options"]) -> "Options":
        """The same, asked for together with others."""
        made = self.model_copy()
        made._others = tuple(others)
        return made


SECRET = ("sources", "mask")
# How much of the small picture the larger one may change (A1111's default is 0.7).
HIRES_STRENGTH = 0.6


@dataclass(frozen=True)
class Request:
    """Everything that shapes the pictures, settled: what engines draw and Retry repeats.

    A field that comes later needs a default, so that the rows of before can be read.
    """

    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance: float
    seed: int
    sampler: str
    model: str
    count: int
    mode: Mode = Mode.TEXT
    # Keys of stored pictures, never shown: whoever knows a key may read it.
    sources: tuple[str, ...] = ()
    mask: str = ""
    strength: float = 1.0
    zoom: float = 1.0
    pan: str = ""
    # Of an upscaled picture: how many times larger, and by what.
    factor: int = 1
    upscaler: str = ""
    # Names with their weights.
    loras: tuple[tuple[str, float], ...] = ()
    vae: str = ""
    # How much of a picture's style is taken, from the last one of a style and from all of a blend.
    style_strength: float = 0.0
    clip_skip: int = 0
    tile: bool = False
    hires: float = 1.0
    hires_strength: float = HIRES_STRENGTH
    # In per cent: how far each picture's noise goes from that of the seed to its own.
    chaos: float = 100.0
    subseed: int = -1
    # What is to write a better prompt before it is drawn; none where none was asked for, or where
    # that is done: then this is the prompt that was asked for.
    enhance: str = ""
    original: str = ""

    @property
    def passes(self) -> int:
        """Denoising steps that are really made: a picture to begin with saves some."""
        if self.mode == Mode.UPSCALE:
            return 1
        if self.hires > 1:
            return self.steps + max(1, int(self.steps * self.hires_strength))
        return max(1, min(self.steps, int(self.steps * self.strength)))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what comes out, in pixels."""
        if self.hires == 1:
            return self.width, self.height
        width, height = (
            round(side * self.hires / MULTIPLE) * MULTIPLE for side in (self.width, self.height)
        )
        return width, height

    @property
    def begun(self) -> tuple[str, ...]:
        """The stored pictures that are drawn over: the one whose style is taken is none."""
        return self.sources[:-1] if self.mode == Mode.STYLE else self.sources

    @property
    def held(self) -> tuple[str, ...]:
        """The stored pictures that this needs."""
        return (*self.sources, self.mask) if self.mask else self.sources

    @property
    def told(self) -> dict[str, Any]:
        """Everything that may be shown of it: no keys."""
        return {name: value for name, value in vars(self).items() if name not in SECRET}

    def fingerprint(self, revision: str) -> str:
        """What two requests share that give the same pictures, on one revision of a model."""
        # What knows of storages is for those alone who draw from pictures.
        from core.media import content_of

        alike = replace(
            self, sources=tuple(map(content_of, self.sources)), mask=content_of(self.mask),
            # Whatever was asked for, the prompt draws.
            original="",
        )  # fmt: skip
        told = json.dumps([asdict(alike), revision], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def seeds(self) -> tuple[int, ...]:
        """One seed a picture: seed, seed + 1, … wrapping at 2^32."""
        first = self.seed if self.subseed == -1 else self.subseed
        return tuple((first + index) % (SEED_LIMIT + 1) for index in range(self.count))

    def alone(self, seed: int) -> "Request":
        """The request that draws by itself the picture that has this one of the seeds."""
        if self.chaos == 100 and self.subseed == -1:
            return replace(self, seed=seed, count=1)
        return replace(self, subseed=seed, count=1)

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> "Request":
        """A request as a row keeps it, whichever version wrote it."""
        known = {name: kept[name] for name in cls.__dataclass_fields__ if name in kept}
        known["mode"] = Mode(known.get("mode", Mode.TEXT))
        known["sources"] = tuple(known.get("sources", ()))
        known["loras"] = tuple((name, weight) for name, weight in known.get("loras", ()))
        return cls(**known)


@dataclass(frozen=True)
class Option:
    """One declared option as chats and tables need it."""

    name: str
    help: str
    kind: type = str
    flags: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    default: Any = None
    required: bool = False
    example: str = ""
    # What it makes sense for; none: for whatever is drawn.
    modes: tuple[Mode, ...] = ()
    # Where a chat has room for so many options, this is but a flag in the prompt.
    rare: bool = False
    # Another option's flags that mean this one where their value can only be this one's.
    also: tuple[str, ...] = ()
    # What its flags stand for without a value.
    alone: str = ""
    # What is to be known of single flags.
    notes: tuple[tuple[str, str], ...] = ()


def _declared() -> tuple[Option, ...]:
    found = []
    for name, field in Options.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        bounds: dict[str, float] = {}
        for rule in field.metadata:
            if isinstance(rule, Ge):
                bounds["ge"] = float(rule.ge)  # type: ignore[arg-type]
            if isinstance(rule, Le):
                bounds["le"] = float(rule.le)  # type: ignore[arg-type]
        kinds = [kind for kind in (bool, int, float, str) if kind.__name__ in str(field.annotation)]
        flags: Any = extra.get("flags", [])
        choices: Any = extra.get("choices", [])
        modes: Any = extra.get("modes", [])
        also: Any = extra.get("also", [])
        notes: Any = extra.get("notes", {})
        found.append(
            Option(
                name,
                field.description or "",
                kinds[0],
                tuple(flags),
                bounds.get("ge"),
                bounds.get("le"),
                tuple(choices),
                None if field.is_required() else field.default,
                field.is_required(),
                str(next(iter(field.examples or ()), "")),
                tuple(modes),
                bool(extra.get("rare")),
                tuple(also),
                str(extra.get("alone") or ""),
                tuple(notes.items()),
            )
        )
    return tuple(found)


OPTIONS = _declared()


def of(mode: Mode) -> tuple[Option, ...]:
    """The options that can be given for a mode."""
    return tuple(option for option in OPTIONS if not option.modes or mode in option.modes)


def _fault(name: str, error: Any) -> str:
    option = next((option for option in OPTIONS if option.name == name), None)
    if option is None:
        known = ", ".join(one.name for one in OPTIONS)
        return tr("There is no option “{name}”. Known: {known}.", name=name[:40], known=known)
    given = str(error.get("input"))[:40]
    kind = error["type"]
    if name == "prompt":
        if kind.endswith("too_long"):
            length = len(str(error["input"]))
            return trn(
                "The prompt has {n} character; {most} is the most.",
                "The prompt has {n} characters; {most} is the most.",
                length, most=PROMPT_LIMIT,
            )  # fmt: skip
        return tr("Write what to draw, for example: a red crown on a blue background.")
    if kind == "multiple_of":
        least = int(float(error["input"])) // MULTIPLE * MULTIPLE
        return tr(
            "“{name}” must be a multiple of {multiple}, such as {least} or {next}; got {given}.",
            name=name, multiple=MULTIPLE, least=least, next=least + MULTIPLE, given=given,
        )  # fmt: skip
    if kind == "value_error":
        misfit: Misfit = error["ctx"]["error"]
        return misfit.said(name=name, given=given)
    if option.minimum is not None and option.maximum is not None:
        bounds = {"least": f"{option.minimum:g}", "most": f"{option.maximum:.0f}"}
        if option.kind is int:
            return tr(
                "“{name}” must be a whole number from {least} to {most}; got {given}.",
                name=name, given=given, **bounds,
            )  # fmt: skip
        return tr(
            "“{name}” must be a number from {least} to {most}; got {given}.",
            name=name, given=given, **bounds,
        )  # fmt: skip
    if kind.endswith("too_long"):
        return tr("“{name}” is longer than {most} characters.", name=name, most=PROMPT_LIMIT)
    return tr("“{name}” does not understand {given}.", name=name, given=given)


def validate(given: Mapping[str, Any], also: list[str] | None = None) -> Options:
    """The options of a request.

    Raises InvalidOptions naming every fault at once, `also` included (faults found earlier,
    such as unknown flags).
    """
    faults = list(also or [])
    try:
        options = Options.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        for line in error.errors():
            faults.append(_fault(str(line["loc"][0]) if line["loc"] else "options", line))
        raise InvalidOptions(faults) from None
    if options.steps and options.quality:
        faults.append(tr("Give either steps or a quality, not both."))
    if options.aspect and (options.width or options.height):
        faults.append(tr("Give either an aspect or a width and height, not both."))
    if faults:
        raise InvalidOptions(faults)
    return options


def typed(given: Mapping[str, Any]) -> str:
    """Options by name as one types them: the prompt, then a flag for whatever is no default."""
    words = [str(given.get("prompt") or "")]
    for option in OPTIONS:
        value = given.get(option.name)
        if not option.flags or value in (None, "", option.default):
            continue
        # The shortest that is read as the same number.
        shown = f"{value:.15g}" if isinstance(value, float) else value
        if isinstance(value, str) and "{" in value:
            shown = plainly(value)
        words.append(f"--{option.flags[0]}" + ("" if value is True else f" {shown}"))
    return " ".join(filter(None, words))


def table() -> str:
    """The options as the Markdown table that stands in the README."""
    rows = ["| option | flags | values | what it does |", "| --- | --- | --- | --- |"]
    for option in OPTIONS:
        flags = " ".join(
            f"`--{flag}`" + (f" ({note})" if (note := dict(option.notes).get(flag)) else "")
            for flag in (*option.flags, *option.also)
        )
        values = "on or off" if option.kind is bool else "text"
        if option.choices:
            values = ", ".join(option.choices)
        elif option.minimum is not None and option.maximum is not None:
            values = f"{option.minimum:g} to {option.maximum:.0f}"
        rows.append(f"| {option.name} | {flags} | {values} | {option.help} |")
    return "\n".join(rows)
