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

A worker may take a job for a model that it has loaded before others that need another one. All
that pass a job, at most TIMES of them, are expected to be over `patience` seconds after the first
of them began: by so much the bound above grows, and by no more. What was put first is never
passed, nor is what its own user put before the other.
"""

import json
import math
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.client import Pipeline
from rq import Queue
from rq.intermediate_queue import IntermediateQueue

PREFIX = "drawqueue:fair:"
# The line whose keys have no name of its own in them.
FIRST_LINE = "draw"
# Up to so many jobs are moved within the list; for more of them it is written anew, which takes
# as long as moving some 140 (measured at 100,000 in line).
FEW = 100
# The part of a job's cost by which its user may be ahead or behind before their jobs are moved.
SLACK = 0.2
LEAST_COST = 0.01
NORMAL = 1
# So deep a worker looks for a job that its loaded models draw, and so often one job is passed.
NEAR = 16
TIMES = 16
COMPARE_SECONDS = 30.0

_SCRIPT = """
local list, order, finish, jobs, clock, counter, owed = unpack(KEYS)
local command, id = ARGV[1], ARGV[2]
local prefix = ARGV[3]
local few, slack = tonumber(ARGV[4]), tonumber(ARGV[5])
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
    redis.call('DEL', order, finish, jobs, clock, owed)
    return
  end
  local told = record(head)
  local rank = told and told.member and redis.call('ZRANK', order, told.member)
  if not rank or rank == 0 then return end
  local last = redis.call('ZRANGE', order, rank - 1, rank - 1, 'WITHSCORES')
  if tonumber(last[2]) > now() then redis.call('SET', clock, last[2]) end
  redis.call('ZREMRANGEBYRANK', order, 0, rank - 1)
end

-- Take a job out of the order; its tag, and whether it stood in the list.
local function leave(which, told)
  if not told or not told.member then return nil, false end
  local tag = redis.call('ZSCORE', order, told.member)
  redis.call('ZREM', order, told.member)
  redis.call('ZREM', mine(told.user), told.member)
  return tag and tonumber(tag), redis.call('LREM', list, 1, which) == 1
end

local function note(which, told, tag, number)
  -- The number of arrival keeps equal tags in the order they came.
  told.number = number or told.number or redis.call('INCR', counter)
  told.member = string.format('%012d:', told.number) .. which
  redis.call('ZADD', order, exact(tag), told.member)
  redis.call('ZADD', mine(told.user), exact(tag), told.member)
  redis.call('EXPIRE', mine(told.user), 172800)
  redis.call('HSET', jobs, which, cjson.encode(told))
end

local function stand(which, told, tag, number)
  note(which, told, tag, number)
  local behind
  repeat
    -- One that is listed no more was deleted by an operator: the next one, then.
    if behind then redis.call('ZREM', order, behind) end
    local after = redis.call('ZRANK', order, told.member) + 1
    behind = redis.call('ZRANGE', order, after, after)[1]
  until not behind or redis.call('LINSERT', list, 'BEFORE', name(behind), which) > 0
  if not behind then redis.call('RPUSH', list, which) end
end

-- Write the list anew in the order of tags: cheaper than moving more than a few within it.
local function rewrite()
  local listed, known, going = {}, {}, {}
  local names = redis.call('LRANGE', list, 0, -1)
  for _, which in ipairs(names) do listed[which] = true end
  for _, member in ipairs(redis.call('ZRANGE', order, 0, -1)) do
    local which = name(member)
    if listed[which] then
      known[which] = true
      going[#going + 1] = which
    else
      redis.call('ZREM', order, member)
    end
  end
  for _, which in ipairs(names) do
    if not known[which] then going[#going + 1] = which end
  end
  redis.call('DEL', list)
  for first = 1, #going, 1000 do
    redis.call('RPUSH', list, unpack(going, first, math.min(#going, first + 999)))
  end
end

-- A user's jobs in line with a tag of at least this, in their order; what is gone is forgotten.
local function standing(user, from)
  local found = redis.call('ZRANGE', mine(user), 0, -1, 'WITHSCORES')
  local going = {}
  for i = 1, #found, 2 do
    local tag = tonumber(found[i + 1])
    if not redis.call('ZSCORE', order, found[i]) then
      redis.call('ZREM', mine(user), found[i])
    -- One before the clock was put first, and stays so.
    elseif tag >= math.max(from, now()) then
      local told = record(name(found[i]))
      if told then going[#going + 1] = {name(found[i]), told, tag} end
    end
  end
  return going
end

-- Move a user's jobs from a tag on by so many seconds, but for one that stays. They stand one
-- behind the other: none begins before the one in front of it would have been served.
local function shift(user, from, seconds, staying)
  local ends = redis.call('HGET', finish, user)
  if not ends or seconds == 0 then return end
  local going = {}
  for _, one in ipairs(standing(user, from)) do
    if one[1] ~= staying then going[#going + 1] = one end
  end
  local floor = now()
  for _, one in ipairs(going) do
    one[3] = math.max(floor, one[3] + seconds)
    floor = one[3] + one[2].cost / one[2].weight
  end
  if #going == 0 then floor = math.max(now(), tonumber(ends) + seconds) end
  redis.call('HSET', finish, user, exact(floor))
  if #going > few then
    for _, one in ipairs(going) do note(unpack(one)) end
    rewrite()
    return
  end
  local listed = {}
  for i, one in ipairs(going) do
    local _, there = leave(one[1], one[2])
    listed[i] = there
  end
  for i, one in ipairs(going) do
    if listed[i] then stand(unpack(one)) end
  end
end

-- Tag and number of the first of a user's jobs that matters less to them than this one: they
-- stand in the order of priority, so one looks from the end.
local function before_lesser(told)
  local tag, number
  for first = 0, 1e9, 50 do
    local found = redis.call('ZREVRANGE', mine(told.user), first, first + 49, 'WITHSCORES')
    for i = 1, #found, 2 do
      local at = tonumber(found[i + 1])
      if at < now() or not redis.call('ZSCORE', order, found[i]) then return tag, number end
      local other = record(name(found[i]))
      if (other and other.priority or 1) >= (told.priority or 1) then return tag, number end
      tag, number = at, other and other.number
    end
    if #found < 100 then return tag, number end
  end
end

-- Give a worker the first job near the head that its loaded models draw, where another would have
-- to be loaded for the head. Nothing where RQ's own order is as good.
local function take(wish)
  local loaded, passed = {}, {}
  for _, model in ipairs(wish.loaded) do loaded[model] = true end
  local moment = wish.moment
  if not moment then
    local read = redis.call('TIME')
    moment = tonumber(read[1]) + tonumber(read[2]) / 1e6
  end
  for place, which in ipairs(redis.call('LRANGE', list, 0, wish.near - 1)) do
    local told = record(which)
    local tag = told and told.member and redis.call('ZSCORE', order, told.member)
    -- One that others pushed, or that was put first: nobody passes it.
    if not tag or tonumber(tag) < now() then return 0 end
    local model = told.model or ''
    if place == 1 and (model == '' or loaded[model]) then return 0 end
    local may = loaded[model]
    for _, other in ipairs(passed) do
      local one = other[2]
      if one.user == told.user and (one.priority or 1) > (told.priority or 1)
        or (one.times or 0) >= wish.times
        or moment + told.cost > (one.since or moment) + wish.patience then may = false end
    end
    if may then
      leave(which, told)
      for _, other in ipairs(passed) do
        other[2].since = other[2].since or moment
        other[2].times = (other[2].times or 0) + 1
        redis.call('HSET', jobs, other[1], cjson.encode(other[2]))
      end
      redis.call('RPUSH', wish.taken, which)
      return which
    end
    passed[#passed + 1] = {which, told}
  end
  return 0
end

-- Give a job back that a worker took whose models do not draw it, where an idle one's do.
local function hand(wish)
  local told = record(id)
  local model = told and told.member and told.model or ''
  if model == '' then return 0 end
  local found = redis.call('HGETALL', prefix .. 'idle')
  for i = 1, #found, 2 do
    local other = cjson.decode(found[i + 1])
    for _, loaded in ipairs(other.loaded) do
      if loaded == model and found[i] ~= wish.me and other.till > wish.moment then
        if redis.call('LREM', wish.taken, 1, id) == 0 then return 0 end
        if not redis.call('ZSCORE', order, told.member) then
          redis.call('ZADD', order, exact(now()), told.member)
          redis.call('ZADD', mine(told.user), exact(now()), told.member)
        end
        redis.call('LPUSH', list, id)
        return 1
      end
    end
  end
  return 0
end

-- Before anything is forgotten of what was just taken.
if command == 'hand' then return {0, 0, hand(cjson.decode(ARGV[7]))} end
trim()
if command == 'take' then did = take(cjson.decode(ARGV[7])) end
if command == 'stranger' then
  -- Listed no more: a worker took it meanwhile. In the order: somebody has put it there.
  local told = record(id)
  local known = told and told.member and redis.call('ZSCORE', order, told.member)
  if not known and redis.call('LREM', list, 1, id) == 1 then command = 'place' end
end
if command == 'move' and redis.call('LPOS', list, id) then command, did = 'place', 1 end
if command == 'place' then
  local before = record(id)
  local stood = leave(id, before)
  -- What it was charged before comes back, whether it stood in line or a worker had it.
  if before then shift(before.user, stood or 0, -before.cost / before.weight) end
  local told = ARGV[7] ~= '' and cjson.decode(ARGV[7]) or before
  told = told or {user = '?', cost = 1, weight = 1}
  if before then told.since, told.times = before.since, before.times end
  local ends = tonumber(redis.call('HGET', finish, told.user) or '0')
  local tag, number
  if ARGV[6] == 'front' then
    -- Before the clock itself, where the next newcomer will stand.
    local first = redis.call('ZRANGE', order, 0, 0, 'WITHSCORES')[2]
    tag = math.min(first and tonumber(first) or now(), now()) - 1
  else
    tag, number = before_lesser(told)
  end
  if number then
    shift(told.user, tag, told.cost / told.weight)
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
  redis.call('HDEL', jobs, id)
  -- One without a tag was taken by a worker that was lost: its cost comes back as well.
  if told then shift(told.user, tag or 0, -told.cost / told.weight) end
elseif command == 'settle' then
  local told = record(id)
  if told then
    redis.call('HDEL', jobs, id)
    -- Small differences are gathered until moving somebody's jobs for them is worth it.
    local rest = tonumber(redis.call('HINCRBYFLOAT', owed, told.user,
                                     exact((tonumber(ARGV[6]) - told.cost) / told.weight)))
    if math.abs(rest) > slack * told.cost / told.weight then
      redis.call('HDEL', owed, told.user)
      shift(told.user, 0, rest)
    end
  end
elseif command == 'charge' then
  -- It stays where it is, and whatever of its user's comes after it is moved.
  local told, wish = record(id), cjson.decode(ARGV[7])
  if told then
    local tag = told.member and redis.call('ZSCORE', order, told.member)
    local rest = (wish.cost - told.cost) / told.weight
    told.cost, told.model = wish.cost, wish.model
    redis.call('HSET', jobs, id, cjson.encode(told))
    shift(told.user, tag and tonumber(tag) or 0, rest, id)
    did = 1
  end
elseif command == 'clean' then
  -- Whoever's time has come to an end is served like a newcomer: there is nothing to remember.
  local found = redis.call('HGETALL', finish)
  for i = 1, #found, 2 do
    redis.call('ZREMRANGEBYSCORE', mine(found[i]), '-inf', '(' .. exact(now()))
    if tonumber(found[i + 1]) <= now() then redis.call('HDEL', finish, found[i]) end
  end
  for _, user in ipairs(redis.call('HKEYS', owed)) do
    if redis.call('HEXISTS', finish, user) == 0 then redis.call('HDEL', owed, user) end
  end
end
return {redis.call('LLEN', list), redis.call('ZCARD', order), did}
"""


@dataclass(frozen=True)
class Claim:
    """What a job asks of the line: whose it is, its expected seconds, and its class's weight.

    `priority` counts among the user's own jobs: higher ones stand before lower ones. `model` is
    what draws it, empty where none is needed.
    """

    user: str
    cost: float
    weight: float = 1.0
    priority: int = NORMAL
    model: str = ""

    def as_json(self) -> str:
        """As the line keeps it. Raises ValueError where cost or weight is no positive number."""
        if not (0 < self.cost < 1e9 and 1e-6 < self.weight < 1e6):
            raise ValueError(f"cost {self.cost} and weight {self.weight} must be positive")
        return json.dumps({
            "user": self.user, "cost": max(LEAST_COST, self.cost), "weight": self.weight,
            "priority": self.priority, "model": self.model,
        })  # fmt: skip


class FairQueue(Queue):
    """RQ's queue, whose every push goes to the job's fair place."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._announced: dict[str, str] = {}
        self._compared = -math.inf
        self.prefix = PREFIX if self.name == FIRST_LINE else f"{PREFIX}{self.name}:"

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

    def charge(self, job_id: str, cost: float, model: str) -> bool:
        """Charge a job another cost, and note its model, while it keeps its place.

        False when nothing is known of it. Raises ValueError for a cost that is none.
        """
        return bool(self._say("charge", job_id, told=Claim("", cost, model=model).as_json())[2])

    def leave(self, job_id: str) -> None:
        """Take a job out of the line and give its user the cost back."""
        self._say("leave", job_id)

    def settle(self, job_id: str, seconds: float, pipeline: Pipeline | None = None) -> None:
        """Charge what a job really cost, now that it is over."""
        self._say("settle", job_id, repr(float(seconds)), pipeline=pipeline)

    def take(
        self, loaded: Collection[str], patience: float, moment: float | None = None
    ) -> bytes | None:
        """Take a job for a loaded model, as a worker does, before the head of the line.

        None where the head is as good, or may not be passed. `moment` is the server's time where
        it is not given.
        """
        if not loaded or patience <= 0:
            return None
        wish = {
            "loaded": list(loaded), "patience": patience, "near": NEAR, "times": TIMES,
            "taken": IntermediateQueue.get_intermediate_queue_key(self.key),
            **({} if moment is None else {"moment": moment}),
        }  # fmt: skip
        found: Any = self._say("take", "", told=json.dumps(wish))[2]
        return found or None

    def idle(self, worker: str, loaded: Collection[str], seconds: float) -> None:
        """Note that a worker waits for a job for so long, and which models it has loaded."""
        told = json.dumps({"loaded": list(loaded), "till": time.time() + seconds})
        self.connection.hset(self.prefix + "idle", worker, told)

    def busy(self, worker: str) -> None:
        """Note that a worker waits no longer."""
        self.connection.hdel(self.prefix + "idle", worker)

    def hand_over(self, job_id: str, worker: str) -> bool:
        """Give a job back, as a worker that just took it, where another idles that has its model.

        Whether that was done: then the job is the line's first, and the other one's.
        """
        wish = {
            "me": worker, "moment": time.time(),
            "taken": IntermediateQueue.get_intermediate_queue_key(self.key),
        }  # fmt: skip
        return bool(self._say("hand", job_id, told=json.dumps(wish))[2])

    def mend(self, claim_of: Callable[[str], Claim | None]) -> int:
        """Put in place what others pushed at an end (RQ's requeue, rq-dashboard's).

        Answers how many were moved; what others deleted gives its cost back. As long as the
        numbers agree the whole line is compared now and then only.
        """
        listed, ordered, _ = self._say("", "")
        if listed == ordered and time.monotonic() - self._compared < COMPARE_SECONDS:
            return 0
        self._compared = time.monotonic()
        self._say("clean", "")
        members: Any = self.connection.zrange(self.prefix + "order", 0, -1)
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
        found: list[Any] = self.connection.hmget(self.prefix + "jobs", names)
        kept: list[dict[str, Any]] = [
            json.loads(one) if one else {"user": "?", "cost": 1.0} for one in found
        ]
        return [
            Claim(one["user"], float(one["cost"]), one.get("weight", 1.0),
                  model=one.get("model") or "")
            for one in kept
        ]  # fmt: skip

    def _say(
        self, command: str, job_id: str, more: str = "", told: str = "",
        pipeline: Pipeline | None = None,
    ) -> Any:  # fmt: skip
        connection: Redis | Pipeline = pipeline if pipeline is not None else self.connection
        keys = [
            self.prefix + name for name in ("order", "finish", "jobs", "clock", "counter", "owed")
        ]
        return connection.eval(
            _SCRIPT,
            7,
            self.key,
            *keys,
            command,
            job_id,
            self.prefix,
            str(FEW),
            str(SLACK),
            more,
            told,
        )
