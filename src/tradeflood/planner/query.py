"""Query: what somebody wants, checked and normalised."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from tradeflood.errors import UsageError
from tradeflood.models import Model, interval
from tradeflood.models.time import FIRST, MINUTE, SECOND, US, When, from_datetime, iso, parse_bound
from tradeflood.spans import EMPTY, Spans
from tradeflood.turns import Ask

M = TypeVar("M", bound=Model)

DEFAULT_CANDLES = 500
DEFAULT_RANGE = 10 * MINUTE


class Query(Generic[M]):
    """One model of one market, or of a pattern of markets, over [start, end).

    >>> Query(Candle, "binance:*/USDT", interval="1m", start="2024-01-01", end="2024-01-02")

    `market` is `VENUE:BASE/QUOTE`, with `*` where anything may stand. Times are UTC unless zoned. Where `end` is
    left out it is now; where `start` is, it is 500 candles or ten minutes before the end. Lists have neither.
    Raises UsageError that names what is wrong.
    """

    __slots__ = ("_identity", "end", "market", "model", "pattern", "spans", "start", "variant", "venue")

    def __init__(
        self, model: type[M], market: str, *, start: When | None = None, end: When | None = None, **variant: str
    ) -> None:
        if not (isinstance(model, type) and issubclass(model, Model) and model.key):
            raise UsageError(f"no model {model!r}; say tradeflood.Trade, tradeflood.Candle, …")
        venue, colon, pattern = market.partition(":") if isinstance(market, str) else ("", "", "")
        if not (venue and colon and pattern):
            raise UsageError(f"no market {market!r}; write it VENUE:BASE/QUOTE, such as binance:BTC/USDT")
        self.model, self.market, self.venue, self.pattern = model, market, venue, pattern
        self.variant = _variant(model, variant)
        self.start, self.end = _range(model, self.variant, start, end)
        self.spans = _spans(model, self.variant, self.start, self.end)
        self._identity: tuple[Any, ...] = (model, market, self.start, self.end, self.variant)

    @property
    def is_pattern(self) -> bool:
        """Whether the market is a pattern that the venue's list must resolve."""
        return "*" in self.pattern or "?" in self.pattern or "[" in self.pattern

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Query) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        words = [self.model.__name__, self.market, *self.variant]
        if self.model.time:
            words.append(f"{iso(self.start)} … {iso(self.end)}")
        return f"<Query {' '.join(words)}>"


def now() -> int:
    """The time by our clock, in ns."""
    return from_datetime(datetime.now(UTC)) // US * US


def _variant(model: type[Model], given: dict[str, str]) -> tuple[str, ...]:
    known = {part.name: part for part in model.variants()}
    for name in given:
        if name not in known:
            raise UsageError(f"{model.name()}: no option {name!r}; there are {', '.join(['start', 'end', *known])}")
    values = []
    for part in known.values():
        value = given.get(part.name, part.default)
        if value is None:
            such = part.choices[0] if part.choices else "1m"
            raise UsageError(f'{model.name()}: say {part.name}=, such as {part.name}="{such}"')
        if not isinstance(value, str):
            raise UsageError(f"{model.name()}: no {part.name} {value!r}; write it as text")
        if part.choices and value not in part.choices:
            raise UsageError(f"{model.name()}: no {part.name} {value!r}; there are {', '.join(part.choices)}")
        if part.name == "interval":
            interval(value)
        values.append(value)
    return tuple(values)


def _spans(model: type[Model], variant: tuple[str, ...], start: int, end: int) -> Spans:
    """What must be known to answer: from the first candle that opens in the range, for candles; empty for lists."""
    if model.time is None:
        return EMPTY
    names = [part.name for part in model.variants()]
    first = interval(variant[names.index("interval")]).ceil(start) if "interval" in names else start
    return Spans.of((first, end))


def _range(model: type[Model], variant: tuple[str, ...], start: When | None, end: When | None) -> tuple[int, int]:
    if model.time is None:
        if start is not None or end is not None:
            raise UsageError(f"{model.name()} is a list: it has neither start nor end")
        return 0, 0
    last = now() if end is None else parse_bound(end)
    if start is None:
        parts = model.variant_words(variant)
        wide = interval(parts["interval"]).step * DEFAULT_CANDLES if "interval" in parts else DEFAULT_RANGE
        first = max(FIRST, (last - wide) // SECOND * SECOND)
    else:
        first = parse_bound(start)
    if first >= last:
        raise UsageError(f"the start {iso(first)} is not before the end {iso(last)}")
    return first, last


def query_of(ask: Ask, start: int, end: int) -> Query[Any]:
    """The question for [start, end) of what is asked, as far as a range may reach."""
    words = ask.model.variant_words(ask.variant)
    return Query(ask.model, f"{ask.venue}:{ask.market}", start=iso(max(FIRST, start)), end=iso(end), **words)
