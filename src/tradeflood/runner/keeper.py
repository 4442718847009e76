"""Writing live rows with what they prove."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from typing import Any

from tradeflood.coverage import Claim, Dataset, State
from tradeflood.coverage.compact import grown
from tradeflood.coverage.evidence import Reached, Run, linked, of_live_candles, of_live_ids, one_run, runs_of
from tradeflood.coverage.refute import disputed
from tradeflood.errors import PayloadChanged, StoreError, TradeFloodError
from tradeflood.live.offsets import GROWS_FOR
from tradeflood.models import Candle, Model
from tradeflood.models.checks import all_exact, exact
from tradeflood.models.forms import Tabled
from tradeflood.planner.parts import ordered
from tradeflood.planner.proofs import parser_of
from tradeflood.runner.late import disputes_of
from tradeflood.runner.outlet import Outlet
from tradeflood.runner.venues import SessionVenues
from tradeflood.store import Store
from tradeflood.store.base import dataset_of
from tradeflood.store.known import KnownStore
from tradeflood.turns import Numbering

log = logging.getLogger("tradeflood")


class Keeper:
    """Puts batches of live rows into a store, of any models and markets, together with their claims.

    A row that no store can hold exactly is left out, `blame` hears of it, and the others are stored. `known` is the
    store itself where `store` is the way there: a row that it lacks in a time that is held refutes what was claimed.
    """

    def __init__(
        self,
        venues: SessionVenues,
        store: Store | Outlet,
        blame: Callable[[TradeFloodError], None] | None = None,
        known: KnownStore | None = None,
    ) -> None:
        self._venues, self._store, self._known = venues, store, known
        self._blame = blame or (lambda error: log.warning("%s", error))
        self._tails: dict[Dataset, Tail] = {}

    def write(self, rows: Sequence[Any], proofs: Sequence[Claim] = ()) -> None:
        """Nothing; the rows are stored, then the claims: `proofs` are those that somebody else has made of them."""
        if not rows and not proofs:
            self._store.write({})  # what waits for a store that refuses gets its chance
            return
        observe = self._store.observe
        observe("batch.taken", rows=len(rows))
        by_model: dict[type[Model], list[Any]] = {}
        claims = list(proofs)
        for model, together in groupby(rows, type):
            by_model.setdefault(model, []).extend(together)
        batches: dict[type[Model], Sequence[Any]] = {}
        for model, some in by_model.items():
            batches[model] = self._exact(model, some, claims)
        for dataset, some in _apart(batches):
            if dataset.model.time is not None:
                claims += disputes_of(self._known, dataset, some) if self._known is not None else ()
                claims += self._tail(dataset).claims(some)
        observe("batch.proved", rows=len(rows), claims=len(claims))
        self._store.write(batches, claims)
        observe("batch.kept", rows=len(rows), claims=len(claims))

    def _exact(self, model: type[Model], rows: Sequence[Any], claims: list[Claim]) -> Sequence[Any]:
        """The rows that every store can hold, which nearly always are all of them; of any other its moment is disputed."""
        if self._store.columnar:
            with suppress(StoreError):
                return Tabled(model, rows)
        elif all_exact(model, rows):
            return rows
        return list(self._fitting(rows, claims))

    def _fitting(self, rows: Sequence[Any], claims: list[Claim]) -> Iterator[Any]:
        """The rows that every store can hold; of any other its moment is disputed."""
        for row in rows:
            try:
                yield exact(row)
            except PayloadChanged as error:
                self._blame(error)
                if row.time is not None:
                    at = getattr(row, row.time)
                    why = "a row came that no store can hold"
                    claims.append(disputed(dataset_of(row), at, at + 1, why, max(at, row.received_at or at)))

    def close(self, rows: Sequence[Any] = (), proofs: Sequence[Claim] = ()) -> None:
        """Nothing; the last rows are stored, then every claim that was still growing."""
        self.write(rows, proofs)
        claims = [claim for tail in self._tails.values() for claim in tail.rest()]
        if claims:
            self._store.observe("edges.closing", claims=len(claims))
            self._store.write({}, claims)
            self._store.observe("edges.closed", claims=len(claims))

    def _tail(self, dataset: Dataset) -> Tail:
        tail = self._tails.get(dataset)
        if tail is None:
            connector = self._venues.connector(dataset.venue)
            binding = self._venues.registry.binding(type(connector), dataset.model, dataset.variant)
            tail = self._tails[dataset] = Tail(dataset, parser_of(connector), binding.numbering)
        return tail


def _apart(batches: Mapping[type[Model], Sequence[Any]]) -> Iterator[tuple[Dataset, list[Any]]]:
    """The rows of each dataset, in their order; those of one market often come together."""
    for model, rows in batches.items():
        parts: dict[tuple[str, ...], list[Any]] = {}
        for key, together in groupby(rows, attrgetter("venue", "market", *(part.name for part in model.variants()))):
            parts.setdefault(key, []).extend(together)
        for (venue, market, *variant), some in parts.items():
            yield Dataset(model, venue, market, tuple(variant)), some


class Tail:
    """The claims of one dataset's live rows: of linked ids from batch to batch, of closed candles.

    The claim at the edge grows with every batch that follows from it, and is handed on after a while or when a
    hole ends it, so that there are not as many claims as batches.
    """

    def __init__(self, dataset: Dataset, parser: str, numbering: Numbering) -> None:
        self._dataset, self._parser, self._numbering = dataset, parser, numbering
        self._last: Reached | None = None
        self._growing: Claim | None = None
        self._handed_on = 0

    def claims(self, rows: Sequence[Any]) -> list[Claim]:
        """The claims that are ready, after a batch."""
        clock = max(filter(None, map(attrgetter("received_at"), rows)), default=0)
        if issubclass(self._dataset.model, Candle):
            text = self._dataset.variant[0]
            closed = {row.position: row for row in rows if row.closed}
            ascending = ordered(self._dataset.model, closed.values())
            return list(of_live_candles(self._dataset, text, ascending, clock, self._parser))
        if not self._numbering.is_linked:
            return []
        chained = self._numbering is Numbering.CHAINED
        runs = self._runs(rows, chained=chained)
        if not runs:
            return []
        made, self._last = of_live_ids(self._dataset, runs, self._last, self._parser, chained=chained)
        ready = []
        for claim in made:
            if claim.state is not State.HELD:
                ready.append(claim)
            elif self._growing is not None and self._growing.right == claim.left:
                self._growing = grown(self._growing, claim)
            else:
                ready += self.rest()
                self._growing = claim
        if clock - self._handed_on > GROWS_FOR:
            ready += self.rest()
            self._handed_on = clock
        return ready

    def _runs(self, rows: Sequence[Any], *, chained: bool) -> list[Run]:
        """The rows whose ids follow one another, none that begins before what is reached, nor twice."""
        reached = 0 if self._last is None else self._last.after
        run = one_run(rows, chained=chained)
        if run is not None and run.first >= reached:
            return [run]
        unique = {row.position: row for row in rows}
        links = linked(ordered(self._dataset.model, unique.values()), chained=chained)
        return runs_of(link for link in links if link.first >= reached)

    def rest(self) -> list[Claim]:
        """The claim that was still growing, if there is one."""
        claim, self._growing = self._growing, None
        return [] if claim is None else [claim]
