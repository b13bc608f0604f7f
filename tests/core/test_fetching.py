"""LoRAs and upscalers of a hub are fetched by the worker, from a hub over loopback."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from core import catalog, offers, parts
from core.errors import UserError
from core.house import House
from tests.core.test_policy import say
from tests.core.test_registry import MOD, lora, safetensors

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub; what lies in a folder of it is what it holds."""
    held = tmp_path / "hub"

    class Answer(BaseHTTPRequestHandler):
        def _told(self) -> tuple[int, bytes]:
            parts_ = self.path.split("?")[0].strip("/").split("/")
            at = held / "/".join(parts_[2:4] if parts_[0] == "api" else parts_[:2])
            if not at.is_dir():
                return 404, b"RepoNotFound"
            if "tree" in parts_:
                return 200, json.dumps([
                    {"type": "file", "path": one.name, "size": one.stat().st_size, "oid": COMMIT}
                    for one in at.iterdir()
                ]).encode()  # fmt: skip
            if parts_[0] == "api":
                files = [{"rfilename": one.name} for one in at.iterdir()]
                told = {"id": "/".join(parts_[2:4]), "sha": COMMIT, "siblings": files}
                return 200, json.dumps(told).encode()
            file = at / parts_[-1]
            return (200, file.read_bytes()) if file.is_file() else (404, b"EntryNotFound")

        def do_HEAD(self) -> None:
            self._send(body=False)

        def do_GET(self) -> None:
            self._send(body=True)

        def _send(self, body: bool) -> None:
            status, data = self._told()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            if status == 404:
                self.send_header("X-Error-Code", data.decode())
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, *_given: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    for name in ("constants", "_snapshot_download", "file_download"):
        monkeypatch.setattr(
            f"huggingface_hub.{name}.HF_HUB_CACHE", str(tmp_path / "cache"), raising=False
        )
    yield held
    server.shutdown()
    server.server_close()


def test_the_worker_fetches_what_a_hub_id_names(house: House, hub: Path) -> None:
    lora(hub / "ann" / "ink" / "pytorch_lora_weights.safetensors", 64)
    (hub / "ann" / "ink" / "README.md").write_text("not fetched")
    safetensors(hub / "bob" / "x4" / "x4.safetensors", {"a": (2, 2)})
    for line in ("add lora ann/ink", "add upscaler bob/x4 sharp", "add lora ann/none"):
        assert "no worker is on line to look" in say(house, MOD, f"/model {line}")
    house.registry.refresh()
    house.registry.look()
    found = {one.name: one for one in offers.told()}
    assert found["ink"].usable and found["sharp"].usable and not found["none"].usable
    assert "could not be fetched" in found["none"].fault and "127.0.0.1" not in found["none"].fault
    file = Path(found["ink"].file)
    assert file.is_file() and not list(file.parent.glob("*.md"))
    pattern = catalog.models()["pattern"]
    assert parts.loras(pattern)["ink"].path == file and parts.loras(pattern)["ink"].width == 64
    say(house, MOD, "/model default upscaler sharp")
    assert catalog.upscaler() == "sharp" and catalog.upscalers()["sharp"].is_file()
    # Fetched already: a bot on the same machine sees it at once.
    with pytest.raises(UserError, match="on offer already, as ink"):
        say(house, MOD, "/model add lora ann/ink again")
    say(house, MOD, "/model remove lora ink")
    assert "on offer in a few seconds" in say(house, MOD, "/model add lora ann/ink again")


def test_who_waits_hears_that_a_hub_has_no_such_thing(house: House, hub: Path) -> None:
    house.queue.draw.present("machine-cpu-1-a")
    over = threading.Event()
    house.registry.follow(looking=True, stopped=over)
    try:
        with pytest.raises(UserError, match="ann/none could not be fetched"):
            say(house, MOD, "/model add lora ann/none")
    finally:
        over.set()
    assert not offers.told()
