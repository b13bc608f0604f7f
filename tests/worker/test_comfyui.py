"""What is special about ComfyUI at home: its queue is its owner's, and its workflow may be."""

from __future__ import annotations

import copy
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from core import catalog, settings, workflows
from core.engine import (
    AskDifferently,
    EngineError,
    GiveUp,
    Stopped,
    TransientError,
    TryAnother,
    Wait,
)
from core.media import Source
from core.options import Mode, Options
from tests.core.test_workflows import FLUX, TWICE
from tests.servers.remote_comfyui import ComfyServer
from worker import engines, previews
from worker.engines import comfyui

OWNERS = workflows.workflow("").filled({"checkpoint": "v1-5-pruned-emaonly.safetensors"})


@pytest.fixture(scope="module")
def server() -> Iterator[ComfyServer]:
    with ComfyServer() as made:
        assert isinstance(made, ComfyServer)
        yield made


@pytest.fixture
def engine(server: ComfyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server.restart()
    fresh = ComfyServer()
    for name in (
        "step_seconds", "sockets", "cutting", "failing", "late", "seconds", "asked", "drew",
        "interrupted", "deleted", "troubles", "files",
    ):  # fmt: skip
        setattr(server, name, getattr(fresh, name))
    for name, value in server.settings().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DRAWQUEUE_MODEL", "comfyui,comfyui:v1-5-pruned-emaonly,comfyui:not-there")
    settings._read.cache_clear()
    catalog.models.cache_clear()
    made = engines.remote("comfyui")
    yield made
    made.close()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Gives the host a workflow."""

    def keep(nodes: Any) -> None:
        file = tmp_path / "workflow.json"
        file.write_text(json.dumps(nodes))
        monkeypatch.setenv("COMFYUI_WORKFLOW", str(file))
        settings._read.cache_clear()
        catalog.models.cache_clear()

    return keep


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


def for_seconds(seconds: float) -> Callable[..., bool]:
    """A report that says to stop after so long."""
    end = time.monotonic() + seconds
    return lambda *_: time.monotonic() < end


def until(true: Callable[[], Any], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    assert true()


def test_each_picture_has_its_seed_and_nothing_stays(engine: Any, server: ComfyServer) -> None:
    one, other = drawn(engine, asked(count=2, width=512, height=384, negative_prompt="people"))
    assert one.size == (512, 384) and one.tobytes() != other.tobytes()
    assert [nodes["sampler"]["inputs"]["seed"] for nodes in server.drew] == [7, 8]
    nodes = server.drew[0]
    assert nodes["latent"]["inputs"]["batch_size"] == 1
    assert nodes["negative"]["inputs"]["text"] == "people"
    assert {kind for kind, _, _ in server.files} == {"temp"}, "the folder that it empties itself"


@pytest.mark.parametrize(
    ("wanted", "theirs"),
    [
        ("Euler a", ("euler_ancestral", "normal")),
        ("DPM++ 2M Karras", ("dpmpp_2m", "karras")),
        ("Euler Uniform", ("euler", "sgm_uniform")),
    ],
)
def test_samplers_are_named_as_there(
    engine: Any, server: ComfyServer, wanted: str, theirs: tuple[str, str]
) -> None:
    drawn(engine, asked(sampler=wanted))
    inputs = server.drew[0]["sampler"]["inputs"]
    assert (inputs["sampler_name"], inputs["scheduler"]) == theirs


def test_a_name_chooses_the_checkpoint(engine: Any, server: ComfyServer) -> None:
    drawn(engine, asked())
    drawn(engine, asked(model="comfyui:v1-5-pruned-emaonly"))
    used = [nodes["model"]["inputs"]["ckpt_name"] for nodes in server.drew]
    assert used == ["XL/sd_xl_base_1.0.safetensors", "v1-5-pruned-emaonly.safetensors"]
    with pytest.raises(TryAnother, match="not-there"):
        drawn(engine, asked(model="comfyui:not-there"))


def test_how_far_it_is_and_what_it_looks_like(
    engine: Any, server: ComfyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews.Clock, "due", lambda *_: True)
    server.step_seconds = 0.1
    shares: list[float] = []
    shown: list[Image.Image] = []

    def report(share: float, _words: str = "") -> bool:
        shares.append(share)
        return True

    drawn(engine, asked(count=2), report=report, show=shown.append)
    assert shares == sorted(shares)
    assert {0.125, 0.25, 0.5, 0.625} <= set(shares), "each picture is half of it"
    assert len(shown) > 4 and shown[0].width == previews.SIDE


@pytest.mark.parametrize("kind", [1, 4])
def test_previews_come_in_two_shapes(kind: int) -> None:
    import struct

    class Never:
        provider = None

        def opened(self, file: io.BytesIO) -> Image.Image:
            return Image.open(file)

    shown: list[Image.Image] = []
    plain = workflows.workflow("")
    one = comfyui._Drawing(Never(), plain, lambda *_: True, shown.append)  # type: ignore[arg-type]
    one._clock.due = lambda *_: True  # type: ignore[method-assign]
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "PNG")
    told = b'{"node_id": "3"}' if kind == 4 else b""
    one._preview(struct.pack(">II", kind, len(told) or 2) + told + out.getvalue())
    assert len(shown) == 1
    one._preview(struct.pack(">II", 3, 1) + b"words")
    one._preview(b"\x00")
    assert len(shown) == 1


def test_a_broken_web_socket_loses_nothing(
    engine: Any, server: ComfyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cutting, server.step_seconds = True, 0.1
    assert len(drawn(engine, asked())) == 1
    server.cutting, server.sockets = False, False
    begun = time.monotonic()
    assert len(drawn(engine, asked())) == 1, "nor one that never was"
    assert time.monotonic() - begun < 4
    assert len(server.drew) == 2, "and nothing is drawn twice"


def test_what_runs_of_ours_is_stopped(engine: Any, server: ComfyServer) -> None:
    server.step_seconds = 0.4
    with pytest.raises(Stopped):
        drawn(engine, asked(count=3), report=for_seconds(0.8))
    until(lambda: server.interrupted)
    assert len(server.interrupted) == 1 and not server.drew
    until(lambda: server._running is None)
    assert len(server._history) == 1, "and the next ones are not begun"


@pytest.mark.parametrize("late", [True, False])
def test_its_owners_drawing_is_never_stopped(engine: Any, server: ComfyServer, late: bool) -> None:
    server.late, server.step_seconds = late, 0.3
    server.owner_draws(OWNERS)
    with pytest.raises(Stopped):
        drawn(engine, asked(), report=for_seconds(0.7))
    until(lambda: server.deleted)
    assert server.interrupted == [] and not server._pending
    until(lambda: server.drew)
    assert server.drew == [OWNERS]


def test_while_others_are_drawn_one_waits(engine: Any, server: ComfyServer) -> None:
    server.step_seconds = 0.1
    server.owner_draws(OWNERS)
    shares: list[float] = []

    def report(share: float, _words: str = "") -> bool:
        shares.append(share)
        return True

    drawn(engine, asked(), report=report)
    assert len(server.drew) == 2 and server.drew[0] == OWNERS


def test_a_server_that_starts_anew_has_lost_it(engine: Any, server: ComfyServer) -> None:
    server.step_seconds = 5.0
    gone = False

    def report(*_: Any) -> bool:
        nonlocal gone
        if server._running and not gone:
            gone = True
            server.restart()
            server.sockets = False
            for socket in [*server._open.values()]:
                server._loop.call_soon_threadsafe(socket._req.transport.abort)  # type: ignore
        return True

    with pytest.raises(TransientError, match="lost"):
        drawn(engine, asked(), report=report)
    assert gone


def test_an_owner_may_stop_ours(engine: Any, server: ComfyServer) -> None:
    server.step_seconds = 0.3

    def report(*_: Any) -> bool:
        if server._running and not server._stop:
            server.interrupted.append(server._running[1])
            server._stop = True
        return True

    with pytest.raises(GiveUp, match="stopped at ComfyUI"):
        drawn(engine, asked(), report=report)


@pytest.mark.parametrize(
    ("kind", "words", "error", "told"),
    [
        ("torch.OutOfMemoryError", "Allocation on device", AskDifferently, "smaller"),
        ("RuntimeError", "CUDA error: out of memory", AskDifferently, "smaller"),
        ("RuntimeError", "mat1 and mat2 in /home/ann", GiveUp, "host has to look"),
    ],
)
def test_what_fails_there_is_told(
    engine: Any, server: ComfyServer, kind: str, words: str, error: type[Exception], told: str
) -> None:
    server.failing = (kind, words)
    with pytest.raises(error, match=told) as caught:
        drawn(engine, asked())
    assert "/home/ann" not in str(caught.value)


def test_a_number_that_is_too_large_is_the_askers(engine: Any, own: Any) -> None:
    nodes = copy.deepcopy(TWICE)
    nodes["second"]["inputs"]["cfg"] = 500.0
    own(nodes)
    with pytest.raises(AskDifferently, match="bigger than max"):
        drawn(engine, asked())


@pytest.mark.parametrize(
    "changed",
    [
        {"model": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "gone"}}},
        {"more": {"class_type": "SomebodysNode", "inputs": {}}},
    ],
)
def test_what_a_workflow_lacks_is_the_hosts(
    engine: Any, own: Any, changed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    own({**TWICE, **changed})
    with pytest.raises(TryAnother, match="host's workflow"):
        drawn(engine, asked())
    assert "gone" in caplog.text or "SomebodysNode" in caplog.text


def test_a_file_that_will_not_do_is_the_hosts(engine: Any, own: Any) -> None:
    own({"nodes": []})
    with pytest.raises(TryAnother, match="host's workflow"):
        drawn(engine, asked())


@pytest.mark.parametrize("nodes", [FLUX, TWICE], ids=["flux", "twice"])
def test_a_workflow_of_the_hosts_own(
    engine: Any, server: ComfyServer, own: Any, nodes: Any
) -> None:
    own(nodes)
    drawn(engine, asked(count=2, width=640, height=512))
    [used, other] = server.drew
    words = [one["inputs"]["text"] for one in used.values() if "text" in one["inputs"]]
    assert "a lighthouse" in words and "a house" not in words
    assert used != other
    # Only what was asked for is another.
    for name, one in used.items():
        left = {"text", "seed", "noise_seed", "value", "width", "height"}
        kept = {field: value for field, value in nodes[name]["inputs"].items() if field not in left}
        assert kept == {field: value for field, value in one["inputs"].items() if field not in left}
    if nodes is TWICE:
        assert used["bad"]["inputs"]["text"] == "blurry", "the host's own"
        assert used["larger"]["inputs"]["width"] == 1024


def test_another_sampler_and_steps_in_the_hosts_own(
    engine: Any, server: ComfyServer, own: Any
) -> None:
    own(FLUX)
    drawn(engine, asked(sampler="DPM++ 2M Karras", steps=9, guidance=2.0))
    [used] = server.drew
    assert used["16"]["inputs"]["sampler_name"] == "dpmpp_2m"
    assert (used["17"]["inputs"]["scheduler"], used["17"]["inputs"]["steps"]) == ("karras", 9)
    assert used["26"]["inputs"]["guidance"] == 2.0


def sent(server: ComfyServer, named: str) -> Image.Image:
    folder, _, name = named.removesuffix(" [temp]").rpartition("/")
    return Image.open(io.BytesIO(server.files["temp", folder, name]))


@pytest.mark.parametrize("nodes", [None, FLUX], ids=["plain", "flux"])
def test_a_remix_begins_with_its_picture(
    engine: Any, server: ComfyServer, own: Any, nodes: Any
) -> None:
    if nodes:
        own(nodes)
    request = asked(Mode.REMIX, (Source("key", 300, 200),), strength=0.4, width=512, height=512)
    drawn(engine, request, {"key": Image.new("RGB", (300, 200), "red")})
    [used] = server.drew
    first, decoder = ("13", "8") if nodes else ("sampler", "decode")
    steps = used["17" if nodes else "sampler"]["inputs"]
    assert steps["denoise"] == 0.4
    latent = used[used[first]["inputs"]["latent_image"][0]]
    assert latent["class_type"] == "VAEEncode"
    assert latent["inputs"]["vae"] == used[decoder]["inputs"]["vae"]
    image = sent(server, used[latent["inputs"]["pixels"][0]]["inputs"]["image"])
    assert image.size == (512, 512) and image.convert("RGB").getpixel((9, 9)) == (255, 0, 0)
    assert {kind for kind, _, _ in server.files} <= {"temp", "output"}, "no input of its owner's"


def test_only_what_is_white_is_painted_anew(engine: Any, server: ComfyServer) -> None:
    sources = Source("key", 128, 128), Source("mask", 128, 128, white=0.5)
    mask = Image.new("RGB", (128, 128), 0)
    mask.paste("white", (64, 0, 128, 128))
    request = asked(Mode.INPAINT, sources, width=128, height=128)
    [image] = drawn(
        engine, request, {"key": Image.new("RGB", (128, 128), "red"), "mask": mask}
    )  # fmt: skip
    [used] = server.drew
    masked = used[used["sampler"]["inputs"]["latent_image"][0]]
    assert masked["class_type"] == "SetLatentNoiseMask"
    white = sent(server, used[masked["inputs"]["mask"][0]]["inputs"]["image"]).convert("L")
    assert white.getpixel((10, 64)) == 0 and white.getpixel((120, 64)) == 255
    assert image.getpixel((10, 64)) == (255, 0, 0), "what is black stays, to the pixel"


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
    engine: Any, server: ComfyServer, trouble: str, kind: type[EngineError]
) -> None:
    drawn(engine, asked())
    server.sockets = False
    server.troubles.append(trouble)
    with pytest.raises(kind):
        drawn(engine, asked())
    assert len([one for one in server.asked if one[1] == "/prompt"]) == 2, "asked but once"
    until(lambda: not server._pending and server._running is None)


def test_what_was_taken_on_unheard_is_taken_out(engine: Any, server: ComfyServer) -> None:
    drawn(engine, asked())
    server.step_seconds, server.sockets = 1.0, False
    server.owner_draws(OWNERS)
    server.troubles.append("cut")
    with pytest.raises(TransientError):
        drawn(engine, asked())
    until(lambda: server.deleted)
    assert server.interrupted == []
