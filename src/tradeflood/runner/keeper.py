"""Writing live rows with what they prove."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from attrs import evolve

from tradeflood.coverage import Claim, Dataset
from tradeflood.coverage.evidence import of_live_candles, of_live_ids
from tradeflood.errors import PayloadChanged, TradeFloodError
from tradeflood.models import Candle, Model
from tradeflood.models.checks import exact
from tradeflood.models.time import SECOND
from tradeflood.planner.parts import ordered
from tradeflood.planner.proofs import parser_of
from tradeflood.runner.venues import SessionVenues
from tradeflood.store import Store

log = logging.getLogger("tradeflood")

GROWS_FOR = 15 * SECOND
"""How long a claim of live rows grows before it is handed on."""


class Keeper:
    """Puts batches of live rows into a store, of any models and markets, together with their claims.

    A row that no store can hold exactly is left out, `blame` hears of it, and the others are stored.
    """

    def __init__(
        self, venues: SessionVenues, store: Store, blame: Callable[[TradeFloodError], None] | None = None
    ) -> None:
        self._venues, self._store = venues, store
        self._blame = blame or (lambda error: log.warning("%s", error))
        self._tails: dict[Dataset, Tail] = {}

    def write(self, rows: Sequence[Any]) -> None:
        """Nothing; the rows are stored, then the claims."""
        if not rows:
            return
        batches: dict[type[Model], list[Any]] = {}
        parts: dict[Dataset, list[Any]] = {}
        for row in self._fitting(rows):
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

    def _fitting(self, rows: Sequence[Any]) -> Iterator[Any]:
        for row in rows:
            try:
                yield exact(row)
            except PayloadChanged as error:
                self._blame(error)

    def close(self, rows: Sequence[Any] = ()) -> None:
        """Nothing; the last rows are stored, then every claim that was still growing."""
        self.write(rows)
        claims = [claim for tail in self._tails.values() for claim in tail.rest()]
        if claims:
            self._store.write({}, claims)

    def _tail(self, dataset: Dataset) -> Tail:
        tail = self._tails.get(dataset)
        if tail is None:
            connector = self._venues.connector(dataset.venue)
            binding = self._venues.registry.binding(type(connector), dataset.model, dataset.variant)
            tail = self._tails[dataset] = Tail(dataset, parser_of(connector), consecutive=binding.consecutive)
        return tail


class Tail:
    """The claims of one dataset's live rows: of consecutive ids from batch to batch, of closed candles.

    The claim at the edge grows with every batch that follows from it, and is handed on after a while or when a
    hole ends it, so that there are not as many claims as batches.
    """

    def __init__(self, dataset: Dataset, parser: str, *, consecutive: bool) -> None:
        self._dataset, self._parser, self._consecutive = dataset, parser, consecutive
        self._last: tuple[int, int] | None = None
        self._growing: Claim | None = None
        self._handed_on = 0

    def claims(self, rows: Sequence[Any]) -> list[Claim]:
        """The claims that are ready, after a batch."""
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
        numbered = sorted((int(row.position), row) for row in here if _is_number(row.position))
        if self._last is not None:
            numbered = [(at, row) for at, row in numbered if at > self._last[0]]
        if not numbered:
            return []
        made, self._last = of_live_ids(self._dataset, numbered, self._last, self._parser)
        ready = []
        for claim in made:
            if self._growing is not None and self._growing.right == claim.left:
                self._growing = grown(self._growing, claim)
            else:
                ready += self.rest()
                self._growing = claim
        if clock - self._handed_on > GROWS_FOR:
            ready += self.rest()
            self._handed_on = clock
        return ready

    def rest(self) -> list[Claim]:
        """The claim that was still growing, if there is one."""
        claim, self._growing = self._growing, None
        return [] if claim is None else [claim]


def _is_number(position: Any) -> bool:
    return isinstance(position, str) and position.isdecimal() and len(position) < 20


def grown(first: Claim, second: Claim) -> Claim:
    """Two claims of rows that follow one another, as one."""
    digest = int(first.digest, 16) ^ int(second.digest, 16)
    return evolve(
        first,
        end=second.end,
        count=first.count + second.count,
        digest=f"{digest:016x}",
        as_of=second.as_of,
        right=second.right,
    )
