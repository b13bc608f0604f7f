"""The loopback Discord, tried with an unmodified discord.py client."""

from __future__ import annotations

import asyncio
import base64
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

from tests.servers.discord_command_rules import check_commands
from tests.servers.discord_errors import ApiError

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
        self.modals: list[discord.ui.Modal] = []
        self.pointed: list[discord.Message] = []

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

        @self.tree.command(description="Look")
        async def look(interaction: discord.Interaction[Any], picture: discord.Attachment) -> None:
            self.seen.append(interaction)
            told = f"{picture.width} {picture.ephemeral} {len(await picture.read())}"
            await interaction.response.send_message(told)

        async def point(interaction: discord.Interaction[Any], message: discord.Message) -> None:
            self.pointed.append(message)
            for modal in self.modals:
                await self.keep(interaction.response.send_modal(modal))

        self.tree.add_command(app_commands.ContextMenu(name="Point at", callback=point))
        await self.tree.sync()

    async def on_interaction(self, interaction: discord.Interaction[Any]) -> None:
        if interaction.type is discord.InteractionType.component:
            await interaction.response.edit_message(content="pressed", view=None)

    async def refused(self, method: str, path: str, body: Any) -> str:
        """The code, and where the fault is, of a call that no client of the library would make."""
        with pytest.raises(discord.HTTPException) as caught:
            await self.http.request(discord.http.Route(method, path), json=body)
        return f"{caught.value.code} {caught.value.text}"

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


def file(size: tuple[int, int] = (20, 10)) -> dict[str, str]:
    """A picture as the control door takes it."""
    return {"filename": "a.png", "content_b64": base64.b64encode(png(size).fp.read()).decode()}


def modal(label: str = "Words", title: str = "Say", **field: Any) -> discord.ui.Modal:
    """A modal with one field."""
    made = discord.ui.Modal(title=title, custom_id="say:1")
    words: discord.ui.TextInput[Any] = discord.ui.TextInput(custom_id="words", max_length=5)
    for name, value in field.items():
        setattr(words._underlying, name, value)
    made.add_item(discord.ui.Label(text=label, component=words))
    return made


def test_a_file_goes_along_with_a_command(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(bot: Bot, door: Door) -> None:
        await door("command", 400, name="look", options={}, user_id=7)
        await door("command", 400, name="look", options={"picture": "a.png"}, user_id=7)
        sent = await door("command", name="look", options={"picture": file()}, user_id=7)
        path = f"interaction/{sent['interaction_id']}"
        shown = await door.until(path, lambda i: i["original"])
        assert shown["original"]["content"].startswith("20 True ")
        await door("limits", file_size=10)
        await door("command", 400, name="look", options={"picture": file()}, user_id=7)
        await door("command", name="look", options={"picture": file() | {"nitro": 1}}, user_id=7)
        (given,) = bot.seen[0].data["resolved"]["attachments"].values()
        url = given["url"]
        for address, status in ((url, 200), (url.split("?")[0], 404)):
            async with door.http.get(address) as answer:
                assert answer.status == status
        for planned in ({"status": 500}, {"status": 200, "bytes": 1 << 18}, {"never": True}):
            await door("fail", method="CDN", path_regex="^/ephemeral-att", **planned)
        async with door.http.get(url) as answer:
            assert answer.status == 500
        async with door.http.get(url) as answer:
            assert len(await answer.read()) == 1 << 18
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(door.http.get(url), 0.3)
        await door("clock", advance=25 * 3600)
        async with door.http.get(url) as answer:
            assert answer.status == 404, "an address is good for a day"

    play(base, monkeypatch, story)


def test_the_menu_of_a_message(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(bot: Bot, door: Door) -> None:
        said = await door("message", user_id=8, content="see", files=[file()])
        menu = {"name": "Point at", "type": 3, "user_id": 7}
        await door("command", 400, **menu, target_id="1")
        await door("command", 400, **menu, target_id=said["id"], dm=True)
        await door("command", 400, **menu, target_id=said["id"], options={"a": 1})
        await door("command", **menu, target_id=said["id"])
        await door.until("calls", lambda _: bot.pointed)
        (message,) = bot.pointed
        assert (message.content, message.author.id) == ("see", 8)
        assert len(await message.attachments[0].read()) == message.attachments[0].size
        channel = bot.get_channel(200)
        assert isinstance(channel, discord.TextChannel)
        again = await channel.fetch_message(message.id)
        assert not again.content and not again.attachments, "a privileged intent"
        await door("limits", message_content=True)
        await door("clock", advance=25 * 3600)
        fresh = await channel.fetch_message(message.id)
        assert fresh.content == "see" and await fresh.attachments[0].read()
        with pytest.raises(discord.NotFound):
            await message.attachments[0].read()
        linked = await door("message", user_id=8, link_picture="http://a.example/a.png")
        await door("command", **menu, target_id=linked["id"])
        await door.until("calls", lambda _: len(bot.pointed) == 2)
        assert bot.pointed[1].embeds[0].thumbnail.url == "http://a.example/a.png"
        await door("delete_message", message_id=said["id"])
        await door("command", 400, **menu, target_id=said["id"])

    play(base, monkeypatch, story)


def test_a_modal_is_refused_or_answered_once(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(bot: Bot, door: Door) -> None:
        said = await door("message", user_id=8, content="see")
        wrong = {
            "data.title": modal(title="x" * 46),
            "components.0.label": modal(label="x" * 46),
            "components.0.custom_id": modal(custom_id="x" * 101),
            "components.0.placeholder": modal(placeholder="x" * 101),
            "components.0.max_length": modal(max_length=4001),
        }
        bot.modals = [*wrong.values(), modal()]
        menu = {"name": "Point at", "type": 3, "user_id": 7, "target_id": said["id"]}
        opened = await door("command", **menu)
        path = f"interaction/{opened['interaction_id']}"
        await door.until(path, lambda i: i["ack_type"] == 9)
        for where, error in zip(wrong, bot.errors, strict=True):
            assert error.code == 50035 and where in str(error)
        answer = {"interaction_id": opened["interaction_id"]}
        for values in ({}, {"words": ""}, {"words": "longer"}, {"words": "a", "more": "b"}):
            await door("modal", 400, **answer, values=values)
        heard: list[discord.Interaction[Any]] = []

        async def submitted(interaction: discord.Interaction[Any]) -> None:
            heard.append(interaction)
            await interaction.response.send_message("thanks")
            await bot.keep(interaction.response.send_modal(modal()))

        monkeypatch.setattr(bot.modals[-1], "on_submit", submitted)
        sent = await door("modal", **answer, values={"words": "abc"})
        await door.until(f"interaction/{sent['interaction_id']}", lambda i: i["original"])
        assert heard[0].data["components"][0]["component"]["value"] == "abc"
        await door("modal", 400, **answer, values={"words": "abc"})

    play(base, monkeypatch, story)


def test_rows_and_menus_have_their_bounds(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(*lengths: int, label: str = "x") -> list[dict[str, Any]]:
        return [
            {"type": 1, "components": [
                {"type": 2, "style": 2, "label": label, "custom_id": f"{row}:{at}"}
                for at in range(length)
            ]}
            for row, length in enumerate(lengths)
        ]  # fmt: skip

    def menus(number: int, **more: Any) -> list[dict[str, Any]]:
        return [{"name": f"Menu {at}", "type": 3, **more} for at in range(number)]

    async def story(bot: Bot, door: Door) -> None:
        send, register = "/channels/200/messages", "/applications/900/commands"
        await bot.http.request(
            discord.http.Route("POST", send), json={"components": rows(*[5] * 5)}
        )
        for wrong in (rows(6), rows(*[1] * 6), rows(0), rows(1, label="x" * 81)):
            assert "50035" in await bot.refused("POST", send, {"components": wrong})
        await bot.http.request(discord.http.Route("PUT", register), json=menus(15))
        assert "30032" in await bot.refused("PUT", register, menus(16))
        option = {"name": "a", "description": "a", "type": 3}
        for more in ({"options": [option]}, {"description": "Point"}, {"name": "x" * 33}):
            assert "50035" in await bot.refused("PUT", register, menus(1, **more))
        files = [{"name": f"o{at}", "description": "a", "type": 11} for at in range(26)]
        command = {"name": "many", "description": "a", "options": files}
        assert "50035" in await bot.refused("PUT", register, [command])

    play(base, monkeypatch, story)


def command(**more: Any) -> dict[str, Any]:
    """A command of two options, one with a choice."""
    options = [
        {"type": 3, "name": "size", "description": "How large", "choices": [
            {"name": "large", "value": "l"},
        ]},
        {"type": 3, "name": "colour", "description": "Which"},
    ]  # fmt: skip
    return {"type": 1, "name": "draw", "description": "Draw", "options": options, **more}


@pytest.mark.parametrize(
    ("where", "said", "place"),
    [
        ((), {"name_localizations": {"de": "Zeichne"}}, "0.name_localizations.de"),
        ((), {"name_localizations": {"de": "zeichne es"}}, "0.name_localizations.de"),
        ((), {"name_localizations": {"de-AT": "zeichne"}}, "0.name_localizations"),
        ((), {"description_localizations": {"ru": "д" * 101}}, "0.description_localizations.ru"),
        ((), {"description_localizations": {"ru": ""}}, "0.description_localizations.ru"),
        ((0,), {"name_localizations": {"fr": "a" * 33}}, "0.options.0.name_localizations.fr"),
        ((0,), {"name_localizations": {"fr": "colour"}}, "0.options.0.name_localizations.fr"),
        ((0, 0), {"name_localizations": {"fr": "a" * 101}},
         "0.options.0.choices.0.name_localizations.fr"),
    ],
)  # fmt: skip
def test_what_is_said_in_other_languages_is_held_to_the_same_rules(
    where: tuple[int, ...], said: dict[str, Any], place: str
) -> None:
    sent: Any = command()
    node = sent
    for depth, index in enumerate(where):
        node = node["choices" if depth else "options"][index]
    check_commands([sent])
    node |= said
    with pytest.raises(ApiError) as caught:
        check_commands([sent])
    errors = caught.value.body["errors"]
    for part in place.split("."):
        errors = errors[part]
    assert errors["_errors"]


def test_of_each_field_its_longest_localization_counts() -> None:
    long = [{"name": "n" * 100, "value": "v" * 100}] * 25
    last = [*long[:14], {"name": "n" * 100, "value": "v" * 56}]
    # With these it has 8000 characters, the most there may be.
    more = [
        {"type": 3, "name": name, "description": "d", "choices": choices}
        for name, choices in (("o0", long), ("o1", last))
    ]
    sent = command(description_localizations={"de": "Los"})
    sent["options"] += more
    check_commands([sent])
    sent["description_localizations"]["de"] = "Mache"
    with pytest.raises(ApiError) as caught:
        check_commands([sent])
    assert "maximum size (8000)" in str(caught.value.body)


def test_names_in_other_languages_are_told_apart_in_each() -> None:
    sent = command(name_localizations={"de": "zeichne", "es-419": "dibuja"})
    size, colour = sent["options"]
    size["name_localizations"] = {"de": "grösse", "fr": "taille"}
    colour["name_localizations"] = {"de": "farbe", "ru": "taille"}
    check_commands([sent])
    colour["name_localizations"]["fr"] = "taille"
    with pytest.raises(ApiError):
        check_commands([sent])
