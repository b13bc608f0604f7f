"""The page of the web chat with lists, families and what was deleted, in a real browser."""

import httpx
from playwright.sync_api import Page, expect

from core.house import House
from core.options import COMMAND_OF, validate
from tests.bots.test_web_page import LOCAL, browser, card, draw, fits, page, pytestmark, say, submit
from tests.bots.test_web_text import web

__all__ = ["browser", "page", "pytestmark", "web"]


def test_a_list_is_turned_in_its_place(house: House, page: Page) -> None:
    submit(house, 12)
    for number in range(1, 13):
        draw(house, number)
    expect(page.locator(".card[data-status=done]")).to_have_count(12)
    say(page, "/history fox")
    lists = page.locator(".bot:not(.card):not(.hello)")
    expect(lists).to_contain_text("Your pictures, newest first (“fox”):")
    expect(lists).to_contain_text("#5 done")
    expect(lists.locator(".thumbs img")).to_have_count(8)
    page.get_by_role("button", name="Older").click()
    expect(lists).to_contain_text("#4 done")
    expect(lists).not_to_contain_text("#5 done")
    expect(lists.locator(".thumbs img")).to_have_count(4)
    expect(page.get_by_role("button", name="Newer")).to_be_focused()
    expect(lists).to_have_count(1)
    fits(page)
    # What was turned to is there after a reload, and turns back.
    page.reload()
    expect(lists).to_contain_text("#4 done")
    page.get_by_role("button", name="Newer").click()
    expect(lists).to_contain_text("#12 done")
    expect(lists).to_have_count(1)


def test_a_family_is_shown_whole_and_a_deleted_picture_not_at_all(house: House, page: Page) -> None:
    submit(house, 1, "a secret fox")
    draw(house, 1)
    house.generations.submit(
        validate({"prompt": "a hen"}), LOCAL, "child", {"chat": "web"}, parent=1
    )
    draw(house, 2)
    expect(card(page, 2)).to_contain_text("done in")
    say(page, "/tree 1")
    tree = page.get_by_alt_text("The family of #1")
    expect(tree).to_be_visible()
    expect(tree).to_have_js_property("complete", True)
    box = tree.bounding_box()
    assert box and box["height"] > box["width"], "as it is, not cut to a square"
    fits(page)
    expect(card(page, 1).locator(".pictures img")).to_have_count(1)
    say(page, "/delete 1")
    expect(page.get_by_text("#1 is deleted: its picture and its prompt are gone.")).to_be_visible()
    expect(card(page, 1)).to_contain_text("deleted by its asker")
    expect(card(page, 1).locator(".pictures img")).to_have_count(0)
    expect(card(page, 1).get_by_role("button")).to_have_count(0)
    expect(card(page, 1)).not_to_contain_text("secret")
    page.reload()
    expect(card(page, 2)).to_contain_text("done in")
    expect(card(page, 1)).to_have_count(0)


def test_of_a_name_nobody_asked_nothing_is_found(web: httpx.Client) -> None:
    assert web.get("/api/jobs", params={"words": "?!"}).status_code == 422
    assert web.get("/api/jobs", params={"words": "x" * 201}).status_code == 422
    assert web.get("/api/jobs", params={"words": "state:done"}).json() == []
    assert web.post("/api/pages/1/sideways").status_code == 422
    assert web.post("/api/pages/1/older").status_code == 404


def test_a_wrong_value_is_refused_by_the_name_that_its_parameter_has(web: httpx.Client) -> None:
    for path in ("/api/jobs", "/api/gallery"):
        for given, words in (
            ({"type": "x"}, f"“type” must be one of {', '.join(COMMAND_OF.values())}; got x."),
            ({"since": "soon"}, "“since” must be a date such as 2026-11-01, or how long ago, such "
             "as 12h, 7d or 2w; got soon."),
            ({"since": "1d", "until": "2d"}, "“since” must be before “until”."),
        ):  # fmt: skip
            refused = web.get(path, params=given)
            assert refused.status_code == 422 and refused.json()["faults"] == [words]
    odd = web.get("/api/jobs", params={"status": "lost"}).json()["error"]
    assert odd.startswith("status: ") and "queued" in odd


def test_pages_by_number_go_back_to_the_end_and_say_nothing_beyond(
    house: House, web: httpx.Client
) -> None:
    submit(house, 7)
    numbered = [
        [one["id"] for one in web.get(f"/api/jobs?status=queued&limit=3&page={page}").json()]
        for page in (1, 2, 3, 4, 1000)
    ]
    assert numbered == [[7, 6, 5], [4, 3, 2], [1], [], []]
    assert [one["id"] for one in web.get("/api/jobs?limit=2&before=6&page=2").json()] == [3, 2]
    for odd in ("0", "-1", "1001", "9" * 30, "two", "1.5"):
        refused = web.get(f"/api/jobs?page={odd}")
        assert refused.status_code == 422 and refused.json()["error"].startswith("page: ")
