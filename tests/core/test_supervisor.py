"""What keeps the parts alive together, with real processes."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from core.cli import _wait_for
from core.supervisor import LEFT_OUT, CannotStart, Child, Supervisor


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path / "home")
    yield made
    made.stop()


def ending(supervisor: Supervisor, code: int, name: str = "a bot") -> Child:
    """A part that ends at once, and leaves a mark each time it was started."""
    marks = supervisor.home / f"{code}"
    script = f"open({str(marks)!r}, 'a').write('x'); raise SystemExit({code})"
    child = supervisor.add(name, sys.executable, "-c", script)
    assert child.process
    child.process.wait(20)
    return child


def starts(supervisor: Supervisor, code: int) -> int:
    return len((supervisor.home / f"{code}").read_text())


class Healthy(BaseHTTPRequestHandler):
    """A web part that is well."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:
        pass


def test_a_bot_that_is_left_out_stops_nobody_from_starting(supervisor: Supervisor) -> None:
    ending(supervisor, LEFT_OUT)

    def come_later() -> None:
        time.sleep(0.5)
        with HTTPServer(("127.0.0.1", port), Healthy) as web:
            web.handle_request()

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    threading.Thread(target=come_later, daemon=True).start()
    _wait_for(f"http://127.0.0.1:{port}/health", supervisor, "mine")


def test_a_part_that_breaks_at_the_start_is_told_and_ends_it(supervisor: Supervisor) -> None:
    ending(supervisor, 1)
    with pytest.raises(CannotStart):
        _wait_for("http://127.0.0.1:1/health", supervisor, "mine")


def test_what_fell_is_started_again_but_not_what_a_person_must_mend(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    ending(supervisor, LEFT_OUT, "discord bot")
    ending(supervisor, 3, "worker 1")
    watching = threading.Thread(target=supervisor.watch)
    watching.start()
    end = time.monotonic() + 20
    while starts(supervisor, 3) < 3:
        assert time.monotonic() < end
        time.sleep(0.05)
    supervisor.stopping.set()
    watching.join(10)
    assert starts(supervisor, LEFT_OUT) == 1
    assert caplog.text.count("discord bot is left out until its settings are mended") == 1


def test_what_was_left_out_is_tried_again_when_its_time_has_come(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.supervisor.MEND_SECONDS", 0.5)
    ending(supervisor, LEFT_OUT)
    watching = threading.Thread(target=supervisor.watch)
    watching.start()
    end = time.monotonic() + 20
    while starts(supervisor, LEFT_OUT) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    supervisor.stopping.set()
    watching.join(10)
