"""What can be asked of which model: defaults, limits, families, read from its files, as data."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import offers, parts, samplers
from core.braces import each
from core.errors import InvalidOptions, nearest
from core.languages import tr, trn
from core.offers import Offer
from core.options import (
    COMMAND_OF,
    DRAWN,
    HIRES_STRENGTH,
    MULTIPLE,
    OPTIONS,
    STEPS,
    Mode,
    Option,
    Options,
    Request,
    validate,
)
from core.parts import (
    HUB_ID,
    Parts,
    StyleAdapter,
    folder_of,
    folders,
    is_folder,
    loras,
    style_adapter,
    told,
    vaes,
)
from core.policy import policy
from core.providers import PROVIDERS, provider, provider_of, setup, unset
from core.settings import Drawing, Remote, Safety, read

if TYPE_CHECKING:
    from core.media import Source

STARTER = Path(__file__).parent.parent / "worker" / "starter_model"
# How much of the pictures it begins with may change where nothing is said.
USUAL_STRENGTH = {Mode.REMIX: 0.6, Mode.STYLE: 0.6, Mode.BLEND: 0.5, Mode.INPAINT: 1.0}
STYLE_STRENGTH = 0.6
# A picture that goes on to one side becomes so much longer there.
PANNED = 0.5
# Fewer pixels than this beside a picture are rounding, not a strip to paint.
SLACK = 4
# The longest side that is upscaled to.
LARGEST_UPSCALED = 4096
LANCZOS = "Lanczos"
# What a message has but one of; a prompt's own braces are taken where it is settled.
ONCE = ("prompt", "source", "look", "preset", "priority")


@dataclass(frozen=True)
class Family:
    """What models of one architecture share.

    `lacks` names the options they do not know; `adapter` are the folder, the file and the width
    of text of what takes a style for them; `network` is what draws, as LoRAs' layers tell it, and
    `channels` what it draws has.
    """

    # What a model's name holds where no folder says of which family it is.
    word: str = ""
    modes: frozenset[Mode] = frozenset(DRAWN) - {Mode.STYLE}
    lacks: frozenset[str] = frozenset()
    samplers: tuple[str, ...] = samplers.EVERY
    multiple: int = MULTIPLE
    # torch's name of the numbers that a GPU draws in.
    numbers: str = "float16"
    adapter: tuple[str, str, int] | None = None
    network: str = "unet"
    channels: int = 4


STABLE_DIFFUSION = Family(adapter=("models", "ip-adapter_sd15.safetensors", 768))
# By diffusers' names of their pipelines. What flows instead of denoising has one sampler.
FAMILIES: Mapping[str, Family] = {
    "StableDiffusionXLPipeline": Family(
        "xl", adapter=("sdxl_models", "ip-adapter_sdxl.safetensors", 2048)
    ),
    "StableDiffusion3Pipeline": Family(
        "stable-diffusion-3", lacks=frozenset({"clip_skip", "tile"}), samplers=("Euler",),
        multiple=16, network="sd3", channels=16,
    ),
    "FluxPipeline": Family(
        "flux", lacks=frozenset({"clip_skip", "tile", "negative_prompt", "chaos"}),
        samplers=("Euler",), multiple=16, numbers="bfloat16", network="flux", channels=16,
    ),
    "StableDiffusionPipeline": STABLE_DIFFUSION,
}  # fmt: skip
# Whatever else diffusers knows draws pictures from prompts, with what is its own.
ANOTHER = Family(
    modes=frozenset({Mode.TEXT, Mode.UPSCALE}), samplers=("Euler",), multiple=16,
    lacks=frozenset({"clip_skip", "tile", "negative_prompt", "lora", "vae", "hires", "chaos"}),
    numbers="bfloat16", network="",
)  # fmt: skip
PATTERNS = Family(modes=frozenset(DRAWN), lacks=frozenset({"chaos"}))


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
    # The least square that it draws, where it is not any.
    smallest: int = 0
    notes: str = ""
    # How much of the small picture a larger one may change; a small model knows but one size.
    hires_strength: float = HIRES_STRENGTH
    family: Family = STABLE_DIFFUSION
    # The width of what the text encoder tells the drawing part, of a transformer its own; and the
    # channels of what it draws.
    context: int | None = None
    channels: int | None = None
    # The layers of its text encoder, the least where it has several.
    layers: int | None = None
    # What takes a style for it, where the host has that.
    style: StyleAdapter | None = None

    @property
    def modes(self) -> frozenset[Mode]:
        """What it can draw from."""
        return self.family.modes | ({Mode.STYLE} if self.style else set())


# What suits models whose folders don't say it; the first whose word is in the name counts.
# Steps and guidance are those their authors give on the model cards.
USUAL: tuple[tuple[str, dict[str, Any]], ...] = (
    ("sdxl-turbo", {"size": 512, "steps": 2, "guidance": 0.0, "sampler": "Euler a"}),
    ("sd-turbo",
     {"size": 512, "steps": 2, "guidance": 0.0, "sampler": "Euler a", "context": 1024}),
    ("flux.1-schnell", {"size": 1024, "steps": 4, "guidance": 0.0, "context": 3072}),
    ("flux", {"size": 1024, "steps": 28, "guidance": 3.5, "context": 3072}),
    ("stable-diffusion-3.5-large-turbo",
     {"size": 1024, "steps": 4, "guidance": 0.0, "context": 2432}),
    ("stable-diffusion-3.5-medium",
     {"size": 1024, "steps": 28, "guidance": 4.5, "context": 1536}),
    ("stable-diffusion-3.5", {"size": 1024, "steps": 28, "guidance": 4.5, "context": 2432}),
    ("stable-diffusion-3", {"size": 1024, "steps": 28, "guidance": 7.0, "context": 1536}),
    ("lcm", {"steps": 6, "guidance": 1.5, "sampler": "LCM"}),
    ("xl", {"size": 1024, "steps": 30, "guidance": 6.0}),
    ("stable-diffusion-2", {"size": 768, "context": 1024}),
)  # fmt: skip


def _family(source: str) -> Family:
    """The family of a model, by its folder, else by its name."""
    pipeline = told(folder_of(source) / "model_index.json").get("_class_name")
    if pipeline:
        return FAMILIES.get(pipeline, ANOTHER)
    named = (one for one in FAMILIES.values() if one.word and one.word in source.lower())
    return next(named, STABLE_DIFFUSION)


def _model(source: str) -> Model:
    if source == "pattern":
        return Model(
            "pattern", source, engine="pattern", size=256, steps=8, guidance=5.0, largest=1024,
            notes="Draws test patterns, without a model.", family=PATTERNS,
        )  # fmt: skip
    if elsewhere := provider_of(source):
        return _remote(source, *elsewhere)
    folder = folder_of(source)
    hub = not is_folder(Path(source))
    name = source.rsplit("/", 1)[-1] if hub else folder.resolve().name
    family = _family(source)
    usual = next((facts for word, facts in USUAL if word in source.lower()), {})
    facts: dict[str, Any] = {"family": family, **usual}
    if facts.get("sampler", Model.sampler) not in family.samplers:
        facts["sampler"] = family.samplers[0]
    unet, vae = told(folder / "unet" / "config.json"), told(folder / "vae" / "config.json")
    flow = told(folder / "transformer" / "config.json")
    width, channels = unet.get("cross_attention_dim"), vae.get("latent_channels")
    if "num_attention_heads" in flow and "attention_head_dim" in flow:
        width = flow["num_attention_heads"] * flow["attention_head_dim"]
    if hub:
        # As the first models of a family have it: what is still at a hub is not looked into.
        width = width or usual.get("context") or (family.adapter and family.adapter[2])
        channels = channels or family.channels
    encoders = (told(folder / f"text_encoder{n}" / "config.json") for n in ("", "_2", "_3"))
    layers = [one.get("num_hidden_layers") for one in encoders]
    facts |= {"context": width, "channels": channels}
    facts["layers"] = min((one for one in layers if isinstance(one, int)), default=None)
    facts["style"] = style_adapter(family, width)
    if unet and vae:
        blocks = vae.get("block_out_channels", [0] * 4)
        facts["size"] = int(unet.get("sample_size", 64)) * 2 ** (len(blocks) - 1)
        if facts["size"] <= 256:
            facts |= {"largest": facts["size"] * 2, "steps": 20, "guidance": 3.0}
            facts["hires_strength"] = 0.25
    if name.replace("_", "-") == "starter-model":
        name = "starter"
    return Model(name, source, **facts)


def _remote(source: str, engine: str, model: str) -> Model:
    """A model on other machines, by what is known of it and its engine."""
    one = provider(engine, model)
    family = Family(
        modes=one.modes | {Mode.UPSCALE}, lacks=one.lacks, samplers=one.samplers,
        multiple=one.multiple, network="",
    )  # fmt: skip
    facts: dict[str, Any] = {
        "size": one.size, "steps": one.steps, "guidance": one.guidance,
        "sampler": next(iter(one.samplers), ""),
    }  # fmt: skip
    if one.home and one == PROVIDERS[engine]:
        # A checkpoint at home is one of those that are drawn with here; a name says which.
        named = next((usual for word, usual in USUAL if word in source.lower()), {})
        facts |= {name: value for name, value in named.items() if name in facts}
    return Model(
        source, source, engine=engine, largest=one.largest, smallest=one.smallest,
        family=family, **facts,
    )  # fmt: skip


def _named() -> list[Model]:
    """The models that the settings name."""
    named = [word.strip() for word in read(Drawing).model.split(",") if word.strip()]
    return [_model(source) for source in named or [str(STARTER)]]


def every_model() -> dict[str, Model]:
    """The models that there are by name, hidden ones too, the default first."""
    found = {model.name: model for model in _named()}
    found |= {one.name: _offered(one) for one in offers.of("model") if one.usable}
    first = offers.default("model")
    return {name: found[name] for name in sorted(found, key=lambda name: name != first)}


@cache
def models() -> dict[str, Model]:
    """The models on offer by name, the default first."""
    every = every_model()
    shown = {name: one for name, one in every.items() if not offers.hidden("model", name)}
    return shown or every


offers.on_change.append(models.cache_clear)


def _offered(one: Offer) -> Model:
    """A model that a moderator added, as this machine sees its folder, or as another one did."""
    here = (Path(one.source) / "model_index.json").is_file() or provider_of(one.source)
    if here or not one.facts:
        return replace(_model(one.source), name=one.name)
    known = {name: value for name, value in one.facts.items() if name in Model.__dataclass_fields__}
    known["family"] = FAMILIES.get(str(known.get("family")), ANOTHER)
    if style := known.get("style"):
        known["style"] = StyleAdapter(*style)
    return Model(one.name, one.source, **known)


def facts_of(model: Model) -> dict[str, Any]:
    """What a machine that does not see a model's files must know of it, for JSON."""
    told = asdict(model)
    del told["name"], told["source"]
    families = (name for name, one in FAMILIES.items() if one == model.family)
    style = list(told["style"].values()) if told["style"] else None
    return {**told, "family": next(families, ""), "style": style}


def upscalers() -> dict[str, Path]:
    """The weights that make pictures larger, by name."""
    found = every_upscaler()
    return {name: path for name, path in found.items() if not offers.hidden("upscaler", name)}


def every_upscaler() -> dict[str, Path]:
    """The same, with hidden ones, whose jobs in line are drawn."""
    weights = read(Drawing).upscaler
    found = {Path(weights).stem: Path(weights)} if weights else {}
    added = [one for one in offers.of("upscaler") if one.usable]
    return found | {one.name: Path(one.file) for one in added}


def gone_upscaler(name: str) -> str:
    """That an upscaler is not there any more, in words."""
    return tr("The upscaler {name} is no longer on offer.", name=name)


def gone_lora(name: str) -> str:
    """That a LoRA is not there any more, in words."""
    return tr("The LoRA {name} is no longer on offer.", name=name)


def gone_vae(name: str) -> str:
    """That a VAE is not there any more, in words."""
    return tr("The VAE {name} is no longer on offer.", name=name)


def still_offered(requests: Iterable[Request]) -> None:
    """Raises InvalidOptions for a request of old whose model or parts are gone since."""
    faults = []
    for one in requests:
        if one.mode.words:
            continue
        if one.mode == Mode.UPSCALE:
            if one.upscaler not in ("", LANCZOS, *upscalers()):
                faults.append(gone_upscaler(one.upscaler))
            continue
        if one.mode.words:
            continue  # Who makes them tells it.
        model = models().get(one.model)
        if model is None:
            faults.append(
                tr(
                    "The model {name} is no longer on offer. On offer: {models}.",
                    name=one.model, models=", ".join(models()),
                )
            )  # fmt: skip
            continue
        asked = [name for name, weight in one.loras if weight]
        faults += [gone_lora(name) for name in asked if name.lower() not in loras(model)]
        if one.vae and one.vae.lower() not in vaes(model):
            faults.append(gone_vae(one.vae))
    if faults:
        raise InvalidOptions(faults)


def missing_starter() -> bool:
    """Whether the default model is asked for and its weights are not there."""
    return not read(Drawing).model and not (STARTER / "model_index.json").is_file()


def faults(*, everywhere: bool = True) -> list[str]:
    """What is wrong with the models that the host names, as this machine sees it, in words;
    `everywhere`: with those on other machines, too."""
    if missing_starter():
        return ["No model: set DRAWQUEUE_MODEL to a folder or hub id."]
    found: list[str] = []
    for model in _named():
        folder = Path(model.source)
        if model.engine in PROVIDERS:
            found += filter(None, [unset(model.engine) if everywhere else ""])
            continue
        if model.engine == "pattern" or (folder / "model_index.json").is_file():
            continue
        if folder.exists():
            found.append(f"{model.source} is no model's folder: it holds no model_index.json.")
        elif not HUB_ID.fullmatch(model.source):
            engine, colon, own = model.source.partition(":")
            meant = nearest(engine, ["pattern", *PROVIDERS])
            hint = f"Did you mean {meant}{colon}{own}?" if meant else "A hub id is owner/name."
            found.append(f"There is no folder {model.source}. {hint}")
    return [*(f"DRAWQUEUE_MODEL: {fault}" for fault in dict.fromkeys(found)), *parts.faults()]


def stand_in_faults() -> list[str]:
    """What is wrong with the host's list of models that stand in for each other, in words."""
    names = list(dict.fromkeys(name.lower() for name in read(Remote).stand_ins))
    every = {name.lower(): name for name in every_model()}
    found = []
    for name in names:
        if name in every:
            continue
        near = nearest(name, every)
        hint = f"Did you mean {every[near]}?" if near else "Name it in DRAWQUEUE_MODEL, too."
        found.append(f"{name} is not on offer. {hint}")
        if elsewhere := provider_of(name):
            found += filter(None, [unset(elsewhere[0])])
    if len(names) == 1:
        found.append(f"nothing stands in for {names[0]}: name another model behind it.")
    return [f"DRAWQUEUE_FAILOVER: {fault}" for fault in dict.fromkeys(found)]


def known_parts(kind: Parts, *, hidden: bool = False) -> list[str]:
    """The names of the LoRAs or VAEs that fit any model; `hidden`: those too, of hidden models."""
    every = every_model() if hidden else models()
    return sorted(
        {one.name for model in every.values() for one in kind(model, hidden=hidden).values()}
    )


@cache
def revision(model: Model) -> str:
    """What distinguishes a model's files, and the libraries that draw with them, from others.

    Of a model that is named by its hub id, this is told by what is fetched of it; of one on other
    machines nothing but its name is known.
    """
    if model.engine in PROVIDERS:
        return f"remote {provider_of(model.source)} {setup(model.engine)}".strip()
    at = folder_of(model.source)
    files = [
        path
        for folder in (at, *folders(model))
        if is_folder(folder)
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".safetensors", ".json", ".bin")
    ]
    files += [one.path for one in parts.added() if one.path.is_file()]
    seen = [(path.name, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files]
    versions = [version(name) for name in ("torch", "diffusers") if find_spec(name)]
    # What was drawn before anybody looked is drawn again.
    looks = read(Safety)
    checks = (looks.classifier, looks.marking, looks.threshold) if looks.classifier else ()
    facts = (model, at.name, seen, versions, upscaler(), *checks)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


offers.on_change.append(revision.cache_clear)


def at_hand(model: Model) -> bool:
    """Whether a model's files are on this machine."""
    return is_folder(folder_of(model.source))


def own_check(source: str) -> bool:
    """Whether a model, as far as it is on this machine, brings a safety checker along."""
    found = told(folder_of(source) / "model_index.json").get("safety_checker")
    return isinstance(found, list) and bool(found) and bool(found[0])


def upscaler() -> str:
    """What upscales: the name of the host's weights, or Lanczos."""
    weights = read(Drawing).upscaler
    for name in (offers.default("upscaler"), Path(weights).stem):
        if name in upscalers():
            return name
    return LANCZOS


def _rounded(pixels: float, multiple: int) -> int:
    return max(64, round(pixels / multiple) * multiple)


def requested(
    given: Mapping[str, Any], faults: Sequence[str] = (), mode: Mode = Mode.TEXT
) -> Options:
    """The options of a request, every fault told at once, the model's name among them.

    Braces in them are several requests: `each` of the options. Raises InvalidOptions.
    """
    ways = each(given, ONCE, policy().line.permutations)
    made: list[Options] = []
    wrong: dict[str, None] = {}
    for one in ways:
        try:
            made.append(_requested(one, faults, mode))
        except InvalidOptions as error:
            if len(ways) == 1:
                raise
            wrong |= dict.fromkeys(error.faults)
    if wrong:
        raise InvalidOptions(wrong)
    return made[0].beside(made[1:])


def _requested(given: Mapping[str, Any], faults: Sequence[str], mode: Mode) -> Options:
    wanted = given.get("model")
    if isinstance(wanted, str) and wanted.strip() and _find(wanted) is None:
        faults = [*faults, _unknown(wanted)]
    faults = [*faults, *unable(meant(str(wanted or "")), mode)]
    misplaced = [
        _misplaced(option, mode)
        for option in OPTIONS
        if option.modes and mode not in option.modes and given.get(option.name) not in (None, "")
    ]
    return validate(given, [*faults, *misplaced])


def _misplaced(option: Option, mode: Mode) -> str:
    """That an option makes no sense here, in words: a prompt with a picture is asked as any is."""
    flag = option.flags[0]
    if option.modes != (Mode.TEXT,):
        commands = _listed(f"/{COMMAND_OF[one]}" for one in option.modes)
        return tr("--{flag} is for {commands}.", flag=flag, commands=commands)
    if mode == Mode.STYLE:
        return tr("--{flag} does not go with a picture whose style is taken.", flag=flag)
    return tr("--{flag} does not go with a picture to begin with.", flag=flag)


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return tr("{several} and {last}", several=", ".join(most), last=last) if most else last


def _find(wanted: str) -> Model | None:
    return next((m for m in models().values() if m.name.lower() == wanted.strip().lower()), None)


def meant(wanted: str) -> Model:
    """The model of a name, or the usual one where none is called so."""
    return _find(wanted) or next(iter(models().values()))


def repeats(request: Request) -> bool:
    """Whether it gives the same whenever it is asked again: what takes no seed draws by chance."""
    model = models().get(request.model)
    by_chance = request.mode in DRAWN and request.mode != Mode.UPSCALE
    return model is None or not by_chance or "seed" not in model.family.lacks


def painter(name: str) -> Model:
    """What paints over a picture that a model drew: that one, or the first that can.

    Raises InvalidOptions where nothing here can.
    """
    own = meant(name)
    able = [one for one in (own, *models().values()) if Mode.INPAINT in one.modes]
    if not able:
        raise InvalidOptions(unable(own, Mode.INPAINT))
    return able[0]


def _unknown(wanted: str) -> str:
    return tr(
        "There is no model “{name}”. On offer: {models}.",
        name=wanted.strip()[:60], models=", ".join(models()),
    )  # fmt: skip


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
    vae, vae_faults = _chosen_vae(options.vae, model)
    faults += [*vae_faults, *unable(model, mode), *_unknown_to(model, options)]
    writer = _writer() if options.enhance else ""
    if options.enhance and not writer:
        faults.append(tr("Nothing here writes prompts. Without --enhance it is drawn as it is."))
    # What is drawn over, and what it is drawn after.
    over = {Mode.STYLE: sources[:-1], Mode.INPAINT: sources[:1]}.get(mode, sources)
    size = _sized(options, model, over[0] if over else None)
    if mode == Mode.INPAINT and len(sources) < 2 and _filled(options, size, over):
        faults.append(
            tr(
                "Say what to paint: give a mask as a second picture (white is painted anew, black "
                "stays), or --zoom 1.5, or --pan left."
            )
        )
    if mode == Mode.INPAINT and len(sources) > 1:
        faults += mask_faults(sources[0], sources[1])
    # What is drawn large last must fit.
    if max(size) * options.hires > model.largest:
        asked = "×".join(f"{round(side * options.hires)}" for side in size)
        faults.append(
            tr(
                "{model} draws at most {most} pixels a side; asked: {asked}.",
                model=model.name, most=model.largest, asked=asked,
            )
        )  # fmt: skip
    # What comes from rounding is none.
    if size[0] * size[1] < 0.95 * model.smallest**2:
        faults.append(
            tr(
                "{model} draws no fewer pixels than {least}×{least}; asked: {asked}. --aspect "
                "gives the shape alone.",
                model=model.name, least=model.smallest, asked=f"{size[0]}×{size[1]}",
            )
        )  # fmt: skip
    if faults:
        raise InvalidOptions(faults)
    strength = 1.0
    if over:
        strength = USUAL_STRENGTH[mode] if options.strength is None else options.strength
    style = 0.0
    if mode == Mode.STYLE or (mode == Mode.BLEND and model.style):
        style = STYLE_STRENGTH if options.style_strength is None else options.style_strength
    own: dict[str, Any] = {
        "model": model.name,
        "width": size[0],
        "height": size[1],
        "seed": random_seed if options.seed == -1 else options.seed,
        "sampler": _sampler(options, model),
        "steps": options.steps or _steps(options.quality or 1, model),
        "mode": mode,
        "strength": strength,
        "style_strength": style,
        "sources": tuple(one.key for one in (sources if mode != Mode.INPAINT else over)),
        "mask": sources[1].key if mode == Mode.INPAINT and len(sources) > 1 else "",
        "loras": chosen,
        "vae": vae,
        "zoom": options.zoom or 1.0,
        "pan": options.pan or "",
        "hires_strength": model.hires_strength,
        "enhance": writer,
    }
    # What no option is about keeps its default.
    asked_for = Request.__dataclass_fields__.keys() & Options.model_fields.keys()
    for name in asked_for - own.keys():
        asked = getattr(options, name)
        own[name] = getattr(model, name) if asked is None else asked
    return Request(**own)


def _writer() -> str:
    """The model that writes prompts out; empty where there is none."""
    # What writes is told of as what draws is.
    from core.writers import writer

    found = writer(Mode.ENHANCE)
    return found.name if found else ""


def instead(request: Request, name: str) -> Request | None:
    """What another model draws in place of a request's own, at its size and by its own steps and
    sampler; None where it is not on offer, or cannot."""
    model = _find(name)
    if model is None or request.mode not in model.modes or request.mode == Mode.UPSCALE:
        return None
    told = Options.model_construct(prompt=request.prompt, **{
        option.name: getattr(request, option.name) for option in OPTIONS
        if option.name in ("negative_prompt", "clip_skip", "tile", "hires", "chaos", "subseed")
    })  # fmt: skip
    if _unknown_to(model, told) or (request.loras or request.vae):
        return None
    least = model.smallest / (request.width * request.height) ** 0.5
    scale = min(max(1.0, least), model.largest / max(request.size))
    multiple = model.family.multiple
    return replace(
        request, model=model.name, steps=model.steps, guidance=model.guidance,
        sampler=model.sampler, hires_strength=model.hires_strength,
        width=_rounded(request.width * scale, multiple),
        height=_rounded(request.height * scale, multiple),
    )  # fmt: skip


def unable(model: Model, mode: Mode) -> list[str]:
    """That a model cannot draw from what is asked, and which can, in words."""
    if mode in model.modes:
        return []
    able = [one.name for one in models().values() if mode in one.modes]
    command = COMMAND_OF[mode]
    if not able:
        return [
            tr(
                "{model} does not know /{command}. No model here does.",
                model=model.name, command=command,
            )
        ]  # fmt: skip
    return [
        tr(
            "{model} does not know /{command}. Models that do: {others}.",
            model=model.name, command=command, others=", ".join(able),
        )
    ]  # fmt: skip


def too_few(layers: int) -> str:
    """That --clip-skip leaves none of a text encoder's layers."""
    return trn(
        "This model's text encoder has {n} layer: --clip-skip can be {most} at most.",
        "This model's text encoder has {n} layers: --clip-skip can be {most} at most.",
        layers, most=layers - 1,
    )  # fmt: skip


def _unknown_to(model: Model, options: Options) -> list[str]:
    """What a model's family does not know of what was asked, in words."""
    family, faults = model.family, []
    for option in OPTIONS:
        if option.name in family.lacks and getattr(options, option.name) not in (
            option.default, None, "",
        ):  # fmt: skip
            faults.append(tr("{model} knows no --{flag}.", model=model.name, flag=option.flags[0]))
    if "clip_skip" not in family.lacks and model.layers and options.clip_skip >= model.layers:
        faults.append(too_few(model.layers))
    sampler = _sampler(options, model)
    if "sampler" in family.lacks:
        pass  # That was said already.
    elif options.sampler and options.sampler not in family.samplers:
        faults.append(
            tr(
                "{model} has no sampler {sampler}. It has {known}.",
                model=model.name, sampler=options.sampler, known=", ".join(family.samplers),
            )
        )  # fmt: skip
    elif options.schedule and sampler not in family.samplers:
        name, schedule = samplers.parts(sampler)
        known = [one for one in samplers.SCHEDULES if f"{name} {one}" in family.samplers]
        faults.append(_no_schedule(name, schedule, known))
    for name in ("width", "height"):
        side = getattr(options, name)
        if side and side % family.multiple:
            least = side // family.multiple * family.multiple
            faults.append(
                tr(
                    "For {model} “{name}” must be a multiple of {multiple}, such as {least} or "
                    "{next}; got {given}.",
                    model=model.name, name=name, multiple=family.multiple, given=side,
                    least=least or family.multiple, next=least + family.multiple,
                )
            )  # fmt: skip
    return faults


def _no_schedule(sampler: str, schedule: str, known: Sequence[str]) -> str:
    """That a sampler does not know a schedule, and which it does, in words."""
    if not known:
        return tr(
            "{sampler} has no {schedule} schedule here. It has its own alone.",
            sampler=sampler, schedule=schedule,
        )  # fmt: skip
    return tr(
        "{sampler} has no {schedule} schedule here. It has {known}.",
        sampler=sampler, schedule=schedule, known=", ".join(known),
    )  # fmt: skip


def _steps(quality: float, model: Model) -> int:
    return min(STEPS, max(1, round(model.steps * quality)))


def _sampler(options: Options, model: Model) -> str:
    """The sampler that draws, and its schedule: the one that was asked for, or the model's."""
    sampler = options.sampler or model.sampler
    if options.schedule is None:
        return sampler
    return samplers.scheduled(sampler, samplers.schedule(options.schedule) or "")


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
    return _rounded(width, model.family.multiple), _rounded(height, model.family.multiple)


def _filled(options: Options, size: tuple[int, int], over: Sequence["Source"]) -> bool:
    """Whether the picture to begin with leaves nothing to paint around it."""
    zoom = options.zoom or 1.0
    framed = zoom > 1 or options.pan or options.aspect or options.width or options.height
    if not framed or not over or options.pan:
        return not framed
    image = over[0]
    scale = min(size[0] / image.width, size[1] / image.height) / zoom
    return max(size[0] - image.width * scale, size[1] - image.height * scale) <= SLACK


def mask_faults(image: "Source", mask: "Source") -> list[str]:
    """What is wrong with a mask, in words."""
    if mask.white < 1 / 1024:
        return [tr("The mask has no white in it, so nothing would change. White is painted anew.")]
    shapes = image.width / image.height, mask.width / mask.height
    if not 0.97 < shapes[0] / shapes[1] < 1.03:
        return [
            tr(
                "The mask has another shape ({mask}) than the picture ({picture}).",
                mask=f"{mask.width}×{mask.height}", picture=f"{image.width}×{image.height}",
            )
        ]  # fmt: skip
    return []


def _chosen_loras(
    asked: str | None, model: Model
) -> tuple[tuple[tuple[str, float], ...], list[str]]:
    chosen, faults = [], []
    for word in (asked or "").split(", ") if asked else []:
        name, _, weight = word.rpartition(":")
        one = loras(model).get(name.lower())
        if one:
            chosen.append((one.name, float(weight)))
        else:
            faults.append(_no_lora(name, model))
    return tuple(chosen), faults


def _chosen_vae(asked: str | None, model: Model) -> tuple[str, list[str]]:
    # A default that does not fit a model is for others.
    one = vaes(model).get((asked or offers.default("vae")).lower())
    if one or not asked:
        return one.name if one else "", []
    return "", [_no_vae(asked, model)]


def _no_lora(name: str, model: Model) -> str:
    """That a model has no LoRA of that name, in words."""
    values = {"name": name[:60], "model": model.name}
    if _elsewhere(name, loras):
        return tr("The LoRA “{name}” is for another model than {model}.", **values)
    if known := _fitting(loras, model):
        return tr("There is no LoRA “{name}”. For {model}: {known}.", **values, known=known)
    return tr("There is no LoRA “{name}”. For {model}: none.", **values)


def _no_vae(name: str, model: Model) -> str:
    """That a model has no VAE of that name, in words."""
    values = {"name": name[:60], "model": model.name}
    if _elsewhere(name, vaes):
        return tr("The VAE “{name}” is for another model than {model}.", **values)
    if known := _fitting(vaes, model):
        return tr("There is no VAE “{name}”. For {model}: {known}.", **values, known=known)
    return tr("There is no VAE “{name}”. For {model}: none.", **values)


def _elsewhere(name: str, kind: Parts) -> bool:
    return name.lower() in {known.lower() for known in known_parts(kind)} | parts.there(kind)


def _fitting(kind: Parts, model: Model) -> str:
    return ", ".join(sorted(one.name for one in kind(model).values()))


def upscaled(old: Request, source: "Source", factor: int) -> Request:
    """The request that makes a picture so many times larger. Raises InvalidOptions."""
    width, height = source.width * factor, source.height * factor
    if max(width, height) > LARGEST_UPSCALED:
        raise InvalidOptions([
            tr("That would be {size}; {most} pixels a side is the most.",
               size=f"{width}×{height}", most=LARGEST_UPSCALED)
        ])  # fmt: skip
    return replace(
        old, mode=Mode.UPSCALE, sources=(source.key,), mask="", factor=factor, count=1,
        upscaler=upscaler(), width=width, height=height, hires=1.0, tile=False, zoom=1.0, pan="",
    )  # fmt: skip
