"""What is special about web UIs at home: they are their owner's, who draws with them, too."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from core import catalog, providers, settings
from core.engine import AskDifferently, EngineError, Stopped, TransientError, TryAnother, Wait
from core.errors import InvalidOptions
from core.media import Source
from core.options import Mode, Options
from tests.servers.remote_a1111 import A1111Server
from worker import engines, previews


@pytest.fixture(scope="module")
def server() -> Iterator[A1111Server]:
    with A1111Server() as made:
        assert isinstance(made, A1111Server)
        yield made


@pytest.fixture
def engine(server: A1111Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server.asked.clear()
    server.drew.clear()
    server.interrupted.clear()
    server.troubles.clear()
    fresh = A1111Server()
    for name in ("pixels", "step_seconds", "old", "nowebui", "loaded", "empty", "failing"):
        setattr(server, name, getattr(fresh, name))
    for name, value in server.settings().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(
        "DRAWQUEUE_MODEL", "a1111,a1111:sd_xl_base_1.0,a1111:flux1-dev,a1111:not-there"
    )
    settings._read.cache_clear()
    made = engines.remote("a1111")
    yield made
    made.close()


def asked(mode: Mode = Mode.TEXT, sources: tuple[Source, ...] = (), **options: Any) -> Any:
    given = {"prompt": "a lighthouse", "seed": 7, **options}
    return catalog.settle(Options(**given), 0, mode, sources)


def drawn(engine: Any, request: Any, pictures: Any = None, **more: Any) -> list[Image.Image]:
    model = catalog.models()[request.model]
    found: list[Image.Image] = engine.draw(
        model, request, more.pop("report", lambda *_: True), pictures or {}, **more
    )
    for one in found:
        one.load()
    return found


def bodies(server: A1111Server) -> list[Any]:
    return [body for _, path, body in server.asked if path.endswith("2img")]


def until(true: Callable[[], Any], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    assert true()


def test_each_picture_has_its_seed(engine: Any, server: A1111Server) -> None:
    drawn(engine, asked(count=3))
    assert [one["seed"] for one in server.drew] == [7, 8, 9]
    [body] = bodies(server)
    assert body["save_images"] is False, "nothing is left on the owner's disk"
    assert body["override_settings"] == {}, "whatever is loaded draws"


@pytest.mark.parametrize(
    ("chaos", "subseed", "seeds", "strength"),
    [
        (20, -1, [(7, 7), (7, 8)], 0.2),
        (20, 40, [(7, 40), (7, 41)], 0.2),
        (100, 40, [(40, -1), (41, 0)], 0),
    ],
)
def test_chaos_is_the_web_uis_own(
    engine: Any, server: A1111Server, chaos: int, subseed: int, seeds: Any, strength: float
) -> None:
    request = asked(count=2, chaos=chaos, subseed=subseed)
    assert len(drawn(engine, request)) == 2
    assert [(one["seed"], one["subseed"]) for one in server.drew] == seeds
    assert bodies(server)[0]["subseed_strength"] == strength


def test_without_chaos_all_are_alike(engine: Any, server: A1111Server) -> None:
    one, other = drawn(engine, asked(count=2, chaos=0))
    assert one.tobytes() == other.tobytes()
    assert len(server.drew) == 1


@pytest.mark.parametrize(
    ("wanted", "theirs"),
    [
        ("Euler a", ("Euler a", "Automatic")),
        ("DPM++ 2M Karras", ("DPM++ 2M", "Karras")),
        ("Euler Uniform", ("Euler", "SGM Uniform")),
        ("PNDM", ("PLMS", "Automatic")),
    ],
)
def test_samplers_are_named_as_there(
    engine: Any, server: A1111Server, wanted: str, theirs: tuple[str, str]
) -> None:
    drawn(engine, asked(sampler=wanted))
    assert (server.drew[0]["sampler"], server.drew[0]["schedule"]) == theirs


def test_of_old_a_schedule_is_in_a_samplers_name(engine: Any, server: A1111Server) -> None:
    server.old = True
    drawn(engine, asked(sampler="DPM++ 2M Karras"))
    assert server.drew[0]["sampler"] == "DPM++ 2M Karras"
    with pytest.raises(AskDifferently, match="no sampler Euler Beta"):
        drawn(engine, asked(sampler="Euler Beta"))
    assert len(server.drew) == 1, "nothing was drawn with another one"


def test_a_name_chooses_the_checkpoint(engine: Any, server: A1111Server) -> None:
    drawn(engine, asked(model="a1111:sd_xl_base_1.0"))
    assert server.drew[0]["checkpoint"].startswith("sd_xl_base_1.0.safetensors")
    assert server.drew[0]["size"] == (1024, 1024), "at the size that such a one draws"
    [body] = bodies(server)
    assert body["override_settings_restore_afterwards"] is True
    # The web UI itself would draw with whatever is loaded, and say nothing.
    with pytest.raises(TryAnother, match="not-there"):
        drawn(engine, asked(model="a1111:not-there"))
    assert len(server.drew) == 1


def test_flux_is_told_in_forges_way(engine: Any, server: A1111Server) -> None:
    drawn(engine, asked(model="a1111:flux1-dev"))
    [body] = bodies(server)
    assert (body["cfg_scale"], body["distilled_cfg_scale"], body["steps"]) == (1.0, 3.5, 28)


def test_what_is_asked_for_besides(engine: Any, server: A1111Server) -> None:
    request = asked(
        clip_skip=1, tile=True, hires=1.37, width=512, height=328, negative_prompt="people",
        steps=11, guidance=4.5,
    )  # fmt: skip
    [image] = drawn(engine, request)
    assert image.size == request.size == (704, 448), "to the pixel, as receipts tell it"
    [body] = bodies(server)
    assert body["override_settings"] == {"CLIP_stop_at_last_layers": 2}
    assert body["enable_hr"] and body["denoising_strength"] == request.hires_strength
    told = {name: body[name] for name in ("tiling", "negative_prompt", "steps", "cfg_scale")}
    assert told == {"tiling": True, "negative_prompt": "people", "steps": 11, "cfg_scale": 4.5}


def test_what_it_does_not_know_is_refused_before(engine: Any) -> None:
    for option in ({"vae": "another"}, {"lora": "blueprint"}, {"sampler": "DEIS"}):
        with pytest.raises(InvalidOptions):
            asked(**option)


def opened(coded: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(coded)))


def test_a_remix_begins_with_its_picture(engine: Any, server: A1111Server) -> None:
    source = Source("key", 300, 200)
    request = asked(Mode.REMIX, (source,), strength=0.4, width=512, height=512)
    drawn(engine, request, {"key": Image.new("RGB", (300, 200), "red")})
    body = next(body for _, path, body in server.asked if path.endswith("img2img"))
    assert body["denoising_strength"] == 0.4
    [begun] = map(opened, body["init_images"])
    assert begun.size == (512, 512) and begun.getpixel((9, 9)) == (255, 0, 0)
    assert "mask" not in body


def test_only_what_is_white_is_painted_anew(engine: Any, server: A1111Server) -> None:
    sources = Source("key", 128, 128), Source("mask", 128, 128, white=0.5)
    mask = Image.new("L", (128, 128), 0)
    mask.paste(255, (64, 0, 128, 128))
    request = asked(Mode.INPAINT, sources, width=128, height=128, count=2)
    found = drawn(
        engine, request, {"key": Image.new("RGB", (128, 128), "red"), "mask": mask.convert("RGB")}
    )
    [body] = bodies(server)
    sent = opened(body["mask"]).convert("L")
    assert sent.getpixel((10, 64)) == 0 and sent.getpixel((120, 64)) == 255
    assert body["inpainting_mask_invert"] == 0
    for image in found:
        assert image.getpixel((10, 64)) == (255, 0, 0), "what is black stays, to the pixel"
        assert image.getpixel((120, 64)) != (255, 0, 0)


def test_how_far_it_is_and_what_it_looks_like(
    engine: Any, server: A1111Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews.Clock, "due", lambda *_: True)
    server.step_seconds = 0.4
    shares: list[float] = []
    shown: list[Image.Image] = []

    def report(share: float, _words: str = "") -> bool:
        shares.append(share)
        return True

    drawn(engine, asked(), report=report, show=shown.append)
    assert shares == sorted(shares) and {0.0 < one <= 1 for one in shares} == {True, False}
    assert shown and shown[0].width == previews.SIDE


def test_somebody_elses_drawing_is_not_shown(
    engine: Any, server: A1111Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews.Clock, "due", lambda *_: True)
    shown: list[Image.Image] = []
    with server.owner_draws():
        server._share = 0.9
        begun = time.monotonic()
        shares: list[float] = []

        def report(share: float, _words: str = "") -> bool:
            shares.append(share)
            return time.monotonic() < begun + 1.5

        with pytest.raises(Stopped):
            drawn(engine, asked(), report=report, show=shown.append)
    assert not shown and set(shares) == {0.0}


def test_a_stop_interrupts_ours(engine: Any, server: A1111Server) -> None:
    server.step_seconds = 0.3
    begun = time.monotonic()
    with pytest.raises(Stopped):
        drawn(engine, asked(count=4), report=lambda *_: time.monotonic() < begun + 0.6)
    until(lambda: server.interrupted)
    assert server.interrupted == [bodies(server)[0]["force_task_id"]]
    until(lambda: not server._one.locked())
    assert len(server.drew) < 4, "what was not begun is not drawn"


def test_a_stop_never_interrupts_its_owner(engine: Any, server: A1111Server) -> None:
    with server.owner_draws():
        begun = time.monotonic()
        with pytest.raises(Stopped):
            drawn(engine, asked(), report=lambda *_: time.monotonic() < begun + 0.4)
        # It is looked after, as it waits still.
        until(lambda: sum("internal" in path for _, path, _ in server.asked) > 2)
        assert server.interrupted == []
        server.step_seconds = 0.5
    # Ours is stopped when its turn comes.
    until(lambda: server.interrupted)
    assert server.interrupted == [bodies(server)[0]["force_task_id"]]


def test_without_pages_nobody_can_tell_whose_it_is(engine: Any, server: A1111Server) -> None:
    server.nowebui, server.step_seconds = True, 0.45
    shares: list[float] = []

    def report(share: float, _words: str = "") -> bool:
        shares.append(share)
        return True

    drawn(engine, asked(), report=report)
    assert max(shares) > 0, "but one hears how far it is"
    begun = time.monotonic()
    with pytest.raises(Stopped):
        drawn(engine, asked(), report=lambda *_: time.monotonic() < begun + 0.3)
    time.sleep(0.3)
    assert server.interrupted == []


def test_too_little_memory_asks_for_less(engine: Any, server: A1111Server) -> None:
    server.pixels = 100
    with pytest.raises(AskDifferently, match="smaller"):
        drawn(engine, asked())


def test_a_failure_is_worth_another_try(engine: Any, server: A1111Server) -> None:
    server.failing = "RuntimeError"
    with pytest.raises(TransientError):
        drawn(engine, asked())
    server.failing, server.empty = "", True
    with pytest.raises(TransientError, match="without a picture"):
        drawn(engine, asked())


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        ("401", TryAnother),
        ("429", Wait),
        ("500", TransientError),
        ("cut", TransientError),
        ("html", TransientError),
    ],
)
def test_troubles_of_the_call_itself(
    engine: Any, server: A1111Server, trouble: str, kind: type[EngineError]
) -> None:
    drawn(engine, asked())
    server.troubles.append(trouble)
    with pytest.raises(kind):
        drawn(engine, asked())
    assert len(bodies(server)) == 2, "asked but once"


def test_the_least_busy_of_several_draws(
    server: A1111Server, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with A1111Server() as other:
        assert isinstance(other, A1111Server)
        monkeypatch.setenv("A1111_BASE_URL", f"{server.address}, {other.address}/")
        settings._read.cache_clear()
        assert providers.limits("a1111").at_once == 2
        both = engines.remote("a1111")
        server.step_seconds = other.step_seconds = 0.2
        request = asked()
        threads = [threading.Thread(target=drawn, args=(both, request)) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert [len(server.drew), len(other.drew)] == [2, 2]
        address = other.address
    # The other one is switched off.
    assert address != server.address
    for _ in range(2):
        drawn(both, request)
    assert len(server.drew) == 4
    both.close()


def test_several_addresses_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A1111_BASE_URL", "http://a:7860, b:7860")
    settings._read.cache_clear()
    with pytest.raises(Exception, match="http://a:7860,http://b:7860"):
        settings.read(settings.Remote)


def test_errors_have_no_secrets(engine: Any, server: A1111Server) -> None:
    server.failing = "OutOfMemoryError"
    with pytest.raises(AskDifferently) as caught:
        drawn(engine, asked())
    assert server.key not in repr(caught.value) and "ann" not in str(caught.value)
