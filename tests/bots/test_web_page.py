"""The web chat's page in a real browser, over a house whose worker is the test."""

import io
import re
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

from core import settings
from core.engine import Task
from core.house import House
from core.options import validate
from core.people import Asker
from tests.bots.test_web_text import web as web

# These machines are noisy, and two browsers share them.
expect.set_options(timeout=20_000)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="NO BROWSER: install chromium, page NOT tested"),
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]
LOCAL = Asker("web", "local", "web")
PHONE: Any = {"width": 390, "height": 800}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser, web: httpx.Client) -> Iterator[Page]:
    """The page on a phone; nothing in it may go wrong unseen."""
    with browser.new_context(viewport=PHONE) as context:
        made = context.new_page()
        made.set_default_timeout(10_000)
        faults: list[str] = []
        made.on("pageerror", lambda error: faults.append(str(error)))
        made.goto(str(web.base_url))
        expect(made.locator("#busy")).to_contain_text("queued")
        yield made
    assert faults == []


def submit(house: House, number: int, prompt: str = "a fox") -> None:
    for _ in range(number):
        event = f"made {time.perf_counter_ns()}"
        house.generations.submit(validate({"prompt": prompt}), LOCAL, event, {"chat": "web"})


def draw(house: House, number: int) -> None:
    """What a worker does with a job, from its start to a picture."""
    house.queue.redis.lrem(house.queue.draw.rq.key, 1, f"generation-{number}-1")
    claimed = house.generations.claim(number)
    assert claimed
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, "PNG")
    key = house.media.save(number, "0.png", out.getvalue())
    told = {"key": key, "seed": 1, "width": 64, "height": 64}
    assert house.generations.finish(claimed, [told], 1.0)


def say(page: Page, words: str) -> Locator:
    """Send a line; the bubble it is in."""
    page.get_by_role("textbox").fill(words)
    page.get_by_role("button", name="Send").click()
    return page.locator(".mine").last


def card(page: Page, number: int) -> Locator:
    return page.locator(f".card[data-id='{number}']")


def until(page: Page, look: Callable[[], object]) -> None:
    """Wait for what only the test's side can see."""
    for _ in range(1000):
        if look():
            return
        page.wait_for_timeout(20)
    pytest.fail("it never came")


def fits(page: Page) -> None:
    """Nothing on the page is wider than the screen."""
    assert page.viewport_size
    expect(page.locator("html")).to_have_js_property("scrollWidth", page.viewport_size["width"])


def order(page: Page) -> list[str]:
    """What stands on the page from top to bottom: `#3` for a card, else the words."""
    return page.locator("article:not(.hello)").evaluate_all(
        "all => all.map(one => one.dataset.id ? '#' + one.dataset.id : one.innerText.trim())"
    )


def test_what_is_drawn_is_shown_however_much_waits_behind_it(house: House, page: Page) -> None:
    submit(house, 70)
    expect(page.locator(".card")).to_have_count(70)
    claimed = house.generations.claim(1)
    assert claimed
    house.queue.beat(1, 1, 0.5)
    expect(card(page, 1)).to_contain_text("generating 50 %")
    page.reload()
    expect(card(page, 1)).to_contain_text("generating 50 %")
    say(page, "/cancel all")
    expect(page.get_by_text("70 pictures are cancelled.")).to_be_visible()
    expect(page.locator(".card[data-status=cancelled]")).to_have_count(70)
    page.reload()
    expect(page.locator(".card")).to_have_count(50)
    assert [one for one in order(page) if one[0] == "#"] == [f"#{n}" for n in range(21, 71)]


def test_a_setting_is_chosen_below_the_words_that_tell_of_it(house: House, page: Page) -> None:
    say(page, "/settings")
    told = page.locator(".bot:not(.hello)").last
    expect(told).to_contain_text("count: 1 (the host's)")
    fits(page)
    told.get_by_role("button", name="count").click()
    expect(told.get_by_role("button", name="1", exact=True)).to_have_attribute(
        "aria-current", "true"
    )
    told.get_by_role("button", name="3", exact=True).click()
    expect(told).to_contain_text("count: 3 (yours)")
    expect(page.locator(".bot:not(.hello)")).to_have_count(1)
    page.reload()
    kept = page.locator(".bot:not(.hello)").last
    expect(kept).to_contain_text("count: 3 (yours)")
    kept.get_by_role("button", name="sampler").click()
    expect(kept.get_by_role("button", name="‹ Back")).to_be_focused()
    fits(page)
    assert house.tastes.values(LOCAL)["count"].value == "3"


def lose_answers(page: Page, path: str) -> list[str]:
    """Let what is sent arrive and its answer not; gives what was sent."""
    sent: list[str] = []

    def lose(route: Route) -> None:
        sent.append(route.request.post_data or "")
        route.fetch()
        route.abort()

    page.route(path, lose)
    return sent


def test_what_got_no_answer_is_sent_again_and_done_once(house: House, page: Page) -> None:
    sent = lose_answers(page, "**/api/chat")
    mine = say(page, "a lost fox")
    expect(mine).to_contain_text("cannot be reached")
    mine.get_by_role("button", name="Try again").click()
    until(page, lambda: len(sent) == 2)
    expect(mine.get_by_role("button", name="Try again")).to_have_count(1)
    page.unroute_all(behavior="wait")
    page.reload()
    mine.get_by_role("button", name="Try again").click()
    expect(mine.get_by_role("button")).to_have_count(0)
    expect(page.locator(".card")).to_have_count(1)
    assert order(page) == ["a lost fox", "#1"]
    page.reload()
    expect(page.locator(".card")).to_have_count(1)
    expect(mine.get_by_role("button")).to_have_count(0)
    assert len(house.generations.of(LOCAL)) == 1


def test_a_command_whose_answer_was_lost_acts_once(house: House, page: Page) -> None:
    submit(house, 3)
    lose_answers(page, "**/api/chat")
    mine = say(page, "/cancel")
    expect(mine).to_contain_text("cannot be reached")
    page.unroute_all(behavior="wait")
    mine.get_by_role("button", name="Try again").click()
    expect(page.locator(".bot", has_text="#3 is cancelled.")).to_be_visible()
    assert [str(one.state) for one in house.generations.of(LOCAL)] == [
        "cancelled", "queued", "queued"
    ]  # fmt: skip


def test_a_moment_is_told_only_where_it_is_known(house: House, page: Page) -> None:
    house.queue.draw.present("machine-cpu-1-a")
    submit(house, 9)
    expect(card(page, 9)).to_contain_text(" to ")
    told = httpx.get(f"{page.url}api/jobs/9").json()
    assert told["eta_seconds"] > 60 and told["ready"] is None
    expect(card(page, 9)).not_to_contain_text("ready about")
    house.queue.pace.learn(house.generations.get(9).request, 30.0)
    expect(card(page, 9)).to_contain_text(re.compile(r"ready about \d"))
    assert httpx.get(f"{page.url}api/jobs/9").json()["ready"]


def test_what_a_command_did_is_said_below_it_with_a_link(house: House, page: Page) -> None:
    submit(house, 30)
    expect(page.locator(".card")).to_have_count(30)
    say(page, "/cancel 2")
    answer = page.locator(".bot", has_text="#2 is cancelled.")
    expect(answer).to_be_in_viewport()
    assert order(page)[-2:] == ["/cancel 2", "#2 is cancelled."]
    answer.get_by_role("link", name="#2").click()
    expect(card(page, 2)).to_be_in_viewport()
    say(page, "/retry 2")
    expect(page.locator(".bot", has_text="#2 is queued.")).to_be_in_viewport()


def test_the_end_stays_in_sight(house: House, page: Page) -> None:
    submit(house, 12)
    expect(card(page, 12)).to_be_in_viewport()
    # A phone's keyboard comes.
    page.set_viewport_size({"width": 390, "height": 420})
    expect(card(page, 12).get_by_role("button", name="Cancel")).to_be_in_viewport()
    page.locator("#messages").evaluate("e => e.scrollTo(0, 0)")
    expect(card(page, 1)).to_be_in_viewport()
    page.wait_for_timeout(100)
    page.set_viewport_size({"width": 390, "height": 500})
    expect(card(page, 1)).to_be_in_viewport()
    expect(say(page, "/models")).to_be_in_viewport()


def test_cards_stand_in_order_below_their_message(house: House, page: Page) -> None:
    def slowly(route: Route) -> None:
        answer = route.fetch()
        expect(page.locator(".card")).to_have_count(3)
        route.fulfill(response=answer)

    page.route("**/api/chat", slowly)
    say(page, "{red, green, blue} fox")
    expect(page.locator(".card")).to_have_count(3)
    page.unroute_all(behavior="wait")
    say(page, "/show 99")
    expect(page.locator(".sorry")).to_be_visible()
    assert order(page)[:5] == ["{red, green, blue} fox", "#1", "#2", "#3", "/show 99"]
    draw(house, 1)
    expect(card(page, 1).locator("img")).to_be_visible()
    say(page, "/show 1")
    expect(page.locator("article").last).to_have_attribute("data-id", "1")
    expect(card(page, 1)).to_be_in_viewport()
    assert order(page)[-2:] == ["/show 1", "#1"]


def test_a_question_is_answered_once_and_outlives_a_reload(house: House, page: Page) -> None:
    say(page, "a fox --repeat 6 --count 2")
    agree = page.get_by_role("button", name="Queue them all")
    expect(page.get_by_text("That makes 6 jobs with 12 pictures")).to_be_visible()
    page.reload()
    sent = lose_answers(page, "**/api/proposals/**")
    agree.click()
    expect(page.locator(".sorry")).to_contain_text("press once more")
    page.unroute_all(behavior="wait")
    sent.clear()

    pressable: list[int] = []

    def slowly(route: Route) -> None:
        sent.append(route.request.url)
        pressable.append(page.locator("article:not(.card, .hello) button:enabled").count())
        route.continue_()

    page.route("**/api/proposals/**", slowly)
    agree.dblclick()
    answer = page.get_by_text("6 jobs with 12 pictures are in line, #1 to #6.")
    expect(answer).to_have_count(1)
    expect(agree).to_have_count(0)
    page.reload()
    expect(page.locator(".card")).to_have_count(6)
    expect(answer).to_have_count(1)
    expect(agree).to_have_count(0)
    assert len(sent) == 1 and pressable == [0] and len(house.generations.of(LOCAL)) == 6
    assert order(page)[-6:] == [f"#{n}" for n in range(1, 7)]


def locked(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A house with a key; its address."""
    monkeypatch.setenv("DRAWQUEUE_WEB_KEY", "o&p=n sesame")
    settings._read.cache_clear()
    return str(request.getfixturevalue("web").base_url)


def test_a_reload_keeps_ones_own_lines_and_shows_no_other_persons(
    house: House, browser: Browser, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    address = locked(monkeypatch, request)
    with browser.new_context(viewport=PHONE) as context:
        page = context.new_page()

        def enter() -> None:
            page.goto(address)
            page.get_by_label("The key").fill("o&p=n sesame")
            page.get_by_role("button", name="Open").click()

        for _ in range(2):
            # Somebody else from now on, for whom nothing was said.
            context.clear_cookies()
            enter()
            say(page, "/models")
            expect(page.get_by_text("pattern: ")).to_be_visible()
            assert len(order(page)) == 2
        for line in ("a fox --steps 900", "a fox", "/priority", "an owl", "/quota"):
            bots = page.locator(".bot").count()
            say(page, line)
            expect(page.locator(".bot")).to_have_count(bots + 1)
        stood = order(page)
        assert stood[5] == "#1" and stood[-2] == "/quota"
        page.reload()
        expect(page.locator(".card")).to_have_count(2)
        assert order(page) == stood
        context.clear_cookies()
        enter()
        say(page, "/models")
        expect(page.get_by_text("pattern: ")).to_be_visible()
        assert len(order(page)) == 2


def test_whoever_has_no_key_is_asked_for_it(
    house: House, browser: Browser, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    address = locked(monkeypatch, request)
    with browser.new_context(viewport=PHONE) as context:
        page = context.new_page()
        for wrong in ("", "?key=wrong"):
            answer = page.goto(f"{address}/{wrong}")
            assert answer and answer.status == 401
            expect(page.get_by_label("The key")).to_be_visible()
            told = page.get_by_text("That is not the key.")
            expect(told).to_have_count(1 if wrong else 0)
        page.goto(address)
        expect(told).to_have_count(0)
        page.get_by_label("The key").fill("wrong")
        page.get_by_role("button", name="Open").click()
        expect(told).to_be_visible()
        fits(page)
        styled = page.get_by_role("button", name="Open")
        expect(styled).to_have_css("background-color", "rgb(67, 83, 217)")
        page.get_by_label("The key").fill("o&p=n sesame")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Send")).to_be_visible()
        assert "key" not in page.url
        (cookie,) = context.cookies()
        assert cookie["httpOnly"] and cookie["sameSite"] == "Lax"


def test_words_and_labels(house: House, page: Page) -> None:
    state = page.locator("#busy")
    expect(state).to_have_text("0 queued · 0 generating · no worker")
    house.queue.draw.present("machine-cpu-1-a")
    expect(state).to_have_text("0 queued · 0 generating · 1 worker")
    heights = "e => [e.querySelector('#busy'), e].map(o => o.offsetHeight)"
    words, header = page.locator("header").evaluate(heights)
    assert words < 30 and header < 100, "one line of the two that a phone's header has"
    mine = say(page, "a fox with quite a lot of words before --steps 9 --width 64 --guidance 3")
    for flag in ("--steps", "--width", "--guidance"):
        lines = mine.get_by_text(flag, exact=True).evaluate("e => e.getClientRects().length")
        assert lines == 1
    expect(card(page, 1)).to_be_visible()
    draw(house, 1)
    expect(card(page, 1).get_by_title("Draw the same again")).to_have_text("Retry")


def test_places_elsewhere_are_no_workers_of_the_house(house: House, page: Page) -> None:
    state = page.locator("#busy")
    page.set_viewport_size({"width": 360, "height": 740})
    house.queue.line("write").present("machine-cpu-1-w")
    house.queue.line("kie").present("machine-remote-1-a", at_once=50)
    expect(state).to_have_text("0 queued · 0 generating · kie.ai")
    for name in ("a", "b"):
        house.queue.draw.present(f"machine-cpu-1-{name}")
    house.queue.line("pollinations").present("machine-remote-1-a", at_once=2)
    submit(house, 1)
    asked = validate({"prompt": "a far fox"})
    claimed = house.generations.claim(house.generations.submit(asked, LOCAL, "far", {}).id)
    assert claimed and house.elsewhere.hand_out(claimed, Task("t1", 60.0))
    expect(state).to_have_text("1 queued · 1 generating · 2 workers · kie.ai, Pollinations")
    told = httpx.get(f"{page.url}api/queue").json()
    assert told["own"] == 2 and told["workers"] == 54 and told["lines"]["kie"] == 50
    assert told["engines"] == ["kie.ai", "Pollinations"]
    wide = "e => e.scrollWidth - e.clientWidth"
    assert page.locator("html").evaluate(wide) == state.evaluate(wide) == 0, "it fits a phone"
    assert (state.bounding_box() or {"height": 99})["height"] < 50, "in two lines at most"


def test_back_closes_the_picture_and_not_the_page(house: House, page: Page) -> None:
    submit(house, 1)
    draw(house, 1)
    at, large = page.url, page.locator("#large img")
    for close in (page.go_back, lambda: page.keyboard.press("Escape"), None):
        card(page, 1).locator(".pictures button").click()
        expect(large).to_be_visible()
        if close is None:
            page.get_by_role("button", name="Close").click()
        else:
            close()
        expect(large).to_be_hidden()
        expect(card(page, 1)).to_be_visible()
        assert page.url == at
        # Going back takes its time; wait_for_function() polls by eval(), which the page forbids.
        until(page, lambda: page.evaluate("history.state") is None)
    page.go_forward()
    expect(large).to_be_visible()


def test_the_description_of_the_interface_needs_no_other_host(
    web: httpx.Client, page: Page
) -> None:
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    page.goto(f"{web.base_url}/docs")
    operations = page.locator(".opblock-summary-path")
    expect(operations.filter(has_text="/api/proposals")).to_be_visible()
    assert len(asked) >= 4 and all(one.startswith((str(web.base_url), "data:")) for one in asked)
