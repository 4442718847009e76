"""Rows that show that something was claimed too early: they lie inside what is held, and the store has not got them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from tradeflood.coverage import Claim, Dataset
from tradeflood.coverage.refute import refuted, touched
from tradeflood.models import Model
from tradeflood.models.time import MINUTE, SECOND
from tradeflood.store.known import KnownStore

GRAIN = SECOND
"""The coarsest time of a venue's rows: the same row may be stored with a finer one."""

APART = 10 * MINUTE
"""Rows that lie further apart are looked up apart."""


def disputes_of(store: KnownStore, dataset: Dataset, rows: Sequence[Model]) -> list[Claim]:
    """What rows refute that are about to be written; nothing where they lie where nothing was claimed, as nearly all do."""
    time = dataset.model.time
    if time is None:
        return []
    times, held = list(map(attrgetter(time), rows)), store.held(dataset)
    if not times or not held.touches(min(times), max(times) + 1):
        return []
    inside = touched(held, rows)
    late = [row for part in near(inside, time) for row in _unknown(store, dataset, part, time)]
    return list(dict.fromkeys(refuted(store.claims(dataset), late))) if late else []


def _unknown(store: KnownStore, dataset: Dataset, rows: Sequence[Model], time: str) -> list[Model]:
    first, last = getattr(rows[0], time), getattr(rows[-1], time)
    known = {row.position for row in store.read(dataset, first - GRAIN, last + GRAIN)}
    return [row for row in rows if row.position not in known]


def near(rows: Iterable[Model], time: str) -> Iterator[list[Model]]:
    """The rows, ascending by time, in parts that lie so near one another that one look at the store serves them all."""
    part: list[Model] = []
    for row in sorted(rows, key=lambda row: getattr(row, time)):
        if part and getattr(row, time) > getattr(part[-1], time) + APART:
            yield part
            part = []
        part.append(row)
    if part:
        yield part
