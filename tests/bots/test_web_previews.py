"""Previews in the JSON interface and on the page: the asker's alone, kept by nobody, gone after."""

import io
from collections.abc import Iterator
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Page, expect

from core.house import House
from core.options import validate
from core.people import Asker
from core.rows import Generation
from tests.bots.test_web_page import LOCAL, card, fits, submit
from tests.bots.test_web_page import browser as browser
from tests.bots.test_web_page import page as page
from tests.bots.test_web_page import pytestmark as pytestmark
from tests.bots.test_web_text import web as web


def jpeg(*colours: str, size: tuple[int, int] = (256, 256)) -> bytes:
    """A sheet of previews, each of one colour, row by row in two columns."""
    columns = 2 if len(colours) > 1 else 1
    rows = len(colours) // columns
    sheet = Image.new("RGB", (size[0] * columns, size[1] * rows))
    for index, colour in enumerate(colours):
        place = index % columns * size[0], index // columns * size[1]
        sheet.paste(Image.new("RGB", size, colour), place)
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=95)
    return out.getvalue()


def begun(house: House, number: int) -> Generation:
    claimed = house.generations.claim(number)
    assert claimed
    house.queue.redis.lrem(house.queue.draw.rq.key, 1, claimed.job)
    house.queue.beat(number, claimed.attempt, 0.3)
    return claimed


def shows(house: House, one: Generation, picture: bytes) -> None:
    house.queue.preview(one.id, one.attempt, picture)


# The JSON interface


def test_a_preview_is_the_askers_alone_and_kept_by_nobody(house: House, web: httpx.Client) -> None:
    submit(house, 1)
    one = begun(house, 1)
    assert web.get("/api/jobs/1").json()["preview"] is None
    assert web.get("/media/1/preview").status_code == 404
    first, second = jpeg("red"), jpeg("blue")
    shows(house, one, first)
    told = web.get("/api/jobs/1").json()["preview"]
    answer = web.get(told)
    assert answer.content == first and answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "no-store"
    shows(house, one, second)
    assert web.get("/api/jobs/1").json()["preview"] != told
    assert web.get(told).content == second, "the newest, and no older one is kept"
    other = Asker("discord", "somebody")
    made = house.generations.submit(one.request, other, "e", {"channel": "5"})
    house.queue.redis.lrem(house.queue.draw.rq.key, 1, made.job)
    theirs = house.generations.claim(made.id)
    assert theirs
    shows(house, theirs, first)
    refused = web.get(f"/media/{made.id}/preview")
    assert refused.status_code == 404 and refused.content != first
    house.generations.cancel(1, LOCAL)
    assert web.get("/api/jobs/1").json()["preview"] is None
    assert web.get(told).status_code == 404


def test_the_stream_tells_of_a_preview(house: House, web: httpx.Client) -> None:
    submit(house, 1)
    one = begun(house, 1)
    with web.stream("GET", "/api/jobs/1/stream") as stream:
        lines = stream.iter_lines()
        until(lines, '"preview": null')
        shows(house, one, jpeg("red"))
        until(lines, '"preview": "/media/1/preview?of=')
        assert house.generations.fail(one, "It broke.")
        until(lines, '"preview": null')


def until(lines: Iterator[str], words: str) -> None:
    assert any(words in line for line in lines)


def test_redis_says_nothing_of_it_to_operators(house: House) -> None:
    submit(house, 1)
    one = house.generations.get(1)
    before = house.queue.redis.hgetall(f"rq:job:{one.job}")
    claimed = begun(house, 1)
    shows(house, claimed, jpeg("red"))
    assert house.queue.redis.hgetall(f"rq:job:{one.job}") == before
    assert 0 < house.queue.redis.ttl(f"drawqueue:preview:{one.job}") <= 120


# The page


def box(page: Page, part: str) -> dict[str, float]:
    found: Any = page.locator(part).first.bounding_box()
    assert found
    return {name: round(value) for name, value in found.items()}


def loaded(page: Page, part: str) -> None:
    expect(page.locator(part).first).to_have_js_property("complete", True)


def test_a_preview_stands_where_the_picture_will_be(house: House, page: Page) -> None:
    submit(house, 1)
    one = begun(house, 1)
    expect(card(page, 1)).to_contain_text("generating 30 %")
    expect(page.locator(".sheet")).to_have_count(0)
    shows(house, one, jpeg("red"))
    sheet = page.locator(".sheet")
    expect(sheet).to_have_count(1)
    expect(page.get_by_alt_text("Not finished yet: a fox")).to_be_visible()
    loaded(page, ".sheet")
    first, whole = sheet.get_attribute("src"), box(page, ".card")
    shows(house, one, jpeg("blue"))
    expect(sheet).not_to_have_attribute("src", str(first))
    loaded(page, ".sheet")
    place = box(page, ".pictures")
    assert box(page, ".card") == whole
    fits(page)
    out = io.BytesIO()
    Image.new("RGB", one.request.size, "green").save(out, "PNG")
    key = house.media.save(1, "0.png", out.getvalue())
    width, height = one.request.size
    assert house.generations.finish(
        one, [{"key": key, "seed": 1, "width": width, "height": height}], 1.0
    )
    expect(page.locator(".pictures button img")).to_be_visible()
    expect(page.locator(".sheet")).to_have_count(0)
    loaded(page, ".pictures img")
    now = box(page, ".pictures")
    assert (now["width"], now["height"]) == (place["width"], place["height"]), "nothing jumps"


def test_of_four_each_has_its_part(house: House, page: Page) -> None:
    page.set_viewport_size({"width": 1200, "height": 800})
    house.generations.submit(validate({"prompt": "four", "count": 4}), LOCAL, "e", {"chat": "web"})
    one = begun(house, 1)
    shows(house, one, jpeg("red", "lime", "blue", "yellow"))
    expect(page.locator(".part")).to_have_count(4)
    loaded(page, ".sheet")
    colours = []
    for part in page.locator(".part").all():
        seen = Image.open(io.BytesIO(part.screenshot())).convert("RGB")
        colours.append(seen.getpixel((seen.width // 2, seen.height // 2)))
    wanted = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    for colour, other in zip(colours, wanted, strict=True):
        assert max(abs(a - b) for a, b in zip(colour, other, strict=True)) < 12


def test_it_goes_with_its_attempt(house: House, page: Page) -> None:
    submit(house, 2)
    cancelled, back = begun(house, 1), begun(house, 2)
    for one in (cancelled, back):
        shows(house, one, jpeg("red"))
    expect(page.locator(".sheet")).to_have_count(2)
    card(page, 1).get_by_role("button", name="Cancel").click()
    expect(page.locator(".sheet")).to_have_count(1)
    assert house.generations.put_back(back)
    expect(page.locator(".sheet")).to_have_count(0)
    expect(card(page, 1)).to_have_attribute("data-status", "cancelled")
