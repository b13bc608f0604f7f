"""The gallery's page in a real browser: found, looked at, kept, shared, taken away, deleted."""

import io
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import APIResponse, Browser, Page, Route, expect
from sqlalchemy import insert, select, update

from core.database import generations
from core.house import House
from core.receipts import sealed
from tests.bots import test_web_page
from tests.bots.test_web_gallery import marked
from tests.bots.test_web_page import LOCAL, PHONE, fits, until
from tests.bots.test_web_page import browser as browser
from tests.bots.test_web_text import web as web
from tests.core.test_pictures import drawn

pytestmark = test_web_page.pytestmark
# Where to keep what the page looks like, for somebody to look at.
SHOTS = os.environ.get("SHOTS", "")
COLOURS = ("firebrick", "teal", "goldenrod", "navy", "olive", "purple", "sienna", "seagreen")

SWIPE = """() => {
  const stage = document.querySelector(".stage");
  const at = (x) => [new Touch({ identifier: 1, target: stage, clientX: x, clientY: 90 })];
  stage.dispatchEvent(new TouchEvent("touchstart", { touches: at(300), changedTouches: at(300) }));
  stage.dispatchEvent(new TouchEvent("touchend", { touches: [], changedTouches: at(100) }));
}"""


@pytest.fixture
def gallery(browser: Browser, web: httpx.Client) -> Iterator[Page]:
    """The page on a phone; nothing in it may go wrong unseen."""
    with browser.new_context(viewport=PHONE, has_touch=True) as context:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        made = context.new_page()
        made.set_default_timeout(10_000)
        faults: list[str] = []
        made.on("pageerror", lambda error: faults.append(str(error)))
        # The door's policy on what pages may load says so there.
        made.on("console", lambda said: "Security" in said.text and faults.append(said.text))
        yield made
    assert faults == []


def painted(house: House, prompt: str, colour: str, size: tuple[int, int] = (512, 512)) -> int:
    """A finished picture of the page's own person, in a colour."""
    one = drawn(house, prompt, LOCAL)
    picture = sealed(Image.new("RGB", size, colour), one.id, one.request, 5)
    key = house.media.save(one.id, "1.png", picture.png)
    told = {**one.results[0], "key": key, "width": size[0], "height": size[1]}
    with house.database.write() as connection:
        mine = generations.c.id == one.id
        connection.execute(update(generations).where(mine).values(results=[told]))
    return one.id


def many(house: House, number: int) -> None:
    """As many more rows as one picture, which they share."""
    with house.database.write() as connection:
        row = dict(connection.execute(select(generations).limit(1)).one()._mapping)
        row.pop("id")
        connection.execute(
            insert(generations), [{**row, "event": f"many {n}"} for n in range(number)]
        )


def tiles(page: Page) -> Any:
    return page.locator("#grid li")


def shot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png")


def sound(page: Page) -> None:
    """Nothing that bars those who see or press in other ways."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_pictures_are_found_looked_at_and_kept(
    house: House, gallery: Page, web: httpx.Client
) -> None:
    for number, colour in enumerate(COLOURS):
        painted(house, f"a {colour} fox {number}", colour, (512, 320 if number == 3 else 512))
    marked(house, house.generations.get(2))
    page = gallery
    page.goto(f"{web.base_url}/gallery")
    expect(tiles(page)).to_have_count(8)
    expect(page.locator("#count")).to_contain_text("8 pictures,")
    expect(tiles(page).first.locator("img")).to_have_js_property("naturalWidth", 384)
    fits(page)
    sound(page)
    shot(page, "phone-light")
    # Found by words, and by the address that they are in.
    page.get_by_role("searchbox").fill("teal")
    expect(tiles(page)).to_have_count(1)
    assert page.url.endswith("/gallery?words=teal")
    page.get_by_role("searchbox").fill("whale")
    expect(page.get_by_text("Nothing fits.")).to_be_visible()
    page.get_by_role("button", name="Show all pictures").click()
    expect(tiles(page)).to_have_count(8)
    # Large, from picture to picture by keys and by a swipe.
    opened = page.get_by_role("button", name="#8.1 a seagreen fox 7")
    opened.focus()
    page.keyboard.press("Enter")
    large = page.locator("#large")
    expect(large.locator(".details")).to_contain_text("seed 5")
    expect(large.locator("dl")).to_contain_text("sampler")
    assert "picture=8.1" in page.url
    sound(page)
    shot(page, "phone-large")
    page.locator("#large .stage").focus()
    page.keyboard.press("ArrowRight")
    expect(large.get_by_role("heading", name="#7.1")).to_be_visible()
    page.evaluate(SWIPE)
    expect(large.get_by_role("heading", name="#6.1")).to_be_visible()
    # Kept.
    star = large.get_by_role("button", name="Favourite")
    star.click()
    expect(star).to_have_attribute("aria-pressed", "true")
    large.get_by_role("combobox", name="New tag").fill("Sea, night sky")
    page.keyboard.press("Enter")
    expect(large.locator(".tags li")).to_have_count(2)
    large.get_by_role("button", name="Take the tag sea away").click()
    expect(large.locator(".tags li")).to_have_count(1)
    large.get_by_role("combobox", name="New tag").fill("x" * 40)
    page.keyboard.press("Enter")
    expect(large.locator(".told")).to_contain_text("at most 32 characters")
    # Shared, seen by a stranger, taken back.
    large.get_by_role("button", name="Make a link").click()
    link = large.get_by_role("textbox", name="Link")
    expect(link).to_have_value(re.compile(f"^{web.base_url}/shared/"))
    address = link.input_value()
    large.get_by_role("button", name="Copy").click()
    expect(large.locator(".told")).to_have_text("The link is copied.")
    assert page.evaluate("navigator.clipboard.readText()") == address
    assert page.context.browser
    with page.context.browser.new_context(viewport=PHONE, color_scheme="dark") as other:
        stranger = other.new_page()
        stranger.goto(address)
        expect(stranger.get_by_role("img")).to_have_js_property("naturalWidth", 512)
        expect(stranger.locator("body")).not_to_contain_text("fox")
        sound(stranger)
        shot(stranger, "phone-shared")
        large.get_by_role("button", name="Take it back").click()
        expect(large.get_by_role("button", name="Make a link")).to_be_focused()
        stranger.reload()
        expect(stranger.get_by_text("This picture is not shared any more.")).to_be_visible()
    # Back closes it, and leads to it again.
    page.go_back()
    expect(large).to_be_hidden()
    expect(page.get_by_role("button", name="#6.1")).to_be_focused()
    page.get_by_text("★ Favourites").click()
    expect(tiles(page)).to_have_count(1)
    assert page.url.endswith("/gallery?favourite=yes")
    page.reload()
    expect(tiles(page)).to_have_count(1)
    expect(page.locator("select[name=tag]")).to_contain_text("night sky (1)")
    # Again in the chat.
    page.get_by_role("button", name="#6.1").click()
    large.get_by_role("link", name="Draw again").click()
    expect(page.get_by_role("textbox", name="Message")).to_have_value(
        "/imagine a purple fox 5 --seed 5"
    )
    page.get_by_role("link", name="Gallery").click()
    expect(tiles(page)).to_have_count(8)


def test_what_is_done_while_more_is_still_to_come_is_seen(
    house: House, gallery: Page, web: httpx.Client
) -> None:
    painted(house, "a fox", COLOURS[0])
    page = gallery
    page.goto(f"{web.base_url}/gallery")
    held: list[tuple[Route, APIResponse]] = []
    page.route("**/api/gallery/1/0", lambda route: held.append((route, route.fetch())))
    page.get_by_role("button", name="#1.1").click()
    large = page.locator("#large")
    expect(large.get_by_role("heading", name="#1.1")).to_be_visible()
    star = large.get_by_role("button", name="Favourite")
    star.click()
    page.wait_for_timeout(300)
    [(route, answer)] = held
    route.fulfill(response=answer)
    expect(large.locator("dl")).to_contain_text("sampler")
    expect(star).to_have_attribute("aria-pressed", "true")
    page.unroute_all()
    page.reload()
    expect(star).to_have_attribute("aria-pressed", "true")


def test_several_are_taken_away_or_deleted_together(
    house: House, gallery: Page, web: httpx.Client
) -> None:
    drawn(house, "a grid", LOCAL, count=2)
    for number, colour in enumerate(COLOURS[:3]):
        painted(house, f"fox {number}", colour)
    page = gallery
    page.goto(f"{web.base_url}/gallery")
    page.get_by_role("button", name="Choose several").click()
    page.get_by_role("button", name="#4.1").click()
    page.get_by_role("checkbox", name="Choose #1.1").check()
    bar = page.get_by_role("region", name="What is chosen")
    expect(bar).to_contain_text("2 pictures are chosen.")
    sound(page)
    shot(page, "phone-chosen")
    with page.expect_download() as download:
        bar.get_by_role("link", name="As a ZIP").click()
    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as packed:
        assert packed.namelist() == ["4.1.png", "4.1.json", "1.1.png", "1.1.json"]
    bar.get_by_role("button", name="Delete").click()
    sure = page.locator("#sure")
    expect(sure).to_contain_text("Delete 3 pictures for good?")
    expect(sure).to_contain_text("Pictures that were drawn together are deleted together.")
    sure.get_by_role("button", name="Keep").click()
    expect(tiles(page)).to_have_count(5)
    bar.get_by_role("button", name="Delete").click()
    sure.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("3 pictures are deleted.")).to_be_visible()
    expect(tiles(page)).to_have_count(2)
    assert house.generations.get(4).deleted and house.generations.get(1).deleted
    # The last ones by themselves.
    for number in (3, 2):
        page.get_by_role("button", name=f"#{number}.1").click()
        page.locator("#large .facts").get_by_role("button", name="Delete").click()
        sure.get_by_role("button", name="Delete").click()
        until(page, lambda number=number: house.generations.get(number).deleted)
        if number == 3:
            expect(page.locator("#large").get_by_role("heading", name="#2.1")).to_be_visible()
            page.locator("#large").get_by_role("button", name="Close").click()
    expect(page.get_by_text("You have no pictures yet.")).to_be_visible()
    expect(page.locator("#large")).to_be_hidden()
    sound(page)


def test_what_is_marked_is_covered_until_somebody_asks(
    house: House, gallery: Page, web: httpx.Client, rules: Any
) -> None:
    marked(house, house.generations.get(painted(house, "a fox", "teal")))
    rules('[marked]\nalone = "spoiler"')
    page = gallery
    page.goto(f"{web.base_url}/gallery")
    expect(tiles(page).first).to_have_class("covered")
    shot(page, "phone-covered")
    tiles(page).first.locator(".open").click()
    large = page.locator("#large")
    expect(large.locator(".stage img")).to_have_class("covered")
    expect(large.locator(".sharing")).to_be_hidden()
    large.get_by_role("button", name="Show", exact=True).click()
    expect(large.locator(".stage img")).not_to_have_class("covered")
    large.get_by_role("button", name="Close").click()
    expect(tiles(page).first).not_to_have_class("covered")


def test_a_thousand_pictures_leave_the_page_light(
    house: House, browser: Browser, web: httpx.Client
) -> None:
    for number, colour in enumerate(COLOURS):
        painted(house, f"a {colour} fox {number}", colour)
    many(house, 600)
    with browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark") as made:
        page = made.new_page()
        page.goto(f"{web.base_url}/gallery")
        expect(page.locator("#count")).to_contain_text("608 pictures")
        shown = page.locator("#grid li[data-index='0'] img")
        expect(shown).to_have_js_property("naturalWidth", 384)
        shot(page, "desktop-dark")
        sound(page)
        # To the end, where the oldest is.
        until(page, lambda: page.evaluate("""() => {
          const main = document.querySelector("main");
          main.scrollTop = main.scrollHeight;
          return document.querySelector("#more").hidden;
        }"""))  # fmt: skip
        last = page.get_by_role("button", name="#1.1 a firebrick fox 0")
        expect(last).to_be_in_viewport()
        assert tiles(page).count() < 100
        expect(tiles(page).last).to_have_attribute("aria-posinset", "608")
        # By keys alone; what one stands at stays.
        last.focus()
        page.keyboard.press("ArrowLeft")
        expect(page.get_by_role("button", name="#2.1")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#large .details")).to_contain_text("seed 5")
        expect(page.locator(".stage img")).to_have_js_property("complete", True)
        shot(page, "desktop-large")
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="#2.1")).to_be_focused()
        expect(page).to_have_url(f"{web.base_url}/gallery")
        # A link to one opens it wherever it stands.
        page.goto(f"{web.base_url}/gallery?picture=3.1")
        expect(page.locator("#large .prompt")).to_have_text("a goldenrod fox 2")
        page.goto(f"{web.base_url}/gallery?picture=9999.1")
        expect(page.locator("#large .told")).to_contain_text("There is no #9999")


def test_what_goes_wrong_is_in_sight_and_of_nothing_there_is_nothing_to_press(
    house: House, gallery: Page, web: httpx.Client
) -> None:
    number = painted(house, "a fox " * 60, "teal")
    gallery.goto(f"{web.base_url}/gallery?picture={number}.1")
    field = gallery.get_by_role("combobox", name="New tag")
    field.fill("x" * 60)
    gallery.get_by_role("button", name="Add").click()
    told = gallery.locator("#large .told")
    expect(told).to_have_text("A tag has at most 32 characters; that one has 60.")
    expect(told).to_be_in_viewport()
    gallery.goto(f"{web.base_url}/gallery?picture=999.1")
    expect(told).to_have_text("There is no #999.")
    assert gallery.locator("#large button:visible, #large a:visible").count() == 1
    gallery.get_by_role("button", name="Close").click()
    expect(tiles(gallery)).to_have_count(1)
