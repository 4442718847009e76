"""The ClickHouse tables, as pure functions from models to SQL: the same text for chdb and for a server.

Rows rest in `<table>_rows`; people and tools read the view `<table>`, which shows each key once at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, cast

import attrs
from attrs import frozen

from tradeflood.coverage import Claim, Dataset, Grade, State
from tradeflood.errors import DeclarationError
from tradeflood.models import Column, Kind, Model
from tradeflood.models.forms import clickhouse_columns
from tradeflood.store.base import has_number, need_time, version_fields

COVERAGE, MIGRATIONS = "coverage", "migrations"
OURS = {COVERAGE, f"{COVERAGE}_rows", MIGRATIONS}

_TIME = "DateTime64(9, 'UTC')"
_WORD = "LowCardinality(String)"
_MAYBE = "Nullable(String)"

# A part that is written is on the disk when the insert returns, so that after a power cut, too, no claim is
# there without its rows. What a merge replaced is kept until the merged part is on the disk by itself, two
# minutes instead of ClickHouse's eight: a live session makes many small parts, and each costs memory.
_DURABLE = "fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 120"


def name(identifier: str) -> str:
    """An identifier as SQL, whatever is in it."""
    return "`" + identifier.replace("\\", "\\\\").replace("`", "\\`") + "`"


def names(identifiers: Iterable[str]) -> str:
    """Identifiers as SQL, with commas between."""
    return ", ".join(map(name, identifiers))


def text(value: str) -> str:
    """A text as an SQL literal, whatever is in it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def bound(value: str | int) -> str:
    """The value of a query parameter, in the escaped form that ClickHouse reads."""
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


# ---------------------------------------------------------------- the layout of a model


@frozen
class Layout:
    """How the rows of a model rest. The partition is made of key columns only: see `layout_of`."""

    table: str
    columns: Mapping[str, str]
    added: Mapping[str, str]
    order_by: tuple[str, ...]
    partition_by: str
    index: str | None
    nullable_key: bool

    @property
    def rows(self) -> str:
        """What the table of the rows is called."""
        return f"{self.table}_rows"

    @property
    def number(self) -> str | None:
        """The column that holds a position's number, if there is one."""
        return next((column for column, kind in self.added.items() if "MATERIALIZED" in kind), None)

    @property
    def stored_at(self) -> str:
        """The column that holds the moment of writing."""
        return list(self.added)[-2]

    @property
    def version(self) -> str:
        """The column whose highest value is kept."""
        return list(self.added)[-1]


def layout_of(model: type[Model]) -> Layout:
    """The layout of a model: sorted by its key, partitioned by venue.

    A partition that depended on anything beside the key would keep a revised row and its old version for
    ever, in two partitions that are never merged; not even FINAL sees across.
    """
    columns = clickhouse_columns(model)
    taken = {*columns}
    optional = {column.name for column in model.columns() if column.optional}
    position = model.key[-1]
    added = {}
    order_by = model.key
    if has_number(model):
        number = _free("seq", taken)
        plain = f"ifNull({name(position)}, '')" if position in optional else name(position)
        added[number] = f"UInt64 MATERIALIZED if(match({plain}, '^[0-9]{{1,19}}$'), toUInt64OrZero({plain}), 0)"
        order_by = (*model.key[:-1], number, position)
    added[_free("stored_at", taken)] = _TIME
    added[_free("version", taken)] = "UInt64"
    return Layout(
        table=model.table,
        columns=columns,
        added=added,
        order_by=order_by,
        partition_by="venue",
        index=model.time if model.time and model.time not in model.key else None,
        nullable_key=bool(optional & set(model.key)),
    )


def _free(wanted: str, taken: set[str]) -> str:
    while wanted in taken:
        wanted += "_"
    taken.add(wanted)
    return wanted


def check_names(models: Iterable[type[Model]]) -> None:
    """Nothing where every table has a name of its own.

    Raises DeclarationError that names both models otherwise.
    """
    owners = dict.fromkeys(OURS, "the store itself")
    for model in models:
        for table in (model.table, f"{model.table}_rows"):
            if (owner := owners.setdefault(table, model.name())) != model.name() or not model.table:
                raise DeclarationError(f"model {model.name()}: the table {table!r} belongs to {owner}; name another")


def create(layout: Layout) -> str:
    """The statement that makes the table of the rows."""
    parts = [f"{name(column)} {kind}" for column, kind in (*layout.columns.items(), *layout.added.items())]
    if layout.index:
        parts.append(f"INDEX {name(f'{layout.index}_range')} {name(layout.index)} TYPE minmax GRANULARITY 1")
    settings = _DURABLE + (", allow_nullable_key = 1" if layout.nullable_key else "")
    return (
        f"CREATE TABLE IF NOT EXISTS {name(layout.rows)} ({', '.join(parts)}) "
        f"ENGINE = ReplacingMergeTree({name(layout.version)}) PARTITION BY {layout.partition_by} "
        f"ORDER BY ({names(layout.order_by)}) SETTINGS {settings}"
    )


def create_view(layout: Layout) -> str:
    """The statement that makes the view which people read."""
    shown = names([*layout.columns, *([layout.number] if layout.number else []), layout.stored_at])
    return f"CREATE OR REPLACE VIEW {name(layout.table)} AS SELECT {shown} FROM {name(layout.rows)} FINAL"


def add_column(layout: Layout, model: type[Model], column: Column) -> str:
    """The statement that adds a column; rows that are there already read as the field's default."""
    fields: Any = attrs.fields(cast("type[attrs.AttrsInstance]", model))
    default = getattr(fields, column.name).default
    plain = isinstance(default, str | int | Decimal)  # not: none, no default, a factory
    after = f" DEFAULT {_literal(column, default)}" if plain else ""
    kind = f"{name(column.name)} {layout.columns[column.name]}{after}"
    return f"ALTER TABLE {name(layout.rows)} ADD COLUMN IF NOT EXISTS {kind}"


def _literal(column: Column, value: Any) -> str:
    if column.kind is Kind.TIME:
        return f"fromUnixTimestamp64Nano(toInt64({value}), 'UTC')"
    if column.kind is Kind.FLAG:
        return "true" if value else "false"
    if column.kind is Kind.INTEGER:
        return str(int(value))
    if isinstance(value, Decimal):
        return text(f"{value:f}")
    return text(str(value.value if isinstance(value, Enum) else value))


def insert(layout: Layout, model: type[Model], source: str, stored_at: int) -> str:
    """The statement that puts rows from a source in, with the moment of writing and their version.

    One thread, so that of two rows with one version the later one of the batch is kept; any number of
    partitions, because a batch may hold any number of venues. What a batch repeats is left to FINAL and to the merges,
    as is what two batches repeat: to look for it in every insert takes a fifth of its time.
    """
    fields = version_fields(model)
    now = f"fromUnixTimestamp64Nano(toInt64({stored_at}), 'UTC')"
    clock = f"coalesce({', '.join((*map(name, fields.clocks), now))})"
    version = f"toUInt64(greatest(toUnixTimestamp64Nano({clock}), 0))"
    if fields.closed:
        version = f"bitOr(bitShiftLeft(toUInt64(ifNull({name(fields.closed)}, false)), 63), {version})"
    columns = names(layout.columns)
    return (
        f"INSERT INTO {name(layout.rows)} ({columns}, {name(layout.stored_at)}, {name(layout.version)}) "
        f"SELECT {columns}, {now}, {version} FROM {source} "
        "SETTINGS max_threads = 1, max_insert_threads = 1, max_partitions_per_insert_block = 0, optimize_on_insert = 0"
    )


# ---------------------------------------------------------------- questions


@frozen
class Question:
    """A statement with the values of its parameters; names in it are SQL already, values never are."""

    sql: str
    values: Mapping[str, str]


def select(layout: Layout, dataset: Dataset, start: int, end: int) -> Question:
    """The rows of a dataset in [start, end), in their order."""
    time = need_time(dataset)
    key = dataset.model.key[:-1]
    values = dict(zip(key, (dataset.venue, dataset.market, *dataset.variant), strict=True))
    where = [f"{name(column)} = {{k{number}:String}}" for number, column in enumerate(key)]
    where += [
        f"{name(time)} >= fromUnixTimestamp64Nano({{start:Int64}}, 'UTC')",
        f"{name(time)} <= fromUnixTimestamp64Nano({{last:Int64}}, 'UTC')",
    ]
    order = [time, *layout.order_by[len(key) :]]
    parameters = {f"k{number}": bound(value) for number, value in enumerate(values.values())}
    parameters |= {"start": bound(_int64(start)), "last": bound(_int64(end - 1))}
    return Question(
        f"SELECT {names(layout.columns)} FROM {name(layout.rows)} FINAL "
        f"WHERE {' AND '.join(where)} ORDER BY {names(order)}",
        parameters,
    )


def _int64(value: int) -> int:
    return min(max(value, -(1 << 63)), (1 << 63) - 1)


def select_list(layout: Layout, venue: str) -> Question:
    """Every row of a venue, in the order of the key."""
    return Question(
        f"SELECT {names(layout.columns)} FROM {name(layout.rows)} FINAL "
        f"WHERE venue = {{venue:String}} ORDER BY {names(layout.order_by)}",
        {"venue": bound(venue)},
    )


def select_datasets(layout: Layout, model: type[Model]) -> Question:
    """The keys of every dataset with rows."""
    key = names(model.key[:-1])
    return Question(f"SELECT DISTINCT {key} FROM {name(layout.rows)} ORDER BY {key}", {})


def select_summary(layout: Layout, model: type[Model]) -> Question:
    """The key, the number of rows, and the first and last time of every dataset with rows."""
    key, time = names(model.key[:-1]), name(model.time or "")
    ends = ", ".join(f"toUnixTimestamp64Nano({end}({time}))" for end in ("min", "max"))
    return Question(f"SELECT {key}, count(), {ends} FROM {name(layout.rows)} FINAL GROUP BY {key} ORDER BY {key}", {})


# ---------------------------------------------------------------- claims

_CLAIM = {
    "venue": _WORD,
    "market": _WORD,
    "model": _WORD,
    "variant": _WORD,
    "start": _TIME,
    "end": _TIME,
    "state": _WORD,
    "grade": "LowCardinality(Nullable(String))",
    "evidence": _WORD,
    "count": "Int64",
    "digest": "String",
    "as_of": _TIME,
    "parser": _WORD,
    "left": _MAYBE,
    "right": _MAYBE,
}
_LATER = {"refutes": "Nullable(Int64)"}  # gained by a change after the table was made; a moment in ns
_SHOWN = {**_CLAIM, **_LATER}
_FIELDS = ("start", "end", "evidence", "count", "digest", "as_of", "parser", "left", "right", "refutes")
# For people: the parts of the variant that have names of their own. `variant` is all of it, as JSON.
_SPREAD = {"interval": _WORD, "kind": _WORD, "origin": _WORD}


def variant_text(variant: Sequence[str]) -> str:
    """A variant as one text that splits in one way only."""
    return json.dumps(list(variant), ensure_ascii=False)


def claim_columns(claims: Sequence[Claim]) -> dict[str, list[Any]]:
    """Column → values; times in ns."""
    spread = [dict(zip(c.dataset.model.key[2:-1], c.dataset.variant, strict=True)) for c in claims]
    return {
        "venue": [claim.dataset.venue for claim in claims],
        "market": [claim.dataset.market for claim in claims],
        "model": [claim.dataset.model.name() for claim in claims],
        "variant": [variant_text(claim.dataset.variant) for claim in claims],
        "state": [claim.state.value for claim in claims],
        "grade": [claim.grade.value if claim.grade else None for claim in claims],
        **{field: [getattr(claim, field) for claim in claims] for field in _FIELDS},
        **{column: [values.get(column, "") for values in spread] for column in _SPREAD},
    }


def claim_of(dataset: Dataset, row: Mapping[str, Any]) -> Claim:
    """The claim of a row of the coverage table; times in ns."""
    plain = {field: row[field] for field in _FIELDS}
    grade = row["grade"]
    return Claim(dataset=dataset, state=State(row["state"]), grade=grade and Grade(grade), **plain)


def insert_claims(source: str, stored_at: int) -> str:
    """The statement that puts claims from a source in."""
    columns = names([*_SHOWN, *_SPREAD])
    return (
        f"INSERT INTO coverage_rows ({columns}, stored_at) "
        f"SELECT {columns}, fromUnixTimestamp64Nano(toInt64({stored_at}), 'UTC') FROM {source}"
    )


def select_claims(dataset: Dataset) -> Question:
    """Every claim about a dataset, once, times in ns."""
    shown = [
        f"toUnixTimestamp64Nano({name(c)}) AS {name(c)}" if kind == _TIME else name(c) for c, kind in _SHOWN.items()
    ]
    return Question(
        f"SELECT {', '.join(shown)} FROM (SELECT * FROM coverage_rows FINAL WHERE venue = {{venue:String}} "
        "AND market = {market:String} AND model = {model:String} AND variant = {variant:String} "
        f"ORDER BY start, end, as_of, {names(_SHOWN)})",
        {
            "venue": bound(dataset.venue),
            "market": bound(dataset.market),
            "model": bound(dataset.model.name()),
            "variant": bound(variant_text(dataset.variant)),
        },
    )


def delete_claims(claims: Sequence[Claim]) -> Question:
    """The statement that takes claims of one dataset out."""
    dataset = claims[0].dataset
    values = {"venue": bound(dataset.venue), "market": bound(dataset.market), "model": bound(dataset.model.name())}
    values |= {"variant": bound(variant_text(dataset.variant))}
    parts = []
    for number, claim in enumerate(claims):
        tests = [
            f"toUnixTimestamp64Nano({name(field)}) = {getattr(claim, field)}" for field in ("start", "end", "as_of")
        ]
        for field in ("count", "refutes", "state", "grade", "evidence", "digest", "parser", "left", "right"):
            value = getattr(claim, field)
            if value is None:
                tests.append(f"{name(field)} IS NULL")
            elif isinstance(value, int):
                tests.append(f"{name(field)} = {value}")
            else:
                values[f"{field}{number}"] = bound(str(value))
                tests.append(f"{name(field)} = {{{field}{number}:String}}")
        parts.append(" AND ".join(tests))
    return Question(
        "DELETE FROM coverage_rows WHERE venue = {venue:String} AND market = {market:String} AND model = {model:String} "
        f"AND variant = {{variant:String}} AND (({') OR ('.join(parts)}))",
        values,
    )


def select_claimed() -> Question:
    """The keys of every dataset with claims."""
    return Question("SELECT DISTINCT model, venue, market, variant FROM coverage_rows ORDER BY ALL", {})


# ---------------------------------------------------------------- changes that are written by hand


@frozen
class Change:
    """One change of the schema: its number and date belong to the table, and never change again."""

    table: str
    number: int
    date: str
    title: str
    statements: tuple[str, ...]

    @property
    def label(self) -> str:
        """The change in words: `coverage 0001 2026-11-20 create`."""
        return f"{self.table} {self.number:04} {self.date} {self.title}"


CREATE_MIGRATIONS = (
    f"CREATE TABLE IF NOT EXISTS migrations (`table` String, number UInt32, date Date, title String, sql String, applied_at {_TIME}) "
    f"ENGINE = ReplacingMergeTree(applied_at) ORDER BY (`table`, number) SETTINGS {_DURABLE}"
)

_claim_table = ", ".join(f"{name(column)} {kind}" for column, kind in {**_CLAIM, **_SPREAD, "stored_at": _TIME}.items())
_claim_view = ", ".join(
    [*map(name, _CLAIM), *(f"nullIf({name(column)}, '') AS {name(column)}" for column in _SPREAD), "stored_at"]
)

WRITTEN = (
    Change(
        COVERAGE,
        1,
        "2026-11-20",
        "create",
        (
            # Every field is in the key: the same claim written twice is there once, and no claim replaces another.
            (
                f"CREATE TABLE IF NOT EXISTS coverage_rows ({_claim_table}) ENGINE = ReplacingMergeTree(stored_at) "
                f"ORDER BY ({names(_CLAIM)}) SETTINGS allow_nullable_key = 1, {_DURABLE}"
            ),
            f"CREATE OR REPLACE VIEW coverage AS SELECT {_claim_view} FROM (SELECT * FROM coverage_rows FINAL)",
        ),
    ),
    Change(
        COVERAGE,
        2,
        "2026-11-20",
        "add refutes",
        (
            # In the key as well, which ClickHouse allows for a column that is added in the same statement.
            (
                "ALTER TABLE coverage_rows ADD COLUMN IF NOT EXISTS refutes Nullable(Int64) AFTER `right`, "
                f"MODIFY ORDER BY ({names(_CLAIM)}, refutes)"
            ),
            (
                "CREATE OR REPLACE VIEW coverage AS SELECT "
                f"{_claim_view}, fromUnixTimestamp64Nano(refutes, 'UTC') AS refutes FROM (SELECT * FROM coverage_rows FINAL)"
            ),
        ),
    ),
)
