"""What no row may hold, whoever made it: numbers that are none, and what no store can hold exactly."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation, Rounded
from functools import cache, reduce
from operator import attrgetter
from typing import Any, TypeVar

from tradeflood.errors import PayloadChanged
from tradeflood.models.base import Kind, Model
from tradeflood.models.forms import DIGITS, SCALE
from tradeflood.models.time import iso, parse_time

M = TypeVar("M", bound=Model)

_MOST = Decimal(10) ** (DIGITS - SCALE)
_LEAST = -_MOST
_INT64 = 1 << 63
_SINCE = parse_time(
    "1971-01-01"
)  # a time read in a unit too small by a thousand or more lies in 1970, where no venue has rows
_UNIT = Decimal(1).scaleb(-SCALE)
_ZERO = Decimal(0)
_add = Context(prec=2 * DIGITS, traps=[Rounded, InvalidOperation]).add
_quantize = Context(prec=DIGITS, traps=[Inexact, InvalidOperation]).quantize


class _Absurd(Exception):
    """A value out of all bounds."""


_UNSOUND = (_Absurd, InvalidOperation, TypeError)  # NaN has no order: comparing it is an invalid operation


def checked(row: M) -> M:
    """The row itself, looked at quickly: see `all_checked`."""
    return all_checked(type(row), [row])[0]


def all_checked(model: type[M], rows: list[M]) -> list[M]:
    """The rows themselves, looked at quickly: what comes live passes here.

    Raises PayloadChanged that names the field of the first row where a decimal is NaN, infinite or absurdly large, or
    the time is none, or one of 1970: the venue has changed its unit, or lost digits.
    """
    glance = _glance(model)  # type: ignore[arg-type]  # a class has a hash, whatever its rows have
    try:
        glance(rows)
    except _UNSOUND:
        for row in rows:
            try:
                glance([row])
            except _UNSOUND:
                raise _refusal(row) from None
    return rows


def exact(row: M) -> M:
    """The row itself, looked at in full: every store holds it exactly, as do all other forms.

    Raises PayloadChanged that names the field where a decimal has more than 38 digits, 18 of them after the point, a
    whole number more than 64 bits, or where the time is one of 1970.
    """
    decimals, integers = _columns(type(row))  # type: ignore[arg-type]  # a class has a hash, whatever its rows have
    try:
        if row.time is not None and 0 <= getattr(row, row.time) < _SINCE:
            raise _Absurd
        for value in decimals(row):
            if value is not None and _quantize(value, _UNIT).is_nan():
                raise _Absurd
        for number in integers(row):
            if number is not None and not -_INT64 <= number < _INT64:
                raise _Absurd
    except (_Absurd, Inexact, InvalidOperation, TypeError):
        raise _refusal(row) from None
    return row


def all_exact(model: type[Model], rows: Sequence[Model]) -> bool:
    """Whether a look at whole columns finds that every store holds each row exactly; where not, ask `exact` of each."""
    try:
        for column in model.columns():
            if column.kind not in _COUNTED:
                continue
            values = list(map(attrgetter(column.name), rows))
            if column.optional and None in values:
                values = [value for value in values if value is not None]
            if column.kind is Kind.DECIMAL:
                places = reduce(_add, values, _ZERO).as_tuple().exponent  # a sum has as many as any of its parts
                if not (places >= -SCALE and _LEAST < min(values, default=_ZERO) <= max(values, default=_ZERO) < _MOST):  # type: ignore[operator]  # of NaN it is a letter: TypeError
                    return False
            else:
                array("q", values)
    except (Rounded, InvalidOperation, TypeError, OverflowError):
        return False
    return True


_COUNTED = {Kind.DECIMAL, Kind.INTEGER, Kind.TIME}
_Get = Callable[[Any], tuple[Any, ...]]


@cache
def _glance(model: type[Model]) -> Callable[[list[Any]], None]:
    """What raises where a row of this model is out of bounds; written out, for it looks at every live row."""
    tests = []
    for column in model.columns():
        value = f"row.{column.name}"
        if column.kind is Kind.DECIMAL:
            test = f"LEAST < {value} < MOST"
            tests.append(f"({value} is None or {test})" if column.optional else test)
        elif column.name == model.time:
            tests.append(f"(SINCE <= {value} < AFTER or FIRST <= {value} < 0)")
    lines = [
        "def glance(rows):",
        "  for row in rows:",
        f"    if not ({' and '.join(tests) or True}):",
        "      raise Absurd",
    ]
    names: dict[str, Any] = {
        "LEAST": _LEAST, "MOST": _MOST, "FIRST": -_INT64, "SINCE": _SINCE, "AFTER": _INT64, "Absurd": _Absurd,
    }  # fmt: skip
    exec("\n".join(lines), names)  # noqa: S102 - only names of fields, which Python itself took
    return names["glance"]  # type: ignore[no-any-return]


@cache
def _columns(model: type[Model]) -> tuple[_Get, _Get]:
    decimals = [column.name for column in model.columns() if column.kind is Kind.DECIMAL]
    integers = [column.name for column in model.columns() if column.kind in {Kind.TIME, Kind.INTEGER}]
    return _getter(decimals), _getter(integers)


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
        elif column.name == row.time and isinstance(value, int) and 0 <= value < _SINCE:
            return PayloadChanged(
                f"{row.name()}: {column.name} is {iso(value)}, no time of a market: has the venue changed its unit?"
            )
    return PayloadChanged(f"{row.name()}: a row whose values have other types than its fields")


def _short(value: Decimal | int) -> str:
    text = str(value) if isinstance(value, Decimal) else hex(value) if abs(value) >= 1 << 200 else str(value)
    return text if len(text) <= 50 else f"{text[:40]}…"
