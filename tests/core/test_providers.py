"""Other people's engines as data: how they are named, what each does, and what hosts forgot."""

from collections.abc import Callable

import pytest

from core import catalog
from core.catalog import models
from core.options import COMMAND_OF, Mode
from core.providers import (
    OTHERWISE,
    PROVIDERS,
    SEEDLESS,
    Limits,
    limits,
    provider,
    provider_of,
    table,
    unset,
)
from core.settings import Remote


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("pollinations:flux", ("pollinations", "flux")),
        ("pollinations", ("pollinations", "flux")),
        (" kie ", ("kie", "seedream/4.5-text-to-image")),
        ("kie:google/nano-banana", ("kie", "google/nano-banana")),
        # What another server calls a model may have a colon of its own.
        ("openai:qwen:7b", ("openai", "qwen:7b")),
        ("a1111", ("a1111", "")),
        ("kie:", None),
        ("Kie:flux", None),
        ("owner/kie", None),
        ("models/kie:flux", None),
        ("polinations:flux", None),
        ("", None),
    ],
)
def test_a_source_names_an_engine_and_its_model(source: str, found: tuple[str, str] | None) -> None:
    assert provider_of(source) == found


def test_the_usual_model_of_kie_is_the_hosts(host: Callable[..., None]) -> None:
    host(KIE_DEFAULT_MODEL="google/nano-banana")
    assert provider_of("kie") == ("kie", "google/nano-banana")


def test_what_models_do_otherwise_is_of_engines_and_options_that_there_are() -> None:
    for begin, changes in OTHERWISE.items():
        engine, _, model = begin.partition(":")
        assert PROVIDERS[engine].draws and model
        assert provider(engine, model) != PROVIDERS[engine], f"{begin} does nothing otherwise"
        assert set(changes) <= set(PROVIDERS[engine].__dataclass_fields__)
    # The first that fits counts: what is told of fewer models must stand before.
    names = list(OTHERWISE)
    for index, name in enumerate(names):
        assert not any(name.startswith(before) for before in names[:index])


def test_the_longer_name_is_the_one_that_counts() -> None:
    turbo, large = (provider("stability", f"sd3.5-large{end}") for end in ("-turbo", ""))
    assert "negative_prompt" in turbo.lacks and "negative_prompt" not in large.lacks
    assert Mode.INPAINT in provider("openai", "gpt-image-1-mini").modes
    assert provider("openai", "some-model-at-home") == PROVIDERS["openai"]


def test_each_engine_has_settings_of_its_own() -> None:
    fields = set(Remote.model_fields)
    for name, one in PROVIDERS.items():
        assert Remote.keys()[name] in fields and f"{name}_base_url" in fields
        # Of a server at home nobody but its host knows the address.
        assert bool(Remote.model_fields[f"{name}_base_url"].default) is not one.home
        assert one.at_once >= 1 and one.title in table()
        assert one.lacks <= SEEDLESS | {"strength"}
    assert Remote.keys().keys() == PROVIDERS.keys()


def test_what_an_engine_needs_is_told_by_its_name_and_by_no_value(
    host: Callable[..., None],
) -> None:
    assert not unset("pollinations")
    for engine, setting in (
        ("kie", "KIE_API_KEY"), ("chutes", "CHUTES_API_TOKEN"), ("openai", "OPENAI_API_KEY"),
        ("stability", "STABILITY_API_KEY"), ("a1111", "A1111_BASE_URL"),
        ("comfyui", "COMFYUI_BASE_URL"),
    ):  # fmt: skip
        assert PROVIDERS[engine].title in unset(engine) and setting in unset(engine)
        host(**{setting: "http://127.0.0.1:1" if setting.endswith("URL") else "SECRET"})
        assert not unset(engine)


def test_a_server_at_home_that_speaks_as_openai_needs_no_key(host: Callable[..., None]) -> None:
    host(OPENAI_BASE_URL="http://127.0.0.1:8000/v1")
    assert not unset("openai")


def test_limits_are_the_hosts_before_ours(host: Callable[..., None]) -> None:
    assert limits("kie") == Limits(50, 0) and limits("a1111") == Limits(1, 0)
    host(
        DRAWQUEUE_REMOTE_LIMITS="kie=20, pollinations=1/4",
        A1111_BASE_URL="http://127.0.0.1:1,http://127.0.0.1:2",
    )
    assert limits("kie") == Limits(20, 0) and limits("pollinations") == Limits(1, 4)
    assert limits("a1111").at_once == 2, "as many at once as there are servers"


def test_a_misspelt_engine_is_told_with_the_one_that_is_meant(host: Callable[..., None]) -> None:
    host(DRAWQUEUE_MODEL="polinations:turbo,kie,kie:google/nano-banana,pattern")
    misspelt, key = catalog.faults()
    assert misspelt.endswith(
        "There is no folder polinations:turbo. Did you mean pollinations:turbo?"
    )
    assert key == "DRAWQUEUE_MODEL: kie.ai needs its key: set KIE_API_KEY."
    # A worker that draws here does not mind what others need.
    assert catalog.faults(everywhere=False) == [misspelt]


def test_what_stands_in_must_be_on_offer(host: Callable[..., None]) -> None:
    host(DRAWQUEUE_MODEL="pattern,pollinations:flux,pollinations:turbo")
    assert not catalog.stand_in_faults()
    host(DRAWQUEUE_FAILOVER="Pattern, pollinations:turbo")
    assert not catalog.stand_in_faults()
    host(DRAWQUEUE_FAILOVER="pattern, polinations:flux, kie")
    assert catalog.stand_in_faults() == [
        "DRAWQUEUE_FAILOVER: polinations:flux is not on offer. Did you mean pollinations:flux?",
        "DRAWQUEUE_FAILOVER: kie is not on offer. Name it in DRAWQUEUE_MODEL, too.",
        "DRAWQUEUE_FAILOVER: kie.ai needs its key: set KIE_API_KEY.",
    ]
    host(DRAWQUEUE_FAILOVER="pattern, pattern")
    (alone,) = catalog.stand_in_faults()
    assert "nothing stands in for pattern" in alone


def test_a_model_elsewhere_is_offered_as_its_engine_can(host: Callable[..., None]) -> None:
    host(DRAWQUEUE_MODEL="pollinations:flux,openai:gpt-image-1,stability:ultra,a1111:sdxl-turbo")
    flux, image, ultra, turbo = models().values()
    assert flux.engine == "pollinations" and Mode.REMIX not in flux.modes
    assert {Mode.REMIX, Mode.INPAINT} <= image.modes and Mode.REMIX in ultra.modes
    assert "steps" in flux.family.lacks and "steps" not in turbo.family.lacks
    assert (turbo.steps, turbo.guidance) == (2, 0.0), "a checkpoint at home is one we know"


def test_the_table_tells_of_each_engine() -> None:
    lines = {line.split(" | ")[0].strip("| "): line for line in table().splitlines()[2:]}
    assert list(lines) == [one.title for one in PROVIDERS.values()]
    assert f"`/{COMMAND_OF[Mode.INPAINT]}`" in lines["OpenAI"] and "words" in lines["OpenAI"]
    assert "nothing" in lines["Pollinations"] and "`A1111_BASE_URL`" in str(lines)


@pytest.mark.parametrize(
    ("source", "takes"),
    [
        ("kie", False), ("kie:nano-banana-pro", False), ("kie:flux-2/pro-text-to-image", False),
        ("kie:google/nano-banana", False), ("kie:z-image", False), ("kie:qwen/x", True),
        ("kie:bytedance/seedream", True), ("kie:bytedance/seedream-v4-text-to-image", True),
        ("openai:gpt-image-1", False), ("openai:chatgpt-image-latest", False),
        ("openai:dall-e-2", False), ("openai:dall-e-3", False), ("openai:at-home", True),
        ("pollinations", True), ("chutes", True), ("stability", True), ("a1111", True),
        ("comfyui", True),
    ],
)  # fmt: skip
def test_some_models_take_no_seed(source: str, takes: bool) -> None:
    assert ("seed" not in catalog._model(source).family.lacks) is takes
