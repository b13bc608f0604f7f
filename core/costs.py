"""What drawing has cost the host: one's own of it, everybody's for moderators, and prices that
name nothing.

Each picture's row says what it cost. What was forgotten, or deleted, was paid all the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, text

from core.catalog import every_model
from core.database import Database, generations, now
from core.errors import nearest
from core.languages import tr, trn
from core.people import Asker
from core.policy import Policy, policy
from core.providers import PROVIDERS, provider_of
from core.settings import Storage, read
from core.writers import captioners, writers

LATELY = 30
# As the index says it that finds them.
PAID = text("generations.cost > 0")
# Lines of models and of people, so that one message holds them on every chat.
MOST = 5
NAME = 60


@dataclass(frozen=True)
class Share:
    """What a model, or a person, has cost; nameless is what was forgotten."""

    name: str
    cost: float
    pictures: int


@dataclass(frozen=True)
class Costs:
    """What everybody's drawing has cost today, and in so many days, the dearest first."""

    today: float
    lately: float
    days: int
    models: tuple[Share, ...]
    people: tuple[Share, ...]


def may_see(asker: Asker) -> bool:
    """Whether somebody is told what all drawing costs: those whom the host lists."""
    return asker.trusted and bool(policy().prices)


def everybodys(database: Database) -> Costs:
    """What everybody's drawing has cost."""
    moment, keep = now(), read(Storage).keep_days
    days = min(LATELY, keep) if keep else LATELY
    columns = generations.c
    today = columns.created >= policy().began(moment)
    since = columns.created >= moment - timedelta(days=days)
    name, who = columns.request["model"].as_string().label("model"), columns.person.label("who")
    spent: Any = func.coalesce(func.sum(columns.cost), 0.0)
    with database.read() as connection:
        rows = connection.execute(
            select(name, who, spent, func.count()).where(PAID, since).group_by("model", "who")
        ).all()
        paid_today = connection.execute(select(spent).where(PAID, today)).scalar_one()
    return Costs(
        paid_today, sum(row[2] for row in rows), days,
        _shares((row[0], row[2], row[3]) for row in rows),
        _shares((row[1], row[2], row[3]) for row in rows),
    )  # fmt: skip


def _shares(rows: Iterable[tuple[str | None, float, int]]) -> tuple[Share, ...]:
    found: dict[str, Share] = {}
    for name, cost, pictures in rows:
        one = found.get(name or "", Share(name or "", 0.0, 0))
        found[one.name] = Share(one.name, one.cost + cost, one.pictures + pictures)
    return tuple(sorted(found.values(), key=lambda one: (-one.cost, one.name)))


def told(costs: Costs) -> list[str]:
    """What everybody's drawing has cost, in lines for a moderator."""
    rules = policy()
    lines = [
        trn(
            "Everybody's, as the host pays it: {today} today, {lately} in the last {n} day.",
            "Everybody's, as the host pays it: {today} today, {lately} in the last {n} days.",
            costs.days, today=rules.said(costs.today), lately=rules.said(costs.lately),
        )
    ]  # fmt: skip
    if costs.models:
        # Translators: of what everybody's drawing has cost.
        lines.append(tr("By model: {shares}.", shares=_listed(rules, costs.models)))
        lines.append(tr("By account: {shares}.", shares=_listed(rules, costs.people)))
    return lines


def _listed(rules: Policy, shares: Sequence[Share]) -> str:
    # More than these is not worth a name; what all others cost is one figure.
    few = [one for one in shares if one.name][:MOST]
    others = [one for one in shares if one not in few]
    parts = [f"{_short(one.name)} {rules.said(one.cost)} ({one.pictures})" for one in few]
    if others:
        rest = rules.said(sum(one.cost for one in others))
        pictures = sum(one.pictures for one in others)
        parts.append(tr("others {money} ({pictures})", money=rest, pictures=pictures))
    return ", ".join(parts)


def _short(name: str) -> str:
    return name if len(name) <= NAME else name[: NAME - 1] + "…"


def warnings() -> list[str]:
    """What a host may have overlooked among the prices, in words for `doctor`."""
    rules, told = policy(), []
    models = {**every_model(), **writers(), **captioners()}
    known = {name.lower() for one in models.values() for name in (one.name, one.source)}
    known |= {":".join(found) for one in models.values() if (found := provider_of(one.source))}
    known |= set(PROVIDERS)
    for name in rules.prices:
        if name.lower() not in known:
            near = nearest(name, sorted(known))
            hint = f" Did you mean “{near}”?" if near else ""
            told.append(f"[prices] has “{name[:NAME]}”; the settings name nothing so.{hint}")
    if rules.prices:
        paid = {name for name, one in PROVIDERS.items() if one.keyed and not one.home}
        told += [
            f"{one.name} has no price, and counts as free."
            for one in models.values()
            if one.engine in paid and rules.price_of(one.name) is None
        ]
    elif rules.chat.cost_per_day or any(one.cost_per_day for one in rules.classes.values()):
        told.append("cost_per_day limits nothing as long as [prices] is empty.")
    return told
