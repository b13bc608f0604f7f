"""Marked pictures on the web: covered until one presses Show, and withheld where the host says."""

import io
from collections.abc import Callable

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from core.engine import MARK
from core.house import House
from core.options import Mode, validate
from core.rows import Generation
from tests.bots.test_web_page import CHROMIUM, LOCAL, card, say
from tests.bots.test_web_page import browser as browser
from tests.bots.test_web_page import page as page
from tests.bots.test_web_text import web as web

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
in_a_browser = pytest.mark.skipif(
    not CHROMIUM, reason="NO BROWSER: install chromium, page NOT tested"
)
WITHHELD = '[classes.fast]\nmembers = ["everyone"]\n[marked]\nalone = "withhold"\n'


def drawn(house: House, *marks: str, prompt: str = "a red fox") -> Generation:
    """What a worker does with a job, whose pictures are marked so."""
    options = validate({"prompt": prompt, "count": len(marks)})
    made = house.generations.submit(options, LOCAL, f"e {prompt}", {"chat": "web"})
    house.queue.redis.lrem(house.queue.draw.rq.key, 1, f"generation-{made.id}-1")
    claimed = house.generations.claim(made.id)
    assert claimed
    results = []
    for index, mark in enumerate(marks):
        out = io.BytesIO()
        image = Image.new("RGB", (256, 256), "navy")
        image.paste("gold", (96, 96, 160, 160))
        image.save(out, "PNG")
        key = house.media.save(made.id, f"{index}.png", out.getvalue())
        told = {"key": key, "seed": index, "width": 256, "height": 256}
        results.append({**told, MARK: mark} if mark else told)
    over = house.generations.finish(claimed, results, 1.0)
    assert over
    return over


@in_a_browser
def test_it_is_covered_until_one_presses_show(house: House, page: Page) -> None:
    one = drawn(house, "nsfw")
    shown = card(page, one.id)
    expect(shown).to_contain_text("Covered: marked as nsfw.")
    picture, large = shown.locator(".pictures img"), page.locator("#large")
    alt = "Picture drawn from the prompt: a red fox"
    expect(picture).to_have_attribute("alt", alt)
    expect(picture).to_have_css("filter", "blur(48px)")
    show = shown.get_by_role("button", name="Show")
    # By the keyboard alone; what is covered is not opened.
    show.focus()
    page.keyboard.press("Enter")
    expect(show).to_have_count(0)
    expect(picture).to_have_css("filter", "none")
    expect(picture).to_have_attribute("alt", alt)
    expect(large).to_be_hidden()
    page.keyboard.press("Enter")
    expect(large).to_be_visible()
    # After a reload nobody has pressed anything, though the browser remembers what was open.
    page.reload()
    expect(card(page, one.id).get_by_role("button", name="Show")).to_be_visible()
    expect(page.locator("#large")).to_be_hidden()


@in_a_browser
def test_only_the_marked_one_of_several_is_covered(house: House, page: Page) -> None:
    one = drawn(house, "", "nsfw", "")
    pictures = card(page, one.id).locator(".pictures img")
    expect(pictures).to_have_count(3)
    for index, filter_ in enumerate(("none", "blur(48px)", "none")):
        expect(pictures.nth(index)).to_have_css("filter", filter_)
    pictures.nth(0).click()
    expect(page.locator("#large")).to_be_visible()


@in_a_browser
def test_a_marked_picture_goes_along_by_its_name(house: House, page: Page) -> None:
    one = drawn(house, "nsfw")
    card(page, one.id).get_by_role("button", name="Use this").click()
    chip = page.get_by_label("Pictures that go along").get_by_role("listitem")
    expect(chip).to_contain_text(f"#{one.id}.1")
    expect(chip.locator("img")).to_be_hidden()
    say(page, "a green one")
    remixed = card(page, one.id + 1)
    expect(remixed.locator(".thumbs")).to_contain_text("What it begins with")
    expect(remixed.locator(".thumbs img")).to_have_count(0)


@in_a_browser
def test_what_is_withheld_has_words_and_no_picture(
    house: House, page: Page, rules: Callable[[str], None]
) -> None:
    rules(WITHHELD)
    one = drawn(house, "nsfw")
    shown = card(page, one.id)
    expect(shown).to_contain_text("The picture is not shown here: marked as nsfw.")
    expect(shown.locator("img")).to_have_count(0)
    expect(shown.get_by_role("button", name="Upscale 2×")).to_be_visible()


def test_what_is_withheld_is_handed_out_by_no_address(
    house: House, web: httpx.Client, rules: Callable[[str], None]
) -> None:
    marked, plain = drawn(house, "", "nsfw"), drawn(house, "", prompt="a blue fox")
    begun = []
    for one in (marked, plain):
        made = web.post("/api/jobs", json={
            "type": "remix", "prompt": "a hen", "images": [f"{one.id}.{len(one.results)}"],
        }).json()  # fmt: skip
        assert house.generations.get(made["id"]).request.mode == Mode.REMIX
        assert made["sources"][0]["marked"] == (one is marked)
        begun.append(made["sources"][0]["url"])
    paths = [f"/media/{marked.id}/0", f"/media/{marked.id}/1", begun[0],
             f"/paint/{marked.id}.2/picture", f"/paint/{marked.id}.2"]  # fmt: skip
    others = [f"/media/{plain.id}/0", begun[1], f"/paint/{plain.id}/picture"]
    for path in (*paths, *others):
        assert web.get(path).status_code == 200, path
    rules(WITHHELD)
    for path in paths:
        told = web.get(path)
        assert told.status_code == 409 and "not shown here" in told.text, path
    for path in others:
        assert web.get(path).status_code == 200, path
    job = web.get(f"/api/jobs/{marked.id}").json()
    assert job["results"] == [] and job["card"]["show"] == "withhold"
