"""What no row may hold, whoever made it: numbers that are none, numbers that no store can hold."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

from tradeflood.errors import PayloadChanged
from tradeflood.models.base import Kind, Model

M = TypeVar("M", bound=Model)

_LARGEST = 20  # digits before the point, as in every store


def checked(row: M) -> M:
    """The row itself.

    Raises PayloadChanged that names the field where a decimal is NaN, infinite or absurdly large or small.
    """
    for value in _decimals(type(row))(row):
        if value is not None and not (value.is_finite() and -40 < value.adjusted() < _LARGEST):
            raise PayloadChanged(f"{row.name()}: {_culprit(row, value)} is {value}, no number of a market")
    return row


@cache
def _decimals(model: type[Model]) -> Callable[[Any], tuple[Decimal | None, ...]]:
    names = [column.name for column in model.columns() if column.kind is Kind.DECIMAL]
    if not names:
        return lambda row: ()
    if len(names) == 1:
        get = attrgetter(names[0])
        return lambda row: (get(row),)
    return attrgetter(*names)


def _culprit(row: Model, value: Decimal) -> str:
    return next(c.name for c in row.columns() if getattr(row, c.name) is value)
