"""Sweeps: one bulk ticker of a venue testifies of many silent markets, and of those that are dead.

What is quiet by its ticker is not asked about one by one; what is dead is not listened to, nor asked for, until a look
now and then finds it alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field

from tradeflood.coverage import Dataset
from tradeflood.errors import UsageError
from tradeflood.live import is_dead, witnesses
from tradeflood.live.witness import LOOK_AGAIN
from tradeflood.models import Market, Ticker
from tradeflood.models.time import SECOND
from tradeflood.planner import Query, Run
from tradeflood.runner.execute import Network, carry_out
from tradeflood.runner.stream import Stream
from tradeflood.runner.venues import SessionVenues
from tradeflood.transport import Rank
from tradeflood.turns import Ask

SEVERAL = 4
"""From how many silent markets of a venue on its bulk ticker is asked first: of fewer their trades are asked for at once."""

WITHIN = 5.0
"""Seconds that a ticker may take. It saves questions; it must not hold up those that bring what is missing."""

LAG = 2 * SECOND
"""How old a ticker may be when the venue says that it is new."""

KEPT = 2
"""How many tickers of a market are kept beside the one that is compared with."""


def witnessed(before: Sequence[Ticker], after: Ticker, since: int) -> bool | None:
    """Whether something traded after a moment, by tickers of a market, ascending; None where they do not tell.

    What is compared is as old as the moment, for of what traded between the moment and an older ticker nothing is
    known. A ticker that is no younger than the moment (a venue may serve the same one for a while) tells nothing.
    """
    older = [ticker for ticker in before if ticker.venue_time <= since]
    if not older or after.venue_time <= since:
        return None
    return witnesses(older[-1], after)


def is_stale(before: Sequence[Ticker], after: Ticker, heard: int) -> bool:
    """Whether a ticker does not show what was heard of its market since one before: a venue may serve old ones as new."""
    return any(each.venue_time < heard < after.venue_time - LAG and witnesses(each, after) is False for each in before)


@define
class _Seen:
    """What a venue's lists told so far: tickers by market, and since when which markets are dead."""

    looked_at: int
    tickers: dict[str, list[Ticker]] = field(factory=dict)
    heard: Mapping[Dataset, int] = field(factory=dict)
    dead: dict[str, int] = field(factory=dict)
    is_single: bool | None = None
    """Whether its tickers are had one by one, so that they save nothing; None while that is not known."""


class Sweeper:
    """The tickers and lists of all venues, as far as streams need them for witnesses."""

    def __init__(self, venues: SessionVenues, network: Network) -> None:
        self._session, self._network = venues, network
        self._venues: dict[str, _Seen] = {}

    def is_dead(self, dataset: Dataset) -> bool:
        """Whether its market is dead, so that it is not asked for."""
        seen = self._venues.get(dataset.venue)
        return seen is not None and dataset.market in seen.dead

    async def silent(
        self,
        stream: Stream[Any],
        venue: str,
        since: Mapping[Dataset, int],
        heard: Mapping[Dataset, int],
        now: int,
        ahead: int = 0,
    ) -> None:
        """Ask the venue's bulk ticker about streams that are silent since some moment; those that are quiet are told so.

        The others were last `heard` at some moment, and show whether the next ticker is as new as it says. All moments
        are by the venue's clock, by which it is `ahead` ns later than by ours.
        """
        seen = self._of(venue, now)
        before, seen.heard = seen.heard, heard
        markets = sorted({dataset.market for dataset in since})
        if len(markets) < SEVERAL or seen.is_single or not self._has(venue, Ticker):
            return
        if seen.is_single is False:  # the others cost nothing: what is silent next is compared with their tickers
            markets = sorted({dataset.market for dataset in (*since, *heard)})
        try:
            async with asyncio.timeout(WITHIN):
                told, run = await self._tickers(venue, markets)
        except TimeoutError:
            return
        lists = self._session.connector(venue).symbols.listed
        if len(markets) > SEVERAL:
            seen.is_single = len(run.nodes) - lists >= len(markets)
        known = {market: seen.tickers.get(market, []) for market in told}
        if not any(
            is_stale(known[each.market], told[each.market], at) for each, at in before.items() if each.market in told
        ):
            for dataset, silent in since.items():
                after = told.get(dataset.market)
                if after is not None and witnessed(known[dataset.market], after, silent) is False:
                    stream.quiet(dataset, min(now, after.venue_time - ahead))  # for no longer than the ticker tells
        silences = {dataset.market: silent for dataset, silent in since.items()}
        for market, ticker in told.items():
            worth = _worth(known[market], silences[market]) if market in silences else known[market][-KEPT:]
            seen.tickers[market] = [*worth, ticker]

    async def look(
        self, stream: Stream[Any], venue: str, asks: Sequence[Ask], last: Mapping[str, int], now: int
    ) -> None:
        """Close the streams of dead markets, and open those that live again; the venue is asked now and then.

        `last` is a moment of each market after which no trade was seen.
        """
        statuses = {ask.market: ask.listing.status for ask in asks if ask.listing is not None}
        if venue not in self._venues:
            self._judge(
                stream, asks, {market: is_dead(status, None, None, now) for market, status in statuses.items()}, now
            )
            return
        seen = self._of(venue, now)
        if now < seen.looked_at + LOOK_AGAIN:
            return
        seen.looked_at = now
        if any(status is not None for status in statuses.values()):
            listed = await self._listed(venue)
            if not listed:
                return  # nothing was said: everything stays as it is
            statuses = {market: listed.get(market, "closed") for market in statuses}
        tickers: dict[str, Ticker] = {}
        if not seen.is_single and self._has(venue, Ticker):
            told, _ = await self._tickers(venue, sorted({ask.market for ask in asks}))
            tickers = {market: ticker for market, ticker in told.items() if _has_volume(ticker)}
        verdicts = {
            market: is_dead(
                statuses.get(market), last.get(market) if market in tickers else None, tickers.get(market), now
            )
            for market in statuses.keys() | tickers.keys()
        }
        self._judge(stream, asks, verdicts, now)

    def _judge(self, stream: Stream[Any], asks: Sequence[Ask], verdicts: Mapping[str, bool], now: int) -> None:
        for ask in asks:
            dead = self._of(ask.venue, now).dead
            if verdicts.get(ask.market) and ask.market not in dead:
                stream.shut(ask.dataset, now)
            elif verdicts.get(ask.market) is False and ask.market in dead:
                stream.wake(ask.dataset, now)
        for ask in asks:
            dead = self._of(ask.venue, now).dead
            if verdicts.get(ask.market):
                dead.setdefault(ask.market, now)
            elif ask.market in verdicts:
                dead.pop(ask.market, None)

    def _of(self, venue: str, now: int) -> _Seen:
        return self._venues.setdefault(venue, _Seen(now))

    def _has(self, venue: str, model: type[Any]) -> bool:
        venues = self._session
        try:
            return venues.registry.binding(type(venues.connector(venue)), model, ()).has_history()
        except UsageError:
            return False

    async def _listed(self, venue: str) -> dict[str, str | None]:
        """The statuses of a venue's markets; none where it did not say."""
        query = Query(Market, f"{venue}:*")
        run = await self._fetched(query)
        return {row.market: row.status for row in run.frame(query)}

    async def _tickers(self, venue: str, markets: Sequence[str]) -> tuple[dict[str, Ticker], Run]:
        queries = [Query(Ticker, f"{venue}:{market}") for market in markets]
        run = await self._fetched(*queries)
        return {row.market: row for query in queries for row in run.frame(query)}, run

    async def _fetched(self, *queries: Query[Any]) -> Run:
        run = Run(queries, self._session, self._network.clock.now())  # not stored: nobody has asked for these lists
        await carry_out(run, self._network, rank=Rank.FIRST)
        return run


def _worth(tickers: Sequence[Ticker], since: int) -> list[Ticker]:
    """What is worth keeping of some tickers, ascending: the one that the moment is compared with, and newer ones."""
    older = [ticker for ticker in tickers if ticker.venue_time <= since]
    return [*older[-1:], *[ticker for ticker in tickers if ticker.venue_time > since][-KEPT:]]


def _has_volume(ticker: Ticker) -> bool:
    return ticker.volume is not None or ticker.quote_volume is not None
