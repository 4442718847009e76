"""`memory://`: a store that lasts as long as its process. Rows are kept as they are, not copied."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from threading import RLock
from typing import Any, TypeVar, cast

from tradeflood.coverage import Claim, Dataset
from tradeflood.errors import StoreError, UsageError
from tradeflood.models import Column, Kind, Model
from tradeflood.models.forms import DIGITS, SCALE
from tradeflood.store.base import Store, Summary, dataset_of, need_time, order_of, version_fields

M = TypeVar("M", bound=Model)

_LIMIT = Decimal(10) ** (DIGITS - SCALE)


class MemoryStore(Store):
    """The simplest store there is, and the measure of the others. It refuses what they refuse."""

    def __init__(self, url: str = "memory://", *, clock: Callable[[], int] = time.time_ns) -> None:
        if url.removeprefix("memory://"):
            raise UsageError(f"store {url}: memory:// takes nothing behind it")
        self.url = url
        self._clock = clock
        self._lock = RLock()
        self._rows: dict[Dataset, dict[Any, tuple[tuple[bool, int], Model]]] = {}
        self._claims: dict[Dataset, dict[Claim, None]] = {}

    def migrate(self) -> list[str]:
        """No names: there is no schema."""
        return []

    def write(self, batches: Mapping[type[Model], Sequence[Model]], claims: Sequence[Claim] = ()) -> None:
        """Nothing; rows, then claims, as the base promises."""
        for model, rows in batches.items():
            for row in rows:
                check(model, row)
        with self._lock:
            now = self._clock()
            self.observe("store.writing", models=len(batches), claims=len(claims))
            for model, rows in batches.items():
                self.observe("rows.writing", model=model.name(), rows=len(rows))
                self._put(model, rows, now)
                self.observe("rows.written", model=model.name(), rows=len(rows))
            if claims:
                self.observe("claims.writing", claims=len(claims))
                for claim in claims:
                    self._claims.setdefault(claim.dataset, {})[claim] = None
                self.observe("claims.written", claims=len(claims))
            self.observe("store.written", models=len(batches), claims=len(claims))

    def _put(self, model: type[Model], rows: Sequence[Model], now: int) -> None:
        fields = version_fields(model)
        for row in rows:
            clock = next((at for name in fields.clocks if (at := getattr(row, name)) is not None), now)
            version = (bool(fields.closed and getattr(row, fields.closed)), max(0, clock))
            place = self._rows.setdefault(dataset_of(row), {})
            known = place.get(row.position)
            if known is None or known[0] <= version:
                place[row.position] = (version, row)

    def read(self, dataset: Dataset, start: int, end: int) -> list[Model]:
        """The rows in [start, end), in their order."""
        field = need_time(dataset)
        with self._lock:
            rows = [row for _, row in self._rows.get(dataset, {}).values() if start <= getattr(row, field) < end]
        return sorted(rows, key=order_of(dataset.model))

    def read_list(self, model: type[M], venue: str) -> list[M]:
        """Every row of a venue, ascending by key."""
        with self._lock:
            rows = [
                row
                for dataset, place in self._rows.items()
                if dataset.model is model and dataset.venue == venue
                for _, row in place.values()
            ]
        order = order_of(model)
        rows.sort(key=lambda row: (dataset_of(row)[1:], order(row)))
        return cast("list[M]", rows)

    def claims(self, dataset: Dataset) -> list[Claim]:
        """Every claim about a dataset, each once."""
        with self._lock:
            return sorted(self._claims.get(dataset, ()), key=lambda claim: (claim.start, claim.end, claim.as_of))

    def replace_claims(self, new: Sequence[Claim], old: Sequence[Claim]) -> None:
        """Nothing; the new ones are there, the old ones are not."""
        self.observe("claims.replacing", new=len(new), old=len(old))
        kept = set(new)
        with self._lock:
            for claim in new:
                self._claims.setdefault(claim.dataset, {})[claim] = None
            for claim in old:
                if claim not in kept:
                    self._claims.get(claim.dataset, {}).pop(claim, None)
        self.observe("claims.replaced", new=len(new), old=len(old))

    def datasets(self) -> list[Dataset]:
        """Every dataset with claims or rows."""
        with self._lock:
            there = {dataset for dataset in self._rows if dataset.model.time} | set(self._claims)
        return sorted(there, key=lambda dataset: (dataset.model.name(), *dataset[1:]))

    def summary(self) -> list[Summary]:
        """What is there, dataset by dataset."""
        with self._lock:
            held = {dataset: [row for _, row in place.values()] for dataset, place in self._rows.items()}
        out = []
        for dataset in sorted(held, key=lambda dataset: (dataset.model.name(), *dataset[1:])):
            if field := dataset.model.time:
                times = [getattr(row, field) for row in held[dataset]]
                out.append(Summary(dataset, len(times), min(times), max(times)))
        return out

    def close(self) -> None:
        """Nothing; the rows stay for as long as somebody has the store."""


def check(model: type[Model], row: Model) -> None:
    """Nothing for a row that every store can hold exactly.

    Raises StoreError that names row and field otherwise.
    """
    for column in model.columns():
        value = getattr(row, column.name)
        fits = column.optional if value is None else _FITS[column.kind](value)
        if not fits:
            key = ":".join(str(getattr(row, name)) for name in model.key)
            raise StoreError(f"{model.name()} {key}: {column.name} = {value!r} does not fit {_wanted(column)}")


def _wanted(column: Column) -> str:
    return f"decimal128({DIGITS}, {SCALE})" if column.kind is Kind.DECIMAL else column.kind.value


def _decimal_fits(value: Any) -> bool:
    """Whether the digits fit; no arithmetic, which would round to the 28 digits of the usual context."""
    if not isinstance(value, Decimal) or not value.is_finite():
        return False
    if value.copy_abs() >= _LIMIT:
        return False
    _, digits, exponent = value.as_tuple()
    beyond = -SCALE - cast("int", exponent)
    return beyond <= 0 or not any(digits[-beyond:])


def _text_fits(value: Any) -> bool:
    return isinstance(value, str) and (value.isascii() or value == value.encode(errors="ignore").decode())


def _integer_fits(value: Any) -> bool:
    return isinstance(value, int) and -(1 << 63) <= value < 1 << 63


_FITS: dict[Kind, Callable[[Any], bool]] = {
    Kind.TEXT: _text_fits,
    Kind.INTEGER: _integer_fits,
    Kind.DECIMAL: _decimal_fits,
    Kind.TIME: _integer_fits,
    Kind.FLAG: lambda value: isinstance(value, bool),
}
