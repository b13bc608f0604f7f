"""What is written and described, in the JSON interface: asked for, watched, read, gone on with."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from bots.web_cards import Job
from core import catalog, settings
from core.database import generations
from core.engine import Task
from core.house import House
from core.lifecycle import State
from core.options import Mode, validate
from core.people import Asker
from core.rows import Generation
from core.writing import request_of
from tests.bots.test_web_text import web as web
from tests.core.test_pictures import drawn, png

LOCAL, OTHER = Asker("web", "local", "web"), Asker("web", "other", "web")
POEM = "The sea is <b>wide</b>,\n\nand *deep*; {red, green} __colours__ \u202eover\u202c it.\n"


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody writes here, and somebody describes: the test."""
    monkeypatch.setenv("DRAWQUEUE_TEXT_MODEL", "openai:gpt-4o-mini, pollinations:openai")
    monkeypatch.setenv("DRAWQUEUE_CAPTIONER", "openai:gpt-4o-mini")
    settings._read.cache_clear()


def asked(
    house: House, prompt: str = "a poem about the sea", mode: Mode = Mode.WRITE,
    who: Asker = LOCAL, sources: tuple[str, ...] = (),
) -> Generation:  # fmt: skip
    """A request for words, in line."""
    event = f"{prompt} {len(house.generations.of(who, limit=300))}"
    request = request_of(mode, prompt, sources=sources)
    return house.generations.submit(request, who, event, {"chat": "web"})


def says(house: House, one: Generation, text: str) -> Generation:
    """What a worker tells of what it writes, as far as it is."""
    claimed = one if one.state == State.GENERATING else house.generations.claim(one.id)
    assert claimed
    house.queue.beat(claimed.id, claimed.attempt, None)
    house.queue.say(claimed.id, claimed.attempt, text)
    return claimed


def written(house: House, one: Generation, text: str = POEM) -> Generation:
    claimed = says(house, one, text[:10])
    done = house.generations.finish(claimed, [], 1.5, text=text)
    assert done
    return done


def until(lines: Iterator[str], words: str) -> dict[str, Any]:
    found = next(line for line in lines if line.startswith("data:") and words in line)
    return dict(json.loads(found.removeprefix("data:")))


def test_it_is_asked_for_watched_and_read(house: House, web: httpx.Client) -> None:
    made = web.post("/api/jobs", json={"type": "write", "prompt": " a poem --steps 3 "})
    assert made.status_code == 202, made.text
    job = made.json()
    assert job["type"] == "write" and job["prompt"] == "a poem --steps 3" and job["text"] == ""
    assert job["parameters"]["model"] == "openai:gpt-4o-mini" and job["results"] == []
    path = f"/api/jobs/{job['id']}"
    early = web.get(f"{path}/text")
    assert early.status_code == 404 and "no words yet" in early.json()["error"]
    with web.stream("GET", f"{path}/stream") as stream:
        lines = stream.iter_lines()
        until(lines, "queued")
        claimed = says(house, house.generations.get(job["id"]), "The sea")
        now = until(lines, "The sea")
        assert now["text"] == "The sea" and now["status"] == "generating"
        assert now["card"]["status"] == "✍️ writing"
        assert [one["action"] for one in now["card"]["buttons"]] == ["cancel"]
        says(house, claimed, POEM[:40])
        assert until(lines, "deep")["text"] == POEM[:40]
        assert house.generations.finish(claimed, [], 1.5, text=POEM)
        done = until(lines, "written in")
    assert done["text"] == POEM and Job.model_validate(done).text == POEM
    assert [one["action"] for one in done["card"]["buttons"]] == ["retry", "more"]
    file = web.get(f"{path}/text")
    assert file.text == POEM and file.headers["content-type"] == "text/plain; charset=utf-8"
    assert (
        file.headers["content-disposition"] == f'attachment; filename="drawqueue-{job["id"]}.txt"'
    )
    assert file.headers["x-content-type-options"] == "nosniff"


def test_another_persons_words_are_nobodys(house: House, web: httpx.Client) -> None:
    theirs, picture = written(house, asked(house, who=OTHER)), drawn(house, "a fox", LOCAL)
    waits = asked(house, "a waiting poem", who=OTHER)
    for number in (theirs.id, waits.id, 99):
        for method, path in (
            ("GET", "/text"),
            ("GET", ""),
            ("POST", "/more"),
            ("POST", "/picture"),
        ):
            refused = web.request(method, f"/api/jobs/{number}{path}")
            assert refused.status_code == 404 and "sea" not in refused.text, (number, path)
        for path, body in (
            ("/api/jobs", {"type": "write", "continue": number}),
            ("/api/jobs", {"type": "write", "continue": number, "prompt": "and then?"}),
            ("/api/chat", {"text": "and then?", "answers": number}),
        ):
            assert web.post(path, json=body).status_code == 404, body
    assert web.get(f"/api/jobs/{picture.id}/text").status_code == 404
    assert web.get(f"/api/jobs/{picture.id}").json()["text"] is None
    assert {one.id for one in house.generations.of(OTHER)} == {theirs.id, waits.id}
    assert [one.id for one in house.generations.of(LOCAL)] == [picture.id]


def test_one_goes_on_with_what_was_written(house: House, web: httpx.Client) -> None:
    first = written(house, asked(house))
    by_press = web.post(f"/api/jobs/{first.id}/more").json()
    by_itself = web.post("/api/jobs", json={"type": "write", "continue": first.id}).json()
    assert by_press["parent"] == by_itself["parent"] == first.id and by_itself["also"] == []
    assert by_press["prompt"] == by_itself["prompt"] == "Go on."
    answered = web.post("/api/chat", json={"text": "Shorter, --please", "answers": first.id}).json()
    assert answered["fresh"] and answered["job"]["type"] == "write"
    assert answered["job"]["parent"] == first.id
    assert answered["job"]["prompt"] == "Shorter, --please"
    body = {"type": "write", "prompt": "Longer", "continue": first.id,
            "parameters": {"model": "pollinations:openai"}}  # fmt: skip
    longer = web.post("/api/jobs", json=body).json()
    assert longer["parent"] == first.id and longer["parameters"]["model"] == "pollinations:openai"
    talk = house.generations.talk(house.generations.get(longer["id"]))
    assert [one.text for one in talk] == [POEM]
    # A command says itself what is to be done.
    drawn_ = web.post("/api/chat", json={"text": "/imagine a fox", "answers": first.id}).json()
    assert drawn_["job"]["type"] == "imagine" and drawn_["job"]["parent"] is None


def test_nothing_goes_on_with_what_is_no_talk(house: House, web: httpx.Client) -> None:
    picture, waits = drawn(house, "a fox", LOCAL), asked(house)
    described = written(
        house, asked(house, "", Mode.DESCRIBE, sources=(str(picture.results[0]["key"]),)), "a fox"
    )
    for one in (picture, waits, described):
        assert web.post(f"/api/jobs/{one.id}/more").status_code == 404
        for body in ({"type": "write", "continue": one.id}, {"type": "write", "prompt": "more",
                     "continue": one.id}):  # fmt: skip
            refused = web.post("/api/jobs", json=body)
            assert refused.status_code == 404 and "no words" in refused.json()["error"]
        said = web.post("/api/chat", json={"text": "more", "answers": one.id})
        assert said.status_code == 404
    assert len(house.generations.of(LOCAL)) == 3


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"type": "write"}, "/write needs prompt"),
    ({"type": "write", "prompt": " \n"}, "/write needs prompt"),
    ({"type": "write", "prompt": "a" * 4001}, "4000 is the most"),
    ({"type": "write", "prompt": "a", "parameters": {"steps": 3}}, "no option “steps”"),
    ({"type": "write", "prompt": "a", "parameters": {"prompt": "b"}}, "no option “prompt”"),
    ({"type": "write", "prompt": "a", "parameters": {"model": "pattern"}}, "that writes"),
    ({"type": "write", "prompt": "a", "images": ["1"]}, "write takes no picture"),
    ({"type": "write", "prompt": "a", "mask": "up_x"}, "A mask is for inpaint"),
    ({"type": "write", "prompt": "a", "priority": "high"}, "takes no priority"),
    ({"type": "imagine", "prompt": "a", "continue": 1}, "imagine takes no continue"),
    ({"type": "write", "prompt": "a", "continue": 0}, "continue"),
    ({"type": "describe", "prompt": "a fox", "images": ["1"]}, "describe takes no prompt"),
    ({"type": "describe", "images": ["1", "2"]}, "describe takes one picture"),
)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_is_wrong_is_said(house: House, web: httpx.Client) -> None:
    for body, words in WRONG:
        refused = web.post("/api/jobs", json=body)
        assert refused.status_code in (400, 422) and words in refused.json()["error"], refused.text
    assert house.generations.of(LOCAL) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_picture_is_described_and_drawn_from_the_words(house: House, web: httpx.Client) -> None:
    brought = web.post("/api/uploads", content=png(64, 48), headers={"content-type": "image/png"})
    told = web.post("/api/jobs", json={"type": "describe", "images": [brought.json()["id"]]}).json()
    assert told["type"] == "describe" and told["prompt"] == "" and len(told["sources"]) == 1
    assert web.get(told["sources"][0]["url"]).status_code == 200
    picture = drawn(house, "a fox", LOCAL)
    for body in ({"images": [str(picture.id)]}, {"parameters": {}, "images": [f"#{picture.id}.1"]}):
        again = web.post("/api/jobs", json={"type": "describe", **body}).json()
        assert again["parent"] == picture.id and again["card"]["details"].endswith(f"#{picture.id}")
    done = written(house, house.generations.get(told["id"]), "a {red, green} fox,\n __style__ --no")
    assert web.get(f"/api/jobs/{done.id}").json()["text"] == done.text
    used = web.post(f"/api/jobs/{done.id}/picture").json()
    # What a model wrote is a prompt alone: no expansion, no flag, one picture.
    assert used["type"] == "imagine" and used["prompt"] == "a {red, green} fox, __style__ --no"
    refused = web.post("/api/jobs", json={"type": "describe", "images": ["99"]})
    assert refused.status_code == 404


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_without_anything_that_writes_it_is_said(
    house: House, web: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAWQUEUE_TEXT_MODEL", "none")
    monkeypatch.setenv("DRAWQUEUE_CAPTIONER", "")
    settings._read.cache_clear()
    for body, setting in (
        ({"type": "write", "prompt": "a"}, "DRAWQUEUE_TEXT_MODEL"),
        ({"type": "describe", "images": ["1"]}, "DRAWQUEUE_CAPTIONER"),
    ):
        refused = web.post("/api/jobs", json=body)
        assert refused.status_code == 400 and setting in refused.json()["error"]


def test_words_are_found_and_no_gallery_shows_them(house: House, web: httpx.Client) -> None:
    picture = drawn(house, "a red fox", LOCAL)
    poem = written(house, asked(house, "a poem of a fox"))
    source = str(picture.results[0]["key"])
    told = written(house, asked(house, "", Mode.DESCRIBE, sources=(source,)), "An orange animal")
    for type_, found in (("write", [poem.id]), ("describe", [told.id]), ("imagine", [picture.id])):
        assert [one["id"] for one in web.get(f"/api/jobs?type={type_}").json()] == found
    assert [one["id"] for one in web.get("/api/jobs?words=fox").json()] == [poem.id, picture.id]
    shown = web.get("/api/gallery?limit=1").json()
    assert [one["id"] for one in shown["pictures"]] == [picture.id] and shown["next"] is None
    assert web.get("/api/gallery?type=write").json() == {"pictures": [], "next": None}
    count = web.get("/api/gallery/count").json()
    assert count["pictures"] == 1 and [one["name"] for one in count["models"]] == ["pattern"]
    listed = web.post("/api/chat", json={"text": "/history"}).json()
    assert [one["name"] for one in listed["samples"]] == [f"#{picture.id}"]
    assert "a poem of a fox" in listed["text"] and "An orange animal" in listed["text"]
    for number in (poem.id, told.id):
        for method, path in (
            ("GET", f"/media/{number}/0"), ("GET", f"/media/{number}/0/small"),
            ("POST", f"/api/jobs/{number}/0/share"), ("POST", f"/api/jobs/{number}/0/favourite"),
            ("GET", f"/api/gallery/{number}/0"), ("GET", f"/paint/{number}"),
        ):  # fmt: skip
            refused = web.request(method, path, json={} if method != "GET" else None)
            assert refused.status_code == 404, (path, refused.text)
        for action in ("subtle", "up2", "u1", "v1"):
            assert web.post(f"/api/jobs/{number}/{action}").status_code == 404, action
    assert len(house.generations.of(LOCAL)) == 3


def test_what_is_deleted_is_gone(house: House, web: httpx.Client) -> None:
    poem = written(house, asked(house))
    assert web.post("/api/chat", json={"text": f"/delete {poem.id}"}).status_code == 200
    gone = web.get(f"/api/jobs/{poem.id}/text")
    assert gone.status_code == 404 and "sea" not in gone.text
    with house.database.read() as connection:
        kept = connection.execute(select(generations.c.text, generations.c.request)).one()
    assert kept.text is None and "sea" not in json.dumps(kept.request)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_in_line_it_waits_and_is_not_edited(house: House, web: httpx.Client) -> None:
    waits = asked(house)
    job = web.get(f"/api/jobs/{waits.id}").json()
    assert "edit" not in [one["action"] for one in job["card"]["buttons"]]
    for answer in (web.get(f"/api/jobs/{waits.id}/line"),
                   web.patch(f"/api/jobs/{waits.id}", json={"text": "a fox"})):  # fmt: skip
        assert answer.status_code == 409 and "ask anew" in answer.json()["error"]
    assert web.get(f"/api/jobs/{waits.id}/why").status_code == 200
    cancelled = web.delete(f"/api/jobs/{waits.id}").json()
    assert cancelled["status"] == "cancelled" and cancelled["text"] == ""
    again = web.post(f"/api/jobs/{waits.id}/retry").json()
    assert again["id"] == waits.id and again["status"] == "queued"
    done = written(house, house.generations.get(waits.id))
    anew = web.post(f"/api/jobs/{done.id}/retry").json()
    assert anew["id"] != done.id and anew["prompt"] == done.request.prompt
    assert house.generations.get(anew["id"]).request.seed != done.request.seed


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_key_that_may_look_reads_and_one_that_may_draw_writes(
    house: House, web: httpx.Client
) -> None:
    poem = written(house, asked(house))

    def key(scope: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {house.keys.make(LOCAL, scope, scope)}"}

    looks, draws = key("read"), key("draw")
    body = {"type": "write", "prompt": "more"}
    assert web.get(f"/api/jobs/{poem.id}/text", headers=looks).text == POEM
    assert web.get("/api/jobs?type=write", headers=looks).json()[0]["text"] == POEM
    assert web.post("/api/jobs", json=body, headers=looks).status_code == 403
    assert web.post("/api/jobs", json=body, headers=draws).status_code == 202


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_draws_writes_and_describes_is_told(
    house: House, web: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAWQUEUE_MODEL", "pattern, pollinations:flux")
    settings._read.cache_clear()
    catalog.models.cache_clear()
    found = {(one["name"], *one["modes"]): one for one in web.get("/api/models").json()}
    by_name = {name: one for (name, *_modes), one in found.items()}
    flux, pattern = by_name["pollinations:flux"], by_name["pattern"]
    assert flux["engine"] == "pollinations" and flux["modes"] == ["text", "upscale"]
    assert flux["steps"] is flux["guidance"] is flux["sampler"] is None and flux["size"] == 1024
    assert "negative_prompt" in flux["lacks"] and "seed" not in flux["lacks"]
    assert pattern["engine"] == "pattern" and pattern["steps"] and pattern["lacks"] == ["chaos"]
    writes = found["openai:gpt-4o-mini", "enhance", "write"]
    describes = found["openai:gpt-4o-mini", "describe"]
    for one in (writes, describes):
        assert one["engine"] == "openai" and one["size"] is one["largest"] is None
    assert next(iter(by_name)) == "pattern", "the first draws where nothing is said"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_another_server_draws_is_told(
    house: House, web: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = elsewhere(house, monkeypatch)
    job = web.get(f"/api/jobs/{waiting.id}").json()
    assert job["status"] == "waiting" and job["card"]["status"] == "🕓 waiting for another server"
    assert job["text"] is None and [one["action"] for one in job["card"]["buttons"]] == ["cancel"]
    assert web.get("/api/queue").json()["waiting"] == 1
    assert [one["id"] for one in web.get("/api/jobs?status=waiting").json()] == [waiting.id]
    moved = stood_in(house, waiting)
    job = web.get(f"/api/jobs/{moved.id}").json()
    assert job["card"]["details"].startswith("pattern in place of pollinations:flux")


def elsewhere(house: House, monkeypatch: pytest.MonkeyPatch) -> Generation:
    """A picture that another server draws."""
    monkeypatch.setenv("DRAWQUEUE_MODEL", "pattern, pollinations:flux")
    monkeypatch.setenv("DRAWQUEUE_FAILOVER", "pollinations:flux, pattern")
    settings._read.cache_clear()
    catalog.models.cache_clear()
    made = house.generations.submit(
        validate({"prompt": "a far fox", "model": "pollinations:flux"}), LOCAL, "far",
        {"chat": "web"},
    )  # fmt: skip
    claimed = house.generations.claim(made.id)
    assert claimed
    waiting = house.elsewhere.hand_out(claimed, Task("task-1", 60.0))
    assert waiting
    return waiting


def stood_in(house: House, waiting: Generation) -> Generation:
    """The same, after another engine took its place."""
    moved = house.elsewhere.stand_in(waiting, "too busy")
    assert moved
    return moved
