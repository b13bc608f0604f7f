"""People on Discord and Telegram: what they do and what they see, over wire-level servers."""

import base64
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import ROOT, Running, running
from tests.servers.plug import Plug

CHANNEL = "200"
ANN, BOB = "501", "502"
TELEGRAM_TOKEN = "123:TEST"
# A wrong second answer would come this soon after the first.
SECOND_THOUGHT = 0.3


@contextlib.contextmanager
def server(module: str, token: str) -> Iterator[str]:
    """A wire-level server in a process of its own; gives its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.servers.{module}", "--port", "0", "--token", token],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    try:
        yield process.stdout.readline().split()[1]
    finally:
        process.terminate()
        process.wait()


@dataclass
class Discord:
    """What a person does in Discord, and what they see."""

    door: httpx.Client
    drawqueue: Running

    def command(
        self, name: str, /, user: str = ANN, place: dict[str, Any] | None = None,
        unchecked: bool = False, **options: Any,
    ) -> str:  # fmt: skip
        answer = self.door.post("/control/command", json={
            "name": name, "options": options, "user_id": user, "unchecked": unchecked,
            **(place or {"channel_id": CHANNEL}),
        })  # fmt: skip
        assert answer.status_code == 200, answer.text
        return str(answer.json()["interaction_id"])

    def press(
        self, message: str, label: str, user: str = ANN, permissions: int = 0, stale: bool = False
    ) -> str:
        answer = self.door.post("/control/press", json={
            "message_id": message, "channel_id": CHANNEL, "label": label, "user_id": user,
            "permissions": str(permissions), "stale": stale,
        })  # fmt: skip
        assert answer.status_code == 200, answer.text
        return str(answer.json()["interaction_id"])

    def interaction(self, id_: str) -> dict[str, Any]:
        return dict(self.door.get(f"/control/interaction/{id_}").json())

    def answers(self, asked: str) -> list[dict[str, Any]]:
        """The messages an interaction was answered with that stand there and say something."""
        told = self.interaction(asked)
        # What a press or a modal leaves as it is, or changes, stood there before.
        new = [] if told["ack_type"] in (6, 7) else [told["original"]]
        return [one for one in (*new, *told["followups"]) if one and not one["deleted"]]

    def only_answer(self, asked: str) -> dict[str, Any]:
        """The one message that came of an interaction, after time for a second one."""
        self.until(lambda: self.answers(asked))
        time.sleep(SECOND_THOUGHT)
        (told,) = self.answers(asked)
        return told

    def messages(self, channel: str = CHANNEL) -> list[dict[str, Any]]:
        found = self.door.get("/control/messages", params={"channel_id": channel}).json()
        return list(found["messages"] if isinstance(found, dict) else found)

    def until(self, what: Callable[[], Any], seconds: float = 40) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := what():
                return found
            time.sleep(0.1)
        log = self.drawqueue.log.read_text()[-3000:]
        raise AssertionError(f"never came\n{self.messages()[-2:]}\n{log}")

    def card(
        self, prompt: str, words: str, seconds: float = 40, channel: str = CHANNEL
    ) -> dict[str, Any]:
        """The last message about a prompt once its newest version says these words."""

        def find() -> dict[str, Any] | None:
            for message in reversed(self.messages(channel)):
                last = message["versions"][-1]
                # An earlier one may be of the same test, which is tried once more.
                if prompt in " ".join(e.get("description") or "" for e in last["embeds"]):
                    return message if words in last["content"] else None
            return None

        return dict(self.until(find, seconds))


@contextlib.contextmanager
def on_discord(folder: Path, **environment: str) -> Iterator[Discord]:
    """A Discord, and a whole Drawqueue that talks to it."""
    with (
        server("discord_server", "TEST") as address,
        contextlib.closing(httpx.Client(base_url=address, timeout=60)) as door,
        running(
            folder / "home",
            DRAWQUEUE_MODEL="pattern",
            DISCORD_TOKEN="TEST",
            DISCORD_API_URL=f"{address}/api/v10",
            DISCORD_GATEWAY_URL=address.replace("http", "ws") + "/gateway",
            **environment,
        ) as drawqueue,
    ):
        made = Discord(door, drawqueue)
        made.until(lambda: "on line as" in drawqueue.log.read_text())
        yield made


# A chat of Telegram's has so many edits a minute: what comes after them comes in the next.
NEXT_MINUTE = 80


@dataclass
class Telegram:
    """What a person does in Telegram, and what they see."""

    door: httpx.Client
    drawqueue: Running

    def post(self, what: str, **body: Any) -> dict[str, Any]:
        answer = self.door.post(f"/control/{what}", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json() or {})

    def say(self, text: str, chat: int = 501, user: int = 501, **more: Any) -> dict[str, Any]:
        return self.post("user_message", chat_id=chat, user_id=user, text=text, **more)

    def send(
        self, picture: bytes, caption: str = "", chat: int = 501, user: int = 501, **more: Any
    ) -> dict[str, Any]:
        """Send a photo, as it comes from a phone."""
        return self.post(
            "photo_message", chat_id=chat, user_id=user, photo=base64.b64encode(picture).decode(),
            caption=caption, **more,
        )  # fmt: skip

    def attach(
        self, kind: str, data: bytes = b"", chat: int = 501, user: int = 501, **more: Any
    ) -> dict[str, Any]:
        """Send another kind of file."""
        return self.post(
            "file_message", chat_id=chat, user_id=user, kind=kind,
            data=base64.b64encode(data).decode(), **more,
        )  # fmt: skip

    def messages(self, chat: int = 501) -> list[dict[str, Any]]:
        found = self.door.get("/control/messages", params={"chat_id": chat}).json()["messages"]
        return [one for one in found if one["from_bot"] and not one["deleted"]]

    def pictures(self, chat: int = 501) -> list[dict[str, Any]]:
        return [one for one in self.messages(chat) if one["versions"][-1]["kind"] == "photo"]

    def until(self, what: Callable[[], Any], seconds: float = NEXT_MINUTE) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := what():
                return found
            time.sleep(0.1)
        log = self.drawqueue.log.read_text()[-2500:]
        raise AssertionError(f"never came\n{self.messages()[-2:]}\n{log}")

    def card(self, *words: str, chat: int = 501, seconds: float = NEXT_MINUTE) -> dict[str, Any]:
        """The newest message whose newest version says all these words."""

        def find() -> dict[str, Any] | None:
            for message in reversed(self.messages(chat)):
                told = shown(message["versions"][-1])
                if all(word in told for word in words):
                    return message
            return None

        return dict(self.until(find, seconds))

    def only_answer(
        self, text: str, chat: int = 501, user: int = 501, **more: Any
    ) -> dict[str, Any]:
        """The newest version of the one message that came of some words."""
        return self.only(lambda: self.say(text, chat, user, **more), chat)

    def only(self, act: Callable[[], Any], chat: int = 501) -> dict[str, Any]:
        """The newest version of the one message that came of something done."""
        before = len(self.messages(chat))
        act()
        self.until(lambda: len(self.messages(chat)) > before)
        time.sleep(SECOND_THOUGHT)
        (told,) = self.messages(chat)[before:]
        return dict(told["versions"][-1])

    def press(
        self, message: dict[str, Any], button: str, chat: int = 501, user: int = 501, **more: Any
    ) -> str:
        told = self.post(
            "press", chat_id=chat, user_id=user, message_id=message["message_id"], button=button,
            **more,
        )  # fmt: skip
        query = told["callback_query_id"]
        answer = self.until(
            lambda: self.door.get("/control/callback_answer", params={"id": query}).json()["answer"]
        )
        return str(answer.get("text") or "")


def shown(version: dict[str, Any]) -> str:
    return str(version.get("text") or version.get("caption") or "")


@contextlib.contextmanager
def on_telegram(folder: Path, **environment: str) -> Iterator[Telegram]:
    """A Bot API server, and a whole Drawqueue that talks to it."""
    with (
        server("telegram_server", TELEGRAM_TOKEN) as address,
        contextlib.closing(httpx.Client(base_url=address, timeout=60)) as door,
        running(
            folder / "home",
            DRAWQUEUE_MODEL="pattern",
            TELEGRAM_TOKEN=TELEGRAM_TOKEN,
            TELEGRAM_API_URL=f"{address}/bot",
            TELEGRAM_FILE_URL=f"{address}/file/bot",
            **environment,
        ) as drawqueue,
    ):
        made = Telegram(door, drawqueue)
        made.post("limits", private_per_second=None, group_per_minute=None)
        made.until(lambda: "on line as" in drawqueue.log.read_text())
        yield made


@contextlib.contextmanager
def wire() -> Iterator[tuple[httpx.Client, str]]:
    """A Bot API server of one's own, and the address of its bots."""
    with (
        server("telegram_server", TELEGRAM_TOKEN) as address,
        contextlib.closing(httpx.Client(base_url=f"{address}/control")) as door,
    ):
        yield door, f"{address}/bot"


@dataclass
class Everywhere:
    """A whole Drawqueue on both platforms, each behind a plug."""

    discord: Discord
    telegram: Telegram
    drawqueue: Running
    discord_plug: Plug
    telegram_plug: Plug
    # What its processes were told, for another one of them.
    environment: dict[str, str]

    @contextlib.contextmanager
    def another(self, module: str, log: Path) -> Iterator[subprocess.Popen[str]]:
        """One more process of its parts, beside those that run."""
        home = self.drawqueue.home
        told = {
            **os.environ, **self.environment, "DRAWQUEUE_HOME": str(home),
            "REDIS_URL": f"unix://{home / 'valkey.sock'}?db=0",
        }  # fmt: skip
        with log.open("w") as written:
            process = subprocess.Popen(
                [sys.executable, "-m", module], cwd=ROOT, env=told, stdout=written, stderr=written,
                text=True,
            )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


@contextlib.contextmanager
def everywhere(folder: Path, **environment: str) -> Iterator[Everywhere]:
    """A Discord, a Telegram, and a whole Drawqueue that talks to both through plugs."""
    discord_plug, telegram_plug = Plug(), Plug()
    environment = {
        "DRAWQUEUE_MODEL": "pattern",
        "DISCORD_TOKEN": "TEST",
        "DISCORD_API_URL": f"{discord_plug.address}/api/v10",
        "DISCORD_GATEWAY_URL": discord_plug.address.replace("http", "ws") + "/gateway",
        "TELEGRAM_TOKEN": TELEGRAM_TOKEN,
        "TELEGRAM_API_URL": f"{telegram_plug.address}/bot",
        "TELEGRAM_FILE_URL": f"{telegram_plug.address}/file/bot",
        **environment,
    }
    with (
        server("discord_server", "TEST") as discord_real,
        server("telegram_server", TELEGRAM_TOKEN) as telegram_real,
        contextlib.closing(httpx.Client(base_url=discord_real, timeout=60)) as discord_door,
        contextlib.closing(httpx.Client(base_url=telegram_real, timeout=60)) as telegram_door,
        contextlib.closing(discord_plug),
        contextlib.closing(telegram_plug),
    ):
        discord_plug.lead_to(discord_real)
        telegram_plug.lead_to(telegram_real)
        discord_door.post("/control/base", json={"base": discord_plug.address})
        with running(folder / "home", **environment) as drawqueue:
            telegram = Telegram(telegram_door, drawqueue)
            telegram.post("limits", private_per_second=None, group_per_minute=None)
            made = Everywhere(
                Discord(discord_door, drawqueue), telegram, drawqueue, discord_plug, telegram_plug,
                environment,
            )  # fmt: skip
            made.discord.until(lambda: drawqueue.log.read_text().count("on line as") >= 2)
            yield made
