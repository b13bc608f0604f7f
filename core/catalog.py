"""What can be asked of which model: defaults, limits, LoRAs, read from their files, as data."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import InvalidOptions, nearest
from core.options import (
    COMMAND_OF,
    HIRES_STRENGTH,
    MULTIPLE,
    OPTIONS,
    Mode,
    Options,
    Request,
    validate,
)
from core.settings import Drawing, Safety, read

if TYPE_CHECKING:
    from core.media import Source

STARTER = Path(__file__).parent.parent / "worker" / "starter_model"
# What a model at a hub is called; a path begins otherwise.
# How much of the picture it begins with may change where nothing is said.
REMIX_STRENGTH = 0.6
# A picture that goes on to one side becomes so much longer there.
PANNED = 0.5
# The longest side that is upscaled to.
LARGEST_UPSCALED = 4096
LANCZOS = "Lanczos"
_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Model:
    """One model: where it lies, its own size in pixels, and what suits it when nothing is said."""

    name: str
    source: str
    engine: str = "diffusers"
    size: int = 512
    steps: int = 25
    guidance: float = 7.0
    sampler: str = "DPM++ 2M"
    largest: int = 2048
    notes: str = ""
    # How much of the small picture a larger one may change; a small model knows but one size.
    hires_strength: float = HIRES_STRENGTH
    modes: frozenset[Mode] = frozenset(Mode)
    # The width of what the text encoder tells the drawing part: a LoRA for another does not fit.
    context: int | None = None
    facts: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)


# What suits families whose folders don't say it; the first whose word is in the name counts.
# Steps and guidance are those their authors give on the model cards.
FAMILIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("sdxl-turbo", {"size": 512, "steps": 2, "guidance": 0.0, "sampler": "Euler a"}),
    ("sd-turbo", {"size": 512, "steps": 2, "guidance": 0.0, "sampler": "Euler a"}),
    ("lcm", {"steps": 6, "guidance": 1.5, "sampler": "LCM"}),
    ("xl", {"size": 1024, "steps": 30, "guidance": 6.0}),
    ("stable-diffusion-2", {"size": 768}),
)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # A name that is longer than any may be.
        return False


def _model(source: str) -> Model:
    if source == "pattern":
        return Model(
            "pattern", source, engine="pattern", size=256, steps=8, guidance=5.0, largest=1024,
            notes="Draws test patterns, without a model.",
        )  # fmt: skip
    folder = Path(source)
    name = folder.resolve().name if _is_folder(folder) else source.rsplit("/", 1)[-1]
    told = next((facts for word, facts in FAMILIES if word in source.lower()), {})
    facts: dict[str, Any] = dict(told)
    unet, vae = folder / "unet" / "config.json", folder / "vae" / "config.json"
    if _is_folder(folder) and unet.is_file() and vae.is_file():
        told_of_unet = json.loads(unet.read_text())
        latent = told_of_unet.get("sample_size", 64)
        facts["context"] = told_of_unet.get("cross_attention_dim")
        blocks = json.loads(vae.read_text()).get("block_out_channels", [0] * 4)
        facts["size"] = int(latent) * 2 ** (len(blocks) - 1)
        if facts["size"] <= 256:
            facts |= {"largest": facts["size"] * 2, "steps": 20, "guidance": 3.0}
            facts["hires_strength"] = 0.25
            name = "starter"
    return Model(name, source, **facts)


@cache
def models() -> dict[str, Model]:
    """The models on offer by name, the default first."""
    named = [word.strip() for word in read(Drawing).model.split(",") if word.strip()]
    found = [_model(source) for source in named or [str(STARTER)]]
    return {model.name: model for model in found}


def missing_starter() -> bool:
    """Whether the default model is asked for and its weights are not there."""
    return not read(Drawing).model and not (STARTER / "model_index.json").is_file()


def faults() -> list[str]:
    """What is wrong with the models that the host names, as this machine sees it, in words."""
    if missing_starter():
        return ["No model: set DRAWQUEUE_MODEL to a folder or hub id."]
    found = []
    for model in models().values():
        folder = Path(model.source)
        if model.engine == "pattern" or (folder / "model_index.json").is_file():
            continue
        if folder.exists():
            found.append(f"{model.source} is no model's folder: it holds no model_index.json.")
        elif not _HUB_ID.fullmatch(model.source):
            meant = " Did you mean pattern?" if nearest(model.source, ["pattern"]) else ""
            found.append(f"There is no folder {model.source}.{meant or ' A hub id is owner/name.'}")
    return [f"DRAWQUEUE_MODEL: {fault}" for fault in found]


@dataclass(frozen=True)
class Lora:
    """A LoRA's file, and the width of the text that it was learned with, where it says so."""

    name: str
    path: Path
    context: int | None


def loras(model: Model) -> dict[str, Lora]:
    """The LoRAs that fit a model, by name in small letters."""
    found = _loras(Path(model.source) / "loras") | _loras(_set_folder())
    return {
        name: one
        for name, one in found.items()
        if model.context is None or one.context in (None, model.context)
    }


def all_loras() -> list[str]:
    """The names of the LoRAs that fit any model."""
    return sorted({one.name for model in models().values() for one in loras(model).values()})


def _set_folder() -> Path | None:
    folder = read(Drawing).loras
    return Path(folder) if folder else None


@cache
def _loras(folder: Path | None) -> dict[str, Lora]:
    if folder is None or not _is_folder(folder):
        return {}
    files = sorted(folder.glob("*.safetensors"))
    # As one types it: without blanks, commas and colons, which end a name.
    names = {path: re.sub(r"[\s,:]+", "-", path.stem) for path in files}
    return {name.lower(): Lora(name, path, _context(path)) for path, name in names.items()}


def _context(path: Path) -> int | None:
    """The width of text in a LoRA's file (the header's shapes, huggingface/safetensors: README)."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            # A longer one is no header: the format's own bound.
            header = json.loads(file.read(min(length, 100_000_000)))
    except (OSError, ValueError, MemoryError):
        return None
    for name, tensor in header.items() if isinstance(header, dict) else ():
        # Attention to the text is the second of each block, in every trainer's spelling.
        if re.search(r"attn2.*to_k.*(lora_A|lora_down|lora\.down)", name):
            return int(tensor["shape"][1])
    return None


@cache
def revision(model: Model) -> str:
    """What distinguishes a model's files, and the libraries that draw with them, from others.

    A model that is named by its hub id counts as one revision, whatever is fetched for it.
    """
    folders = [Path(model.source), _set_folder()]
    files = [
        path
        for folder in folders
        if folder and _is_folder(folder)
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".safetensors", ".json", ".bin")
    ]
    told = [(path.name, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files]
    versions = [version(name) for name in ("torch", "diffusers") if find_spec(name)]
    # What was drawn before anybody looked is drawn again.
    looks = read(Safety)
    checks = (looks.classifier, looks.marking, looks.threshold) if looks.classifier else ()
    facts = (model, told, versions, upscaler(), *checks)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def at_hand(model: Model) -> bool:
    """Whether a model lies in a folder here, and not at a hub."""
    return _is_folder(Path(model.source))


def own_check(source: str) -> bool:
    """Whether a model's folder brings a safety checker along."""
    try:
        told = json.loads((Path(source) / "model_index.json").read_text())
        return bool(told["safety_checker"][0])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False


def checked(model: Model) -> bool:
    """Whether pictures of a model are looked at before they are shown.

    What a hub id brings along is known to the engine alone (`worker.safety`).
    """
    return bool(read(Safety).classifier) or own_check(model.source)


def upscaler() -> str:
    """What upscales: the name of the host's weights, or Lanczos."""
    weights = read(Drawing).upscaler
    return Path(weights).stem if weights else LANCZOS


def _rounded(pixels: float) -> int:
    return max(64, round(pixels / MULTIPLE) * MULTIPLE)


def requested(
    given: Mapping[str, Any], faults: Sequence[str] = (), mode: Mode = Mode.TEXT
) -> Options:
    """The options of a request, every fault told at once, the model's name among them.

    Raises InvalidOptions.
    """
    wanted = given.get("model")
    if isinstance(wanted, str) and wanted.strip() and _find(wanted) is None:
        faults = [*faults, _unknown(wanted)]
    misplaced = [
        f"--{option.flags[0]} is for {' and '.join(f'/{COMMAND_OF[one]}' for one in option.modes)}."
        for option in OPTIONS
        if option.modes and mode not in option.modes and given.get(option.name) not in (None, "")
    ]
    return validate(given, [*faults, *misplaced])


def _find(wanted: str) -> Model | None:
    return next((m for m in models().values() if m.name.lower() == wanted.strip().lower()), None)


def _unknown(wanted: str) -> str:
    return f"There is no model “{wanted.strip()[:60]}”. On offer: {', '.join(models())}."


def settle(
    options: Options, random_seed: int, mode: Mode = Mode.TEXT, sources: Sequence["Source"] = ()
) -> Request:
    """Fill in what was left open from the model's facts.

    `sources` are the pictures to begin with; of an inpainted one, the second is its mask.
    Raises InvalidOptions when the model cannot do what was asked.
    """
    wanted = options.model or next(iter(models()))
    model = _find(wanted)
    if model is None:
        raise InvalidOptions([_unknown(wanted)])
    chosen, faults = _chosen_loras(options.lora, model)
    if mode not in model.modes:
        able = [one.name for one in models().values() if mode in one.modes]
        others = f" Models that do: {', '.join(able)}." if able else ""
        faults.append(f"{model.name} cannot {mode} pictures.{others}")
    source = sources[0] if sources else None
    frames = options.zoom or options.pan or options.aspect or options.width or options.height
    if mode == Mode.INPAINT and len(sources) < 2 and not frames:
        faults.append(
            "Say what to paint: give a mask as a second picture (white is painted anew, black "
            "stays), or --zoom 1.5, or --pan left."
        )
    if len(sources) > 1:
        faults += mask_faults(sources[0], sources[1])
    size = _sized(options, model, source)
    # What is drawn large last must fit.
    if max(size) * options.hires > model.largest:
        asked = "×".join(f"{round(side * options.hires)}" for side in size)
        faults.append(f"{model.name} draws at most {model.largest} pixels a side; asked: {asked}.")
    if faults:
        raise InvalidOptions(faults)
    strength = 1.0
    if mode in (Mode.REMIX, Mode.INPAINT):
        usual = REMIX_STRENGTH if mode == Mode.REMIX else 1.0
        strength = usual if options.strength is None else options.strength
    own: dict[str, Any] = {
        "model": model.name,
        "width": size[0],
        "height": size[1],
        "seed": random_seed if options.seed == -1 else options.seed,
        "mode": mode,
        "strength": strength,
        "sources": (source.key,) if source else (),
        "mask": sources[1].key if len(sources) > 1 else "",
        "loras": chosen,
        "zoom": options.zoom or 1.0,
        "pan": options.pan or "",
        "hires_strength": model.hires_strength,
    }
    # What no option is about keeps its default.
    asked_for = Request.__dataclass_fields__.keys() & Options.model_fields.keys()
    for name in asked_for - own.keys():
        asked = getattr(options, name)
        own[name] = getattr(model, name) if asked is None else asked
    return Request(**own)


def _sized(options: Options, model: Model, source: "Source | None") -> tuple[int, int]:
    """The size to draw: as asked for, else the shape of the picture to begin with, at the model's
    own area; one that was drawn here keeps its size."""
    width = height = float(model.size)
    if options.aspect:
        across, down = map(int, options.aspect.split(":"))
        width, height = model.size * (across / down) ** 0.5, model.size * (down / across) ** 0.5
    elif options.width or options.height:
        width, height = options.width or model.size, options.height or model.size
    elif source and source.generation and max(source.width, source.height) <= model.largest:
        width, height = source.width, source.height
    elif source:
        shape = min(4.0, max(0.25, source.width / source.height))
        width, height = model.size * shape**0.5, model.size / shape**0.5
    if options.pan in ("left", "right"):
        width = min(model.largest, width * (1 + PANNED))
    elif options.pan:
        height = min(model.largest, height * (1 + PANNED))
    return _rounded(width), _rounded(height)


def mask_faults(image: "Source", mask: "Source") -> list[str]:
    """What is wrong with a mask, in words."""
    if mask.white < 1 / 1024:
        return ["The mask has no white in it, so nothing would change. White is painted anew."]
    shapes = image.width / image.height, mask.width / mask.height
    if not 0.97 < shapes[0] / shapes[1] < 1.03:
        return [
            f"The mask has another shape ({mask.width}×{mask.height}) than the picture "
            f"({image.width}×{image.height})."
        ]
    return []


def _chosen_loras(
    asked: str | None, model: Model
) -> tuple[tuple[tuple[str, float], ...], list[str]]:
    fitting = loras(model)
    chosen, faults = [], []
    for word in (asked or "").split(", ") if asked else []:
        name, _, weight = word.rpartition(":")
        one = fitting.get(name.lower())
        if one:
            chosen.append((one.name, float(weight)))
        elif name.lower() in {known.lower() for known in all_loras()}:
            faults.append(f"The LoRA “{name[:60]}” is for another model than {model.name}.")
        else:
            known = ", ".join(sorted(one.name for one in fitting.values())) or "none"
            faults.append(f"There is no LoRA “{name[:60]}”. For {model.name}: {known}.")
    return tuple(chosen), faults


def upscaled(old: Request, source: "Source", factor: int) -> Request:
    """The request that makes a picture so many times larger. Raises InvalidOptions."""
    width, height = source.width * factor, source.height * factor
    if max(width, height) > LARGEST_UPSCALED:
        raise InvalidOptions([
            f"That would be {width}×{height}; {LARGEST_UPSCALED} pixels a side is the most."
        ])  # fmt: skip
    return replace(
        old, mode=Mode.UPSCALE, sources=(source.key,), mask="", factor=factor, count=1,
        upscaler=upscaler(), width=width, height=height, hires=1.0, tile=False, zoom=1.0, pan="",
    )  # fmt: skip
