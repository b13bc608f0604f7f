"""Cards of words on the web chat's page in a real browser; what writes is the test."""

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from core.house import House
from core.lifecycle import State
from core.options import Mode
from tests.bots.test_web_axe import sound
from tests.bots.test_web_page import browser as browser
from tests.bots.test_web_page import card, fits, order, say
from tests.bots.test_web_page import page as page
from tests.bots.test_web_page import pytestmark as pytestmark
from tests.bots.test_web_text import web as web
from tests.bots.test_web_written import LOCAL, POEM, asked, elsewhere, says, stood_in, written
from tests.bots.test_web_written import words as words
from tests.core.test_pictures import drawn

LONG = "\n\n".join(f"{number}. The sea is wide, and the sea is deep." for number in range(1, 60))


def of(page: Page, number: int) -> Locator:
    return card(page, number).locator(".written")


def test_words_grow_in_their_card_and_nothing_jumps(house: House, page: Page) -> None:
    say(page, "/write a poem about the sea")
    expect(card(page, 1)).to_contain_text("#1 a poem about the sea")
    expect(of(page, 1)).to_be_hidden()
    claimed = says(house, house.generations.get(1), "The sea")
    expect(of(page, 1)).to_have_text("The sea")
    expect(card(page, 1)).to_contain_text("writing")
    expect(card(page, 1).locator("progress")).to_be_hidden()
    expect(of(page, 1)).to_have_attribute("aria-live", "off")
    # What somebody has marked stays marked while more is written behind it.
    of(page, 1).evaluate("e => getSelection().setBaseAndExtent(e.firstChild, 4, e.firstChild, 7)")
    says(house, claimed, LONG)
    expect(of(page, 1)).to_contain_text("59. The sea")
    says(house, claimed, "The sea is wide")
    expect(of(page, 1)).to_have_text("The sea is wide")
    of(page, 1).evaluate("e => getSelection().setBaseAndExtent(e.firstChild, 4, e.firstChild, 7)")
    says(house, claimed, "The sea is wide" + LONG)
    expect(of(page, 1)).to_contain_text("59. The sea")
    assert page.evaluate("getSelection().toString()") == "sea"
    expect(card(page, 1).get_by_role("button", name="Cancel")).to_be_in_viewport()
    # Who reads from the start is left there, also when it is finished.
    page.locator("#messages").evaluate("e => e.scrollTo(0, 0)")
    page.wait_for_timeout(100)
    top = page.locator("#messages").evaluate("e => e.scrollTop")
    assert house.generations.finish(claimed, [], 2.0, text="The sea is wide" + LONG + " The end.")
    expect(card(page, 1)).to_have_attribute("data-status", "done")
    expect(of(page, 1)).to_contain_text("The end.")
    assert page.locator("#messages").evaluate("e => e.scrollTop") == top
    expect(of(page, 1)).to_have_class("written")
    fits(page)


def test_a_short_answer_is_read_out_once_it_is_whole(house: House, page: Page) -> None:
    one = asked(house)
    claimed = says(house, one, "The sea")
    expect(of(page, 1)).to_have_text("The sea")
    page.evaluate("""() => {
        window.seen = [];
        new MutationObserver((all) => seen.push(...all
            .filter((one) => one.target.ariaLive === "polite")
            .flatMap((one) => [...one.addedNodes].map((node) => node.data))
        )).observe(document.querySelector(".written"), { childList: true });
    }""")
    assert house.generations.finish(claimed, [], 2.0, text="The sea is wide.")
    expect(of(page, 1)).to_have_attribute("aria-live", "polite")
    assert page.evaluate("seen") == ["The sea is wide."]


def test_a_long_answer_is_folded_and_shown_whole(house: House, page: Page) -> None:
    written(house, asked(house), LONG)
    written(house, asked(house, "a word"), "Sea.")
    # One that was seen growing would stay open.
    page.reload()
    expect(of(page, 1)).to_have_class("written folded")
    box = of(page, 1).bounding_box()
    assert box and box["height"] < 300
    expect(of(page, 2)).to_have_class("written")
    expect(card(page, 2).locator(".fold")).to_be_hidden()
    fold = card(page, 1).get_by_role("button", name="Show all")
    expect(fold).to_have_attribute("aria-expanded", "false")
    fold.click()
    less = card(page, 1).get_by_role("button", name="Show less")
    expect(less).to_have_attribute("aria-expanded", "true")
    whole = of(page, 1).bounding_box()
    assert whole and whole["height"] > 1000
    less.click()
    expect(of(page, 1)).to_have_class("written folded")
    expect(card(page, 1).get_by_role("button", name="Show all")).to_be_in_viewport()


STRANGE: dict[str, str] = {
    "markup": "<script>document.title = 'bad'</script><img src=x onerror=\"document.title='bad'\">"
    "<a href='javascript:bad'>&lt;b&gt;</a>",
    "markdown": "# A *title* with `code` and [a link](https://example.com) ![x](http://x.example)",
    "bidi": "safe \u202egnp.exe\u202c \u2066\u200f\u05d0\u05d1\u2069 end\n\u05e9\u05dc\u05d5\u05dd",
    "long word": "a" * 800 + "\t" + "\u0301" * 50,
    "much": "The sea is wide. " * 6200,
}


def test_text_is_text_whatever_it_looks_like(house: House, page: Page) -> None:
    asked_for: list[str] = []
    page.on("request", lambda one: asked_for.append(one.url))
    for name, text in STRANGE.items():
        written(house, asked(house, f"{name} <b>bold</b>"), text)
    page.reload()
    for number, (name, text) in enumerate(STRANGE.items(), 1):
        expect(of(page, number)).to_be_visible()
        assert of(page, number).evaluate("e => e.textContent") == text, name
        assert of(page, number).evaluate("e => e.childElementCount") == 0, name
        fits(page)
        assert page.title() == "Drawqueue"
    size = page.evaluate("document.querySelector('#messages').scrollWidth")
    assert size <= 390
    assert not [one for one in asked_for if "example" in one or one.endswith("/x")]
    # A paragraph has its own direction, and no override reaches what stands beside it.
    expect(of(page, 3)).to_have_css("unicode-bidi", "plaintext")
    expect(card(page, 3).locator(".details")).to_have_css("direction", "ltr")
    card(page, 5).get_by_role("button", name="Show all").click()
    fits(page)


def test_words_are_copied_and_downloaded(house: House, page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    written(house, asked(house))
    copy = card(page, 1).get_by_role("button", name="Copy")
    copy.click()
    expect(card(page, 1).get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == POEM
    expect(copy).to_be_visible()
    # Without https a page has to do it as in old times.
    page.evaluate("navigator.clipboard.writeText('other')")
    page.evaluate("navigator.clipboard.writeText = undefined")
    copy.click()
    expect(card(page, 1).get_by_role("button", name="Copied")).to_be_focused()
    assert page.evaluate("navigator.clipboard.readText()") == POEM
    with page.expect_download() as download:
        card(page, 1).get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "drawqueue-1.txt"
    assert download.value.path().read_text() == POEM


def test_one_answers_and_what_was_written_goes_on(house: House, page: Page) -> None:
    written(house, asked(house))
    box, mine = page.get_by_role("textbox", name="Message"), page.locator(".mine")
    card(page, 1).get_by_role("button", name="Answer").click()
    expect(page.get_by_text("Answer to #1")).to_be_visible()
    expect(box).to_be_focused()
    expect(box).to_have_attribute("placeholder", "What to say to it")
    fits(page)
    page.get_by_role("button", name="Answer nothing").click()
    expect(page.get_by_text("Answer to #1")).to_be_hidden()
    card(page, 1).get_by_role("button", name="Answer").click()
    say(page, "Shorter, --please")
    expect(page.get_by_text("Answer to #1")).to_be_hidden()
    expect(card(page, 2)).to_contain_text("#2 Shorter, --please")
    expect(mine).to_contain_text("To #1:")
    expect(mine.get_by_role("link", name="#1")).to_have_attribute("href", "#1")
    second = house.generations.get(2)
    assert second.parent == 1 and second.request.mode == Mode.WRITE
    card(page, 1).get_by_role("button", name="Continue").click()
    expect(card(page, 3)).to_contain_text("#3 Go on.")
    card(page, 3).get_by_role("button", name="Cancel").click()
    expect(card(page, 3)).to_have_attribute("data-status", "cancelled")
    card(page, 3).get_by_role("button", name="Retry").click()
    expect(card(page, 3)).to_have_attribute("data-status", "queued")
    say(page, "a fox")
    expect(card(page, 4)).to_contain_text("#4 a fox")
    assert house.generations.get(4).request.mode == Mode.TEXT, "the next line answers nothing"
    page.reload()
    expect(mine.first).to_contain_text("To #1:")
    assert order(page)[1].startswith("To #1:\nShorter") and order(page)[2].startswith("#2")


def test_a_picture_is_described_and_drawn_again(house: House, page: Page) -> None:
    picture = drawn(house, "a fox", LOCAL)
    say(page, f"/describe {picture.id}")
    expect(card(page, 2).locator(".thumbs img")).to_be_visible()
    written(house, house.generations.get(2), "an orange animal in the snow")
    expect(of(page, 2)).to_have_text("an orange animal in the snow")
    expect(card(page, 2).get_by_role("button", name="Answer")).to_have_count(0)
    card(page, 2).get_by_role("button", name="Draw it").click()
    expect(card(page, 3)).to_contain_text("#3 an orange animal in the snow")
    assert house.generations.get(3).request.mode == Mode.TEXT


def test_what_another_server_draws_says_so(
    house: House, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = elsewhere(house, monkeypatch)
    expect(card(page, waiting.id)).to_contain_text("waiting for another server")
    expect(card(page, waiting.id).get_by_role("button")).to_have_text(["Cancel"])
    stood_in(house, waiting)
    expect(card(page, waiting.id)).to_contain_text("pattern in place of pollinations:flux")


def everything(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words in every state."""
    written(house, asked(house, "a long tale of the sea"), LONG)
    written(house, asked(house), POEM)
    picture = drawn(house, "a fox", LOCAL)
    key = str(picture.results[0]["key"])
    written(house, asked(house, "", Mode.DESCRIBE, sources=(key,)), "an orange animal in the snow")
    failed = house.generations.claim(asked(house, "a tale that fails").id)
    assert failed
    house.generations.fail(failed, "OpenAI refuses that prompt. Ask for something else.")
    house.generations.cancel(asked(house, "a tale that nobody wants").id, LOCAL)
    elsewhere(house, monkeypatch)
    asked(house, "a tale that waits")
    says(house, asked(house, "a tale that is being written"), "Once there was a sea, and on it")


def test_words_in_every_state_have_no_fault(
    house: House, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.emulate_media(reduced_motion="reduce")
    everything(house, monkeypatch)
    # One that was seen growing would stay open.
    page.reload()
    expect(card(page, 9).locator(".written")).to_be_visible()
    states: Any = {card(page, n).get_attribute("data-status") for n in range(1, 10)}
    assert states == {str(state) for state in State}
    card(page, 2).get_by_role("button", name="Answer").click()
    say(page, "Shorter")
    expect(card(page, 10)).to_be_visible()
    card(page, 2).get_by_role("button", name="Answer").click()
    sound(page)
    card(page, 1).get_by_role("button", name="Show all").click()
    sound(page)
