"""`chdb://path`: ClickHouse inside this process, its data in a folder. Needs the extra `embedded`."""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar, Self, TextIO, TypeVar, cast

from tradeflood.coverage import Claim, Dataset
from tradeflood.coverage.refute import disputed
from tradeflood.errors import StoreError, UsageError
from tradeflood.models import Model
from tradeflood.models.forms import from_arrow, to_arrow
from tradeflood.store import tables
from tradeflood.store.base import Store, Summary
from tradeflood.store.tables import Change, Layout, Question

if TYPE_CHECKING:
    import pyarrow as pa

M = TypeVar("M", bound=Model)

_AT_ONCE = 100  # claims that one statement takes out

_ARROW = "output_format_arrow_string_as_string = 1, output_format_arrow_low_cardinality_as_dictionary = 0"

DAMAGED = "part of it was damaged in the store"
_TOLD = "SELECT title FROM migrations WHERE `table` = 'damaged'"

ROOM = 64 << 20
"""How many bytes of the disk are left free. Where a disk is full in the middle of a write, chdb 4.4 says that it has
written what it has not, and the table cannot be read any more: it must never come to that."""


class ChdbStore(Store):
    """The embedded store. Two of one path in one process share it; one process holds one path at a time."""

    columnar = True

    def __init__(self, url: str, *, clock: Callable[[], int] = time.time_ns) -> None:
        self.url = url
        self._clock = clock
        self._engine: _Engine | None = _Engine.of(url, _path(url))

    def close(self) -> None:
        """Nothing; the path is free once nobody in this process has it open."""
        engine, self._engine = self._engine, None
        if engine:
            engine.release()

    def tentative(self) -> None:
        """Nothing; a folder that was made for it goes when it is closed, where nothing was written until then."""
        with self._open() as engine:
            engine.goes = engine.is_new

    # -- writing

    def write(self, batches: Mapping[type[Model], Sequence[Model]], claims: Sequence[Claim] = ()) -> None:
        """Nothing; rows, then claims, as the base promises."""
        full = {model: to_arrow(model, rows) for model, rows in batches.items() if rows}
        claimed = _claim_table(claims) if claims else None
        with self._open() as engine:
            self._base(engine)
            layouts = {model: self._ready(engine, model) for model in full}
            engine.need_room()
            if full or claims:
                engine.is_new = engine.goes = False
            self.observe("store.writing", models=len(full), claims=len(claims))
            for model, rows in full.items():
                self.observe("rows.writing", model=model.name(), rows=len(rows))
                engine.insert(tables.insert(layouts[model], model, "Python(rows)", engine.now(self._clock)), rows)
                self.observe("rows.written", model=model.name(), rows=len(rows))
            if claimed is not None:
                self.observe("claims.writing", claims=len(claims))
                engine.insert(tables.insert_claims("Python(rows)", engine.now(self._clock)), claimed)
                self.observe("claims.written", claims=len(claims))
            self.observe("store.written", models=len(full), claims=len(claims))

    # -- reading

    def read(self, dataset: Dataset, start: int, end: int) -> list[Model]:
        """The rows in [start, end), in their order."""
        with self._open() as engine:
            question = tables.select(self._ready(engine, dataset.model), dataset, start, end)
            return from_arrow(dataset.model, engine.ask(question))

    def read_list(self, model: type[M], venue: str) -> list[M]:
        """Every row of a venue, ascending by key."""
        with self._open() as engine:
            return from_arrow(model, engine.ask(tables.select_list(self._ready(engine, model), venue)))

    def claims(self, dataset: Dataset) -> list[Claim]:
        """Every claim about a dataset, each once."""
        with self._open() as engine:
            self._base(engine)
            return [tables.claim_of(dataset, row) for row in engine.ask(tables.select_claims(dataset)).to_pylist()]

    def replace_claims(self, new: Sequence[Claim], old: Sequence[Claim]) -> None:
        """Nothing; the new ones are stored, then the old ones taken out."""
        self.observe("claims.replacing", new=len(new), old=len(old))
        self.write({}, new)
        self.observe("claims.joined", new=len(new), old=len(old))
        kept = set(new)
        gone = [claim for claim in old if claim not in kept]
        with self._open() as engine:
            for at in range(0, len(gone), _AT_ONCE):
                question = tables.delete_claims(gone[at : at + _AT_ONCE])
                engine.run(question.sql, question.values)
        self.observe("claims.replaced", new=len(new), old=len(old))

    def datasets(self) -> list[Dataset]:
        """Every dataset with claims or rows, of the models that this process knows."""
        found = set()
        with self._open() as engine:
            self._base(engine)
            for row in engine.ask(tables.select_claimed()).to_pylist():
                if model := Model.models.get(row["model"]):
                    found.add(Dataset(model, row["venue"], row["market"], tuple(json.loads(row["variant"]))))
            for model in self._stored(engine):
                for row in engine.ask(tables.select_datasets(self._ready(engine, model), model)).to_pylist():
                    found.add(_dataset(model, list(row.values())))
        return sorted(found, key=lambda dataset: (dataset.model.name(), *dataset[1:]))

    def summary(self) -> list[Summary]:
        """What is there, dataset by dataset."""
        out = []
        with self._open() as engine:
            for model in self._stored(engine):
                for row in engine.ask(tables.select_summary(self._ready(engine, model), model)).to_pylist():
                    *key, rows, first, last = row.values()
                    out.append(Summary(_dataset(model, key), rows, first, last))
        return out

    def query(self, sql: str, form: str = "JSON") -> bytes:
        """The answer of a statement that only reads, in one of ClickHouse's output formats.

        Raises StoreError with ClickHouse's own words where it cannot be answered or would write.
        """
        if form.lower() in {"arrowtable", "dataframe"}:
            raise UsageError(f"store {self.url}: {form} is no output format of ClickHouse; ask for Arrow")
        self.migrate()  # the views have their names even where nothing is stored yet
        with self._open() as engine:
            return engine.read_only(sql, form)

    # -- the schema

    def migrate(self) -> list[str]:
        """The names of the changes made; every model that this process knows has its tables afterwards."""
        with self._open() as engine:
            before = len(engine.applied)
            for model in list(Model.models.values()):
                self._ready(engine, model)
            self._base(engine)
            return engine.applied[before:]

    def _base(self, engine: _Engine) -> None:
        """Nothing; the tables that belong to no model are there, and what they claim is not more than what is left.

        Raises StoreError where a newer version of TradeFlood made them.
        """
        if engine.based:
            return
        engine.run(tables.CREATE_MIGRATIONS)
        done = {
            (row["table"], row["number"])
            for row in engine.ask(Question("SELECT `table`, number FROM migrations", {})).to_pylist()
        }
        newest = {change.table: change.number for change in tables.WRITTEN}
        for table, number in sorted(done):
            if number > newest.get(table, number):
                raise StoreError(
                    f"{self.url}: table {table} is of a newer TradeFlood (change {number}, this one knows {newest[table]}): "
                    "upgrade TradeFlood, or choose another folder"
                )
        for change in tables.WRITTEN:
            if (change.table, change.number) not in done:
                self._apply(engine, change)
        engine.based = True
        self._doubt(engine)

    def _doubt(self, engine: _Engine) -> None:
        """Nothing; what was in parts that ClickHouse found damaged, and set aside, is disputed, once for each part.

        ClickHouse opens without them and says nothing: what was claimed of their rows would stand, and nobody would ask again.
        """
        known = {f"{model.table}_rows": {model} for model in Model.models.values()}
        known[f"{tables.COVERAGE}_rows"] = set(Model.models.values())  # disputes may have been among what is lost
        told = {row["title"] for row in engine.ask(Question(_TOLD, {})).to_pylist()}
        parts = [part for part in engine.damaged() if part[0] in known and "/".join(part) not in told]
        if not parts:
            return
        models = set().union(*(known[table] for table, _ in parts))
        held = {dataset: self.claims(dataset) for dataset in self.datasets() if dataset.model in models}
        self.write(
            {},
            [
                disputed(
                    dataset,
                    min(c.start for c in claims),
                    max(c.end for c in claims),
                    DAMAGED,
                    max(c.as_of for c in claims),
                )
                for dataset, claims in held.items()
                if claims
            ],
        )
        today = datetime.fromtimestamp(self._clock() // 1_000_000_000, UTC).date().isoformat()
        for number, part in enumerate(parts, len(told) + 1):
            self._apply(engine, Change("damaged", number, today, "/".join(part), ()))
        warnings.warn(
            f"store {self.url}: damaged parts of {', '.join(sorted({table for table, _ in parts}))} were set aside; what they "
            "may have held is disputed, and asked for again by the next run or collect",
            stacklevel=2,
        )

    def _apply(self, engine: _Engine, change: Change) -> None:
        """Nothing; a change is made, then recorded: made twice it does no harm."""
        self.observe("store.migrating", change=change.label)
        for statement in change.statements:
            engine.run(statement)
        self.observe("store.changed", change=change.label)
        now = engine.now(self._clock)
        values: dict[str, str | int] = {
            "table": change.table, "number": change.number, "date": change.date, "title": change.title,
            "sql": ";\n".join(change.statements), "now": now,
        }  # fmt: skip
        engine.run(
            "INSERT INTO migrations SELECT {table:String}, {number:UInt32}, {date:Date}, {title:String}, {sql:String}, "
            "fromUnixTimestamp64Nano({now:Int64}, 'UTC')",
            {key: tables.bound(value) for key, value in values.items()},
        )
        engine.applied.append(change.label)
        self.observe("store.migrated", change=change.label)

    def _ready(self, engine: _Engine, model: type[Model]) -> Layout:
        """The layout of a model, its table and view made or brought up to date."""
        if model in engine.layouts:
            return engine.layouts[model]
        self._base(engine)
        tables.check_names({**Model.models, model.name(): model}.values())
        layout = tables.layout_of(model)
        there = engine.columns(layout.rows)
        if not there:
            self._derive(engine, layout, "create", (tables.create(layout), tables.create_view(layout)))
        else:
            self._compare(engine, layout, model, there)
        engine.layouts[model] = layout
        return layout

    def _compare(self, engine: _Engine, layout: Layout, model: type[Model], there: Mapping[str, str]) -> None:
        """Nothing; columns that the model gained are added.

        Raises StoreError where the table cannot be what the model says.
        """
        table = f"{self.url}: table {layout.rows}"
        wanted = ", ".join(layout.order_by)
        sorted_by = engine.sorted_by(layout.rows).replace("`", "")
        if sorted_by != wanted:
            raise StoreError(f"{table} has the key ({sorted_by}), model {model.name()} has ({wanted}): rename one")
        gained = []
        for column in model.columns():
            kind = layout.columns[column.name]
            if column.name not in there:
                if not column.optional and not column.has_default and engine.has_rows(layout.rows):
                    raise StoreError(
                        f"{table} has rows without the new field {column.name}: make it optional or give it a default"
                    )
                gained.append(column)
            elif there[column.name] != kind:
                raise StoreError(f"{table}: {column.name} is {there[column.name]}, model {model.name()} says {kind}")
        if gained:
            title = "add " + ", ".join(column.name for column in gained)
            added = tuple(tables.add_column(layout, model, column) for column in gained)
            self._derive(engine, layout, title, (*added, tables.create_view(layout)))
        elif not engine.columns(layout.table):  # stopped between the table and its view
            engine.run(tables.create_view(layout))

    def _derive(self, engine: _Engine, layout: Layout, title: str, statements: tuple[str, ...]) -> None:
        """Nothing; a change that follows from a model is made, numbered after the table's last and dated today."""
        last = engine.ask(Question(
            "SELECT max(number) AS last FROM migrations WHERE `table` = {table:String}", {"table": tables.bound(layout.table)}
        )).to_pylist()[0]["last"]  # fmt: skip
        today = datetime.fromtimestamp(self._clock() // 1_000_000_000, UTC).date().isoformat()
        self._apply(engine, Change(layout.table, last + 1, today, title, statements))

    def _stored(self, engine: _Engine) -> list[type[Model]]:
        """The models with a time whose tables are there."""
        there = engine.tables()
        return [model for _, model in sorted(Model.models.items()) if model.time and f"{model.table}_rows" in there]

    def _open(self) -> _Engine:
        if self._engine is None:
            raise StoreError(f"{self.url}: the store is closed")
        return self._engine


def _dataset(model: type[Model], key: Sequence[str]) -> Dataset:
    return Dataset(model, key[0], key[1], tuple(key[2:]))


def _claim_table(claims: Sequence[Claim]) -> pa.Table:
    import pyarrow as pa

    time_type = pa.timestamp("ns", tz="UTC")
    kinds = {"start": time_type, "end": time_type, "as_of": time_type, "count": pa.int64(), "refutes": pa.int64()}
    columns = tables.claim_columns(claims)
    try:
        return pa.table({name: pa.array(values, kinds.get(name, pa.string())) for name, values in columns.items()})
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeError) as error:
        raise StoreError(f"a claim about {claims[0].dataset.label} cannot be stored: {error}") from error


def _path(url: str) -> Path:
    named = url.removeprefix("chdb://")
    if not named or "?" in named or "\0" in named:
        raise UsageError(f"store {url}: name a folder, like chdb://./tradeflood-data")
    return Path(os.path.realpath(Path(named).expanduser()))


class _Engine:
    """The one chdb engine of this process, counted by its users. Entering it takes its lock."""

    _one: ClassVar[_Engine | None] = None
    _door: ClassVar[Any] = RLock()

    @classmethod
    def of(cls, url: str, path: Path) -> _Engine:
        """The engine on a path, opened or shared.

        Raises StoreError where the engine is on another path, the path cannot be written or is held.
        """
        with cls._door:
            one = cls._one
            if one is None:
                one = cls._one = cls(url, path)
            elif one.path != path:
                raise StoreError(
                    f"store {url}: this process has {one.path} open, and chdb can hold one; close that first"
                )
            one._users += 1
            return one

    def __init__(self, url: str, path: Path) -> None:
        session = _import(url)
        self.url, self.path = url, path
        self.layouts: dict[type[Model], Layout] = {}
        self.applied: list[str] = []
        self.based = False
        self.goes = False
        self._users = 0
        self._lock = RLock()
        self._last = 0
        self._reader: Any = None
        self.is_new = not path.exists()
        self._held = _hold(url, path)
        try:
            self._session = session.Session(str(path))
        except BaseException as error:
            self._held.close()
            if isinstance(error, Exception):
                raise StoreError(f"store {url}: chdb cannot open it: {_line(error)}") from error
            raise

    def release(self) -> None:
        """Nothing; the last user closes the engine."""
        with _Engine._door, self._lock:
            self._users -= 1
            if not self._users:
                _Engine._one = None
                if self._reader is not None:
                    self._reader.close()
                self._session.close()
                if self.goes:
                    shutil.rmtree(self.path, ignore_errors=True)
                self._held.close()

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def now(self, clock: Callable[[], int]) -> int:
        """The moment of writing: never the same twice, never earlier, even where the clock steps back."""
        self._last = max(self._last + 1, clock())
        return self._last

    def run(self, sql: str, values: Mapping[str, str] | None = None) -> None:
        """Nothing; the statement is carried out."""
        self._query(self._session, sql, "TSV", values)

    def need_room(self) -> None:
        """Nothing, where the disk is so far from full that a write cannot meet its end.

        Raises StoreError otherwise.
        """
        disk = os.statvfs(self.path)
        free = disk.f_bavail * disk.f_frsize
        if free < ROOM:
            raise StoreError(f"store {self.url}: disk full: {free >> 20} MiB are free, {ROOM >> 20} are left alone")

    def insert(self, sql: str, rows: pa.Table) -> None:
        """Nothing; the statement is carried out. It reads `Python(rows)`: chdb finds the name in this frame."""
        try:
            self._session.query(sql, "TSV")
        except Exception as error:
            raise StoreError(f"store {self.url}: {len(rows)} rows were not stored: {_line(error)}") from error

    def ask(self, question: Question) -> pa.Table:
        """The answer as an Arrow table."""
        import pyarrow as pa

        answer = self._query(self._session, f"{question.sql} SETTINGS {_ARROW}", "Arrow", question.values).bytes()
        return pa.ipc.open_file(answer).read_all()

    def read_only(self, sql: str, form: str) -> bytes:
        """The answer of a connection of its own that may not write."""
        if "outfile" in sql.lower():  # the one way to write that ClickHouse leaves to readers
            raise StoreError(f"store {self.url}: a query that only reads names no OUTFILE")
        if self._reader is None:
            self._reader = _import(self.url).Session(str(self.path))
            self._reader.query(f"SET output_format_json_quote_decimals = 1, {_ARROW}, readonly = 1")
        return cast("bytes", self._query(self._reader, sql, form, None).bytes())

    def _query(self, session: Any, sql: str, form: str, values: Mapping[str, str] | None) -> Any:
        try:
            return session.query(sql, form, params=values or None)
        except Exception as error:
            raise StoreError(f"store {self.url}: {_line(error)}") from error

    def tables(self) -> set[str]:
        """The names of every table and view."""
        sql = "SELECT name FROM system.tables WHERE database = currentDatabase()"
        return {row["name"] for row in self.ask(Question(sql, {})).to_pylist()}

    def damaged(self) -> list[tuple[str, str]]:
        """Table and name of every part that could not be read when the folder was opened."""
        sql = (
            "SELECT `table`, name FROM system.detached_parts WHERE database = currentDatabase() AND startsWith(reason, 'broken') "
            "ORDER BY `table`, name"
        )
        return [(row["table"], row["name"]) for row in self.ask(Question(sql, {})).to_pylist()]

    def columns(self, table: str) -> dict[str, str]:
        """Column → type, empty where there is no such table."""
        sql = "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = {table:String}"
        return {row["name"]: row["type"] for row in self.ask(Question(sql, {"table": tables.bound(table)})).to_pylist()}

    def sorted_by(self, table: str) -> str:
        """The sorting key as ClickHouse writes it."""
        sql = "SELECT sorting_key FROM system.tables WHERE database = currentDatabase() AND name = {table:String}"
        return str(self.ask(Question(sql, {"table": tables.bound(table)})).to_pylist()[0]["sorting_key"])

    def has_rows(self, table: str) -> bool:
        """Whether anything is in the table."""
        return len(self.ask(Question(f"SELECT 1 FROM {tables.name(table)} LIMIT 1", {}))) > 0


def _import(url: str) -> Any:
    try:
        import pyarrow as pa  # noqa: F401 - rows go in and out as Arrow tables
        from chdb import session
    except ImportError as error:
        raise UsageError(
            f"store {url}: {error.name} is not installed; install it with: pip install 'tradeflood[embedded]'"
        ) from error
    return session


def _hold(url: str, path: Path) -> TextIO:
    """The folder's lock, taken.

    chdb has a lock of its own, and complains on standard error before it says so: this one comes first.
    Raises StoreError that names who holds it.
    """
    import fcntl

    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / "tradeflood.lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"store {url}: cannot write there: {error.strerror}; choose another folder or its permissions"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _not_held_by_others(path / "status")
    except OSError:
        lock.seek(0)
        holder = lock.read().strip() or _pid_in(path / "status")
        lock.close()
        raise StoreError(f"store {url}: process {holder} holds it; stop that, or choose another folder") from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _not_held_by_others(status: Path) -> None:
    """Nothing where no engine outside TradeFlood has the folder; raises OSError otherwise."""
    import fcntl

    try:
        with status.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return
    except BlockingIOError:
        if _pid_in(status) != str(os.getpid()):  # in this process chdb shares it
            raise


def _pid_in(status: Path) -> str:
    try:
        lines = status.read_text(encoding="utf-8").splitlines()
    except OSError:
        return "?"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("PID")), "?")


def _line(error: Exception) -> str:
    """The first line of what chdb says, without the stack of the engine."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return first.partition("Stack trace")[0].removeprefix("Code: ").strip()[:500]
