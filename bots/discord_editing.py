"""The modal in which a person changes the prompt and flags of a picture that waits."""

from typing import Any

import discord

from bots.discord_cards import HELP, PREFIX, TITLE, TOKEN_SECONDS, cut
from core.cards import Button, pressed
from core.errors import UserError
from core.languages import tr
from core.options import PROMPT_LIMIT, Mode
from core.writers import writer

# What a text field holds.
MOST = PROMPT_LIMIT
FIELD, BETTER = "words", "enhance"


def modal(number: int, line: str) -> discord.ui.Modal:
    """Shows what a picture is to be drawn from. Raises UserError for more than fits."""
    if len(line) > MOST:
        raise UserError(
            tr(
                "What #{number} is to be drawn from has {length} characters, and a window here has "
                "room for {most}. /edit {number} and new words change it all the same.",
                number=number, length=len(line), most=MOST,
            )
        )  # fmt: skip
    # Its id says all: any process knows it after any restart.
    made = discord.ui.Modal(
        title=cut(tr("Change #{number}", number=number), TITLE),
        custom_id=PREFIX + Button("edit", number, "").id, timeout=TOKEN_SECONDS,
    )  # fmt: skip
    made.add_item(
        discord.ui.Label(
            text=cut(tr("Prompt and flags"), TITLE),
            description=cut(tr("It keeps its place in line."), HELP),
            component=discord.ui.TextInput(
                custom_id=FIELD, style=discord.TextStyle.paragraph, default=line, max_length=MOST
            ),
        )
    )
    if writer(Mode.ENHANCE):
        made.add_item(
            discord.ui.Label(
                text=cut(tr("Enhance"), TITLE),
                description=cut(tr("Show me a better prompt, to use it or not."), HELP),
                component=discord.ui.Checkbox(custom_id=BETTER),
            )
        )
    return made


def submitted(told: Any) -> tuple[int, str, bool] | None:
    """The picture and its new words that a modal hands in, and whether they are to be enhanced;
    None of another modal."""
    try:
        action, number = pressed(str(told["custom_id"]).removeprefix(PREFIX))
    except UserError:
        return None
    fields = [part.get("component", {}) for part in told["components"]]
    given = {one.get("custom_id"): one.get("value") for one in fields}
    return (number, given.get(FIELD) or "", bool(given.get(BETTER))) if action == "edit" else None
