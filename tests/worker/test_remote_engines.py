"""What every engine on other machines keeps, against its server on loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from core import catalog, providers, settings
from core.engine import AskDifferently, Stopped, TransientError, TryAnother, Wait
from core.options import Options, Request
from tests.servers.remote import RemoteServer
from tests.servers.remote_a1111 import A1111Server
from tests.servers.remote_chutes import ChutesServer
from tests.servers.remote_comfyui import ComfyServer
from tests.servers.remote_kie import KieServer
from tests.servers.remote_openai import OpenAIServer
from tests.servers.remote_pollinations import PollinationsServer
from tests.servers.remote_stability import StabilityServer
from worker import engines

SERVERS: list[type[RemoteServer]] = [
    A1111Server,
    ChutesServer,
    ComfyServer,
    KieServer,
    OpenAIServer,
    PollinationsServer,
    StabilityServer,
]
IDS = [one.engine for one in SERVERS]


@pytest.fixture(scope="module", params=SERVERS, ids=IDS)
def server(request: Any) -> Iterator[RemoteServer]:
    with request.param() as made:
        yield made


@pytest.fixture
def engine(server: RemoteServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The engine, and its model and a request as they are settled."""
    server.troubles.clear()
    server.asked.clear()
    server.seconds = 0.0
    for name, value in server.settings().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DRAWQUEUE_MODEL", server.source)
    settings._read.cache_clear()
    monkeypatch.setitem(
        providers.PROVIDERS, server.engine,  # type: ignore[arg-type]
        replace(providers.PROVIDERS[server.engine], seconds=3.0),
    )  # fmt: skip
    made = engines.remote(server.engine)
    model = catalog.models()[server.source]
    asked = catalog.settle(Options(prompt="a lighthouse in a storm"), 7)
    yield SimpleNamespace(made=made, model=model, request=asked)
    made.close()


def on(_share: float, _words: str = "") -> bool:
    return True


def drawn(engine: Any, request: Request | None = None) -> list[Any]:
    found: list[Any] = engine.made.draw(engine.model, request or engine.request, on)
    for image in found:
        image.load()
    return found


def test_a_picture_for_each_seed(engine: Any) -> None:
    assert len(drawn(engine)) == 1
    assert len(drawn(engine, replace(engine.request, count=2))) == 2


def test_the_prompt_goes_as_it_is(engine: Any, server: RemoteServer) -> None:
    said = "Ein Turm & eine Möwe / “100 %”? #5 {x} \\ 日本"
    drawn(engine, replace(engine.request, prompt=said))
    assert any(server.heard(one) == said for one in server.asked)


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        ("400", AskDifferently),
        ("401", TryAnother),
        ("402", TryAnother),
        ("429", Wait),
        ("500", TransientError),
        ("slow", TransientError),
        ("cut", TransientError),
        ("html", TransientError),
    ],
)
def test_troubles_are_named_by_what_one_can_do(
    engine: Any, server: RemoteServer, trouble: str, kind: type[Exception]
) -> None:
    # More often than anybody asks again.
    server.troubles += [trouble] * 4
    with pytest.raises(kind) as caught:
        drawn(engine)
    assert providers.PROVIDERS[server.engine].title in str(caught.value)
    assert server.key not in str(caught.value)
    server.troubles.clear()
    assert drawn(engine), "and the next one is drawn"


def test_a_refusal_says_why(engine: Any, server: RemoteServer) -> None:
    server.troubles.append("400")
    with pytest.raises(AskDifferently, match="refused with 400"):
        drawn(engine)


def test_how_long_to_wait_is_known(engine: Any, server: RemoteServer) -> None:
    server.troubles += ["429"] * 4
    with pytest.raises(Wait) as caught:
        drawn(engine)
    assert caught.value.seconds == 2


def test_a_stop_ends_the_call(engine: Any, server: RemoteServer) -> None:
    server.seconds = 2.0
    begun = time.monotonic()
    with pytest.raises(Stopped):
        engine.made.draw(engine.model, engine.request, lambda *_: time.monotonic() < begun + 0.2)
    assert time.monotonic() - begun < 1.5
    server.seconds = 0.0


@pytest.mark.parametrize("trouble, kind", [("500", Wait), ("401", TryAnother)])
def test_who_is_asked_in_vain_is_left_alone_for_a_while(
    engine: Any, server: RemoteServer, trouble: str, kind: type[Exception]
) -> None:
    server.troubles += [trouble] * 40
    for _ in range(8):
        with pytest.raises((TransientError, TryAnother)):
            drawn(engine)
    asked = len(server.asked)
    # What passes by itself is waited for; whom the host has to help is not.
    with pytest.raises(kind):
        drawn(engine)
    assert len(server.asked) == asked
