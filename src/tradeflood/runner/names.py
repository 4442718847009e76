"""Whether markets are there, before anybody waits for them: not every venue says no to a name that it does not know."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

from tradeflood.coverage import Frame
from tradeflood.errors import Refused, UnknownMarket
from tradeflood.models import Market
from tradeflood.models.time import iso
from tradeflood.planner import Query, Run
from tradeflood.runner.execute import Network, carry_out
from tradeflood.runner.venues import SessionVenues

WITHIN = 5.0
"""Seconds that looking names up may take; a venue that does not answer in time is believed to have them."""

NEAR = 0.8
"""How alike two names are, from 0 to 1, of which one may be meant by the other: the quote alone is not enough."""


class Names:
    """The markets of a session's venues: each list is asked for once, when a name is first looked up there."""

    def __init__(self, venues: SessionVenues) -> None:
        self._venues = venues
        self._listed: dict[str, frozenset[str]] = {}

    async def unknown(self, queries: Sequence[Query[Any]], network: Network) -> dict[str, UnknownMarket]:
        """Market → error, of those queries whose market the venue does not know; patterns are not looked at.

        A name that is not in the venue's list, which may leave some out, is asked for once. A venue whose list cannot
        be had is believed to have every name.
        """
        named = [query for query in queries if not query.is_pattern and query.model is not Market]
        named = [
            query for query in named if not self._venues.connector(query.venue).symbols.listed
        ]  # found in the list anyway
        with suppress(TimeoutError):
            async with asyncio.timeout(WITHIN):
                missing = await self._list(list(dict.fromkeys(query.venue for query in named)), network)
                for venue, frame in missing.items():
                    if frame and not frame.failures:
                        self._listed[venue] = frozenset(row.market for row in frame)
                return await self._asked([query for query in named if self._is_strange(query)], network)
        return {}

    def _is_strange(self, query: Query[Any]) -> bool:
        listed = self._listed.get(query.venue)
        return listed is not None and query.pattern not in listed

    async def _list(self, venues: Sequence[str], network: Network) -> dict[str, Frame[Market]]:
        queries = [Query(Market, f"{venue}:*") for venue in venues if venue not in self._listed]
        queries = [query for query in queries if self._has_history(query)]
        return {query.venue: frame for query, frame in zip(queries, await self._frames(queries, network), strict=True)}

    async def _asked(self, strange: Sequence[Query[Any]], network: Network) -> dict[str, UnknownMarket]:
        """Those that the venue refuses by itself, where it can be asked for them at all."""
        end = iso(network.clock.now())
        probes = [
            Query(query.model, query.market, end=end, **query.model.variant_words(query.variant))
            if query.model.time
            else query
            for query in strange
        ]
        asked = [probe for probe in probes if self._has_history(probe)]
        known = {
            probe.market
            for probe, frame in zip(asked, await self._frames(asked, network), strict=True)
            if not any(isinstance(failure.error, Refused) for failure in frame.failures)
        }
        return {
            query.market: UnknownMarket(told(query, self._listed[query.venue]))
            for query in strange
            if query.market not in known
        }

    async def _frames(self, queries: Sequence[Query[Any]], network: Network) -> list[Frame[Any]]:
        if not queries:
            return []
        run = Run(queries, self._venues, network.clock.now())
        await carry_out(run, network)
        return [run.frame(query) for query in queries]

    def _has_history(self, query: Query[Any]) -> bool:
        connector = type(self._venues.connector(query.venue))
        offered = self._venues.registry.candidates(connector, query.model)
        return any(binding.makes(query.variant) and binding.has_history() for binding in offered)


def told(query: Query[Any], listed: Collection[str]) -> str:
    """What is said of a market that is not there: with the nearest names, and where to find all of them."""
    upper, wanted = {name.upper(): name for name in sorted(listed)}, query.pattern.upper()
    near = [wanted] if wanted in upper else get_close_matches(wanted, upper, 3, NEAR)
    hint = f"did you mean {' or '.join(f'{query.venue}:{upper[name]}' for name in near)}? " if near else ""
    return f"{query.venue}: no market {query.pattern!r}; {hint}list them with: tradeflood markets {query.venue}"
