"""The whole thing as a newcomer meets it: `drawqueue up`, the web chat, a real picture."""

import contextlib
import io
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.conftest import Running, running


@pytest.fixture(scope="module")
def real(starter_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("real")
    broken = folder / "broken"
    broken.mkdir()
    (broken / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    models = f"{starter_model},pattern,{broken}"
    with running(folder / "home", DRAWQUEUE_MODEL=models) as drawqueue:
        yield drawqueue


@pytest.fixture(scope="module")
def quick(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("quick") / "home"
    with running(home, DATABASE_URL=new_database(), DRAWQUEUE_MODEL="pattern") as drawqueue:
        yield drawqueue


def say(drawqueue: Running, text: str) -> httpx.Response:
    return drawqueue.client.post("/api/chat", json={"text": text})


def test_a_prompt_becomes_a_real_picture(real: Running) -> None:
    job = say(real, "/imagine a red crown on a blue background --seed 7 --steps 40").json()["job"]
    assert job["status"] == "queued" and job["place"] == 1
    seen = []
    with real.client.stream("GET", f"/api/jobs/{job['id']}/stream") as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                seen.append(json.loads(line[5:]))
    states = [one["status"] for one in seen]
    assert states[-1] == "done" and "generating" in states
    assert states == sorted(states, key=["queued", "generating", "done"].index)
    shares = [one["progress"] for one in seen]
    assert shares == sorted(shares) and len({s for s in shares if 0 < s < 1}) >= 1
    picture = Image.open(io.BytesIO(real.client.get(seen[-1]["results"][0]["url"]).content))
    assert picture.info["parameters"].startswith("a red crown on a blue background\nSteps: 40")
    red, _, blue = picture.convert("RGB").getpixel((4, 4))  # type: ignore[misc]
    assert blue > red


def test_a_model_that_cannot_be_loaded_is_told(real: Running) -> None:
    body = {"prompt": "a fox", "parameters": {"model": "broken"}}
    failed = real.until(real.client.post("/api/jobs", json=body).json()["id"], "failed")
    assert "broken could not be loaded" in failed["error"] and "Traceback" not in failed["error"]
    assert [b["action"] for b in failed["card"]["buttons"]] == ["retry"]
    real.until(say(real, "a fox --steps 4").json()["job"]["id"], "done")


@pytest.mark.both_databases(slow=True)
def test_cancel_retry_and_a_new_seed(quick: Running) -> None:
    job = say(quick, "/imagine sleep:0.3 a long one --steps 60").json()["job"]
    quick.until(job["id"], "generating")
    begun = time.monotonic()
    assert quick.client.delete(f"/api/jobs/{job['id']}").json()["status"] == "cancelled"
    # The worker is free again within a step.
    other = say(quick, "a quick one --seed 3").json()["job"]
    done = quick.until(other["id"], "done")
    assert time.monotonic() - begun < 5
    again = quick.client.post(f"/api/jobs/{other['id']}/retry").json()
    assert again["id"] != other["id"] and again["parent"] == other["id"]
    same = quick.until(again["id"], "done")
    bytes_ = [quick.client.get(one["results"][0]["url"]).content for one in (done, same)]
    assert bytes_[0] == bytes_[1], "the same seed draws the same picture"
    reseeded = quick.client.post(f"/api/jobs/{other['id']}/reseed").json()
    assert reseeded["parameters"]["seed"] != 3
    retried = quick.client.post(f"/api/jobs/{job['id']}/retry").json()
    assert retried["id"] == job["id"] and retried["status"] == "queued"
    quick.client.delete(f"/api/jobs/{job['id']}")
    rows = quick.rows()
    assert rows[job["id"]] == "cancelled" and rows[other["id"]] == rows[again["id"]] == "done"


def picture(colour: str, width: int = 256, height: int = 256) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, "PNG")
    return out.getvalue()


def test_pictures_that_are_brought_are_remixed_painted_over_and_made_larger(quick: Running) -> None:
    def brought(image: bytes) -> str:
        kind = {"Content-Type": "image/png"}
        return str(quick.client.post("/api/uploads", content=image, headers=kind).json()["id"])

    def made(**body: object) -> Image.Image:
        job = quick.client.post("/api/jobs", json=body)
        assert job.status_code == 202, job.text
        done = quick.until(job.json()["id"], "done")
        found = quick.client.get(done["results"][0]["url"]).content
        return Image.open(io.BytesIO(found)).convert("RGB")

    teal, teal_id = (0, 128, 128), brought(picture("teal"))
    assert made(type="remix", prompt="a fox", images=[teal_id],
                parameters={"strength": 0}).getcolors() == [(256 * 256, teal)]  # fmt: skip
    half = Image.new("L", (256, 256), 0)
    half.paste(255, (0, 0, 128, 256))
    out = io.BytesIO()
    half.save(out, "PNG")
    painted = made(type="inpaint", prompt="a fox", images=[teal_id], mask=brought(out.getvalue()))
    assert painted.crop((136, 0, 256, 256)).getcolors() == [(120 * 256, teal)]
    left = painted.crop((0, 0, 120, 256)).getcolors() or []
    assert teal not in [colour for _, colour in left]
    number = quick.client.get("/api/jobs?limit=1").json()[0]["id"]
    assert made(type="upscale", images=[str(number)], parameters={"factor": 2}).size == (512, 512)
    large = made(
        type="upscale", images=[brought(picture("teal", 90, 60))], parameters={"factor": 4}
    )
    assert large.size == (360, 240)
    assert made(type="style", prompt="wholly teal", images=[teal_id],
                parameters={"style_strength": 1}).getcolors() == [(256 * 256, teal)]  # fmt: skip
    olive_id = brought(picture("olive"))
    over = made(type="style", prompt="over it", images=[teal_id, olive_id],
                parameters={"strength": 0, "style_strength": 1})  # fmt: skip
    assert over.getcolors() == [(256 * 256, teal)], "the style is that of the last"
    mixed = made(type="blend", prompt="both", images=[teal_id, olive_id],
                 parameters={"strength": 0})  # fmt: skip
    assert mixed.getcolors() == [(256 * 256, (64, 128, 64))]
    line = {"text": "a hen --strength 0.3", "images": [teal_id]}
    job = quick.client.post("/api/chat", json=line).json()["job"]
    assert quick.until(job["id"], "done")["parameters"]["mode"] == "remix"


def test_what_made_this(quick: Running) -> None:
    def known(image: bytes) -> dict[str, Any]:
        kind = {"Content-Type": "image/png"}
        brought = quick.client.post("/api/uploads", content=image, headers=kind).json()["id"]
        line = {"text": "/identify", "images": [brought]}
        return dict(quick.client.post("/api/chat", json=line).json())

    job = quick.client.post("/api/jobs", json={"prompt": "a fox", "parameters": {"seed": 33}})
    done = quick.until(job.json()["id"], "done")
    data = quick.client.get(done["results"][0]["url"]).content
    stripped = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(stripped, "JPEG")
    for given in (data, stripped.getvalue()):
        answer = known(given)
        assert answer["job"]["id"] == done["id"] and answer["fresh"]
    assert "I do not know that picture" in known(picture("purple"))["error"]


def test_four_pictures(quick: Running) -> None:
    job = quick.client.post("/api/jobs", json={"prompt": "a fox", "parameters": {"count": 4}})
    assert job.status_code == 202
    done = quick.until(job.json()["id"], "done")
    seeds = [one["seed"] for one in done["results"]]
    assert [s - seeds[0] for s in seeds] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/imagine a fox --wings 2", ["no --wings", "/help flags"]),
        ("/imagine a fox --steps 999", ["“steps”", "1 to 150"]),
        ("/imagine a fox --wings 2 --steps 999", ["--wings", "1 to 150"]),
        ("/imagine", ["Write what to draw"]),
        ("x" * 4001, ["4001 characters", "4000 is the most"]),
        ("/imagine a fox --seed 9223372036854775808", ["4294967295"]),
        ("/imagine a fox --model nope", ["On offer"]),
        ("/show 99999", ["no #99999"]),
        ("/show abc", ["by its number"]),
        ("/cancel", ["nothing to cancel"]),
        ("/dance", ["/help"]),
        ("/ imagine cat", ["Did you mean /imagine …?"]),
        ("/imagine@ cat", ["Did you mean /imagine …?"]),
        ("/", ["Did you mean /imagine …?"]),
        ("/imagine a fox --w 257", ["a multiple of 8", "256 or 264"]),
        ("/imagine a fox --w 64 --ar 1:1", ["not both"]),
        ("/imagine a fox --w 2048", ["at most"]),
    ],
)
def test_bad_input_is_one_clear_answer(quick: Running, text: str, words: list[str]) -> None:
    before = quick.rows()
    answer = say(quick, text)
    assert 400 <= answer.status_code < 500
    for word in words:
        assert word in answer.json()["error"]
    assert quick.rows().keys() == before.keys()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"prompt": "a fox", "parameters": {"wings": 2}}', "no option “wings”"),
        ('{"prompt": "a fox", "parameters": {"seed": 9223372036854775808}}', "4294967295"),
        ('{"prompt": "a fox", "parameters": {"guidance": NaN}}', "0 to 30"),
        ('{"prompt": "a fox", "parameters": {"model": "nope"}}', "On offer: pattern"),
        ('{"parameters": {}}', "Write what to draw"),
        ("a fox", "JSON"),
    ],
)
def test_a_bad_body_is_one_clear_answer(quick: Running, body: str, words: str) -> None:
    before = quick.rows()
    kind = {"Content-Type": "application/json"}
    answer = quick.client.post("/api/jobs", content=body, headers=kind)
    assert answer.status_code == 422 and words in answer.json()["error"]
    assert quick.rows().keys() == before.keys()
    assert quick.client.get("/api/jobs").status_code == 200


@pytest.mark.both_databases(slow=True)
def test_a_button_at_the_wrong_moment_is_one_clear_answer(quick: Running) -> None:
    busy = say(quick, "sleep:0.3 a busy one --steps 100").json()["job"]["id"]
    quick.until(busy, "generating")
    job = say(quick, "a waiting one").json()["job"]["id"]
    rows = quick.rows()

    def refused(answer: httpx.Response, words: str, state: str) -> None:
        assert answer.status_code == 409 and words in answer.json()["error"]
        now = quick.rows()
        assert now.keys() == rows.keys() and now[job] == state

    one = f"/api/jobs/{job}"
    refused(
        quick.client.post(f"{one}/retry"),
        f"#{job} is still queued; it can be retried when it is over", "queued",
    )  # fmt: skip
    quick.client.delete(f"/api/jobs/{busy}")
    quick.until(job, "done")
    refused(quick.client.delete(one), f"#{job} is already done", "done")
    refused(quick.client.delete(f"/api/jobs/{busy}"), f"#{busy} is already cancelled", "done")
    gone = quick.client.post("/api/jobs/99999/retry")
    assert gone.status_code == 404 and "no #99999" in gone.json()["error"]
    assert quick.rows().keys() == rows.keys()


@pytest.mark.both_databases(slow=True)
@pytest.mark.parametrize(
    ("prompt", "words"),
    [("fail:ask", "Ask for another"), ("fail:bug", "fault"), ("fail:oom", "memory")],
)
def test_a_failure_is_told_and_the_worker_lives(quick: Running, prompt: str, words: str) -> None:
    job = say(quick, prompt).json()["job"]
    failed = quick.until(job["id"], "failed")
    assert words in failed["error"] and "secret" not in failed["error"]
    assert [b["action"] for b in failed["card"]["buttons"]] == ["retry"]
    quick.until(say(quick, "a fox").json()["job"]["id"], "done")


@pytest.mark.both_databases(slow=True)
def test_a_prompt_that_crashes_the_engine_fails_after_its_tries(quick: Running) -> None:
    job = say(quick, "crash:segv").json()["job"]
    failed = quick.until(job["id"], "failed")
    assert "3 times" in failed["error"]
    quick.until(say(quick, "a fox").json()["job"]["id"], "done")


def test_other_sites_and_other_names_are_refused(quick: Running) -> None:
    foreign = {"Origin": "http://evil.example"}
    assert quick.client.post("/api/jobs", json={"prompt": "x"}, headers=foreign).status_code == 403
    assert quick.client.get("/api/jobs", headers={"Host": "evil.example"}).status_code == 400


def test_help_queue_and_models_answer(quick: Running) -> None:
    assert "/imagine" in say(quick, "/help").json()["text"]
    assert "In all:" in say(quick, "/queue").json()["text"]
    assert "pattern" in say(quick, "/models").json()["text"]
    assert quick.client.get("/api/queue").json()["workers"] == 1


def answering(drawqueue: Running) -> None:
    """Return when a new web process answers."""
    end = time.monotonic() + 40
    while time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError):
            if drawqueue.client.get("/health").status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError(drawqueue.log.read_text()[-2000:])


@pytest.mark.both_databases(slow=True)
def test_pull_the_plugs_and_stop(new_database: Callable[[], str], tmp_path: Path) -> None:
    """kill -9 of the web process and the worker mid-drawing; then Ctrl-C leaves nothing."""
    house = {"DATABASE_URL": new_database(), "DRAWQUEUE_MODEL": "pattern"}
    with running(tmp_path / "home", **house) as drawqueue:
        job = say(drawqueue, "sleep:0.2 a fox --steps 10").json()["job"]
        drawqueue.until(job["id"], "generating")
        first = drawqueue.processes()
        os.kill(first["worker"], signal.SIGKILL)
        os.kill(first["bots.web_chat"], signal.SIGKILL)
        drawqueue.client = httpx.Client(base_url=drawqueue.address, timeout=30)
        answering(drawqueue)
        done = drawqueue.until(job["id"], "done", seconds=60)
        assert len(done["results"]) == 1
        second = drawqueue.processes()
        assert second["worker"] != first["worker"]
        assert "starting it again" in drawqueue.log.read_text()
        # A second one in the same home is refused in words.
        drawqueue.stop()
        assert drawqueue.process.returncode == 0
        for pid in second.values():
            assert not Path(f"/proc/{pid}").exists()
    # What was there is there after a restart.
    with running(tmp_path / "home", **house) as again:
        assert again.client.get(f"/api/jobs/{job['id']}").json()["status"] == "done"


# The page in a real browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(not CHROMIUM, reason="NO BROWSER: install chromium, the page is NOT tested")
@pytest.mark.parametrize(
    ("width", "scheme"), [(390, "dark"), (1100, "light")], ids=["phone", "desktop"]
)
def test_the_page(real: Running, width: int, scheme: str, tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    shots = Path(os.environ.get("DRAWQUEUE_SHOTS", tmp_path))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.goto(real.address)
        nasty = (
            f"<img src=x onerror=alert({width})> @everyone **b** [x](http://a.example) \u202egnp "
            "a red crown on a blue background"
        )
        page.get_by_role("textbox").fill(f"/imagine {nasty} --seed 7")
        page.get_by_role("button", name="Send").click()
        card = page.locator(".card").filter(has_text=f"alert({width})")
        expect(card.locator(".prompt")).to_contain_text(nasty)
        expect(card.locator(".prompt *")).to_have_count(0)
        # A mark reaches to the end of its block: the words beside the prompt stand in their own.
        assert card.locator(".prompt").evaluate("e => getComputedStyle(e).display") == "block"
        expect(card.locator("img")).to_be_visible(timeout=30_000)
        expect(card.locator(".status")).to_contain_text("done in")
        box = card.locator("img").bounding_box()
        assert box and abs(box["width"] / box["height"] - 1) < 0.02, "not stretched"
        expect(card.get_by_role("button", name="Retry")).to_be_visible()
        page.screenshot(path=shots / f"web-{width}-{scheme}.png")
        card.locator(".pictures button").first.click()
        expect(page.locator("dialog img")).to_be_visible()
        page.keyboard.press("Escape")
        page.get_by_role("textbox").fill("/imagine a fox --steps 900")
        page.keyboard.press("Enter")
        expect(page.locator(".sorry").last).to_contain_text("1 to 150")
        page.get_by_role("textbox").fill("{sun, moon} over a house --repeat 3 --steps 2")
        page.keyboard.press("Enter")
        question = page.locator("article.bot").filter(has_text="That makes 6 pictures")
        question.get_by_role("button", name="No, none").scroll_into_view_if_needed()
        page.screenshot(path=shots / f"web-{width}-{scheme}-question.png")
        question.get_by_role("button", name="Queue them all").click()
        expect(page.get_by_text("6 pictures are in line")).to_be_visible()
        expect(question.get_by_role("button")).to_have_count(0)
        drawn = page.locator(".card").filter(has_text="over a house").locator("img")
        expect(drawn).to_have_count(6 if scheme == "dark" else 12, timeout=30_000)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert [f for f in faults if "422" not in f] == []
        browser.close()
