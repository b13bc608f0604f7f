"""A fair order in RQ's own list: start-time fair queueing by cost, in one atomic script.

Every user has a virtual time at which what they have in line would be finished if all users were
served side by side. A job's start tag is the later of that time and the tag of what was served
last; the list stands in the order of tags (Goyal, Vin, Cheng: "Start-time Fair Queueing", 1996).
So a newcomer stands before the second job of somebody who has fifty in line, and a job of weight
2 moves its user's time half as far. RQ's list stays the only truth: workers, LPOS and rq-dashboard
all see this order. When the line is empty everybody starts anew.

Nobody starves: whatever the weights, a user's first job in line is overtaken by at most one job of
each other user, and the next ones wait no longer than their user's share of the drawing takes,
plus one job of each (theorem 4 of the paper).
"""

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.client import Pipeline
from rq import Queue

PREFIX = "drawqueue:fair:"
# How many of one user's jobs are moved when an earlier one cost more or less than expected:
# the nearest ones; the rest is settled when those are served.
MOVED = 50
LEAST_COST = 0.01
NORMAL = 1
COMPARE_SECONDS = 30.0

_SCRIPT = """
local list, order, finish, jobs, clock, counter = unpack(KEYS)
local command, id = ARGV[1], ARGV[2]
local prefix = ARGV[3]
local moved = tonumber(ARGV[4])
local did = 0

local function exact(number) return string.format('%.17g', number) end
local function now() return tonumber(redis.call('GET', clock) or '0') end
local function name(member) return string.sub(member, 14) end
local function mine(user) return prefix .. 'of:' .. user end

local function record(which)
  local found = redis.call('HGET', jobs, which)
  return found and cjson.decode(found) or nil
end

-- Forget what workers have taken since; the clock is the tag of the last of them.
local function trim()
  local head = redis.call('LINDEX', list, 0)
  if not head then
    redis.call('DEL', order, finish, jobs, clock)
    return
  end
  local told = record(head)
  local rank = told and told.member and redis.call('ZRANK', order, told.member)
  if not rank or rank == 0 then return end
  local last = redis.call('ZRANGE', order, rank - 1, rank - 1, 'WITHSCORES')
  if tonumber(last[2]) > now() then redis.call('SET', clock, last[2]) end
  redis.call('ZREMRANGEBYRANK', order, 0, rank - 1)
end

local function leave(which, told)
  if not told or not told.member then return false end
  local tag = redis.call('ZSCORE', order, told.member)
  redis.call('ZREM', order, told.member)
  redis.call('ZREM', mine(told.user), told.member)
  redis.call('LREM', list, 1, which)
  return tag and tonumber(tag)
end

local function stand(which, told, tag, number)
  -- The number of arrival keeps equal tags in the order they came.
  number = number or told.number or redis.call('INCR', counter)
  told.number = number
  told.member = string.format('%012d:', number) .. which
  redis.call('ZADD', order, exact(tag), told.member)
  local behind
  repeat
    -- One that is listed no more was deleted by an operator: the next one, then.
    if behind then redis.call('ZREM', order, behind) end
    local after = redis.call('ZRANK', order, told.member) + 1
    behind = redis.call('ZRANGE', order, after, after)[1]
  until not behind or redis.call('LINSERT', list, 'BEFORE', name(behind), which) > 0
  if not behind then redis.call('RPUSH', list, which) end
  redis.call('ZADD', mine(told.user), exact(tag), told.member)
  redis.call('EXPIRE', mine(told.user), 172800)
  redis.call('HSET', jobs, which, cjson.encode(told))
end

-- Move a user's time, and the nearest of their jobs behind a tag, by so many seconds.
local function shift(user, after, seconds)
  local ends = redis.call('HGET', finish, user)
  if not ends or seconds == 0 then return end
  redis.call('HSET', finish, user, exact(math.max(now(), tonumber(ends) + seconds)))
  local found = redis.call('ZRANGEBYSCORE', mine(user), '(' .. exact(after), '+inf',
                           'WITHSCORES', 'LIMIT', 0, moved + 1)
  local most = math.huge
  if #found > 2 * moved then most = tonumber(found[#found]) - 1e-6 end
  local going = {}
  for i = 1, math.min(#found, 2 * moved), 2 do
    local tag = tonumber(found[i + 1])
    if not redis.call('ZSCORE', order, found[i]) then
      redis.call('ZREM', mine(user), found[i])
    -- One before the clock was put first, and stays so.
    elseif tag >= now() then
      local which = name(found[i])
      local told = record(which)
      leave(which, told)
      going[#going + 1] = {which, told, math.min(most, math.max(now(), tag + seconds))}
    end
  end
  for _, one in ipairs(going) do stand(unpack(one)) end
end

-- Tag and number of the first of a user's last jobs that matter less to them than this one.
local function before_lesser(told)
  local found = redis.call('ZREVRANGE', mine(told.user), 0, moved - 1, 'WITHSCORES')
  local tag, number
  for i = 1, #found, 2 do
    if redis.call('ZSCORE', order, found[i]) then
      local other = record(name(found[i]))
      if (other and other.priority or 1) >= (told.priority or 1) then break end
      tag, number = tonumber(found[i + 1]), other and other.number
    end
  end
  return tag, number
end

trim()
-- A stranger that is listed no more was taken by a worker meanwhile.
if command == 'stranger' and redis.call('LREM', list, 1, id) == 1 then command = 'place' end
if command == 'move' and redis.call('LPOS', list, id) then command, did = 'place', 1 end
if command == 'place' then
  local before = record(id)
  local stood = leave(id, before)
  if stood then shift(before.user, stood, -before.cost / before.weight) end
  local told = ARGV[6] ~= '' and cjson.decode(ARGV[6]) or before
  told = told or {user = '?', cost = 1, weight = 1}
  local ends = tonumber(redis.call('HGET', finish, told.user) or '0')
  local tag, number
  if ARGV[5] == 'front' then
    -- Before the clock itself, where the next newcomer will stand.
    local first = redis.call('ZRANGE', order, 0, 0, 'WITHSCORES')[2]
    tag = math.min(first and tonumber(first) or now(), now()) - 1
  else
    tag, number = before_lesser(told)
  end
  if number then
    shift(told.user, tag - 1e-9, told.cost / told.weight)
  else
    local start = math.max(now(), ends)
    redis.call('HSET', finish, told.user, exact(start + told.cost / told.weight))
    tag = tag or start
  end
  stand(id, told, tag, number)
elseif command == 'leave' or (command == 'gone' and not redis.call('LPOS', list, id)) then
  local told = record(id)
  local tag = leave(id, told)
  redis.call('LREM', list, 1, id)
  -- One without a tag was taken by a worker that was lost: its cost comes back as well.
  if told then shift(told.user, tag or -math.huge, -told.cost / told.weight) end
  redis.call('HDEL', jobs, id)
elseif command == 'settle' then
  local told = record(id)
  if told then
    shift(told.user, -math.huge, (tonumber(ARGV[5]) - told.cost) / told.weight)
    redis.call('HDEL', jobs, id)
  end
end
return {redis.call('LLEN', list), redis.call('ZCARD', order), did}
"""


@dataclass(frozen=True)
class Claim:
    """What a job asks of the line: whose it is, its expected seconds, and its class's weight.

    `priority` counts among the user's own jobs: higher ones stand before lower ones.
    """

    user: str
    cost: float
    weight: float = 1.0
    priority: int = NORMAL

    def as_json(self) -> str:
        """As the line keeps it. Raises ValueError where cost or weight is no positive number."""
        if not (0 < self.cost < 1e9 and 0 < self.weight < 1e6):
            raise ValueError(f"cost {self.cost} and weight {self.weight} must be positive")
        return json.dumps({
            "user": self.user, "cost": max(LEAST_COST, self.cost), "weight": self.weight,
            "priority": self.priority,
        })  # fmt: skip


class FairQueue(Queue):
    """RQ's queue, whose every push goes to the job's fair place."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._announced: dict[str, str] = {}
        self._compared = -math.inf

    def announce(self, job_id: str, claim: Claim) -> None:
        """Say what a job asks of the line, before it is pushed. Raises ValueError."""
        self._announced[job_id] = claim.as_json()

    def push_job_id(
        self, job_id: str, pipeline: Pipeline | None = None, at_front: bool = False
    ) -> None:
        """Put a job in its place, within the transaction that stores it."""
        told = self._announced.pop(job_id, "")
        self._say("place", job_id, "front" if at_front else "", told, pipeline)

    def move(self, job_id: str, claim: Claim, *, first: bool = False) -> bool:
        """Give a job in line another place; False when a worker has it, or nobody."""
        return bool(self._say("move", job_id, "front" if first else "", claim.as_json())[2])

    def leave(self, job_id: str) -> None:
        """Take a job out of the line and give its user the cost back."""
        self._say("leave", job_id)

    def settle(self, job_id: str, seconds: float) -> None:
        """Charge what a job really cost, now that it is over."""
        self._say("settle", job_id, repr(float(seconds)))

    def mend(self, claim_of: Callable[[str], Claim | None]) -> int:
        """Put in place what others pushed at an end (RQ's requeue, rq-dashboard's).

        Answers how many were moved; what others deleted gives its cost back. As long as the
        numbers agree the whole line is compared now and then only.
        """
        listed, ordered, _ = self._say("", "")
        if listed == ordered and time.monotonic() - self._compared < COMPARE_SECONDS:
            return 0
        self._compared = time.monotonic()
        members: Any = self.connection.zrange(PREFIX + "order", 0, -1)
        known = [member.split(b":", 1)[1].decode() for member in members]
        names = self.get_job_ids()
        for name in set(known) - set(names):
            self._say("gone", name)
        strangers = [name for name in names if name not in set(known)]
        for name in strangers:
            claim = claim_of(name)
            self._say("stranger", name, told=claim.as_json() if claim else "")
        return len(strangers)

    def claims(self, job_ids: Iterable[str]) -> list[Claim]:
        """What jobs ask of the line; a second of nobody's where nothing is known."""
        names = list(job_ids)
        if not names:
            return []
        found: list[Any] = self.connection.hmget(PREFIX + "jobs", names)
        kept: list[dict[str, Any]] = [
            json.loads(one) if one else {"user": "?", "cost": 1.0} for one in found
        ]
        return [Claim(one["user"], float(one["cost"]), one.get("weight", 1.0)) for one in kept]

    def _say(
        self, command: str, job_id: str, more: str = "", told: str = "",
        pipeline: Pipeline | None = None,
    ) -> Any:  # fmt: skip
        connection: Redis | Pipeline = pipeline if pipeline is not None else self.connection
        keys = [PREFIX + name for name in ("order", "finish", "jobs", "clock", "counter")]
        return connection.eval(
            _SCRIPT, 6, self.key, *keys, command, job_id, PREFIX, str(MOVED), more, told
        )
