"""The Discord bot: what comes in. Acknowledged at once, then handed to core in a thread."""

import argparse
import asyncio
import contextlib
import functools
import inspect
import io
import logging
import re
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import discord
from discord import app_commands
from sqlalchemy.exc import SQLAlchemyError

from bots import discord_cards, discord_editing, discord_words
from bots.discord_cards import (
    ALT,
    HELP,
    MENU,
    NOBODY,
    PREFIX,
    TITLE,
    TOKEN_SECONDS,
    UNREACHED,
    UNSAID,
    cut,
    menu,
    message,
    plain,
    sized,
    view,
)
from bots.discord_pictures import FORGOTTEN, Brought, Pictures, Pointed
from bots.pictures import beside, picture_of
from bots.poster import Poster
from core import catalog, choosing, commands, drawing, phrases
from core.asking import Ask, Reply
from core.cards import ASIDE, Button, Card, pressed, show_of
from core.commands import COMMANDS, Command
from core.database import AWAY as DATABASE_AWAY
from core.errors import NotFound, UserError, report
from core.generations import FIRST_EDITOR
from core.house import House, open_house
from core.languages import closest, mark, speak, tr, trn
from core.lifecycle import State
from core.media import Source
from core.options import COMMAND_OF, PROMPT_LIMIT, Mode, Option
from core.people import Asker
from core.policy import Audience
from core.rows import Generation
from core.settings import Discord, read
from core.supervisor import LEFT_OUT

log = logging.getLogger("drawqueue")

THREADS = 32
CHOICES = PARAMETERS = 25
CHOICE = 100
# What a modal asks for, and how long that may be where it is no prompt.
ASKED = {"prompt": mark("Prompt"), "strength": mark("Strength")}
SHORT = 10
# How long one may look which language somebody set, which is known for a minute, before anything
# is answered.
LANGUAGE_SECONDS = 0.5
# How long one may look before a modal is shown, for which Discord waits three seconds.
LOOK_SECONDS = 1.0
# How long the words of a picture may be looked up, for which Discord waits as long.
WORDS_SECONDS = 2.0
# The options that take a picture's number.
NUMBERS = ("source", "id")
# Those that take several things at once.
LISTS = ("lora",)
UNREACHABLE = mark(
    "I cannot edit messages here later than 15 minutes after you asked. "
    "If it takes longer, fetch the picture with /show."
)
OUTDATED = mark("I do not know that command (any more). Reload Discord, then see /help.")
REFUSED = "Discord refuses DISCORD_TOKEN. Make a new one and put it into .env."
AWAY = "Discord cannot be reached from here; check the network and DISCORD_API_URL."
# Why an interaction cannot be answered, by Discord's code.
UNANSWERABLE = {
    40060: "another process answered it first; stop one of the two bots with this token",
    10062: "it came too late to be answered",
}
# The gateway's word for a token that is refused.
TOKEN_REFUSED = 4004
# After an outage of hours the library would wait for up to 17 minutes between two attempts.
MOST_PAUSE_SECONDS = 20.0

Interaction = discord.Interaction[Any]


class Backoff(discord.backoff.ExponentialBackoff[Any]):
    """The waits between attempts to reach the gateway, none of them long."""

    def delay(self) -> float:  # type: ignore[override]
        return min(float(super().delay()), MOST_PAUSE_SECONDS)


def _briefly(record: logging.LogRecord) -> bool:
    """Let the library tell of an outage in a line, without where in its code it noticed."""
    if record.exc_info and "reconnect" in record.getMessage():
        record.msg, record.args = "Discord is out of reach; " + str(record.msg), record.args
        record.exc_info = None
    return True


class Bot(discord.Client):
    """The gateway connection, the commands made from the table, and this process's poster."""

    def __init__(self, house: House) -> None:
        # Slash commands need no privileged intent.
        super().__init__(intents=discord.Intents(guilds=True), allowed_mentions=NOBODY)
        self.house = house
        self.pictures = Pictures(house)
        self.tree = Tree(
            self,
            allowed_installs=app_commands.AppInstallationType(guild=True, user=True),
            allowed_contexts=app_commands.AppCommandContext(
                guild=True, dm_channel=True, private_channel=True
            ),
        )
        for command in COMMANDS:
            for name in (command.name, *command.aliases):
                if name != "start":  # Telegram's word for help.
                    self.tree.add_command(_slash(self, command, name))
            if command.menu:
                self.tree.add_command(_menu(command))
        self.add_dynamic_items(CardButton, Menu)
        self._poster: asyncio.Task[None] | None = None

    async def setup_hook(self) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        catalog.models(), phrases.phrases()  # autocomplete answers from memory
        self.house.registry.follow()
        await self.tree.set_translator(discord_words.Words())
        await self.tree.sync()
        drawer = discord_cards.DiscordDrawer()
        self._poster = asyncio.create_task(Poster(self.house, [drawer]).run())

    async def on_interaction(self, interaction: Interaction) -> None:
        """Take the words of a modal by its id, which any process knows after any restart."""
        if interaction.type is discord.InteractionType.modal_submit:
            try:
                await _speak(interaction)
                await _worded(interaction)
            except UNSAID as error:
                if not _unheard(error):
                    report("a modal failed", error)

    async def on_ready(self) -> None:
        log.info("on line as %s", self.user)

    async def close(self) -> None:
        if self._poster:
            self._poster.cancel()
        await super().close()


class Tree(app_commands.CommandTree[Any]):
    """The commands; what the library refuses before one of ours runs is answered in words too."""

    async def interaction_check(self, interaction: Interaction, /) -> bool:
        # The first that is done in the task of a command.
        if interaction.type is discord.InteractionType.autocomplete:
            # From memory, and as Discord shows the rest of the command.
            speak(closest(interaction.locale.value))
        else:
            await _speak(interaction)
        return True

    async def on_error(
        self, interaction: Interaction, error: app_commands.AppCommandError, /
    ) -> None:
        if isinstance(error, app_commands.CommandNotFound | app_commands.CommandSignatureMismatch):
            words = tr(OUTDATED)
        elif _unheard(getattr(error, "original", error)):
            return
        else:
            words = _sorry(report("a command failed", error))
        if interaction.type is discord.InteractionType.autocomplete:
            return
        # Too late or answered already: then there is nobody to tell.
        with contextlib.suppress(discord.DiscordException):
            await interaction.response.send_message(words, ephemeral=True)


class CardButton(
    discord.ui.DynamicItem[discord.ui.Button[Any]], template=re.escape(PREFIX) + "(?P<what>.+)"
):
    """Any button of any card, rebuilt from its id after any restart."""

    def __init__(self, what: str) -> None:
        super().__init__(discord.ui.Button(label=what.split(":")[0], custom_id=PREFIX + what))
        self.what = what

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: Any, match: re.Match[str]
    ) -> "CardButton":
        return cls(match["what"])

    async def callback(self, interaction: Interaction) -> None:
        try:
            await _speak(interaction)
            await self._pressed(interaction)
        except UNSAID as error:
            if not _unheard(error):
                report("a button failed", error)

    async def _pressed(self, interaction: Interaction) -> None:
        try:
            action, number = pressed(self.what)
        except UserError as error:
            await interaction.response.send_message(str(error), ephemeral=True)
            return
        if action == "edit":
            await _show_words(interaction, number)
            return
        # Answered before the database is asked: it may be slow, Discord waits three seconds.
        await interaction.response.defer()
        bot = interaction.client

        def work() -> Reply:
            return commands.press(bot.house, action, number, _ask(interaction, {}))

        try:
            reply = await asyncio.to_thread(work)
        except UserError as error:
            await interaction.followup.send(plain(str(error)), ephemeral=True)
            return
        except Exception as error:
            fault = report(f"button {action} failed", error)
            await interaction.followup.send(_sorry(fault), ephemeral=True)
            return
        if action in ASIDE:
            await interaction.edit_original_response(**await _in_words(bot, reply, "pictures"))
        elif reply.text:
            await interaction.followup.send(plain(reply.text), ephemeral=True)
        if reply.generation and reply.fresh:
            await _send_after(interaction, reply.generation)


class Menu(discord.ui.DynamicItem[discord.ui.Select[Any]], template=re.escape(MENU)):
    """Whatever there is to choose from, rebuilt after any restart: each value says what it does."""

    def __init__(self) -> None:
        super().__init__(discord.ui.Select(custom_id=MENU))

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: Any, match: re.Match[str]
    ) -> "Menu":
        return cls()

    async def callback(self, interaction: Interaction) -> None:
        told: Any = interaction.data
        bot, id_ = interaction.client, str(next(iter(told.get("values") or [""])))
        try:
            await _speak(interaction)
            # Answered before the database is asked.
            await interaction.response.defer()
            try:
                reply = await asyncio.to_thread(
                    lambda: commands.choose(bot.house, id_, _ask(interaction, {}))
                )
            except UserError as error:
                await interaction.followup.send(plain(str(error)), ephemeral=True)
                return
            except Exception as error:
                fault = report("a choice failed", error)
                await interaction.followup.send(_sorry(fault), ephemeral=True)
                return
            await interaction.edit_original_response(
                content=plain(reply.text), view=menu(reply.choices) if reply.choices else None
            )
        except UNSAID as error:
            if not _unheard(error):
                report("a choice failed", error)


async def _show_words(interaction: Interaction, number: int) -> None:
    """Show the prompt and flags of a picture that waits, to be changed."""
    house: House = interaction.client.house
    try:
        look = asyncio.to_thread(commands.press, house, "edit", number, _ask(interaction, {}))
        # A modal is shown at once or not at all.
        reply = await asyncio.wait_for(look, WORDS_SECONDS)
        made = discord_editing.modal(number, reply.text)
    except TimeoutError:
        words = tr("I could not look at #{number} just now. Please press once more.", number=number)
    except UserError as error:
        words = str(error)
    except Exception as error:
        words = _sorry(report("button edit failed", error))
    else:
        await interaction.response.send_modal(made)
        return
    await interaction.response.send_message(plain(words), ephemeral=True)


async def _send_after(interaction: Interaction, generation: Generation) -> None:
    """Send a new card after what was pressed or handed in was answered."""

    async def send(values: dict[str, Any]) -> discord.Message:
        files = values.pop("attachments")
        return await interaction.followup.send(**values, files=files, wait=True)

    await _send(interaction.client, generation, interaction.filesize_limit, send)


async def _change(interaction: Interaction, number: int, text: str, enhance: bool) -> None:
    """Change a picture that waits; a poster redraws its card."""
    await interaction.response.defer()
    house: House = interaction.client.house

    def work() -> Reply:
        return commands.change(house, number, text, _ask(interaction, {}), enhance=enhance)

    try:
        reply = await asyncio.to_thread(work)
        if reply.generation and reply.fresh:
            await _send_after(interaction, reply.generation)
        return
    except UserError as error:
        words = str(error)
        if text not in words:
            # The modal is gone, and what somebody wrote in it with it.
            words = tr("{fault}\nYou wrote:\n{words}", fault=words, words=text)
    except Exception as error:
        words = _sorry(report("an edit failed", error))
    await interaction.followup.send(plain(words), ephemeral=True)


async def _speak(interaction: Interaction) -> None:
    """Speak in this task, which is of one interaction, what its asker set, or has their app in."""
    asker = _asker(interaction)
    speak(closest(asker.language))
    with contextlib.suppress(TimeoutError, SQLAlchemyError):
        looking = asyncio.to_thread(interaction.client.house.speaks, asker)
        speak(await asyncio.wait_for(looking, LANGUAGE_SECONDS))


def _asker(interaction: Interaction) -> Asker:
    user, channel = interaction.user, interaction.channel
    # A thread counts as its channel: limits are not dodged by opening more of them.
    place = channel.parent_id if isinstance(channel, discord.Thread) else interaction.channel_id
    roles = user.roles if isinstance(user, discord.Member) else []
    bare = Asker(
        "discord", str(user.id), user.display_name,
        chat=f"discord:channel:{place}",
        places=(
            *([f"discord:guild:{interaction.guild_id}"] if interaction.guild_id else []),
            f"discord:channel:{interaction.channel_id}",
            *(f"discord:role:{role.id}" for role in roles),
        ),
        language=str(interaction.locale.value),
    )  # fmt: skip
    here = interaction.guild_id is not None
    house: House = interaction.client.house
    may = interaction.permissions
    return replace(
        house.known(bare), moderator=here and may.manage_messages,
        keeper=here and may.manage_channels,
    )  # fmt: skip


def _reachable(interaction: Interaction) -> bool:
    """Whether the bot itself can edit here once the token is dead."""
    if interaction.guild_id is None:
        return interaction.context.dm_channel or interaction.is_guild_integration()
    may = interaction.app_permissions
    return interaction.is_guild_integration() and may.view_channel and may.send_messages


def _restricted(interaction: Interaction) -> bool:
    """Whether Discord makes sure that all who read here are grown up; a thread is as its channel.

    Of a channel that the library does not know it says no.
    """
    look = getattr(interaction.channel, "is_nsfw", None)
    return bool(look and look())


def _ask(
    interaction: Interaction, given: dict[str, Any], message: str | None = None,
    pictures: tuple[Source, ...] = (),
) -> Ask:  # fmt: skip
    channel = interaction.channel
    address = {
        "channel": str(interaction.channel_id),
        "parent": str(channel.parent_id) if isinstance(channel, discord.Thread) else "",
        "guild": str(interaction.guild_id or ""),
        "restricted": _restricted(interaction),
        "alone": interaction.guild_id is None and interaction.context.dm_channel,
        "application": str(interaction.application_id),
        "token": interaction.token,
        "until": time.time() + TOKEN_SECONDS,
        "limit": interaction.filesize_limit,
        "reachable": _reachable(interaction),
    }
    return Ask(
        _asker(interaction), str(interaction.id), address, given, message=message,
        pictures=pictures, most=interaction.filesize_limit,
    )  # fmt: skip


def _unheard(error: BaseException) -> bool:
    """Whether nobody can be told of an error, for it is just that; then it is logged in a line."""
    if isinstance(error, discord.HTTPException):
        why = UNANSWERABLE.get(error.code, "")
    else:
        why = f"{type(error).__name__} on the way" if isinstance(error, UNREACHED) else ""
    if not why:
        return False
    log.warning("an interaction is left: %s", why)
    return True


def _sorry(fault: str) -> str:
    return tr(
        "Something went wrong here. Please try again; if it stays, quote fault {fault}.",
        fault=fault,
    )


async def _send(
    bot: Bot, generation: Generation, limit: int,
    send: Callable[[dict[str, Any]], Awaitable[discord.Message]], *, note: bool = True,
    audience: Audience | None = None,
) -> Card:  # fmt: skip
    """Send a card and store where it is, so that any poster can redraw it."""

    card = await asyncio.to_thread(bot.house.card, generation, audience)
    if note and not await asyncio.to_thread(bot.house.showing.lease, generation.id, FIRST_EDITOR):
        return card  # A poster has it.
    picture = await asyncio.to_thread(picture_of, bot.house, card)
    sent = await send(message(card, await sized(picture, limit)))
    if note:
        await asyncio.to_thread(bot.house.showing.place, generation, str(sent.id))
    return card


async def _run(
    interaction: Interaction, command: Command, given: dict[str, Any],
    brought: Sequence[Brought] = (), pointed: Pointed | None = None,
) -> None:  # fmt: skip
    bot = interaction.client
    name, given = choosing.meant(command.name, given)
    command = commands.BY_NAME[name]
    named = _names_a_picture(command)
    try:
        if pointed and (pointed.card is None or not named):
            brought, pointed = pointed.only, None
        if pointed:
            given = {**given, named: str(pointed.card)}
        if command.mode:
            # Faults are found from memory, so that they are told to the asker alone.
            given = await _prechecked(interaction, command.mode, given, len(brought))
    except UserError as error:
        await interaction.response.send_message(plain(str(error)), ephemeral=True)
        return
    public = command.public
    thinking = await interaction.response.defer(ephemeral=not public, thinking=True)
    # From the row's first moment on it knows its card, whatever dies after that.
    card_is = str(thinking.message_id) if thinking and not command.shows else None
    try:
        seen = pointed.card if pointed else None
        if (
            pointed and not command.anybodys
            and not await asyncio.to_thread(_shown, interaction, pointed, command)
        ):  # fmt: skip
            # Somebody else's: then it is a picture like any other.
            brought = pointed.only
            del given[named]
        sources = await bot.pictures.keep(brought)
        ask = replace(_ask(interaction, given, card_is, sources), seen=seen)
        reply = await asyncio.to_thread(commands.run, bot.house, command.name, ask)
    except UserError as error:
        await _alone(interaction, str(error), public)
        return
    except Exception as error:
        await _alone(interaction, _sorry(report(f"/{command.name} failed", error)), public)
        return
    made = reply.generation
    if reply.buttons and public:
        await _alone(interaction, reply.text, public, reply.buttons)
    elif made is None:
        await interaction.edit_original_response(**await _in_words(bot, reply, command.name))
        for called, key in reply.files:
            data = await asyncio.to_thread(bot.house.media.load, key)
            file = discord.File(io.BytesIO(data), called)
            await interaction.followup.send(file=file, ephemeral=True)
    elif not reply.fresh:
        await _alone(interaction, reply.said, public)
    else:
        # It may have been drawn elsewhere: who reads here counts.
        audience = Audience.of("discord", ask.address)
        aside = command.shows and (not public or show_of(made, audience).hides)

        async def edit(values: dict[str, Any]) -> discord.Message:
            if aside and public:
                # To the asker alone, though a public answer was already promised.
                await interaction.delete_original_response()
                files = values.pop("attachments")
                return await interaction.followup.send(
                    **values, files=files, ephemeral=True, wait=True
                )
            return await interaction.edit_original_response(**values)

        shown = functools.partial(bot.house.showing.shown, made.id, FIRST_EDITOR)
        try:
            card = await _send(
                bot, made, interaction.filesize_limit, edit, note=False,
                audience=replace(audience, aside=aside),
            )  # fmt: skip
        except UNSAID as error:
            log.warning("#%d: its card comes later (%s)", made.id, type(error).__name__)
            await asyncio.to_thread(shown)
            return
        finally:
            if reply.others:
                # Not before: what is sent while "thinking" stands there would take its place.
                await asyncio.to_thread(bot.house.showing.release, reply.others)
        if card_is:
            await asyncio.to_thread(shown, version=card.version)
        if card.live and not _reachable(interaction):
            await interaction.followup.send(tr(UNREACHABLE), ephemeral=True)


async def _in_words(bot: Bot, reply: Reply, name: str) -> dict[str, Any]:
    """The arguments of one edit that shows an answer in words, with its picture and buttons."""
    drawn = await asyncio.to_thread(beside, bot.house, reply)
    files = []
    if drawn:
        told = ", ".join(name for name, _key in reply.small) or reply.text
        file = await sized(drawn)
        assert file
        ending = file[0].rpartition(".")[2]
        files = [discord.File(io.BytesIO(file[1]), f"{name}.{ending}", description=cut(told, ALT))]
    return {
        "content": plain(reply.text), "attachments": files,
        "view": view(reply.buttons) if reply.buttons
        else menu(reply.choices) if reply.choices else None,
    }  # fmt: skip


async def _prechecked(
    interaction: Interaction, mode: Mode, given: dict[str, Any], pictures: int
) -> dict[str, Any]:
    """The given options, found right from memory, or beside what the asker has set.

    Raises UserError.
    """
    try:
        return drawing.precheck(mode, given, pictures)
    except UserError as error:
        asked = interaction.client.house, _asker(interaction)
        try:
            looking = asyncio.to_thread(drawing.precheck, mode, given, pictures, asked)
            return await asyncio.wait_for(looking, LOOK_SECONDS)
        except (TimeoutError, *DATABASE_AWAY):
            raise error from None


async def _alone(
    interaction: Interaction, words: str, public: bool, buttons: Sequence[Button] = ()
) -> None:
    """Tell the asker alone, also where a public answer was already promised."""
    if public:
        await interaction.delete_original_response()
    await interaction.followup.send(plain(words), ephemeral=True, view=view(buttons))


def _names_a_picture(command: Command) -> str:
    """The option in which a command takes the number of a picture; empty where it takes none."""
    taken = {option.name for option in command.takes}
    return next((name for name in NUMBERS if name in taken), "")


def _shown(interaction: Interaction, pointed: Pointed, command: Command) -> bool:
    """Whether a card is one that the asker may see.

    Raises UserError where it has several and the command takes one.
    """
    assert pointed.card is not None
    house: House = interaction.client.house
    try:
        one = house.generations.visible(pointed.card, _asker(interaction))
    except NotFound:
        return False
    if one.state == State.DONE and len(one.results) > 1 and not command.shows:
        raise UserError(
            trn(
                "That message shows {n} picture. Press U{n} under it for the one you mean, "
                "and choose this on the message that comes.",
                "That message shows {n} pictures. Press U1 to U{n} under it for the one you mean, "
                "and choose this on the message that comes.",
                len(one.results),
            )
        )
    return True


def _menu(command: Command) -> app_commands.ContextMenu:
    """A command as it stands in the menu of a message, for the picture that is in it."""

    async def callback(interaction: Interaction, message: discord.Message) -> None:
        bot = interaction.client
        try:
            pointed = Pointed.at(message, bot.user.id)
            if command.draws:
                if pointed.card is not None:
                    # Before anybody writes words for it, if the database is quick enough.
                    with contextlib.suppress(TimeoutError):
                        looking = asyncio.to_thread(_shown, interaction, pointed, command)
                        await asyncio.wait_for(looking, LOOK_SECONDS)
                kept = await bot.pictures.remember(pointed)
                await interaction.response.send_modal(_modal(command, kept, pointed))
                return
        except UserError as error:
            await interaction.response.send_message(plain(str(error)), ephemeral=True)
            return
        await _run(interaction, command, {}, pointed=pointed)

    # The library looks at these.
    callback.__annotations__ = {"interaction": discord.Interaction, "message": discord.Message}
    return app_commands.ContextMenu(name=command.menu, callback=callback)


def _modal(command: Command, kept: str, pointed: Pointed) -> discord.ui.Modal:
    """Asks for the words that go with a picture."""
    made = discord.ui.Modal(
        title=cut(tr(command.menu), TITLE), custom_id=f"{PREFIX}{command.name}:{kept}",
        timeout=TOKEN_SECONDS,
    )  # fmt: skip
    for option in command.takes:
        if option.name not in ASKED:
            continue
        prompt = option.name == "prompt"
        made.add_item(
            discord.ui.Label(
                text=cut(tr(ASKED[option.name]), TITLE),
                description=cut(tr(option.help), HELP),
                component=discord.ui.TextInput(
                    custom_id=option.name,
                    style=discord.TextStyle.paragraph if prompt else discord.TextStyle.short,
                    # A picture of ours brings its own words along.
                    required=prompt and pointed.card is None,
                    max_length=PROMPT_LIMIT if prompt else SHORT,
                ),
            )
        )
    return made


async def _worded(interaction: Interaction) -> None:
    """Run the command that a modal was for."""
    told: Any = interaction.data
    if edit := discord_editing.submitted(told):
        await _change(interaction, *edit)
        return
    name, _, kept = str(told["custom_id"]).removeprefix(PREFIX).partition(":")
    command = commands.BY_NAME.get(name)
    try:
        if command is None or not command.menu:
            raise UserError(tr(FORGOTTEN))
        pointed = await interaction.client.pictures.recall(kept)
    except UserError as error:
        await interaction.response.send_message(str(error), ephemeral=True)
        return
    fields = [part.get("component", {}) for part in told["components"]]
    given = {one["custom_id"]: one["value"] for one in fields if one.get("value")}
    await _run(interaction, command, given, pointed=pointed)


def _along(command: Command, files: dict[str, discord.Attachment], given: dict[str, Any]) -> str:
    """What is wrong with which pictures were sent along, in words; empty where nothing is."""
    if not files:
        return ""
    if command.mode == Mode.BLEND:
        return ""
    first, *more = (option.name for option in command.pictures)
    address = drawing.ADDRESS.match(str(given.get("prompt") or "").strip())
    named = bool(given.get(_names_a_picture(command)) or address)
    if first in files and named:
        return tr(
            "Give the picture either as “{option}” or by its number or address, not both.",
            option=first,
        )
    alone = next((name for name in more if name in files and first not in files), "")
    if alone and not named and command.mode != Mode.STYLE:
        return tr(
            "Which picture is the {alone} for? Give it as “{option}”, or by its number.",
            alone=alone, option=first,
        )  # fmt: skip
    return ""


def _annotation(option: Option) -> Any:
    if option.kind is bytes:
        return discord.Attachment
    low, high = option.minimum, option.maximum
    if option.kind is int and low is not None and high is not None:
        return app_commands.Range[int, int(low), int(high)]
    if option.kind is float and low is not None and high is not None:
        return app_commands.Range[float, low, high]
    return option.kind


def _typed(command: Command) -> list[Option]:
    """What a slash command asks for, pictures beside the words: 25 are shown at most."""
    shown = [option for option in command.takes if not option.rare]
    if not command.pictures:
        return shown[:PARAMETERS]
    # A picture that was drawn here brings its words along.
    taken = [replace(option, required=False) for option in shown]
    words = 1 if command.draws else 0
    # What finds no place among them can be typed as a flag.
    return [*taken[:words], *command.pictures, *taken[words:]][:PARAMETERS]


def _slash(bot: Bot, command: Command, name: str) -> app_commands.Command[Any, Any, Any]:
    """A slash command derived from the table, its typed options from theirs."""

    async def callback(interaction: Interaction, **given: Any) -> None:
        # What we did not declare is told as a fault; the library would drop it in silence.
        told = {**vars(interaction.namespace), **given}
        names = [option.name for option in command.pictures]
        files = {
            name: told.pop(name) for name in names if isinstance(told.get(name), discord.Attachment)
        }
        told = {
            name: discord_words.meant(name, value)
            for name, value in told.items()
            if value is not None
        }
        try:
            if fault := _along(command, files, told):
                raise UserError(fault)
            brought = [Brought.of(files[name]) for name in names if name in files]
        except UserError as error:
            await interaction.response.send_message(plain(str(error)), ephemeral=True)
            return
        await _run(interaction, command, told, brought)

    parameters = [
        inspect.Parameter(
            "interaction", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=discord.Interaction
        )
    ]
    for option in _typed(command):
        kind = _annotation(option)
        if not option.required:
            kind = kind | None if isinstance(kind, type) else _optional(kind)
        missing = inspect.Parameter.empty if option.required else None
        parameters.append(
            inspect.Parameter(
                option.name, inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=missing, annotation=kind,
            )
        )  # fmt: skip
    callback.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    made: app_commands.Command[Any, Any, Any] = app_commands.Command(
        name=name,
        description=discord_words.description(command.summary),
        callback=callback,  # type: ignore[arg-type]
    )
    for option in _typed(command):
        made._params[option.name].description = discord_words.description(option.help)
        if option.name == "prompt" and command.name == COMMAND_OF[Mode.WRITE]:
            continue  # Words for pictures are none to be written about.
        if option.name == "prompt":
            made.autocomplete(option.name)(_complete_prompt)
        elif option.name in commands.CHANGING or commands.suggestions(option.name):
            made.autocomplete(option.name)(_complete(option.name, command.name))
    return made


def _optional(kind: Any) -> Any:
    import typing

    return typing.Optional[kind]  # noqa: UP045 — a Range is no type that `|` takes


def _complete(
    option: str, command: str
) -> Callable[[Interaction, str], Coroutine[Any, Any, list[app_commands.Choice[str]]]]:
    async def complete(interaction: Interaction, typed: str) -> list[app_commands.Choice[str]]:
        known = commands.suggestions(option, command)
        if option in choosing.PERSONAL:
            # What is known to all does, where the database is slow.
            with contextlib.suppress(TimeoutError, *DATABASE_AWAY):
                given = dict(vars(interaction.namespace))
                looking = asyncio.to_thread(
                    choosing.suggestions, interaction.client.house, option, _asker(interaction),
                    given,
                )  # fmt: skip
                known = await asyncio.wait_for(looking, LOOK_SECONDS)
        # Of several, with a comma between them, the last one is being typed.
        before, comma, last = typed.rpartition(",") if option in LISTS else ("", "", typed)
        wanted = last.strip().lower()
        said = {name: discord_words.choice(option, name) for name in known}
        found = [name for name in known if wanted in name.lower() or wanted in said[name].lower()]
        if comma:
            found = [f"{before.strip()}, {name}" for name in found]
        found = [one for one in found if len(one) <= CHOICE]
        return [
            app_commands.Choice(name=cut(said.get(one, one), CHOICE), value=one)
            for one in found[:CHOICES]
        ]

    return complete


async def _complete_prompt(
    _interaction: Interaction, typed: str
) -> list[app_commands.Choice[str]]:  # fmt: skip
    # A choice takes the place of all that was typed: none may be a part of it.
    found = [one for one in commands.completions(typed, CHOICES) if len(one) <= CHOICE]
    if found and typed.strip():
        # Who presses Enter on what they wrote gets what they wrote.
        found = [typed, *found]
    return [app_commands.Choice(name=one, value=one) for one in found[:CHOICES]]


async def _check(token: str) -> int:
    """Try the token, and say what is wrong."""
    client = discord.Client(intents=discord.Intents(guilds=True))
    try:
        await client.login(token)
    except discord.LoginFailure:
        log.error(REFUSED)
        return 1
    except UNSAID:
        log.error(AWAY)
        return 1
    finally:
        await client.close()
    return 0


def main() -> int:
    """Run the bot until stopped; `--check` only says what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    checking = parser.parse_args().check
    logging.basicConfig(level=logging.INFO, format="discord: %(message)s")
    token = read(Discord).token.get_secret_value()
    if not token and checking:
        return 0
    if not token:
        log.error("Set DISCORD_TOKEN in .env; the README says how to get one.")
        return 1
    discord_cards.point_at_proxies()
    if checking:
        return asyncio.run(_check(token))
    discord.client.ExponentialBackoff = Backoff  # type: ignore[attr-defined]
    logging.getLogger("discord.client").addFilter(_briefly)
    try:
        Bot(open_house()).run(token, log_handler=None)
    except (discord.LoginFailure, discord.ConnectionClosed) as error:
        if isinstance(error, discord.ConnectionClosed) and error.code != TOKEN_REFUSED:
            raise
        log.error(REFUSED)
        return LEFT_OUT
    except UNREACHED:
        log.error(AWAY)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
