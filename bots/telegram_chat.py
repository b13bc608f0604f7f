"""The Telegram bot: what comes in. Updates are recorded before they are confirmed.

Polling is our own loop over `getUpdates`, because python-telegram-bot confirms an update when it
fetches the next ones, whether or not it was stored: here the offset moves only past updates whose
rows are committed, and a row is handled once though it comes twice. With a webhook the web process
stores what Telegram sends it, and this one works it off.
"""

import argparse
import asyncio
import contextlib
import html
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from telegram import (
    Bot,
    BotCommand,
    CallbackQuery,
    Message,
    ReplyKeyboardMarkup,
    ReplyParameters,
    Update,
)
from telegram.constants import CallbackQueryLimit, ChatMemberStatus, ChatType, MessageLimit
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    Forbidden,
    InvalidToken,
    RetryAfter,
    TelegramError,
)

from bots import telegram_cards
from bots.poster import Poster, picture_of
from bots.telegram_cards import TelegramDrawer, connect, later
from core import catalog, commands
from core.cards import pressed
from core.commands import COMMANDS, Ask, Reply
from core.errors import UserError, report
from core.house import House, open_house
from core.inbox import Inbox
from core.people import Asker
from core.settings import HOOK, Telegram, Web, read

log = logging.getLogger("drawqueue")

POLL_SECONDS = 25
LOOK_SECONDS = 5.0
THREADS = 16
AT_ONCE = 32
KINDS = ["message", "callback_query"]
EXAMPLE = "a red crown on a blue background"
WELCOME = (
    "Tell me what to draw: write it to me, or /imagine and what you want to see. "
    "Tap for an example:"
)


class TelegramChat:
    """One bot: a fetcher that stores updates, and handlers that work them off."""

    def __init__(self, house: House, bot: Bot) -> None:
        self.house = house
        self.bot = bot
        self._gate = asyncio.Semaphore(AT_ONCE)
        self.inbox = Inbox(house.database, house.queue, "telegram")
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy: set[int] = set()

    async def run(self) -> None:
        """Serve until cancelled. Raises InvalidToken."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        while True:
            try:
                await self.bot.initialize()
                await self.bot.set_my_commands(
                    [BotCommand(one.name, one.summary) for one in COMMANDS]
                )
                await self._receive()
                break
            except InvalidToken:
                raise
            except TelegramError as error:
                log.warning("Telegram is out of reach (%s); trying again", type(error).__name__)
                await asyncio.sleep(3)
        log.info("on line as @%s", self.bot.username)
        poster = asyncio.create_task(Poster(self.house, [TelegramDrawer(self.bot)]).run())
        try:
            if read(Telegram).webhook:
                await self._work_off()
            for body in await asyncio.to_thread(self.inbox.unhandled):
                self._start(Update.de_json(body, self.bot))
            await self._poll()
        finally:
            poster.cancel()

    async def _receive(self) -> None:
        """Tell Telegram whether to send updates to the web process, or to keep them for us."""
        if not read(Telegram).webhook:
            await self.bot.delete_webhook()
            return
        await self.bot.set_webhook(
            read(Web).public_url.rstrip("/") + HOOK, allowed_updates=KINDS,
            secret_token=read(Telegram).hook_secret,
        )  # fmt: skip

    async def _poll(self) -> None:
        offset, pause = 0, 1.0
        while True:
            try:
                found = await self.bot.get_updates(
                    offset=offset, timeout=POLL_SECONDS, allowed_updates=KINDS,
                    read_timeout=POLL_SECONDS + 10,
                )  # fmt: skip
                pause = 1.0
            except Conflict:
                log.warning(
                    "Another program polls Telegram with this token; stop one of the two. "
                    "Looking again in %.0f s.", pause,
                )  # fmt: skip
                await asyncio.sleep(pause)
                pause = min(60.0, pause * 2)
                continue
            except RetryAfter as error:
                await asyncio.sleep(later(error).seconds)
                continue
            except InvalidToken:
                raise
            except TelegramError as error:
                log.warning("Telegram is out of reach (%s)", type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(30.0, pause * 2)
                continue
            if not found:
                continue
            bodies = {str(one.update_id): one.to_dict() for one in found}
            try:
                fresh = await asyncio.to_thread(self.inbox.record, bodies)
            except SQLAlchemyError as error:
                # Not stored, so not confirmed: they come again with the next call.
                log.warning("database away (%s); fetching again", type(error).__name__)
                await asyncio.sleep(1)
                continue
            for one in found:
                if str(one.update_id) in fresh:
                    self._start(one)
            offset = found[-1].update_id + 1

    async def _work_off(self) -> None:
        """Handle what the web process stored."""
        while True:
            try:
                for body in await asyncio.to_thread(self.inbox.unhandled):
                    self._start(Update.de_json(body, self.bot))
                await asyncio.to_thread(self.inbox.wait, LOOK_SECONDS)
            except (RedisError, SQLAlchemyError) as error:
                log.warning("updates wait: %s", type(error).__name__)
                await asyncio.sleep(1)

    def _start(self, one: Update) -> None:
        if one.update_id in self._busy:
            return
        self._busy.add(one.update_id)
        task = asyncio.create_task(self._handle(one))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, one: Update) -> None:
        """Work an update off; what the network or Telegram delays is done again until it is."""
        pause = 1.0
        while True:
            try:
                async with self._gate:
                    if one.message:
                        await self._message(one, one.message)
                    elif one.callback_query:
                        await self._pressed(one, one.callback_query)
                    await asyncio.to_thread(self.inbox.handled, str(one.update_id))
                break
            except RetryAfter as error:
                await asyncio.sleep(later(error).seconds)
            except (BadRequest, Forbidden, ChatMigrated) as error:
                log.warning("update %d: %s", one.update_id, error)
                await asyncio.to_thread(self.inbox.handled, str(one.update_id))
                break
            except (TelegramError, SQLAlchemyError) as error:
                log.warning("update %d waits: %s", one.update_id, type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(30.0, pause * 2)
            except Exception as error:
                report(f"update {one.update_id} failed", error)
                await asyncio.to_thread(self.inbox.handled, str(one.update_id))
                break
        self._busy.discard(one.update_id)

    async def _message(self, one: Update, message: Message) -> None:
        text = message.text or ""
        private = message.chat.type == ChatType.PRIVATE
        if not message.from_user or not text or message.via_bot:
            return
        command = text.startswith("/")
        if command:
            addressed = text.split(maxsplit=1)[0].partition("@")[2]
            if addressed and addressed.lower() != (self.bot.username or "").lower():
                return
        elif not private:
            return
        name, given, faults = commands.from_text(text)
        if name == "start":
            await self._welcome(message)
            return
        if name not in commands.BY_NAME and not private:
            return
        ask = Ask(
            await self._asker(message.chat.id, message.chat.type, message.from_user),
            f"update:{one.update_id}",
            self._address(message),
            given,
            faults,
        )
        try:
            reply = await asyncio.to_thread(commands.run, self.house, name, ask)
        except UserError as error:
            await self._say(message, str(error))
            return
        except Exception as error:
            fault = report(f"/{name} failed", error)
            await self._say(
                message, f"Something went wrong here. Please try again. (fault {fault})"
            )
            return
        if reply.generation is None:
            await self._say(message, reply.text)
        elif reply.fresh:
            await self._card(reply, ask.address, message.message_id, note=name != "show")
        else:
            await self._say(message, f"#{reply.generation.id} is {reply.generation.state}.")

    async def _card(self, reply: Reply, address: Any, reply_to: int, *, note: bool = True) -> None:
        made = reply.generation
        assert made
        if note and made.message:
            return  # An update that came twice: its card stands already.
        card = await asyncio.to_thread(self.house.card, made)
        picture = await asyncio.to_thread(picture_of, self.house, card)
        try:
            sent = await telegram_cards.send(self.bot, address, card, picture, reply_to)
        except ChatMigrated as moved:
            address = {**address, "chat": moved.new_chat_id, "topic": None}
            sent = await telegram_cards.send(self.bot, address, card, picture, 0)
        if note:
            await asyncio.to_thread(
                self.house.generations.place, made, str(sent.message_id), address
            )

    async def _pressed(self, one: Update, query: CallbackQuery) -> None:
        message = query.message
        if message is None or not isinstance(message, Message):
            await query.answer("That message is too old; use /show.")
            return
        asker = await self._asker(message.chat.id, message.chat.type, query.from_user)
        ask = Ask(asker, f"update:{one.update_id}", self._address(message), {})
        try:
            action, number = pressed(query.data or "")
            reply = await asyncio.to_thread(commands.press, self.house, action, number, ask)
        except UserError as error:
            words, reply = str(error), None
        except Exception as error:
            words, reply = f"Something went wrong. (fault {report('button failed', error)})", None
        else:
            words = reply.text if reply else ""
        # A stale query (older than Telegram keeps it) is no fault: the button did its work.
        with contextlib.suppress(TelegramError):
            await query.answer(
                words[: CallbackQueryLimit.ANSWER_CALLBACK_QUERY_TEXT_LENGTH] or None,
                show_alert=bool(words),
            )
        if reply and reply.generation and reply.fresh:
            await self._card(reply, ask.address, message.message_id)

    async def _asker(self, chat: int, kind: str, user: Any) -> Asker:
        bare = Asker("telegram", str(user.id), user.full_name)
        moderator = self.house.moderates(bare)
        if not moderator and kind in (ChatType.GROUP, ChatType.SUPERGROUP):
            with contextlib.suppress(TelegramError):
                member = await self.bot.get_chat_member(chat, user.id)
                moderator = member.status in (
                    ChatMemberStatus.ADMINISTRATOR, ChatMemberStatus.OWNER
                )  # fmt: skip
        return Asker(bare.platform, bare.id, bare.name, moderator)

    @staticmethod
    def _address(message: Message) -> dict[str, Any]:
        # In a forum's General topic the thread id must not be sent.
        topic = message.message_thread_id if message.is_topic_message else None
        return {"chat": message.chat.id, "topic": topic}

    async def _say(self, message: Message, words: str) -> None:
        await self.bot.send_message(
            message.chat.id,
            telegram_cards.unmentioned(words)[: MessageLimit.MAX_TEXT_LENGTH],
            message_thread_id=self._address(message)["topic"],
            reply_parameters=ReplyParameters(message.message_id, allow_sending_without_reply=True),
        )

    async def _welcome(self, message: Message) -> None:
        await self.bot.send_message(
            message.chat.id,
            f"{WELCOME}\n<code>{html.escape('/imagine ' + EXAMPLE)}</code>",
            parse_mode="HTML",
            message_thread_id=self._address(message)["topic"],
            # A tap on a reply keyboard's key sends its words.
            reply_markup=ReplyKeyboardMarkup(
                [[f"/imagine {EXAMPLE}"]], resize_keyboard=True, one_time_keyboard=True
            ),
        )


async def _check() -> int:
    """Try the token, and say what is wrong. Raises InvalidToken."""
    bot = connect()
    try:
        await bot.get_me()
    except InvalidToken:
        raise
    except TelegramError:
        log.error("Telegram cannot be reached from here; check the network and TELEGRAM_API_URL.")
        return 1
    return 0


def main() -> int:
    """Run the bot until stopped; `--check` only says what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    checking = parser.parse_args().check
    logging.basicConfig(level=logging.INFO, format="telegram: %(message)s")
    if not read(Telegram).token.get_secret_value():
        if checking:
            return 0
        log.error("Set TELEGRAM_TOKEN in .env; the README says how to get one.")
        return 1
    if read(Telegram).webhook and not read(Web).public_url:
        log.error("TELEGRAM_WEBHOOK needs DRAWQUEUE_PUBLIC_URL, the address Telegram can reach.")
        return 1
    catalog.models()
    try:
        if checking:
            return asyncio.run(_check())
        asyncio.run(TelegramChat(open_house(), connect()).run())
    except InvalidToken:
        log.error("Telegram refuses TELEGRAM_TOKEN. Ask @BotFather for it and put it into .env.")
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
