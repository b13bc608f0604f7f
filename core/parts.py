"""What can be added to a model: LoRAs, other VAEs, the adapter that takes a style; from files."""

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from core import offers
from core.offers import Offer
from core.settings import Drawing, read

if TYPE_CHECKING:
    from core.catalog import Family, Model


# What a model at a hub is called; a path begins otherwise.
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
# A longer header is none: the bound of safetensors' own readers.
HEADER = 100_000_000


# The layers whose input tells how wide a part is.
LAYERS = {
    # Attention to the text is the second of each block of a UNet; transformers attend to all at
    # once. In every trainer's spelling.
    "lora": r"(attn2.*to_k|[._]attn[._](to|add)_[qkv]|_attn[._]qkv).*(lora_A|lora_down|lora\.down)",
    "vae": r"decoder\.conv_in\.weight$",
}
# The networks whose layers are called so, by the first that is found; several have some alike.
NETWORKS: Mapping[str, tuple[str, ...]] = {
    r"single_transformer_blocks|(double|single)_blocks": ("flux",),
    r"joint_blocks": ("sd3",),
    r"^(lora_)?transformer[._]": ("flux", "sd3"),
    r"^unet\.|^lora_unet_(down|mid|up|input|middle|output)_|attn[12]": ("unet",),
}


@dataclass(frozen=True)
class Part:
    """A file or folder that is added to a model; its width must be the model's, where it says one.

    Of a LoRA and of an adapter, that of the text they were learned with, or of the transformer; of
    a VAE, its channels. `networks` are those that have such layers, none where that cannot be told.
    """

    name: str
    path: Path
    width: int | None
    networks: tuple[str, ...] = ()


@dataclass(frozen=True)
class StyleAdapter:
    """IP-Adapter's weights for a family, laid out as at their authors' hub (h94/IP-Adapter)."""

    source: str
    folder: str
    weights: str


class Parts(Protocol):
    """What gives the parts of a kind that fit a model, by name in small letters."""

    def __call__(self, model: "Model", *, hidden: bool = False) -> dict[str, Part]: ...


def loras(model: "Model", *, hidden: bool = False) -> dict[str, Part]:
    """The LoRAs that fit a model, by name in small letters; `hidden`: those too."""
    return _fitting(_loras, model, "lora", model.context, hidden)


def vaes(model: "Model", *, hidden: bool = False) -> dict[str, Part]:
    """The VAEs beside its own that fit a model, by name in small letters; `hidden`: those too."""
    return _fitting(_vaes, model, "vae", model.channels, hidden)


def there(kind: Parts) -> set[str]:
    """The names of whatever the host's folder holds of a kind, though no model here takes it."""
    found, named = (_loras, "lora") if kind is loras else (_vaes, "vae")
    return {name for name in found(_set(f"{named}s")) if not offers.hidden(named, name)}


def added() -> list[Part]:
    """What moderators put on offer of them."""
    return [_added(one) for one in offers.told() if one.kind in ("lora", "vae") and one.usable]


def _added(one: Offer) -> Part:
    facts = one.facts or {}
    return Part(one.name, Path(one.file), facts.get("width"), tuple(facts.get("networks", ())))


def width_of(kind: str, path: Path) -> int | None:
    """How wide a LoRA's file, or a VAE's file or folder, is; None where that cannot be told."""
    if path.is_dir():
        return told(path / "config.json").get("latent_channels")
    return _width(path, LAYERS[kind])


def networks_of(path: Path) -> tuple[str, ...]:
    """The networks that a LoRA's file may be for; none where that cannot be told."""
    layers = "\n".join(header(path) or ())
    return next((of for name, of in NETWORKS.items() if re.search(name, layers, re.MULTILINE)), ())


def folders(model: "Model") -> list[Path]:
    """Where the parts lie that fit a model."""
    source = Path(model.source)
    return [source / "loras", source / "vaes", *filter(None, (_set("loras"), _set("vaes")))]


def _fitting(
    found: Any, model: "Model", kind: str, width: int | None, hidden: bool
) -> dict[str, Part]:
    parts: dict[str, Part] = found(Path(model.source) / f"{kind}s") | found(_set(f"{kind}s"))
    parts |= {one.name.lower(): _added(one) for one in offers.of(kind) if one.usable}
    return {
        name: one
        for name, one in parts.items()
        if (width is None or one.width in (None, width))
        and (not one.networks or model.family.network in one.networks)
        and (hidden or not offers.hidden(kind, name))
    }


def _set(kind: str) -> Path | None:
    """The folder that the host's settings name."""
    folder = getattr(read(Drawing), kind)
    return Path(folder) if folder else None


@cache
def _loras(folder: Path | None) -> dict[str, Part]:
    files = _listed(folder, "*.safetensors")
    return _named([Part("", path, width_of("lora", path), networks_of(path)) for path in files])


@cache
def _vaes(folder: Path | None) -> dict[str, Part]:
    found = _listed(folder, "*.safetensors")
    found += [config.parent for config in _listed(folder, "*/config.json")]
    return _named([Part("", path, width_of("vae", path)) for path in found])


def _listed(folder: Path | None, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern)) if folder and is_folder(folder) else []


def _named(parts: Iterable[Part]) -> dict[str, Part]:
    # As one types it: without blanks, commas and colons, which end a name.
    named = (replace(one, name=re.sub(r"[\s,:]+", "-", one.path.stem)) for one in parts)
    return {one.name.lower(): one for one in named}


def style_adapter(family: "Family", width: int | None) -> StyleAdapter | None:
    """What takes styles for models of a family whose text is so wide, where the host has it."""
    source = read(Drawing).ip_adapter
    if not source or family.adapter is None:
        return None
    folder, weights, usual = family.adapter
    found: int | None = usual
    if is_folder(Path(source)):
        # A file that is not there has no width either.
        found = _width(Path(source) / folder / weights, r"\.to_k_ip\.weight$")
    return StyleAdapter(source, folder, weights) if found and found == width else None


def faults() -> list[str]:
    """What is wrong with what the host names of these, as this machine sees it, in words."""
    drawing, found = read(Drawing), []
    for kind in ("loras", "vaes"):
        if (folder := _set(kind)) and not is_folder(folder):
            found.append(f"DRAWQUEUE_{kind.upper()}: there is no folder {folder}.")
    if drawing.upscaler and not Path(drawing.upscaler).is_file():
        found.append(f"DRAWQUEUE_UPSCALER: there is no file {drawing.upscaler}.")
    source = drawing.ip_adapter
    if is_folder(Path(source)) and source and not any(Path(source).glob("*/ip-adapter*")):
        found.append(
            f"DRAWQUEUE_IP_ADAPTER: {source} is not laid out as h94/IP-Adapter: it holds no "
            "models/ip-adapter_sd15.safetensors and no sdxl_models/ip-adapter_sdxl.safetensors."
        )
    elif source and not is_folder(Path(source)) and not HUB_ID.fullmatch(source):
        found.append(f"DRAWQUEUE_IP_ADAPTER: there is no folder {source}. A hub id is owner/name.")
    return found


def is_folder(path: Path) -> bool:
    """Whether there is such a folder, whatever the name is like."""
    try:
        return path.is_dir()
    except OSError:  # A name that is longer than any may be.
        return False


def folder_of(source: str) -> Path:
    """Where a model lies: the folder itself, or what was fetched of a hub's model, if anything.

    Of the latter the folder's name is the revision (huggingface_hub: manage-cache).
    """
    folder = Path(source)
    if is_folder(folder) or not find_spec("huggingface_hub"):
        return folder
    from huggingface_hub.constants import HF_HUB_CACHE

    kept = Path(HF_HUB_CACHE) / f"models--{source.replace('/', '--')}"
    try:
        return kept / "snapshots" / (kept / "refs" / "main").read_text().strip()
    except (OSError, ValueError):
        return folder


def told(config: Path) -> dict[str, Any]:
    """What a configuration says; nothing where it is none."""
    try:
        found = json.loads(config.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _width(path: Path, layer: str) -> int | None:
    """How wide what a layer takes is, by the shapes in a file's header."""
    for name, tensor in (header(path) or {}).items():
        if re.search(layer, name):
            with contextlib.suppress(KeyError, IndexError, TypeError, ValueError):
                return int(tensor["shape"][1])
    return None


def header(path: Path) -> dict[str, Any] | None:
    """The header of a safetensors file (huggingface/safetensors: README); None where it is none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            found = json.loads(file.read(length)) if 2 <= length <= HEADER else None
    except (OSError, ValueError, RecursionError, MemoryError):
        return None
    return found if isinstance(found, dict) else None
