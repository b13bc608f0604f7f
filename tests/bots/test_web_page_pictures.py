"""The page and pictures, in a real browser: chosen, pasted, dropped, begun with, pressed on."""

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect

from core import catalog, settings
from core.house import House
from core.options import Mode
from tests.bots.test_web_page import (
    CHROMIUM,
    LOCAL,
    card,
    draw,
    fits,
    lose_answers,
    order,
    say,
    until,
)
from tests.bots.test_web_page import browser as browser
from tests.bots.test_web_page import page as page
from tests.bots.test_web_text import web as web
from tests.core.test_pictures import drawn, png

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="NO BROWSER: install chromium, page NOT tested"),
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]
# A file in the hands of the page, as the browser hands it over after a paste or a drop.
HAND = """([kind, name, type, data, more]) => {
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  const held = new DataTransfer();
  held.items.add(new File([bytes], name, { type }));
  for (const other of more) held.setData(other, "words");
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: held, bubbles: true, cancelable: true })
    : new DragEvent(kind, { dataTransfer: held, bubbles: true, cancelable: true });
  document.querySelector("#text").dispatchEvent(event);
}"""


def hand(
    page: Page, kind: str, data: bytes, name: str = "cat.png", type_: str = "image/png",
    more: tuple[str, ...] = (),
) -> None:  # fmt: skip
    page.evaluate(HAND, [kind, name, type_, base64.b64encode(data).decode(), list(more)])


def chosen(page: Page, *files: tuple[str, bytes]) -> None:
    """Choose files as the system's dialog does."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Add a picture").click()
    chooser.value.set_files([
        {"name": name, "mimeType": "image/png", "buffer": data} for name, data in files
    ])  # fmt: skip


def chips(page: Page) -> Locator:
    return page.get_by_label("Pictures that go along").get_by_role("listitem")


def source_size(house: House, job: int) -> tuple[int, int]:
    request = house.generations.get(job).request
    return Image.open(io.BytesIO(house.media.load(request.sources[0]))).size


@pytest.mark.parametrize("way", ["choose", "paste", "drop"])
def test_a_picture_is_remixed_whichever_way_it_comes(house: House, page: Page, way: str) -> None:
    picture = png(300, 200, "teal")
    if way == "choose":
        chosen(page, ("cat.png", picture))
    else:
        if way == "drop":
            hand(page, "dragover", picture)
            assert page.locator("body.over").count() == 1
        hand(page, way, picture)
    expect(chips(page).locator("img")).to_be_visible()
    mine = say(page, "a hen --strength 0.4")
    expect(chips(page)).to_have_count(0)
    expect(mine.get_by_role("img", name="cat.png")).to_be_visible()
    expect(card(page, 1).get_by_role("img", name="What it begins with")).to_be_visible()
    assert house.generations.get(1).request.mode == Mode.REMIX and source_size(house, 1) == (
        300,
        200,
    )
    draw(house, 1)
    expect(card(page, 1).locator(".pictures img")).to_be_visible()
    page.reload()
    expect(mine.get_by_role("img", name="cat.png")).to_be_visible()
    expect(mine.get_by_role("img")).to_have_js_property("naturalWidth", 96)
    expect(card(page, 1)).to_be_visible()
    assert order(page) == ["a hen --strength 0.4", "#1"]


def test_several_go_in_order_and_any_is_taken_away(house: House, page: Page) -> None:
    chosen(
        page, ("a.png", png(120, 120)), ("b.png", png(60, 60)), ("c.png", png(120, 120, "white"))
    )
    expect(chips(page).locator("img:visible")).to_have_count(3)
    page.get_by_role("button", name="Remove b.png").focus()
    page.keyboard.press("Enter")
    expect(chips(page)).to_have_count(2)
    expect(page.get_by_role("textbox")).to_be_focused()
    say(page, "/inpaint a hen")
    expect(card(page, 1)).to_be_visible()
    request = house.generations.get(1).request
    assert Image.open(io.BytesIO(house.media.load(request.mask))).getpixel((0, 0)) == (255,) * 3
    chosen(page, *[(f"{n}.png", png()) for n in range(7)])
    expect(chips(page)).to_have_count(5)
    expect(page.get_by_text("5 pictures are the most.")).to_be_visible()


def test_a_line_waits_for_its_picture(house: House, page: Page) -> None:
    held: list[Route] = []
    page.route("**/api/uploads", lambda route: held.append(route))
    hand(page, "paste", png(90, 60))
    expect(chips(page)).to_contain_text("%")
    page.get_by_role("textbox").fill("a hen")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Goes as soon as the picture is there")).to_be_visible()
    assert order(page) == []
    until(page, lambda: held)
    held[0].continue_()
    expect(card(page, 1)).to_be_visible()
    assert source_size(house, 1) == (90, 60)


def test_what_is_no_picture_is_told_and_nothing_is_lost(house: House, page: Page) -> None:
    # A copied table is words first.
    hand(page, "paste", png(), more=("text/plain", "text/html"))
    expect(chips(page)).to_have_count(0)
    hand(page, "paste", b"not a picture", "notes.png")
    told = page.locator("#told")
    expect(told).to_contain_text("notes.png: I cannot read that as a picture.")
    expect(chips(page)).to_have_count(0)
    hand(page, "paste", png(90, 60))
    page.keyboard.press("Enter")
    expect(told).to_contain_text("Write what to make of it")
    expect(chips(page)).to_have_count(1)
    lose_answers(page, "**/api/uploads")
    hand(page, "paste", png(90, 60, "red"), "dog.png")
    expect(told).to_contain_text("cannot be reached")
    say(page, "a hen")
    expect(told).to_contain_text("try again, or take it away")
    page.unroute_all(behavior="wait")
    page.get_by_role("button", name="Try again").click()
    expect(chips(page).get_by_role("button", name="Try again")).to_have_count(0)
    page.get_by_role("button", name="Remove cat.png").click()
    page.get_by_role("button", name="Send").click()
    expect(card(page, 1)).to_be_visible()


def test_what_is_too_large_is_made_smaller_in_the_browser(
    house: House, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("DRAWQUEUE_UPLOAD_MB", "1")
    settings._read.cache_clear()
    page: Page = request.getfixturevalue("page")
    noise = io.BytesIO()
    Image.effect_noise((3000, 1500), 90).save(noise, "JPEG", quality=95)
    assert len(noise.getvalue()) > 2e6
    hand(page, "paste", noise.getvalue(), "photo.jpg", "image/jpeg")
    expect(chips(page).locator("img")).to_be_visible()
    say(page, "a hen")
    expect(card(page, 1)).to_be_visible()
    assert source_size(house, 1) == (2048, 1024)
    hand(page, "paste", bytes(1_500_000), "film.mp4", "video/mp4")
    expect(page.locator("#told")).to_contain_text(
        "film.mp4: That file has 1.5 MB; 1 MB is the most."
    )


def test_a_picture_on_a_card_is_begun_with(house: House, page: Page) -> None:
    old = drawn(house, who=LOCAL)
    grid = drawn(house, "two owls", who=LOCAL, count=2)
    expect(card(page, grid.id).locator(".pictures img")).to_have_count(2)
    for _ in range(2):
        card(page, old.id).get_by_role("button", name="Use this").click()
    expect(chips(page)).to_have_text([f"#{old.id}.1Try again✕"])
    expect(page.get_by_role("textbox")).to_be_focused()
    say(page, "/upscale")
    large = card(page, grid.id + 1)
    expect(large).to_contain_text(f"upscaled 2× from #{old.id}")
    card(page, grid.id).locator(".pictures button").nth(1).click()
    page.locator("dialog").get_by_role("button", name="Use this").click()
    expect(page.locator("dialog")).to_be_hidden()
    say(page, "a hen")
    expect(card(page, grid.id + 2)).to_contain_text(f"remix from #{grid.id}")
    request = house.generations.get(grid.id + 2).request
    assert request.sources == (grid.results[1]["key"],)
    shown = page.locator(".mine").last.get_by_role("img")
    expect(shown).to_have_js_property("naturalWidth", 256)


def test_only_what_can_be_done_is_offered(
    house: House, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAWQUEUE_MODEL", "kie")
    settings._read.cache_clear()
    catalog.models.cache_clear()
    alone, several = (drawn(house, who=LOCAL, seed=-1, count=count) for count in (1, 2))
    rows = card(page, alone.id).locator(".buttons .row")
    expect(rows).to_have_text(["Use thisReport", "Upscale 2×Upscale 4×", "Retry"])
    assert not rows.last.get_by_role("button").get_attribute("title"), "it draws another"
    card(page, several.id).locator(".pictures button").first.click()
    expect(page.locator("dialog .row")).to_have_text("Use thisReport")


def test_buttons_stand_in_rows(house: House, page: Page) -> None:
    old = drawn(house, who=LOCAL, count=4)
    rows = card(page, old.id).locator(".buttons .row")
    expect(rows).to_have_text(["U1U2U3U4", "V1V2V3V4", "Retry🎲 New seed"])
    tops = rows.first.get_by_role("button").evaluate_all("all => all.map(e => e.offsetTop)")
    assert len(set(tops)) == 1, "side by side on a phone, too"
    rows.first.get_by_role("button", name="U3").click()
    picked = card(page, old.id + 1)
    expect(picked.locator(".buttons .row")).to_have_text([
        "Use thisPaintReport", "Vary (subtle)Vary (strong)", "Upscale 2×Upscale 4×",
        "Retry🎲 New seed",
    ])  # fmt: skip
    rows.first.get_by_role("button", name="U3").click()
    expect(page.locator(".card")).to_have_count(2)
    rows.nth(1).get_by_role("button", name="V2").click()
    expect(card(page, old.id + 2)).to_contain_text(f"remix from #{old.id}")
    picked.get_by_role("button", name="Vary (subtle)").click()
    expect(card(page, old.id + 3)).to_contain_text("strength 0.35")


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1200, "light")])
def test_it_fits_on_phones_and_desks(
    house: House, page: Page, width: int, scheme: Any, tmp_path: Path
) -> None:
    drawn(house, who=LOCAL)
    drawn(house, "two owls", who=LOCAL, count=4)
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    chosen(page, *[(f"a rather long name of a picture {n}.png", png(90, 60)) for n in range(5)])
    expect(chips(page).locator("img:visible")).to_have_count(5)
    fits(page)
    for name in ("Add a picture", "Send"):
        expect(page.get_by_role("button", name=name)).to_be_in_viewport(ratio=1)
    for one in page.locator("#say button:visible").all():
        box = one.bounding_box()
        assert box and box["height"] >= 43 and box["width"] >= 43, "large enough for a finger"
