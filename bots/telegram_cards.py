"""Card → Telegram message. Telegram's limits live here and nowhere else."""

import asyncio
import functools
import html
import io
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from PIL import Image
from telegram import (
    Bot,
    CallbackQuery,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaDocument,
    InputMediaPhoto,
    LinkPreviewOptions,
    Message,
    ReplyParameters,
)
from telegram.constants import FileSizeLimit, InlineKeyboardMarkupLimit, MessageLimit
from telegram.error import (
    BadRequest,
    ChatMigrated,
    EndPointNotFound,
    Forbidden,
    InvalidToken,
    RetryAfter,
    TelegramError,
)
from telegram.request import HTTPXRequest

from bots.pictures import blurred, fitted
from bots.poster import EDIT_SECONDS, Budget, Gone, Later, Moved, Refused
from bots.words import parted
from core.asking import Choice
from core.cards import Button, Card
from core.languages import mark, tr
from core.lifecycle import State
from core.policy import Show
from core.rows import Generation
from core.settings import Telegram, read

# A photo's sides together and their ratio (python-telegram-bot: Bot.send_photo).
SIDES = 10_000
RATIO = 20
# As low as a photo may be, in pixels.
BLANK = (320, 20)
# So much of a prompt stands above what is written for it.
ASKED = 200
# So long Telegram may look at a picture before it answers; whoever gives up sends it twice.
TAKEN_SECONDS = 20.0
# How long a draft may take: the next one shows more.
DRAFT_SECONDS = 3.0
NO_PREVIEW = LinkPreviewOptions(is_disabled=True)
# What tells somebody who waited long that it is there.
PICTURE = mark("{person}, your picture is here.")
TEXT = mark("{person}, your text is here.")
NOT_MODIFIED = "message is not modified"
# A message older than 48 hours, and one that was deleted already.
KEPT, NOT_THERE = "can't be deleted", "message to delete not found"
# What a card is edited as though its message is the other kind.
NO_TEXT, NO_CAPTION = "there is no text in the message", "there is no caption in the message"


def body(card: Card, limit: int) -> str:
    """The card as HTML of at most `limit` characters, a person's words escaped, and a model's."""
    head = f"<b>{html.escape(status(card))}</b>"
    tail = f"#{card.generation} · {html.escape(card.details)}"
    if card.notice:
        tail = f"{html.escape(card.notice)}\n{tail}"
    # Counted as if nothing were markup, which only ever leaves room to spare.
    room = max(0, limit - len(card.notice) - len(card.details) - len(status(card)) - 40)
    words, better = unmentioned(card.prompt), ""
    if card.text:
        asked = _fitting(" ".join(words.split()), ASKED)
        above = f"<blockquote>{html.escape(asked)}</blockquote>" if asked else ""
        text = html.escape(written(card, room - units(asked)))
        return "\n".join(filter(None, [head, above, text, f"<i>{tail}</i>"]))
    if card.better:
        better = "\n" + _fitting(unmentioned(card.better), room // 2)
    prompt = _fitting(words, room - units(better)) + better
    return f"{head}\n{html.escape(prompt)}\n<i>{tail}</i>"


def written(card: Card, room: int) -> str:
    """What is written, as it was: its beginning where there is no room for all of it, or its end
    as long as it grows."""
    return parted(card.text, max(0, room), unmentioned, end=card.live, length=units)


def whole(card: Card) -> tuple[str, bytes] | None:
    """All that was written as a file, where a message shows a part of it."""
    text = unmentioned(card.text)
    if (
        card.state != State.DONE
        or not text
        or html.escape(text) in body(card, MessageLimit.MAX_TEXT_LENGTH)
    ):
        return None
    return f"{card.generation}.txt", card.text.encode()


def unmentioned(text: str) -> str:
    """Words in which Telegram finds nobody to mention: a word joiner follows each @."""
    return text.replace("@", "@\u2060")


def units(text: str) -> int:
    """Length as Telegram counts it, in UTF-16 units."""
    return len(text.encode("utf-16-le")) // 2


def _cut(text: str, room: int) -> str:
    kept = text.encode("utf-16-le")[: max(0, room - 1) * 2].decode("utf-16-le", "ignore")
    return kept + "…"


def status(card: Card) -> str:
    """The status line, with a bar of ten while generating."""
    if card.ready and card.state == State.QUEUED:
        moment = datetime.fromtimestamp(card.ready, UTC)
        return tr("{status} · about {time} UTC", status=card.status, time=f"{moment:%H:%M}")
    if card.state != State.GENERATING or card.words:
        return card.status
    full = round(card.progress * 10)
    return f"{card.status} {'▰' * full}{'▱' * (10 - full)}"


def keyboard(buttons: Sequence[Button]) -> InlineKeyboardMarkup:
    """The buttons of a card or a question."""
    rows: dict[int, list[InlineKeyboardButton]] = {}
    for one in buttons:
        rows.setdefault(one.row, []).append(InlineKeyboardButton(one.label, callback_data=one.id))
    return InlineKeyboardMarkup(list(rows.values()))


def menu(choices: Sequence[Choice]) -> InlineKeyboardMarkup | None:
    """What can be chosen, two side by side; None where there is nothing."""
    keys = [
        InlineKeyboardButton(f"• {one.label}" if one.now else one.label, callback_data=one.id)
        for one in choices[: InlineKeyboardMarkupLimit.TOTAL_BUTTON_NUMBER]
    ]  # fmt: skip
    if not keys:
        return None
    return InlineKeyboardMarkup([keys[at : at + 2] for at in range(0, len(keys), 2)])


def text(card: Card) -> dict[str, Any]:
    """The arguments of a text message that shows the card."""
    return {
        "text": body(card, MessageLimit.MAX_TEXT_LENGTH),
        "parse_mode": "HTML",
        "reply_markup": keyboard(card.buttons),
        "link_preview_options": NO_PREVIEW,
    }


async def sized(card: Card, picture: bytes | None) -> tuple[str, bytes] | None:
    """The picture as a file that Telegram takes, made smaller beside the event loop; or a text that
    no message holds."""
    if not picture:
        return whole(card)
    if card.show == Show.SPOILER:
        return await asyncio.to_thread(_coverable, picture)
    return await asyncio.to_thread(fitted, picture, FileSizeLimit.FILESIZE_UPLOAD)


def _coverable(picture: bytes) -> tuple[str, bytes]:
    """The picture as a photo, which alone can be covered; blurred where it can be none."""
    file = fitted(picture, FileSizeLimit.PHOTOSIZE_UPLOAD)
    return file if _is_photo(file[1]) else fitted(blurred(picture), FileSizeLimit.PHOTOSIZE_UPLOAD)


def _is_photo(data: bytes) -> bool:
    width, height = Image.open(io.BytesIO(data)).size
    return (
        len(data) <= FileSizeLimit.PHOTOSIZE_UPLOAD
        and width + height <= SIDES
        and max(width, height) <= RATIO * min(width, height)
    )


def media(card: Card, file: tuple[str, bytes]) -> InputMediaPhoto | InputMediaDocument:
    """The picture as a photo, or as a document where Telegram takes no such photo."""
    name, data = file
    given: dict[str, Any] = {
        "caption": body(card, MessageLimit.CAPTION_LENGTH), "parse_mode": "HTML", "filename": name,
    }  # fmt: skip
    if not card.text and _is_photo(data):
        return InputMediaPhoto(data, has_spoiler=card.show == Show.SPOILER, **given)
    return InputMediaDocument(data, **given)


@functools.cache
def nothing() -> tuple[str, bytes]:
    """What a photo becomes that shows nothing any more, as no photo can be taken from a message."""
    out = io.BytesIO()
    Image.new("RGB", BLANK, "#8a8f99").save(out, "PNG")
    return "nothing.png", out.getvalue()


async def small_photo(picture: bytes) -> bytes:
    """A picture that goes with words, as a photo that Telegram takes."""
    return (await asyncio.to_thread(fitted, picture, FileSizeLimit.PHOTOSIZE_UPLOAD))[1]


async def turn(
    query: CallbackQuery, words: str, picture: bytes | None, buttons: Sequence[Button]
) -> None:
    """Show another page in the message whose button was pressed.

    A text can become a photo with a caption, and a photo stays one.
    """
    told = unmentioned(words)
    keys = keyboard(buttons) if buttons else None
    message = query.message
    photo = isinstance(message, Message) and bool(message.photo)
    if picture or photo:
        data = await small_photo(picture) if picture else nothing()[1]
        shown = InputMediaPhoto(data, caption=_fitting(told, MessageLimit.CAPTION_LENGTH))
        await query.edit_message_media(shown, reply_markup=keys)
        return
    await query.edit_message_text(_fitting(told, MessageLimit.MAX_TEXT_LENGTH), reply_markup=keys)


def _fitting(words: str, room: int) -> str:
    return words if units(words) <= room else _cut(words, room)


def connect() -> Bot:
    """A bot as the settings say; nothing is contacted yet."""
    settings = read(Telegram)
    # Its lines name request addresses, and those carry the token; so may the page with which a
    # server in between answers, which the other one quotes.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("telegram.request").setLevel(logging.CRITICAL)
    return Bot(
        settings.token.get_secret_value(),
        base_url=settings.api_url,
        base_file_url=settings.file_url,
        # Who finds every connection busy waits for one: giving up would only mean asking again.
        request=HTTPXRequest(connection_pool_size=64, pool_timeout=30, media_write_timeout=60),
    )


def hopeless(error: TelegramError) -> bool:
    """Whether what Telegram refused would be refused again."""
    return isinstance(error, BadRequest | Forbidden | ChatMigrated) or (
        # A proxy before a Bot API server of one's own may take less than Telegram does.
        "request entity too large" in str(error).lower()
    )


def later(error: RetryAfter) -> Later:
    """The silence Telegram asks for."""
    wait = error.retry_after
    return Later(wait if isinstance(wait, int | float) else wait.total_seconds())


def moved(address: Mapping[str, Any], error: ChatMigrated) -> dict[str, Any]:
    """The same place in the supergroup that the group became."""
    return {**address, "chat": error.new_chat_id, "topic": None}


def _verdict(error: TelegramError) -> Gone | Later | Refused:
    """What a refused card means to its poster."""
    if isinstance(error, RetryAfter):
        return later(error)
    if isinstance(error, InvalidToken):
        return Refused()
    if isinstance(error, Forbidden):
        return Gone("Telegram lets me write there no more")
    if hopeless(error):
        return Gone(f"Telegram refuses the card: {error}")
    return Later(3)


class TelegramDrawer:
    """Edits cards: text while they move, turned into the photo when they are done."""

    platform = "telegram"
    # 20 a minute in a group: a third is left to finals and answers.
    budget = Budget(13, 60)

    def __init__(self, bot: Bot | None = None) -> None:
        self.bot = bot or connect()

    async def open(self) -> None:
        try:
            await self.bot.initialize()
            # Who was connected before is so still, whatever became of the token.
            await self.bot.get_me()
        except InvalidToken:
            raise Refused from None
        except TelegramError:
            raise Later(5) from None

    def chat(self, generation: Generation) -> str:
        return str(generation.address.get("chat", ""))

    async def draw(self, generation: Generation, card: Card, picture: bytes | None) -> Moved | None:
        chat = int(generation.address["chat"])
        file = await sized(card, picture)
        try:
            # Shorter than an editor's lease: nobody else may begin before this one ended.
            if generation.message is None:
                sending = send(self.bot, generation.address, card, picture, 0)
                sent = await asyncio.wait_for(sending, EDIT_SECONDS)
                return Moved(generation.address, str(sent.message_id))
            await asyncio.wait_for(self._edit(chat, generation, card, file), EDIT_SECONDS)
        except TimeoutError as error:
            raise Later(3) from error
        except ChatMigrated as error:
            # A group that became a supergroup left its messages behind, where nothing can be
            # edited any more: the card is sent once more, in the new place.
            address = moved(generation.address, error)
            try:
                sent = await send(self.bot, address, card, picture, 0)
            except TelegramError as again:
                raise _verdict(again) from again
            return Moved(address, str(sent.message_id))
        except TelegramError as error:
            raise _verdict(error) from error
        return None

    async def _edit(
        self, chat: int, generation: Generation, card: Card, file: tuple[str, bytes] | None
    ) -> None:
        assert generation.message
        where: dict[str, Any] = {"chat_id": chat, "message_id": int(generation.message)}
        photo = generation.shown_media != 0
        if generation.shown_media > 0 and not card.preview and not card.media:
            file = nothing()
        for _ in range(2):
            try:
                if file:
                    await self.bot.edit_message_media(
                        media(card, file), reply_markup=keyboard(card.buttons),
                        read_timeout=TAKEN_SECONDS, **where,
                    )  # fmt: skip
                elif photo:
                    # A photo stays a photo: its caption tells the new state.
                    await self.bot.edit_message_caption(
                        caption=body(card, MessageLimit.CAPTION_LENGTH), parse_mode="HTML",
                        reply_markup=keyboard(card.buttons), **where,
                    )  # fmt: skip
                else:
                    await self.bot.edit_message_text(**text(card), **where)
            except BadRequest as error:
                said = str(error).lower()
                # An edit whose answer never came, or a new message in place of a photo.
                if NO_TEXT in said and not photo:
                    photo, file = True, nothing()
                    continue
                if NO_CAPTION in said and photo:
                    photo = False
                    continue
                if NOT_MODIFIED not in said:
                    raise
            return

    def streams(self, generation: Generation) -> bool:
        # Telegram has drafts in private chats alone, whose ids are people's.
        return int(generation.address.get("chat") or 0) > 0

    async def stream(self, generation: Generation, card: Card) -> bool:
        address = generation.address
        # A draft vanishes by itself within 30 seconds, until when nothing is said twice.
        words = written(card, MessageLimit.MAX_TEXT_LENGTH - 1) if card.live else card.status
        drafting = self.bot.send_message_draft(
            int(address["chat"]), card.generation, words, message_thread_id=address.get("topic")
        )
        try:
            await asyncio.wait_for(drafting, DRAFT_SECONDS)
        except RetryAfter as error:
            raise later(error) from error
        except (BadRequest, Forbidden, EndPointNotFound, InvalidToken):
            # An API server that is older than drafts knows no such address.
            return False
        except (TelegramError, TimeoutError):
            # The next one shows as much, and the card itself all of it.
            pass
        return True

    async def remove(self, generation: Generation) -> bool:
        if not generation.address.get("chat"):
            raise Gone("nobody knows where it stands")
        chat, message = int(generation.address["chat"]), int(generation.message or 0)
        try:
            await asyncio.wait_for(self.bot.delete_message(chat, message), EDIT_SECONDS)
        except TimeoutError as error:
            raise Later(3) from error
        except BadRequest as error:
            said = str(error).lower()
            if KEPT in said:
                return False
            if NOT_THERE not in said:
                raise _verdict(error) from error
        except ChatMigrated as error:
            # What a group left behind when it became a supergroup, nobody can touch.
            raise Gone("the group moved away from it") from error
        except TelegramError as error:
            raise _verdict(error) from error
        return True

    async def mention(self, generation: Generation) -> None:
        words = generation.request.mode.words
        yours = tr("Your text") if words else tr("Your picture")
        name = html.escape(generation.asker_name or yours)
        person = f'<a href="tg://user?id={generation.asker}">{name}</a>'
        try:
            await self.bot.send_message(
                int(generation.address["chat"]),
                tr(TEXT if words else PICTURE, person=person),
                parse_mode="HTML",
                message_thread_id=generation.address.get("topic"),
                reply_parameters=ReplyParameters(int(generation.message or 0)),
            )
        except TelegramError:
            # A courtesy: the card itself is there.
            return


def replying(message: int) -> ReplyParameters | None:
    """The arguments of an answer to a message, 0 for none; one that is gone is no fault."""
    return ReplyParameters(message, allow_sending_without_reply=True) if message else None


async def send(bot: Bot, address: Any, card: Card, picture: bytes | None, reply_to: int) -> Message:
    """Send a card as a new message where it was asked for."""
    where: dict[str, Any] = {
        "chat_id": int(address["chat"]),
        "message_thread_id": address.get("topic"),
        "reply_parameters": replying(reply_to),
    }
    file = await sized(card, picture)
    if not file:
        return await bot.send_message(**text(card), **where)
    made = media(card, file)
    name, data = file
    given: dict[str, Any] = {
        "caption": made.caption, "parse_mode": "HTML", "reply_markup": keyboard(card.buttons),
        "filename": name,
    }  # fmt: skip
    if isinstance(made, InputMediaPhoto):
        return await bot.send_photo(
            photo=data, has_spoiler=made.has_spoiler, read_timeout=TAKEN_SECONDS, **given, **where
        )
    return await bot.send_document(document=data, read_timeout=TAKEN_SECONDS, **given, **where)
