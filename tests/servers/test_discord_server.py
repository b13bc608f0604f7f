"""The loopback Discord, tried with an unmodified discord.py client."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import discord
import pytest
import yarl
from discord import app_commands
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture()
def base() -> Iterator[str]:
    """A server process of its own."""
    command = [sys.executable, "-m", "tests.servers.discord_server", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--token", "TEST"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1]
    finally:
        process.terminate()
        assert process.wait(10) == 0


def png(size: tuple[int, int] = (20, 10)) -> discord.File:
    """A small picture."""
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "PNG")
    buffer.seek(0)
    return discord.File(buffer, "a.png", description="red")


class Bot(discord.Client):
    """A bot with one command per case."""

    def __init__(self) -> None:
        super().__init__(intents=discord.Intents.default())
        self.tree = app_commands.CommandTree(self)
        self.errors: list[discord.HTTPException] = []
        self.seen: list[discord.Interaction[Any]] = []
        self.is_up = asyncio.Event()
        self.resumes = asyncio.Event()

    async def on_ready(self) -> None:
        self.is_up.set()

    async def on_resumed(self) -> None:
        self.resumes.set()

    async def setup_hook(self) -> None:
        @self.tree.command(description="Draw")
        async def draw(
            interaction: discord.Interaction[Any],
            prompt: str,
            steps: app_commands.Range[int, 1, 50] = 20,
        ) -> None:
            self.seen.append(interaction)
            await interaction.response.defer()
            view = discord.ui.View(timeout=None)
            view.add_item(discord.ui.Button(label="Again", custom_id="again:1"))
            await interaction.edit_original_response(
                content=f"{prompt} {steps}", attachments=[png()], view=view
            )

        @draw.autocomplete("prompt")
        async def offer(
            _: discord.Interaction[Any], current: str
        ) -> list[app_commands.Choice[str]]:
            return [app_commands.Choice(name=current + "!", value=current)]

        @self.tree.command(description="Slow")
        async def slow(interaction: discord.Interaction[Any]) -> None:
            await asyncio.sleep(0.5)
            await self.keep(interaction.response.send_message("late"))

        @self.tree.command(description="Twice")
        async def twice(interaction: discord.Interaction[Any]) -> None:
            await interaction.response.send_message("once", ephemeral=True)
            data = {"type": 4, "data": {"content": "twice"}}
            path = "/interactions/{i}/{t}/callback"
            route = discord.http.Route("POST", path, i=interaction.id, t=interaction.token)
            await self.keep(self.http.request(route, json=data))

        await self.tree.sync()

    async def on_interaction(self, interaction: discord.Interaction[Any]) -> None:
        if interaction.type is discord.InteractionType.component:
            await interaction.response.edit_message(content="pressed", view=None)

    async def keep(self, call: Awaitable[Any]) -> None:
        try:
            await call
        except discord.HTTPException as error:
            self.errors.append(error)


class Door:
    """The control door."""

    def __init__(self, base: str, http: aiohttp.ClientSession) -> None:
        self.base, self.http = base, http

    async def __call__(self, name: str, expect: int = 200, /, **body: Any) -> Any:
        async with self.http.post(f"{self.base}/control/{name}", json=body) as answer:
            assert answer.status == expect, await answer.text()
            return await answer.json(content_type=None)

    async def get(self, path: str) -> Any:
        async with self.http.get(f"{self.base}/control/{path}") as answer:
            return await answer.json(content_type=None)

    async def until(self, path: str, test: Callable[[Any], Any]) -> Any:
        for _ in range(300):
            got = await self.get(path)
            if test(got):
                return got
            await asyncio.sleep(0.02)
        raise AssertionError(f"{path} never came to be as expected: {got}")


def play(
    base: str, monkeypatch: pytest.MonkeyPatch, story: Callable[[Bot, Door], Awaitable[None]]
) -> None:
    """Run a story with a connected bot."""
    monkeypatch.setattr(discord.http.Route, "BASE", f"{base}/api/v10")
    gateway = yarl.URL(base.replace("http", "ws") + "/gateway")
    monkeypatch.setattr(discord.gateway.DiscordWebSocket, "DEFAULT_GATEWAY", gateway)

    async def run() -> None:
        async with aiohttp.ClientSession() as http, Bot() as bot:
            task = asyncio.create_task(bot.start("TEST"))
            await asyncio.wait_for(bot.is_up.wait(), 8)
            door = Door(base, http)
            await asyncio.wait_for(story(bot, door), 15)
            assert await door.get("calls?unknown=1") == []
            await bot.close()
            await task

    asyncio.run(run())


def test_command_defer_edit_and_press(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(bot: Bot, door: Door) -> None:
        await door("command", 400, name="draw", options={"prompt": "x", "steps": 51}, user_id=7)
        await door("command", 400, name="draw", options={}, user_id=7)
        sent = await door("command", name="draw", options={"prompt": "a cat"}, user_id=7)
        path = f"interaction/{sent['interaction_id']}"
        shown = await door.until(path, lambda i: i["original"] and not i["original"]["loading"])
        assert shown["ack_type"] == 5
        assert shown["acked"] < 1
        original = shown["original"]
        assert original["content"] == "a cat 20"
        picture = original["attachments"][0]
        assert (picture["width"], picture["height"], picture["description"]) == (20, 10, "red")
        assert picture["content_type"] == "image/png"
        async with door.http.get(picture["url"]) as answer:
            assert len(await answer.read()) == picture["size"]
        await door("press", 400, message_id=original["id"], label="Nope", user_id=7)
        await door("press", message_id=original["id"], label="Again", user_id=7)
        await door.until("messages?channel_id=200", lambda m: m[0]["content"] == "pressed")
        assert [v["route"] for v in (await door.get("messages"))[0]["versions"]] == [
            "interaction",
            "webhook",
            "interaction",
        ]

    play(base, monkeypatch, story)


def test_autocomplete_and_double_ack(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(bot: Bot, door: Door) -> None:
        got = await door("autocomplete", name="draw", focused="prompt", value="c", user_id=7)
        assert [c["name"] for c in got["choices"]] == ["c!"]
        await door("command", name="twice", user_id=7, dm=True)
        await door.until("calls", lambda _: bot.errors)
        assert (bot.errors[0].status, bot.errors[0].code) == (400, 40060)
        assert (await door.get("messages"))[0]["ephemeral"] is True

    play(base, monkeypatch, story)


def test_deadlines(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(bot: Bot, door: Door) -> None:
        await door("command", name="slow", user_id=7)
        await door("clock", advance=3)
        await door.until("calls", lambda _: bot.errors)
        assert (bot.errors[0].status, bot.errors[0].code) == (404, 10062)
        sent = await door("command", name="draw", options={"prompt": "x"}, user_id=7)
        path = f"interaction/{sent['interaction_id']}"
        await door.until(path, lambda i: i["original"] and not i["original"]["loading"])
        await door("clock", advance=901)
        await bot.keep(bot.seen[-1].edit_original_response(content="y"))
        assert (bot.errors[1].status, bot.errors[1].code) == (401, 50027)

    play(base, monkeypatch, story)


def test_messages(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(bot: Bot, door: Door) -> None:
        await door("limits", file_size=5000, old_edits=[1, 60], old_edit_retry_after=0.01)
        channel = bot.get_channel(200)
        assert isinstance(channel, discord.TextChannel)
        with pytest.raises(discord.HTTPException) as caught:
            await channel.send(file=discord.File(io.BytesIO(b"0" * 5001), "big.bin"))
        assert (caught.value.status, caught.value.code) == (413, 40005)
        one = await channel.send("<@7> <@8>", files=[png(), png((3, 4))])
        kept = await one.edit(attachments=[one.attachments[1]])
        assert [a.width for a in kept.attachments] == [3]
        assert (await door.get("messages?channel_id=200"))[0]["versions"][0]["pings"]["users"] == [
            "7",
            "8",
        ]
        with pytest.raises(discord.HTTPException) as caught:
            await channel.send(view=two_same())
        assert "components.0.components.1.custom_id" in str(caught.value)
        await door("limits", messages=[100, 1.0])
        await door("clock", advance=3700)
        await one.edit(content="old")
        with pytest.raises(discord.HTTPException) as caught:
            await one.edit(content="older")
        assert caught.value.code == 30046
        await door("permissions", channel_id=200, deny=["SEND_MESSAGES"])
        with pytest.raises(discord.Forbidden) as caught:
            await channel.send("x")
        assert caught.value.code == 50013
        await door("permissions", user_id=7, dm_closed=True)
        with pytest.raises(discord.Forbidden) as caught:
            await (await bot.fetch_user(7)).send("x")
        assert caught.value.code == 50007

    play(base, monkeypatch, story)


def two_same() -> discord.ui.View:
    """Two buttons with one custom id."""
    view = discord.ui.View(timeout=None)
    for _ in range(2):
        view.add_item(discord.ui.Button(label="x", custom_id="same"))
    return view


def test_bucket_429_and_resume(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(bot: Bot, door: Door) -> None:
        await door("limits", messages=[2, 0.5])
        channel = bot.get_channel(200)
        assert isinstance(channel, discord.TextChannel)
        start = asyncio.get_running_loop().time()
        for n in range(5):
            await channel.send(str(n))
        assert asyncio.get_running_loop().time() - start > 0.9
        assert all(c["status"] != 429 for c in await door.get("calls"))
        await door("fail", method="POST", path_regex="messages$", status=429, retry_after=0.1)
        await channel.send("again")
        assert sum(c["status"] == 429 for c in await door.get("calls")) == 1
        await door("disconnect", op=7)
        await asyncio.wait_for(bot.resumes.wait(), 8)
        view = discord.ui.LayoutView(timeout=None)
        view.add_item(discord.ui.TextDisplay("hello <@7>"))
        view.add_item(
            discord.ui.MediaGallery(discord.MediaGalleryItem("attachment://a.png", description="d"))
        )
        await channel.send(view=view, file=png())
        last = (await door.get("messages?channel_id=200"))[-1]
        assert last["v2"]
        assert last["pings"]["users"] == ["7"]
        assert last["components"][1]["items"][0]["media"]["width"] == 20

    play(base, monkeypatch, story)
