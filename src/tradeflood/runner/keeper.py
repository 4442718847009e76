"""Writing live rows with what they prove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tradeflood.coverage import Claim, Dataset
from tradeflood.coverage.evidence import of_live_candles, of_live_ids
from tradeflood.models import Candle, Model
from tradeflood.planner.parts import ordered
from tradeflood.planner.proofs import parser_of
from tradeflood.runner.venues import SessionVenues
from tradeflood.store import Store


class Keeper:
    """Puts batches of live rows into a store, of any models and markets, together with their claims."""

    def __init__(self, venues: SessionVenues, store: Store) -> None:
        self._venues, self._store = venues, store
        self._tails: dict[Dataset, Tail] = {}

    def write(self, rows: Sequence[Any]) -> None:
        """Nothing; the rows are stored, then the claims."""
        if not rows:
            return
        batches: dict[type[Model], list[Any]] = {}
        parts: dict[Dataset, list[Any]] = {}
        for row in rows:
            model = type(row)
            batches.setdefault(model, []).append(row)
            variant = tuple(getattr(row, part.name) for part in model.variants())
            parts.setdefault(Dataset(model, row.venue, row.market, variant), []).append(row)
        claims = [
            claim
            for dataset, some in parts.items()
            if dataset.model.time is not None
            for claim in self._tail(dataset).claims(some)
        ]
        self._store.write(batches, claims)

    def _tail(self, dataset: Dataset) -> Tail:
        tail = self._tails.get(dataset)
        if tail is None:
            connector = self._venues.connector(dataset.venue)
            binding = self._venues.registry.binding(type(connector), dataset.model, dataset.variant)
            tail = self._tails[dataset] = Tail(dataset, parser_of(connector), consecutive=binding.consecutive)
        return tail


class Tail:
    """The claims of live rows: of consecutive ids from batch to batch, of closed candles."""

    def __init__(self, dataset: Dataset, parser: str, *, consecutive: bool) -> None:
        self._dataset, self._parser, self._consecutive = dataset, parser, consecutive
        self._last: tuple[int, int] | None = None

    def claims(self, rows: Sequence[Any]) -> list[Claim]:
        """What a batch proves, together with the row before it."""
        unique = {row.position: row for row in rows}
        here = ordered(self._dataset.model, unique.values())
        clock = max((row.received_at or 0) for row in here)
        if issubclass(self._dataset.model, Candle):
            text = self._dataset.variant[0]
            closed = {row.position: row for row in rows if row.closed}
            ascending = ordered(self._dataset.model, closed.values())
            return list(of_live_candles(self._dataset, text, ascending, clock, self._parser))
        if not self._consecutive:
            return []
        numbered = sorted((int(row.position), row) for row in here)
        if self._last is not None:
            numbered = [(at, row) for at, row in numbered if at > self._last[0]]
        if not numbered:
            return []
        claims, self._last = of_live_ids(self._dataset, numbered, self._last, self._parser)
        return claims
