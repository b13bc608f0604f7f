"""Signing in with a real browser: on a phone and a desk, light and dark, with axe-core."""

import os
import re
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from core.house import House
from tests.bots.test_web_page import CHROMIUM, fits
from tests.bots.test_web_page import browser as browser
from tests.bots.test_web_signin import NELLY, both, cheap, discord, telegram
from tests.bots.test_web_text import web as web
from tests.core.test_accounts import BETTER, GOOD
from tests.core.test_pictures import drawn

__all__ = ["both", "cheap", "discord", "telegram"]
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="NO BROWSER: install chromium, page NOT tested"),
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
    pytest.mark.usefixtures("both"),
]
SIZES = {"phone": {"width": 390, "height": 800}, "desk": {"width": 1280, "height": 800}}
# A folder for whoever wants to look.
SHOTS = os.environ.get("DRAWQUEUE_SHOTS", "")


def look(page: Page, name: str, part: str = "html") -> None:
    """The page fits, and everybody can use it, in both of its colours."""
    fits(page)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found = Axe().run(page, part).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == [], name
        if SHOTS:
            page.screenshot(path=str(Path(SHOTS) / f"{name}-{scheme}.png"))


@pytest.mark.parametrize("size", SIZES)
def test_somebody_makes_an_account_and_comes_back_from_discord(
    house: House, browser: Browser, web: httpx.Client, size: str
) -> None:
    theirs = drawn(house, who=NELLY)
    with browser.new_context(viewport=SIZES[size]) as context:  # type: ignore[arg-type]
        page = context.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(str(web.base_url))
        page.get_by_role("link", name="Sign in").click()
        look(page, f"{size}-signin")
        page.get_by_label("Name").fill("Ann")
        page.get_by_label("Password").fill(GOOD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_have_text("That name and password do not go together.")
        expect(page.get_by_label("Name")).to_have_value("Ann")
        expect(page.get_by_label("Password")).to_have_value("")
        look(page, f"{size}-wrong")
        page.get_by_role("link", name="Make an account").click()
        look(page, f"{size}-new")
        page.get_by_label("Name").fill("Ann")
        page.keyboard.press("Tab")
        page.keyboard.type(GOOD)
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name="Ann")).to_be_visible()
        expect(page.locator("#busy")).to_contain_text("queued")
        look(page, f"{size}-chat", "header")
        page.get_by_role("link", name="Ann").click()
        page.get_by_label("Your password of now").fill(GOOD)
        page.get_by_label("The new one").fill(BETTER)
        page.get_by_role("button", name="Change it").click()
        expect(page.get_by_role("status")).to_contain_text("Your password is changed.")
        look(page, f"{size}-account")
        page.get_by_role("button", name="Sign out", exact=True).first.click()
        expect(page.get_by_role("link", name="Sign in")).to_be_visible()
        page.goto(f"{web.base_url}/account")
        page.get_by_role("button", name="Continue with Discord").click()
        expect(page.get_by_role("heading", name="Nelly")).to_be_visible()
        look(page, f"{size}-discord")
        page.get_by_role("link", name="Back").click()
        expect(page.locator(f".card[data-id='{theirs.id}'] img").first).to_be_visible()
        assert faults == []


def test_nothing_on_the_pages_is_of_another_host(browser: Browser, web: httpx.Client) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        hosts: set[str] = set()
        page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        page.goto(f"{web.base_url}/signin")
        assert hosts == {str(web.base_url).split("/")[2]}
        page.get_by_role("button", name="Continue with Telegram").click()
        page.wait_for_url(re.compile(re.escape(str(web.base_url))))
        expect(page.get_by_role("link", name="John Doe")).to_be_visible()
        assert len(hosts) == 2


def test_the_longest_name_leaves_room_for_what_stands_beside_it(
    browser: Browser, web: httpx.Client
) -> None:
    with browser.new_context(viewport=SIZES["phone"]) as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(f"{web.base_url}/signin/new")
        page.get_by_label("Name").fill("A" * 32)
        page.get_by_label("Password").fill(GOOD)
        page.keyboard.press("Enter")
        expect(page.locator("#busy")).to_contain_text("queued")
        look(page, "phone-long-chat", "header")
        # In two lines: who one is, and how things stand beside the language.
        line = page.locator("#busy").bounding_box()
        language = page.locator("#language").bounding_box()
        above = page.locator("#me").bounding_box()
        assert line and language and above
        assert language["y"] < line["y"] + line["height"] < language["y"] + 2 * language["height"]
        assert above["y"] + above["height"] < line["y"] + line["height"]
        page.locator("#language").click()
        menu = page.locator("#languages").bounding_box()
        assert menu and menu["y"] > language["y"] + language["height"]
        page.goto(f"{web.base_url}/gallery")
        expect(page.locator("#count")).to_contain_text("0 pictures")
        look(page, "phone-long-gallery", "header")
        count = page.locator("#count").bounding_box()
        assert count and count["width"] > 100 and count["height"] < 30


def test_who_comes_next_with_a_browser_is_not_shown_what_it_kept(
    house: House, browser: Browser, web: httpx.Client
) -> None:
    theirs = drawn(house, who=NELLY)
    picture = f"{web.base_url}/media/{theirs.id}/0"
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{web.base_url}/signin")
        page.get_by_role("button", name="Continue with Discord").click()
        expect(page.get_by_role("link", name="Nelly")).to_be_visible()
        for path in (picture, f"{picture}/small"):
            answer = page.goto(path)
            assert answer and answer.status == 200
        page.goto(str(web.base_url))
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("link", name="Sign in")).to_be_visible()
        for path in (picture, f"{picture}/small"):
            answer = page.goto(path)
            assert answer and answer.status == 404
