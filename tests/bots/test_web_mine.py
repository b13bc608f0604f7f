"""The page and what is one's own: reported, taken away, forgotten; in a real browser."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from core.house import House
from core.people import Asker
from core.reports import take_down
from tests.bots.test_web_page import CHROMIUM, LOCAL, card, fits, say
from tests.bots.test_web_page import browser as browser
from tests.bots.test_web_page import page as page
from tests.bots.test_web_text import web as web
from tests.core.test_pictures import drawn

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="NO BROWSER: install chromium, page NOT tested"),
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1200, "light")])
def test_reported_taken_away_and_forgotten(
    house: House, page: Page, width: int, scheme: Any, tmp_path: Path
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    one, two = drawn(house, who=LOCAL), drawn(house, "a green owl", who=LOCAL)
    card(page, one.id).get_by_role("button", name="Report").click()
    box = page.get_by_role("textbox", name="Message")
    expect(box).to_be_focused()
    expect(box).to_have_value(f"/report {one.id} ")
    page.keyboard.type("not nice")
    page.keyboard.press("Enter")
    expect(page.locator(".bot").last).to_have_text(
        f"Thank you. The moderators will look at #{one.id}."
    )
    assert [row.reason for row in house.reports.of(one.id)] == ["not nice"]
    take_down(house, house.generations.get(one.id), Asker("web", "host", trusted=True), "no foxes")
    expect(card(page, one.id)).to_contain_text("taken down by a moderator")
    expect(card(page, one.id)).to_contain_text("Why: no foxes")
    expect(card(page, one.id).get_by_role("button")).to_have_count(0)
    say(page, "/export")
    link = page.locator('a[href^="/export/"]')
    expect(link).to_be_visible()
    with page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == "drawqueue.zip"
    say(page, "/forget")
    expect(page.get_by_text("Shall I forget everything of yours")).to_be_visible()
    fits(page)
    page.screenshot(path=tmp_path / "forget.png")
    page.get_by_role("button", name="Yes, forget me").click()
    expect(page.locator(".bot").last).to_contain_text("Everything of yours is forgotten.")
    page.reload()
    expect(page.locator(".hello")).to_be_visible()
    expect(page.locator(".card")).to_have_count(0)
    assert house.generations.get(two.id).asker == ""
