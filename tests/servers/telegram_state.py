"""What a Telegram Bot API server remembers: chats, people, updates, rates; no network."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tests.servers.telegram_errors import Json, bad, forbidden, too_many
from tests.servers.telegram_files import Files
from tests.servers.telegram_objects import Chat, Message, Version
from tests.servers.telegram_params import Params

NOT_BY_DEFAULT = {"chat_member", "message_reaction", "message_reaction_count"}


@dataclass
class Limits:
    """The rates and ages in force; None switches one off."""

    overall_per_second: float | None = 30
    group_per_minute: float | None = 20
    private_per_second: float | None = 1
    private_burst: float = 5
    # Each call made during a penalty lengthens it by this many seconds.
    penalty_growth: float = 1
    callback_age: float = 15 * 60


@dataclass
class Fault:
    """A failure to inject."""

    method: str
    status: int
    description: str
    retry_after: int | None
    times: int
    after_applying: bool
    # Answered by a page of a server in between, which quotes the address.
    page: bool = False
    # With a status of 200: what was done is answered so late, and nothing else is wrong.
    seconds: float = 0.0


class Platform:
    """Everything one bot's platform knows."""

    def __init__(self, token: str, username: str) -> None:
        self.token = token
        self.me: Json = {
            "id": int(token.split(":")[0]),
            "is_bot": True,
            "first_name": "Test bot",
            "username": username,
        }
        self.privacy = True
        self.logged_out = False
        self.limits = Limits()
        self.ahead = 0.0
        self.chats: dict[int, Chat] = {}
        self.users: dict[int, Json] = {}
        self.files = Files(self.fresh)
        self.callbacks: dict[str, Json] = {}
        self.commands: dict[tuple[str, str], list[Json]] = {}
        self.about: dict[str, str] = {}
        self.updates: dict[int, Json] = {}
        self.pending: list[Json] = []
        self.again: list[Json] = []
        self.allowed: list[str] = []
        self.faults: list[Fault] = []
        self.sent: deque[float] = deque()
        self.next_update = 100001
        self.next_message = 1
        self.next_thing = 1
        self.notify: Callable[[], None] = lambda: None

    def now(self) -> float:
        """The platform's clock."""
        return time.time() + self.ahead

    def fresh(self) -> int:
        """A number never given before."""
        self.next_thing += 1
        return self.next_thing

    # Updates ------------------------------------------------------------------------------------

    def push(self, kind: str, payload: Json) -> Json:
        """Queue an update, unless the bot asked not to have its kind."""
        update: Json = {"update_id": self.next_update, kind: payload}
        self.updates[self.next_update] = update
        self.next_update += 1
        if kind in self.allowed or (not self.allowed and kind not in NOT_BY_DEFAULT):
            self.pending.append(update)
            self.notify()
        return update

    def confirm(self, offset: int) -> None:
        """Forget what an offset confirms."""
        if offset < 0:
            self.pending = self.pending[offset:]
        else:
            self.pending = [u for u in self.pending if u["update_id"] >= offset]

    def batch(self, limit: int) -> list[Json]:
        """The updates to hand out: redelivered ones, once, then all unconfirmed ones."""
        again, self.again = self.again, []
        return [*again, *self.pending][:limit]

    # Chats and limits ---------------------------------------------------------------------------

    def user(
        self, id: int, username: str | None = "", first_name: str | None = "",
        language_code: str | None = "",
    ) -> Json:  # fmt: skip
        """A person, remembered."""
        known = self.users.get(id, {"id": id, "is_bot": False, "first_name": f"User {id}"})
        if first_name:
            known["first_name"] = first_name
        if username:
            known["username"] = username
        if language_code:
            known["language_code"] = language_code
        self.users[id] = known
        return dict(known)

    def chat(self, p: Params, cost: int = 0) -> Chat:
        """The chat a call is about, if the bot may act there; cost is what it adds to the rate."""
        asked = p.text("chat_id")
        if not asked:
            raise bad("chat_id is empty")
        if asked.startswith("@"):
            named = [c for c in self.chats.values() if not c.private and c.username == asked[1:]]
            chat = named[0] if named else None
        else:
            chat = self.chats.get(int(asked)) if re.fullmatch(r"-?\d+", asked) else None
        if chat is None:
            raise bad("chat not found")
        if chat.migrated_to:
            what = "group chat was upgraded to a supergroup chat"
            raise bad(what, migrate_to_chat_id=chat.migrated_to)
        if not chat.started:
            raise forbidden("bot can't initiate conversation with a user")
        if chat.blocked:
            raise forbidden("bot was blocked by the user")
        if chat.kicked:
            raise forbidden(f"bot was kicked from the {chat.type} chat")
        if chat.left:
            raise forbidden(f"bot is not a member of the {chat.type} chat")
        if cost:
            self.charge(chat, cost)
        return chat

    def charge(self, chat: Chat, cost: int) -> None:
        """Count a send or an edit against the rates."""
        now, limits = self.now(), self.limits
        if chat.flood_until > now:
            chat.flood_until += limits.penalty_growth
            raise too_many(math.ceil(chat.flood_until - now))
        while self.sent and self.sent[0] <= now - 1:
            self.sent.popleft()
        while chat.recent and chat.recent[0] <= now - 60:
            chat.recent.popleft()
        wait = 0.0
        if limits.private_per_second and chat.private:
            burst = limits.private_burst
            held = burst if chat.tokens is None else chat.tokens
            held = min(burst, held + (now - chat.filled) * limits.private_per_second)
            spent = min(cost, burst)
            if held < spent:
                wait = (spent - held) / limits.private_per_second
            else:
                held -= spent
            chat.tokens, chat.filled = held, now
        elif limits.group_per_minute is not None and not chat.private:
            over = len(chat.recent) + cost - int(limits.group_per_minute)
            if over > 0:
                held_by = chat.recent[min(over, len(chat.recent)) - 1] if chat.recent else now
                wait = held_by + 60 - now
        if wait > 0:
            seconds = max(1, math.ceil(wait))
            chat.flood_until = now + seconds
            raise too_many(seconds)
        if limits.overall_per_second and len(self.sent) + cost > limits.overall_per_second:
            raise too_many(1)
        self.sent.extend([now] * cost)
        chat.recent.extend([now] * cost)

    def thread(self, p: Params, chat: Chat) -> int | None:
        """The topic a call names, which must exist; General has none."""
        thread = p.number("message_thread_id")
        if not thread:
            return None
        if thread == 1 or thread not in chat.topics:
            raise bad("message thread not found")
        return thread

    # Messages -----------------------------------------------------------------------------------

    def add(
        self,
        chat: Chat,
        sender: Json,
        version: Version,
        thread: int | None = None,
        topic: bool = False,
        reply_to: Message | None = None,
        group: str | None = None,
    ) -> Message:
        """Put a new message in a chat."""
        version.time = self.now()
        if chat.type in ("supergroup", "channel"):
            # These count for themselves: the same id in two chats is two messages.
            number = len(chat.messages) + 1
        else:
            number, self.next_message = self.next_message, self.next_message + 1
        message = Message(
            number, chat, sender, version.time, [version], thread, topic, reply_to, group
        )
        chat.messages[number] = message
        return message
