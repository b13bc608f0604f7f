"""What keeps the parts alive together, with real processes."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from core import settings
from core.cli import _addresses, _ports, _wait_for
from core.supervisor import LEFT_OUT, CannotStart, Child, Supervisor, door


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
    """A web part that is well, and ours."""

    nonce = "mine"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Drawqueue-Nonce", self.nonce)
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:
        pass


def come_later() -> str:
    """Where a web part of ours answers in half a second."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]

    def serve() -> None:
        time.sleep(0.5)
        with HTTPServer(("127.0.0.1", port), Healthy) as web:
            web.handle_request()

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{port}/health"


def test_a_bot_that_is_left_out_stops_nobody_from_starting(supervisor: Supervisor) -> None:
    ending(supervisor, LEFT_OUT)

    _wait_for(come_later(), supervisor, "mine")


def test_a_part_that_breaks_at_the_start_is_told_and_ends_it(supervisor: Supervisor) -> None:
    ending(supervisor, 1)
    with pytest.raises(CannotStart):
        _wait_for("http://127.0.0.1:1/health", supervisor, "mine")


class Stranger(Healthy):
    """Another Drawqueue, or another program, that is well."""

    nonce = "another's"


def test_a_stranger_that_answers_is_not_taken_for_our_web_part(supervisor: Supervisor) -> None:
    supervisor.add("web", sys.executable, "-c", "import time; time.sleep(0.7); raise SystemExit(1)")
    with HTTPServer(("127.0.0.1", 0), Stranger) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        with pytest.raises(CannotStart, match="web could not start"):
            _wait_for(f"http://127.0.0.1:{web.server_port}/health", supervisor, "mine")
        web.shutdown()


def test_a_bot_whose_platform_is_away_stops_nobody_from_starting(supervisor: Supervisor) -> None:
    ending(supervisor, 1, "discord bot").spare = True
    _wait_for(come_later(), supervisor, "mine")


# Doors


def test_a_port_in_use_is_told_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotStart) as told:
            door("127.0.0.1", port, "--port")
    assert str(told.value) == (
        f"Port {port} is in use by another program. Choose another with --port."
    )
    with pytest.raises(CannotStart, match=r"192\.0\.2\.1 is no address of this machine"):
        door("192.0.2.1", 0, "--port")


def two_ports() -> tuple[socket.socket, int]:
    """A port that is taken, after one that is free."""
    while True:
        taken = socket.create_server(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        try:
            socket.create_server(("127.0.0.1", port - 1)).close()
        except OSError:
            taken.close()
            continue
        return taken, port


def test_the_dashboard_takes_the_next_free_port_unless_one_was_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken, port = two_ports()
    with taken:
        found = _ports(port - 1)
        assert found["web"] == port - 1 and port < found["dashboard"] <= port + 20
        monkeypatch.setenv("DRAWQUEUE_DASHBOARD_PORT", str(port))
        settings._read.cache_clear()
        with pytest.raises(CannotStart, match=f"Port {port}.*DRAWQUEUE_DASHBOARD_PORT"):
            _ports(port - 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::1"])
def test_every_address_that_is_printed_can_be_opened(host: str) -> None:
    with door(host, 0, "") as listening:
        port = listening.getsockname()[1]
        found = _addresses(host, port)
        for address in found:
            place = urlsplit(address)
            assert place.hostname not in ("0.0.0.0", "::")
            with socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=5):
                pass
    assert urlsplit(found[0]).hostname in ("127.0.0.1", "::1")


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
