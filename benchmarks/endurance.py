"""`python -m benchmarks.endurance [JOBS]`: whether anything grows while many jobs pass through.

One Telegram bot and one worker on the deterministic engine. Memory (resident) and open files of
each process, Redis keys and its memory, and table sizes, in ten rounds; the level after the
second round over that at the end is the figure. The last line is JSON, and the exit status tells
whether all stayed level.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from redis import Redis
from sqlalchemy import func, select

from core.database import metadata
from tests.conftest import Running
from tests.journeys.chats import on_telegram

ROUNDS, WARM = 10, 2
AT_ONCE = 40
# Memory may stand this much higher at the end than after the warm-up; so many more files may be
# open, because connections come and go; so many keys may be left, whatever passed.
LEVEL, FILES, KEYS = 1.05, 10, 500


def looked(drawqueue: Running) -> dict[str, float]:
    """Megabytes and open files of each process, and what Redis and the database hold."""
    told: dict[str, float] = {}
    for name, pid in drawqueue.processes().items():
        status = Path(f"/proc/{pid}/status").read_text()
        told[f"{name} MB"] = int(status.split("VmRSS:")[1].split()[0]) / 1024
        told[f"{name} files"] = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    redis = Redis.from_url(f"unix://{drawqueue.home / 'valkey.sock'}?db=0")
    told["Redis keys"] = redis.dbsize()
    with drawqueue.database() as database, database.read() as connection:
        for name, table in metadata.tables.items():
            told[f"rows of {name}"] = connection.execute(
                select(func.count()).select_from(table)
            ).scalar_one()
    return told


def main() -> int:
    """Let the jobs pass, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", type=int, nargs="?", default=10_000)
    jobs = parser.parse_args().jobs
    begun, levels = time.monotonic(), []
    with (
        tempfile.TemporaryDirectory() as folder,
        on_telegram(Path(folder), DRAWQUEUE_KEEP_JOB_MINUTES="1") as telegram,
    ):
        drawqueue = telegram.drawqueue
        sent = done = 0
        for turn in range(ROUNDS):
            while done < jobs * (turn + 1) // ROUNDS:
                while sent - done < AT_ONCE and sent < jobs:
                    who = 600 + sent % 20
                    telegram.say(f"/imagine wish {sent} sleep:0 --steps 1 --ar 1:1", who, who)
                    sent += 1
                time.sleep(0.5)
                done = sum(state == "done" for state in drawqueue.rows().values())
            levels.append(looked(drawqueue))
            rate = done / (time.monotonic() - begun)
            print(f"{done} jobs, {rate:.1f}/s: {levels[-1]}", flush=True)
        time.sleep(75)  # What is kept for a minute goes.
        rest = looked(drawqueue)
    warm, last = levels[WARM - 1], levels[-1]
    ratios = {name: round(last[name] / warm[name], 3) for name in warm
              if name in last and name.endswith((" MB", " files"))
              and not name.startswith("rows")}  # fmt: skip
    grown = [
        name for name, ratio in ratios.items()
        if (last[name] - warm[name] > FILES if name.endswith(" files") else ratio > LEVEL)
    ]  # fmt: skip
    # Valkey holds an hour's jobs, or as many as the setting says: its memory follows the rate.
    grown = [name for name in grown if not name.startswith("valkey")]
    figures = {
        "jobs": jobs, "seconds": round(time.monotonic() - begun), "ratios": ratios,
        "redis_keys_a_minute_later": rest["Redis keys"], "grown": grown,
    }  # fmt: skip
    print(json.dumps(figures))
    return bool(grown or rest["Redis keys"] > KEYS)


if __name__ == "__main__":
    sys.exit(main())
