"""Hypothesis strategies for models, ours and anybody's, derived from what a model declares. Needs hypothesis.

from tradeflood.testing.strategies import rows

@given(rows(Spread))
def test_spreads_travel(spread):
    assert from_json(Spread, to_json(spread)) == spread
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tradeflood.coverage import Claim, Dataset, Grade, State
from tradeflood.models import Column, Kind, Model
from tradeflood.models.forms import DIGITS, SCALE
from tradeflood.spans import Spans

M = TypeVar("M", bound=Model)

_EXACT = Context(prec=DIGITS)  # the usual context would round to 28 digits
INT64 = (-(1 << 63), (1 << 63) - 1)


def decimals() -> SearchStrategy[Decimal]:
    """Every decimal that has a place in a store, short ones more often, with trailing zeros and powers of ten."""
    whole = 10**DIGITS - 1
    exact = st.integers(-whole, whole).map(lambda units: Decimal(units).scaleb(-SCALE, _EXACT))
    short = st.builds(
        lambda units, exponent: Decimal(units).scaleb(exponent), st.integers(-(10**6), 10**6), st.integers(-SCALE, 10)
    )
    return st.one_of(short, exact, st.sampled_from([Decimal(0), Decimal("-0.0"), Decimal("1E-18")]))


def times() -> SearchStrategy[int]:
    """Moments in ns from 1678 to 2262, those of today's markets more often."""
    return st.one_of(st.integers(1_500_000_000 * 10**9, 1_900_000_000 * 10**9), st.integers(*INT64))


def texts() -> SearchStrategy[str]:
    """Any text that is Unicode, hostile ones and numbers included."""
    hostile = ["", "'; DROP TABLE trades --", "\\", "\\N", "\t\n\r\0", "{k0:String}", "`", '"', "%", "𝔘", "NULL"]
    numbers = st.integers(0, 10**21).map(str)
    return st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), numbers, st.sampled_from(hostile))


def values(column: Column) -> SearchStrategy[Any]:
    """Whatever a column may hold, nothing included where it may be empty."""
    if column.choices:
        one: SearchStrategy[Any] = st.sampled_from([*column.enum] if column.enum else column.choices)
    else:
        one = _KINDS[column.kind]
    return st.none() | one if column.optional else one


def rows(model: type[M], **given: SearchStrategy[Any]) -> SearchStrategy[M]:
    """Any row of a model; `given` overrides the strategy of single fields."""
    return st.builds(model, **{c.name: given[c.name] if c.name in given else values(c) for c in model.columns()})


def datasets(model: type[Model]) -> SearchStrategy[Dataset]:
    """Any dataset of a model."""
    variant = st.tuples(*(st.sampled_from(v.choices) if v.choices else texts() for v in model.variants()))
    return st.builds(Dataset, st.just(model), texts(), texts(), variant)


def spans(low: int = -50, high: int = 50) -> SearchStrategy[Spans]:
    """Any spans between two integers."""
    ends = st.tuples(st.integers(low, high), st.integers(low, high))
    return st.lists(ends, max_size=8).map(lambda pairs: Spans.of(*pairs))


def claims(
    of: SearchStrategy[Dataset],
    bounds: SearchStrategy[int] | None = None,
    links: SearchStrategy[str | None] | None = None,
) -> SearchStrategy[Claim]:
    """Any claim about one of the datasets, over bounds in their order."""
    moments = times() if bounds is None else bounds
    ends = st.lists(moments, min_size=2, max_size=2, unique=True).map(sorted)
    linked = st.none() | texts() if links is None else links
    return st.builds(
        lambda dataset, between, *rest: Claim(dataset, between[0], between[1], *rest),
        of,
        ends,
        st.sampled_from(State),
        st.none() | st.sampled_from(Grade),
        st.sampled_from(["ids", "closed grid", "page"]) | texts(),
        st.integers(0, 1000),
        st.integers(0, 1 << 63).map(lambda number: f"{number:x}"),
        moments,
        texts(),
        linked,
        linked,
        st.none() | moments,
    )


_KINDS: dict[Kind, SearchStrategy[Any]] = {
    Kind.TEXT: texts(),
    Kind.INTEGER: st.integers(*INT64),
    Kind.DECIMAL: decimals(),
    Kind.TIME: times(),
    Kind.FLAG: st.booleans(),
}
