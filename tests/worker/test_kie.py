"""What is special about kie.ai: tasks, several of them in one, news of them, and dying pictures."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from PIL.Image import Image
from sqlalchemy import select, update

from core import catalog, providers, settings
from core.database import generations, usage
from core.engine import (
    AskDifferently,
    EngineError,
    Stopped,
    Task,
    TransientError,
    TryAnother,
    Wait,
)
from core.errors import InvalidOptions
from core.house import House
from core.lifecycle import State
from core.options import Options, Request
from core.people import Asker
from core.rows import Generation
from tests.servers.remote_kie import KieServer
from worker.engines import calls, kie
from worker.remote import Branch
from worker.tasks import DrawingFailed, Studio, collect, generate

URL = "https://draw.example.org/webhook/kie/1/secret"
# Why a task fails: by trouble of theirs, and by their rules.
ODD, FORBIDDEN = ("500", "odd"), ("400", "flagged by our content policy")


@pytest.fixture(scope="module")
def server() -> Iterator[KieServer]:
    with KieServer() as made:
        yield made


@pytest.fixture
def engine(server: KieServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for mine in (server.troubles, server.asked, server.failures, server.fetched, server.told,
                 server.tasks, server.garbled):  # fmt: skip
        mine.clear()
    server.callbacks, server.unknown, server.pictures, server.lives = "never", False, 1, 60.0
    server.seconds, server.late = 0.0, 0.0
    for name, value in {**server.settings(), "DRAWQUEUE_MODEL": "kie"}.items():
        monkeypatch.setenv(name, value)
    settings._read.cache_clear()
    catalog.models.cache_clear()
    # What is to be gone is gone at once.
    monkeypatch.setattr(calls, "TRIES", 1)
    monkeypatch.setitem(
        providers.PROVIDERS, "kie",  # type: ignore[arg-type]
        replace(providers.PROVIDERS["kie"], seconds=4.0),
    )  # fmt: skip
    made = kie.made()
    request = catalog.settle(Options(prompt="a lighthouse"), 7)
    yield SimpleNamespace(made=made, model=catalog.models()["kie"], request=request)
    made.close()


def on(_share: float, _words: str = "") -> bool:
    return True


def begun(engine: Any, request: Request | None = None, callback: str = URL) -> Task:
    task: Task = engine.made.begin(engine.model, request or engine.request, on, callback)
    return task


def collected(
    engine: Any, task: str, news: Any = None, request: Request | None = None
) -> Task | list[Image]:
    found: Task | list[Image] = engine.made.collect(
        engine.model, request or engine.request, on, task, news
    )
    return found


def news_of(server: KieServer, name: str) -> dict[str, Any]:
    return {"code": 200, "msg": "done", "data": server._data(server.tasks[name])}


def colours(images: Any) -> list[Any]:
    assert isinstance(images, list)
    return [image.convert("RGB").resize((1, 1)).getpixel((0, 0)) for image in images]


def inputs(server: KieServer) -> dict[str, Any]:
    told: dict[str, Any] = server.created[-1]["input"]
    return told


@pytest.mark.parametrize(
    ("given", "shape", "quality"),
    [
        ({}, "1:1", "basic"),
        ({"aspect": "16:9"}, "16:9", "basic"),
        ({"aspect": "9:16"}, "9:16", "basic"),
        ({"aspect": "5:4"}, "4:3", "basic"),
        ({"aspect": "7:3"}, "21:9", "basic"),
        ({"aspect": "21:9"}, "21:9", "basic"),
        ({"width": 2048, "height": 2048}, "1:1", "basic"),
    ],
)
def test_a_size_is_the_nearest_there_is(
    engine: Any, server: KieServer, given: dict[str, Any], shape: str, quality: str
) -> None:
    begun(engine, catalog.settle(Options(prompt="a fox", **given), 0))
    assert inputs(server) == {"prompt": "a fox", "aspect_ratio": shape, "quality": quality}
    assert server.created[-1]["model"] == "seedream/4.5-text-to-image"
    assert server.created[-1]["callBackUrl"] == URL


@pytest.mark.parametrize(
    ("size", "shape", "quality"),
    [
        ((4096, 4096), "1:1", "high"), ((4096, 2304), "16:9", "high"),
        ((2048, 2560), "3:4", "basic"), ((1024, 1536), "2:3", "basic"),
    ],
)  # fmt: skip
def test_what_is_larger_is_drawn_in_4k(
    engine: Any, server: KieServer, size: tuple[int, int], shape: str, quality: str
) -> None:
    begun(engine, replace(engine.request, width=size[0], height=size[1]))
    assert (inputs(server)["aspect_ratio"], inputs(server)["quality"]) == (shape, quality)


def test_nothing_is_promised_that_it_does_not_draw(engine: Any) -> None:
    for given, words in (
        ({"width": 1024, "height": 1024}, r"no fewer pixels than 2048×2048; asked: 1024×1024"),
        ({"negative_prompt": "rain"}, "--no"),
        ({"steps": 20}, "--steps"),
    ):
        with pytest.raises(InvalidOptions, match=words):
            catalog.settle(Options(prompt="a fox", **given), 0)


def test_a_small_picture_that_it_stands_in_for_is_as_large_as_it_draws(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Request("a fox", "", 768, 512, 5, 5.0, 1, "Euler", "pattern", 1)
    found = catalog.instead(small, "kie")
    assert found and 0.98 < (found.width * found.height) ** 0.5 / 2048 < 1.02
    assert abs(found.width / found.height - 1.5) < 0.01


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("kie:z-image", {"prompt": "a fox", "aspect_ratio": "16:9"}),
        ("kie:flux-2/pro-text-to-image",
         {"prompt": "a fox", "aspect_ratio": "16:9", "resolution": "2K"}),
        ("kie:google/nano-banana",
         {"prompt": "a fox", "image_size": "16:9", "output_format": "png"}),
        ("kie:bytedance/seedream-v4-text-to-image",
         {"prompt": "a fox", "image_size": "landscape_16_9", "image_resolution": "2K", "seed": 7}),
        ("kie:seedream/5-pro-text-to-image",
         {"prompt": "a fox", "aspect_ratio": "16:9", "quality": "high"}),
        ("kie:somebody/new", {"prompt": "a fox", "aspect_ratio": "16:9"}),
    ],
)  # fmt: skip
def test_each_model_is_asked_as_it_wants(
    engine: Any, server: KieServer, source: str, told: dict[str, Any]
) -> None:
    request = replace(engine.request, prompt="a fox", width=2728, height=1536, seed=7)
    # The server knows the usual one alone.
    with pytest.raises(AskDifferently, match="not supported"):
        engine.made.begin(replace(engine.model, source=source), request, on, "")
    assert server.created[-1] == {"model": source.removeprefix("kie:"), "input": told}


@pytest.mark.parametrize(
    ("trouble", "kind", "words"),
    [
        ("422", AskDifferently, "refused with 422"), ("433", TryAnother, "credit"),
        ("404", TryAnother, "does not know"), ("455", TryAnother, "at the moment"),
        ("505", TryAnother, "does not know"), ("501", TransientError, "trouble"),
        ("busy", Wait, "as much to do"), ("999", TransientError, "trouble"),
    ],
)  # fmt: skip
def test_its_own_codes_are_read(
    engine: Any, server: KieServer, trouble: str, kind: type[EngineError], words: str
) -> None:
    server.troubles.append(trouble)
    with pytest.raises(kind, match=words) as caught:
        begun(engine)
    assert len(server.asked) == 1, "what may have been charged is not asked for again"
    if isinstance(caught.value, Wait):
        assert caught.value.seconds == kie.WINDOW


def test_it_is_waited_for_and_stopped_when_asked_so(engine: Any, server: KieServer) -> None:
    server.seconds = 0.6
    images = engine.made.draw(engine.model, engine.request, on)
    assert images[0].size == (96, 64) and server.polled == 2
    server.seconds = 30.0
    until = time.monotonic() + 0.4
    with pytest.raises(Stopped):
        engine.made.draw(engine.model, engine.request, lambda *_: time.monotonic() < until)
    assert time.monotonic() < until + 1


def test_who_is_not_done_in_time_is_not_waited_for(engine: Any, server: KieServer) -> None:
    server.seconds = 60.0
    engine.made.calls.provider = replace(engine.made.calls.provider, seconds=0.5)
    with pytest.raises(TransientError, match="too long"):
        engine.made.draw(engine.model, engine.request, on)


def test_news_are_enough(engine: Any, server: KieServer) -> None:
    task = begun(engine)
    assert task.name in server.tasks
    images = collected(engine, task.name, news_of(server, task.name))
    assert isinstance(images, list) and images[0].size == (96, 64) and server.polled == 0
    assert all("Authorization" not in one for one in server.fetched), "the key stays here"


def test_without_news_one_asks(
    engine: Any, server: KieServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.seconds = 0.6
    task = begun(engine)
    assert task.again == kie.SOON
    assert collected(engine, task.name) == task
    monkeypatch.setenv("DRAWQUEUE_PUBLIC_URL", "https://draw.example.org")
    settings._read.cache_clear()
    assert collected(engine, task.name) == Task(task.name, kie.LATE, 1), "they are to come"
    time.sleep(0.7)
    assert len(colours(collected(engine, task.name))) == 1


@pytest.mark.parametrize(
    "garbled",
    [
        {"resultJson": "{"}, {"resultJson": '"a"'}, {"resultJson": None}, {"resultJson": 7},
        {"resultJson": '{"resultUrls": []}'}, {"resultJson": '{"resultUrls": {"a": 1}}'},
        {"resultJson": '{"resultUrls": [null]}'}, {"state": None}, {"state": "done"},
        {"resultJson": "[" * 100_000},
    ],
)  # fmt: skip
def test_news_that_make_no_sense_are_asked_about(
    engine: Any, server: KieServer, garbled: dict[str, Any]
) -> None:
    task = begun(engine)
    news = news_of(server, task.name)
    news["data"].update(garbled)
    assert len(colours(collected(engine, task.name, news))) == 1 and server.polled == 1


@pytest.mark.parametrize("news", [{}, {"data": None}, {"data": []}, {"data": {"taskId": "a,b"}}])
def test_news_of_nothing_are_none(engine: Any, server: KieServer, news: Any) -> None:
    task = begun(engine)
    assert len(colours(collected(engine, task.name, news))) == 1
    with pytest.raises(TransientError):
        collected(engine, "", news)


def test_a_picture_that_is_gone_is_asked_for_anew(engine: Any, server: KieServer) -> None:
    """The news came late: where its picture was, there is none any more."""
    task = begun(engine)
    news = news_of(server, task.name)
    news["data"]["resultJson"] = json.dumps({"resultUrls": [f"{server._files}/gone.png?said=0"]})
    assert len(colours(collected(engine, task.name, news))) == 1 and server.polled == 1


def test_one_bears_with_what_is_odd_for_a_while(
    engine: Any, server: KieServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = begun(engine)
    server.unknown = True
    assert collected(engine, task.name) == task, "it is new"
    server.unknown, server.lives = False, -60.0
    assert collected(engine, task.name) == task, "and then its picture is gone"
    monkeypatch.setattr(kie, "ODD_SECONDS", 0.01)
    time.sleep(0.05)
    with pytest.raises(TransientError, match="without a picture"):
        collected(engine, task.name)
    server.lives, server.unknown = 60.0, True
    collected(engine, task.name)
    time.sleep(0.05)
    with pytest.raises(TransientError, match="trouble"):
        collected(engine, task.name)
    server.unknown, server.garbled = False, {"resultJson": "no"}
    collected(engine, task.name)
    time.sleep(0.05)
    with pytest.raises(TransientError, match="without a picture"):
        collected(engine, task.name)


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (("400", "Your prompt was flagged by our content policy"), AskDifferently, "policy"),
        (("500", "The image may contain sensitive content"), AskDifferently, "sensitive"),
        (("422", "The prompt is too long"), AskDifferently, "too long"),
        (("402", "Credits insufficient"), TryAnother, "credit"),
    ],
)
def test_why_a_task_failed(
    engine: Any, server: KieServer, failure: tuple[str, str], kind: type[EngineError], words: str
) -> None:
    server.failures.append(failure)
    task = begun(engine)
    with pytest.raises(kind, match=words):
        collected(engine, task.name)
    with pytest.raises(kind, match=words):
        collected(engine, task.name, news_of(server, task.name))


@pytest.mark.parametrize(
    "failure", [("500", "Internal error, please try again later."), ("", ""), ("E100", "odd")]
)
@pytest.mark.parametrize("told", [True, False])
def test_trouble_of_theirs_is_met_by_another_task_so_often(
    engine: Any, server: KieServer, failure: tuple[str, str], told: bool
) -> None:
    server.failures += [failure] * kie.TRIES
    task, names = begun(engine), list(server.tasks)
    for tries in range(2, kie.TRIES + 1):
        news = news_of(server, names[-1]) if told else None
        found = collected(engine, task.name, news)
        assert isinstance(found, Task) and len(server.tasks) == found.begun == tries
        task, names = found, list(server.tasks)
        assert task.name == "/".join(reversed(names)), "the newest first"
        # Who lost its memory knows as much.
        engine.made.close()
        engine.made = kie.made()
    for _ in range(2):
        with pytest.raises(TryAnother, match=r"trouble of its own\. I tried 3 times\."):
            collected(engine, task.name)
    assert len(server.created) == kie.TRIES


def test_who_was_too_busy_to_draw_is_asked_again_after_a_while(
    engine: Any, server: KieServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.failures.append(("429", "Upstream is busy"))
    task = begun(engine)
    assert collected(engine, task.name) == task and len(server.created) == 1
    monkeypatch.setattr(kie, "WINDOW", 0.05)
    time.sleep(0.1)
    again = collected(engine, task.name)
    assert isinstance(again, Task) and again.begun == 2
    assert len(colours(collected(engine, again.name))) == 1


def test_who_cannot_be_asked_goes_on_drawing(engine: Any, server: KieServer) -> None:
    """A fault while one asks is no fault of the drawing: it is paid for."""
    task = begun(engine)
    for trouble in ("500", "busy", "429", "455", "html", "cut"):
        server.troubles.append(trouble)
        assert collected(engine, task.name) == task, trouble
    # Nobody asks for a while where all were asked in vain; the drawing does not end for that.
    server.troubles += ["html"] * 6
    for _ in range(6):
        assert collected(engine, task.name) == task
    assert server.troubles, "nobody asks any more"
    server.troubles.clear()
    assert collected(engine, task.name) == task
    server.troubles.append("401")
    engine.made.close()
    engine.made = kie.made()
    with pytest.raises(TryAnother):
        collected(engine, task.name)
    assert len(colours(collected(engine, task.name))) == 1


# Several pictures: several tasks


@pytest.fixture
def four(engine: Any) -> Request:
    asked: Request = replace(engine.request, count=4)
    return asked


@pytest.fixture
def public(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the house have an address, to which news come."""
    monkeypatch.setenv("DRAWQUEUE_PUBLIC_URL", "https://draw.example.org")
    settings._read.cache_clear()


def test_one_row_waits_for_several_tasks(engine: Any, server: KieServer, four: Request) -> None:
    task = begun(engine, four)
    names = task.name.split(",")
    assert names == list(server.tasks) and len(names) == 4
    last = server.tasks[names[3]]
    last.takes = 60.0
    # News tell of one; the others are asked for, and what is not done is waited for.
    assert collected(engine, task.name, news_of(server, names[2]), four) == task
    last.takes = 0.0
    found = colours(collected(engine, task.name, news_of(server, names[3]), four))
    assert len(set(found)) == 4 and len(server.created) == 4
    assert found == colours(collected(engine, task.name, None, four)), "in the order of the seeds"


@pytest.mark.parametrize("trouble", ["busy", "500", "cut", "429"])
def test_what_could_not_be_begun_is_begun_later(
    engine: Any, server: KieServer, four: Request, trouble: str
) -> None:
    server.troubles += ["", "", trouble]
    task = begun(engine, four)
    first = task.name.split(",")
    assert len(first) == 2, "those that were taken on are not begun again"
    made = len(server.tasks)
    later = collected(engine, task.name, None, four)
    assert isinstance(later, Task) and later.begun == 4, "it is noted before one looks"
    assert later.name.startswith(task.name)
    assert len(set(colours(collected(engine, later.name, None, four)))) == 4
    # Whose answer was cut off may have been begun, too.
    assert len(server.tasks) == made + 2 and set(first) < set(server.tasks)


def test_what_is_begun_later_is_called_so(engine: Any, server: KieServer, four: Request) -> None:
    server.troubles += ["", "", "busy"]
    task = begun(engine, four)
    server.seconds = 60.0
    later = collected(engine, task.name, None, four)
    assert isinstance(later, Task) and later.name == ",".join(server.tasks)
    server.troubles += ["busy"]
    assert len(server.tasks) == 4 and collected(engine, later.name, None, four) == later


def test_what_is_refused_is_refused_for_all(
    engine: Any, server: KieServer, four: Request, public: None
) -> None:
    server.troubles += ["402", "", "402", "", "402"]
    with pytest.raises(TryAnother, match="credit"):
        begun(engine, four)
    # One was taken on before that: it is noted, and paid.
    task = begun(engine, four)
    assert task == Task(*server.tasks, kie.SOON, 1)
    with pytest.raises(TryAnother, match="credit"):
        collected(engine, task.name, None, four)
    assert len(server.tasks) == 1 and not server.troubles


def test_who_is_stopped_as_it_asks_tells_what_was_taken_on(
    engine: Any, server: KieServer, four: Request
) -> None:
    server.troubles += ["", "", "slow", "slow"]
    task = engine.made.begin(engine.model, four, lambda *_: False, URL)
    assert task.begun == 2 and task.name == ",".join(server.tasks)
    with pytest.raises(Stopped):
        engine.made.begin(engine.model, four, lambda *_: False, URL)


def test_what_failed_is_drawn_anew_alone(
    engine: Any, server: KieServer, four: Request, public: None
) -> None:
    server.failures += [("", "")]
    task = begun(engine, four)
    first, *others = task.name.split(",")
    # One of the others is not done; and that it cannot be replaced at once changes nothing.
    server.tasks[others[2]].takes = 60.0
    server.troubles += ["", "", "", "", "busy"]
    assert collected(engine, task.name, None, four) == task
    server.troubles.clear()
    found = collected(engine, task.name, news_of(server, first), four)
    assert isinstance(found, Task) and found.begun == 5
    new = list(server.tasks)[4]
    assert found.name == ",".join([f"{new}/{first}", *others])
    # No news come of it.
    assert "callBackUrl" not in server.created[-1]
    assert (task.again, found.again) == (kie.LATE, kie.SOON)
    # News of the old one, late or twice, are of no use to the new one.
    server.tasks[new].takes = 60.0
    late = news_of(server, first)
    for state in (late, {**late, "data": {**late["data"], "state": "success"}}):
        assert collected(engine, found.name, state, four) == found
    for made in server.tasks.values():
        made.takes = 0.0
    images = colours(collected(engine, found.name, news_of(server, others[0]), four))
    assert len(set(images)) == 4 and len(server.tasks) == 5
    assert images[1:] == [colours(collected(engine, one))[0] for one in others]
    assert images[:1] == colours(collected(engine, new)), "in the order of the seeds"


def test_late_news_of_what_failed_take_no_others_place(
    engine: Any, server: KieServer, four: Request
) -> None:
    server.failures += [ODD]
    server.troubles += ["", "", "busy"]
    task = begun(engine, four)
    first, second = task.name.split(",")
    server.troubles += ["", "", "", "busy"]
    found = collected(engine, task.name, None, four)
    assert isinstance(found, Task) and found.begun == 3
    place = f"{list(server.tasks)[2]}/{first}"
    assert found.name == f"{place},{second}"
    last = collected(engine, found.name, news_of(server, first), four)
    assert isinstance(last, Task) and last.begun == 5
    assert last.name == ",".join([place, second, *list(server.tasks)[3:]])


def test_what_is_forbidden_fails_the_whole_before_anything_is_drawn_anew(
    engine: Any, server: KieServer, four: Request
) -> None:
    server.failures += [ODD, FORBIDDEN]
    task = begun(engine, four)
    with pytest.raises(AskDifferently, match="policy"):
        collected(engine, task.name, None, four)
    assert len(server.created) == 4


def test_what_failed_waits_for_news_of_those_that_nobody_noted(
    engine: Any, server: KieServer, four: Request
) -> None:
    server.failures += [ODD]
    names = begun(engine, four).name.split(",")
    task = collected(engine, "", news_of(server, names[0]), four)
    assert task == Task(names[0], kie.UNTOLD, 1) and len(server.created) == 4
    later = collected(engine, names[0], None, four)
    assert isinstance(later, Task) and later.begun == 5 and len(server.created) == 8
    assert later.name.split(",")[0].endswith(f"/{names[0]}")


def test_news_of_what_nobody_noted_are_its_name(
    engine: Any, server: KieServer, four: Request
) -> None:
    """The worker died between asking and noting."""
    name = begun(engine).name
    assert len(colours(collected(engine, "", news_of(server, name)))) == 1
    assert len(server.created) == 1, "it is not drawn twice"
    with pytest.raises(TransientError):
        collected(engine, "")
    # Of several, each tells of itself; what is said twice is one.
    names = begun(engine, four).name.split(",")
    task = collected(engine, "", news_of(server, names[1]), four)
    assert task == Task(names[1], kie.UNTOLD, 1)
    again = collected(engine, names[1], news_of(server, names[1]), four)
    assert isinstance(again, Task) and again.name == names[1]
    known = names[1]
    for one in (names[0], names[3]):
        more = collected(engine, known, news_of(server, one), four)
        assert isinstance(more, Task)
        known = more.name
    assert known == f"{names[1]},{names[0]},{names[3]}" and len(server.created) == 5
    assert len(set(colours(collected(engine, known, news_of(server, names[2]), four)))) == 4
    assert len(server.created) == 5
    # The worker died before it asked for the fourth: nobody tells of it.
    last = collected(engine, known, None, four)
    assert isinstance(last, Task) and len(server.created) == 6
    assert len(set(colours(collected(engine, last.name, None, four)))) == 4


def test_news_of_another_task_change_nothing(engine: Any, server: KieServer) -> None:
    mine, other = begun(engine).name, begun(engine).name
    found = collected(engine, mine, news_of(server, other))
    assert colours(found) == colours(collected(engine, mine))
    assert colours(found) != colours(collected(engine, other))


def test_a_task_may_name_several_pictures(engine: Any, server: KieServer, four: Request) -> None:
    server.pictures = 3
    assert len(colours(collected(engine, begun(engine).name))) == 1
    assert len(colours(collected(engine, begun(engine, four).name, None, four))) == 4
    assert len(server.fetched) == 5


@pytest.mark.parametrize(
    "answer",
    [
        {"code": 200, "data": {}}, {"code": 200, "data": {"taskId": "a,b"}}, {"code": 200}, [], 7,
        {"code": "200", "data": {"taskId": "a"}}, {"data": {"taskId": "a"}},
    ],
)  # fmt: skip
def test_an_answer_without_a_task_is_none(
    engine: Any, server: KieServer, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def met(*_: Any) -> web.StreamResponse:
        return web.json_response(answer)

    monkeypatch.setattr(server, "_met", met)
    with pytest.raises(TransientError, match="trouble"):
        begun(engine)


# Through the house: what it costs

ANN = Asker("web", "ann")
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def branch(
    house: House, engine: Any, rules: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    monkeypatch.setenv("DRAWQUEUE_MODEL", "kie, pattern")
    settings._read.cache_clear()
    catalog.models.cache_clear()
    rules("[prices]\nkie = 0.1\n")
    made = Branch(house)
    monkeypatch.setattr(Studio, "house", house, raising=False)
    monkeypatch.setattr(Studio, "branch", made, raising=False)
    yield house
    Studio.leaving.clear()
    Studio.stopped.clear()
    made.close()


def asked(house: House) -> Generation:
    request = catalog.settle(Options(prompt="a lighthouse", model="kie", count=4), 7)
    return house.generations.submit(request, ANN, "e1", {})


def looked_after(house: House, made: Generation) -> Generation:
    """It, when nobody waits for it any more, each look being another worker's."""
    for _ in range(9):
        if house.generations.get(made.id).state != State.WAITING:
            break
        with house.database.write() as connection:
            connection.execute(update(generations).values(due=None))
        Studio.branch = Branch(house)
        with contextlib.suppress(DrawingFailed):
            collect(made.id)
        Studio.branch.close()
    return house.generations.get(made.id)


def paid(house: House) -> float:
    """For how many pictures, as the day has it."""
    with house.database.read() as connection:
        return round(sum(one.cost for one in connection.execute(select(usage)).all()) / 0.1, 6)


@SQLITE
@pytest.mark.parametrize(
    ("failures", "troubles", "state", "pictures", "words"),
    [
        ([], [], State.DONE, 4, ""),
        ([ODD], [], State.DONE, 5, ""),
        ([("", ""), ODD, ODD, ODD, ODD], [], State.DONE, 9, ""),
        ([ODD] * 12, [], State.FAILED, 12, "has trouble of its own. I tried 3 times."),
        ([ODD, FORBIDDEN], [], State.FAILED, 4, "does not draw this"),
        ([], ["", "", "402", "", "", "402"], State.FAILED, 2, "no credit left"),
        ([ODD], [*[""] * 8, "402"], State.FAILED, 4, "no credit left"),
    ],
)
def test_what_was_taken_on_is_paid_once(
    branch: House, server: KieServer, failures: list[Any], troubles: list[str], state: State,
    pictures: int, words: str,
) -> None:  # fmt: skip
    server.failures += failures
    server.troubles += troubles
    made = asked(branch)
    generate(made.id)
    over = looked_after(branch, made)
    assert over.state == state and words in str(over.error or ""), over.error
    assert len(server.tasks) == pictures == paid(branch) and over.attempt == 1
    assert round(over.cost, 6) == round(pictures * 0.1, 6)
    if state == State.DONE:
        looks = [branch.media.load(str(one["key"])) for one in over.results]
        assert len(set(looks)) == 4 and [one["seed"] for one in over.results] == [7, 8, 9, 10]


@SQLITE
def test_who_stands_in_does_not_make_it_undone(
    branch: House, server: KieServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAWQUEUE_FAILOVER", "kie, pattern")
    settings._read.cache_clear()
    server.troubles += ["", "", "402", "", "", "402"]
    made = asked(branch)
    generate(made.id)
    other = looked_after(branch, made)
    assert other.state == State.QUEUED and other.request.model == "pattern"
    assert paid(branch) == 2 and round(other.cost, 6) == 0.2


@SQLITE
@pytest.mark.parametrize("leaves", [True, False])
def test_who_ends_while_it_asks_notes_what_was_taken_on(
    branch: House, server: KieServer, leaves: bool
) -> None:
    server.troubles += ["", "", "slow"]
    made = asked(branch)

    def end() -> None:
        while len(server.tasks) < 2:
            time.sleep(0.01)
        if leaves:
            Studio.leaving.set()
        else:
            Studio.stopped.add(made.job)

    ending = threading.Thread(target=end)
    ending.start()
    with contextlib.nullcontext() if leaves else pytest.raises(DrawingFailed):
        generate(made.id)
    ending.join()
    Studio.leaving.clear()
    if leaves:
        assert branch.generations.get(made.id).state == State.WAITING
    over = looked_after(branch, made)
    assert over.state == (State.DONE if leaves else State.FAILED)
    assert paid(branch) == len(server.tasks) == (4 if leaves else 2)
