"""Settings and presets on all three chats of one house, over the wire."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.journeys.chats import (
    ANN,
    BOB,
    CHANNEL,
    Discord,
    Everywhere,
    Telegram,
    everywhere,
    shown,
)

MANAGE_CHANNELS = 1 << 4
GROUP = -700


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everywhere]:
    with everywhere(tmp_path_factory.mktemp("tastes"), DRAWQUEUE_MODERATORS="web:local") as made:
        made.discord.door.post("/control/limits", json={"messages": [50, 5.0]})
        made.telegram.post("chat", chat_id=GROUP, type="supergroup", title="Group", admins=[502])
        yield made


def said(discord: Discord, user: str = ANN, permissions: int = 0, **options: Any) -> str:
    """What /settings or /preset is answered with, to the asker alone."""
    name = "preset" if "act" in options else "settings"
    place = {"channel_id": CHANNEL, "permissions": str(permissions)}
    told = discord.only_answer(discord.command(name, user, place, **options))
    assert told["ephemeral"]
    return str(told["content"]).replace("\\", "")


def footer(card: dict[str, Any]) -> str:
    return str(card["versions"][-1]["embeds"][0]["footer"]["text"])


# Discord


def chosen(discord: Discord, message: str, label: str, user: str = ANN) -> dict[str, Any]:
    """Pick from the menu in a message; the message, once it says something else."""

    def now() -> dict[str, Any]:
        return dict(next(one for one in discord.messages() if one["id"] == message))

    before = len(now()["versions"])
    (select,) = [part for row in parts(now()) for part in row["components"]]
    (value,) = [one["value"] for one in select["options"] if one["label"] == label]
    discord.door.post("/control/press", json={
        "message_id": message, "channel_id": CHANNEL, "custom_id": select["custom_id"],
        "user_id": user, "permissions": "0", "values": [value],
    }).raise_for_status()  # fmt: skip
    return dict(discord.until(lambda: now() if len(now()["versions"]) > before else None))


def parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    return list(message["versions"][-1]["components"])


def words(message: dict[str, Any]) -> str:
    return str(message["versions"][-1]["content"]).replace("\\", "")


def test_on_discord_a_setting_is_chosen_from_a_menu_for_the_asker_alone(chats: Everywhere) -> None:
    discord = chats.discord
    told = discord.only_answer(discord.command("settings"))
    assert told["ephemeral"] and "sampler: DPM++ 2M (the host's)" in told["content"]
    menu = chosen(discord, told["id"], "sampler")
    assert "Sampler, such as" in words(menu) and menu["id"] == told["id"]
    log, lines = discord.drawqueue.log, discord.drawqueue.log.read_text().count("on line as")
    os.kill(discord.drawqueue.processes()["bots.discord_chat"], signal.SIGKILL)
    discord.until(lambda: log.read_text().count("on line as") > lines)
    menu = chosen(discord, told["id"], "Euler a")
    assert "sampler: Euler a (yours)" in words(menu)
    discord.command("imagine", prompt="a chosen way")
    assert "Euler a" in footer(discord.card("a chosen way", "done in"))
    discord.command("imagine", prompt="a flagged way", sampler="Heun")
    assert "Heun" in footer(discord.card("a flagged way", "done in"))
    discord.command("imagine", BOB, prompt="an untouched way")
    assert "DPM++ 2M" in footer(discord.card("an untouched way", "done in"))
    assert "sampler is DPM++ 2M again" in said(discord, change="reset", setting="sampler")


def test_on_discord_who_manages_the_channel_sets_it_for_all(chats: Everywhere) -> None:
    discord = chats.discord
    given = {"change": "set", "setting": "count", "value": "2", "where": "channel"}
    assert "Only who may manage this chat" in said(discord, BOB, **given)
    assert "whoever has set nothing else" in said(discord, BOB, MANAGE_CHANNELS, **given)
    discord.command("imagine", prompt="a pair")
    assert "this chat's count" in footer(discord.card("a pair", "done in"))
    assert "count: 2 (this chat's)" in said(discord, where="channel")
    assert "count is 1 again" in said(
        discord, BOB, MANAGE_CHANNELS, change="reset", setting="count", where="channel"
    )


def suggested(
    discord: Discord, name: str, focused: str, user: str = ANN, **given: Any
) -> list[str]:
    answer = discord.door.post("/control/autocomplete", json={
        "name": name, "options": given, "focused": focused, "value": "", "user_id": user,
        "channel_id": CHANNEL,
    })  # fmt: skip
    return [one["name"] for one in answer.json()["choices"]]


def test_on_discord_a_preset_is_saved_suggested_shared_and_used(chats: Everywhere) -> None:
    discord = chats.discord
    discord.command("imagine", prompt="a ship", steps=13, sampler="Heun")
    ship = discord.card("a ship", "done in")
    number = footer(ship).split()[0].strip("#")
    told = said(discord, act="save", name="deep mist", words=f"{number} {{prompt}} in mist")
    assert "Saved deep mist" in told
    assert "deep mist" in suggested(discord, "imagine", "preset", prompt="a fox")
    assert "deep mist" not in suggested(discord, "imagine", "preset", BOB, prompt="a fox")
    assert suggested(discord, "settings", "value", setting="count") == ["1", "2", "3", "4"]
    asked = discord.command("imagine", BOB, prompt="a thief", preset="deep mist")
    told = discord.only_answer(asked)
    assert told["ephemeral"] and "no preset “deep mist”" in told["content"]
    discord.command("preset", act="use", name="deep mist", words="a tower --seed 5")
    card = discord.card("a tower in mist", "done in")
    assert "Heun" in footer(card) and "13 steps" in footer(card) and "seed 5" in footer(card)
    assert "deep mist" not in footer(card), "its name is Ann's"
    assert "Everybody on this server" in said(discord, act="share", name="deep mist")
    discord.command("imagine", BOB, prompt="a guest", preset="Deep Mist")
    assert "preset deep mist" in footer(discord.card("a guest in mist", "done in"))
    discord.press(card["id"], "Retry")
    again = discord.until(lambda: [
        one for one in discord.messages()
        if one["id"] != card["id"] and one["versions"][-1]["embeds"]
        and "a tower in mist" in str(one["versions"][-1]["embeds"][0].get("description"))
    ])  # fmt: skip
    assert "seed 5" in footer(again[0]), "the same again, and the template but once"
    assert "is deleted" in said(discord, act="delete", name="deep mist")


def test_on_discord_what_is_set_may_make_a_request_right(chats: Everywhere) -> None:
    discord = chats.discord
    said(discord, change="set", setting="size", value="1:1")
    asked = discord.command("imagine", prompt="too large", width=1600, unchecked=True)
    told = discord.only_answer(asked)
    assert told["ephemeral"] and "at most 1024 pixels" in told["content"]
    said(discord, change="reset", setting="all")


# Telegram


def keys(message: dict[str, Any]) -> list[str]:
    rows = message["versions"][-1]["reply_markup"]["inline_keyboard"]
    return [key["text"] for row in rows for key in row]


def test_on_telegram_one_message_is_edited_until_it_is_set(chats: Everywhere) -> None:
    telegram = chats.telegram
    before = len(telegram.messages())
    telegram.say("/settings")
    menu = telegram.card("sampler: DPM++ 2M (the host's)")
    assert keys(menu)[:3] == ["model", "size", "sampler"]
    assert telegram.press(menu, "sampler") == ""
    menu = telegram.card("Others can be typed")
    assert "• DPM++ 2M" in keys(menu)
    telegram.press(menu, "Euler a")
    menu = telegram.card("sampler: Euler a (yours)")
    assert len(telegram.messages()) == before + 1
    telegram.say("a chosen path")
    card = telegram.card("a chosen path", "done in")
    assert "Euler a" in shown(card["versions"][-1])
    assert "again (the host's)" in shown(telegram.only_answer("/settings reset sampler"))


def test_in_a_telegram_group_others_settings_are_theirs(chats: Everywhere) -> None:
    telegram = chats.telegram
    in_group: dict[str, Any] = {"chat": GROUP}
    telegram.only_answer("/settings set sampler Heun")
    told = telegram.only_answer("/settings", **in_group)
    assert "Heun" not in shown(told) and "write /settings to me alone" in shown(told)
    assert not told.get("reply_markup")
    refused = telegram.only_answer("/settings set count 2 channel", **in_group)
    assert "Only who may manage this chat" in shown(refused)
    done = telegram.only_answer("/settings set count 2 channel", user=502, **in_group)
    assert "count is 2 from now on" in shown(done)
    telegram.say("/settings", user=502, **in_group)
    menu = telegram.card("count: 2 (this chat's)", chat=GROUP)
    assert "somebody else's settings" in telegram.press(menu, "count", chat=GROUP, user=501)
    telegram.press(menu, "count", chat=GROUP, user=502)
    telegram.press(telegram.card("Now: 2.", chat=GROUP), "As it was", GROUP, 502)
    telegram.card("count: 1 (the host's)", chat=GROUP)
    telegram.only_answer("/settings reset all")


def test_on_telegram_a_preset_is_used_and_previews_are_turned_off(chats: Everywhere) -> None:
    telegram = chats.telegram
    telegram.say("/preset use oil painting a quiet harbour --seed 3")
    card = telegram.card("oil painting of a quiet harbour", "done in")
    assert "preset Oil painting" in shown(card["versions"][-1])
    number = shown(card["versions"][-1]).partition("#")[2].split()[0]
    assert "Saved harbour" in shown(telegram.only_answer(f"/preset save harbour {number}"))
    assert "Yours: harbour" in shown(telegram.only_answer("/preset"))
    assert "without emoji" in shown(telegram.only_answer(f"/preset save 🔥 {number}"))
    assert "is for video" in shown(telegram.only_answer("a fox --preset vlog"))
    telegram.only_answer("/settings set previews off")
    telegram.say("a hidden kite sleep:0.5 --steps 12")
    done = telegram.card("a hidden kite", "done in")
    kinds = [one["kind"] for one in done["versions"]]
    assert kinds.count("photo") == 1, "the picture alone"
    telegram.only_answer("/settings reset all")


def test_a_prompt_is_put_together_by_buttons(chats: Everywhere) -> None:
    telegram, discord = chats.telegram, chats.discord
    before = len(telegram.messages())
    telegram.say("/words lighting a mill")
    for key, prompt in (("candlelight", "a mill, candlelight"), ("✓ candlelight", "a mill"),
                        ("moonlight", "a mill, moonlight")):  # fmt: skip
        telegram.press(telegram.card("Your prompt: a mill"), key)
        telegram.until(lambda prompt=prompt: _newest(telegram).endswith(f"Your prompt: {prompt}"))
    assert len(telegram.messages()) == before + 1, "one message, edited"
    telegram.press(telegram.card("Your prompt: a mill, moonlight"), "Draw it")
    telegram.card("a mill, moonlight", "done in")
    told = discord.only_answer(discord.command("words", category="mood", prompt="a pond"))
    assert told["ephemeral"]
    discord.press(told["id"], "serene")
    discord.until(lambda: "Your prompt: a pond, serene" in words(_message(discord, told["id"])))
    discord.press(told["id"], "Draw it")
    discord.card("a pond, serene", "done in")


def _newest(telegram: Telegram) -> str:
    return shown(telegram.messages()[-1]["versions"][-1])


def _message(discord: Discord, id_: str) -> dict[str, Any]:
    return dict(next(one for one in discord.messages() if one["id"] == id_))


# Web


def test_on_the_web_the_same_is_typed_and_chosen(chats: Everywhere) -> None:
    web = chats.drawqueue.client

    def say(text: str) -> dict[str, Any]:
        return dict(web.post("/api/chat", json={"text": text}).json())

    def choose(told: dict[str, Any], label: str) -> dict[str, Any]:
        (id_,) = [one["id"] for one in told["choices"] if one["label"] == label]
        answer = web.post("/api/choices", json={"id": id_})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    told = say("/settings")
    assert "quiet" not in told["text"], "nobody is mentioned there"
    told = choose(choose(told, "size"), "3:2")
    assert "size: 3:2 (yours)" in told["text"]
    job = web.post("/api/jobs", json={"prompt": "a fox", "parameters": {"preset": "anime"}}).json()
    assert job["parameters"]["width"] > job["parameters"]["height"]
    assert "anime style" in job["prompt"] and "preset Anime" in job["card"]["details"]
    bad = web.post("/api/jobs", json={"prompt": "a fox", "parameters": {"preset": "nope"}})
    assert bad.status_code == 422 and "no preset “nope”" in bad.json()["error"]
    for odd in ("set:other:m:size:", "x", "set:local:m:wings:"):
        assert web.post("/api/choices", json={"id": odd}).status_code in (400, 409)
    assert "Saved fox" in (
        chats.drawqueue.until(job["id"], "done") and say(f"/preset save fox {job['id']}")["text"]
    )
    assert say("a hen --preset fox")["job"]["parameters"]["width"] == job["parameters"]["width"]
    say("/settings reset all")
