"""Changing what waits on Telegram: by answering a question, or by editing what one wrote."""

import html
import re
from typing import Any

from telegram import ForceReply, Message, User
from telegram.constants import MessageLimit

from bots.telegram_cards import units
from core.languages import tr

MARK = "✏️"
# How long what a bot asks may be in an empty field.
HINT = 64


def question(number: int, line: str, user: User, *, alone: bool) -> dict[str, Any]:
    """The arguments of a message that asks for other words; whoever answers it gives them.

    Where others read along only `user` is shown the answer's field, for which they are named.
    """
    name = f'<a href="tg://user?id={user.id}">{html.escape(user.full_name)}</a>'
    asks = (
        tr("answer this message with what is to be drawn.")
        if alone
        else tr("{person}, answer this message with what is to be drawn.", person=name)
    )
    text = f"{MARK} #{number}: {asks}"
    now = tr("It keeps its place in line. Now it is (tap to copy):")
    # What cannot be shown in one piece is left out; counted with its markup, which is longer.
    if units(f"{text} {now}\n<code>{{}}</code>{line}") <= MessageLimit.MAX_TEXT_LENGTH:
        text = f"{text} {now}\n<code>{html.escape(line)}</code>"
    hint = tr("New words for #{number}", number=number)[:HINT]
    return {
        "text": text,
        "parse_mode": "HTML",
        "reply_markup": ForceReply(selective=not alone, input_field_placeholder=hint),
    }


def asked_in(message: Message | None, bot: int) -> int | None:
    """The picture that a message of this bot asks about; None for any other message."""
    if message is None or not message.from_user or message.from_user.id != bot:
        return None
    found = re.match(rf"{MARK} #(\d{{1,9}}):", message.text or "")
    return int(found[1]) if found else None
