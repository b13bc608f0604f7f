"""kie.ai: a task is created, and its pictures come later, by its callback or by asking for them.

As its public documentation has it (docs.kie.ai, Market: the models' pages, Get Task Details and
Getting Started): refusals come with status 200 and a code in the body, `resultJson` is JSON within
JSON, and what it names is gone after minutes. One task draws one picture. What is called a task
here is all of a drawing's, their names joined by commas; names that are missing at the end are of
tasks that nobody could create yet, or whose worker died before it noted them.

So nothing is drawn twice where that can be helped: once a first task has been taken on, a fault
with a further one lets the drawing wait with those there are, and `collect` creates the others.
News of a task that nobody noted fill its place. A fault while one asks how a task is, or fetches
what it drew, is no fault of the drawing: one asks again. A task that failed by trouble of theirs
is replaced by another one for its seed alone, whose name is followed by those before it, with
slashes between: so it is known how often its picture was tried, and of what late news are.

Nothing is raised by who has created something: it is noted first, and paid, and a refusal is met
again by who asks next.
"""

import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log2
from typing import Any

from PIL.Image import Image

from core import providers
from core.catalog import Model
from core.engine import (
    NOTHING,
    AskDifferently,
    EngineError,
    Report,
    ShowPreview,
    Stopped,
    Task,
    TransientError,
    TryAnother,
    Wait,
)
from core.languages import tr, trn
from core.options import Request
from core.settings import Web, read
from worker.engines.calls import ASK_SECONDS, Caller, Calling

log = logging.getLogger("drawqueue")

# So often one asks: where news come, in case they do not, and where none can.
LATE, SOON = 20.0, 3.0
# So long after its first task is known, news may tell of further ones that nobody noted.
UNTOLD = 45.0
# So often a picture is tried in one attempt.
TRIES = 3
# Who creates too much at once is refused until as many seconds have passed.
WINDOW = 10.0
# So long a task may be unknown, or what it drew not be there to be fetched.
ODD_SECONDS = 90.0
# So long after something was odd, nobody asks for its task any more.
FORGOTTEN = 3600.0
_TASK = re.compile(r"[\w.:-]{1,200}", re.ASCII)
# What its models, or who looks at their prompts and pictures, say of what they do not draw.
_FORBIDDEN = re.compile(
    r"nsfw|sensitive|polic|prohibit|safety|moderat|violat|flagged|inappropriate|copyright|sexual",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Asked:
    """How a model is asked: its shapes, the field that says one and how it calls them where not
    so; the field and the values for how large, each with the side of its square; and what else it
    is told."""

    shapes: tuple[str, ...] = ("1:1", "4:3", "3:4", "16:9", "9:16")
    shape: str = "aspect_ratio"
    named: Mapping[str, str] = field(default_factory=dict)
    sharp: str = ""
    sharpness: Mapping[str, int] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)


_K = {"1K": 1024, "2K": 2048, "4K": 4096}
_MANY = ("1:1", "4:3", "3:4", "16:9", "9:16", "2:3", "3:2", "21:9")
_NAMED = {
    "1:1": "square_hd", "4:3": "landscape_4_3", "3:4": "portrait_4_3", "16:9": "landscape_16_9",
    "9:16": "portrait_16_9",
}  # fmt: skip
# By what their names begin with; the first that fits counts.
ASKED: Mapping[str, Asked] = {
    "seedream/5-pro": Asked(_MANY, sharp="quality", sharpness={"basic": 1024, "high": 2048}),
    "seedream/5-lite": Asked(_MANY, sharp="quality", sharpness={"basic": 2048, "high": 3072}),
    "seedream/": Asked(_MANY, sharp="quality", sharpness={"basic": 2048, "high": 4096}),
    "bytedance/seedream-v4": Asked(
        shape="image_size", named=_NAMED, sharp="image_resolution", sharpness=_K
    ),
    "bytedance/seedream": Asked(shape="image_size", named=_NAMED),
    "qwen/": Asked(shape="image_size", named=_NAMED),
    "flux-2/": Asked(
        ("1:1", "4:3", "3:4", "16:9", "9:16", "3:2", "2:3"), sharp="resolution",
        sharpness={"1K": 1024, "2K": 2048},
    ),
    "nano-banana": Asked(_MANY, sharp="resolution", sharpness=_K, more={"output_format": "png"}),
    "google/nano-banana": Asked(_MANY, "image_size", more={"output_format": "png"}),
    "": Asked(),
}  # fmt: skip


class Kie(Calling):
    """Draws with the models of kie.ai's market."""

    def __init__(self) -> None:
        self.calls = Caller("kie")
        # Since when something is odd about a task.
        self._odd: dict[str, float] = {}

    def draw(
        self, model: Model, request: Request, report: Report,
        pictures: Mapping[str, Image] = NOTHING, show: ShowPreview | None = None,
    ) -> list[Image]:  # fmt: skip
        task = self.begin(model, request, report, "", pictures)
        begun, pause = time.monotonic(), 1.0
        while isinstance(found := self.collect(model, request, report, task.name), Task):
            task = found
            if time.monotonic() - begun > self.calls.provider.seconds:
                raise TransientError(tr("{engine} took too long to answer.", engine=self._title))
            end = time.monotonic() + pause
            while time.monotonic() < end:
                if not report(0.0):
                    raise Stopped
                time.sleep(min(ASK_SECONDS, max(0.0, end - time.monotonic())))
            pause = min(SOON, pause * 1.5)
        return found

    def begin(
        self, model: Model, request: Request, report: Report, callback: str,
        pictures: Mapping[str, Image] = NOTHING,
    ) -> Task:  # fmt: skip
        return self._created(model, request, report, callback, [])

    def collect(
        self, model: Model, request: Request, report: Report, task: str,
        news: Mapping[str, Any] | None = None,
    ) -> list[Image] | Task:  # fmt: skip
        places = task.split(",") if task else []
        told = _record(news)
        told = told if told and _TASK.fullmatch(str(told.get("taskId"))) else {}
        name = str(told.get("taskId", ""))
        if any(name in place.split("/")[1:] for place in places):
            # Another one draws that by now.
            told, name = {}, ""
        names = [place.split("/")[0] for place in places]
        unnoted = bool(name) and name not in names and len(names) < request.count
        if unnoted:
            names.append(name)
            places.append(name)
        if not names:
            # Whoever asked for it died, and no word of it came.
            raise self.calls.refused(500, "")
        over = [self._over(place, told if one == name else {}, report)
                for one, place in zip(names, places, strict=True)]  # fmt: skip
        lost = [record is not None and record["state"] == "fail" for record in over]
        all_known = len(names) == request.count
        # Where news come while some are missing, news of those may come, too.
        if (any(lost) and all_known) or (not all_known and not told):
            return self._created(model, request, report, "", places, lost)
        done = [record for record in over if record is not None]
        if len(done) < request.count:
            return _task(places, UNTOLD if unnoted else 0.0)
        images: list[Image] = []
        for one, place, record in zip(names, places, done, strict=True):
            image = self._fetched(record, report)
            if image is None and record is told:
                # What the news name may be gone by now.
                fresh = self._over(place, {}, report)
                image = self._fetched(fresh, report) if fresh else None
            if image is None:
                for other in images:
                    other.close()
                words = tr("{engine} answered without a picture.", engine=self._title)
                self._bear(one, TransientError(words))
                return _task(places)
            images.append(image)
            self._odd.pop(one, None)
        return images

    # Within

    def _created(
        self, model: Model, request: Request, report: Report, callback: str, places: list[str],
        lost: Sequence[bool] = (),
    ) -> Task:  # fmt: skip
        """The task with tasks for what is still to be drawn, and in place of those that are lost.
        Where a further one cannot be created now, it is left for later. Raises EngineError."""
        before, places = places, [*places]
        for index, seed in enumerate(request.seeds):
            there = places[index : index + 1]
            if there and not lost[index]:
                continue
            try:
                name = self._create(model, request, report, callback, seed)
            except EngineError as error:
                passes = isinstance(error, TransientError)
                if places == before and not (places and passes):
                    raise
                what = type(error).__name__
                log.warning("kie.ai: %d of %d begun: %s", len(places), request.count, what)
                task = _task(places)
                return task if passes else replace(task, again=SOON)
            places[index : index + 1] = ["/".join([name, *there])]
        return _task(places)

    def _create(
        self, model: Model, request: Request, report: Report, callback: str, seed: int
    ) -> str:
        found = providers.provider_of(model.source)
        name = found[1] if found else model.source
        body = {"model": name, "input": _input(name, request, seed)}
        if callback:
            body["callBackUrl"] = callback
        created: str = self.calls.json(
            "POST", "/jobs/createTask", report, paid=True, look=self._name, json=body
        )
        return created

    def _name(self, found: Any) -> str:
        """The name of a task that was created. Raises EngineError."""
        if _code(found) != 200:
            raise self._refusal(_code(found), _words(found, "msg", "message"))
        name = str(_record(found).get("taskId", ""))
        if not _TASK.fullmatch(name):
            raise self.calls.refused(500, "")
        return name

    def _refusal(self, code: int, words: str) -> EngineError:
        """What a code of theirs means for who asked."""
        if code == 429:
            return self.calls.refused(429, words, WINDOW)
        if code == 433:  # What the key may use is used up.
            return self.calls.refused(402, words)
        if code == 455:
            return TryAnother(tr("{engine} does not answer at the moment.", engine=self._title))
        if code == 505:
            return self.calls.refused(404, words)
        if _FORBIDDEN.search(words) and code not in (401, 402, 403):
            return self.calls.refused(400, words)
        return self.calls.refused(code if code >= 400 else 500, words)

    def _over(
        self, place: str, told: Mapping[str, Any], report: Report
    ) -> Mapping[str, Any] | None:
        """What there is of a picture's task that is done, or is to be replaced, by the news of it
        where they make sense; None where it is not done yet. Raises EngineError."""
        name, *before = place.split("/")
        state = told.get("state")
        makes_sense = state == "fail" or (state == "success" and _addresses(told))
        record = told if makes_sense else self._asked(name, report)
        if record is None or record.get("state") not in ("success", "fail"):
            return None
        if record["state"] == "fail":
            error = self._failed(record)
            if not isinstance(error, TransientError):
                raise error
            if len(before) + 1 >= TRIES:
                times = trn("I tried {n} time.", "I tried {n} times.", TRIES)
                raise TryAnother(f"{error} {times}")
            if isinstance(error, Wait) and self._odd_for(name) < error.seconds:
                return None
        return record

    def _asked(self, name: str, report: Report) -> Mapping[str, Any] | None:
        """What is known of a task; None where nothing is known now. Raises EngineError."""
        try:
            found = self.calls.json(
                "GET", "/jobs/recordInfo", report, again=True, params={"taskId": name}
            )
        except (TransientError, TryAnother) as error:
            # It goes on drawing, whether it can be asked or not.
            log.warning("kie.ai: a task could not be asked for: %s", type(error).__name__)
            return None
        except AskDifferently:
            found = {"code": 422}
        code = _code(found)
        if code in (401, 403):
            raise self._refusal(code, "")
        if code in (404, 422):
            # A new one may not be known everywhere yet.
            self._bear(name, self.calls.refused(500, ""))
        return _record(found) if code == 200 else None

    def _failed(self, record: Mapping[str, Any]) -> EngineError:
        """Why a task failed."""
        words = _words(record, "failMsg")
        code = str(record.get("failCode") or "")
        return self._refusal(int(code) if re.fullmatch(r"[45]\d\d", code) else 500, words)

    def _fetched(self, record: Mapping[str, Any], report: Report) -> Image | None:
        """The first picture of a task that can be fetched: each draws one for us."""
        for address in _addresses(record):
            try:
                return self.calls.fetch(address, report)
            except TransientError:
                continue
        return None

    def _bear(self, name: str, error: EngineError) -> None:
        """Bear with what is odd about a task for a while; raises the error after it."""
        if self._odd_for(name) > ODD_SECONDS:
            self._odd.pop(name, None)
            raise error

    def _odd_for(self, name: str) -> float:
        """So many seconds something is odd about a task, as far as this process knows."""
        moment = time.monotonic()
        self._odd = {one: at for one, at in list(self._odd.items()) if moment - at < FORGOTTEN}
        return moment - self._odd.setdefault(name, moment)

    @property
    def _title(self) -> str:
        return self.calls.provider.title


def _task(places: Sequence[str], least: float = 0.0) -> Task:
    begun = sum(len(place.split("/")) for place in places)
    # No news come of what came in place of another.
    again = LATE if read(Web).public_url and begun == len(places) else SOON
    return Task(",".join(places), max(least, again), begun)


def _input(name: str, request: Request, seed: int) -> dict[str, Any]:
    """What a model is told."""
    asked = next(one for begin, one in ASKED.items() if name.startswith(begin))
    shape = min(
        asked.shapes, key=lambda one: abs(log2(_shape(one) / request.width * request.height))
    )
    told: dict[str, Any] = {"prompt": request.prompt, **asked.more}
    told[asked.shape] = asked.named.get(shape, shape)
    if asked.sharp:
        side = (request.width * request.height) ** 0.5
        told[asked.sharp] = min(
            asked.sharpness, key=lambda one: abs(log2(asked.sharpness[one] / side))
        )
    if "seed" not in providers.provider("kie", name).lacks:
        told["seed"] = seed % 2**31
    return told


def _shape(words: str) -> float:
    across, down = map(int, words.split(":"))
    return across / down


def _code(found: Any) -> int:
    code = found.get("code") if isinstance(found, dict) else None
    return code if isinstance(code, int) else 0


def _record(found: Any) -> Mapping[str, Any]:
    """What an answer, or a callback, says of a task."""
    data = found.get("data") if isinstance(found, Mapping) else None
    return data if isinstance(data, dict) else {}


def _words(found: Any, *names: str) -> str:
    said = (found.get(name) for name in names) if isinstance(found, Mapping) else iter(())
    return next((one for one in said if isinstance(one, str) and one), "")


def _addresses(record: Mapping[str, Any]) -> list[str]:
    """Where the pictures of a task are, as far as what it says makes sense."""
    given = record.get("resultJson")
    try:
        result = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        return []
    found = result.get("resultUrls") if isinstance(result, dict) else None
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def made() -> Kie:
    return Kie()
