"""What single services ask for, and what they get: Pollinations, Chutes, Stability, OpenAI."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest
from PIL import Image, ImageChops

from core import catalog, settings
from core.engine import AskDifferently, EngineError, TryAnother, Wait
from core.errors import InvalidOptions
from core.media import Source
from core.options import Mode, Options
from core.stock import _told_of
from tests.servers.remote import RemoteServer
from tests.servers.remote_chutes import ChutesServer
from tests.servers.remote_openai import AT_HOME, OpenAIServer
from tests.servers.remote_pollinations import PollinationsServer
from tests.servers.remote_stability import StabilityServer
from worker import engines
from worker.engines import openai, stability

At = Callable[..., Any]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Iterator[At]:
    """A service as `at(Server, model)`: its server, its engine, and what is asked of it."""
    open_servers: dict[type[RemoteServer], RemoteServer] = {}
    made: list[Any] = []

    def begin(kind: type[RemoteServer], model: str = "", **changes: str) -> Any:
        server = open_servers.setdefault(kind, kind())
        if not server.address:
            server.__enter__()
        source = f"{server.engine}:{model}" if model else server.source
        for name, value in {**server.settings(), "DRAWQUEUE_MODEL": source, **changes}.items():
            monkeypatch.setenv(name, value)
        settings._read.cache_clear()
        catalog.models.cache_clear()
        engine = engines.remote(server.engine)
        made.append(engine)
        told: list[str] = []

        def report(_share: float, words: str = "") -> bool:
            told.extend([words] if words else [])
            return True

        def draw(
            mode: Mode = Mode.TEXT, pictures: dict[str, Image.Image] | None = None,
            seed: int | None = None, sources: tuple[Source, ...] = (), prompt: str = "a boat",
            **options: Any,
        ) -> list[Image.Image]:  # fmt: skip
            asked = catalog.settle(Options(prompt=prompt, **options), 7, mode, sources)
            if seed is not None:
                asked = replace(asked, seed=seed)
            found = engine.draw(catalog.models()[source], asked, report, pictures or {})
            for image in found:
                image.load()
            return list(found)

        return SimpleNamespace(server=server, draw=draw, told=told)

    yield begin
    for engine in made:
        engine.close()
    for server in open_servers.values():
        server.__exit__()


@contextmanager
def refused(kind: type[EngineError], words: str = "") -> Iterator[None]:
    with pytest.raises(EngineError, match=words) as caught:
        yield
    assert type(caught.value) is kind


def query(server: RemoteServer, index: int = -1) -> dict[str, str]:
    return {k: v[0] for k, v in parse_qs(server.asked[index][1].partition("?")[2]).items()}


# Pollinations


def test_pollinations_is_asked_for_a_private_picture_without_its_mark(at: At) -> None:
    one = at(PollinationsServer, "turbo")
    images = one.draw(count=2, width=640, height=384)
    assert [image.size for image in images] == [(640, 384)] * 2
    asked = [query(one.server, index) for index in (-2, -1)]
    assert [one.pop("seed") for one in asked] == ["7", "8"]
    assert asked[0] == asked[1] == {
        "width": "640", "height": "384", "model": "turbo", "nologo": "true", "private": "true",
    }  # fmt: skip
    assert images[0].getpixel((0, 0)) != images[1].getpixel((0, 0))


@pytest.mark.parametrize("prompt", ["..", ".", "a/../b", "//", "50 % & more?", "a\\b#c"])
def test_a_prompt_is_no_path(at: At, prompt: str) -> None:
    one = at(PollinationsServer)
    one.draw(prompt=prompt)
    assert one.server.heard(one.server.asked[-1]) == prompt


def test_without_a_token_none_is_sent(at: At) -> None:
    one = at(PollinationsServer, POLLINATIONS_TOKEN="")
    one.server.key = ""
    assert one.draw()


def test_pollinations_looks_at_pictures_where_the_host_hides_such(
    at: At, rules: Callable[[str], None]
) -> None:
    rules('[marked]\nshow = "withhold"\n')
    one = at(PollinationsServer)
    one.draw()
    assert query(one.server)["safe"] == "true"


def test_a_model_that_pollinations_lost_is_told(at: At) -> None:
    one = at(PollinationsServer, "flux-anime")
    assert one.draw() and one.draw()
    words = "Pollinations has no flux-anime at the moment: it draws with flux."
    assert one.told == [words, words]
    assert [call[1] for call in one.server.asked].count("/models") == 1


def test_a_model_that_pollinations_never_had_is_not_drawn_with_another(at: At) -> None:
    with refused(TryAnother, "does not know"):
        at(PollinationsServer, "fluxx").draw()


def test_pollinations_draws_where_its_list_does_not_come(at: At) -> None:
    one = at(PollinationsServer, "flux-anime")
    one.server.troubles += ["500"] * 3
    assert one.draw() and not one.told


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (402, {"x402Version": 1, "error": "Queue full for IP: ::1: 1 requests already queued"},
         Wait, "as much to do"),
        (402, {"error": "Payment Required", "message": "no pollen"}, TryAnother, "no credit"),
        (500, {"error": "Internal Server Error", "message": "NSFW content detected."},
         AskDifferently, "rules"),
        (422, {"success": False, "error": {"code": "content_policy_violation"}},
         AskDifferently, "rules"),
        (414, None, AskDifferently, "too long"),
    ],
)  # fmt: skip
def test_what_pollinations_means(
    at: At, status: int, body: Any, kind: type[EngineError], words: str
) -> None:
    one = at(PollinationsServer)
    one.server.refusals += [(status, body)] * 3
    with refused(kind, words):
        one.draw()


# Chutes


def test_chutes_is_told_all_that_it_knows(at: At) -> None:
    one = at(ChutesServer)
    one.draw(negative_prompt="people", steps=12, guidance=3.5, width=512, height=768, count=2)
    first, second = (call[2] for call in one.server.asked)
    assert first == {
        "model": "qwen-image", "prompt": "a boat", "negative_prompt": "people", "width": 512,
        "height": 768, "num_inference_steps": 12, "guidance_scale": 3.5, "seed": 7,
    }  # fmt: skip
    assert second == {**first, "seed": 8}
    one.draw(quality=0.5)
    assert one.server.asked[-1][2]["num_inference_steps"] == 15


def test_a_model_that_chutes_has_not_is_the_hosts_to_mend(at: At) -> None:
    with refused(TryAnother, "does not know"):
        at(ChutesServer, "no-such").draw()


def test_a_number_that_chutes_refuses_is_told(at: At) -> None:
    with refused(AskDifferently, "from 128 to 2048"):
        at(ChutesServer).draw(width=64)


# Stability


def fields(one: Any) -> dict[str, str]:
    """The words of the last form that came."""
    form = one.server.forms[-1]
    return {name: parts[0][1].decode() for name, parts in form.items() if name != "image"}


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ({}, "1:1"),
        ({"aspect": "16:9"}, "16:9"),
        ({"aspect": "7:3"}, "21:9"),
        ({"aspect": "1:4"}, "9:21"),
        ({"width": 640, "height": 768}, "4:5"),
        ({"aspect": "4:3"}, "5:4"),
    ],
)
def test_stability_is_asked_for_the_nearest_shape(
    at: At, given: dict[str, Any], shape: str
) -> None:
    one = at(StabilityServer)
    (image,) = one.draw(negative_prompt="people", **given)
    across, down = map(int, shape.split(":"))
    assert image.width / image.height == pytest.approx(across / down, rel=0.02)
    assert fields(one) == {
        "prompt": "a boat", "negative_prompt": "people", "output_format": "png", "seed": "7",
        "aspect_ratio": shape,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("ultra", {}),
        ("sd3", {"mode": "text-to-image", "cfg_scale": "4"}),
        ("sd3.5-medium", {"mode": "text-to-image", "cfg_scale": "4", "model": "sd3.5-medium"}),
        ("sd3.5-large-turbo",
         {"mode": "text-to-image", "cfg_scale": "1", "model": "sd3.5-large-turbo"}),
    ],
)  # fmt: skip
def test_each_of_stabilitys_models_is_asked_in_its_way(
    at: At, model: str, more: dict[str, str]
) -> None:
    one = at(StabilityServer, model)
    one.draw()
    usual = {"prompt": "a boat", "output_format": "png", "seed": "7", "aspect_ratio": "1:1"}
    assert fields(one) == usual | more


@pytest.mark.parametrize("model", ["ultra", "sd3.5-large"])
def test_stability_draws_over_a_picture(at: At, model: str) -> None:
    one = at(StabilityServer, model)
    red = Image.new("RGB", (600, 400), "red")
    one.draw(Mode.REMIX, {"key": red}, sources=(Source("key", 600, 400),), strength=0.25)
    told = fields(one)
    assert told["strength"] == "0.25" and "aspect_ratio" not in told
    assert told.get("mode") == ("image-to-image" if model != "ultra" else None)
    with Image.open(io.BytesIO(one.server.forms[-1]["image"][0][1])) as sent:
        assert sent.width / sent.height == pytest.approx(1.5, rel=0.01)
        assert sent.convert("RGB").getpixel((9, 9)) == (255, 0, 0)


def test_a_picture_is_sent_to_stability_as_small_as_it_takes() -> None:
    noise = np.random.default_rng(7).integers(0, 256, (2048, 2048, 3), dtype=np.uint8)
    name, data, kind = stability._sent(Image.fromarray(noise))
    assert len(data) <= stability.MOST_BYTES and (name, kind) == ("image.jpeg", "image/jpeg")
    assert stability._sent(Image.new("RGB", (64, 64)))[2] == "image/png"


def test_every_seed_is_one_that_stability_knows(at: At) -> None:
    one = at(StabilityServer)
    for seed in (0, 1, 2**32 - 2, 2**32 - 1):
        one.draw(seed=seed)
    sent = [int(form["seed"][0][1]) for form in one.server.forms]
    assert all(1 <= seed <= 4_294_967_294 for seed in sent)
    assert sent[1:3] == [1, 2**32 - 2] and sent[0] != 1


@pytest.mark.parametrize("prompt", ["forbidden fruit", "a blurred thing"])
def test_stability_forbids_in_words_and_sends_nothing_blurred(at: At, prompt: str) -> None:
    with refused(AskDifferently, "its rules forbid it"):
        at(StabilityServer).draw(prompt=prompt)


def test_a_model_that_stability_has_not_is_told(at: At) -> None:
    with refused(AskDifferently, "model: must be one of"):
        at(StabilityServer, "sd9").draw()


# OpenAI, and who speaks as it does


@pytest.mark.parametrize(
    ("model", "wanted", "asked"),
    [
        ("gpt-image-1", (1024, 1024), (1024, 1024)),
        ("gpt-image-1", (512, 512), (1024, 1024)),
        ("gpt-image-1-mini", (1344, 768), (1536, 1024)),
        ("gpt-image-1.5", (768, 1344), (1024, 1536)),
        ("chatgpt-image-latest", (2048, 1024), (1536, 1024)),
        ("dall-e-3", (1344, 768), (1792, 1024)),
        ("dall-e-2", (320, 320), (256, 256)),
        ("dall-e-2", (640, 384), (512, 512)),
        ("gpt-image-2", (1000, 600), (992, 608)),
        ("gpt-image-2", (2048, 512), (2048, 688)),
        ("stablediffusion", (1000, 600), (1000, 600)),
    ],
)
def test_the_nearest_size_is_asked_for(
    model: str, wanted: tuple[int, int], asked: tuple[int, int]
) -> None:
    assert openai.nearest(model, wanted) == asked


def test_openai_draws_several_in_one_call(at: At) -> None:
    one = at(OpenAIServer)
    assert [image.size for image in one.draw(count=3, aspect="3:2")] == [(1536, 1024)] * 3
    assert [call[2] for call in one.server.asked] == [
        {"model": "gpt-image-1", "prompt": "a boat", "size": "1536x1024", "n": 3}
    ]


def test_a_model_that_draws_but_one_is_asked_for_each(at: At) -> None:
    one = at(OpenAIServer, "dall-e-3")
    assert len(one.draw(count=2)) == 2
    assert [call[2]["n"] for call in one.server.asked] == [1, 1]
    assert one.server.asked[0][2]["response_format"] == "b64_json"


@pytest.mark.parametrize("addresses", [False, True])
def test_a_server_at_home_is_asked_with_seeds_for_any_size(at: At, addresses: bool) -> None:
    one = at(OpenAIServer, AT_HOME)
    one.server.addresses = addresses
    assert [image.size for image in one.draw(count=2, width=520, height=392)] == [(520, 392)] * 2
    asked = [call[2] for call in one.server.asked if call[0] == "POST"]
    assert [(call["seed"], call["n"], call["size"]) for call in asked] == [
        (7, 1, "520x392"), (8, 1, "520x392"),
    ]  # fmt: skip
    assert len(one.server.fetched) == 2 * addresses
    assert one.server.key not in str(one.server.fetched)


def test_a_server_at_home_needs_no_key(at: At) -> None:
    one = at(OpenAIServer, AT_HOME, OPENAI_API_KEY="")
    one.server.key = ""
    assert one.draw()


def test_openai_draws_over_a_picture(at: At) -> None:
    one = at(OpenAIServer)
    blue = Image.new("RGB", (600, 400), "blue")
    images = one.draw(Mode.REMIX, {"key": blue}, sources=(Source("key", 600, 400),), count=2)
    assert [image.size for image in images] == [(1536, 1024)] * 2
    (form,) = one.server.forms
    assert form["n"][0][1] == b"2" and "response_format" not in form
    (name, data), = form["image[]"]  # fmt: skip
    with Image.open(io.BytesIO(data)) as sent:
        assert name and sent.size == (1536, 1024)


@pytest.mark.parametrize("model", ["gpt-image-1", "dall-e-2"])
@pytest.mark.parametrize("size", [(768, 768), (1152, 576)])
def test_what_a_mask_keeps_stays_to_the_last_bit(at: At, model: str, size: tuple[int, int]) -> None:
    one = at(OpenAIServer, model)
    noise = np.random.default_rng(7).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    image = Image.fromarray(noise).resize(size, Image.Resampling.NEAREST)
    mask = Image.new("RGB", size)
    mask.paste("white", (0, 0, size[0] // 2, size[1]))
    sources = Source("key", *size, generation=1), Source("mask", *size, white=0.5)
    (drawn,) = one.draw(Mode.INPAINT, {"key": image, "mask": mask}, sources=sources)
    assert drawn.size == size
    right = (size[0] // 2 + 1, 0, *size)
    assert not ImageChops.difference(drawn.crop(right), image.crop(right)).getbbox()
    middle = drawn.getpixel((size[0] // 4, size[1] // 2))
    assert isinstance(middle, tuple) and middle[0] > 250 and max(middle[1:]) < 5, "painted red"
    # Nothing beside the picture is painted in its place.
    assert drawn.getpixel((size[0] // 4, size[1] - 2)) == pytest.approx((255, 0, 0), abs=3)
    (form,) = one.server.forms
    with Image.open(io.BytesIO(form["mask"][0][1])) as sent:
        shares = sent.getchannel("A").histogram()
        assert sent.mode == "RGBA" and shares[0] and shares[255] and not any(shares[1:255])
    assert len(form["mask"][0][1]) < 4_000_000


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (400, "moderation_blocked", AskDifferently, "its rules forbid it"),
        (400, "content_policy_violation", AskDifferently, "its rules forbid it"),
        (429, "insufficient_quota", TryAnother, "no credit left"),
        (400, "billing_hard_limit_reached", TryAnother, "no credit left"),
        (429, "rate_limit_exceeded", Wait, "as much to do"),
        (400, "invalid_value", AskDifferently, "Your request was rejected"),
        (403, "unsupported_country_region_territory", TryAnother, "does not let this bot in"),
    ],
)
def test_what_openai_means(
    at: At, status: int, code: str, kind: type[EngineError], words: str
) -> None:
    one = at(OpenAIServer)
    one.server.refusals.append((status, code))
    with refused(kind, words):
        one.draw()


def test_a_model_that_openai_has_not_is_the_hosts_to_mend(at: At) -> None:
    with refused(TryAnother, "does not know"):
        at(OpenAIServer, "dall-e-9").draw()


# What they know not


@pytest.mark.parametrize(
    ("source", "given", "flag"),
    [
        ("pollinations:flux", {"negative_prompt": "people"}, "no"),
        ("pollinations:flux", {"steps": 9}, "steps"),
        ("pollinations:flux", {"tile": True}, "tile"),
        ("chutes:qwen-image", {"clip_skip": 1}, "clip-skip"),
        ("stability:core", {"guidance": 5}, "guidance"),
        ("stability:sd3.5-large-turbo", {"negative_prompt": "people"}, "no"),
        ("openai:gpt-image-1", {"negative_prompt": "people"}, "no"),
        ("openai:gpt-image-1", {"quality": 2}, "quality"),
        ("openai:gpt-image-1", {"sampler": "DDIM"}, "sampler"),
    ],
)
def test_what_they_know_not_is_refused(
    monkeypatch: pytest.MonkeyPatch, source: str, given: dict[str, Any], flag: str
) -> None:
    monkeypatch.setenv("DRAWQUEUE_MODEL", source)
    with pytest.raises(InvalidOptions) as caught:
        catalog.settle(Options(prompt="a boat", **given), 7)
    assert caught.value.faults == [f"{source} knows no --{flag}."]
    # Nor is it told of as the model's.
    told = _told_of(catalog.models()[source], False)
    facts = told.partition(": ")[2].partition(";")[0]
    assert facts.count(", ") == (2 if source.startswith("chutes") else 1)


@pytest.mark.parametrize(
    ("source", "modes"),
    [
        ("pollinations:flux", set()),
        ("chutes:qwen-image", set()),
        ("stability:core", set()),
        ("stability:ultra", {Mode.REMIX}),
        ("stability:sd3.5-large", {Mode.REMIX}),
        ("openai:gpt-image-1", {Mode.REMIX, Mode.INPAINT}),
        ("openai:gpt-image-2", {Mode.REMIX, Mode.INPAINT}),
        ("openai:dall-e-2", {Mode.INPAINT}),
        ("openai:dall-e-3", set()),
        ("openai:stablediffusion", set()),
    ],
)
def test_what_they_draw_from(
    monkeypatch: pytest.MonkeyPatch, source: str, modes: set[Mode]
) -> None:
    monkeypatch.setenv("DRAWQUEUE_MODEL", source)
    found = catalog.models()[source].modes
    assert found == modes | {Mode.TEXT, Mode.UPSCALE}
    over = (Source("key", 512, 512, generation=1),)
    if Mode.REMIX in modes and source.startswith("openai"):
        with pytest.raises(InvalidOptions, match="knows no --strength"):
            catalog.settle(Options(prompt="a boat", strength=0.3), 7, Mode.REMIX, over)
    if Mode.REMIX not in modes:
        with pytest.raises(InvalidOptions, match="does not know /remix"):
            catalog.settle(Options(prompt="a boat"), 7, Mode.REMIX, over)
