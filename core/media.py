"""Pictures in and out of storage: a local folder, or whatever fsspec reaches."""

import contextlib
import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

PART = ".part"
# What follows a picture's key in that of its small copy.
SMALL = ".small.webp"
EXPORTS, SAMPLES = "exports", "samples"
# Bytes of a large file that are in memory.
MOST_AT_ONCE = 2**18
# Generations whose pictures share a folder.
SHARD = 1000


@dataclass(frozen=True)
class Source:
    """A stored picture to begin with: its key, its size in pixels, and how white it is (0 to 1).

    One that was drawn here knows its generation; what was brought, the recipe in its file.
    """

    key: str
    width: int
    height: int
    white: float = 0.5
    generation: int | None = None
    receipt: str = ""


def sample_of(key: str) -> int | None:
    """The generation of which a sample's key is a small picture; None where it does not say."""
    number = key.removeprefix(f"{SAMPLES}/").partition("-")[0]
    return int(number) if number.isascii() and number.isdigit() else None


class Media:
    """Bytes by key below one root (`/path`, `s3://bucket/path`)."""

    def __init__(self, root: str) -> None:
        # Who reads the commands alone opens no storage.
        import fsspec

        # On a disk, folders are made on the way; s3fs refuses to be told so.
        local = fsspec.core.split_protocol(root)[0] in (None, "file", "local")
        options = {"auto_mkdir": True} if local else {}
        filesystem: tuple[Any, str] = fsspec.core.url_to_fs(root, **options)
        self._files, self._root = filesystem

    def save(self, generation: int, name: str, data: bytes) -> str:
        """Store bytes under a fresh key that nobody can guess, and return the key."""
        shard = _folder(generation // SHARD)
        return self._save(f"{shard}/{generation}-{secrets.token_urlsafe(9)}-{name}", data)

    def save_upload(self, data: bytes) -> str:
        """Store a picture that somebody brought, in the day's folder; returns its key.

        Nobody can guess it, and it tells two of the same content from others; see `content_of`.
        """
        name = f"{secrets.token_urlsafe(15)}.{hashlib.sha256(data).hexdigest()[:32]}.png"
        return self._save(f"{_day(datetime.now(UTC).date())}/{name}", data)

    def save_sample(self, generation: int, data: bytes) -> str:
        """Store a small picture of a generation's, which shows what something draws; returns its
        key, by which `sample_of` knows whose it is."""
        return self._save(f"{SAMPLES}/{generation}-{secrets.token_urlsafe(15)}.png", data)

    def save_small(self, key: str, data: bytes) -> None:
        """Store the small copy of a picture; it goes when the picture goes."""
        self._save(small_of(key), data)
        if not self.has(key):
            # Deleted meanwhile, maybe before there was anything small to delete.
            self.delete(small_of(key))

    def save_export(self, path: str) -> str:
        """Store a file that somebody takes away, however large it is; returns its key."""
        key = f"{EXPORTS}/{secrets.token_urlsafe(24)}.zip"
        # On a disk, put_file makes no folders.
        self._files.makedirs(f"{self._root}/{EXPORTS}", exist_ok=True)
        self._files.put_file(path, f"{self._root}/{key}")
        return key

    def exports(self) -> Iterator[str]:
        """The keys of all files that people take away."""
        yield from self._in(EXPORTS)

    def parts(self, key: str) -> Iterator[bytes]:
        """The bytes of a key, some at a time. Raises FileNotFoundError."""
        with self._files.open(f"{self._root}/{key}", "rb") as file:
            while part := file.read(MOST_AT_ONCE):
                yield part

    def _save(self, key: str, data: bytes) -> str:
        # Two may store the same small copy at once.
        part = f"{key}.{secrets.token_hex(4)}{PART}"
        try:
            self._files.pipe_file(f"{self._root}/{part}", data)
            self._files.mv(f"{self._root}/{part}", f"{self._root}/{key}")
        except BaseException:
            # Half a file on a full disk would help nobody.
            with contextlib.suppress(Exception):
                self.delete(part)
            raise
        return key

    def load(self, key: str) -> bytes:
        """The bytes of a key. Raises FileNotFoundError."""
        return bytes(self._files.cat_file(f"{self._root}/{key}"))

    def of_shard(self, shard: int) -> Iterator[str]:
        """The keys of all files, half written ones too, of generations from `shard * SHARD` on."""
        yield from self._in(_folder(shard))

    def of_day(self, day: date) -> Iterator[str]:
        """The keys of all pictures, half written ones too, that people brought on a day."""
        yield from self._in(_day(day))

    def _in(self, folder: str) -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError):
            for path in self._files.ls(f"{self._root}/{folder}", detail=False, refresh=True):
                yield f"{folder}/{path.rsplit('/', 1)[1]}"

    def has(self, key: str) -> bool:
        """Whether a key is there."""
        return bool(self._files.exists(f"{self._root}/{key}"))

    def modified(self, key: str) -> datetime:
        """When a key was written. Raises FileNotFoundError."""
        moment: datetime = self._files.modified(f"{self._root}/{key}")
        return moment.replace(tzinfo=moment.tzinfo or UTC)

    def size(self, key: str) -> int:
        """The bytes that a key has. Raises FileNotFoundError."""
        return int(self._files.size(f"{self._root}/{key}"))

    def delete(self, key: str) -> None:
        """Remove a key, and its small copy after it; what is gone already is no fault."""
        for one in (key, small_of(key)):
            with contextlib.suppress(FileNotFoundError):
                if self.has(one):
                    self._files.rm_file(f"{self._root}/{one}")


def small_of(key: str) -> str:
    """The key of a picture's small copy."""
    return key + SMALL


def content_of(key: str) -> str:
    """What a key shares with those of the same picture, whoever brought it again, and when."""
    found = re.fullmatch(r"uploads/.+\.([0-9a-f]{32})\.png", key)
    return found[1] if found else key


def drawn_by(key: str) -> int | None:
    """The generation whose picture a key is; None where somebody brought it."""
    found = re.match(r"\d+/(\d+)-", key)
    return int(found[1]) if found else None


def _folder(shard: int) -> str:
    return f"{shard:04d}"


def _day(day: date) -> str:
    return f"uploads/{day.isoformat()}"
