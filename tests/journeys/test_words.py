"""What is written, on Discord and Telegram, end to end: words that grow in one message, and all
that its buttons do. A deterministic writer writes."""

import io
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.journeys.chats import ANN, Everywhere, everywhere, shown
from tests.journeys.test_discord import number_of
from tests.journeys.test_discord_pictures import menu, raw

ME, GROUP = 501, -700
RULES = '[words]\nrefuse = ["forbidden fruit"]\n'
GO_ON = "Go on."


@pytest.fixture(scope="module")
def house(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Everywhere]:
    folder = tmp_path_factory.mktemp("words")
    (folder / "policy.toml").write_text(RULES)
    with everywhere(
        folder, DATABASE_URL=new_database(), DRAWQUEUE_TEXT_MODEL="pattern",
        DRAWQUEUE_CAPTIONER="pattern", DRAWQUEUE_POLICY=str(folder / "policy.toml"),
    ) as made:  # fmt: skip
        made.telegram.post("chat", chat_id=GROUP, type="supergroup", title="Group")
        yield made


def body(version: dict[str, Any]) -> str:
    return str(version["embeds"][0].get("description") or "") if version["embeds"] else ""


def written(house: Everywhere, prompt: str, words: str = "written in") -> dict[str, Any]:
    """The card of what was asked for, and what it says."""
    return house.discord.card(prompt, words)


def answer(card: dict[str, Any]) -> str:
    """What a card on Discord says was written, below what was asked for."""
    return body(card["versions"][-1]).split("\n", 1)[1]


def newest(house: Everywhere, words: str, than: dict[str, Any]) -> dict[str, Any]:
    """A card that came after another one, once it says so."""

    def find() -> Any:
        for message in reversed(house.discord.messages()):
            if int(message["id"]) <= int(than["id"]):
                return None
            if words in message["versions"][-1]["content"]:
                return message
        return None

    return dict(house.discord.until(find))


def texts(house: Everywhere) -> dict[int, str]:
    with house.drawqueue.database() as rows, rows.read() as connection:
        from sqlalchemy import select

        from core.database import generations

        columns = generations.c.id, generations.c.text
        return {row.id: row.text or "" for row in connection.execute(select(*columns)).all()}


# On Discord


def test_words_grow_in_one_message(house: Everywhere) -> None:
    discord = house.discord
    asked = discord.command("write", prompt="a *growing* tale sleep:0.25 words:16")
    card = written(house, "tale sleep:0.25")
    assert discord.interaction(asked)["acked"] < 3
    assert discord.only_answer(asked)["id"] == card["id"]
    versions = card["versions"]
    grown = [body(one).split("\n", 1)[1] for one in versions if "\n" in body(one)]
    whole = texts(house)[number_of(card)]
    assert whole.startswith("(1) a *growing* tale ") and len(whole.split()) == 16
    assert len(grown) >= 3 and len(set(map(len, grown))) >= 3
    plain = [one.replace("\\", "") for one in grown]
    assert plain == sorted(plain, key=len) and plain[-1] == whole
    assert all(whole.startswith(one) for one in plain), "half of a word's markup is none"
    assert [one for one in versions if "writing" in one["content"]]
    assert len(plain[0].split()) * 0.25 <= 2, "the first words come within two seconds"
    assert not discord.door.get("/control/calls", params={"unknown": 1}).json()


def test_what_is_written_when_it_is_cancelled_stays_and_retry_begins_anew(
    house: Everywhere,
) -> None:
    discord = house.discord
    discord.command("write", prompt="a stopped tale sleep:0.2 words:60")
    going = discord.until(
        lambda: next((one for one in [written(house, "a stopped tale", "writing")]
                      if "(1) a stopped" in body(one["versions"][-1])), None)
    )  # fmt: skip
    discord.press(going["id"], "Cancel")
    stopped = written(house, "a stopped tale", "cancelled")
    assert stopped["id"] == going["id"]
    assert answer(stopped).startswith("(1) a stopped") and len(answer(stopped).split()) < 50
    discord.press(stopped["id"], "Retry")
    again = written(house, "a stopped tale", "writing")
    assert again["id"] == going["id"]
    discord.press(again["id"], "Cancel")


def test_a_talk_goes_on_twice_and_is_written_anew(house: Everywhere) -> None:
    discord = house.discord
    discord.command("write", prompt="a long tale sleep:0")
    first = written(house, "a long tale")
    discord.press(first["id"], "Continue")
    second = newest(house, "written in", first)
    assert answer(second).startswith(f"(2) {GO_ON} ")
    discord.press(second["id"], "Continue")
    third = newest(house, "written in", second)
    assert answer(third).startswith(f"(3) {GO_ON} ")
    before = len(discord.messages())
    discord.press(third["id"], "Retry")
    fourth = newest(house, "written in", third)
    assert len(discord.messages()) == before + 1
    assert answer(fourth).startswith(f"(3) {GO_ON} ") and answer(fourth) != answer(third)


def test_a_long_answer_is_attached_whole(house: Everywhere) -> None:
    discord = house.discord
    discord.command("write", prompt="an endless @everyone __tale__ sleep:0.002 words:1500")
    card = written(house, "tale\\_\\_ sleep:0.002")
    last = card["versions"][-1]
    whole = texts(house)[number_of(card)]
    assert len(whole) > 4096 >= len(body(last)) > 3900
    assert whole.startswith(answer(card).removesuffix("…").replace("\\", "").replace("\u200b", ""))
    (file,) = last["attachments"]
    assert file["filename"] == f"{number_of(card)}.txt"
    assert httpx.get(file["url"]).content.decode() == whole
    pings = [one["pings"] for one in card["versions"]]
    assert not any(one["everyone"] or one["users"] for one in pings)


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(out, "PNG")
    return out.getvalue()


def test_a_picture_is_described_and_drawn(house: Everywhere) -> None:
    discord = house.discord
    asked = discord.command("describe", image=raw(picture()))

    def told_of(what: str) -> dict[str, Any]:
        card = discord.only_answer(what)
        discord.until(lambda: "written in" in discord.only_answer(what)["content"])
        return next(one for one in discord.messages() if one["id"] == card["id"])

    told = told_of(asked)
    assert discord.interaction(asked)["acked"] < 3
    words = body(told["versions"][-1])
    assert words.startswith("(1) What does this picture show?")
    discord.press(told["id"], "Draw it")
    drawn = newest(house, "done in", told)
    assert words in body(drawn["versions"][-1]) and drawn["versions"][-1]["attachments"]
    # The menu of a message tells of the picture that is in it.
    told = told_of(menu(discord, "Describe this", drawn["id"]))
    assert f"of #{number_of(drawn)}" in told["versions"][-1]["embeds"][0]["footer"]["text"]


def test_a_writer_and_a_bot_that_die_are_followed_by_others(house: Everywhere) -> None:
    discord = house.discord
    # A channel takes few edits: so much is written that some of them tell of it.
    discord.command("write", prompt="a lasting tale sleep:0.25 words:48")
    going = discord.until(
        lambda: next((one for one in [written(house, "a lasting tale", "writing")]
                      if "(1) a lasting" in body(one["versions"][-1])), None)
    )  # fmt: skip
    online = discord.drawqueue.log.read_text().count("on line as")
    for name in ("writing engine", "bots.discord_chat"):
        os.kill(discord.drawqueue.processes()[name], signal.SIGKILL)
    done = written(house, "a lasting tale")
    assert done["id"] == going["id"]
    assert len(answer(done).split()) == 48
    discord.until(lambda: discord.drawqueue.log.read_text().count("on line as") > online)
    discord.press(done["id"], "Continue")
    assert answer(newest(house, "written in", done)).startswith(f"(2) {GO_ON} ")
    discord.command("write", prompt="a broken tale fail:bug sleep:0")
    failed = written(house, "a broken tale", "failed")
    assert "secret" not in str(failed) and "fault" in body(failed["versions"][-1])


def test_what_the_host_refuses_is_not_written_either(house: Everywhere) -> None:
    discord = house.discord
    told = discord.only_answer(discord.command("write", prompt="the forbidden fruit"))
    assert told["ephemeral"] and "forbidden fruit" in told["content"]
    discord.command("write", prompt="the forbidden sleep:0.1 fruit words:30")
    card = written(house, "sleep:0.1 fruit", "failed")
    assert "What was written is not shown" in body(card["versions"][-1])
    assert not any("forbidden fruit" in str(one) for one in card["versions"])
    assert texts(house)[number_of(card)] == ""


def test_what_only_pictures_can_do(house: Everywhere) -> None:
    discord = house.discord
    discord.command("write", prompt="a mere tale sleep:0")
    card = written(house, "a mere tale")
    number = number_of(card)
    for name in ("Upscale this", "Describe this"):
        told = discord.only_answer(menu(discord, name, card["id"]))
        assert told["ephemeral"] and f"{number} has 0 pictures" in told["content"].replace("\\", "")
    offered = discord.door.post("/control/autocomplete", json={
        "name": "write", "focused": "model", "value": "", "options": {}, "user_id": ANN,
        "channel_id": "200",
    }).json()  # fmt: skip
    assert [one["value"] for one in offered["choices"]] == ["pattern"]


# On Telegram


def drafts(house: Everywhere) -> list[dict[str, Any]]:
    found = house.telegram.door.get("/control/messages", params={"chat_id": ME}).json()
    return list(found["drafts"])


def test_alone_words_grow_in_a_draft_and_the_card_has_them_all(house: Everywhere) -> None:
    telegram = house.telegram
    before, drafted = len(telegram.messages()), len(drafts(house))
    told = telegram.say("/write a <b>drafted</b> @bobby123 tale sleep:0.25 words:16")
    card = telegram.card("drafted", "written in")
    assert len(telegram.messages()) == before + 1
    last = card["versions"][-1]
    number = int(shown(last).rsplit("#", 1)[1].split()[0])
    whole = texts(house)[number]
    assert whole.startswith("(1) a <b>drafted</b> @bobby123 tale ")
    assert whole in shown(last).replace("\u2060", "")
    kinds = {one["type"] for one in last["entities"]}
    assert kinds == {"bold", "blockquote", "italic"}
    telegram.until(lambda: "written in" in drafts(house)[-1]["text"])
    shown_by_then = drafts(house)[drafted:]
    assert {one["draft_id"] for one in shown_by_then} == {number}
    grown = [one["text"].replace("\u2060", "") for one in shown_by_then[:-1]]
    assert len(grown) >= 3 and all(whole.startswith(one) for one in grown)
    assert grown == sorted(grown, key=len) and grown[0] != grown[-1]
    assert len(grown[0].split()) * 0.25 <= 2, "the first words come within two seconds"
    assert not any("(1)" in shown(one) for one in card["versions"][:-1]), "said once at a time"
    # Who answers what was written goes on with it.
    telegram.say("/write and then? sleep:0", reply_to_message_id=card["message_id"])
    telegram.card("(2) and then?", "written in")
    assert told


def test_where_there_are_no_drafts_and_in_groups_the_message_grows(house: Everywhere) -> None:
    telegram = house.telegram
    telegram.post("fail", method="sendMessageDraft", status=404, description="Not Found", times=99)
    telegram.say("/write a plain tale sleep:0.25 words:16")
    telegram.say("/write a common tale sleep:0.25 words:16", chat=GROUP, user=502)
    for name, chat in (("a plain tale", ME), ("a common tale", GROUP)):
        card = telegram.card(name, "written in", chat=chat)
        grown = [one for one in map(shown, card["versions"]) if f"(1) {name}" in one]
        assert len(set(map(len, grown))) >= 2, [shown(one) for one in card["versions"]]
    assert "queued" in shown(card["versions"][0])
    calls = telegram.door.get("/control/calls?method=sendMessageDraft").json()
    refused = [one for one in calls if one.get("status") == 404]
    assert len(refused) == 1, "asked once, by whichever process"


def test_a_long_answer_becomes_a_document(house: Everywhere) -> None:
    telegram = house.telegram
    telegram.say("/write an endless & <i>tale sleep:0.002 words:1500")
    card = telegram.card("an endless", "written in")
    assert card["text_became_media"]
    last = card["versions"][-1]
    assert last["kind"] == "document" and len(shown(last)) > 900
    number = int(shown(last).rsplit("#", 1)[1].split()[0])
    file = telegram.door.get("/control/file", params={"file_id": card["document"]["file_id"]})
    assert file.content.decode() == texts(house)[number]
    assert card["document"]["file_name"] == f"{number}.txt"
    # What is in it goes when it is deleted.
    telegram.say(f"/delete {number}")
    gone = telegram.card("deleted by its asker", f"#{number}")
    assert gone["message_id"] == card["message_id"]
    assert gone["versions"][-1]["kind"] == "photo" and texts(house)[number] == ""


def test_a_photo_is_described_and_drawn(house: Everywhere) -> None:
    telegram = house.telegram
    telegram.send(picture(), "/describe")
    told = telegram.card("(1) What does this picture show?", "written in")
    telegram.press(told, "Draw it")
    drawn = telegram.card("(1) What does this picture show?", "done in")
    assert drawn["message_id"] != told["message_id"]
    assert drawn["versions"][-1]["kind"] == "photo"
    telegram.say("/describe", reply_to_message_id=drawn["message_id"])
    telegram.card(
        "written in", f"of #{int(shown(drawn['versions'][-1]).rsplit('#', 1)[1].split()[0])}"
    )
