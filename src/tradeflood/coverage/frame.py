"""Frame: rows with their coverage. What every question about the past is answered with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from attrs import frozen

from tradeflood.coverage.claims import Dataset, Grade, State, Stretch, good_enough
from tradeflood.errors import TradeFloodError, UsageError
from tradeflood.models import Model
from tradeflood.models.forms import to_arrow
from tradeflood.models.time import iso
from tradeflood.spans import Spans

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

M = TypeVar("M", bound=Model)


@frozen
class Failure:
    """What went wrong on the way: the part of a dataset that is missing for it, and the error."""

    dataset: Dataset | None
    start: int
    end: int
    error: TradeFloodError


@frozen
class Coverage:
    """How complete an answer is: per dataset, the stretches of the range that was asked for."""

    parts: Mapping[Dataset, Sequence[Stretch]]

    def held(self, dataset: Dataset) -> Spans:
        """The times of a dataset that are held."""
        return Spans.of(*((p.start, p.end) for p in self.parts.get(dataset, ()) if p.state is State.HELD))

    def weaker_than(self, least: Grade = Grade.B) -> list[tuple[Dataset, Stretch]]:
        """Every stretch that is not held, or on weaker evidence: what `strict` refuses."""
        return [
            (dataset, part)
            for dataset, parts in self.parts.items()
            for part in parts
            if part.state is not State.HELD or not good_enough(part.grade, least)
        ]

    def to_json(self) -> list[dict[str, Any]]:
        """The coverage as JSON values; what does not apply to a model is null."""
        return [
            {
                "venue": dataset.venue,
                "market": dataset.market,
                "model": dataset.model.name(),
                "interval": None,
                "kind": None,
                "origin": None,
            }
            | dataset.model.variant_words(dataset.variant)
            | {
                "spans": [
                    {
                        "start": iso(part.start),
                        "end": iso(part.end),
                        "state": part.state.value,
                        "grade": part.grade.value if part.grade else None,
                        "evidence": part.evidence,
                    }
                    for part in parts
                ]
            }
            for dataset, parts in self.parts.items()
        ]

    def __str__(self) -> str:
        lines = []
        for dataset, parts in self.parts.items():
            lines.append(dataset.label)
            lines += [
                f"  {iso(part.start)} … {iso(part.end)}  {part.state}{f' {part.grade}' if part.grade else ''}  {part.evidence}"
                for part in parts
            ]
        return "\n".join(lines)


class Frame(Sequence[M], Generic[M]):
    """Rows in order of time, market by market, with `coverage` and with the `failures` met on the way."""

    def __init__(
        self,
        model: type[M],
        rows: Sequence[M],
        coverage: Coverage | None = None,
        failures: Sequence[Failure] = (),
    ) -> None:
        self.model = model
        self._rows = rows
        self.coverage = coverage or Coverage({})
        self.failures = tuple(failures)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> M: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[M]: ...
    def __getitem__(self, index: int | slice) -> M | Sequence[M]:
        return self._rows[index]

    def __iter__(self) -> Iterator[M]:
        return iter(self._rows)

    def __repr__(self) -> str:
        return f"<Frame of {len(self)} {self.model.__name__} rows>"

    def to_arrow(self) -> pa.Table:
        """An Arrow table: decimals exact, times in ns UTC. Needs the extra `frames` or `embedded`."""
        _need("pyarrow")
        return to_arrow(self.model, self._rows)

    def to_polars(self) -> pl.DataFrame:
        """A polars frame: prices as Decimal, times as Datetime in ns UTC. Needs the extra `frames`."""
        polars = _need("polars")
        return polars.from_arrow(self.to_arrow())  # type: ignore[no-any-return]

    def to_pandas(self) -> pd.DataFrame:
        """A pandas frame: prices as decimal.Decimal objects, times as datetime64[ns, UTC]. Needs the extra `frames`."""
        _need("pandas")
        return self.to_arrow().to_pandas()


def _need(module: str) -> Any:
    try:
        return __import__(module)
    except ImportError as error:
        raise UsageError(f"{module} is not installed; install it with: pip install 'tradeflood[frames]'") from error
