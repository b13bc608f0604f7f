"""Changing what waits in the web chat: the interface over HTTP, and the card in a real browser."""

import json

import httpx
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import update

from core.database import generations
from core.house import House
from core.options import validate
from core.people import Asker
from tests.bots import test_web_page
from tests.bots.test_web_page import browser as browser
from tests.bots.test_web_page import card, draw, fits, say, submit, until
from tests.bots.test_web_page import page as page
from tests.bots.test_web_text import web as web

BROWSER, ON_SQLITE = test_web_page.pytestmark


def test_the_interface_tells_the_line_and_takes_another(house: House, web: httpx.Client) -> None:
    made = web.post("/api/jobs", json={"prompt": "a fox", "parameters": {"seed": 7}}).json()
    pressed = [one["action"] for one in made["card"]["buttons"]]
    assert pressed == ["edit", "enhance", "cancel", "why"]
    path = f"/api/jobs/{made['id']}"
    assert web.get(f"{path}/line").json() == {"text": "a fox --seed 7"}
    changed = web.patch(path, json={"text": "a wolf --steps 9"})
    assert changed.status_code == 200
    job = changed.json()
    assert (job["id"], job["status"], job["prompt"]) == (made["id"], "queued", "a wolf")
    assert job["parameters"]["steps"] == 9 and job["parameters"]["seed"] == 7
    assert job["version"] > made["version"] and job["place"] == 1
    assert web.get(path).json() == {**job, "eta_seconds": web.get(path).json()["eta_seconds"]}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"text": "a wolf --steps 999 --wings 2"}, 422, "no --wings"),
        ({"text": ""}, 422, "Write what to draw"),
        ({"text": "{red, blue} wolf"}, 400, "That makes 2 pictures"),
        ({"text": "a \ud800 wolf --steps x"}, 422, "1 to 150"),
        ({}, 422, "text"),
        ({"text": "a wolf", "seed": 3}, 422, "seed"),
        ({"text": "x" * 20_001}, 422, "20000"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    web: httpx.Client, body: dict[str, str], status: int, words: str
) -> None:
    made = web.post("/api/jobs", json={"prompt": "a fox"}).json()
    refused = web.patch(
        f"/api/jobs/{made['id']}", content=json.dumps(body),
        headers={"content-type": "application/json"},
    )  # fmt: skip
    assert refused.status_code == status and words in refused.json()["error"], refused.text
    assert web.get(f"/api/jobs/{made['id']}").json()["version"] == made["version"]


def test_nobody_reads_or_changes_anothers(house: House, web: httpx.Client, ann: Asker) -> None:
    made = house.generations.submit(validate({"prompt": "a secret"}), ann, "e", {"chat": "web"})
    other = house.generations.get(made.id)
    path = f"/api/jobs/{other.id}"
    answers = [web.get(f"{path}/line"), web.patch(path, json={"text": "a wolf"})]
    answers += [web.get("/api/jobs/999/line"), web.patch("/api/jobs/999", json={"text": "a"})]
    for answer in answers:
        assert answer.status_code == 404 and "secret" not in answer.text
    assert house.generations.get(other.id) == other


def test_too_late_is_a_conflict(house: House, web: httpx.Client) -> None:
    made = web.post("/api/jobs", json={"prompt": "a fox"}).json()
    draw(house, made["id"])
    for answer in (
        web.get(f"/api/jobs/{made['id']}/line"),
        web.patch(f"/api/jobs/{made['id']}", json={"text": "a wolf"}),
    ):
        assert answer.status_code == 409 and "is done already" in answer.json()["error"]
    assert web.post(f"/api/jobs/{made['id']}/edit").status_code == 404


@BROWSER
@ON_SQLITE
def test_edit_opens_in_the_card_and_changes_it(house: House, page: Page) -> None:
    submit(house, 2)
    job = card(page, 1)
    job.get_by_role("button", name="Edit").click()
    words = job.get_by_role("textbox", name="Prompt and flags")
    expect(words).to_be_focused()
    expect(words).to_have_value(f"a fox --seed {house.generations.get(1).request.seed}")
    words.fill("a wolf --steps 9")
    # News of the card leave alone what somebody types in it.
    with house.database.write() as connection:
        connection.execute(
            update(generations).where(generations.c.id == 1).values(version=9, error="A word.")
        )
    expect(job).to_contain_text("A word.")
    expect(words).to_have_value("a wolf --steps 9")
    fits(page)
    words.press("Enter")
    expect(words).to_have_count(0)
    expect(job.locator(".prompt")).to_have_text("#1 a wolf")
    expect(job.locator(".details")).to_contain_text("9 steps")
    expect(job.get_by_role("button", name="Edit")).to_be_focused()
    assert house.generations.get(1).request.prompt == "a wolf"
    expect(page.locator(".card")).to_have_count(2)


@BROWSER
@ON_SQLITE
def test_a_fault_stays_beside_what_was_typed(house: House, page: Page) -> None:
    submit(house, 1)
    job = card(page, 1)
    job.get_by_role("button", name="Edit").click()
    words = job.get_by_role("textbox")
    words.fill("a wolf --steps 999")
    job.get_by_role("button", name="Change").click()
    expect(job.get_by_role("alert")).to_contain_text("from 1 to 150; got 999")
    expect(words).to_have_value("a wolf --steps 999")
    fits(page)
    draw(house, 1)
    expect(job).to_have_attribute("data-status", "done")
    # What was typed is not lost.
    expect(words).to_have_value("a wolf --steps 999")
    words.fill("a wolf")
    words.press("Enter")
    expect(job.get_by_role("alert")).to_contain_text("#1 is done already")
    words.press("Escape")
    expect(words).to_have_count(0)


@BROWSER
@ON_SQLITE
def test_leave_it_and_the_command(house: House, page: Page) -> None:
    submit(house, 1)
    job = card(page, 1)
    job.get_by_role("button", name="Edit").click()
    job.get_by_role("textbox").fill("never")
    job.get_by_role("button", name="Leave it").click()
    expect(job.get_by_role("textbox")).to_have_count(0)
    say(page, "/edit 1 a bear")
    expect(job.locator(".prompt")).to_have_text("#1 a bear")
    expect(page.get_by_text("is changed. It keeps its place in line.")).to_be_visible()
    until(page, lambda: house.generations.get(1).request.prompt == "a bear")
