"""Pictures through the JSON interface: brought, begun with, pressed on, and nobody else's."""

import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from PIL import Image

from bots import web_pictures
from bots.web_api import KINDS
from core import settings
from core.cards import ACTIONS, ASIDE, DECISIONS, PAINT
from core.drawing import NO_PICTURE
from core.house import House
from core.options import Mode
from core.people import Asker
from tests.bots.test_web_text import web as web
from tests.core.test_pictures import drawn, png

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
LOCAL, OTHER = Asker("web", "local", "web"), Asker("web", "other", "web")
JPEG = {"Content-Type": "image/jpeg"}


def brought(web: httpx.Client, data: bytes = b"", **headers: str) -> str:
    told = web.post("/api/uploads", content=data or png(300, 200), headers={**JPEG, **headers})
    assert told.status_code == 201, told.text
    return str(told.json()["id"])


def asked(web: httpx.Client, **body: Any) -> dict[str, Any]:
    told = web.post("/api/jobs", json=body)
    assert told.status_code == 202, told.text
    return dict(told.json())


def refused(told: httpx.Response, status: int, words: str) -> None:
    assert told.status_code == status and words in told.json()["error"], told.text
    assert told.json()["faults"]


def test_an_upload_is_remixed_and_can_be_fetched_again(house: House, web: httpx.Client) -> None:
    told = web.post("/api/uploads", content=png(300, 200), headers=JPEG)
    assert told.status_code == 201
    assert {**told.json(), "id": ""} == {"id": "", "width": 300, "height": 200}
    parameters = {"strength": 0.4, "steps": 6}
    job = asked(
        web, type="remix", prompt="a hen", images=[told.json()["id"]], parameters=parameters
    )
    request = house.generations.get(job["id"]).request
    assert (request.mode, request.strength, request.steps) == (Mode.REMIX, 0.4, 6)
    (begun,) = job["sources"]
    assert begun == {"url": f"/media/{job['id']}/source/0", "mask": False, "marked": False}
    fetched = web.get(job["sources"][0]["url"])
    assert fetched.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(fetched.content)).size == (300, 200)
    refused(web.get(f"/media/{job['id']}/source/1"), 404, "begins with 1")
    assert request.sources[0] not in web.get(f"/api/jobs/{job['id']}").text
    assert request.sources[0].split("/")[-1][:8] not in told.json()["id"]


def test_a_mask_says_what_is_painted(house: House, web: httpx.Client) -> None:
    old = drawn(house, who=LOCAL, count=2)
    white = brought(web, png(256, 256, "white"))
    job = asked(web, type="inpaint", prompt="a sea", images=[f"{old.id}.2"], mask=white)
    request = house.generations.get(job["id"]).request
    assert request.mode == Mode.INPAINT and request.sources == (old.results[1]["key"],)
    assert [one["mask"] for one in job["sources"]] == [False, True] and job["parent"] == old.id
    both = asked(web, type="inpaint", prompt="a sea", images=[brought(web, png(256, 256))],
                 mask=white)  # fmt: skip
    assert house.generations.get(both["id"]).request.mask == request.mask
    black = brought(web, png(256, 256, "black"))
    answer = web.post("/api/jobs", json={"type": "inpaint", "prompt": "a sea",
                                         "images": [f"{old.id}.1"], "mask": black})  # fmt: skip
    refused(answer, 422, "no white in it")


def test_varying_and_upscaling_are_types_too(house: House, web: httpx.Client) -> None:
    assert list(KINDS) == [
        "imagine", "remix", "inpaint", "style", "blend", "write", "describe", "vary", "upscale",
    ]  # fmt: skip
    old = drawn(house, who=LOCAL, count=2)
    near = asked(web, type="vary", images=[f"{old.id}.2"], parameters={"how": "strong"})
    assert near["parent"] == old.id and near["parameters"]["strength"] == 0.65
    large = asked(web, type="upscale", images=[brought(web)], parameters={"factor": 4})
    assert (large["parameters"]["width"], large["parameters"]["height"]) == (1200, 800)
    told = web.post("/api/jobs", json={"type": "upscale", "images": [f"{old.id}"]})
    refused(told, 400, f"name one, {old.id}.1 to {old.id}.2")
    again = asked(web, type="upscale", images=[f"{old.id}.1"])
    assert again["parameters"]["width"] == 512 and again["parent"] == old.id
    text = web.get("/api/openapi.json").json()["components"]["schemas"]["Wanted"]["properties"]
    for word in ("strength", "zoom", "lora", "for vary: how", "for upscale: factor"):
        assert word in text["parameters"]["description"]
    assert text["type"]["enum"] == list(KINDS)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"type": "dance"}, 422, "must be one of imagine, remix"),
        ({"type": "remix", "prompt": "a"}, 422, NO_PICTURE),
        ({"type": "inpaint", "prompt": "a", "mask": "UP"}, 422, NO_PICTURE),
        ({"type": "remix", "prompt": "a", "images": ["UP"], "mask": "UP"}, 422, "mask is for inp"),
        ({"type": "vary", "images": ["UP"]}, 422, "number of a picture that I drew"),
        ({"type": "vary", "images": ["1", "2"]}, 422, "takes one picture"),
        ({"type": "vary", "prompt": "a", "parameters": {"steps": 4}}, 422, "no option “steps”"),
        ({"type": "upscale", "images": ["1"], "parameters": {"factor": 3}}, 400, "2, 4; got 3"),
        ({"type": "remix", "prompt": "a", "images": ["up_" + "a" * 20]}, 404, "no picture “up_"),
        ({"type": "remix", "prompt": "a", "images": ["cat.jpg"]}, 404, "no picture “cat.jpg”"),
        ({"type": "remix", "prompt": "a", "images": ["99"]}, 404, "There is no #99"),
        ({"type": "remix", "prompt": "a", "images": ["UP"] * 2}, 422, "takes 1 picture; got 2"),
        ({"type": "remix", "prompt": "a", "images": ["1"] * 9}, 422, "images"),
        ({"type": "remix", "prompt": "a", "images": ["http://127.0.0.1/"]}, 400, "no public addr"),
        ({"type": "imagine"}, 422, "Write what to draw"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_clear_answer(
    house: House, web: httpx.Client, body: dict[str, Any], status: int, words: str
) -> None:
    up = brought(web)
    full = {**body, "images": [up if one == "UP" else one for one in body.get("images", [])]}
    if full.get("mask") == "UP":
        full["mask"] = up
    answer = web.post("/api/jobs", json=full)
    refused(answer, status, words)
    assert house.generations.of(LOCAL) == []


def large_png() -> bytes:
    out = io.BytesIO()
    Image.new("1", (14_200, 14_200)).save(out, "PNG")
    return out.getvalue()


def saved(mode: str, kind: str, **more: Any) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (90, 60)).save(out, kind, **more)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (lambda: b"", 422, "empty"),
        (lambda: b"a picture in words", 422, "I cannot read that as a picture. Send a PNG"),
        (lambda: png(90, 60)[:60], 422, "damaged"),
        (large_png, 422, "hundreds of megapixels; 50 is the most"),
        (lambda: saved("CMYK", "JPEG"), 201, ""),
        (lambda: saved("P", "GIF", save_all=True, append_images=[Image.new("P", (90, 60), 9)]),
         201, ""),
    ],
    ids=["empty", "words", "half", "huge", "cmyk", "animated"],
)  # fmt: skip
def test_whatever_is_brought_is_a_picture_or_refused_in_words(
    web: httpx.Client, data: Callable[[], bytes], status: int, words: str
) -> None:
    told = web.post("/api/uploads", content=data(), headers=JPEG)
    if status == 201:
        assert told.status_code == 201 and told.json()["width"] == 90, told.text
    else:
        refused(told, status, words)
        assert words == "damaged" or "(fault" not in told.text


def test_only_pictures_may_be_large_and_not_beyond_the_hosts_limit(
    house: House, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("DRAWQUEUE_UPLOAD_MB", "2")
    settings._read.cache_clear()
    web: httpx.Client = request.getfixturevalue("web")
    noise = io.BytesIO()
    Image.effect_noise((1200, 1200), 90).save(noise, "PNG")
    assert 2**20 < len(noise.getvalue()) < 2e6 and brought(web, noise.getvalue())
    refused(web.post("/api/jobs", content=noise.getvalue(), headers=JPEG), 413, "1024 KiB")
    large = noise.getvalue() + bytes(1_000_000)
    refused(web.post("/api/uploads", content=large, headers=JPEG), 413, "2 MB is the most")
    parts = iter([large[:100], large[100:]])
    refused(web.post("/api/uploads", content=parts, headers=JPEG), 413, "2 MB is the most")
    files = {"file": ("cat.png", png(), "image/png")}
    refused(web.post("/api/uploads", files=files), 400, "curl --data-binary")


def test_nobody_reaches_anothers_picture(
    house: House, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("DRAWQUEUE_WEB_KEY", "sesame")
    settings._read.cache_clear()
    web: httpx.Client = request.getfixturevalue("web")
    refused(web.post("/api/uploads", content=png(), headers=JPEG), 401, "key")
    with (
        httpx.Client(base_url=web.base_url, timeout=30) as ann,
        httpx.Client(base_url=web.base_url, timeout=30) as bob,
    ):
        for one in (ann, bob):
            assert one.post("/key", data={"key": "sesame"}).status_code == 303
        id_ = brought(ann)
        job = asked(ann, type="remix", prompt="a hen", images=[id_])["id"]
        body = {"type": "remix", "prompt": "a hen", "images": [id_]}
        refused(bob.post("/api/jobs", json=body), 404, "no picture")
        refused(bob.post("/api/jobs", json={**body, "images": [str(job)]}), 404, f"no #{job}")
        line = {"text": "a hen", "images": [id_]}
        refused(bob.post("/api/chat", json=line), 404, "no picture")
        for path in (f"/media/{job}/source/0", f"/media/{job}/0", f"/paint/{job}/picture"):
            refused(bob.get(path), 404, f"no #{job}")
        for action in ("u1", "retry", "up2", "subtle"):
            refused(bob.post(f"/api/jobs/{job}/{action}"), 404, f"no #{job}")
        assert ann.get(f"/media/{job}/source/0").status_code == 200
        assert len(ann.get("/api/jobs").json()) == 1 and bob.get("/api/jobs").json() == []


def test_nobody_fills_the_storage(
    web: httpx.Client, rules: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_pictures, "MOST_AN_HOUR", 2)
    brought(web)
    brought(web)
    told = web.post("/api/uploads", content=png(30, 20), headers=JPEG)
    refused(told, 429, "sent 2 pictures within an hour")
    assert 0 < int(told.headers["retry-after"]) <= 3600
    rules('[access]\nblock = ["web:local"]')
    refused(web.post("/api/uploads", content=png(30, 20), headers=JPEG), 409, "not")


def test_a_redis_that_was_emptied_is_told_in_words(house: House, web: httpx.Client) -> None:
    id_ = brought(web)
    house.queue.redis.flushall()
    body = {"type": "remix", "prompt": "a hen", "images": [id_]}
    refused(web.post("/api/jobs", json=body), 404, "kept for a day: send it again")
    id_ = brought(web)
    kept: Any = house.queue.redis.get(f"drawqueue:upload:web:local:{id_}")
    assert 0 < house.queue.redis.ttl(f"drawqueue:upload:web:local:{id_}") <= 24 * 3600
    house.media.delete(json.loads(kept)["key"])
    refused(web.post("/api/jobs", json={**body, "images": [id_]}), 404, "send it again")


def test_every_button_is_pressed_by_one_route(house: House, web: httpx.Client) -> None:
    old = drawn(house, who=LOCAL, count=3)
    job = web.get(f"/api/jobs/{old.id}").json()
    rows = [one["row"] for one in job["card"]["buttons"]]
    assert rows == sorted(rows) and len(set(rows)) == 3
    picked = web.post(f"/api/jobs/{old.id}/u2")
    assert picked.status_code == 202 and picked.json()["status"] == "done"
    assert web.post(f"/api/jobs/{old.id}/u2").json()["id"] == picked.json()["id"]
    refused(web.post(f"/api/jobs/{old.id}/u4"), 404, "has 3 pictures")
    single = picked.json()["id"]
    made = {}
    for action in ("subtle", "strong", "up2", "up4", "retry", "reseed"):
        told = web.post(f"/api/jobs/{single}/{action}", headers={"Idempotency-Key": "1"})
        again = web.post(f"/api/jobs/{single}/{action}", headers={"Idempotency-Key": "1"})
        assert told.status_code == 202, told.text
        made[action] = told.json()["id"]
        assert again.json()["id"] == made[action], "sent twice, done once"
    assert len(set(made.values())) == 6
    varied = web.post(f"/api/jobs/{old.id}/v3").json()
    assert house.generations.get(varied["id"]).request.sources == (old.results[2]["key"],)
    for odd in ("dance", "agree", "why", "cancel"):
        refused(web.post(f"/api/jobs/{old.id}/{odd}"), 404, "retry, reseed")
    paths = web.get("/api/openapi.json").json()["paths"]["/api/jobs/{id}/{action}"]["post"]
    described = paths["parameters"][1]["schema"]["enum"]
    elsewhere = {*ASIDE, *DECISIONS, PAINT, "edit", "why", "cancel"}
    assert set(described) == set(ACTIONS) - elsewhere


def test_a_line_takes_pictures_along(house: House, web: httpx.Client) -> None:
    old = drawn(house, who=LOCAL, count=2)
    line = {"text": "a hen --strength 0.3", "event": "1", "images": [brought(web)]}
    told = [web.post("/api/chat", json=line).json() for _ in range(2)]
    assert told[0] == told[1] and told[0]["fresh"]
    assert told[0]["job"]["parameters"]["mode"] == "remix"
    large = web.post("/api/chat", json={"text": "/upscale", "images": [f"{old.id}.2"]}).json()
    assert large["job"]["parent"] == old.id and large["job"]["parameters"]["factor"] == 2
    named = web.post("/api/chat", json={"text": "a hen", "images": [f"{old.id}.2"]}).json()
    request = house.generations.get(named["job"]["id"]).request
    assert request.sources == (old.results[1]["key"],)
    refused(web.post("/api/chat", json={"text": "/queue", "images": ["1"]}), 422, "no picture")


def test_a_style_and_a_blend_take_pictures_in_their_order(house: House, web: httpx.Client) -> None:
    old, own = drawn(house, "an owl", who=LOCAL, count=2), brought(web)
    for images in ([own, f"{old.id}.2"], [f"{old.id}.2", own]):
        job = asked(web, type="style", prompt="a hen", images=images)
        request = house.generations.get(job["id"]).request
        assert request.mode == Mode.STYLE and job["parameters"]["style_strength"] == 0.6
        assert request.sources.index(old.results[1]["key"]) == images.index(f"{old.id}.2")
        assert [one["mask"] for one in job["sources"]] == [False, False]
    line = {"text": "/blend --strength 0.5", "images": [own, f"{old.id}.1", f"{old.id}.2"]}
    job = web.post("/api/chat", json=line).json()["job"]
    assert job["prompt"] == "an owl" and len(job["sources"]) == 3
    answer = web.post("/api/jobs", json={"type": "blend", "prompt": "a hen", "images": [own]})
    refused(answer, 422, "/blend takes 2 to 5 pictures; got 1.")
