"""Better prompts on the cards of every chat, and how they are asked for there."""

from dataclasses import replace

import httpx
import pytest
from playwright.sync_api import Page, expect
from telegram.constants import MessageLimit

from bots import discord_cards, telegram_cards
from core.cards import Card
from core.house import House
from core.lifecycle import State
from core.options import Mode
from core.people import Asker
from tests.bots import test_web_page
from tests.bots.test_discord_handlers import Chat
from tests.bots.test_discord_handlers import chat as chat
from tests.bots.test_web_page import browser as browser
from tests.bots.test_web_page import card as card_on
from tests.bots.test_web_page import page as page
from tests.bots.test_web_page import submit
from tests.bots.test_web_text import web as web

BROWSER, ON_SQLITE = test_web_page.pytestmark
CARD = Card(
    12, 3, State.DONE, "✅ done in 3 s", "a fox", "starter · seed 7", 0.0, (), ("key",), "alt",
    better="Enhanced: a fox at dawn",
)  # fmt: skip


@pytest.mark.parametrize("asked", ["a fox", "*" * 4000, "🦊@" * 2000])
@pytest.mark.parametrize("better", ["Enhanced: a fox at dawn", "Enhanced: " + "&*" * 2000])
def test_both_prompts_stand_on_a_card(asked: str, better: str) -> None:
    card = replace(CARD, prompt=asked, better=better, notice="Left out: your size setting.")
    shown = discord_cards.embed(card, None).description or ""
    assert len(shown) <= discord_cards.DESCRIPTION
    for limit in (MessageLimit.CAPTION_LENGTH, MessageLimit.MAX_TEXT_LENGTH):
        body = telegram_cards.body(card, limit)
        plain = body.replace("&amp;", "&").replace("<b>", "").replace("</b>", "")
        assert telegram_cards.units(plain) <= limit
        for words in (asked[0], "Enhanced: ", "Left out: your size"):
            assert words in plain and words in shown.replace("\\", "")
        assert plain.index(asked[0]) < plain.index("Enhanced: ") < plain.index("Left out")


def proposals(house: House) -> list[str]:
    found = house.generations.of(house_asker(house))
    return [one.request.prompt for one in found if one.request.mode == Mode.ENHANCE]


def house_asker(house: House) -> Asker:
    one = house.generations.get(1)
    return Asker(one.platform, one.asker)


@ON_SQLITE
def test_a_better_prompt_is_asked_for_by_a_button_on_discord(chat: Chat) -> None:
    card = chat.imagine()
    chat.press(card, "✨ Enhance")
    shown = chat.seen(chat.bob)[-1]
    assert "a better prompt for #1" in str(shown.embeds[0].footer.text)
    assert proposals(chat.house) == ["a fox"]
    chat.press(card, "✨ Enhance", chat.bob)
    assert len(proposals(chat.house)) == 1, "nobody asks for another's"


@ON_SQLITE
@pytest.mark.parametrize("enhance", [True, False])
def test_the_modal_asks_for_one_as_well(chat: Chat, enhance: bool) -> None:
    card = chat.imagine()
    opened = chat.do(chat.ann.click(card, label="Edit"))
    chat.do(chat.ann.submit_modal(opened, {"words": "a wolf --seed 7", "enhance": enhance}))
    assert chat.house.generations.get(1).request.prompt == "a wolf"
    assert proposals(chat.house) == ["a wolf"] * enhance
    assert len(chat.seen(chat.bob)) == 1 + enhance


@ON_SQLITE
def test_programs_ask_for_one_and_use_it(house: House, web: httpx.Client) -> None:
    made = web.post("/api/jobs", json={"prompt": "a fox"}).json()
    path = f"/api/jobs/{made['id']}"
    asked = web.patch(path, json={"text": "a wolf --seed 7", "enhance": True}).json()
    assert (asked["parent"], asked["prompt"], asked["enhanced"]) == (made["id"], "a wolf", None)
    another = web.post(f"{path}/enhance").json()
    assert another["id"] == asked["id"] + 1
    refused = web.post(f"/api/jobs/{asked['id']}/use")
    assert refused.status_code == 404 and "shows no better prompt" in refused.json()["error"]
    claimed = house.generations.claim(asked["id"])
    assert claimed and house.generations.finish(claimed, [], 1.0, text="a wolf at night")
    told = web.get(f"/api/jobs/{asked['id']}").json()
    assert told["text"] == "a wolf at night"
    used = web.post(f"/api/jobs/{asked['id']}/use").json()
    assert (used["id"], used["prompt"], used["original"]) == (
        made["id"], "a wolf at night", "a wolf",
    )  # fmt: skip


@BROWSER
@ON_SQLITE
def test_the_page_shows_one_before_it_is_drawn(house: House, page: Page) -> None:
    submit(house, 1)
    job = card_on(page, 1)
    job.get_by_role("button", name="Edit").click()
    job.get_by_role("textbox", name="Prompt and flags").fill("a wolf --seed 7")
    job.locator("form").get_by_role("button", name="Enhance").click()
    expect(job.locator(".prompt")).to_have_text("#1 a wolf")
    expect(job.locator(".better")).to_be_hidden()
    shown = card_on(page, 2)
    expect(shown).to_be_visible()
    claimed = house.generations.claim(2)
    assert claimed and house.generations.finish(claimed, [], 1.0, text="a wolf at night")
    expect(shown.locator(".written")).to_have_text("a wolf at night")
    shown.get_by_role("button", name="Use it").click()
    expect(job.locator(".better")).to_have_text("Enhanced: a wolf at night")
    assert house.generations.get(1).request.prompt == "a wolf at night"
