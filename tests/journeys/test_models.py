"""What moderators offer, seen and drawn with on all three chats of one house within seconds."""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from core.catalog import STARTER
from tests.journeys.chats import ANN, BOB, TELEGRAM_TOKEN, Discord, Telegram, on_discord, server

MODERATORS = f"discord:{ANN},telegram:501,web:local"


@dataclass
class House:
    """One Drawqueue, and what people do in its chats."""

    discord: Discord
    telegram: Telegram
    web: httpx.Client

    def said(self, text: str) -> dict[str, Any]:
        """What a line in the web chat is answered with."""
        answer = self.web.post("/api/chat", json={"text": text})
        return dict(answer.json())

    def model(self, name: str) -> dict[str, Any]:
        """A model as the JSON interface tells of it; empty where it does not."""
        found = self.web.get("/api/models").json()
        return next((one for one in found if one["name"] == name), {})


@pytest.fixture(scope="module")
def house(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    folder: Path = tmp_path_factory.mktemp("models")
    with (
        server("telegram_server", TELEGRAM_TOKEN) as address,
        contextlib.closing(httpx.Client(base_url=address, timeout=60)) as door,
        on_discord(
            folder, DATABASE_URL=new_database(), DRAWQUEUE_MODERATORS=MODERATORS,
            TELEGRAM_TOKEN=TELEGRAM_TOKEN, TELEGRAM_API_URL=f"{address}/bot",
            TELEGRAM_FILE_URL=f"{address}/file/bot",
        ) as discord,
    ):  # fmt: skip
        telegram = Telegram(door, discord.drawqueue)
        telegram.post("limits", private_per_second=None, group_per_minute=None)
        discord.door.post("/control/limits", json={"messages": [50, 5.0], "webhooks": [50, 2.0]})
        discord.until(lambda: discord.drawqueue.log.read_text().count("on line as") == 2)
        yield House(discord, telegram, discord.drawqueue.client)


def on_discord_said(house: House, user: str = ANN, **options: Any) -> str:
    asked = house.discord.command("model", user, **options)
    return str(house.discord.only_answer(asked)["versions"][-1]["content"])


def test_added_on_discord_and_drawn_with_everywhere(house: House) -> None:
    told = on_discord_said(house, do="add", kind="model", what=str(STARTER), detail="crown")
    assert "crown is on offer in a few seconds" in told
    house.discord.until(lambda: house.model("crown"))
    assert house.model("crown")["size"] == 128 and not house.model("crown")["picture"]
    house.telegram.until(
        lambda: "crown:" in house.telegram.only_answer("/models").get("text", ""), seconds=20
    )
    house.telegram.say("/imagine a red crown on a blue background --model crown --steps 6")
    house.telegram.card("done", seconds=90)
    assert len(house.telegram.pictures()) == 1
    house.discord.until(lambda: house.model("crown")["loaded"])
    house.discord.command("imagine", prompt="a red crown", model="crown", steps=4)
    house.discord.card("a red crown", "done", seconds=90)


def test_only_the_moderators_may(house: House) -> None:
    for told in (
        on_discord_said(house, BOB, do="hide", kind="model", what="crown"),
        house.telegram.only_answer("/model hide model crown", 502, 502)["text"],
    ):
        assert "Only a moderator whom the host lists" in told
    assert house.model("crown")


def test_a_picture_of_what_it_draws_is_shown_on_all_three(house: House) -> None:
    job = house.web.post(
        "/api/jobs",
        json={"prompt": "secret words", "parameters": {"model": "crown", "steps": 4, "count": 2}},
    ).json()["id"]
    house.discord.drawqueue.until(job, "done", seconds=90)
    assert "several pictures" in house.said(f"/model picture model crown {job}")["error"]
    told = house.said(f"/model picture model crown {job}.2")["text"]
    assert told == f"Everybody sees a small copy of #{job} beside crown in /models now."
    url = house.model("crown")["picture"]
    got = house.web.get(url)
    small = Image.open(io.BytesIO(got.content))
    assert small.size == (128, 128) and b"secret words" not in got.content
    large = Image.open(io.BytesIO(house.web.get(f"/media/{job}/1").content)).convert("RGB")
    assert small.convert("RGB").tobytes() == large.tobytes()
    assert house.said("/models")["samples"] == [{"name": "crown", "url": url}]

    def on_discord() -> list[dict[str, Any]]:
        asked = house.discord.command("models", BOB)
        return list(house.discord.only_answer(asked)["versions"][-1]["attachments"])

    assert house.discord.until(on_discord)[0]["filename"] == "models.png"
    shown = house.telegram.until(
        lambda: [one for one in [house.telegram.only_answer("/models", 502, 502)] if photo(one)]
    )
    assert "crown" in shown[0].get("caption", "")


def photo(message: dict[str, Any]) -> Any:
    return message.get("photo")


def test_hidden_and_removed_it_is_gone_in_words(house: House) -> None:
    made = house.said("/imagine a red crown --model crown --steps 4")["job"]["id"]
    house.discord.drawqueue.until(made, "done", seconds=90)
    hidden = house.telegram.only_answer("/model hide model crown")["text"]
    assert "crown is hidden in a few seconds" in hidden
    house.discord.until(lambda: not house.model("crown"))
    told = house.said("/imagine a fox --model crown")
    assert "no model “crown”" in str(told)
    assert "no longer on offer" in str(house.said(f"/retry {made}"))
    assert "its files stay" in house.said("/model remove model crown")["text"]
    assert house.web.get("/samples/crown").status_code == 404
    asked = house.discord.command("model", do="list")
    assert "crown" not in str(house.discord.only_answer(asked))


def test_a_job_in_line_for_what_is_removed_ends_in_words(house: House) -> None:
    house.said(f"/model add model {STARTER} brief")
    busy = house.said("/imagine sleep:0.2 busy --steps 20 --model pattern")["job"]["id"]
    house.discord.drawqueue.until(busy, "generating")
    late = house.said("/imagine a crown --model brief")["job"]["id"]
    assert "ends with words" in house.said("/model remove model brief")["text"]
    failed = house.discord.drawqueue.until(late, "failed")
    assert failed["error"] == "The model brief is no longer on offer."
    house.discord.drawqueue.until(busy, "done")
