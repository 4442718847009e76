"""What no row may hold, whoever made it: numbers that are none, and what no store can hold exactly."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

from tradeflood.errors import PayloadChanged
from tradeflood.models.base import Kind, Model
from tradeflood.models.forms import DIGITS, SCALE

M = TypeVar("M", bound=Model)

_MOST = Decimal(10) ** (DIGITS - SCALE)
_LEAST = -_MOST
_INT64 = 1 << 63
_UNIT = Decimal(1).scaleb(-SCALE)
_quantize = Context(prec=DIGITS, traps=[Inexact, InvalidOperation]).quantize


class _Absurd(Exception):
    """A value out of all bounds."""


def checked(row: M) -> M:
    """The row itself, looked at quickly: what comes live passes here.

    Raises PayloadChanged that names the field where a decimal is NaN, infinite or absurdly large, or the time is none.
    """
    decimals, time, _ = _columns(type(row))  # type: ignore[arg-type]  # a class has a hash, whatever its rows have
    try:
        for value in decimals(row):
            if value is not None and not _LEAST < value < _MOST:
                raise _Absurd
        if time is not None and not -_INT64 <= time(row) < _INT64:
            raise _Absurd
    except (_Absurd, InvalidOperation, TypeError):  # NaN has no order: comparing it is an invalid operation
        raise _refusal(row) from None
    return row


def exact(row: M) -> M:
    """The row itself, looked at in full: every store holds it exactly, as do all other forms.

    Raises PayloadChanged that names the field where a decimal has more than 38 digits, 18 of them after the point, or a
    whole number more than 64 bits.
    """
    decimals, _, integers = _columns(type(row))  # type: ignore[arg-type]  # a class has a hash, whatever its rows have
    try:
        for value in decimals(row):
            if value is not None and _quantize(value, _UNIT).is_nan():
                raise _Absurd
        for number in integers(row):
            if number is not None and not -_INT64 <= number < _INT64:
                raise _Absurd
    except (_Absurd, Inexact, InvalidOperation, TypeError):
        raise _refusal(row) from None
    return row


_Get = Callable[[Any], tuple[Any, ...]]


@cache
def _columns(model: type[Model]) -> tuple[_Get, Callable[[Any], int] | None, _Get]:
    decimals = [column.name for column in model.columns() if column.kind is Kind.DECIMAL]
    integers = [column.name for column in model.columns() if column.kind in {Kind.TIME, Kind.INTEGER}]
    return _getter(decimals), attrgetter(model.time) if model.time else None, _getter(integers)


def _getter(names: list[str]) -> _Get:
    if not names:
        return lambda _: ()
    if len(names) == 1:
        get = attrgetter(names[0])
        return lambda row: (get(row),)
    return attrgetter(*names)


def _refusal(row: Model) -> PayloadChanged:
    for column in row.columns():
        value = getattr(row, column.name)
        if isinstance(value, Decimal):
            if not (value.is_finite() and _LEAST < value < _MOST):
                return PayloadChanged(f"{row.name()}: {column.name} is {_short(value)}, no number of a market")
            try:
                _quantize(value, _UNIT)
            except (Inexact, InvalidOperation):
                digits = f"more than {SCALE} digits after the point"
                return PayloadChanged(f"{row.name()}: {column.name} is {_short(value)}: {digits}")
        elif isinstance(value, int) and not -_INT64 <= value < _INT64:
            what = "no time" if column.kind is Kind.TIME else "no number of a market"
            return PayloadChanged(f"{row.name()}: {column.name} is {_short(value)}, {what}")
    return PayloadChanged(f"{row.name()}: a row whose values have other types than its fields")


def _short(value: Decimal | int) -> str:
    text = str(value) if isinstance(value, Decimal) else hex(value) if abs(value) >= 1 << 200 else str(value)
    return text if len(text) <= 50 else f"{text[:40]}…"
