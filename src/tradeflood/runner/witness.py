"""The witness of a stream that stands alone: the venue is asked what happened in a silence, and the stream is told.

In a run the refiller is the witness, by the answers that fill its holes.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from tradeflood.coverage import Dataset
from tradeflood.live import happened
from tradeflood.models.time import SECOND
from tradeflood.planner import Run, query_of
from tradeflood.runner.clocks import GRACE, VenueClocks
from tradeflood.runner.deadlines import gap_of
from tradeflood.runner.execute import Network, carry_out
from tradeflood.runner.stream import Stream
from tradeflood.runner.sweep import Sweeper
from tradeflood.runner.venues import SessionVenues
from tradeflood.turns import Ask

EVERY = 5 * SECOND

AT_ONCE = 20
"""Of how many markets of a venue one look asks for trades; the others have the next one."""


class Witness:
    """What the venues of a session say of the silences of one stream. Their rows are not handed on: the feed's are."""

    def __init__(self, venues: SessionVenues, network: Network, stream: Stream[Any]) -> None:
        self._venues, self._network, self._stream = venues, network, stream
        self._sweeper, self._clocks = Sweeper(venues, network), VenueClocks()

    async def watch(self) -> None:
        """Look again and again; cancel it to end it."""
        asks: dict[str, list[Ask]] = {}
        for sub in self._stream.subscriptions:
            if self._stream.is_listened(sub.ask.dataset) and self._can_be_asked(sub.ask):
                asks.setdefault(sub.ask.venue, []).append(sub.ask)
        while True:
            await self._network.clock.sleep(EVERY)
            for venue, some in asks.items():
                await self.look(venue, some)

    async def look(self, venue: str, asks: list[Ask]) -> None:
        """Ask one venue about what is silent for longer than can be believed: by its bulk ticker, then one by one."""
        stream, now, ahead = self._stream, self._network.clock.now(), self._clocks.ahead(venue)
        silent = {a.dataset: stream.doubtful_since(a.dataset, ahead) for a in asks if self._is_silent(a.dataset)}
        heard = {ask.dataset: stream.reached(ask.dataset) for ask in asks if ask.dataset not in silent}
        await self._sweeper.silent(stream, venue, silent, heard, now, ahead)
        left = islice((ask for ask in asks if self._is_silent(ask.dataset)), AT_ONCE)
        asked = [(ask, query_of(ask, stream.silent_since(ask.dataset, ahead), now + ahead)) for ask in left]
        if not asked:
            return
        run = Run([query for _, query in asked], self._venues, now)
        await carry_out(run, self._network)
        self._clocks.learn(run, self._network.clock.now())
        for ask, query in asked:
            frame, since = run.frame(query), stream.silent_since(ask.dataset, ahead)
            time, settled = str(ask.model.time), now - GRACE
            told = [getattr(row, time) for row in frame if happened(row)]
            if (gap := gap_of(told)) is not None:
                stream.expect(ask.dataset, gap)
            if any(since < at < settled + ahead for at in told):
                stream.mute(ask.dataset, self._network.clock.now())
            elif not frame.failures:
                stream.quiet(ask.dataset, settled)

    def _is_silent(self, dataset: Dataset) -> bool:
        return self._stream.is_suspicious(dataset, self._network.clock.now())

    def _can_be_asked(self, ask: Ask) -> bool:
        binding = self._venues.registry.binding(type(self._venues.connector(ask.venue)), ask.model, ask.variant)
        return ask.model.time is not None and binding.has_history()
