"""Identity where a venue has no ids: what a row says of itself, and an ordinal among those that say the same.

Equal trades in one millisecond are real, so what a venue sends is not yet an id. An ordinal is given within one
observation (a page, or a live session): of k equal rows the ids are `x:0` … `x:k-1`, in whatever order they came.
Two observations of the same k rows therefore agree, and observations are united, never summed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from types import MappingProxyType
from typing import TypeVar

from attrs import evolve

from tradeflood.models.base import Model
from tradeflood.models.trade import Trade

M = TypeVar("M", bound=Model)

_WIDE = Context(prec=100)  # the usual context would round to 28 digits
_NONE: Mapping[str, int] = MappingProxyType({})


def digits(number: Decimal) -> str:
    """A number as text, one spelling per value: no exponent, no zeros at its end.

    >>> digits(Decimal("0.0020")), digits(Decimal("1.47E+9")), digits(Decimal("0E-10"))
    ('0.002', '1470000000', '0')
    """
    return format(_WIDE.normalize(number), "f") if number else "0"


def number_equals(rows: Iterable[M], before: Mapping[str, int] = _NONE) -> list[M]:
    """The rows of one observation, each position with an ordinal added: of k equal ones `x:0` … `x:k-1`.

    `before` says how many of each position the observation had already, where it comes in parts as a live session
    does. Rows are of one dataset; none is changed, new ones are returned.
    """
    seen = dict(before)
    numbered = []
    for row in rows:
        position = str(row.position)
        ordinal = seen.get(position, 0)
        seen[position] = ordinal + 1
        numbered.append(evolve(row, **{row.key[-1]: f"{position}:{ordinal}"}))  # type: ignore[misc]  # a model is one
    return numbered


REMEMBERED = 20_000
"""How many different ids a live connection remembers; equal trades lie close together in time."""


class Ordinals:
    """The numbering of one live connection, which sees its trades message by message."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._order: deque[str] = deque()
        self._last: int | None = None

    def repeats(self, sequence: int | None) -> bool:
        """Whether a message of this number came already; it is remembered."""
        if sequence is None:
            return False
        if self._last is not None and sequence <= self._last:
            return True
        self._last = sequence
        return False

    def of_live(self, trades: Iterable[Trade]) -> list[Trade]:
        """Trades, numbered on from those before."""
        listed = list(trades)
        numbered = number_equals(listed, self._count)
        for trade in listed:
            if trade.trade_id not in self._count:
                self._order.append(trade.trade_id)
            self._count[trade.trade_id] += 1
        while len(self._order) > REMEMBERED:
            del self._count[self._order.popleft()]
        return numbered
