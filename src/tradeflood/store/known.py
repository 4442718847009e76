"""A store whose claims are kept in mind: coverage is asked for again and again, and this process writes it.

What is held is worked out once per change. Claims that say the same are made fewer now and then, here and in the
store. Only for a store that no other process writes meanwhile, which the embedded ones see to themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import RLock
from typing import TypeAlias, TypeVar

from tradeflood.coverage import Claim, Dataset
from tradeflood.coverage.claims import held, settled, solid
from tradeflood.coverage.compact import compacted
from tradeflood.models import Model
from tradeflood.spans import Spans
from tradeflood.steps import Observer
from tradeflood.store.base import Store, Summary

M = TypeVar("M", bound=Model)

MANY = 60
"""How many claims a dataset may have before they are made fewer."""


Listener: TypeAlias = Callable[[Mapping[type[Model], Sequence[Model]], Sequence[Claim]], None]
"""Hears of rows and claims that are stored; it must be quick and not raise."""


def known(store: Store) -> KnownStore:
    """A store with its claims in mind, itself where it has them already."""
    return store if isinstance(store, KnownStore) else KnownStore(store)


class KnownStore(Store):
    """The same store, with its claims in memory. `listeners` hear of each write before the next one begins.

    Whoever holds `writing` sees a store of which its listener knows everything.
    """

    def __init__(self, inner: Store) -> None:
        self.inner, self.url, self.columnar = inner, inner.url, inner.columnar
        self._lock = RLock()
        self.writing = RLock()
        self.listeners: list[Listener] = []
        self._claims: dict[Dataset, dict[Claim, None]] = {}
        self._spans: dict[tuple[Dataset, Callable[[Iterable[Claim]], Spans]], Spans] = {}
        self._few: dict[Dataset, int] = {}

    @property
    def observe(self) -> Observer:
        """Whom the inner store tells of its steps."""
        return self.inner.observe

    @observe.setter
    def observe(self, observer: Observer) -> None:
        self.inner.observe = observer

    def write(self, batches: Mapping[type[Model], Sequence[Model]], claims: Sequence[Claim] = ()) -> None:
        """Nothing; rows and claims are stored, and then known, to all listeners too."""
        with self.writing:
            self.inner.write(batches, claims)
            with self._lock:
                for claim in claims:
                    known = self._claims.get(claim.dataset)
                    if known is not None:
                        known[claim] = None
                        self._forget(claim.dataset)
            for listener in self.listeners:
                listener(batches, claims)

    def claims(self, dataset: Dataset) -> list[Claim]:
        """Every claim about a dataset, each once."""
        return list(self._known(dataset))

    def held(self, dataset: Dataset) -> Spans:
        """The times that are held."""
        return self._worked_out(dataset, held)

    def settled(self, dataset: Dataset) -> Spans:
        """The times of which nothing more is to be had."""
        return self._worked_out(dataset, settled)

    def solid(self, dataset: Dataset) -> Spans:
        """The times of which another question would not tell more."""
        return self._worked_out(dataset, solid)

    def compact(self, dataset: Dataset) -> None:
        """Nothing; where a dataset has many claims, as few as say the same are kept."""
        there = self.claims(dataset)
        if len(there) < 2 * self._few.get(dataset, MANY // 2):
            return
        few, known = set(compacted(there)), set(there)
        self.replace_claims(list(few - known), list(known - few))
        self._few[dataset] = max(MANY // 2, len(few))

    def replace_claims(self, new: Sequence[Claim], old: Sequence[Claim]) -> None:
        """Nothing; the new ones are stored and known, the old ones are not."""
        self.inner.replace_claims(new, old)
        with self._lock:
            for claim in (*new, *old):
                self._claims.pop(claim.dataset, None)  # others may have been written meanwhile: read anew
                self._forget(claim.dataset)

    def _known(self, dataset: Dataset) -> Sequence[Claim]:
        with self._lock:
            known = self._claims.get(dataset)
            if known is None:
                known = self._claims[dataset] = dict.fromkeys(self.inner.claims(dataset))
            return list(known)

    def _worked_out(self, dataset: Dataset, what: Callable[[Iterable[Claim]], Spans]) -> Spans:
        with self._lock:
            spans = self._spans.get((dataset, what))
            if spans is None:
                spans = self._spans[dataset, what] = what(self._known(dataset))
            return spans

    def _forget(self, dataset: Dataset) -> None:
        for what in (held, settled, solid):
            self._spans.pop((dataset, what), None)

    # ---------------------------------------------------------------- as the inner one has it

    def migrate(self) -> list[str]:
        """The names of the changes made."""
        return self.inner.migrate()

    def tentative(self) -> None:
        """Nothing; what opening it made is gone when nothing is written."""
        self.inner.tentative()

    def read(self, dataset: Dataset, start: int, end: int) -> list[Model]:
        """The rows in [start, end)."""
        return self.inner.read(dataset, start, end)

    def read_list(self, model: type[M], venue: str) -> list[M]:
        """Every row of a venue."""
        return self.inner.read_list(model, venue)

    def datasets(self) -> list[Dataset]:
        """Every dataset with claims or rows."""
        return self.inner.datasets()

    def summary(self) -> list[Summary]:
        """What is there, dataset by dataset."""
        return self.inner.summary()

    def query(self, sql: str, form: str = "JSON") -> bytes:
        """The answer of the store's own SQL."""
        return self.inner.query(sql, form)

    def close(self) -> None:
        """Nothing; the inner store is released."""
        self.inner.close()
