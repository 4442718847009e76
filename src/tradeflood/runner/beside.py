"""What a run does beside collecting: candles made of its trades, and the audit of what it collects."""

from __future__ import annotations

from threading import Lock

from tradeflood.coverage import Dataset
from tradeflood.models import interval
from tradeflood.runner.audit import Report
from tradeflood.runner.auditor import Auditor
from tradeflood.runner.candles import Maker, basis_ask
from tradeflood.runner.flood import Flood
from tradeflood.spans import EMPTY, Spans
from tradeflood.store.known import KnownStore
from tradeflood.turns import Ask


class Beside:
    """The maker of candles, and the auditor where the configuration wants one. They hear of every write to the store."""

    def __init__(self, flood: Flood, store: KnownStore, began: int) -> None:
        self._looking = Lock()  # a pass that was given up may still be at it
        self.maker = Maker(store)
        self.auditor: Auditor | None = None
        if flood.config.audit:
            self.auditor = Auditor(store, lambda venue: flood.venues.connector(venue).rest.settle, began)
        self.made: set[Dataset] = set()

    def add(self, ask: Ask, since: int) -> tuple[Ask, int]:
        """What has to be collected for an ask, and since when: of candles from trades their trades, of all else itself."""
        basis = basis_ask(ask)
        if basis is not None:
            self.made.add(ask.dataset)
            self.maker.make(ask.dataset)
            ask, since = basis, interval(ask.interval).floor(since)
        if self.auditor is not None:
            self.auditor.watch([ask.dataset])
        return ask, since

    def look(self, now: int) -> None:
        """Nothing; candles follow their trades, and what is due is audited.

        Raises StoreError where the store fails.
        """
        with self._looking:
            self.maker.bring_up_to_date()
            if self.auditor is not None:
                self.auditor.look(now)

    def finish(self) -> None:
        """Nothing; every candle follows its trades.

        Raises StoreError where the store fails.
        """
        with self._looking:
            self.maker.bring_up_to_date()

    def resting(self, dataset: Dataset, now: int) -> Spans:
        """What is not to be asked for now, because that was in vain."""
        return EMPTY if self.auditor is None else self.auditor.resting(dataset, now)

    def reports(self) -> list[Report]:
        """What the audit found."""
        return [] if self.auditor is None else self.auditor.reports()
