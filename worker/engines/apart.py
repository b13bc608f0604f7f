"""JSON whose pictures are put apart as it comes: long base64 strings become files, and never lie in
memory whole."""

import base64
import binascii
import json
import re
import secrets
import tempfile
from typing import IO, Any

# A base64 string as long as this is a file.
LONG = 4096
# What may stand before one, and what one is made of; a slash may be escaped. (RFC 2397, RFC 8259)
_BEGIN = re.compile(rb"(?:data:[\w/+.;=\\-]*;base64,)?([A-Za-z0-9+/=_\\-]*)")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


class TooMuch(ValueError):
    """More came than may be kept."""


class Apart:
    """Takes JSON in pieces; `most` are the bytes of a file, and of all that is no file."""

    def __init__(self, most: int) -> None:
        self.most = most
        # What names a file where its string stood: nobody else can know it.
        self._mark = secrets.token_hex(16)
        self._files: list[IO[bytes]] = []
        self._text = bytearray()
        # Of the string that comes now: what of it is not yet placed, and its file, if it is one.
        self._within = False
        self._held = bytearray()
        self._file: IO[bytes] | None = None
        self._plain = False

    def feed(self, part: bytes) -> None:
        """Take the next piece. Raises ValueError for what is no base64, TooMuch."""
        at = 0
        while at < len(part):
            quote = part.find(b'"', at)
            end = len(part) if quote < 0 else quote
            if not self._within:
                self._text += part[at : quote + 1 if quote >= 0 else end]
                self._within = quote >= 0
            else:
                self._held += part[at:end]
                if quote >= 0 and _open_escape(self._held):
                    self._held += b'"'
                else:
                    self._place(last=quote >= 0)
            at = end + 1
        if len(self._text) + len(self._held) > self.most:
            raise TooMuch

    def read(self) -> Any:
        """All that came, each string that was put apart as a file at its beginning. Raises
        ValueError."""
        return self._with_files(json.loads(self._text))

    def _place(self, last: bool) -> None:
        """Put what is held of a string where it belongs."""
        if self._file is None and not self._plain and len(self._held) >= LONG:
            begun = _BEGIN.fullmatch(self._held)
            self._plain = begun is None
            if begun:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - who reads it closes it
                self._held = bytearray(begun[1])
        if self._file is not None:
            self._write(self._file, last)
        elif last or (self._plain and not _open_escape(self._held)):
            self._text += self._held
            self._held.clear()
        if last:
            if self._file is not None:
                self._text += f"{self._mark}{len(self._files)}".encode()
                self._file.seek(0)
                self._files.append(self._file)
            self._text += b'"'
            self._within, self._plain, self._file = False, False, None

    def _write(self, file: IO[bytes], last: bool) -> None:
        """Decode what is held, all but what has no four letters yet."""
        if not last and _open_escape(self._held):
            return
        letters = _ESCAPED.sub(lambda one: b"/" if one[1] == b"/" else b"", bytes(self._held))
        letters = letters.translate(bytes.maketrans(b"-_", b"+/"), b"\r\n ")
        whole = len(letters) if last else len(letters) // 4 * 4
        try:
            # Padding that was left out is no fault.
            due = -whole % 4 if last else 0
            file.write(base64.b64decode(letters[:whole] + b"=" * due, validate=True))
        except binascii.Error as error:
            raise ValueError("no base64") from error
        self._held = bytearray(letters[whole:])
        if file.tell() > self.most:
            raise TooMuch

    def _with_files(self, found: Any) -> Any:
        if isinstance(found, dict):
            return {name: self._with_files(value) for name, value in found.items()}
        if isinstance(found, list):
            return [self._with_files(value) for value in found]
        if isinstance(found, str) and found.startswith(self._mark):
            return self._files[int(found.removeprefix(self._mark))]
        return found


def _open_escape(held: bytearray) -> bool:
    """Whether a string so far ends in a backslash that speaks of what follows."""
    return (len(held) - len(held.rstrip(b"\\"))) % 2 == 1
