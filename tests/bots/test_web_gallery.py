"""The gallery's interface over HTTP: pages, small copies, what is kept, links, the ZIP."""

import io
import json
import zipfile
from typing import Any

import httpx
import pytest
from PIL import Image
from sqlalchemy import update

from core import settings
from core.database import generations
from core.house import House
from core.people import Asker
from core.receipts import Notes
from tests.bots.test_web_keys import bearer
from tests.bots.test_web_text import web as web
from tests.core.test_gallery import marked
from tests.core.test_keys import made
from tests.core.test_pictures import drawn

# What databases find is shown in tests/core/test_gallery.py.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
LOCAL, BOB = Asker("web", "local", "web"), Asker("web", "bob", "web")


def shown(web: httpx.Client, **given: Any) -> list[str]:
    told = web.get("/api/gallery", params=given)
    assert told.status_code == 200, told.text
    return [one["number"] for one in told.json()["pictures"]]


def test_pages_filters_and_all_that_is_known(house: House, web: httpx.Client) -> None:
    for number in range(3):
        drawn(house, f"fox {number}", LOCAL, count=2)
    drawn(house, "Bob's", BOB)
    first = web.get("/api/gallery", params={"limit": 2}).json()
    assert [one["number"] for one in first["pictures"]] == ["3.1", "3.2", "2.1", "2.2"]
    assert shown(web, limit=2, before=first["next"]) == ["1.1", "1.2"]
    assert shown(web, words="fox 1", type="imagine", model="pattern", since="1d") == ["2.1", "2.2"]
    assert shown(web, words="hen") == shown(web, before=1) == shown(web, tag="sea") == []
    for given in ({"words": "?!"}, {"since": "soon"}, {"favourite": "no"}, {"tag": "x" * 99},
                  {"type": "dream"}, {"limit": 0}, {"before": 0}):  # fmt: skip
        refused = web.get("/api/gallery", params=given)
        assert refused.status_code == 422 and refused.json()["faults"], given
    kept = web.post("/api/jobs/2/1/tags", json={"tags": ["#Sea", "night sky"]}).json()
    assert kept == {"favourite": False, "tags": ["night sky", "sea"]}
    assert web.post("/api/jobs/2/1/favourite").json()["favourite"]
    assert shown(web, tag="SEA") == shown(web, favourite="yes") == ["2.2"]
    told = web.get("/api/gallery/2/1").json()
    assert told["parameters"]["seed"] == told["seed"] == 6 and told["of"] == 2
    assert told["line"] == "/imagine fox 1 --seed 6" and told["remix"] == "/remix fox 1 --from 2.2"
    count = web.get("/api/gallery/count").json()
    assert (count["pictures"], count["favourites"]) == (6, 1) and count["bytes"] > 500
    assert count["tags"][0] == {"name": "night sky", "pictures": 1}
    assert web.delete("/api/jobs/2/1/tags", params={"tag": "Sea"}).json()["tags"] == ["night sky"]
    assert not web.delete("/api/jobs/2/1/favourite").json()["favourite"]
    long = web.post("/api/jobs/2/1/tags", json={"tags": ["x" * 200]})
    assert long.status_code == 400 and "at most 32 characters" in long.json()["error"]
    recipe = web.get("/api/gallery/2/1/recipe")
    assert recipe.json()["prompt"] == "fox 1" and '"2.2.json"' in recipe.headers[
        "content-disposition"
    ]  # fmt: skip


def test_small_copies_are_for_their_person(house: House, web: httpx.Client) -> None:
    one, theirs = drawn(house, who=LOCAL), drawn(house, "Bob's", BOB)
    small = web.get(f"/media/{one.id}/0/small")
    assert small.headers["content-type"] == "image/webp"
    assert small.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert Image.open(io.BytesIO(small.content)).format == "WEBP"
    assert web.get(f"/media/{one.id}/1/small").status_code == 404
    assert web.get(f"/media/{theirs.id}/0/small").status_code == 404
    house.media.delete(str(one.results[0]["key"]))
    gone = web.get(f"/media/{one.id}/0/small")
    assert gone.status_code == 404 and "no longer kept" in gone.json()["error"]


def test_what_is_withheld_is_nowhere(house: House, web: httpx.Client, rules: Any) -> None:
    one = drawn(house, who=LOCAL)
    marked(house, one)
    rules('[marked]\nalone = "withhold"')
    assert web.get("/api/gallery").json()["pictures"][0]["show"] == "withhold"
    assert web.get(f"/media/{one.id}/0/small").status_code == 409
    with zipfile.ZipFile(io.BytesIO(web.get("/api/gallery/zip").content)) as packed:
        assert packed.namelist() == ["left-out.txt"]
    shared = web.post(f"/api/jobs/{one.id}/0/share", json={})
    assert shared.status_code == 409 and "no link to share" in shared.json()["error"]


def test_a_zip_of_those_that_fit_or_are_named(house: House, web: httpx.Client) -> None:
    drawn(house, "a fox", LOCAL, count=2)
    drawn(house, "a hen", LOCAL)
    drawn(house, "Bob's", BOB)

    def names(**given: str) -> list[str]:
        told = web.get("/api/gallery/zip", params=given)
        assert told.headers["content-type"] == "application/zip"
        assert "attachment" in told.headers["content-disposition"]
        with zipfile.ZipFile(io.BytesIO(told.content)) as packed:
            return [name for name in packed.namelist() if name.endswith(".png")]

    assert names() == ["2.1.png", "1.1.png", "1.2.png"]
    assert names(words="fox") == ["1.1.png", "1.2.png"]
    assert names(ids="1.2,2,1.2") == ["1.2.png", "2.1.png"]
    assert web.get("/api/gallery/zip", params={"ids": "1.1,3.1"}).status_code == 404
    assert web.get("/api/gallery/zip", params={"ids": "1.1,x"}).status_code == 400
    many = web.get("/api/gallery/zip", params={"ids": ",".join(map(str, range(1, 502)))})
    assert many.status_code == 422 and "at most 500 pictures" in many.json()["error"]


def test_it_is_deleted_with_all_that_hangs_on_it(house: House, web: httpx.Client) -> None:
    one = drawn(house, "a secret fox", LOCAL)
    web.get(f"/media/{one.id}/0/small")
    path = web.post(f"/api/jobs/{one.id}/0/share", json={}).json()["url"]
    waiting = house.generations.redo(one.id, LOCAL, "again", new_seed=True)
    assert web.post(f"/api/jobs/{waiting.id}/delete").status_code == 409
    told = web.post(f"/api/jobs/{one.id}/delete")
    assert told.json()["text"].startswith(f"#{one.id} is deleted: its picture and its prompt")
    assert web.get(path).status_code == web.get(f"{path}/picture").status_code == 410
    assert shown(web) == [] and web.get("/api/gallery/count").json()["bytes"] == 0
    assert web.post(f"/api/jobs/{one.id}/delete").status_code == 404
    assert not list(house.media.of_shard(0))


def test_a_link_is_for_whoever_has_it_and_for_nothing_else(
    house: House, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("DRAWQUEUE_WEB_KEY", "sesame")
    monkeypatch.setenv("DRAWQUEUE_PUBLIC_URL", "https://draw.example/")
    settings._read.cache_clear()
    web: httpx.Client = request.getfixturevalue("web")
    host = bearer("sesame")
    one = drawn(house, "a secret fox", Asker("web", "api", "web"), count=2)
    with house.database.write() as connection:
        results = [dict(result) for result in one.results]
        results[1]["key"] = house.media.save(one.id, "s.png", _with_recipe())
        connection.execute(update(generations).values(results=results))
    made_ = web.post(f"/api/jobs/{one.id}/1/share", json={}, headers=host)
    assert made_.status_code == 200, made_.text
    url = made_.json()["url"]
    assert url.startswith("https://draw.example/shared/")
    path = url.removeprefix("https://draw.example")
    page, picture = web.get(path), web.get(f"{path}/picture")
    for answer in (page, picture):
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        assert b"secret" not in answer.content
    assert f'src="{path}/picture"' in page.text
    assert web.post(
        f"/api/jobs/{one.id}/1/share", json={"prompt": True}, headers=host
    ).json()["url"] == url  # fmt: skip
    assert "a secret fox" in web.get(path).text
    assert b"secret" in web.get(f"{path}/picture").content
    # It opens nothing else.
    for other in ("/api/gallery", f"/media/{one.id}/1", f"/media/{one.id}/1/small", "/gallery",
                  f"/api/jobs/{one.id}", f"/paint/{path.removeprefix('/shared/')}"):  # fmt: skip
        assert web.get(other).status_code in (401, 403), other
    bad = web.get(path[:-2] + "xx")
    assert bad.status_code == 403 and "not one of mine" in bad.text
    for days in (0, 366, "x"):
        refused = web.post(f"/api/jobs/{one.id}/1/share", json={"days": days}, headers=host)
        assert refused.status_code == 422
    # Whoever sees it may report it, once, and nothing else by that link.
    for words in ("it shows me", "99 once more"):
        told = web.post(f"{path}/report", data={"reason": words})
        assert (told.status_code == 200 and "reported" in told.text) or "Thank you" in told.text
    ((number, said),) = house.reports.open().items()
    assert number == one.id and [row.reason for row in said] == ["it shows me"]
    assert said[0].reporter.startswith("web:visitor-") and "127.0.0.1" not in str(said[0])
    assert web.post(f"{path[:-2]}xx/report", data={"reason": "x"}).status_code == 403
    assert web.delete(f"/api/jobs/{one.id}/1/share", headers=host).status_code == 200
    assert web.post(f"{path}/report", data={"reason": "x"}).status_code == 410
    dead = web.get(path)
    assert dead.status_code == 410 and "not shared any more" in dead.text


def _with_recipe() -> bytes:
    out = io.BytesIO()
    told = Notes("a secret fox", json.dumps({"prompt": "a secret fox"}))
    Image.new("RGB", (64, 64), "teal").save(out, "PNG", pnginfo=told.png())
    return out.getvalue()


def test_a_key_keeps_and_looks_but_neither_deletes_nor_shares(
    house: House, web: httpx.Client
) -> None:
    ann = Asker("discord", "1", "Ann")
    one, key = drawn(house, who=ann), bearer(made(house, ann))
    assert web.post(f"/api/jobs/{one.id}/0/favourite", headers=key).status_code == 200
    assert len(web.get("/api/gallery", headers=key).json()["pictures"]) == 1
    for path in (f"{one.id}/delete", f"{one.id}/0/share"):
        refused = web.post(f"/api/jobs/{path}", json={}, headers=key)
        assert refused.status_code == 409 and "A key may not" in refused.json()["error"]
    assert house.generations.own(one.id, ann)
    looks = bearer(made(house, ann, "/key new read a frame"))
    assert web.get(f"/media/{one.id}/0/small", headers=looks).status_code == 200
    assert web.post(f"/api/jobs/{one.id}/0/favourite", headers=looks).status_code == 403


def test_the_page_is_there_in_the_words_of_its_scripts(web: httpx.Client) -> None:
    assert "/static/gallery.js" in web.get("/gallery").text
    assert "export function tr" in web.get("/words.js").text
    assert 'href="/gallery"' in web.get("/").text
