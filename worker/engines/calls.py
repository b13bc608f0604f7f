"""How an engine calls another server: bounded, tried again, cut off when told to stop, and what
went wrong named by what one can do.

One thread holds all connections (httpx2 on asyncio: httpx itself looks, for each call, at every
connection for each other one); who calls waits in a thread of its own and goes on asking whether to
stop. What comes back is streamed to a file, never held whole.
"""

import asyncio
import base64
import binascii
import contextlib
import io
import json
import logging
import queue
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import nullcontext
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import IO, Any, TypeVar

import httpx2
import pybreaker
from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import storage_from_string
from limits.strategies import MovingWindowRateLimiter
from PIL import Image
from redis.exceptions import RedisError
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from core import providers
from core.catalog import Model
from core.engine import AskDifferently, EngineError, Report, Stopped, TransientError, TryAnother
from core.engine import Wait as WaitUntil
from core.errors import UserError
from core.languages import tr
from core.options import Request
from core.settings import Remote, Storage, read
from core.uploads import FORMATS, fetch_into
from worker.engines.apart import Apart, TooMuch

log = logging.getLogger("drawqueue")

CONNECT_SECONDS = 10.0
# How often who waits asks whether to go on.
ASK_SECONDS = 0.25
# Tries of what may be asked twice, and of what never reached the server.
TRIES = 3
# So long one waits here for a limit to pass; longer ones give the place to the next job.
PATIENCE_SECONDS = 10.0
# While Redis is away, which counts the calls of a minute, it is asked again so often.
AWAY_SECONDS = 1.0
# So many faults in a row, and nobody asks for so long.
FAULTS, REST_SECONDS = 5, 30.0
# Of a picture that a server sends; and what any model draws is far below these pixels.
MOST_BYTES, MOST_PIXELS = 64 * 2**20, 100_000_000
MOST_JSON = 96 * 2**20
CHUNK = 2**18
# Pictures that are fetched side by side from where servers put them.
FETCHES = 50
# Of a refusal; and what is quoted of a server's own words.
REFUSAL, QUOTED = 2**16, 200

Answer = TypeVar("Answer")
# Told an answer's status, its headers, and of a refusal its JSON: what it is, where an engine knows
# that better than its status tells.
Known = Callable[[int, Mapping[str, str], Any], EngineError | None]


_STARTING = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    # The first callers may come at once: a cache alone would make each of them a loop.
    with _STARTING:
        return _started()


@cache
def _started() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    # Of its own accord it fetches few pictures at once, and waits for what was given up.
    loop.set_default_executor(ThreadPoolExecutor(FETCHES, thread_name_prefix="fetch"))
    threading.Thread(target=loop.run_forever, daemon=True, name="calls").start()
    return loop


class Caller:
    """Calls one provider's servers, from many threads."""

    def __init__(
        self, engine: str, address: str = "", headers: dict[str, str] | None = None,
        known: Known = lambda *_: None,
    ):  # fmt: skip
        """`address` and `headers` are those of the settings where they are not given."""
        self.engine = engine
        self._known = known
        self.provider = providers.PROVIDERS[engine]
        found, key = read(Remote).door(engine)
        self.address = address.rstrip("/") or found
        if headers is None:
            secret = key.get_secret_value()
            headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        limits = providers.limits(engine)
        self._client = httpx2.AsyncClient(
            headers={"User-Agent": "Drawqueue", **headers},
            timeout=httpx2.Timeout(self.provider.seconds, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=limits.at_once + 8),
        )
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=FAULTS, reset_timeout=REST_SECONDS, name=engine,
            exclude=[_works], throw_new_error_on_trip=False,
        )  # fmt: skip
        self._passes = True
        self._rate = _Rate(engine, limits.per_minute)

    def close(self) -> None:
        """Let go of connections."""
        asyncio.run_coroutine_threadsafe(self._client.aclose(), _loop()).result(CONNECT_SECONDS)

    def json(
        self, method: str, path: str, report: Report, *, again: bool = False, paid: bool = False,
        share: Callable[[], float] = lambda: 0.0, apart: bool = False,
        look: Callable[[Any], Any] = lambda found: found, **given: Any,
    ) -> Any:  # fmt: skip
        """What a server answers in JSON. Raises EngineError.

        `again`: asking twice does no harm. `paid`: it counts against the host's limit of calls.
        `share` is what `report` is told while one waits. `apart`: long base64 is put into files as
        it comes, which stand where it stood (`decoded` makes pictures of them).
        `look` makes of the answer what is answered here, and raises what a refusal is that comes
        as one.
        """

        async def ask() -> Any:
            async with self._answer(method, path, **given) as answer:
                try:
                    if apart:
                        return await _apart(answer)
                    found = json.loads(await _whole(answer))
                except TooMuch:
                    raise AskDifferently(self._too_large()) from None
                except ValueError:
                    raise TransientError(self._no_sense()) from None
            return look(found)

        return self._wait(self._guarded(ask, again), report, paid, share)

    def picture(
        self, method: str, path: str, report: Report, *, again: bool = False, paid: bool = False,
        share: Callable[[], float] = lambda: 0.0, **given: Any,
    ) -> Image.Image:  # fmt: skip
        """The picture that a server answers, in a file, not yet decoded. Raises EngineError."""

        async def ask() -> Image.Image:
            async with self._answer(method, path, **given) as answer:
                kind = answer.headers.get("content-type", "")
                if kind.startswith(("text/", "application/json")):
                    raise TransientError(self.no_picture())
                file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the image's own
                size = 0
                async for part in answer.aiter_bytes(CHUNK):
                    size += len(part)
                    if size > MOST_BYTES:
                        file.close()
                        raise AskDifferently(self._too_large())
                    file.write(part)
                return self.opened(file)

        return self._wait(self._guarded(ask, again), report, paid, share)

    def lines(
        self, method: str, path: str, go_on: Callable[[], bool], *, paid: bool = False, **given: Any
    ) -> Generator[str, None, None]:
        """The lines of an answer as they come (server-sent events are such). Raises EngineError."""
        came: queue.Queue[str | None] = queue.Queue()

        async def ask() -> None:
            async with self._answer(method, path, **given) as answer:
                async for line in answer.aiter_lines():
                    came.put(line)

        if paid:
            self._rate.wait(lambda _share: go_on())
        future = asyncio.run_coroutine_threadsafe(self._guarded(ask, False), _loop())
        # Not before the last try is over.
        future.add_done_callback(lambda _done: came.put(None))
        try:
            while True:
                try:
                    line = came.get(timeout=ASK_SECONDS)
                except queue.Empty:
                    if not go_on():
                        raise Stopped from None
                    continue
                if line is None:
                    break
                yield line
            future.result()
        finally:
            future.cancel()

    def fetch(self, address: str, report: Report) -> Image.Image:
        """The picture at an address that a server named, wherever it is; without any key. Raises
        EngineError."""
        file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the image's own

        async def ask() -> Image.Image:
            def fresh() -> None:
                file.seek(0)
                file.truncate()
                fetch_into(file, address, MOST_BYTES, self.provider.seconds, self._own())

            try:
                await asyncio.to_thread(fresh)
            except UserError as error:
                # Written for who gave an address; here that was a server.
                log.warning("%s: a picture was not fetched: %s", self.provider.title, error)
                raise TransientError(self.no_picture()) from None
            return self.opened(file)

        # Whoever keeps the pictures is another than draws them, and what is drawn is paid for.
        return self._wait(self._guarded(ask, True, False), report, False, lambda: 0.0)

    def decoded(self, picture: Any) -> Image.Image:
        """A picture that came in JSON: a file that `json` put apart, or short base64. Raises
        EngineError."""
        if isinstance(picture, str):
            try:
                picture = io.BytesIO(base64.b64decode(picture.rpartition(",")[2], validate=True))
            except binascii.Error:
                raise TransientError(self.no_picture()) from None
        if not hasattr(picture, "read"):
            raise TransientError(self.no_picture())
        return self.opened(picture)

    def opened(self, file: IO[bytes]) -> Image.Image:
        """A file as a picture: its kind and its size are looked at, its pixels are not. Raises
        EngineError."""
        file.seek(0)
        try:
            image = Image.open(file, formats=FORMATS)
        except Image.DecompressionBombError:
            file.close()
            raise AskDifferently(self._too_large()) from None
        except Exception:  # Whatever a decoder says of what is no picture.
            file.close()
            raise TransientError(self.no_picture()) from None
        if image.width * image.height > MOST_PIXELS:
            file.close()
            raise AskDifferently(self._too_large())
        return image

    def away(self, path: str, report: Report) -> list[str]:
        """Why the server does not answer at a path of its own, in words; empty when it does."""
        try:
            self.json("GET", path, report)
        except Stopped:
            return [f"{self.address}: {self._slow()}"]
        except EngineError as error:
            return [f"{self.address}: {error}"]
        return []

    def start(self, work: Coroutine[Any, Any, Answer]) -> "Future[Answer]":
        """Begin something beside a drawing, which nobody need wait for."""
        return asyncio.run_coroutine_threadsafe(work, _loop())

    async def aside(self, method: str, path: str, **given: Any) -> Any:
        """What a server answers in JSON to a call beside a drawing: one try, that counts neither
        for nor against it; None where it went wrong."""
        try:
            async with (
                asyncio.timeout(CONNECT_SECONDS),
                self._client.stream(method, f"{self.address}{path}", **given) as answer,
            ):
                return json.loads(await _whole(answer) or b"{}") if answer.is_success else None
        except (EngineError, httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            log.info("%s: %s %s: %s", self.provider.title, method, path, type(error).__name__)
            return None

    def said(self, refusal: Any) -> str:
        """What a server says of a refusal, by the JSON of it."""
        return _said(refusal)

    def refused(self, status: int, words: str, after: float | None = None) -> EngineError:
        """What a status means for who asked; `words` are the server's own. (RFC 9110)"""
        title = self.provider.title
        if status == 429 or (status == 503 and after is not None):
            seconds = REST_SECONDS if after is None else after
            told = tr("{engine} has as much to do as it takes.", engine=title)
            return WaitUntil(told, seconds)
        if status == 402:
            log.error("%s: no credit is left", title)
            return TryAnother(
                tr("{engine} draws nothing: the host has no credit left.", engine=title)
            )
        if status in (401, 403):
            log.error("%s does not take the key of the settings (%d)", title, status)
            return TryAnother(tr("{engine} does not let this bot in.", engine=title))
        if status == 404 or status < 400:  # A redirect is not followed: the key stays here.
            log.error("%s: there is nothing at this address, or no such model", title)
            return TryAnother(tr("{engine} does not know what was asked of it.", engine=title))
        if status == 408 or status >= 500:
            return TransientError(tr("{engine} has trouble of its own.", engine=title))
        if said := quoted(words):
            return AskDifferently(
                tr("{engine} does not draw this: {words}", engine=title, words=said)
            )
        return AskDifferently(tr("{engine} does not draw this.", engine=title))

    def forbidden(self) -> EngineError:
        """That a service's rules, or what looks at its pictures, forbid what was asked for."""
        return AskDifferently(
            tr(
                "{engine} does not draw this: its rules forbid it. Say it in other words.",
                engine=self.provider.title,
            )
        )

    def no_picture(self) -> str:
        """That an answer holds no picture, in words."""
        return tr("{engine} answered without a picture.", engine=self.provider.title)

    # Within

    def _own(self) -> frozenset[str]:
        host = httpx2.URL(self.address).host
        return frozenset({host} if host else ())

    @contextlib.asynccontextmanager
    async def _answer(self, method: str, path: str, **given: Any) -> AsyncIterator[httpx2.Response]:
        url = path if "://" in path else f"{self.address}{path}"
        async with self._client.stream(method, url, **given) as answer:
            status, after = answer.status_code, _after(answer)
            refused = _json((await _whole(answer))[:REFUSAL]) if status >= 300 else None
            if error := self._known(status, answer.headers, refused):
                raise error
            if status >= 300:
                raise self.refused(status, self.said(refused), after)
            yield answer

    async def _guarded(
        self, ask: Callable[[], Coroutine[Any, Any, Answer]], again: bool, counted: bool = True
    ) -> Answer:
        """What was asked, tried again where that helps; `counted`: a fault is one of the engine."""
        tries = AsyncRetrying(
            stop=stop_after_attempt(TRIES), reraise=True,
            wait=wait_exponential_jitter(multiplier=0.3, max=PATIENCE_SECONDS),
            retry=retry_if_exception(lambda error: _worth_it(error, again)),
        )  # fmt: skip
        end = asyncio.get_running_loop().time() + self.provider.seconds
        try:
            async for attempt in tries:
                with attempt, self._breaker.calling() if counted else nullcontext():
                    # Within: a server that says nothing is at fault, and who is stopped is not.
                    async with asyncio.timeout_at(end):
                        return await self._kept(ask)
        except pybreaker.CircuitBreakerError:
            raise self._resting() from None
        except TimeoutError:
            raise TransientError(self._slow()) from None
        raise AssertionError  # Every attempt answers or raises.

    async def _kept(self, ask: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """What was asked; it is kept whether a fault of it passes by itself."""
        try:
            return await self._named(ask)
        except EngineError as error:
            self._passes = not isinstance(error, TryAnother)
            raise

    def _resting(self) -> EngineError:
        """That nobody asks now, after so many faults."""
        told = tr("{engine} does not answer at the moment.", engine=self.provider.title)
        if not self._passes:
            return TryAnother(told)
        # It was sick, or not there: what waits in its line need not fail for that.
        error = WaitUntil(told, REST_SECONDS)
        error.unsent = True
        return error

    async def _named(self, ask: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """What was asked, with the library's errors named as the engine's."""
        try:
            return await ask()
        except httpx2.TimeoutException as error:
            raise _unsent(TransientError(self._slow()), error) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            log.warning("%s: %s", self.provider.title, type(error).__name__)
            told = tr("{engine} cannot be reached.", engine=self.provider.title)
            raise _unsent(TransientError(told), error) from None

    def _wait(
        self, work: Coroutine[Any, Any, Answer], report: Report, paid: bool,
        share: Callable[[], float],
    ) -> Answer:  # fmt: skip
        if paid:
            try:
                self._rate.wait(lambda done: report(done))
            except BaseException:
                work.close()
                raise
        future: Future[Answer] = asyncio.run_coroutine_threadsafe(work, _loop())
        while True:
            try:
                return future.result(ASK_SECONDS)
            except NotYet:
                if future.done():
                    return future.result()
                if not report(share()):
                    future.cancel()
                    raise Stopped from None

    def _slow(self) -> str:
        return tr("{engine} took too long to answer.", engine=self.provider.title)

    def _no_sense(self) -> str:
        return tr("{engine} answered something that makes no sense.", engine=self.provider.title)

    def _too_large(self) -> str:
        return tr("{engine} sent a picture that is too large.", engine=self.provider.title)


class Calling:
    """What is the same in every engine that loads nothing, and calls by its `calls` alone."""

    calls: Caller
    # There is nothing to keep warm.
    held: Collection[str] = ()

    def load(self, model: Model, report: Callable[[str, float], None]) -> None:
        """It is there already."""
        report(model.name, 1.0)

    def close(self) -> None:
        """Let go of connections."""
        self.calls.close()


class _Rate:
    """How many calls a minute all workers of the house may make of one engine."""

    def __init__(self, engine: str, per_minute: float) -> None:
        self._name = f"drawqueue:rate:{engine}"
        self._item: RateLimitItem | None = None
        if per_minute >= 1:
            self._item = RateLimitItemPerMinute(int(per_minute))
        elif per_minute > 0:
            self._item = RateLimitItemPerSecond(1, max(1, round(60 / per_minute)))

    def wait(self, go_on: Callable[[float], bool]) -> None:
        """Wait until one more may be made. Raises Stopped."""
        if self._item is None:
            return
        while (left := self._left(self._item)) > 0:
            end = time.monotonic() + min(PATIENCE_SECONDS, left)
            while time.monotonic() < end:
                if not go_on(0.0):
                    raise Stopped
                time.sleep(min(ASK_SECONDS, max(0.0, end - time.monotonic())))

    def _left(self, item: RateLimitItem) -> float:
        """The seconds until one more may be made; 0 where it may now, and then it is counted. While
        Redis is away nobody knows."""
        try:
            limiter = _limiter()
            if limiter.hit(item, self._name):
                return 0.0
            return max(0.05, limiter.get_window_stats(item, self._name).reset_time - time.time())
        except RedisError as error:
            log.warning("%s: the host's limit is not known: %s", self._name, type(error).__name__)
            return AWAY_SECONDS


@cache
def _limiter() -> MovingWindowRateLimiter:
    address = read(Storage).redis
    # The library's own word for a socket.
    if address.startswith("unix://"):
        address = f"redis+{address}"
    return MovingWindowRateLimiter(storage_from_string(address))


def quoted(words: str) -> str:
    """What of a server's own words a person is shown: one short line."""
    plain = " ".join("".join(one if one.isprintable() else " " for one in words).split())
    return plain if len(plain) <= QUOTED else plain[: QUOTED - 1] + "…"


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _said(found: Any) -> str:
    """What a server says of a refusal, in the shapes that such servers commonly have."""
    for _ in range(4):
        if isinstance(found, dict):
            names = ("message", "msg", "detail", "error", "errors", "title")
            found = next((found[name] for name in names if found.get(name)), "")
        elif isinstance(found, list):
            found = found[0] if found else ""
    return found if isinstance(found, str) else ""


def _after(answer: httpx2.Response) -> float | None:
    """The seconds of Retry-After, a number or a date (RFC 9110, 10.2.3)."""
    given = answer.headers.get("retry-after", "")
    try:
        return min(3600.0, max(1.0, float(given)))
    except ValueError:
        pass
    try:
        then = parsedate_to_datetime(given)
    except (TypeError, ValueError):
        return None
    return min(3600.0, max(1.0, (then - datetime.now(UTC)).total_seconds()))


async def _whole(answer: httpx2.Response) -> bytes:
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > MOST_JSON:
            raise TransientError(tr("The answer of another server is too long."))
    return bytes(body)


async def _apart(answer: httpx2.Response) -> Any:
    """JSON with its pictures in files."""
    kept = Apart(MOST_BYTES)
    async for part in answer.aiter_bytes(CHUNK):
        kept.feed(part)
        if answer.num_bytes_downloaded > 8 * MOST_BYTES:
            raise TooMuch
    return kept.read()


def _unsent(error: TransientError, cause: Exception) -> TransientError:
    """The error, with whether the server can have seen anything of what was asked."""
    error.unsent = isinstance(
        cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout
    )
    return error


def _works(error: BaseException) -> bool:
    """Whether a server is well of which a call made this: then its faults before are forgotten.

    Raises what stopped a call: that says nothing of the server, and so the breaker learns nothing.
    """
    if isinstance(error, Stopped | asyncio.CancelledError):
        raise error
    return isinstance(error, AskDifferently | WaitUntil)


def _worth_it(error: BaseException, again: bool) -> bool:
    """Whether to ask once more at once."""
    if not isinstance(error, TransientError) or isinstance(error, WaitUntil):
        return False
    return again or error.unsent


def each(
    request: Request, report: Report, one: Callable[[int, Callable[[], float]], Image.Image]
) -> list[Image.Image]:
    """A picture for each seed of a request, one after the other; the share is told between them."""
    done: list[Image.Image] = []
    for seed in request.seeds:
        if not report(len(done) / request.count):
            raise Stopped
        done.append(one(seed, lambda: len(done) / request.count))
    return done
