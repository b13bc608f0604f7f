"""Each person on Discord and Telegram is spoken to in their language, over wire-level servers."""

import asyncio
import contextlib
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import discord
import httpx
import pytest
from babel.messages.catalog import Catalog
from PIL import Image
from sqlalchemy import update
from telegram import Bot as TelegramBot

from bots import discord_cards, discord_chat, poster, telegram_chat
from bots.discord_chat import Bot
from bots.poster import Poster
from bots.telegram_cards import TelegramDrawer
from bots.telegram_chat import TelegramChat
from core import languages, settings
from core.cards import ACTIONS
from core.commands import COMMANDS, NAME
from core.database import generations, now
from core.house import House
from core.languages import DOMAIN
from core.people import Asker
from tests.journeys.chats import TELEGRAM_TOKEN, server, shown, wire
from tests.languages import compiled
from tests.servers.discord_message_rules import walk

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ANN, BOB, CAT, DAN, GROUP = 501, 502, 503, 504, -1001
ALONE = "Write /{name} to me alone, where nobody reads along."
HERE = {"discord": "{person} your picture is here.", "telegram": "{person}, your picture is here."}
QUEUED, DONE = "queued (place {place}, no worker is on line)", "done in {time}"
IMAGINE = COMMANDS[0].summary
# By language: what is said of a text, or of a text in a context.
Said = Mapping[str, Mapping[str | tuple[str, str], str]]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Said], None]]:
    """Speak other languages than the house does."""

    def write(said: Said) -> None:
        for language, texts in said.items():
            catalog = Catalog(language, fuzzy=False)
            for text, told in texts.items():
                context, text = (None, text) if isinstance(text, str) else text
                catalog.add(text, told, context=context)
            path = tmp_path / language / "LC_MESSAGES" / f"{DOMAIN}.mo"
            path.parent.mkdir(parents=True)
            path.write_bytes(compiled(catalog))
        monkeypatch.setattr(languages, "CATALOGS", tmp_path)
        languages._catalog.cache_clear()

    yield write
    languages._catalog.cache_clear()


async def until(what: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := await what():
            return found
        await asyncio.sleep(0.02)
    raise AssertionError("never came")


def finish(house: House, number: int) -> None:
    """A picture that took so long that its asker is told of it."""
    with house.database.write() as connection:
        hour = now() - timedelta(hours=1)
        connection.execute(
            update(generations).where(generations.c.id == number).values(created=hour)
        )
    claimed = house.generations.claim(number)
    assert claimed
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, "PNG")
    key = house.media.save(number, "0.png", out.getvalue())
    assert house.generations.finish(claimed, [{"key": key}], 1.0)


# Discord -----------------------------------------------------------------------------------------


@pytest.fixture
def discord_wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Discord that this process's bot would talk to."""
    monkeypatch.setattr(discord.http.Route, "BASE", discord.http.Route.BASE)
    socket = discord.gateway.DiscordWebSocket
    monkeypatch.setattr(socket, "DEFAULT_GATEWAY", socket.DEFAULT_GATEWAY)
    with server("discord_server", "TEST") as address:
        monkeypatch.setenv("DISCORD_TOKEN", "TEST")
        monkeypatch.setenv("DISCORD_API_URL", f"{address}/api/v10")
        monkeypatch.setenv("DISCORD_GATEWAY_URL", address.replace("http", "ws") + "/gateway")
        settings._read.cache_clear()
        discord_cards.point_at_proxies()
        yield address


class Door:
    """What people do on that Discord, and what they see."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def do(self, what: str, **body: Any) -> str:
        answer = await self.http.post(f"/control/{what}", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["interaction_id"])

    async def command(self, name: str, user: int, locale: str, **options: Any) -> str:
        """What is answered to a command, whoever sees it."""
        unknown = name not in {one.name for one in COMMANDS}
        asked = await self.do(
            "command", name=name, options=options, user_id=str(user), locale=locale,
            channel_id="200", unchecked=unknown,
        )  # fmt: skip

        async def answered() -> str:
            told = (await self.http.get(f"/control/interaction/{asked}")).json()
            one = told["original"] or next(iter(told["followups"]), None)
            return str(one["content"]) if one and not one.get("loading") else ""

        return str(await until(answered))

    async def registered(self) -> dict[str, dict[str, Any]]:
        told = (await self.http.get("/control/commands")).json()[""]
        return {one["name"]: one for one in told}

    async def messages(self) -> list[dict[str, Any]]:
        return list((await self.http.get("/control/messages?channel_id=200")).json())


@contextlib.asynccontextmanager
async def on_line(house: House, address: str) -> AsyncIterator[Door]:
    async with httpx.AsyncClient(base_url=address, timeout=30) as http, Bot(house) as bot:
        task = asyncio.create_task(bot.start("TEST"))
        try:
            while not bot.is_ready():
                assert not task.done(), task.result()
                await asyncio.sleep(0.02)
            yield Door(http)
        finally:
            await bot.close()
            await task


@SQLITE
def test_discord_shows_the_commands_in_each_language(
    house: House, discord_wire: str, say: Callable[[Said], None]
) -> None:
    steps = next(one for one in COMMANDS[0].takes if one.name == "steps")
    say({
        "de": {
            IMAGINE: "Zeichne ein Bild. " * 9, steps.help: "Mehr dauern länger.",
            (NAME, "imagine"): "zeichne", (NAME, "queue"): "wer wartet?",
            "Remix this": "Neu zeichnen " * 3,
        },
        "es": {IMAGINE: "Dibuja.", (NAME, "imagine"): "imagina"},
        "ru": {(NAME, "imagine"): "нарисуй"},
    })  # fmt: skip

    async def story() -> None:
        async with on_line(house, discord_wire) as door:
            told = await door.registered()
            calls = (await door.http.get("/control/calls")).json()
        assert sum(one["method"] == "PUT" and "commands" in one["path"] for one in calls) == 1
        drawing = told["imagine"]
        assert drawing["name_localizations"] == {
            "de": "zeichne", "es-ES": "imagina", "es-419": "imagina", "ru": "нарисуй",
        }  # fmt: skip
        german = drawing["description_localizations"].pop("de")
        assert german.startswith("Zeichne ein Bild. ") and len(german) == 100
        assert drawing["description_localizations"] == dict.fromkeys(("es-ES", "es-419"), "Dibuja.")
        assert not told["queue"]["name_localizations"], "no name that Discord takes"
        assert not told["draw"]["name_localizations"], "an alias stays what it is"
        assert told["draw"]["description_localizations"]
        options = {one["name"]: one for one in drawing["options"]}
        assert not options["steps"].get("name_localizations"), "flags and faults call it so"
        assert options["steps"]["description_localizations"] == {"de": "Mehr dauern länger."}
        assert told["Remix this"]["name_localizations"]["de"] == "Neu zeichnen Neu zeichnen Neu z…"

    asyncio.run(story())


@SQLITE
def test_each_on_discord_is_answered_in_their_own_language(
    house: House, discord_wire: str, say: Callable[[Said], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poster, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(discord_chat, "LANGUAGE_SECONDS", 20)
    outdated = discord_chat.OUTDATED
    say({
        "de": {
            outdated: "Unbekannt.", HERE["discord"]: "{person} dein Bild ist da.",
            ("choice", "high"): "hoch", QUEUED: "wartet (Platz {place})", DONE: "fertig in {time}",
            ACTIONS["retry"]: "Nochmal",
        },
        "ru": {outdated: "Не знаю."},
    })  # fmt: skip
    house.tastes.set(Asker("discord", str(DAN)), "language", "de")

    async def story() -> None:
        async with on_line(house, discord_wire) as door:
            asked = [(ANN, "de"), (BOB, "ru"), (CAT, "pl"), (DAN, "en-US"), (CAT, "xx")] * 3
            told = await asyncio.gather(*(door.command("gone", who, tag) for who, tag in asked))
            assert told == ["Unbekannt.", "Не знаю.", outdated, "Unbekannt.", outdated] * 3
            # Words are shown in it, and understood.
            place = {"user_id": str(ANN), "locale": "de", "channel_id": "200"}
            offered = await door.http.post("/control/autocomplete", json={
                **place, "name": "imagine", "focused": "priority", "value": "ho", "options": {},
            })  # fmt: skip
            assert offered.json()["choices"] == [{"name": "hoch", "value": "high"}]
            card = await door.command("imagine", ANN, "de", prompt="a fox", priority="Hoch")
            assert card == "🕓 wartet (Platz 1)" and house.generations.get(1).priority == 2
            card = await door.command("imagine", BOB, "en-US", prompt="an owl")
            assert card == f"🕓 {QUEUED.format(place=2)}"
            # Drawn again by the poster, to whom nobody speaks.
            finish(house, 1)
            finish(house, 2)

            async def all_told() -> list[dict[str, Any]]:
                found = await door.messages()
                return found if sum(one["content"].startswith("<@") for one in found) == 2 else []

            told_now = {one["content"]: one for one in await until(all_told)}
            assert told_now.keys() >= {
                "✅ fertig in 1 s", f"<@{ANN}> dein Bild ist da.",
                "✅ done in 1 s", f"<@{BOB}> your picture is here.",
            }  # fmt: skip
            labels = [one["label"] for one in walk(told_now["✅ fertig in 1 s"]["components"])
                      if one.get("label")]  # fmt: skip
            assert "Nochmal" in labels and "Upscale 2×" in labels, labels

    asyncio.run(story())


# Telegram ----------------------------------------------------------------------------------------


@SQLITE
def test_each_on_telegram_is_answered_in_their_own_language(
    house: House, say: Callable[[Said], None]
) -> None:
    say({
        "de": {ALONE: "Schreib /{name} mir allein.", IMAGINE: "Zeichne ein Bild."},
        "ru": {
            ALONE: "Напиши /{name} мне.", HERE["telegram"]: "{person}, готово.",
            telegram_chat.WELCOME: "Что нарисовать? <3", DONE: "готово за {time}",
        },
    })  # fmt: skip
    house.tastes.set(Asker("telegram", str(DAN)), "language", "de")

    def write(person: int, tag: str, text: str, chat: int = GROUP) -> dict[str, Any]:
        told = door.post("/user_message", json={
            "chat_id": chat, "user_id": person, "text": text, "language_code": tag,
        })  # fmt: skip
        return dict(told.json())

    def answers(chat: int = GROUP) -> list[str]:
        told = door.get("/messages", params={"chat_id": chat}).json()["messages"]
        return [shown(one["versions"][-1]) for one in told if one["from_bot"]]

    async def handle(chat: TelegramChat, *updates: dict[str, Any]) -> None:
        events = {str(one["update_id"]): one for one in updates}
        chat.inbox.record(events)
        for event in events:
            chat._start(event)
        await asyncio.gather(*chat._tasks)

    async def story(url: str) -> None:
        async with TelegramBot(TELEGRAM_TOKEN, base_url=url) as bot:
            chat = TelegramChat(house, bot)
            await chat._tell_commands()
            asked = [(ANN, "ru"), (BOB, "de"), (CAT, "pl-PL"), (DAN, "en")]
            await handle(chat, *(write(who, tag, "/link") for who, tag in asked * 2))
            await handle(chat, write(ANN, "ru", "/start", ANN), write(CAT, "", "/start", CAT))
            await handle(chat, write(ANN, "ru", "a fox", ANN))
            finish(house, 1)
            drawn = Poster(house, [TelegramDrawer(bot)])
            drawn._open.add("telegram")
            await drawn.round()
            await asyncio.gather(*drawn._going.values())

    with wire() as (door, url):
        door.post("/limits", json={"private_per_second": None, "group_per_minute": None})
        asyncio.run(story(url))
        assert sorted(answers()) == sorted([
            "Напиши /link мне.", "Schreib /link mir allein.", "Schreib /link mir allein.",
            ALONE.format(name="link"),
        ] * 2)  # fmt: skip
        welcome, card, mention = answers(ANN)
        assert welcome.startswith("Что нарисовать? <3\n/imagine a red crown"), welcome
        assert card.startswith("✅ готово за 1 s\na fox") and mention == f"User {ANN}, готово."
        assert answers(CAT)[0].startswith(telegram_chat.WELCOME)
        known = {one["language_code"]: one["commands"] for one in door.get("/commands").json()}
    assert known.keys() == {"", "de", "es", "fr", "ru"}
    assert known["de"][0] == {"command": "imagine", "description": "Zeichne ein Bild."}
    assert known[""][0] == known["fr"][0] == {"command": "imagine", "description": IMAGINE}
