"""Pictures in and out of a folder, and of a root that is no folder."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from core.house import open_house
from core.media import Media


class Strict(MemoryFileSystem):
    """As s3fs does, it refuses options that it does not know."""

    protocol = "strict"
    store: dict[str, object] = {}  # noqa: RUF012 — fsspec's own way
    pseudo_dirs = [""]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()


fsspec.register_implementation("strict", Strict, clobber=True)


@pytest.fixture(params=["", "file://", "memory://", "strict://"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    local = request.param in ("", "file://")
    yield f"{request.param}{tmp_path}/pictures" if local else f"{request.param}pictures"
    for kind in (MemoryFileSystem, Strict):
        kind.store.clear()


def kept(root: str) -> list[str]:
    files, path = fsspec.core.url_to_fs(root)
    return [name[len(path) :].lstrip("/") for name in files.find(path)]


def test_what_was_saved_is_there_until_it_is_deleted(root: str) -> None:
    media = Media(root)
    keys = [media.save(number, "1.png", b"drawn %d" % number) for number in (7, 7, 2024)]
    assert len(set(keys)) == 3 and sorted(kept(root)) == sorted(keys), "and nothing half written"
    # Another process opens the same root anew.
    assert Media(root).load(keys[2]) == b"drawn 2024"
    media.delete(keys[0])
    media.delete(keys[0])
    assert sorted(kept(root)) == sorted(keys[1:])


def test_a_missing_one_is_a_file_not_found(root: str) -> None:
    media = Media(root)
    with pytest.raises(FileNotFoundError):
        media.load("0000/1-nothing-1.png")
    key = media.save(1, "1.png", b"drawn")
    media.delete(key)
    with pytest.raises(FileNotFoundError):
        media.load(key)


def test_the_setting_reaches_it(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWQUEUE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DRAWQUEUE_MEDIA_URL", root)
    house = open_house()
    key = house.media.save(1, "1.png", b"drawn")
    house.database.close()
    assert kept(root) == [key]
    assert not (tmp_path / "home" / "media").exists()
