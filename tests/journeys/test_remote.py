"""Pictures that other machines draw, over real processes: plugs are pulled in each state, and
afterwards there is one picture, one charge, and nothing forgotten."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from PIL import Image
from sqlalchemy import select, update

from core.database import generations, now, usage
from tests.conftest import Running
from tests.journeys.chats import Everywhere, everywhere, shown
from tests.servers.remote_kie import KieServer
from tests.servers.remote_pollinations import PollinationsServer

FLUX = "pollinations:flux"


class Slow(KieServer):
    """Takes a while to answer that it has created a task."""

    answers_after = 0.0

    async def _create(self, request: web.Request) -> web.Response:
        answer = await super()._create(request)
        await asyncio.sleep(self.answers_after)
        return answer


@pytest.fixture(scope="module")
def kie() -> Iterator[Slow]:
    with Slow() as made:
        yield made  # type: ignore[misc]


@pytest.fixture(scope="module")
def flux() -> Iterator[PollinationsServer]:
    with PollinationsServer() as made:
        yield made  # type: ignore[misc]


@pytest.fixture(scope="module")
def chats(
    kie: Slow, flux: PollinationsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Everywhere]:
    folder = tmp_path_factory.mktemp("remote")
    (folder / "policy.toml").write_text('[prices]\nkie = 0.04\n"pollinations:flux" = 0.01\n')
    with everywhere(
        folder, DRAWQUEUE_MODEL=f"kie,{FLUX},pattern", DRAWQUEUE_TEXT_MODEL="none",
        DRAWQUEUE_FAILOVER=f"kie, {FLUX}, pattern", DRAWQUEUE_FETCH_HOSTS="127.0.0.1",
        DRAWQUEUE_POLICY=str(folder / "policy.toml"), **kie.settings(), **flux.settings(),
    ) as made:  # fmt: skip
        yield made


@pytest.fixture
def house(chats: Everywhere) -> Running:
    return chats.drawqueue


@pytest.fixture(autouse=True)
def well(kie: Slow, flux: PollinationsServer) -> None:
    kie.answers_after, kie.takes, kie.late, kie.callbacks = 0.0, 0.3, 0.0, "once"
    kie.tasks.clear()
    kie.told.clear()
    kie.failures.clear()
    kie.troubles.clear()
    flux.troubles.clear()


def ask(house: Running, prompt: str, model: str = "kie") -> int:
    body = {"prompt": prompt, "parameters": {"model": model}}
    answer = house.client.post("/api/jobs", json=body)
    assert answer.status_code in (200, 201, 202), answer.text
    return int(answer.json()["id"])


def until(what: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def asker(house: Running) -> int:
    """The process that asks other machines."""
    until(lambda: "worker remote" in house.processes())
    return house.processes()["worker remote"]


def row(house: Running, number: int) -> Any:
    with house.database() as database, database.read() as connection:
        return connection.execute(select(generations).where(generations.c.id == number)).one()


def spent(house: Running) -> tuple[int, float]:
    """What everybody has asked for, and what that cost."""
    with house.database() as database, database.read() as connection:
        rows = connection.execute(select(usage)).all()
    return sum(one.jobs for one in rows), round(sum(one.cost for one in rows), 4)


def drawn(house: Running, number: int) -> dict[str, Any]:
    """A job when it is done; its one picture can be fetched."""
    done = house.until(number, "done", "failed", seconds=90)
    assert done["status"] == "done", done["error"]
    (result,) = done["results"]
    Image.open(io.BytesIO(house.client.get(result["url"]).content)).load()
    return done


def test_a_task_elsewhere_becomes_a_picture_and_nobody_waits_for_it(
    house: Running, kie: Slow
) -> None:
    kie.takes = 1.5
    made = [ask(house, f"a lighthouse {index}") for index in range(6)]
    until(lambda: len(kie.tasks) == 6)
    assert house.client.get(f"/api/jobs/{made[0]}").json()["status"] == "waiting"
    for number in made:
        drawn(house, number)
    assert len(kie.tasks) == 6 and row(house, made[0]).cost == pytest.approx(0.04)


def test_each_chats_message_tells_the_story(chats: Everywhere, kie: Slow) -> None:
    kie.takes = 4.0
    chats.discord.command("imagine", prompt="a lighthouse of discord", model="kie")
    chats.telegram.say("/imagine a lighthouse of telegram --model kie")
    on_discord = chats.discord.card("lighthouse of discord", "done")
    on_telegram = chats.telegram.card("lighthouse of telegram", "done in")
    told = [str(one.get("content")) for one in on_discord["versions"]]
    assert any("waiting for another server" in one for one in told), told
    told = [shown(one) for one in on_telegram["versions"]]
    assert any("waiting for another server" in one for one in told), told
    assert on_discord["versions"][-1]["attachments"] and on_telegram["versions"][-1]["photo"]
    # A button of either chat asks for another one elsewhere.
    kie.takes = 0.3
    chats.discord.press(on_discord["id"], "Retry")
    chats.telegram.press(on_telegram, "Retry")
    until(lambda: len(kie.tasks) == 4)
    until(lambda: set(house_states(chats)) == {"done"})


def house_states(chats: Everywhere) -> list[str]:
    return list(chats.drawqueue.rows().values())


def test_killed_after_asking_and_before_noting_the_task(house: Running, kie: Slow) -> None:
    kie.answers_after, kie.takes = 5.0, 1.0
    before = spent(house)
    number = ask(house, "a task that nobody noted")
    until(lambda: len(kie.tasks) == 1)
    os.kill(asker(house), signal.SIGKILL)
    drawn(house, number)
    assert len(kie.tasks) == 1, "the news told what it is called: it was not asked for twice"
    one = row(house, number)
    assert one.restarts == 0 and one.attempt == 1
    assert spent(house) == (before[0] + 1, pytest.approx(before[1] + 0.04))


def test_killed_while_it_waits(house: Running, kie: Slow) -> None:
    kie.takes = 2.0
    before = spent(house)
    number = ask(house, "a task of a worker that died")
    house.until(number, "waiting")
    os.kill(asker(house), signal.SIGKILL)
    drawn(house, number)
    assert len(kie.tasks) == 1 and row(house, number).attempt == 1
    assert spent(house) == (before[0] + 1, pytest.approx(before[1] + 0.04))


def test_the_door_is_down_when_the_news_come(house: Running, kie: Slow) -> None:
    kie.takes = 1.5
    number = ask(house, "news that nobody took in")
    house.until(number, "waiting")
    web_process = house.processes()["bots.web_chat"]
    os.kill(web_process, signal.SIGSTOP)
    time.sleep(2.0)
    os.kill(web_process, signal.SIGKILL)
    until(lambda: house.processes().get("bots.web_chat") not in (None, web_process))
    until(lambda: _answers(house))
    assert house.client.get(f"/api/jobs/{number}").json()["status"] == "waiting"
    # As time goes by it is asked for: so long no test waits.
    with house.database() as database, database.write() as connection:
        connection.execute(
            update(generations).where(generations.c.id == number)
            .values(due=now() - timedelta(seconds=1))
        )  # fmt: skip
    drawn(house, number)
    assert len(kie.tasks) == 1 and kie.polled


def _answers(house: Running) -> bool:
    try:
        return house.client.get("/health").status_code == 200
    except Exception:
        return False


def test_cancelled_while_it_waits_and_the_news_come_late(house: Running, kie: Slow) -> None:
    kie.takes = 1.0
    before = spent(house)
    number = ask(house, "a task that nobody wants any more")
    house.until(number, "waiting")
    assert house.client.delete(f"/api/jobs/{number}").is_success
    until(lambda: bool(kie.told) and kie.told[-1][1] == 200)
    time.sleep(0.5)
    assert house.client.get(f"/api/jobs/{number}").json()["status"] == "cancelled"
    assert spent(house)[1] == pytest.approx(before[1] + 0.04), "what was begun is paid for, once"


def test_another_engine_draws_what_one_cannot(
    house: Running, kie: Slow, flux: PollinationsServer
) -> None:
    kie.failures.append(("500", "internal error"))
    kie.troubles += ["402"] * 9
    number = ask(house, "a picture of whoever can")
    done = drawn(house, number)
    assert done["parameters"]["model"] == FLUX
    assert "pollinations:flux in place of kie" in done["card"]["details"]
    kie.troubles.clear()
    # Where nobody elsewhere can, this machine does.
    kie.troubles += ["402"] * 9
    flux.troubles += ["402"] * 9
    number = ask(house, "a picture of this machine")
    assert drawn(house, number)["parameters"]["model"] == "pattern"


def test_a_worker_that_is_told_to_end_loses_nothing(
    house: Running, flux: PollinationsServer
) -> None:
    flux.seconds = 1.0
    made = [ask(house, f"an owl {index}", FLUX) for index in range(5)]
    until(lambda: flux.at_once > 0)
    os.kill(asker(house), signal.SIGTERM)
    for number in made:
        drawn(house, number)
    flux.seconds = 0.0
