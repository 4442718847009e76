"""What a store is: rows and claims go in together, rows first, and come out once each.

A store is synchronous and may be used from any thread; async callers wrap it in `asyncio.to_thread`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

from attrs import frozen

from tradeflood.coverage import Claim, Dataset
from tradeflood.errors import UsageError
from tradeflood.models import Kind, Model
from tradeflood.steps import Observer, ignore

M = TypeVar("M", bound=Model)


@frozen
class Summary:
    """What is there of one dataset: how many rows, and the times of the first and the last."""

    dataset: Dataset
    rows: int
    first: int
    last: int


class Store(ABC):
    """Where rows and claims rest. Every model has its place, also one that was defined a moment ago.

    The same row written twice, in any batches, is there once, at once. Of two rows with one key the later
    version is kept: a closed row beats one that is not, then the venue's clock decides, then `received_at`,
    then the order of writing (`version_fields` has the rule).
    """

    url: str
    observe: Observer = staticmethod(ignore)
    columnar: bool = False
    """Whether it writes rows as Arrow tables, so that whoever brings them may have made those: see `Tabled`."""

    @abstractmethod
    def migrate(self) -> list[str]:
        """The names of the changes made to bring the schema up to date; none when it was."""

    @abstractmethod
    def write(self, batches: Mapping[type[Model], Sequence[Model]], claims: Sequence[Claim] = ()) -> None:
        """Nothing; the rows are stored, then the claims.

        Raises StoreError that names row and field, with nothing written, where a value does not fit. Where it
        fails later, rows may be there without their claims, never the other way round.
        """

    @abstractmethod
    def read(self, dataset: Dataset, start: int, end: int) -> list[Model]:
        """The rows of a dataset in [start, end), ascending by time, then position, each key once.

        Raises UsageError for a model without a time: that is a list, see `read_list`.
        """

    @abstractmethod
    def read_list(self, model: type[M], venue: str) -> list[M]:
        """Every row of a venue, ascending by key: markets, tickers."""

    @abstractmethod
    def claims(self, dataset: Dataset) -> list[Claim]:
        """Every claim about a dataset, each once, ascending by start and end."""

    @abstractmethod
    def replace_claims(self, new: Sequence[Claim], old: Sequence[Claim]) -> None:
        """Nothing; the new claims of a dataset are stored, then the old ones taken out: those say the same in more words.

        Stopped in between, both are there, which does no harm.
        """

    @abstractmethod
    def datasets(self) -> list[Dataset]:
        """Every dataset with claims or rows. Rows of lists (models without a time) do not count."""

    @abstractmethod
    def summary(self) -> list[Summary]:
        """What is there, dataset by dataset; lists left out."""

    @abstractmethod
    def close(self) -> None:
        """Nothing; the store is released. Closing twice does no harm."""

    def tentative(self) -> None:  # noqa: B027 - most stores leave nothing behind
        """Nothing; what opening the store made is gone when it is closed, where nothing was written until then."""

    def query(self, sql: str, form: str = "JSON") -> bytes:  # noqa: ARG002 - for stores that have SQL
        """The answer of the store's own SQL, in one of ClickHouse's output formats.

        Raises UsageError where the store speaks none.
        """
        raise UsageError(f"store {self.url}: it answers no SQL; use chdb:// for that")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@frozen
class Version:
    """Which fields of a model decide between two rows with one key."""

    closed: str | None
    clocks: tuple[str, ...]


def version_fields(model: type[Model]) -> Version:
    """The fields that make a row's version: `closed` first, then the first of the clocks that is not empty.

    A clock is `venue_time`, where it tells when the row was said and is neither key nor the time selected on
    (a trade's own time may be revised in either direction), then `received_at`. After them comes the moment
    of writing, so that without a clock the last one written is kept.
    """
    kinds = {column.name: column.kind for column in model.columns()}
    taken = {*model.key, model.time}
    clocks = [name for name in ("venue_time", "received_at") if kinds.get(name) is Kind.TIME and name not in taken]
    return Version("closed" if kinds.get("closed") is Kind.FLAG and "closed" not in taken else None, tuple(clocks))


def has_number(model: type[Model]) -> bool:
    """Whether positions are texts that may be numbers, so that '999' comes before '1000'."""
    return len(model.key) > 2 and any(c.name == model.key[-1] and c.kind is Kind.TEXT for c in model.columns())


def number_of(position: str) -> int:
    """The number that a position is written as, 0 where it is none or has more than 19 digits."""
    return int(position) if len(position) <= 19 and position.isascii() and position.isdigit() else 0


def order_of(model: type[Model]) -> Callable[[Model], Any]:
    """What the rows of one dataset are sorted by: time, then position, numbers as numbers."""
    time, position = model.time, model.key[-1]
    if has_number(model):
        return lambda row: (
            getattr(row, time) if time else 0,
            number_of(getattr(row, position)),
            getattr(row, position),
        )
    return lambda row: (getattr(row, time) if time else 0, getattr(row, position))


def dataset_of(row: Model) -> Dataset:
    """The dataset that a row belongs to."""
    venue, market, *variant = (getattr(row, name) for name in row.key[: max(2, len(row.key) - 1)])
    return Dataset(type(row), venue, market, tuple(variant))


def need_time(dataset: Dataset) -> str:
    """The field that a range selects on.

    Raises UsageError for a list.
    """
    if dataset.model.time is None:
        raise UsageError(f"{dataset.model.name()} is a list: no range of time selects from it")
    return dataset.model.time
