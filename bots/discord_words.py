"""The commands as Discord's own clients show them, in each language that there is.

A command is registered in English, with what other languages call it. Options keep their names:
flags, faults and the help call them so.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import discord
from discord import app_commands
from discord.app_commands import TranslationContextLocation as Where

from bots.discord_cards import HELP, cut
from core import commands
from core.languages import ENGLISH, closest, speaking, spoken, tr, trc

# What is chosen from a message's menu has room for so many characters.
MENU_NAME = 32
# What the words that one may choose for an option are in the catalogs.
CHOICE = "choice"
# As Discord wants a name, less the few scripts whose letters are made of several signs.
NAMED = re.compile(r"[-_\w]{1,32}")


def description(text: str) -> app_commands.locale_str:
    """What Discord shows beside a command or an option, cut in each language for itself."""
    return app_commands.locale_str(cut(text, HELP), whole=text)


def choice(option: str, value: str) -> str:
    """What is shown of a value that may be chosen: a word is said, a name stays what it is."""
    return trc(CHOICE, value) if value in words_of(option) else value


def meant(option: str, given: Any) -> Any:
    """The value that was given, also where it was typed as it is shown."""
    words = words_of(option)
    if not isinstance(given, str) or given in words:
        return given
    said = {choice(option, word).casefold(): word for word in words}
    return said.get(given.strip().casefold(), given)


def declared() -> Iterator[str]:
    """Every word that one may choose."""
    for command in commands.COMMANDS:
        for option in (*command.takes, *command.pictures):
            yield from words_of(option.name)


def words_of(option: str) -> tuple[str, ...]:
    """The words among the values of an option, where one of a few is to be chosen."""
    if option not in _choosing():
        return ()
    return tuple(one for one in commands.suggestions(option) if one.isalpha() and one.islower())


@cache
def _choosing() -> frozenset[str]:
    """The options of which every value is declared."""
    return frozenset(
        option.name for command in commands.COMMANDS for option in command.takes if option.choices
    )


class Words(app_commands.Translator):
    """Says the commands and what they take to Discord in another language, when they are synced."""

    async def translate(
        self, string: app_commands.locale_str, locale: discord.Locale, context: Any
    ) -> str | None:
        language = closest(locale.value)
        if language == ENGLISH:
            return None
        with speaking(language):
            said = _said(string, context)
        return said if said != string.message else None


def _said(string: app_commands.locale_str, context: Any) -> str:
    match context.location:
        case Where.command_name if isinstance(context.data, app_commands.ContextMenu):
            return cut(tr(string.message), MENU_NAME)
        case Where.command_name:
            # An alias stays what it is: two commands of one name are refused.
            command = commands.BY_NAME[string.message]
            known = commands.names(command) if string.message == command.name else {}
            return _name(known.get(spoken(), "")) or string.message
        case Where.command_description | Where.parameter_description:
            return cut(tr(string.extras["whole"]), HELP)
    return string.message


def _name(said: str) -> str:
    """A name as Discord takes it; empty where it takes none, for with one it refuses them all."""
    name = re.sub(r"\s+", "_", said.strip().lower())
    return name if NAMED.fullmatch(name) else ""
