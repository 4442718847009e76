"""The forms of a model, each a table from kinds of columns: JSON, Arrow, ClickHouse.

Whatever a form cannot hold exactly is refused; nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tradeflood.errors import StoreError, UsageError
from tradeflood.models.base import Column, Kind, Model
from tradeflood.models.time import iso, parse_time

if TYPE_CHECKING:
    import pyarrow as pa

M = TypeVar("M", bound=Model)

DIGITS, SCALE = 38, 18
"""Decimal(38, 18): 20 digits before the point and 18 after it, in every store."""

# ---------------------------------------------------------------- JSON


def decimal_text(value: Decimal) -> str:
    """A decimal in plain digits, never in powers of ten."""
    return f"{value:f}"


_TO_JSON: dict[Kind, Callable[[Any], Any]] = {Kind.DECIMAL: decimal_text, Kind.TIME: iso, Kind.TEXT: str}


def to_json(row: Model) -> dict[str, Any]:
    """A row as JSON values: decimals as text, times as ISO 8601 in UTC, what is empty as null."""
    return {
        column.name: value if value is None else _TO_JSON.get(column.kind, _itself)(value)
        for column in row.columns()
        for value in (getattr(row, column.name),)
    }


def from_json(model: type[M], values: Mapping[str, Any]) -> M:
    """The row of its JSON values; decimals also as numbers that were read exactly.

    Raises UsageError that names the field.
    """
    known = {column.name: column for column in model.columns()}
    for name in values:
        if name not in known:
            raise UsageError(f"{model.name()}: no field {name!r}; there are {', '.join(known)}")
    out = {name: _parsed(model, known[name], value) for name, value in values.items()}
    for column in known.values():
        if column.name not in out and not column.has_default:
            raise UsageError(f"{model.name()}: the field {column.name!r} is missing")
    return model(**out)


def _parsed(model: type[Model], column: Column, value: Any) -> Any:
    if value is None:
        if not column.optional:
            raise UsageError(f"{model.name()}.{column.name}: must not be empty")
        return None
    try:
        return _FROM_JSON[column.kind](column, value)
    except (TypeError, ValueError, InvalidOperation, UsageError) as error:
        raise UsageError(f"{model.name()}.{column.name}: no {column.kind.value}: {value!r}") from error


def _text(column: Column, value: Any) -> str:
    if not isinstance(value, str) or (column.choices and value not in column.choices):
        raise ValueError(value)
    return column.enum(value) if column.enum else value


def _integer(_: Column, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(value)
    return value


def _decimal(_: Column, value: Any) -> Decimal:
    if isinstance(value, bool | float):
        raise TypeError(value)
    out = Decimal(value)
    if not out.is_finite():
        raise ValueError(value)
    return out


def _flag(_: Column, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


_FROM_JSON: dict[Kind, Callable[[Column, Any], Any]] = {
    Kind.TEXT: _text,
    Kind.INTEGER: _integer,
    Kind.DECIMAL: _decimal,
    Kind.TIME: lambda _, value: parse_time(value),
    Kind.FLAG: _flag,
}

# ---------------------------------------------------------------- Arrow


def arrow_schema(model: type[Model]) -> pa.Schema:
    """The Arrow schema: decimal128(38, 18), timestamps in ns UTC; what may be empty is nullable."""
    import pyarrow as pa

    kinds = {
        Kind.TEXT: pa.string(),
        Kind.INTEGER: pa.int64(),
        Kind.DECIMAL: pa.decimal128(DIGITS, SCALE),
        Kind.TIME: pa.timestamp("ns", tz="UTC"),
        Kind.FLAG: pa.bool_(),
    }
    return pa.schema([pa.field(column.name, kinds[column.kind], column.optional) for column in model.columns()])


# ValueError: pyarrow's own errors for a value, and text that is no Unicode. TypeError: its errors for a type.
_UNFIT = (ValueError, TypeError, OverflowError)


def to_arrow(model: type[Model], rows: Sequence[Model]) -> pa.Table:
    """The rows as an Arrow table.

    Raises StoreError that names row and field where a decimal needs more than 38 digits, 18 of them after the
    point, or where any other value does not fit its column.
    """
    import pyarrow as pa

    if isinstance(rows, Tabled):
        return rows.table
    schema = arrow_schema(model)
    columns = []
    for field, values in zip(schema, _by_column(model)(rows), strict=True):  # type: ignore[arg-type]  # a class has a hash
        try:
            column = pa.array(values, field.type)
        except _UNFIT as error:
            raise StoreError(_unfit(model, rows, field, values)) from error
        if column.null_count and not field.nullable:
            raise StoreError(_unfit(model, rows, field, values))
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


class Tabled(tuple[M, ...]):  # noqa: SLOT001 - a tuple has no slots
    """Rows of one model with the Arrow table that they make, made once; that it could be made shows that all of them fit."""

    table: pa.Table

    def __new__(cls, model: type[M], rows: Sequence[M]) -> Self:
        """The rows, as they are now. Raises what `to_arrow` raises."""
        self = super().__new__(cls, rows)
        self.table = to_arrow(model, rows)
        return self


@cache
def _by_column(model: type[Model]) -> Callable[[Sequence[Model]], list[list[Any]]]:
    """What gives the values of rows, field by field; written out, for every row that is stored passes here."""
    fields = ", ".join(f"[row.{column.name} for row in rows]" for column in model.columns())
    names: dict[str, Any] = {}
    exec(f"def by_column(rows): return [{fields}]", names)  # noqa: S102 - only names of fields, which Python itself took
    return names["by_column"]  # type: ignore[no-any-return]


def _unfit(model: type[Model], rows: Sequence[Model], field: pa.Field, values: list[Any]) -> str:
    import pyarrow as pa

    for row, value in zip(rows, values, strict=True):
        try:
            fits = value is not None or field.nullable
            pa.array([value], field.type)
        except _UNFIT:
            fits = False
        if not fits:
            key = ":".join(str(getattr(row, name)) for name in model.key)
            return f"{model.name()} {key}: {field.name} = {value!r} does not fit {field.type}"
    return f"{model.name()}: the column {field.name} does not fit {field.type}"


def from_arrow(model: type[M], table: pa.Table) -> list[M]:
    """The rows of an Arrow table that has the model's columns, in the table's order."""
    import pyarrow as pa

    columns = []
    for column in model.columns():
        values = table.column(column.name)
        if column.kind is Kind.TIME:
            values = values.cast(pa.int64())
        elif column.kind is Kind.DECIMAL:
            values = values.cast(pa.string())  # text is a third of the way that pyarrow takes to a Decimal
        got = values.to_pylist()
        if column.kind is Kind.DECIMAL:
            got = [None if text is None else _from_text(text) for text in got]
        elif column.enum:
            members = {member.value: member for member in column.enum}
            got = [None if value is None else members[value] for value in got]
        columns.append(got)
    return [model(*values) for values in zip(*columns, strict=True)]


def _from_text(text: str) -> Decimal:
    """The decimal of a text that has a point, or a power of ten."""
    return plain(Decimal(text)) if "E" in text or "." not in text else Decimal(text.rstrip("0").rstrip("."))


def plain(value: Decimal) -> Decimal:
    """The same number without the zeros that a fixed scale put behind it, and without powers of ten."""
    text = f"{value:f}"
    return Decimal(text.rstrip("0").rstrip(".") if "." in text else text)


def write_parquet(table: pa.Table, where: Any) -> None:
    """Nothing; the table is written as Parquet to a path or a binary file."""
    import pyarrow.parquet as pq

    pq.write_table(table, where)


# ---------------------------------------------------------------- ClickHouse

_CLICKHOUSE = {
    Kind.TEXT: "String",
    Kind.INTEGER: "Int64",
    Kind.DECIMAL: f"Decimal({DIGITS}, {SCALE})",
    Kind.TIME: "DateTime64(9, 'UTC')",
    Kind.FLAG: "Bool",
}


def clickhouse_type(model: type[Model], column: Column) -> str:
    """The column's type: text with few values is LowCardinality; what may be empty is Nullable."""
    kind = _CLICKHOUSE[column.kind]
    if column.optional:
        kind = f"Nullable({kind})"
    few = column.kind is Kind.TEXT and (column.name in model.key[:-1] or column.choices)
    return f"LowCardinality({kind})" if few else kind


def clickhouse_columns(model: type[Model]) -> dict[str, str]:
    """Column → ClickHouse type, in the order of the fields."""
    return {column.name: clickhouse_type(model, column) for column in model.columns()}


def _itself(value: Any) -> Any:
    return value
