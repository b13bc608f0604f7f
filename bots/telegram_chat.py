"""The Telegram bot: what comes in. Updates are recorded before they are confirmed.

Polling is our own loop over `getUpdates`, because python-telegram-bot confirms an update when it
fetches the next ones, whether or not it was stored: here the offset moves only past updates whose
rows are committed, and a row is handled once though it comes twice. With a webhook the web process
stores what Telegram sends it, and this one works it off.

An update is acted upon once; what is said to it is said again until Telegram took it.
"""

import argparse
import asyncio
import contextlib
import functools
import html
import logging
import sys
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from telegram import (
    Bot,
    BotCommand,
    CallbackQuery,
    MaybeInaccessibleMessage,
    Message,
    ReplyKeyboardMarkup,
    Update,
    User,
)
from telegram.constants import (
    BotCommandLimit,
    CallbackQueryLimit,
    ChatMemberStatus,
    ChatType,
    FileSizeLimit,
    MessageLimit,
)
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    EndPointNotFound,
    InvalidToken,
    RetryAfter,
    TelegramError,
)

from bots import telegram_cards, telegram_editing, telegram_pictures
from bots.pictures import beside, picture_of
from bots.poster import Place, Poster, hush, hushed
from bots.telegram_cards import TelegramDrawer, connect, hopeless, later, moved
from bots.telegram_pictures import Sent
from core import catalog, choosing, commands
from core.asking import Ask, Choice, Reply
from core.cards import ACTIONS, PAINT, QUESTIONS, TURNING, Button, pressed
from core.commands import COMMANDS, Command
from core.errors import NotFound, TryAgain, UserError, report
from core.generations import FIRST_EDITOR
from core.house import House, open_house
from core.inbox import CLAIM_SECONDS, Inbox
from core.languages import ENGLISH, LANGUAGES, mark, speak, speaking, tr, trn
from core.media import Source
from core.people import Asker
from core.policy import Audience
from core.rows import ASKED, Generation
from core.settings import HOOK, Telegram, Web, read
from core.supervisor import LEFT_OUT

log = logging.getLogger("drawqueue")

POLL_SECONDS = 25
LOOK_SECONDS = 5.0
# How soon what could not be done for want of the database is tried again.
AWAY_SECONDS = 2.0
# An album is whole when so long no more of it came.
ALBUM_SECONDS = 1.2
# How often an edit looks whether what was written before it is worked off.
EARLIER_SECONDS = 0.2
# The waits before a picture is fetched again; after the last there is none. Few are held at once.
FETCH_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
FETCHES_AT_ONCE = 4
THREADS = 16
AT_ONCE = 32
KINDS = ["message", "edited_message", "callback_query"]
EXAMPLE = "a red crown on a blue background"
WELCOME = mark(
    "Tell me what to draw: write it to me, or /imagine and what you want to see. "
    "Tap for an example:"
)


@dataclass(frozen=True)
class Answer:
    """What one update is answered with: words, and perhaps a generation's card.

    `own` says that the card which is sent is the generation's from then on; `answers`, that the
    words take the place of the question whose button was pressed; `turns`, that the whole answer
    does.
    """

    words: str = ""
    generation: Generation | None = None
    picture: bytes | None = None
    own: bool = True
    buttons: tuple[Button, ...] = ()
    answers: bool = False
    turns: bool = False
    # What may be chosen below the words.
    choices: tuple[Choice, ...] = ()
    # Who sees the card, wherever it was asked for.
    audience: Audience | None = None
    # What is sent as it is: what asks for other words of a picture, a link to paint on it.
    question: Mapping[str, Any] | None = None
    # Stored files that come after the words: names and keys.
    files: tuple[tuple[str, str], ...] = ()


# What an asker's command is given, and the pictures that come with it.
Bring = Callable[[Asker], Awaitable[tuple[Mapping[str, Any], tuple[Source, ...]]]]


class TelegramChat:
    """One bot: a fetcher that stores updates, and handlers that work them off."""

    def __init__(self, house: House, bot: Bot) -> None:
        self.house = house
        self.bot = bot
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._fetches = asyncio.Semaphore(FETCHES_AT_ONCE)
        self.inbox = Inbox(house.database, house.queue, "telegram")
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy: set[str] = set()
        self._mine: set[str] = set()
        # What is done with an update: the others of its album.
        self._together: dict[str, tuple[str, ...]] = {}

    async def run(self) -> None:
        """Serve until cancelled. Raises InvalidToken."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        self.house.registry.follow()
        while True:
            try:
                await self.bot.initialize()
                await self._tell_commands()
                await self._receive()
                break
            except InvalidToken:
                raise
            except TelegramError as error:
                log.warning("Telegram is out of reach (%s); trying again", type(error).__name__)
                await asyncio.sleep(3)
        log.info("on line as @%s", self.bot.username)
        poster = asyncio.create_task(Poster(self.house, [TelegramDrawer(self.bot)]).run())
        keeper = asyncio.create_task(self._keep())
        try:
            if read(Telegram).webhook:
                await self._work_off()
            else:
                for event in await asyncio.to_thread(self.inbox.unhandled):
                    self._start(event)
                await self._poll()
        finally:
            poster.cancel()
            keeper.cancel()

    async def _tell_commands(self) -> None:
        """Tell Telegram what each command does, in each language; a name is a-z everywhere."""
        for language in LANGUAGES:
            with speaking(language):
                told = [
                    BotCommand(one.name, tr(one.summary)[: BotCommandLimit.MAX_DESCRIPTION])
                    for one in COMMANDS
                ]
            # English is for whoever speaks none of the others.
            code = None if language == ENGLISH else language
            await self.bot.set_my_commands(told, language_code=code)

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
        # As Telegram sent them: an update that the library cannot read would hold up the others.
        warnings.filterwarnings("ignore", "Please use 'Bot.getUpdates'")
        offset, pause = 0, 1.0
        while True:
            asked = {"offset": offset, "timeout": POLL_SECONDS, "allowed_updates": KINDS}
            try:
                found: Any = await self.bot.do_api_request(
                    "getUpdates", asked, read_timeout=POLL_SECONDS + 10
                )
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
            except (InvalidToken, EndPointNotFound) as error:
                raise InvalidToken from error
            except TelegramError as error:
                log.warning("Telegram is out of reach (%s)", type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(30.0, pause * 2)
                continue
            if not found:
                continue
            bodies = {str(body["update_id"]): body for body in found}
            try:
                fresh = await asyncio.to_thread(self.inbox.record, bodies)
            except SQLAlchemyError as error:
                # Not stored, so not confirmed: they come again with the next call.
                log.warning("database away (%s); fetching again", type(error).__name__)
                await asyncio.sleep(1)
                continue
            for event in fresh:
                self._start(event)
            offset = found[-1]["update_id"] + 1

    async def _work_off(self) -> None:
        """Handle what the web process stored."""
        while True:
            try:
                for event in await asyncio.to_thread(self.inbox.unhandled):
                    self._start(event)
                await asyncio.to_thread(self.inbox.wait, LOOK_SECONDS)
            except (RedisError, SQLAlchemyError) as error:
                log.warning("updates wait: %s", type(error).__name__)
                await asyncio.sleep(1)

    def _start(self, event: str) -> None:
        if event in self._busy:
            return
        self._busy.add(event)
        task = asyncio.create_task(self._handle(event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, event: str) -> None:
        """Work an update off; one that cannot be read or answered holds up no other."""
        while not await asyncio.to_thread(self.inbox.claim, event):
            # Another process of this bot is at it; if that one dies, this one goes on.
            await asyncio.sleep(1)
        self._mine.add(event)
        try:
            await self._work(event)
        except TelegramError as error:
            log.warning("update %s: %s", event, error)
        except Exception as error:
            report(f"update {event} failed", error)
        others = self._together.pop(event, ())
        await self._insist(event, asyncio.to_thread, self.inbox.handled, event, *others)
        self._mine.discard(event)
        self._busy.discard(event)

    async def _keep(self) -> None:
        """Say all the while which updates are worked off here."""
        while True:
            await asyncio.sleep(CLAIM_SECONDS / 3)
            with contextlib.suppress(RedisError):
                await asyncio.to_thread(self.inbox.keep, list(self._mine))

    async def _insist(
        self, event: str, step: Callable[..., Awaitable[Any]], *given: Any, chat: int = 0
    ) -> Any:
        """Take a step, again after whatever Telegram, the network or the database delays.

        What is said in a `chat` waits for the end of any silence that Telegram asked for there,
        and the posters keep one that it asks for here. Raises TelegramError when taking the step
        again would not help.
        """
        pause = 1.0
        place = Place("telegram", str(chat))
        redis = self.house.queue.redis
        while True:
            with contextlib.suppress(RedisError):
                while chat and (left := await asyncio.to_thread(hushed, redis, place)):
                    await asyncio.sleep(left)
            try:
                async with self._gate:
                    return await step(*given)
            except RetryAfter as error:
                seconds = later(error).seconds
                if chat:
                    with contextlib.suppress(RedisError):
                        await asyncio.to_thread(hush, redis, place, seconds)
                await asyncio.sleep(seconds)
            except (TelegramError, SQLAlchemyError) as error:
                if isinstance(error, TelegramError) and hopeless(error):
                    raise
                log.warning("update %s waits: %s", event, type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(30.0, pause * 2)

    async def _work(self, event: str) -> None:
        # Read only now: whoever listed it may have looked just before it was handled.
        waiting = await self._insist(event, asyncio.to_thread, self.inbox.open, event)
        if waiting is None:
            return
        one = Update.de_json(waiting.body, self.bot)
        query, edited = one.callback_query, one.edited_message
        message = query.message if query else edited or one.message
        writes = _writer(message) if isinstance(message, Message) else None
        user = query.from_user if query else writes
        if user:
            # In this task, which is of one update.
            speak(await self._insist(event, asyncio.to_thread, self._speaks, message, user))
        if not isinstance(message, Message):
            if query:
                words = tr("That message is too old; use /show.")
                await self._insist(event, query.answer, words)
            return
        if before := not query and message.migrate_from_chat_id:
            # A group that became a supergroup.
            names = (f"telegram:chat:{id_}" for id_ in (before, message.chat.id))
            await self._insist(event, asyncio.to_thread, self.house.people.move, *names)
            return
        album = [message]
        if not query and not edited and message.media_group_id:
            album = await self._album(event, message)
        if not album:
            return
        if edited:
            act = await self._edited(event, message)
        else:
            act = (
                self._pressed(event, query, message) if query
                else self._said(event, message, album)
            )  # fmt: skip
        if act is None:
            return
        answer = await act() if waiting.words is None else Answer(waiting.words)
        if query:
            # What there is to choose next says it in its place.
            said = "" if answer.turns or answer.choices else answer.words
            await self._confirm(event, query, said)
        if query and answer.turns:
            turned = functools.partial(telegram_cards.turn, query, answer.words, answer.picture)
            with contextlib.suppress(BadRequest):
                await self._insist(event, turned, answer.buttons, chat=message.chat.id)
            return
        if query and answer.answers:
            # The question makes way for what was answered to it.
            edit = functools.partial(
                query.edit_message_text, telegram_cards.unmentioned(answer.words),
                reply_markup=telegram_cards.menu(answer.choices),
            )  # fmt: skip
            with contextlib.suppress(BadRequest):
                await self._insist(event, edit, chat=message.chat.id)
        if answer.generation or answer.question or (answer.words and not query):
            await self._send(event, message, answer)
        for name, key in answer.files:
            data = await asyncio.to_thread(self.house.media.load, key)
            hand = functools.partial(
                self.bot.send_document, message.chat.id, data, filename=name,
                read_timeout=telegram_cards.TAKEN_SECONDS,
            )  # fmt: skip
            await self._insist(event, hand, chat=message.chat.id)

    async def _album(self, event: str, message: Message) -> list[Message]:
        """The messages of an album in order, once no more of them come.

        One of them speaks for it; for the others this is empty, once that one is done.
        """
        place = ("message", "media_group_id")
        known: set[str] = set()
        while True:
            look = asyncio.to_thread, self.inbox.alike, place, message.media_group_id
            found = await self._insist(event, *look)
            if event not in found:
                return []
            if known == found.keys():
                read_ = [Update.de_json(body, self.bot).message for body in found.values()]
                order = sorted(filter(None, read_), key=lambda one: one.message_id)
                speaker = next((one for one in order if one.caption), order[0])
                if speaker.message_id == message.message_id:
                    self._together[event] = tuple(found)
                    return order
            known = set(found)
            await asyncio.sleep(ALBUM_SECONDS)

    def _said(
        self, event: str, message: Message, album: Sequence[Message]
    ) -> Callable[[], Awaitable[Answer]] | None:
        """What a message asks for; None when it is not meant for this bot."""
        # What is passed on has the words of somebody else.
        text = message.text or ("" if message.forward_origin else message.caption) or ""
        user = _writer(message)
        private = message.chat.type == ChatType.PRIVATE
        if not user or message.via_bot or not (text or telegram_pictures.holds(message)):
            return None
        if change := self._changed(event, message, text):
            return change
        if text.startswith("/"):
            addressed = text.split(maxsplit=1)[0].partition("@")[2]
            if addressed and addressed.lower() != (self.bot.username or "").lower():
                return None
        elif not private:
            # Who answers a picture with words alone may just be talking about it.
            return None
        own = [telegram_pictures.sent(one) for one in album if telegram_pictures.holds(one)]
        if not text:
            told = telegram_pictures.WHAT_FOR if all(own) else telegram_pictures.NO_PICTURE
            return functools.partial(_told, tr(told))
        name, given, faults = commands.from_text(text)
        if name not in commands.BY_NAME and not private:
            return None
        command = commands.BY_NAME.get(name)
        if command and telegram_pictures.takes_pictures(command) and not all(own):
            return functools.partial(_told, tr(telegram_pictures.NO_PICTURE))

        async def bring(asker: Asker) -> tuple[Mapping[str, Any], tuple[Source, ...]]:
            if command is None:
                return given, ()
            pictures = list(filter(None, own))
            return await self._brought(event, message, command, given, pictures, asker)

        def act(ask: Ask) -> Answer:
            if name == "start":
                return Answer(tr(WELCOME))
            if command and command.draws:
                # Whoever edits that message changes what comes of it.
                ask = replace(ask, address={**ask.address, ASKED: message.message_id})
            if not private and commands.BY_NAME[name].private:
                # Others may have read it.
                self.house.people.burn(str(given.get("code") or ""))
                return Answer(tr("Write /{name} to me alone, where nobody reads along.", name=name))
            replied = message.reply_to_message
            seen = telegram_pictures.card_in(replied, self.bot.id) if replied else None
            reply = commands.run(self.house, name, replace(ask, seen=seen))
            made = reply.generation
            if made and not reply.fresh:
                return Answer(reply.said)
            return self._shown(reply, ask.address, own=not commands.BY_NAME[name].shows)

        return functools.partial(
            self._act, f"/{name}", act, event, message, user, faults=faults, bring=bring
        )

    def _changed(
        self, event: str, message: Message, text: str
    ) -> Callable[[], Awaitable[Answer]] | None:
        """What the answer to a question for other words asks for; None for any other message."""
        number = telegram_editing.asked_in(message.reply_to_message, self.bot.id)
        command = commands.BY_NAME.get(commands.from_text(text)[0])
        if number is None or (command and not command.draws):
            return None

        def act(ask: Ask) -> Answer:
            return Answer(commands.change(self.house, number, text, ask).said)

        user = _writer(message)
        assert user
        return functools.partial(self._act, "an edit", act, event, message, user)

    async def _edited(
        self, event: str, message: Message
    ) -> Callable[[], Awaitable[Answer]] | None:  # fmt: skip
        """What somebody asks for who edited a message; None where nothing came of it before."""
        text, user = message.text or message.caption or "", _writer(message)
        if not user or not text:
            return None
        while await self._insist(event, asyncio.to_thread, self._earlier, event, message):
            await asyncio.sleep(EARLIER_SECONDS)
        if change := self._changed(event, message, text):
            return change
        chat = f"telegram:chat:{message.chat.id}"
        look = self.house.generations.asked_in, "telegram", str(user.id), chat
        made = await self._insist(event, asyncio.to_thread, *look, message.message_id)
        if not made:
            return None

        def act(ask: Ask) -> Answer:
            if len(made) > 1:
                raise UserError(
                    trn(
                        "That message asked for {n} picture: {edit} under it changes it.",
                        "That message asked for {n} pictures: {edit} under each changes it.",
                        len(made), edit=tr(ACTIONS["edit"]),
                    )
                )  # fmt: skip
            # The card shows what was done.
            commands.change(self.house, made[0].id, text, ask, whole=True)
            return Answer()

        return functools.partial(self._act, "an edit", act, event, message, user)

    def _earlier(self, event: str, message: Message) -> bool:
        """Whether what was written before in the same message is still to be worked off."""
        bodies = {
            other: body[kind]
            for kind in ("message", "edited_message")
            for other, body in self.inbox.alike(
                (kind, "message_id"), str(message.message_id)
            ).items()
        }
        return any(
            int(other) < int(event) and body.get("chat", {}).get("id") == message.chat.id
            for other, body in bodies.items()
        )

    async def _brought(
        self, event: str, message: Message, command: Command, given: Mapping[str, Any],
        own: Sequence[Sent], asker: Asker,
    ) -> tuple[Mapping[str, Any], tuple[Source, ...]]:  # fmt: skip
        """What a command was given, the message it answers included, and the pictures, stored.

        Raises UserError.
        """
        replied, card = message.reply_to_message, None
        if replied:
            card = telegram_pictures.card_in(replied, self.bot.id)
        shown = replied or message.external_reply
        answered = telegram_pictures.sent(shown) if shown else None
        if card and answered and telegram_pictures.takes_pictures(command):
            # Somebody else's is a picture like any other that stands in the chat.
            seen = await self._insist(event, asyncio.to_thread, self._sees, card, asker)
            card = card if seen else None
        found, files = telegram_pictures.meant(command, given, own, card, answered)
        return found, tuple([await self._fetched(event, one) for one in files])

    def _sees(self, number: int, asker: Asker) -> bool:
        try:
            self.house.generations.visible(number, asker)
        except NotFound:
            return False
        return True

    async def _fetched(self, event: str, picture: Sent) -> Source:
        """A picture that somebody sent, checked and stored. Raises UserError."""
        pauses = iter(FETCH_PAUSES)
        while True:
            try:
                async with self._fetches:
                    data = await self._insist(event, telegram_pictures.fetched, self.bot, picture)
                    return await asyncio.to_thread(self.house.uploads.keep, data)
            except TryAgain as away:
                pause = next(pauses, None)
                if pause is None:
                    raise UserError(str(away)) from away
                log.warning("update %s waits for its picture", event)
                await asyncio.sleep(pause)

    def _pressed(
        self, event: str, query: CallbackQuery, message: Message
    ) -> Callable[[], Awaitable[Answer]]:
        def act(ask: Ask) -> Answer:
            if (query.data or "").startswith(choosing.PREFIX):
                reply = commands.choose(self.house, query.data or "", ask)
                return Answer(reply.text, answers=True, choices=reply.choices)
            action, number = pressed(query.data or "")
            reply = commands.press(self.house, action, number, ask)
            if action in QUESTIONS:
                return Answer(reply.text, answers=True)
            if action in TURNING:
                return replace(self._shown(reply, ask.address), turns=True)
            if action == PAINT:
                # The link is the presser's alone, and a pop-up holds none.
                if message.chat.type == ChatType.PRIVATE:
                    return Answer(question={"text": reply.text})
                return Answer(
                    tr(
                        "Write /paint {number} to me alone, where nobody reads along.",
                        number=number,
                    )
                )
            if reply.edits:
                alone = message.chat.type == ChatType.PRIVATE
                user = query.from_user
                asks = telegram_editing.question(reply.edits, reply.text, user, alone=alone)
                return Answer(question=asks)
            return self._shown(reply, ask.address) if reply.fresh else Answer(reply.text)

        return functools.partial(self._act, "button", act, event, message, query.from_user)

    async def _act(
        self, what: str, act: Callable[[Ask], Answer], event: str, message: Message, user: User,
        faults: tuple[str, ...] = (), bring: Bring | None = None,
    ) -> Answer:  # fmt: skip
        """Act once, and find the answer to it, whatever came of it."""
        async with self._gate:
            asker = await self._asker(message.chat.id, message.chat.type, user)
        ask = Ask(
            asker, f"update:{event}", _address(message), {}, faults,
            most=FileSizeLimit.FILESIZE_UPLOAD,
        )  # fmt: skip
        try:
            if bring:
                given, pictures = await bring(asker)
                ask = replace(ask, given=given, pictures=pictures)
        except UserError as error:
            return Answer(str(error))
        except Exception as error:
            return _wrong(what, error)

        def work() -> Answer:
            answer = act(ask)
            if not (answer.generation or answer.buttons or answer.choices or answer.question):
                # What makes a card is known by its event and may be asked for twice. Not so
                # "cancel my newest": a crash between that and this note would do it again.
                with contextlib.suppress(SQLAlchemyError):
                    self.inbox.acted(event, answer.words)
            return answer

        while True:
            try:
                async with self._gate:
                    return await asyncio.to_thread(work)
            except TryAgain as error:
                # Telegram was told that we have it: it is done when the database is back.
                log.warning("update %s waits: %s", event, type(error).__name__)
                await asyncio.sleep(AWAY_SECONDS)
            except UserError as error:
                return Answer(str(error))
            except Exception as error:
                return _wrong(what, error)

    def _shown(
        self, reply: Reply, address: Mapping[str, Any], *, own: bool = True
    ) -> Answer:  # fmt: skip
        made = reply.generation
        if made is None or (own and made.message):
            return Answer(
                reply.text,
                buttons=reply.buttons,
                picture=beside(self.house, reply),
                choices=reply.choices,
                files=reply.files,
            )  # With a card: an update that came twice, and it stands.
        audience = Audience.of("telegram", address)
        picture = picture_of(self.house, self.house.card(made, audience))
        return Answer("", made, picture, own, audience=audience)

    async def _confirm(self, event: str, query: CallbackQuery, words: str) -> None:
        most = CallbackQueryLimit.ANSWER_CALLBACK_QUERY_TEXT_LENGTH
        # A stale query (older than Telegram keeps it) is no fault: the button did its work.
        with contextlib.suppress(BadRequest):
            await self._insist(event, query.answer, words[:most] or None, bool(words))

    async def _send(self, event: str, message: Message, answer: Answer) -> None:
        """Answer where it was asked, or where that group went since."""
        address, reply_to = _address(message), message.message_id
        if answer.generation and answer.own:
            address = dict(answer.generation.address)
        try:
            sent = await self._insist(
                event, self._say, answer, address, reply_to, chat=address["chat"]
            )
        except ChatMigrated as error:
            address = moved(address, error)
            sent = await self._insist(event, self._say, answer, address, 0, chat=address["chat"])
        made = answer.generation
        if made and answer.own and sent:
            note = self.house.showing.place
            await self._insist(event, asyncio.to_thread, note, made, str(sent.message_id), address)

    async def _say(
        self, answer: Answer, address: Mapping[str, Any], reply_to: int
    ) -> Message | None:
        """Send an answer; None where a poster has sent the card meanwhile."""
        made = answer.generation
        if made:
            if answer.own and not await asyncio.to_thread(self._first, made):
                return None
            card = await asyncio.to_thread(self.house.card, made, answer.audience)
            with speaking(made.language):
                return await telegram_cards.send(self.bot, address, card, answer.picture, reply_to)
        if answer.question:
            return await self.bot.send_message(
                address["chat"], message_thread_id=address["topic"],
                reply_parameters=telegram_cards.replying(reply_to), **answer.question,
            )  # fmt: skip
        if answer.words == tr(WELCOME):
            example = html.escape("/imagine " + EXAMPLE)
            return await self.bot.send_message(
                address["chat"], f"{html.escape(answer.words)}\n<code>{example}</code>",
                parse_mode="HTML", message_thread_id=address["topic"],
                # A tap on a reply keyboard's key sends its words.
                reply_markup=ReplyKeyboardMarkup(
                    [[f"/imagine {EXAMPLE}"]], resize_keyboard=True, one_time_keyboard=True
                ),
            )  # fmt: skip
        where = {
            "message_thread_id": address["topic"],
            "reply_parameters": telegram_cards.replying(reply_to),
        }
        words = telegram_cards.unmentioned(answer.words)
        if answer.picture:
            short = telegram_cards.units(words) <= MessageLimit.CAPTION_LENGTH
            buttons = telegram_cards.keyboard(answer.buttons) if short and answer.buttons else None
            file = await telegram_cards.small_photo(answer.picture)
            sent = await self.bot.send_photo(
                address["chat"], file, caption=words if short else None, reply_markup=buttons,
                read_timeout=telegram_cards.TAKEN_SECONDS, **where,
            )  # fmt: skip
            if short:
                return sent
        return await self.bot.send_message(
            address["chat"],
            telegram_cards.unmentioned(answer.words)[: MessageLimit.MAX_TEXT_LENGTH],
            message_thread_id=address["topic"],
            reply_parameters=telegram_cards.replying(reply_to),
            reply_markup=telegram_cards.keyboard(answer.buttons)
            if answer.buttons
            else telegram_cards.menu(answer.choices),
        )

    def _speaks(self, message: MaybeInaccessibleMessage | None, user: User) -> str:
        """What somebody set, or has their app in."""
        return self.house.speaks(_bare(message.chat.id if message else 0, user))

    def _first(self, made: Generation) -> bool:
        mine = self.house.showing.lease(made.id, FIRST_EDITOR)
        return mine and self.house.generations.get(made.id).message is None

    async def _asker(self, chat: int, kind: str, user: Any) -> Asker:
        # Only a group's administrators write in its name.
        known, moderator = self.house.known(_bare(chat, user)), user.id == chat < 0
        if not known.trusted and not moderator and kind in (ChatType.GROUP, ChatType.SUPERGROUP):
            with contextlib.suppress(TelegramError):
                member = await self.bot.get_chat_member(chat, user.id)
                moderator = member.status in (
                    ChatMemberStatus.ADMINISTRATOR, ChatMemberStatus.OWNER
                )  # fmt: skip
        return replace(known, moderator=moderator, keeper=moderator)


def _writer(message: Message) -> User | None:
    """Who wrote: a person, or the group or channel in whose name somebody did.

    For all who do that, anywhere, Telegram names the same few accounts, which are nobody.
    """
    if (name := message.sender_chat) is None:
        return message.from_user
    return User(name.id, name.effective_name or "", is_bot=False)


def _bare(chat: int, user: User) -> Asker:
    """Who writes, as their app tells of them."""
    return Asker(
        "telegram", str(user.id), user.full_name, chat=f"telegram:chat:{chat}",
        language=user.language_code or "",
    )  # fmt: skip


async def _told(words: str) -> Answer:
    return Answer(words)


def _wrong(what: str, error: Exception) -> Answer:
    fault = report(f"{what} failed", error)
    return Answer(tr("Something went wrong here. Please try again. (fault {fault})", fault=fault))


def _address(message: Message) -> dict[str, Any]:
    # In a forum's General topic the thread id must not be sent.
    topic = message.message_thread_id if message.is_topic_message else None
    return {"chat": message.chat.id, "topic": topic}


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
        return LEFT_OUT
    catalog.models()
    try:
        if checking:
            return asyncio.run(_check())
        asyncio.run(TelegramChat(open_house(), connect()).run())
    except InvalidToken:
        log.error("Telegram refuses TELEGRAM_TOKEN. Ask @BotFather for it and put it into .env.")
        return LEFT_OUT
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
