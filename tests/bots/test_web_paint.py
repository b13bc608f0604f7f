"""The page with a brush in a real browser: what is painted is what the mask says."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from core import brush, catalog, settings
from core.brush import Ticket
from core.house import House
from core.options import Mode
from core.people import Asker
from core.rows import Generation
from tests.bots.test_web_page import CHROMIUM, LOCAL, PHONE, card, fits, lose_answers, until
from tests.bots.test_web_page import browser as browser
from tests.bots.test_web_text import web as web
from tests.core.test_pictures import drawn, png

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="NO BROWSER: install chromium, page NOT tested"),
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]
TINA = Asker("telegram", "7", "Tina", chat="telegram:chat:5")
DESKTOP: Any = {"width": 1200, "height": 800}


@pytest.fixture
def open_(browser: Browser, web: httpx.Client) -> Iterator[Callable[..., Page]]:
    """Opens an address in a new window; nothing in it may go wrong unseen."""
    faults: list[str] = []
    contexts = []

    def opened(path: str, **options: Any) -> Page:
        options = {"viewport": PHONE, **options}
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{web.base_url}{path}")
        return page

    yield opened
    for one in contexts:
        one.close()
    assert faults == []


def spot(page: Page, x: float, y: float) -> tuple[float, float]:
    """A point of the canvas, given as shares of it, on the screen."""
    page.wait_for_load_state()
    box = page.locator("#brush").bounding_box()
    assert box
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def stroke(page: Page, *points: tuple[float, float]) -> None:
    page.mouse.move(*spot(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*spot(page, *point), steps=4)
    page.mouse.up()


def touch(page: Page, *points: tuple[float, float]) -> None:
    """A finger, as a phone's screen tells of it."""
    session = page.context.new_cdp_session(page)
    for index, point in enumerate(points):
        x, y = spot(page, *point)
        kind = "touchMove" if index else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def becomes(page: Page, at: tuple[float, float], white: bool) -> None:
    """Wait until a spot of the sheet is painted, or is not."""
    look = """([x, y]) => {
        const sheet = document.querySelector("#brush");
        const place = [Math.round(x * sheet.width), Math.round(y * sheet.height)];
        return sheet.getContext("2d").getImageData(...place, 1, 1).data[3] > 0;
    }"""
    until(page, lambda: page.evaluate(look, at) == white)


def send(page: Page, words: str = "a blue sea") -> None:
    page.get_by_label("What shall be there").fill(words)
    page.get_by_role("button", name="Send").click()


def mask_of(house: House, made: Generation) -> Image.Image:
    return Image.open(io.BytesIO(house.media.load(made.request.mask))).convert("L")


def newest(house: House, who: Asker = LOCAL) -> Generation:
    return house.generations.of(who, limit=1)[0]


def test_what_is_painted_with_a_mouse_is_white_in_the_mask(
    house: House, open_: Callable[..., Page]
) -> None:
    old = drawn(house, who=LOCAL, count=2)
    page = open_(f"/paint/{old.id}.2")
    stroke(page, (0.2, 0.25), (0.8, 0.25))
    send(page, "a blue sea --strength 0.8")
    expect(page.get_by_role("status")).to_contain_text("is in line")
    made = newest(house)
    request = made.request
    assert (request.mode, request.prompt, request.strength) == (Mode.INPAINT, "a blue sea", 0.8)
    assert request.sources == (old.results[1]["key"],) and made.parent == old.id
    mask = mask_of(house, made)
    assert mask.size == (256, 256) and len(mask.getcolors() or ()) == 2
    # The brush is 12 % wide, and round.
    half = round(0.06 * 256)
    for x in range(256):
        for y in range(256):
            from_line = max(51.2 - x, 0, x - 204.8) ** 2 + (y - 64) ** 2
            if from_line < (half - 3) ** 2:
                assert mask.getpixel((x, y)) == 255, (x, y)
            elif from_line > (half + 3) ** 2:
                assert mask.getpixel((x, y)) == 0, (x, y)


def test_a_finger_paints_erases_undoes_and_clears(house: House, open_: Callable[..., Page]) -> None:
    old = drawn(house, who=LOCAL)
    page = open_(f"/paint/{old.id}", has_touch=True, is_mobile=True)
    undo, clear = (page.get_by_role("button", name=name) for name in ("Undo", "Clear"))
    expect(undo).to_be_disabled()
    touch(page, (0.1, 0.5), (0.5, 0.5), (0.9, 0.5))
    becomes(page, (0.8, 0.5), white=True)
    touch(page, (0.5, 0.1), (0.5, 0.9))
    becomes(page, (0.5, 0.8), white=True)
    # Not by a tap: so soon after another touch the browser may take both for one gesture.
    undo.click()
    becomes(page, (0.5, 0.8), white=False)
    page.get_by_role("button", name="Erase").click()
    touch(page, (0.5, 0.5))
    becomes(page, (0.5, 0.5), white=False)
    assert page.evaluate("[scrollY, visualViewport.scale]") == [0, 1]
    clear.click()
    becomes(page, (0.2, 0.5), white=False)
    send(page)
    expect(page.get_by_role("status")).to_contain_text("Nothing is painted yet")
    assert len(house.generations.of(LOCAL)) == 1, "nothing was sent"
    undo.click()
    becomes(page, (0.2, 0.5), white=True)
    send(page)
    expect(page.get_by_role("status")).to_contain_text("is in line")
    mask = mask_of(house, newest(house))
    told = {at: mask.getpixel((round(at[0] * 256), round(at[1] * 256))) for at in (
        (0.2, 0.5), (0.8, 0.5), (0.5, 0.5), (0.5, 0.2), (0.5, 0.8), (0.2, 0.2),
    )}  # fmt: skip
    assert [at for at, white in told.items() if white] == [(0.2, 0.5), (0.8, 0.5)]


def test_keys_paint_too(house: House, open_: Callable[..., Page]) -> None:
    old = drawn(house, who=LOCAL)
    page = open_(f"/paint/{old.id}")
    page.locator("#brush").focus()
    for key in (" ", *["ArrowRight"] * 4, " ", *["ArrowDown"] * 6, " ", " "):
        page.keyboard.press(key)
    page.keyboard.press("Control+z")
    send(page)
    expect(page.get_by_role("status")).to_contain_text("is in line")
    mask = mask_of(house, newest(house))
    assert mask.getpixel((128 + 50, 128)) == 255 and mask.getpixel((178, 218)) == 0


def test_a_double_tap_and_a_lost_answer_submit_once(
    house: House, open_: Callable[..., Page]
) -> None:
    old = drawn(house, who=LOCAL)
    page = open_(f"/paint/{old.id}")
    stroke(page, (0.4, 0.4), (0.6, 0.6))
    sent = lose_answers(page, re.compile(r"/paint/\d+$"))  # type: ignore[arg-type]
    send(page)
    expect(page.get_by_role("status")).to_contain_text("once more")
    page.unroute_all(behavior="wait")
    page.get_by_role("button", name="Send").dblclick()
    expect(page.get_by_role("status")).to_contain_text("#2 is in line")
    assert len(sent) == 1 and len(house.generations.of(LOCAL)) == 2
    stroke(page, (0.1, 0.1))
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status")).to_contain_text("#3 is in line")
    assert mask_of(house, newest(house)).getpixel((26, 26)) == 255, "a dot is painted too"


def test_many_are_asked_about_first(house: House, open_: Callable[..., Page]) -> None:
    old = drawn(house, who=LOCAL)
    page = open_(f"/paint/{old.id}")
    stroke(page, (0.4, 0.4), (0.6, 0.6))
    send(page, "a {red, green, blue, grey, black, white} sea")
    expect(page.get_by_role("status")).to_contain_text("That makes 6 pictures")
    assert len(house.generations.of(LOCAL)) == 1
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status")).to_contain_text("is in line")
    assert len(house.generations.of(LOCAL)) == 7


def test_what_was_escaped_stays_so_in_the_words_on_the_page(
    house: House, open_: Callable[..., Page]
) -> None:
    old = drawn(house, "a {red, blue} sea", who=LOCAL)
    page = open_(f"/paint/{old.id}")
    stroke(page, (0.4, 0.4), (0.6, 0.6))
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status")).to_contain_text("is in line")
    assert newest(house).request.prompt == old.request.prompt


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWQUEUE_WEB_KEY", "sesame")
    settings._read.cache_clear()


def test_a_link_speaks_for_who_got_it_and_the_card_goes_to_their_chat(
    locked: None, house: House, open_: Callable[..., Page]
) -> None:
    there = drawn(house, who=TINA)
    assert house.showing.place(there, "77", {"chat": 5, "topic": None})
    old = house.generations.get(there.id)
    page = open_(house.brush.link(Ticket.of(TINA, old, 0)))
    expect(page.get_by_role("link", name="Back")).to_have_count(0)
    expect(page.locator("#picture")).to_have_js_property("naturalWidth", 256)
    stroke(page, (0.4, 0.4), (0.6, 0.6))
    send(page)
    expect(page.get_by_role("status")).to_contain_text("appears in the chat")
    made = newest(house, TINA)
    assert (made.platform, made.asker, made.address) == ("telegram", "7", old.address)
    assert made.chat == old.chat and made.request.mode == Mode.INPAINT
    assert made.id in [one.id for one in house.showing.stale(["telegram"])], "a poster's"
    # It opens nothing else.
    for path in ("/", "/api/jobs", f"/media/{old.id}/0", f"/paint/{old.id}"):
        assert httpx.get(f"{page.url.split('/paint')[0]}{path}").status_code == 401


def test_what_cannot_paint_over_its_own_names_another(
    house: House, open_: Callable[..., Page], web: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAWQUEUE_MODEL", "kie,pattern")
    settings._read.cache_clear()
    catalog.models.cache_clear()
    theirs, ours = (drawn(house, one, LOCAL, model=one, seed=-1) for one in ("kie", "pattern"))
    page = open_(f"/paint/{ours.id}")
    expect(page.get_by_label("What shall be there")).to_have_value("")
    page = open_(f"/paint/{theirs.id}")
    expect(page.get_by_label("What shall be there")).to_have_value("--model pattern")
    stroke(page, (0.4, 0.4), (0.6, 0.6))
    page.get_by_role("button", name="Send").click()
    until(page, lambda: newest(house).id > ours.id)
    made = newest(house).request
    assert (made.mode, made.model, made.prompt) == (Mode.INPAINT, "pattern", "kie")
    monkeypatch.setenv("DRAWQUEUE_MODEL", "kie")
    settings._read.cache_clear()
    catalog.models.cache_clear()
    for one in (theirs, ours):
        refused = web.get(f"/paint/{one.id}")
        assert refused.status_code == 422 and "No model here does." in refused.text


def test_links_that_are_none_are_a_page_in_words(
    locked: None, house: House, web: httpx.Client, open_: Callable[..., Page],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    old = drawn(house, who=TINA)
    good = house.brush.link(Ticket.of(TINA, old, 0))
    theirs = house.brush.link(Ticket.of(Asker("telegram", "8", chat="x"), old, 0))
    monkeypatch.setattr(brush, "LIVES_SECONDS", -1)
    late = house.brush.link(Ticket.of(TINA, old, 0))
    for link, status, words in (
        (late, 410, "older than a day"),
        (f"{good}x", 403, "not one of mine"),
        (good.replace("/W", "/X"), 403, "not one of mine"),
        (theirs, 404, f"no #{old.id} of yours"),
    ):
        told = web.get(link)
        assert told.status_code == status and words in told.text and "a fox" not in told.text
        assert told.headers["content-type"].startswith("text/html")
        for answer in (
            web.get(f"{link}/picture"),
            web.post(f"{link}/mask", content=png()),
            web.post(link, json={"mask": "up_", "event": "1"}),
        ):
            assert answer.status_code == status and words in answer.json()["error"]
    page = open_(late)
    expect(page.get_by_role("alert")).to_contain_text("older than a day")
    assert len(house.generations.of(TINA)) == 1


def test_a_card_leads_to_the_brush_and_back(house: House, open_: Callable[..., Page]) -> None:
    old = drawn(house, who=LOCAL)
    page = open_("/")
    card(page, old.id).get_by_role("link", name="Paint").click()
    expect(page.get_by_role("heading")).to_have_text(f"Paint on #{old.id}")
    stroke(page, (0.4, 0.4), (0.6, 0.6))
    send(page)
    expect(page.get_by_role("status")).to_contain_text("is in line")
    page.get_by_role("link", name="Back").click()
    expect(card(page, old.id + 1)).to_contain_text("a blue sea")
    page.get_by_role("textbox").fill(f"/paint {old.id}")
    page.keyboard.press("Enter")
    page.get_by_role("link", name=f"/paint/{old.id}.1").click()
    expect(page.get_by_role("heading")).to_have_text(f"Paint on #{old.id}")


@pytest.mark.parametrize(("view", "scheme"), [(PHONE, "dark"), (DESKTOP, "light")])
def test_everything_is_in_sight(
    house: House, open_: Callable[..., Page], view: Any, scheme: str, tmp_path: Path
) -> None:
    old = drawn(house, "<b>a fox</b> {width}", who=LOCAL, aspect="2:3")
    page = open_(f"/paint/{old.id}", viewport=view, color_scheme=scheme)
    stroke(page, (0.3, 0.3), (0.7, 0.4))
    for name in ("Brush", "Erase", "Undo", "Clear", "Send"):
        expect(page.get_by_role("button", name=name)).to_be_in_viewport(ratio=1)
    expect(page.locator("#brush")).to_be_in_viewport(ratio=0.99)
    fits(page)
    box, request = page.locator("#brush").bounding_box(), old.request
    assert box and abs(box["width"] / box["height"] - request.width / request.height) < 0.02
    expect(page.get_by_alt_text("paint on: <b>a fox</b> {width}")).to_be_visible()
