"""Card → Discord message. Discord's limits live here and nowhere else."""

import asyncio
import functools
import io
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import aiohttp
import discord
import yarl

from bots.pictures import fitted
from bots.poster import EDIT_SECONDS, Budget, Gone, Later, Moved, Refused
from bots.words import parted
from core.asking import Choice
from core.cards import Button, Card
from core.languages import mark, tr
from core.lifecycle import State
from core.policy import Show
from core.rows import Generation
from core.settings import Discord, read

# discord/discord-api-docs: resources/message.mdx, components/reference.mdx, reference.mdx
CONTENT = 2000
DESCRIPTION = 4096
FOOTER = 2048
# So much of a prompt stands above what is written for it.
ASKED = 300
ALT = 1024
LABEL = 80
# Of a modal and of its fields; what helps with those, and with commands and their options.
TITLE, HELP = 45, 100
FILE_BYTES = 10 * 1024 * 1024
TOKEN_SECONDS = 15 * 60
TOKEN_MARGIN = 30
PREFIX = "dq:"
# What is chosen from, its options and how long each one's words are.
MENU = "dqmenu"
OPTIONS, OPTION = 25, 100
PLACEHOLDER = mark("Choose")
# The token is dead, by another clock than ours, or has sent the five messages that it may where
# the bot itself is not on the server.
TOKEN_SPENT = (50027, 40094)
# The message is not there, or never was.
UNKNOWN_MESSAGE = 10008
# Edits of messages older than an hour are capped.
OLD_MESSAGE = 30046
# What is raised where Discord is away, and where it answers no besides. Not all of aiohttp's
# errors are OSErrors; a TimeoutError is one.
UNREACHED = (discord.DiscordServerError, aiohttp.ClientError, OSError)
UNSAID = (discord.HTTPException, *UNREACHED)

COLOURS = {
    State.QUEUED: 0x6B7280,
    State.GENERATING: 0x5865F2,
    State.WAITING: 0x6B7280,
    State.DONE: 0x22A06B,
    State.FAILED: 0xD97706,
    State.CANCELLED: 0x6B7280,
}
# What most want next stands out; the others are grey.
STYLES = {"retry": discord.ButtonStyle.primary, "agree": discord.ButtonStyle.success}
NOBODY = discord.AllowedMentions.none()
# What tells somebody who waited long that it is there.
PICTURE = mark("{person} your picture is here.")
TEXT = mark("{person} your text is here.")


def point_at_proxies() -> None:
    """Use the host's HTTP and gateway proxies where the settings name them."""
    settings = read(Discord)
    logging.getLogger("discord").setLevel(logging.WARNING)
    # No voice here: nobody needs to be told which library of it is missing.
    discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False
    if settings.api_url:
        discord.http.Route.BASE = settings.api_url.rstrip("/")
    if settings.gateway_url:
        discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(settings.gateway_url)


def cut(text: str, limit: int) -> str:
    """Text of at most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def plain(text: str, limit: int = CONTENT) -> str:
    """Words as they were written: no markup in them, and nobody pinged.

    discord.utils.escape_markdown leaves all links but the first as they are.
    """
    bracket = "\ue000"
    held = discord.utils.escape_mentions(text.replace("[", bracket))
    written = discord.utils.escape_markdown(held).replace(bracket, "\\[")
    # A picture's number at a line's start is no heading.
    return cut(re.sub(r"^\\(#\d)", r"\1", written, flags=re.MULTILINE), limit)


def embed(card: Card, picture: str | None) -> discord.Embed:
    """The card's body: the prompt as plain words, which ping nobody."""
    shown = plain(card.prompt, DESCRIPTION)
    if card.text:
        shown = "\n".join(filter(None, [asked(card), written(card, room_for(card))]))
    if card.better:
        better = plain(card.better, DESCRIPTION // 2)
        room = DESCRIPTION - len(better) - len(card.notice) - 4
        shown = f"{cut(shown, room)}\n\n{better}"
    if card.notice:
        shown = f"{cut(shown, DESCRIPTION - len(card.notice) - 2)}\n\n{card.notice}"
    made = discord.Embed(description=cut(shown, DESCRIPTION), colour=COLOURS[card.state])
    made.set_footer(text=cut(f"#{card.generation} · {card.details}", FOOTER))
    if picture:
        made.set_image(url=f"attachment://{picture}")
    return made


def asked(card: Card) -> str:
    """What was asked for, above what is written."""
    line = plain(" ".join(card.prompt.split()), ASKED)
    return f"> {line}" if line else ""


def room_for(card: Card) -> int:
    """How much of what is written has room in an embed."""
    beside = asked(card), card.notice
    return DESCRIPTION - sum(len(one) + 2 for one in beside if one)


def written(card: Card, room: int) -> str:
    """What is written, as it was: its beginning where there is no room for all of it, or its end
    as long as it grows."""
    return parted(card.text, room, plain_whole, end=card.live)


def plain_whole(text: str) -> str:
    """Words as they were written, however many."""
    return plain(text, len(text) * 4 + 1)


def whole(card: Card) -> tuple[str, bytes] | None:
    """All that was written as a file, where the card shows a part of it."""
    if card.live or not card.text or len(plain_whole(card.text)) <= room_for(card):
        return None
    return f"{card.generation}.txt", card.text.encode()


def bar(card: Card) -> str:
    """The status line, with a bar of ten while generating."""
    if card.ready and card.state == State.QUEUED:
        # Each reader's own clock counts down to it.
        return f"{card.status} · <t:{card.ready}:R>"
    if card.state != State.GENERATING or card.words:
        return card.status
    full = round(card.progress * 10)
    return f"{card.status}\n`{'█' * full}{'░' * (10 - full)}`"


def view(buttons: Sequence[Button]) -> discord.ui.View:
    """Buttons of a card or a question; what they do is found from their id alone."""
    made = discord.ui.View(timeout=None)
    for button in buttons:
        made.add_item(
            discord.ui.Button(
                label=cut(button.label, LABEL),
                custom_id=PREFIX + button.id,
                style=STYLES.get(button.action, discord.ButtonStyle.secondary),
                row=button.row,
            )
        )
    return made


def menu(choices: Sequence[Choice]) -> discord.ui.View:
    """What can be chosen, one of it; what that does is found from the value alone."""
    made = discord.ui.View(timeout=None)
    options = [
        discord.SelectOption(
            label=cut(one.label, OPTION), value=one.id, default=one.now,
            description=cut(one.help, OPTION) or None,
        )
        for one in choices[:OPTIONS]
    ]  # fmt: skip
    select: discord.ui.Select[discord.ui.View] = discord.ui.Select(
        custom_id=MENU, options=options, placeholder=cut(tr(PLACEHOLDER), OPTION)
    )
    made.add_item(select)
    return made


async def sized(picture: bytes | None, limit: int = FILE_BYTES) -> tuple[str, bytes] | None:
    """The picture as a file that Discord takes, made smaller beside the event loop."""
    return await asyncio.to_thread(fitted, picture, limit) if picture else None


def message(card: Card, file: tuple[str, bytes] | None) -> dict[str, Any]:
    """The arguments of one edit that shows the card, attachments replaced; good for one call.

    Of a card that keeps its preview only the status is another: embed and attachment stay.
    """
    if card.preview and not file:
        return {"content": bar(card), "allowed_mentions": NOBODY}
    files, name = [], None
    if text := whole(card):
        files.append(discord.File(io.BytesIO(text[1]), filename=text[0]))
    if file:
        name, data = file
        covered = card.show == Show.SPOILER
        files.append(
            discord.File(
                io.BytesIO(data), filename=name, description=cut(card.alt, ALT), spoiler=covered
            )
        )
        # In an embed nothing is covered: there it stands by itself.
        name = None if covered else name
    return {
        "content": bar(card),
        "embed": embed(card, name),
        "attachments": files,
        "view": view(card.buttons),
        "allowed_mentions": NOBODY,
    }


# Set while a card is edited: a 429 is then told to every poster, and not slept out in here.
_drawing: ContextVar[bool] = ContextVar("drawing", default=False)


async def _told_to_wait(_session: Any, _context: Any, told: aiohttp.TraceRequestEndParams) -> None:
    """Hand on the silence that Discord asks for. Raises Later.

    discord.py would sleep and try again, holding the chat, while other processes knew nothing.
    """
    if told.response.status != 429 or not _drawing.get():
        return
    everywhere = False
    try:
        said = await told.response.json()
        everywhere, seconds = bool(said.get("global")), float(said["retry_after"])
    except (aiohttp.ClientError, ValueError, KeyError, TypeError):
        # Not from Discord itself, but from what stands before it.
        asked = told.response.headers.get("Retry-After", "")
        seconds = float(asked) if asked.isdecimal() else 30.0
    raise Later(seconds, everywhere=everywhere)


class DiscordDrawer:
    """Edits cards by the interaction's token while it lives, then as the bot."""

    platform = "discord"
    # About five creates and edits in five seconds a channel: two are left to finals and answers.
    budget = Budget(3, 5)

    def __init__(self) -> None:
        self.client: discord.Client | None = None

    async def open(self) -> None:
        point_at_proxies()
        # Never connected to the gateway; `guilds` only quiets a warning.
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(_told_to_wait)
        fresh = discord.Client(intents=discord.Intents(guilds=True), http_trace=trace)
        try:
            await fresh.login(read(Discord).token.get_secret_value())
        except (discord.LoginFailure, *UNSAID) as error:
            await fresh.close()
            raise Refused if isinstance(error, discord.LoginFailure) else Later(5) from None
        old, self.client = self.client, fresh
        if old:
            await old.close()

    def chat(self, generation: Generation) -> str:
        return str(generation.address.get("channel", ""))

    async def draw(self, generation: Generation, card: Card, picture: bytes | None) -> Moved | None:
        address = generation.address
        assert self.client
        file = await sized(picture, int(address.get("limit") or FILE_BYTES))
        channel = self.client.get_partial_messageable(int(address["channel"]))
        hook = None
        if self._token_lives(address):
            hook = discord.Webhook.partial(
                int(address["application"]), str(address["token"]), client=self.client
            )
        editors: list[Callable[..., Awaitable[Any]]]
        if generation.message is None:
            editors = [channel.send]
            if hook:
                # As the bot where it can: the token sends five messages at most elsewhere.
                follow_up = functools.partial(hook.send, wait=True)
                editors.insert(1 if address.get("reachable") else 0, follow_up)
        else:
            number = int(generation.message)
            editors = [channel.get_partial_message(number).edit]
            if hook:
                editors.insert(0, functools.partial(hook.edit_message, number))
        for edit in editors:
            shown = message(card, file)
            if generation.message is None:
                shown["files"] = shown.pop("attachments")
            drawing = _drawing.set(True)
            try:
                # Shorter than an editor's lease: nobody else may begin before this one ended.
                sent = await asyncio.wait_for(edit(**shown), EDIT_SECONDS)
                return None if generation.message else Moved(address, str(sent.id))
            except discord.HTTPException as error:
                # The token edits what it sent, the bot what it sent: the other way in, then.
                shut = error.status in (403, 404) or error.code in TOKEN_SPENT
                if shut and edit is not editors[-1]:
                    continue
                if error.code == OLD_MESSAGE:
                    raise Later(30) from error
                if error.status == 401 and error.code not in TOKEN_SPENT:
                    raise Refused from error
                if 400 <= error.status < 500 and error.status not in (401, 429):
                    # Said again it would be refused again.
                    raise Gone(f"Discord answers {error.status} ({error.code})") from error
                raise Later(5) from error
            except UNREACHED as error:
                raise Later(5) from error
            finally:
                _drawing.reset(drawing)
        return None

    async def remove(self, generation: Generation) -> bool:
        address = generation.address
        if not address.get("channel"):
            raise Gone("nobody knows where it stands")
        assert self.client and generation.message
        removers: list[Callable[[], Awaitable[Any]]] = [self._partial(generation).delete]
        if self._token_lives(address):
            # What a token sent elsewhere, the bot itself cannot see.
            hook = discord.Webhook.partial(
                int(address["application"]), str(address["token"]), client=self.client
            )
            removers.append(functools.partial(hook.delete_message, int(generation.message)))
        for remove in removers:
            drawing = _drawing.set(True)
            try:
                await asyncio.wait_for(remove(), EDIT_SECONDS)
                return True
            except discord.HTTPException as error:
                if error.code == UNKNOWN_MESSAGE and remove is removers[-1]:
                    return True
                shut = error.status in (403, 404) or error.code in TOKEN_SPENT
                if shut and remove is not removers[-1]:
                    continue
                if error.status == 401 and error.code not in TOKEN_SPENT:
                    raise Refused from error
                if 400 <= error.status < 500 and error.status != 429:
                    raise Gone(f"Discord answers {error.status} ({error.code})") from error
                raise Later(5) from error
            except UNREACHED as error:
                raise Later(5) from error
            finally:
                _drawing.reset(drawing)
        return False

    async def mention(self, generation: Generation) -> None:
        assert self.client
        try:
            await self._partial(generation).reply(
                tr(
                    TEXT if generation.request.mode.words else PICTURE,
                    person=f"<@{generation.asker}>",
                ),
                allowed_mentions=discord.AllowedMentions(
                    users=[discord.Object(int(generation.asker))], replied_user=False
                ),
            )
        except UNSAID:
            # A courtesy: the card itself is there.
            return

    def _partial(self, generation: Generation) -> discord.PartialMessage:
        assert self.client and generation.message
        channel = self.client.get_partial_messageable(int(generation.address["channel"]))
        return channel.get_partial_message(int(generation.message))

    @staticmethod
    def _token_lives(address: Mapping[str, Any]) -> bool:
        return (
            bool(address.get("token"))
            and time.time() < float(address.get("until", 0)) - TOKEN_MARGIN
        )
