"""`python -m benchmarks.acknowledge`: from asking to the first visible answer, on every chat.

At 1, 10 and 100 people at once, each chat's real bot against its wire-level server on loopback:
milliseconds to the first thing a person sees (Discord: "is thinking", Telegram and web: the
queued card), and for Discord to the card too. Import times of the bots' processes beside; all of
it as JSON on the last line.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import Running, running
from tests.journeys.chats import Discord, Telegram, on_discord, on_telegram

AT_ONCE = (1, 10, 100)
LEAST = 20
MODULES = ("core.cli", "bots.discord_chat", "bots.telegram_chat", "bots.web_chat", "worker.tasks")


def spread(seconds: Iterable[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    taken = sorted(one * 1000 for one in seconds)
    return {
        "p50": round(statistics.median(taken), 1),
        "p99": round(taken[max(0, int(len(taken) * 0.99) - 1)], 1),
    }


def rounds(one: Callable[[int], Any], at_once: int) -> list[Any]:
    """What each of `at_once` people did at the same time, in rounds of that many.

    A round's answers are looked at later: looking would keep the servers busy.
    """
    found = []
    with ThreadPoolExecutor(at_once) as pool:
        for start in range(0, max(LEAST, at_once), at_once):
            found += list(pool.map(one, range(start, start + at_once)))
            time.sleep(0.3)
    return found


def web(drawqueue: Running, at_once: int) -> dict[str, float]:
    """Until the queued card is answered."""

    def one(_number: int) -> float:
        with httpx.Client(base_url=drawqueue.address, timeout=60) as client:
            begun = time.perf_counter()
            client.post("/api/chat", json={"text": "a fox"}).raise_for_status()
            return time.perf_counter() - begun

    return spread(rounds(one, at_once))


def discord(chat: Discord, at_once: int) -> dict[str, dict[str, float]]:
    """Until Discord shows "is thinking", and until it shows the card; by Discord's own clock."""

    def say(number: int) -> str:
        return chat.command("imagine", user=str(10_000 + number), prompt=f"fox {number}")

    def look(asked: str) -> tuple[float, float]:
        def shown() -> dict[str, Any] | None:
            told = chat.interaction(asked)
            return told if (told["original"] or {}).get("content") else None

        told = chat.until(shown, 60)
        first = next(v for v in told["original"]["versions"] if v["content"])
        return float(told["acked"]), float(first["time"]) - float(told["created"])

    found = [look(asked) for asked in rounds(say, at_once)]
    return {"thinking": spread(a for a, _ in found), "card": spread(b for _, b in found)}


def telegram(chat: Telegram, at_once: int) -> dict[str, float]:
    """Until the card stands in the chat, by the clock of this machine."""

    def say(number: int) -> tuple[int, float]:
        person, begun = 20_000 + 1000 * at_once + number, time.time()
        chat.say(f"fox {number}", chat=person, user=person)
        return person, begun

    def look(person: int, begun: float) -> float:
        card = chat.until(lambda: chat.messages(person), 60)[-1]
        return float(card["versions"][0]["time"]) - begun

    return spread(look(*said) for said in rounds(say, at_once))


def imports() -> dict[str, float]:
    """Seconds that importing each process's module takes, the least of three."""
    return {
        module: round(
            min(
                float(
                    subprocess.run(
                        [sys.executable, "-c", "import time; t=time.perf_counter(); "
                         f"import {module}; print(time.perf_counter()-t)"],
                        capture_output=True, check=True, text=True,
                    ).stdout
                )
                for _ in range(3)
            ), 2,
        )
        for module in MODULES
    }  # fmt: skip


def main() -> None:
    """Measure, and print one line of JSON."""
    figures: dict[str, object] = {"import_seconds": imports()}
    with tempfile.TemporaryDirectory() as folder:
        with running(Path(folder) / "web", DRAWQUEUE_MODEL="pattern") as drawqueue:
            figures["web"] = {n: web(drawqueue, n) for n in AT_ONCE}
        with on_discord(Path(folder) / "discord") as on:
            figures["discord"] = {n: discord(on, n) for n in AT_ONCE}
        with on_telegram(Path(folder) / "telegram") as chat:
            # Telegram itself takes 30 messages a second: here the bot is measured.
            chat.post("limits", overall_per_second=None)
            figures["telegram"] = {n: telegram(chat, n) for n in AT_ONCE}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
