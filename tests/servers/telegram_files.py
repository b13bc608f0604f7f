"""The files of a Telegram: what an upload must be, and how a photo is kept."""

from __future__ import annotations

import io
import mimetypes
import re
from collections.abc import Callable
from typing import Any

from PIL import Image, UnidentifiedImageError

from tests.servers.telegram_errors import ApiError, Json, bad
from tests.servers.telegram_objects import File
from tests.servers.telegram_params import Upload

MB = 1024 * 1024
# How long the path of a file leads to it, at least; a new one is had by asking again.
PATH_SECONDS = 3600
PREFIXES = {
    "Photo": "AgAC", "Document": "BQAC", "Animation": "CgAC", "Sticker": "CAAC", "Video": "BAAC",
    "Voice": "AwAC",
}  # fmt: skip
# What an attachment of each kind has besides its file (python-telegram-bot: telegram/_files).
MORE: dict[str, Json] = {
    "Animation": {"width": 320, "height": 240, "duration": 2},
    "Sticker": {
        "type": "regular", "width": 512, "height": 512, "is_animated": False, "is_video": False,
    },
    "Video": {"width": 320, "height": 240, "duration": 2},
    "Voice": {"duration": 2},
}  # fmt: skip


class Files:
    """Every file kept, by its id and by its path."""

    def __init__(self, fresh: Callable[[], int]) -> None:
        self.fresh = fresh
        self.by_id: dict[str, File] = {}
        self.by_path: dict[str, File] = {}

    def chosen(self, kind: str, source: Any, files: dict[str, Upload]) -> File:
        """The file a call uploads or names."""
        upload = files.get(kind) if source is None else None
        if isinstance(source, str) and source.startswith("attach://"):
            upload = files.get(source.removeprefix("attach://"))
            if upload is None:
                raise bad("wrong file identifier/HTTP URL specified")
        if upload:
            if not upload.data:
                raise bad("file must be non-empty")
            return self.keep_photo(upload) if kind == "photo" else self.keep_document(upload)
        if not source:
            raise bad(f"there is no {kind} in the request")
        if re.match(r"(?i)https?://", str(source)):
            raise bad("failed to get HTTP URL content")
        known = self.by_id.get(str(source))
        if known is None:
            raise bad("wrong file identifier/HTTP URL specified")
        if known.kind.lower() != kind:
            raise bad(f"can't use file of type {known.kind} as {kind.capitalize()}")
        return known.sizes[-1] if known.sizes else known

    def keep_photo(self, upload: Upload) -> File:
        """Decode a picture and keep its sizes, encoded again as the platform does."""
        if len(upload.data) > 10 * MB:
            raise bad("file is too big for a photo")
        try:
            picture: Image.Image = Image.open(io.BytesIO(upload.data))
            width, height = picture.size
            if width + height > 10000 or max(width, height) > 20 * min(width, height):
                raise bad("PHOTO_INVALID_DIMENSIONS")
            picture = picture.convert("RGB")
        except Image.DecompressionBombError:
            raise bad("PHOTO_INVALID_DIMENSIONS") from None
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
            raise bad("IMAGE_PROCESS_FAILED") from None
        longest = max(width, height)
        sizes: list[File] = []
        for side in [*(s for s in (90, 320, 800, 1280) if s < longest), min(longest, 2560)]:
            shape = tuple(max(1, round(n * side / longest)) for n in (width, height))
            scaled = picture if side == longest else picture.resize((shape[0], shape[1]))
            data = io.BytesIO()
            scaled.save(data, "JPEG", quality=87)
            sizes.append(self._keep("Photo", data.getvalue(), "photos", ".jpg"))
            sizes[-1].width, sizes[-1].height = scaled.size
            sizes[-1].mime = "image/jpeg"
        sizes[-1].raw = upload.data
        for size in sizes:
            size.sizes = sizes
        return sizes[-1]

    def keep_document(self, upload: Upload) -> File:
        """Keep a file as it is."""
        if len(upload.data) > 50 * MB:
            raise ApiError(413, "Request Entity Too Large")
        suffix = re.search(r"\.\w{1,8}$", upload.name)
        file = self._keep("Document", upload.data, "documents", suffix[0] if suffix else "")
        file.name = upload.name
        file.mime = mimetypes.guess_type(upload.name)[0] or "application/octet-stream"
        return file

    def keep_attachment(
        self, kind: str, upload: Upload, told: int | None, thumbnail: bytes, more: Json
    ) -> File:
        """Keep what a person attached, of whatever kind; `told` is its size without its bytes."""
        if unknown := set(more) - set(MORE.get(kind, {})):
            raise ValueError(f"no {kind} has {sorted(unknown)}")
        suffix = re.search(r"\.\w{1,8}$", upload.name)
        file = self._keep(kind, upload.data, f"{kind.lower()}s", suffix[0] if suffix else "")
        file.name, file.told, file.more = upload.name, told, {**MORE.get(kind, {}), **more}
        guessed = mimetypes.guess_type(upload.name)[0] or "application/octet-stream"
        file.mime = upload.mime or guessed
        if thumbnail:
            file.thumbnail = self.keep_photo(Upload("", thumbnail, "")).sizes[0]
        return file

    def at(self, path: str, now: float) -> File | None:
        """The file at a path that was handed out, and not too long ago."""
        found = self.by_path.get(path)
        if found is None or found.offered is None or now - found.offered > PATH_SECONDS:
            return None
        return found

    def _keep(self, kind: str, data: bytes, folder: str, suffix: str) -> File:
        """Store bytes under fresh names."""
        number = self.fresh()
        path = f"{folder}/file_{number}{suffix}"
        # As long as real ones: a column too narrow for them should fail in tests.
        file_id = f"{PREFIXES[kind]}AgIAAx{number:0>62}"
        file = File(file_id, f"AQAD{number:0>12}", kind, data, path, raw=data)
        self.by_id[file.id] = self.by_path[path] = file
        return file
