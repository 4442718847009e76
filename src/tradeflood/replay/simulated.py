"""A market that is a pure function of (seed, time): any instant, in any order and process, gives the same rows.

Theory. Time is cut into hours, counted from GENESIS. Every hour of a market holds the same number of taker
orders, and their numbers of fills repeat in a fixed cycle, so the ids of any hour are arithmetic. What happens
inside an hour is one of a few `_Pattern`s (offsets, price steps, sides, sizes), drawn once per market; the hour
picks a pattern, a price level, a scale for the sizes, and whether the pattern stands on its head. Whole hours
and minutes of a pattern are folded once, so a candle of any length costs a few additions per hour in it and is
still exactly what its raw trades give. All draws are integer mixes of a key; nothing is remembered but patterns.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from decimal import Decimal
from functools import cached_property, lru_cache
from hashlib import blake2b
from itertools import accumulate
from math import isqrt
from typing import TypeAlias

from attrs import frozen

from tradeflood.models import Candle, Interval, Market, Side, Trade, interval
from tradeflood.models.time import MS, parse_time
from tradeflood.replay.source import Bar, Kind

GENESIS = parse_time("2020-01-01")
"""The moment before the first trade of every market."""

_DAY, _HOUR, _MINUTE = 86_400_000, 3_600_000, 60_000  # in milliseconds, the unit of everything below
_GENESIS = GENESIS // MS
_PATTERNS = 8
_WORD = (1 << 64) - 1

# How far the price level wanders, in millionths of the market's price, over periods of so many hours.
_WANDER = ((24 * 60, 250_000), (24 * 9, 70_000), (36, 20_000), (8, 6_000), (1, 1_500))


@frozen
class Listing:
    """One simulated market: prices in ticks of 10^-price_digits, sizes in lots of 10^-size_digits."""

    base: str
    quote: str
    price: int
    price_digits: int
    size: int
    size_digits: int
    orders: int
    fills: tuple[int, ...]

    @property
    def market(self) -> str:
        """BASE/QUOTE."""
        return f"{self.base}/{self.quote}"


_CYCLE = (1, 2, 1, 3, 1, 1, 2, 1)  # fills of each taker order: twelve in eight orders

LISTINGS = (
    #       base    quote   price        digits  largest fill, digits  orders an hour
    Listing("BTC", "USDT", 6_000_000, 2, 40_000, 5, 4_800, _CYCLE),  # two raw trades a second
    Listing("ETH", "USDT", 300_000, 2, 60_000, 4, 2_400, _CYCLE),
    Listing("SOL", "USDT", 15_000, 2, 90_000, 3, 1_200, _CYCLE),
    Listing("BTC", "IRT", 6_000_000_000, 0, 40_000, 6, 480, _CYCLE),
    Listing("USDT", "IRT", 100_000, 0, 90_000, 2, 960, _CYCLE),
    Listing("DOGE", "USDT", 12_345, 5, 9_000, 0, 40, (1, 1, 2, 1)),  # quiet: more than half of its minutes are empty
)


def mixed(key: int, number: int) -> int:
    """64 bits that depend on every bit of both: splitmix64."""
    word = (key + number * 0x9E3779B97F4A7C15) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def key_of(seed: int, *names: str) -> int:
    """A 64 bit key for a seed and names, the same in every process."""
    text = "\0".join((str(seed), *names)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


_Fold: TypeAlias = tuple[int, int, int, int, int, int, int, int]
"""open, high, low, close in ticks; sum of sizes, of size × price, and the same of what takers bought."""


class _Pattern:
    """What happens in an hour, relative to its level: offsets in ms, price steps in ticks, sides, sizes in lots."""

    def __init__(self, listing: Listing, key: int) -> None:
        count, cycle = listing.orders, listing.fills
        draws = [mixed(key, number) for number in range(count)]
        self.offsets = array("q", sorted(draw % _HOUR for draw in draws))
        self.buys = bytes((draw >> 32) & 1 for draw in draws)
        self.first = array("q", accumulate((cycle[n % len(cycle)] for n in range(count)), initial=0))
        step = max(1, listing.price // (1_000 * isqrt(count)))
        walk = list(accumulate((draw >> 33) % (2 * step + 1) - step for draw in draws))
        self.steps = array(
            "q",  # the walk is bent back to nought at the end of the hour; takers pay half a spread
            (
                way - walk[-1] * n // count + (1 if buy else -1)
                for n, (way, buy) in enumerate(zip(walk, self.buys, strict=True))
            ),
        )
        lots = (mixed(key ^ _WORD, number) for number in range(self.first[-1]))
        # Two uniform draws multiplied: many small sizes, few large ones.
        self.sizes = array("q", (1 + ((lot & 0xFFFF) * (lot >> 48) * listing.size >> 32) for lot in lots))

    def fold(self, start: int, end: int) -> _Fold | None:
        """The fold of the orders in [start, end), None where there are none."""
        if start >= end:
            return None
        steps = self.steps[start:end]
        volume = value = bought = bought_value = 0
        first, sizes = self.first, self.sizes
        for order in range(start, end):
            size = sum(sizes[first[order] : first[order + 1]])
            volume += size
            value += size * self.steps[order]
            if self.buys[order]:
                bought += size
                bought_value += size * self.steps[order]
        return steps[0], max(steps), min(steps), steps[-1], volume, value, bought, bought_value

    @cached_property
    def minutes(self) -> tuple[_Fold | None, ...]:
        """The fold of each minute of the hour."""
        edges = [bisect_left(self.offsets, minute * _MINUTE) for minute in range(61)]
        return tuple(self.fold(edges[minute], edges[minute + 1]) for minute in range(60))

    @cached_property
    def whole(self) -> _Fold:
        """The fold of the hour."""
        fold = _joined(self.minutes)
        assert fold is not None
        return fold

    def part(self, start: int, end: int) -> Iterator[_Fold | None]:
        """The folds that make up the offsets [start, end), in order: whole minutes where there are some."""
        if start == 0 and end == _HOUR:
            yield self.whole
            return
        first, last = -(-start // _MINUTE), end // _MINUTE
        if first >= last:
            yield self.fold(bisect_left(self.offsets, start), bisect_left(self.offsets, end))
            return
        yield self.fold(bisect_left(self.offsets, start), bisect_left(self.offsets, first * _MINUTE))
        yield from self.minutes[first:last]
        yield self.fold(bisect_left(self.offsets, last * _MINUTE), bisect_left(self.offsets, end))


def _joined(folds: Iterator[_Fold | None] | tuple[_Fold | None, ...]) -> _Fold | None:
    """One fold of many in a row, None where all are empty."""
    full = [fold for fold in folds if fold is not None]
    if len(full) < 2:
        return full[0] if full else None
    opens, highs, lows, closes, *sums = zip(*full, strict=True)
    volume, value, bought, bought_value = map(sum, sums)
    return opens[0], max(highs), min(lows), closes[-1], volume, value, bought, bought_value


@lru_cache(maxsize=256)
def _pattern(listing: Listing, seed: int, number: int) -> _Pattern:
    return _Pattern(listing, key_of(seed, listing.market, "pattern", str(number)))


class _Book:
    """One market at one venue, in ticks, lots, milliseconds since GENESIS, and ids counted from nought."""

    def __init__(self, listing: Listing, seed: int, venue: str) -> None:
        self.listing = listing
        self.seed = seed
        self._choice = key_of(seed, listing.market, "hours", venue)
        self._wander = [key_of(seed, listing.market, "level", str(period)) for period, _ in _WANDER]
        self._before = tuple(accumulate(listing.fills, initial=0))
        self.hour = lru_cache(maxsize=4_096)(self._hour)
        self.day = lru_cache(maxsize=4_096)(self._day)

    def _hour(self, hour: int) -> tuple[_Pattern, int, int, int]:
        """The pattern of an hour, its price level, its scale of sizes, and 1 or -1 for standing upright."""
        draw = mixed(self._choice, hour)
        level = self.listing.price
        for key, (period, millionths) in zip(self._wander, _WANDER, strict=True):
            cell, into = divmod(hour, period)
            here, there = (mixed(key, cell + step) >> 43 for step in (0, 1))  # 21 bits
            height = here + (there - here) * into // period - (1 << 20)
            level += self.listing.price * millionths * height // (1_000_000 << 20)
        return (
            _pattern(self.listing, self.seed, draw % _PATTERNS),
            level,
            1 + (draw >> 8) % 4,
            1 if draw >> 16 & 1 else -1,
        )

    def _day(self, day: int) -> _Fold | None:
        """The fold of a whole day."""
        hours = (self.hour(hour) for hour in range(24 * day, 24 * day + 24))
        return _joined(tuple(_placed(pattern.whole, level, scale, upright) for pattern, level, scale, upright in hours))

    def orders_before(self, time: int) -> int:
        """How many taker orders there were before a time."""
        hour, offset = divmod(time, _HOUR)
        if hour < 0:
            return 0
        return hour * self.listing.orders + bisect_left(self.hour(hour)[0].offsets, offset)

    def fills_before(self, order: int) -> int:
        """How many raw trades the first so many orders made: the raw id at which the next begins."""
        cycles, rest = divmod(order, len(self.listing.fills))
        return cycles * self._before[-1] + self._before[rest]

    def order_of(self, fill: int) -> int:
        """The taker order to which a raw trade belongs."""
        cycles, rest = divmod(fill, self._before[-1])
        return cycles * len(self.listing.fills) + bisect_right(self._before, rest) - 1

    def count_before(self, time: int, kind: Kind) -> int:
        """How many trades of the kind there were before a time: the id of the first at or after it."""
        orders = self.orders_before(time)
        return orders if kind == "merged" else self.fills_before(orders)

    def orders(self, start: int, end: int) -> Iterator[tuple[int, int, int, Side, list[int]]]:
        """Number, time, price, side and sizes of the fills of each taker order in [start, end)."""
        while start < end:
            hour, at = divmod(start, self.listing.orders)
            pattern, level, scale, upright = self.hour(hour)
            for order in range(at, min(self.listing.orders, at + end - start)):
                yield (
                    hour * self.listing.orders + order,
                    hour * _HOUR + pattern.offsets[order],
                    level + upright * pattern.steps[order],
                    Side.BUY if (pattern.buys[order] == 1) == (upright == 1) else Side.SELL,
                    [scale * size for size in pattern.sizes[pattern.first[order] : pattern.first[order + 1]]],
                )
            start = (hour + 1) * self.listing.orders

    def fold(self, start: int, end: int) -> _Fold | None:
        """The fold of every trade in [start, end), None where there is none."""
        return _joined(self._folds(max(start, 0), end))

    def _folds(self, start: int, end: int) -> Iterator[_Fold | None]:
        while start < end:
            hour, offset = divmod(start, _HOUR)
            if start % _DAY == 0 and start + _DAY <= end:
                yield self.day(start // _DAY)
                start += _DAY
                continue
            pattern, level, scale, upright = self.hour(hour)
            fold = _joined(pattern.part(offset, min(_HOUR, offset + end - start)))
            if fold is not None:
                yield _placed(fold, level, scale, upright)
            start = (hour + 1) * _HOUR


def _placed(fold: _Fold, level: int, scale: int, upright: int) -> _Fold:
    """A pattern's fold in an hour with this level, scale and uprightness; on its head, buys are sells."""
    first, high, low, last, volume, value, bought, bought_value = fold
    if upright < 0:
        high, low = low, high
        bought, bought_value = volume - bought, value - bought_value
    return (
        level + upright * first,
        level + upright * high,
        level + upright * low,
        level + upright * last,
        scale * volume,
        scale * (level * volume + upright * value),
        scale * bought,
        scale * (level * bought + upright * bought_value),
    )


class Simulated:
    """The simulated market at one venue. Venues share the price level of a market and differ in its trades."""

    recorded = False

    def __init__(self, seed: int = 0, venue: str = "simulated", listings: tuple[Listing, ...] = LISTINGS) -> None:
        self.seed = seed
        self.venue = venue
        self._books = {listing.market: _Book(listing, seed, venue) for listing in listings}
        self.listings = listings

    def at(self, venue: str) -> Simulated:
        """The same markets as another venue trades them."""
        return Simulated(self.seed, venue, self.listings)

    def markets(self) -> list[Market]:
        """Every market there is; `symbol` is spelt without separator until a desk spells it its way."""
        return [
            Market(
                self.venue, listing.market, listing.base + listing.quote, listing.base, listing.quote, "spot", "trading",
                _decimal(1, listing.price_digits), _decimal(1, listing.size_digits), _decimal(1, listing.size_digits),
                listed_at=GENESIS,
            )
            for listing in self.listings
        ]  # fmt: skip

    def trades(
        self,
        market: str,
        kind: Kind,
        *,
        now: int,
        start: int | None = None,
        end: int | None = None,
        from_id: int | None = None,
        to_id: int | None = None,
        limit: int = 1_000,
        newest: bool = False,
    ) -> list[Trade]:
        """The oldest `limit` trades within all the bounds that are given, or the newest; ascending either way."""
        book = self._books[market]
        high = book.count_before(_ceil(now + 1 if end is None else min(end, now + 1)), kind)
        low = 0 if start is None else book.count_before(_ceil(start), kind)
        if from_id is not None:
            low = max(low, from_id - 1)
        if to_id is not None:
            high = min(high, to_id - 1)
        low, high = (max(low, high - limit), high) if newest else (low, min(high, low + limit))
        rows = self._merged if kind == "merged" else self._raw
        return list(rows(book, low, high)) if low < high else []

    def trades_between(self, market: str, kind: Kind, after: int, up_to: int) -> list[Trade]:
        """Every trade later than `after` and not later than `up_to`: what a feed owes."""
        return self.trades(market, kind, now=up_to, start=after + 1, limit=_WORD)

    def last_trade(self, market: str, kind: Kind, now: int) -> Trade | None:
        """The newest trade that has happened, None before the first."""
        rows = self.trades(market, kind, now=now, limit=1, newest=True)
        return rows[0] if rows else None

    def bar(self, market: str, start: int, end: int, now: int) -> Bar | None:
        """What traded in [start, end) as far as it has happened, None where nothing did."""
        book = self._books[market]
        listing = book.listing
        until = min(end, now + 1)
        fold = book.fold(_ceil(start), _ceil(until))
        if fold is None:
            return None
        first, last = (book.count_before(_ceil(time), "raw") for time in (start, until))
        places, lots = listing.price_digits, listing.size_digits
        opened, high, low, close, volume, value, bought, bought_value = fold
        return Bar(
            start, end, _decimal(opened, places), _decimal(high, places), _decimal(low, places), _decimal(close, places),
            _decimal(volume, lots), _decimal(value, places + lots), _decimal(bought, lots), _decimal(bought_value, places + lots),
            str(first + 1), str(last), last - first, end <= now,
        )  # fmt: skip

    def bars(
        self, market: str, interval: str, *, now: int, start: int | None = None, end: int | None = None,
        limit: int = 1_000, newest: bool = False,
    ) -> list[Bar]:  # fmt: skip
        """The bars that open in [start, end), the running one as it is now; an interval without trades has none."""
        grid = _grid(interval)
        low = grid.floor(GENESIS) if start is None else max(grid.ceil(start), grid.floor(GENESIS))
        high = now + 1 if end is None else min(end, now + 1)
        opens = _backwards(grid, low, high) if newest else grid.opens(low, high)
        found: list[Bar] = []
        for time in opens:
            if len(found) >= limit:
                break
            if bar := self.bar(market, time, grid.next(time), now):
                found.append(bar)
        return found[::-1] if newest else found

    def candles(
        self, market: str, interval: str, *, now: int, start: int | None = None, end: int | None = None,
        limit: int = 1_000, newest: bool = False,
    ) -> list[Candle]:  # fmt: skip
        """As `bars`, as models."""
        rows = self.bars(market, interval, now=now, start=start, end=end, limit=limit, newest=newest)
        return [bar.candle(self.venue, market, interval) for bar in rows]

    def _merged(self, book: _Book, low: int, high: int) -> Iterator[Trade]:
        listing = book.listing
        for order, time, price, side, sizes in book.orders(low, high):
            first = book.fills_before(order) + 1
            yield Trade(
                self.venue, listing.market, "merged", str(order + 1),
                _decimal(price, listing.price_digits), _decimal(sum(sizes), listing.size_digits), side,
                (time + _GENESIS) * MS, None, str(first), str(first + len(sizes) - 1), len(sizes),
            )  # fmt: skip

    def _raw(self, book: _Book, low: int, high: int) -> Iterator[Trade]:
        listing = book.listing
        start, end = book.order_of(low), book.order_of(high - 1) + 1
        fill = book.fills_before(start)
        for _, time, price, side, sizes in book.orders(start, end):
            for size in sizes:
                fill += 1
                if low < fill <= high:
                    yield Trade(
                        self.venue, listing.market, "raw", str(fill),
                        _decimal(price, listing.price_digits), _decimal(size, listing.size_digits), side,
                        (time + _GENESIS) * MS,
                    )  # fmt: skip


def _ceil(time: int) -> int:
    """The first millisecond since GENESIS at or after a time in ns."""
    return -(-time // MS) - _GENESIS


def _decimal(number: int, places: int) -> Decimal:
    return Decimal(number).scaleb(-places)


def _grid(text: str) -> Interval:
    return interval(text)


def _backwards(grid: Interval, low: int, high: int) -> Iterator[int]:
    """The open times in [low, high), newest first."""
    time = grid.floor(high - 1)
    while time >= low:
        yield time
        time = grid.floor(time - 1)
