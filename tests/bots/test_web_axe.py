"""Every page of the web chat, in what it may show, looked through by axe-core."""

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from core.engine import MARK
from core.house import House
from core.options import validate
from core.people import Asker
from tests.bots.test_web_page import CHROMIUM, PHONE, card, locked, say
from tests.bots.test_web_page import browser as browser
from tests.bots.test_web_page_pictures import chosen
from tests.bots.test_web_previews import begun, jpeg, shows
from tests.bots.test_web_text import web as web
from tests.core.test_pictures import drawn, png

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="NO BROWSER: install chromium, page NOT tested"),
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]
DESKTOP: Any = {"width": 1280, "height": 900}
# Best practices too, and what a thumb can hit.
EVERYTHING = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}


def sound(page: Page) -> None:
    """Nothing is wrong with a page as it stands, small and large, by day and by night."""
    found = []
    for size in (PHONE, DESKTOP):
        page.set_viewport_size(size)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            for fault in Axe().run(page, options=EVERYTHING).response["violations"]:
                nodes = [
                    f"{node['html'][:200]} {node['any'][:1] and node['any'][0]['message']}"
                    for node in fault["nodes"]
                ]
                found.append(f"{size['width']} {scheme} {fault['id']}: {nodes}")
    page.set_viewport_size(PHONE)
    assert not found, "\n".join(found)


@pytest.fixture
def house_with_key(
    house: House, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    return locked(monkeypatch, request)


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Page]:
    with browser.new_context(viewport=PHONE, reduced_motion="reduce") as context:
        page = context.new_page()
        page.set_default_timeout(10_000)
        yield page


def everything(house: House, who: Asker) -> None:
    """A card of each kind."""
    for count in (1, 3):
        drawn(house, f"{count} foxes", who, count=count)
    house.queue.redis.delete(house.queue.draw.rq.key)

    def submit(prompt: str, **given: Any) -> int:
        wanted = validate({"prompt": prompt, **given})
        return house.generations.submit(wanted, who, prompt, {"chat": "web"}).id

    marked = house.generations.claim(submit("a marked fox"))
    assert marked
    key = house.media.save(marked.id, "0.png", png(64, 64))
    told = {"key": key, "seed": 1, "width": 64, "height": 64, MARK: "nsfw"}
    assert house.generations.finish(marked, [told], 1.0)
    failed = house.generations.claim(submit("a failed fox"))
    assert failed
    house.generations.fail(failed, "It ran out of memory. Try a smaller size.")
    house.generations.cancel(submit("a cancelled fox"), who)
    one = begun(house, submit("a fox that is being drawn"))
    shows(house, one, jpeg("teal"))
    submit("a queued fox --steps 3")


def test_no_page_has_a_fault(house: House, house_with_key: str, visitor: Page) -> None:
    page = visitor
    page.goto(house_with_key)
    sound(page)
    page.get_by_label("The key").fill("wrong")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_text("That is not the key.")).to_be_visible()
    sound(page)
    page.get_by_label("The key").fill("o&p=n sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#busy")).to_contain_text("queued")
    sound(page)

    page.locator("#language").click()
    sound(page)
    page.keyboard.press("Escape")
    user = page.context.cookies()[0]["value"].split(".")[0]
    who = Asker("web", user, "web")
    everything(house, who)
    expect(page.locator(".card")).to_have_count(7)
    say(page, "/show 99")
    expect(page.locator(".bot.sorry")).to_be_visible()
    say(page, "/settings")
    page.get_by_role("button", name="sampler").click()
    say(page, "/history")
    say(page, "/models")
    say(page, "a fox --repeat 6 --count 2")
    expect(page.get_by_role("button", name="Queue them all")).to_be_visible()
    page.route("**/api/chat", lambda route: route.abort())
    say(page, "a lost fox --steps 9")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    chosen(page, ("cat.png", png(300, 200, "teal")))
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#told")).to_be_visible()
    card(page, 7).get_by_role("button", name="Edit").click()
    card(page, 7).get_by_label("Prompt and flags").fill("a fox --steps 999")
    card(page, 7).get_by_role("button", name="Change").click()
    expect(card(page, 7).get_by_role("alert")).to_be_visible()
    page.locator("#text").press_sequentially("a fox, gold")
    expect(page.get_by_role("option").first).to_be_visible()
    page.keyboard.press("ArrowDown")
    sound(page)

    card(page, 1).locator(".pictures button").click()
    expect(page.locator("#large")).to_be_visible()
    sound(page)

    page.goto(f"{house_with_key}/paint/1")
    expect(page.locator("#picture")).to_be_visible()
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#said")).to_be_visible()
    sound(page)
    page.goto(f"{house_with_key}/paint/99")
    sound(page)
