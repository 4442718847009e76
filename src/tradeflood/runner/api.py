"""The library without `await`: for scripts and notebooks."""

from __future__ import annotations

from typing import Any, TypeVar

from tradeflood.coverage import Frame
from tradeflood.models import Model
from tradeflood.models.time import When
from tradeflood.planner import Plan, Query, Result
from tradeflood.runner.flood import Flood, run_sync

M = TypeVar("M", bound=Model)


def collect(
    model: type[M],
    *markets: str,
    start: When | None = None,
    end: When | None = None,
    offline: bool = False,
    strict: bool = False,
    **variant: str,
) -> Frame[M]:
    """The rows of a model in [start, end), with their coverage; `Flood.collect` tells the rest.

    Works in scripts and, where an event loop runs already, in notebooks.
    """

    async def work() -> Frame[M]:
        session = Flood()
        if not offline:
            session.check(*(Query(model, market, start=start, end=end, **variant) for market in markets))
        async with session as flood:
            return await flood.collect(model, *markets, start=start, end=end, offline=offline, strict=strict, **variant)

    return run_sync(work)


def plan(*queries: Query[Any]) -> Plan:
    """The merged plan of some queries. Look at it with `explain()`, then `run()` it."""
    flood = Flood()
    flood.check(*queries)

    def run(made: Plan) -> Result:
        async def work() -> Result:
            async with Flood(flood.config) as session:
                return await session.run(made)

        return run_sync(work)

    if flood.config.store is not None:
        flood.open_store()
    try:
        made = flood.plan(*queries)
        made = Plan(made.queries, made.venues, store=made.store, at=made.now, runner=run)
        if made.store is not None:
            made.explain()  # while the store is open, so that what it holds is subtracted
    finally:
        flood.close_store()
    return made
