"""What can be asked of which model: defaults and limits, read from its folder, as data."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from core.errors import InvalidOptions, nearest
from core.options import MULTIPLE, Options, Request, validate
from core.settings import Drawing, read

STARTER = Path(__file__).parent.parent / "worker" / "starter_model"
# What a model at a hub is called; a path begins otherwise.
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
        latent = json.loads(unet.read_text()).get("sample_size", 64)
        blocks = json.loads(vae.read_text()).get("block_out_channels", [0] * 4)
        facts["size"] = int(latent) * 2 ** (len(blocks) - 1)
        if facts["size"] <= 256:
            facts |= {"largest": facts["size"] * 2, "steps": 20, "guidance": 3.0}
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


def _rounded(pixels: float) -> int:
    return max(64, round(pixels / MULTIPLE) * MULTIPLE)


def requested(given: Mapping[str, Any], faults: Sequence[str] = ()) -> Options:
    """The options of a request, every fault told at once, the model's name among them.

    Raises InvalidOptions.
    """
    wanted = given.get("model")
    if isinstance(wanted, str) and wanted.strip() and _find(wanted) is None:
        faults = [*faults, _unknown(wanted)]
    return validate(given, list(faults))


def _find(wanted: str) -> Model | None:
    return next((m for m in models().values() if m.name.lower() == wanted.strip().lower()), None)


def _unknown(wanted: str) -> str:
    return f"There is no model “{wanted.strip()[:60]}”. On offer: {', '.join(models())}."


def settle(options: Options, random_seed: int) -> Request:
    """Fill in what was left open from the model's facts.

    Raises InvalidOptions when the model cannot do what was asked.
    """
    wanted = options.model or next(iter(models()))
    model = _find(wanted)
    if model is None:
        raise InvalidOptions([_unknown(wanted)])
    width = height = float(model.size)
    if options.aspect:
        across, down = map(int, options.aspect.split(":"))
        # The model's own area, in the shape that was asked for.
        width, height = model.size * (across / down) ** 0.5, model.size * (down / across) ** 0.5
    elif options.width or options.height:
        width, height = options.width or model.size, options.height or model.size
    size = _rounded(width), _rounded(height)
    if max(size) > model.largest:
        raise InvalidOptions(
            [
                f"{model.name} draws at most {model.largest} pixels a side; "
                f"asked: {size[0]}×{size[1]}."
            ]
        )
    own: dict[str, Any] = {
        "model": model.name,
        "width": size[0],
        "height": size[1],
        "seed": random_seed if options.seed == -1 else options.seed,
    }
    for name in Request.__dataclass_fields__.keys() - own.keys():
        asked = getattr(options, name)
        own[name] = getattr(model, name) if asked is None else asked
    return Request(**own)
