"""What no row may hold, whoever made it: numbers that are none, numbers that no store can hold."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

from tradeflood.errors import PayloadChanged
from tradeflood.models.base import Kind, Model

M = TypeVar("M", bound=Model)

_MOST = Decimal(10) ** 20  # the digits before the point that every store has
_LEAST = -_MOST


class _Absurd(Exception):  # noqa: N818 - never leaves this module
    """A number out of all bounds."""


def checked(row: M) -> M:
    """The row itself.

    Raises PayloadChanged that names the field where a decimal is NaN, infinite or absurdly large.
    """
    try:
        for value in _decimals(type(row))(row):
            if value is not None and not _LEAST < value < _MOST:
                raise _Absurd(value)
    except (_Absurd, InvalidOperation):  # NaN has no order: comparing it is an invalid operation
        name, value = _culprit(row)
        raise PayloadChanged(f"{row.name()}: {name} is {value}, no number of a market") from None
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


def _culprit(row: Model) -> tuple[str, Decimal]:
    for column in row.columns():
        value = getattr(row, column.name)
        if isinstance(value, Decimal) and not (value.is_finite() and _LEAST < value < _MOST):
            return column.name, value
    raise AssertionError(row)  # pragma: no cover - called when one is wrong
