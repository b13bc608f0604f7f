"""The web chat's door to the pictures, over a storage that is no folder."""

import io
from collections.abc import Iterator
from dataclasses import replace

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from starlette.testclient import TestClient

from bots.web_chat import create_app
from core.house import House
from core.media import Media
from core.options import validate
from core.people import Asker


@pytest.fixture
def remote(house: House) -> Iterator[House]:
    yield replace(house, media=Media("memory://pictures"))
    MemoryFileSystem.store.clear()


def test_pictures_come_from_wherever_they_are_kept(remote: House) -> None:
    local = Asker("web", "local", "web")
    made = remote.generations.submit(validate({"prompt": "a fox"}), local, "1", {"chat": "web"})
    drawn = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(drawn, "PNG")
    key = remote.media.save(made.id, "1.png", drawn.getvalue())
    claimed = remote.generations.claim(made.id)
    assert claimed and remote.generations.finish(claimed, [{"key": key}], 1.0)
    with TestClient(create_app(remote), base_url="http://127.0.0.1") as client:
        (told,) = client.get(f"/api/jobs/{made.id}").json()["results"]
        assert "key" not in told
        answer = client.get(told["url"])
        assert answer.content == drawn.getvalue() and answer.headers["content-type"] == "image/png"
        assert "no picture 2" in client.get(f"/media/{made.id}/1").json()["error"]
        remote.media.delete(key)
        gone = client.get(told["url"])
        assert gone.status_code == 404 and "no longer kept" in gone.json()["error"]
