"""“Generation N changed”: a hint that costs a delay when lost, never a result."""

from typing import Any

from redis import Redis

STREAM = "drawqueue:events"
KEPT = 10_000


def publish(redis: Redis, generation: int) -> None:
    """Tell whoever listens that a generation's card may be stale."""
    redis.xadd(STREAM, {"id": generation}, maxlen=KEPT, approximate=True)


def latest(redis: Redis) -> str:
    """The position after which everything is news."""
    found: Any = redis.xrevrange(STREAM, count=1)
    return found[0][0].decode() if found else "0-0"


def wait(redis: Redis, after: str, seconds: float) -> tuple[str, set[int]]:
    """Wait for news after a position; answers the new position and the ids that changed."""
    answer: Any = redis.xread({STREAM: after}, count=500, block=max(1, int(seconds * 1000)))
    ids: set[int] = set()
    for _stream, entries in answer or []:
        for position, fields in entries:
            after = position.decode()
            ids.add(int(fields[b"id"]))
    return after, ids
