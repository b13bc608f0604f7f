"""A host without torch, whose pictures other machines draw, and what its doctor says."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import catalog, settings
from core.people import Asker
from core.registry import Registry
from migrations import migrate
from tests.conftest import ROOT, Running, running
from tests.journeys.test_doctor import doctor
from tests.servers.remote_a1111 import A1111Server
from tests.servers.remote_comfyui import ComfyServer
from tests.servers.remote_pollinations import PollinationsServer
from tests.servers.remote_stability import StabilityServer
from worker.__main__ import KNOCK_SECONDS, REMOTE, notes
from worker.__main__ import check as wrong_with

MOD = Asker("web", "mod", "Mod", trusted=True)
# What a host that only asks others has not installed.
NOT_THERE = (
    "torch", "diffusers", "transformers", "numpy", "scipy", "safetensors", "accelerate", "peft",
    "compel", "spandrel", "gguf",
)  # fmt: skip
BLIND = f"""
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in {NOT_THERE!r}:
            return None
        return super().find_spec(name, path, target)

sys.meta_path[:] = [Without if one is PathFinder else one for one in sys.meta_path]
"""


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PYTHONPATH on which no interpreter finds what draws and writes."""
    folder = tmp_path_factory.mktemp("blind")
    (folder / "sitecustomize.py").write_text(BLIND)
    return f"{folder}:{ROOT}"


@pytest.fixture(scope="module")
def far() -> Iterator[PollinationsServer]:
    with PollinationsServer() as made:
        yield made  # type: ignore[misc]


@pytest.fixture(scope="module")
def other() -> Iterator[StabilityServer]:
    with StabilityServer() as made:
        yield made  # type: ignore[misc]


@pytest.fixture(scope="module")
def host(
    tmp_path_factory: pytest.TempPathFactory, without_torch: str, far: PollinationsServer,
    other: StabilityServer,
) -> Iterator[Running]:  # fmt: skip
    home = tmp_path_factory.mktemp("host") / "home"
    with running(
        home, PYTHONPATH=without_torch, DRAWQUEUE_MODEL="pollinations:flux", **far.settings(),
        **other.settings(),
    ) as made:  # fmt: skip
        yield made


def check(kind: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a worker of a kind says of itself."""
    return subprocess.run(
        [sys.executable, "-m", "worker", kind, "--check"], cwd=ROOT, capture_output=True,
        text=True, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip


def test_there_is_no_torch(without_torch: str) -> None:
    code = "import importlib.util as u; assert not u.find_spec('torch'); import torch"
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": without_torch},
        capture_output=True, text=True,
    )  # fmt: skip
    assert "ModuleNotFoundError: No module named 'torch'" in told.stderr


def test_it_draws_elsewhere_and_starts_nothing_that_draws_here(
    host: Running, far: PollinationsServer
) -> None:
    host.until_log("Ctrl-C stops everything")
    said = host.log.read_text()
    (parts,) = re.findall(r"Running: +(.*)", said)
    assert "web" in parts and "remote" in parts
    assert "worker" not in parts and "writer" not in parts, "and nothing that needs torch"
    made = host.client.post("/api/jobs", json={"prompt": "a red fox"}).json()
    done = host.until(made["id"], "done", "failed")
    assert done["status"] == "done", done
    assert any(far.heard(call) == "a red fox" for call in far.asked)
    picture = host.client.get(f"/media/{made['id']}/0")
    assert picture.status_code == 200 and picture.headers["content-type"] == "image/png"
    busy = host.client.get("/api/queue").json()
    assert busy["lines"]["pollinations"] == 2 == busy["workers"] and busy["lines"]["draw"] == 0
    assert "Tell me what to draw" in host.client.get("/").text
    assert "Traceback" not in host.log.read_text()


def test_larger_ones_are_made_without_torch_too(host: Running) -> None:
    made = host.client.post("/api/jobs", json={"prompt": "an owl"}).json()
    host.until(made["id"], "done")
    larger = host.client.post(
        "/api/jobs", json={"type": "upscale", "images": [str(made["id"])]}
    ).json()
    assert host.until(larger["id"], "done", "failed")["status"] == "done", larger


def test_an_engine_that_a_moderator_adds_meanwhile_is_asked(
    host: Running, other: StabilityServer
) -> None:
    with host.database() as database:
        Registry(database).add("model", "stability:core", "", MOD, workers=True)
    host.until_log("asking stability")
    given = {"prompt": "a hen", "parameters": {"model": "stability:core"}}
    # The web process knows it within seconds, too.
    end = time.monotonic() + 30
    while "stability:core" not in host.client.get("/api/models").text:
        assert time.monotonic() < end
        time.sleep(0.1)
    made = host.client.post("/api/jobs", json=given).json()
    assert host.until(made["id"], "done", "failed")["status"] == "done"
    assert any(other.heard(call) == "a hen" for call in other.asked)


# What the doctor says


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("migrated")
    migrate(f"sqlite:///{home / 'drawqueue.sqlite3'}")
    return home


def test_such_a_host_is_well(migrated: Path, redis_url: str, without_torch: str) -> None:
    told = doctor(
        migrated, REDIS_URL=redis_url, DRAWQUEUE_MODEL="pollinations,a1111",
        A1111_BASE_URL="http://127.0.0.1:1", PYTHONPATH=without_torch,
    )  # fmt: skip
    assert told.returncode == 0 and "✗" not in told.stdout, told.stdout
    assert "– worker: not needed: nothing draws on this machine" in told.stdout
    assert "– writer: not needed" in told.stdout
    assert "nothing describes pictures; DRAWQUEUE_CAPTIONER" in told.stdout
    # It may be started later, and is no fault of the settings.
    away = "– remote: http://127.0.0.1:1: Stable Diffusion web UI cannot be reached."
    assert away in told.stdout


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("draw", "torch and diffusers are not installed: pip install 'drawqueue[draw]'"),
        ("write", "What writes needs torch and transformers: pip install 'drawqueue[write]'"),
        ("remote", ""),
    ],
)
def test_what_needs_torch_is_told_where_it_lacks(
    without_torch: str, starter_model: str, kind: str, words: str
) -> None:
    told = check(
        kind, PYTHONPATH=without_torch, DRAWQUEUE_MODEL=f"{starter_model},pollinations",
        DRAWQUEUE_TEXT_MODEL="some/writer",
    )  # fmt: skip
    assert told.returncode == bool(words) and words in told.stderr and not told.stdout


def test_each_engine_that_is_not_set_up_is_told_by_who_asks_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DRAWQUEUE_MODEL", "pattern,kie,kie:other,chutes:qwen-image,a1111")
    monkeypatch.setenv("DRAWQUEUE_TEXT_MODEL", "openai:gpt-4o-mini")
    settings._read.cache_clear()
    catalog.models.cache_clear()
    needs = " ".join(wrong_with(REMOTE))
    for words in ("kie.ai needs its key: set KIE_API_KEY", "Chutes needs its key",
                  "needs A1111_BASE_URL", "OpenAI needs its key: set OPENAI_API_KEY"):  # fmt: skip
        assert needs.count(words) == 1, needs
    assert wrong_with("draw") == [], "what draws here goes on"


def test_servers_at_home_are_asked_whether_they_are_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def told(**environment: str) -> list[str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings._read.cache_clear()
        catalog.models.cache_clear()
        return notes(REMOTE)

    with A1111Server() as webui, ComfyServer() as comfy:
        there = {**webui.settings(), **comfy.settings(), "DRAWQUEUE_MODEL": "a1111,comfyui"}
        assert told(**there) == [] and webui.asked and comfy.asked
        away, refused = told(
            A1111_BASE_URL=f"{webui.address},http://127.0.0.1:1", COMFYUI_TOKEN="SECRET"
        )
        assert away.startswith("http://127.0.0.1:1: ") and "cannot be reached" in away
        assert refused.startswith(f"{comfy.address}: ") and "does not let this bot in" in refused
        # One that takes its time is not waited for.
        webui.troubles[:] = ["slow"]
        began = time.monotonic()
        slow, *_ = told(A1111_BASE_URL=webui.address)
        assert "took too long" in slow and time.monotonic() - began < 2 * KNOCK_SECONDS
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "kie.ai is asked now and then: DRAWQUEUE_PUBLIC_URL would let it send word"),
        ("http://127.0.0.1:8080", "from elsewhere nobody reaches http://127.0.0.1:8080"),
        ("http://draw.example", "which others can read on the way"),
        ("https://draw.example", ""),
    ],
)
def test_whether_word_can_come_is_told(
    monkeypatch: pytest.MonkeyPatch, address: str, words: str
) -> None:
    monkeypatch.setenv("DRAWQUEUE_MODEL", "kie")
    monkeypatch.setenv("DRAWQUEUE_PUBLIC_URL", address)
    settings._read.cache_clear()
    catalog.models.cache_clear()
    told = " ".join(notes(REMOTE))
    assert words in told and bool(words) == bool(told)


def test_nothing_starts_with_an_engine_that_is_not_set_up(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "core.cli", "up", "--home", str(tmp_path)], cwd=ROOT,
        capture_output=True, text=True, timeout=60,
        env={**os.environ, "DRAWQUEUE_MODEL": "pattern", "DRAWQUEUE_TEXT_MODEL": "opnai:x"},
    )  # fmt: skip
    assert told.returncode == 1 and "Did you mean openai?" in told.stdout, told.stdout
    assert not list(tmp_path.iterdir())
