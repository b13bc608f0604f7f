"""Pictures on Discord without a worker: what is offered, and what becomes of what is shown."""

import asyncio
import base64
import io
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import discord
import httpx
import pytest
import yarl
from PIL import Image

from bots import discord_chat, discord_pictures
from bots.discord_cards import view
from bots.discord_chat import Bot
from bots.discord_pictures import Pictures, Pointed
from core import commands
from core.asking import Ask, Reply
from core.cards import ACTIONS, BUTTONS, FURTHER, PLACES, Button
from core.commands import COMMANDS, Command
from core.database import Database
from core.drawing import IMAGE
from core.errors import TryAgain
from core.house import House
from core.lifecycle import State
from core.media import Media
from core.queue import WorkQueue
from migrations import migrate
from tests.journeys.chats import ANN, CHANNEL, server
from tests.servers.discord_command_rules import check_commands
from tests.servers.discord_errors import Problems
from tests.servers.discord_message_rules import check_components

ATTACHMENT, MESSAGE = 11, 3


def _measure(house: House, ask: Ask) -> Reply:
    sizes = ", ".join(f"{one.width}×{one.height}" for one in ask.pictures)
    return Reply(f"Brought: {sizes}; given: {dict(ask.given)}")


MEASURE = Command(
    "measure", "Say how large a picture is.", (), _measure, pictures=(IMAGE,), menu="Measure this"
)


# discord.py has room for five menus, which ours fill: this one stands in one's place.
TABLE = (*(replace(one, menu="") if one.name == "report" else one for one in COMMANDS), MEASURE)


@pytest.fixture
def bot(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Bot]]:
    """A bot with one more command in the table."""
    monkeypatch.setattr(discord_chat, "COMMANDS", TABLE)
    monkeypatch.setitem(commands.BY_NAME, "measure", MEASURE)  # type: ignore[arg-type]
    url = f"sqlite:///{tmp_path / 'rows.sqlite3'}"
    migrate(url)
    house = House(Database(url), WorkQueue(redis_url), Media(str(tmp_path / "media")))
    yield lambda: Bot(house)
    house.registry.rest()
    house.database.close()


def registered(made: Bot) -> list[dict[str, Any]]:
    return [one.to_dict(made.tree) for one in made.tree._get_all_commands()]


def test_what_is_registered_is_what_the_table_says_and_discord_takes(
    bot: Callable[[], Bot],
) -> None:
    told = registered(bot())
    check_commands(told)
    menus = {one["name"] for one in told if one["type"] == MESSAGE}
    assert menus == {one.menu for one in TABLE if one.menu}
    for command in TABLE:
        (made,) = [one for one in told if one["name"] == command.name]
        options = made.get("options", [])
        assert len(options) <= 25
        files = [one for one in options if one["type"] == ATTACHMENT]
        assert [one["name"] for one in files] == [one.name for one in command.pictures]
        assert not any(one.get("required") for one in files)
        assert {one["name"] for one in options} == {
            one.name for one in (*command.takes, *command.pictures) if not one.rare
        }


def test_one_option_too_many_would_be_refused(bot: Callable[[], Bot]) -> None:
    made = next(one for one in registered(bot()) if one["name"] == "inpaint")
    extra = [{"type": 3, "name": f"o{at}", "description": "a"} for at in range(26)]
    made["options"] = [*made["options"], *extra][:25]
    check_commands([made])
    made["options"].append(extra[-1])
    with pytest.raises(Exception, match="Invalid Form Body"):
        check_commands([made])


def test_every_row_of_buttons_is_one_that_discord_takes() -> None:
    grids = [[f"u{n}" for n in PLACES], [f"v{n}" for n in PLACES]]
    cards = [*BUTTONS.values(), (*grids, *BUTTONS[State.DONE]), (*FURTHER, *BUTTONS[State.DONE])]
    for rows in cards:
        shown = view([
            Button(action, 7, ACTIONS[action], row)
            for row, actions in enumerate(rows) for action in actions
        ]).to_components()  # fmt: skip
        problems = Problems()
        check_components(problems, list(shown), v2=False)
        problems.done()
        ids = [[part["custom_id"] for part in row["components"]] for row in shown]
        assert ids == [[f"dq:{action}:7" for action in actions] for actions in rows]


class Wire:
    """The control door, awaited."""

    def __init__(self, door: httpx.AsyncClient) -> None:
        self.door = door

    async def __call__(self, what: str, **body: Any) -> dict[str, Any]:
        answer = await self.door.post(f"/control/{what}", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json() or {})

    async def answer(self, asked: dict[str, Any]) -> str:
        """What somebody was told, once nobody thinks any more."""
        for _ in range(200):
            told = (await self.door.get(f"/control/interaction/{asked['interaction_id']}")).json()
            said = [one for one in (told["original"], *told["followups"]) if one]
            said = [one for one in said if not one["deleted"] and not one["loading"]]
            if said:
                return str(said[-1]["content"])
            await asyncio.sleep(0.05)
        raise AssertionError(told)


def on_the_wire(
    bot: Callable[[], Bot],
    monkeypatch: pytest.MonkeyPatch,
    story: Callable[[Wire], Awaitable[None]],
) -> None:
    """Tell a story with the bot on line in this process."""

    async def run(address: str) -> None:
        made, ready = bot(), asyncio.Event()

        async def on_ready() -> None:
            ready.set()

        monkeypatch.setattr(made, "on_ready", on_ready, raising=False)
        async with made, httpx.AsyncClient(base_url=address, timeout=30) as door:
            going = asyncio.create_task(made.start("TEST"))
            await asyncio.wait_for(ready.wait(), 30)
            assert made._poster
            made._poster.cancel()
            await asyncio.wait_for(story(Wire(door)), 30)
            await made.close()
            await going

    with server("discord_server", "TEST") as address:
        monkeypatch.setattr(discord.http.Route, "BASE", f"{address}/api/v10")
        gateway = yarl.URL(address.replace("http", "ws") + "/gateway")
        monkeypatch.setattr(discord.gateway.DiscordWebSocket, "DEFAULT_GATEWAY", gateway)
        asyncio.run(run(address))


def png(width: int = 30, height: int = 20) -> dict[str, str]:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "navy").save(out, "PNG")
    return {"filename": "a.png", "content_b64": base64.b64encode(out.getvalue()).decode()}


def test_a_command_that_is_added_to_the_table_takes_pictures_and_has_a_menu(
    bot: Callable[[], Bot], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(wire: Wire) -> None:
        who = {"user_id": ANN, "channel_id": CHANNEL}

        async def answered(name: str, **more: Any) -> str:
            return await wire.answer(await wire("command", name=name, **more, **who))

        assert await answered("measure", options={"image": png()}) == "Brought: 30×20; given: {}"
        said = await wire("message", user_id="7", channel_id=CHANNEL, files=[png(11, 13)])
        at = {"type": MESSAGE, "target_id": said["id"]}
        assert await answered(MEASURE.menu, **at) == "Brought: 11×13; given: {}"
        # A card of ours, to a command that takes no number: the picture that is in it.
        await answered("imagine", options={"prompt": "a fox"})
        at["target_id"] = (await wire.door.get("/control/messages")).json()[-1]["id"]
        assert await answered(MEASURE.menu, **at) == "There is no picture in that message."
        assert "#1 has no picture yet: it is queued" in await answered("Upscale this", **at)
        # Nobody waits for ever for what is never handed out.
        monkeypatch.setattr(discord_pictures, "FETCH_SECONDS", 0.5)
        await wire("fail", method="CDN", never=True)
        assert await answered("measure", options={"image": png()}) == discord_pictures.WITHHELD

    on_the_wire(bot, monkeypatch, story)


def test_without_redis_a_modal_is_no_fault_of_the_one_who_asks(
    tmp_path: Path,
) -> None:
    away = House(
        Database(f"sqlite:///{tmp_path / 'rows'}"), WorkQueue(f"unix://{tmp_path}/none"),
        Media(str(tmp_path)),
    )  # fmt: skip
    pictures = Pictures(away)
    for call in (pictures.remember(Pointed(1, None)), pictures.recall("x")):
        with pytest.raises(TryAgain):
            asyncio.run(call)  # type: ignore[arg-type]
