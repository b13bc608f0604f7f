"""Words that go on with what is being typed, in the web chat's page in a real browser."""

import httpx
import pytest
from playwright.sync_api import Page, expect

from core.house import House
from core.phrases import composed, phrases
from tests.bots import test_web_page
from tests.bots.test_web_page import browser as browser
from tests.bots.test_web_page import fits, say
from tests.bots.test_web_page import page as page
from tests.bots.test_web_text import web as web

pytestmark = test_web_page.pytestmark


def test_the_interface_completes(web: httpx.Client) -> None:
    def completed(text: str) -> list[str]:
        return list(web.post("/api/complete", json={"text": text}).json()["texts"])

    assert completed("/imagine a fox, gold")[0] == "/imagine a fox, golden hour"
    assert completed("a fox xyzzy") == [] and completed("/cancel gold") == []
    assert len(completed("a fox,")) == 6
    for odd, status in ((10**18, 422), (-1, 422), (990_000, 400), (7 * 10**6, 404)):
        assert web.post(f"/api/words/{odd}").status_code == status, odd


def test_a_word_is_completed_by_keys_alone(house: House, page: Page) -> None:
    box = page.get_by_role("textbox", name="Message")
    box.press_sequentially("a fox, gold")
    offered = page.get_by_role("option")
    expect(offered).to_have_text(["a fox, golden hour"])
    fits(page)
    box.press("ArrowDown")
    expect(offered.first).to_have_attribute("aria-selected", "true")
    expect(box).to_have_attribute("aria-activedescendant", "offer-0")
    box.press("Enter")
    expect(box).to_have_value("a fox, golden hour")
    expect(offered).to_have_count(0)
    box.press("Enter")
    expect(page.locator(".card .prompt")).to_have_text("#1 a fox, golden hour")


def test_enter_sends_what_was_typed_and_a_tap_takes_what_is_offered(page: Page) -> None:
    box, offered = page.get_by_role("textbox", name="Message"), page.get_by_role("option")
    box.press_sequentially("a fox, wide")
    expect(offered).to_have_text(["a fox, wide angle"])
    offered.first.click()
    expect(box).to_have_value("a fox, wide angle")
    expect(box).to_be_focused()
    box.fill("")
    box.press_sequentially("a fox, tilt")
    expect(offered).to_have_count(1)
    box.press("Escape")
    expect(offered).to_have_count(0)
    box.press_sequentially("-")
    expect(offered).to_have_count(1)
    box.press("Enter")
    expect(page.locator(".card .prompt")).to_have_text("#1 a fox, tilt-")
    expect(offered).to_have_count(0)


@pytest.mark.usefixtures("house")
def test_words_turn_their_page_and_random_draws(page: Page) -> None:
    say(page, "/words")
    answer = page.locator(".bot:not(.card):not(.hello)").last
    expect(answer).to_contain_text("mood: serene")
    answer.get_by_role("button", name="lighting").click()
    expect(answer).to_contain_text(", ".join(phrases()["lighting"]))
    expect(answer).not_to_contain_text("mood: serene")
    answer.get_by_role("button", name="golden hour").click()
    expect(answer).to_contain_text("Your prompt: golden hour")
    expect(answer.get_by_role("button", name="✓ golden hour")).to_be_focused()
    answer.get_by_role("button", name="Categories").click()
    answer.get_by_role("button", name="mood").click()
    expect(answer).to_contain_text(", ".join(phrases()["mood"]))
    answer.get_by_role("button", name="serene").click()
    expect(answer).to_contain_text("Your prompt: golden hour, serene")
    fits(page)
    answer.get_by_role("button", name="Draw it").click()
    expect(page.locator(".card .prompt")).to_have_text("#1 golden hour, serene")
    say(page, "/random styles --seed 7")
    expect(page.locator(".card .prompt")).to_have_text([
        "#1 golden hour, serene", f"#2 {composed(7, ['styles'])}",
    ])  # fmt: skip
