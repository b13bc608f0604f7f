"""The pictures of Telegram messages: which ones a command means, and their bytes."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from telegram import Bot, ExternalReplyInfo, Message
from telegram.constants import FileSizeLimit
from telegram.error import BadRequest, RetryAfter, TelegramError

from core.cards import ASIDE, pressed
from core.commands import PICTURE, Command
from core.drawing import TAKES
from core.errors import TryAgain, UserError
from core.languages import mark, tr, trn
from core.options import Mode
from core.settings import Uploads, read
from core.uploads import too_large

# For all of a file: what comes drop by drop ends as well.
FETCH_SECONDS = 60.0
WHAT_FOR = mark(
    "What shall I make of it? Send it with a caption, or answer it: words draw it anew, /upscale "
    "makes it larger, /style with words draws in its style, /blend makes one picture of several, "
    "and /inpaint with words paints what is white on a second picture, the mask."
)
NO_PICTURE = mark(
    "That is no picture I can begin with. Send a photo, or a PNG, JPEG, WebP or GIF as a file."
)
NOT_HANDED = mark("Telegram does not hand me that picture just now. Please send it again.")


@dataclass(frozen=True)
class Sent:
    """A picture that stands in Telegram: its file, and how many bytes it has, 0 if unknown."""

    file: str
    size: int = 0


def sent(message: Message | ExternalReplyInfo) -> Sent | None:
    """The picture that a message, here or in another chat, shows: of what moves, its preview."""
    found: Any = None
    if message.photo:
        found = max(message.photo, key=lambda one: one.width * one.height)
    elif message.sticker:
        still = not (message.sticker.is_animated or message.sticker.is_video)
        found = message.sticker if still else message.sticker.thumbnail
    elif message.animation and not _is_image(message.animation.mime_type):
        # Telegram makes a film of a GIF.
        found = message.animation.thumbnail
    elif message.document and _is_image(message.document.mime_type):
        found = message.document
    return Sent(found.file_id, found.file_size or 0) if found else None


def _is_image(kind: str | None) -> bool:
    return (kind or "").startswith("image/")


def holds(message: Message) -> bool:
    """Whether a message brings a file of whatever kind."""
    return bool(
        message.photo or message.document or message.animation or message.sticker
        or message.video or message.video_note or message.voice or message.audio
    )  # fmt: skip


def card_in(message: Message, bot: int) -> int | None:
    """The generation whose card a message of this bot is."""
    if not message.from_user or message.from_user.id != bot or not message.reply_markup:
        return None
    for button in (one for row in message.reply_markup.inline_keyboard for one in row):
        try:
            action, number = pressed(str(button.callback_data or ""))
        except UserError:
            continue
        if action not in ASIDE:
            return number
    return None


def takes_pictures(command: Command) -> bool:
    """Whether a command can begin with what people send."""
    return command.draws or bool(command.pictures)


def meant(
    command: Command, given: Mapping[str, Any], own: Sequence[Sent], card: int | None,
    answered: Sent | None,
) -> tuple[dict[str, Any], list[Sent]]:  # fmt: skip
    """What a command was given, and the pictures to fetch for it.

    `own` come with the command's message; the message it answers is a `card`, or shows the
    picture `answered`, and fills what is still free, in front. Raises UserError.
    """
    found = dict(given)
    if command.mode is not None:
        # A prompt with a picture draws that anew.
        most = TAKES[Mode.REMIX if command.mode == Mode.TEXT else command.mode][1]
        _few_enough(command, own, most)
        if len(own) + bool(found.get("source")) >= most:
            return found, list(own)
        if card and (not found.get("source") or command.mode != Mode.INPAINT):
            found["source"] = f"{card} {found.get('source', '')}".strip()
            return found, list(own)
        return found, [answered, *own] if answered else list(own)
    if not any(option.name == "id" for option in command.takes):
        return found, []
    files = [*own] if own or card or not answered else [answered]
    if command.pictures:
        _few_enough(command, files, len(command.pictures))
    elif files and PICTURE in command.takes:
        raise UserError(
            tr(
                "/{name} is for pictures that I drew: answer one with it, or give its number. "
                "/remix begins with any.",
                name=command.name,
            )
        )
    if files or card:
        found = _without_number(command, found)
    if card and not own and not found.get("id"):
        found["id"] = str(card)
    return found, files if command.pictures else []


def _few_enough(command: Command, pictures: Sequence[Sent], most: int) -> None:
    if len(pictures) > most:
        raise UserError(
            trn(
                "/{name} takes {n} picture; got {got}.", "/{name} takes {n} pictures; got {got}.",
                most, name=command.name, got=len(pictures),
            )
        )  # fmt: skip


def _without_number(command: Command, given: dict[str, Any]) -> dict[str, Any]:
    """What was typed, where the picture is known and its number was left out: `/upscale 4`."""
    first, *others = [option.name for option in command.takes]
    after = next((option for option in command.takes if option.name in others), None)
    word = str(given.get(first) or "").lower()
    if first == "id" and after and not given.get(after.name) and word in after.choices:
        return {after.name: word}
    return given


async def fetched(bot: Bot, picture: Sent) -> bytes:
    """The bytes of a picture.

    Raises UserError for one that is too large, TryAgain when Telegram does not hand it out just
    now, and TelegramError.
    """
    _small_enough(picture.size)
    try:
        file = await bot.get_file(picture.file)
    except BadRequest as error:
        if "too big" in str(error).lower():
            most = FileSizeLimit.FILESIZE_DOWNLOAD / 1e6
            told = tr("Telegram hands me no file of more than {most} MB.", most=f"{most:.0f}")
            raise UserError(told) from None
        raise TryAgain(tr(NOT_HANDED)) from error
    _small_enough(file.file_size or 0)
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            return bytes(await file.download_as_bytearray())
    except RetryAfter:
        raise
    except (TelegramError, TimeoutError, RuntimeError, OSError):
        # Its address may have expired; the next try asks for a new one. It holds the token, so
        # nothing is told of what went wrong there.
        raise TryAgain(tr(NOT_HANDED)) from None


def _small_enough(size: int) -> None:
    if size > read(Uploads).max_mb * 1e6:
        raise UserError(too_large(size))
