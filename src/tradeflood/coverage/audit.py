"""Audit: candles from our trades against the venue's own, exactly; every mismatch gets a cause. Pure functions.

Compared is every candle whose whole time is held for both. Causes are looked for in the order of `TESTS`, and the first
test that explains a mismatch names it. What explains exactly (another version, a unit, merged fills, a doubled trade,
a boundary rule) comes before what merely fits (trades are missing), and all of them before the venue is blamed.

A venue's candle without trades to compare it with is looked at alone: no price may lie outside its high and low, and its
quote volume must lie between low × volume and high × volume, around typical price × volume.

Quote volumes are the one field in which a venue may round: each of its trades is cut to the last digit that it shows.
Where ours has more digits than the venue ever shows, it may differ by one unit of that digit per trade.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Context, Decimal
from enum import StrEnum
from functools import cached_property
from itertools import groupby

from attrs import evolve, frozen

from tradeflood.coverage.candles import candles_of
from tradeflood.coverage.claims import Claim, Dataset, Grade, State, held
from tradeflood.models import Candle, Trade, interval
from tradeflood.models.identity import digits
from tradeflood.models.interval import Interval
from tradeflood.models.time import HOUR, MINUTE, MS, SECOND
from tradeflood.spans import Span, Spans

_EXACT = Context(prec=400)  # sums of products; the usual context would round to 28 digits
PRICES = ("open", "high", "low", "close")
FIELDS = (*PRICES, "volume", "quote_volume", "trades")
REACH = 14 * HOUR
"""No boundary is looked for further away: the widest offset of a time zone."""


class Cause(StrEnum):
    """Why a candle from our trades is not the venue's."""

    REVISED = "late revision"
    UNIT = "unit factor"
    MERGED = "merged fills"
    DOUBLED = "doubled trade"
    BOUNDARY = "boundary rule"
    WRONG = "wrong at the venue"
    MISSING = "missing trades"
    UNEXPLAINED = "unexplained"


@frozen
class Difference:
    """A field of a candle as our trades make it, and as the venue has it; None where there is no candle."""

    field: str
    ours: Decimal | int | None
    theirs: Decimal | int | None

    def __str__(self) -> str:
        return f"{self.field} {_text(self.ours)}, venue {_text(self.theirs)}"


@frozen
class Finding:
    """One candle that does not agree. `dataset` is the venue's candles, `kind` that of the trades, None without any."""

    dataset: Dataset
    kind: str | None
    interval: str
    open_time: int
    cause: Cause
    differences: tuple[Difference, ...]
    detail: str

    @property
    def end(self) -> int:
        """The end of the candle."""
        return interval(self.interval).next(self.open_time)


@frozen
class Trouble:
    """Neighbouring findings of one cause as one: [start, end), how many candles, which fields, and the first of them."""

    start: int
    end: int
    candles: int
    fields: tuple[str, ...]
    first: Finding


@frozen
class Audited:
    """What an audit saw: the findings, and the open times of the candles in which something traded and all agrees."""

    findings: tuple[Finding, ...] = ()
    agreed: tuple[int, ...] = ()

    def __add__(self, other: Audited) -> Audited:
        return Audited(self.findings + other.findings, self.agreed + other.agreed)

    @property
    def compared(self) -> int:
        """How many candles were looked at."""
        return len(self.findings) + len(self.agreed)


def common(text: str, candles: Iterable[Claim], trades: Iterable[Claim]) -> Spans:
    """The times of the candles that are held whole, with all of their trades."""
    return whole(text, held(candles) & held(trades))


def whole(text: str, spans: Spans) -> Spans:
    """The part of the spans that consists of whole candles."""
    grid = interval(text)
    return Spans.of(*((grid.ceil(start), grid.floor(end)) for start, end in spans))


def margin(text: str) -> int:
    """How far beyond a candle its neighbours' trades are worth reading: boundaries are looked for there."""
    return min(interval(text).step, REACH) + 1


def audit(
    dataset: Dataset,
    kind: str,
    candles: Iterable[Candle],
    trades: Sequence[Trade],
    claims: Iterable[Claim],
    spans: Spans,
    read: Span,
    *,
    versions: Iterable[Candle] = (),
) -> Audited:
    """The candles of `spans`, compared one by one with what the trades make.

    `dataset` is the venue's candles, `kind` that of the trades, `spans` whole candles that are held for both
    (`common`), `claims` those about the trades. The trades ascend as the store reads them and are all that is stored in `read`, better a `margin` wider than
    the spans. `versions` are other copies of the venue's candles, such as fresh ones.
    """
    text = dataset.variant[0]
    theirs = {row.open_time: row for row in candles}
    book = _Book(trades, claims, interval(text), text, read, _unit(theirs.values()), theirs, spans)
    others: dict[int, list[Candle]] = {}
    for row in versions:
        others.setdefault(row.open_time, []).append(row)
    agreed, cases = [], []
    opens = sorted({*theirs, *book.slices})
    for span in spans:
        for at in opens[bisect_left(opens, span[0]) : bisect_left(opens, span[1])]:
            their = theirs.get(at)
            ours = book.candle(at, their)
            if book.differences(ours, their):
                cases.append(_Case(book, at, ours, their, others.get(at, ())))
            elif ours is not None:
                agreed.append(at)
    book.factors.update(case.factor for case in cases)
    return Audited(tuple(_judged(case, dataset, kind) for case in cases), tuple(agreed))


def alone(dataset: Dataset, candles: Iterable[Candle], spans: Spans) -> Audited:
    """The venue's candles of `spans`, each by itself: whether it is possible at all."""
    rows = [row for row in candles if spans.touches(row.open_time, row.open_time + 1)]
    unit = _unit(rows)
    findings, agreed = [], []
    for row in rows:
        why = impossible(row, unit)
        if why:
            factor = _misplaced(row, unit)
            cause = Cause.WRONG if factor is None else Cause.UNIT
            detail = why if factor is None else f"possible only with a quote volume × {_power(factor)}"
            findings.append(Finding(dataset, None, row.interval, row.open_time, cause, (), detail))
        elif row.volume:
            agreed.append(row.open_time)
    return Audited(tuple(findings), tuple(agreed))


def impossible(candle: Candle, unit: Decimal = Decimal("1e-8"), trades: int | None = None) -> str:
    """Why no trades whatever make this candle; nothing where some do. `unit` is the last digit of its quote volume."""
    if candle.volume < 0:
        return f"a volume of {_text(candle.volume)}"
    if not candle.volume:
        return ""  # nothing traded: its prices are a repetition
    if not candle.low <= min(candle.open, candle.close) <= max(candle.open, candle.close) <= candle.high:
        return "open or close lies outside low and high"
    if candle.quote_volume is None:
        return ""
    slack = _EXACT.multiply(unit, Decimal(max(candle.trades or trades or 1000, 1)))
    least = _EXACT.subtract(_EXACT.multiply(candle.low, candle.volume), slack)
    most = _EXACT.add(_EXACT.multiply(candle.high, candle.volume), slack)
    if least <= candle.quote_volume <= most:
        return ""
    typical = _EXACT.multiply(_EXACT.add(_EXACT.add(candle.high, candle.low), candle.close), candle.volume) / 3
    return f"quote volume {_text(candle.quote_volume)} beside typical price × volume of about {typical:.6g}"


def merged(audited: Audited) -> list[Trouble]:
    """The findings of one dataset as intervals: those of one cause are one, as far as no candle between them agrees."""
    agreed = sorted(audited.agreed)

    def place(finding: Finding) -> tuple[object, ...]:
        rule = finding.detail if finding.cause in {Cause.UNIT, Cause.BOUNDARY} else ""
        return finding.dataset, finding.kind, finding.cause, rule, bisect_left(agreed, finding.open_time)

    troubles = []
    for _, group in groupby(sorted(audited.findings, key=lambda finding: finding.open_time), place):
        same = list(group)
        fields = {difference.field for finding in same for difference in finding.differences}
        named = tuple(field for field in FIELDS if field in fields)
        troubles.append(Trouble(same[0].open_time, same[-1].end, len(same), named, same[0]))
    return troubles


# ---------------------------------------------------------------- what the tests look at


class _Book:
    """All trades that were read, by time and by number, and what is claimed of them."""

    def __init__(
        self, trades: Sequence[Trade], claims: Iterable[Claim], grid: Interval, text: str, read: Span, unit: Decimal,
        theirs: Mapping[int, Candle], spans: Spans,
    ) -> None:  # fmt: skip
        self.trades, self.claims, self.grid, self.text = trades, list(claims), grid, text
        self.read, self.unit, self.theirs, self.spans = read, unit, theirs, spans
        self.times = [row.venue_time for row in trades]
        self.held = held(self.claims) & Spans.of(read)
        self.factors: Counter[tuple[int, int] | None] = Counter()
        self.slices: dict[int, tuple[int, int]] = {}
        at = 0
        while at < len(trades):
            start = grid.floor(self.times[at])
            after = bisect_left(self.times, grid.next(start), at)
            self.slices[start] = at, after
            at = after

    def candle(self, at: int, theirs: Candle | None) -> Candle | None:
        """The candle of our trades that opens then, or None."""
        first, after = self.slices.get(at, (0, 0))
        return self.made(self.trades[first:after], at, theirs)

    def made(self, rows: Sequence[Trade], at: int, theirs: Candle | None) -> Candle | None:
        """The candle of some trades, whenever they happened, as the one that opens then.

        Its count is unknown where a merged trade does not tell its own. Trades of one moment without numbers have no
        order: which of them opens and closes is the venue's word, where that is possible.
        """
        if not rows:
            return None
        first, last = rows[0].venue_time, rows[-1].venue_time
        moved = first < at or last >= self.grid.next(at)
        made = next(candles_of((evolve(row, venue_time=at) for row in rows) if moved else rows, self.text))
        if any(row.count is None and row.kind == "merged" for row in rows):
            made.trades = None
        if theirs is not None and made.open != theirs.open:
            unordered = {row.price for row in rows if row.venue_time == first and not row.trade_id.isdecimal()}
            made.open = theirs.open if theirs.open in unordered else made.open
        if theirs is not None and made.close != theirs.close:
            unordered = {row.price for row in rows if row.venue_time == last and not row.trade_id.isdecimal()}
            made.close = theirs.close if theirs.close in unordered else made.close
        return made

    def differences(self, ours: Candle | None, theirs: Candle | None) -> tuple[Difference, ...]:
        """The fields that both know and that differ. A candle without volume says the same as none: nothing traded."""
        if theirs is not None and not theirs.volume and not theirs.trades:
            if ours is None:
                return ()
            return tuple(Difference(name, getattr(ours, name), getattr(theirs, name)) for name in ("volume", "trades"))
        if ours is None or theirs is None:
            known = [(name, getattr(ours or theirs, name, None)) for name in FIELDS]
            return tuple(
                Difference(name, value if ours else None, value if theirs else None)
                for name, value in known
                if value is not None
            )
        return tuple(
            Difference(name, mine, its)
            for name in FIELDS
            if (mine := getattr(ours, name)) is not None
            and (its := getattr(theirs, name)) is not None
            and mine != its
            and not (name == "quote_volume" and self.near(mine, its, ours.trades))
        )

    def near(self, ours: Decimal, theirs: Decimal, trades: int | None) -> bool:
        """Whether a quote volume is ours, or ours with the worth of each trade cut to the digits that the venue shows."""
        slack = _EXACT.multiply(self.cut, Decimal(1000 if trades is None else trades))
        return _EXACT.abs(_EXACT.subtract(ours, theirs)) <= slack

    @cached_property
    def cut(self) -> Decimal:
        """What a trade's worth may lose at the venue: one unit of the last digit shown, where prices × sizes have more."""
        if not self.trades:
            return Decimal()
        finest = min(_last_digit(row.price) for row in self.trades) + min(_last_digit(row.size) for row in self.trades)
        return self.unit if finest < _last_digit(self.unit) else Decimal()

    @cached_property
    def chained(self) -> list[tuple[Claim, int, int]]:
        """The claims that trades follow one another by number, with the first number and the one after the last."""
        return [
            (claim, int(claim.left), int(claim.right))
            for claim in self.claims
            if (claim.state, claim.grade) == (State.HELD, Grade.A) and claim.left and claim.right
        ]

    @cached_property
    def numbered(self) -> Spans:
        """The times in which trades are claimed to follow one another by number."""
        return Spans.of(*((claim.start, claim.end) for claim, _, _ in self.chained))

    @cached_property
    def points(self) -> list[tuple[int, int, int]]:
        """(number, number that follows, time) of every trade, and of the ends of what is claimed, ascending."""
        low, high = self.read
        rows = [(int(row.trade_id), row.venue_time) for row in self.trades if row.trade_id.isdecimal()]
        found = [(number, number + 1, time) for number, time in rows]
        for claim, first, after in self.chained:
            if low <= claim.start:
                found.append((first, first, claim.start - 1))
            if claim.end <= high:
                found.append((after, after, claim.end))
        return sorted(found)

    @cached_property
    def ends(self) -> Span:
        """The times of the first and the last point."""
        times = [time for _, _, time in self.points]
        return (min(times), max(times)) if times else (0, 0)

    @cached_property
    def gaps(self) -> list[tuple[int, int, int, int]]:
        """(first, last, after, before): numbers that are not there, and the times of their neighbours."""
        out = []
        top = self.points[0] if self.points else (0, 0, 0)
        for point in self.points:
            if point[0] > top[1]:
                out.append((top[1], point[0] - 1, top[2], point[2]))
            if point[1] >= top[1]:
                top = point
        return out

    def absent(self, start: int, end: int) -> list[tuple[int, int]]:
        """The runs of numbers that may belong into [start, end) and are not there, where numbers follow one another."""
        if not self.numbered.touches(start, end):
            return []
        return [(first, last) for first, last, after, before in self.gaps if after < end and start <= before]

    def proven(self, start: int, end: int) -> bool:
        """Whether the numbers show that no trade of [start, end) is missing: consecutive, with neighbours on both sides."""
        if not self.numbered.covers(Spans.of((start, end))) or self.absent(start, end):
            return False
        first, last = self.ends
        return first < start and end <= last


class _Case:
    """A candle that does not agree, with all that may explain it."""

    def __init__(
        self, book: _Book, at: int, ours: Candle | None, theirs: Candle | None, versions: Sequence[Candle]
    ) -> None:
        self.book, self.at, self.end, self.ours, self.theirs = book, at, book.grid.next(at), ours, theirs
        self.versions = versions
        first, after = book.slices.get(at, (0, 0))
        self.rows = book.trades[first:after]

    def explained(self, rows: Sequence[Trade]) -> bool:
        """Whether these trades make the venue's candle exactly."""
        return not self.book.differences(self.book.made(rows, self.at, self.theirs), self.theirs)

    @cached_property
    def absent(self) -> list[tuple[int, int]]:
        return self.book.absent(self.at, self.end)

    @cached_property
    def proven(self) -> bool:
        return self.book.proven(self.at, self.end)

    @cached_property
    def factor(self) -> tuple[int, int] | None:
        """The powers of ten between our prices and volume and the venue's; None where there are no such."""
        if self.ours is None or self.theirs is None or not self.theirs.volume:
            return None
        powers = {_ten(getattr(self.ours, name), getattr(self.theirs, name)) for name in PRICES}
        price = powers.pop()
        volume = _ten(self.ours.volume, self.theirs.volume)
        return None if powers or price is None or volume is None else (price, volume)


def _judged(case: _Case, dataset: Dataset, kind: str) -> Finding:
    differences = case.book.differences(case.ours, case.theirs)
    for cause, test in TESTS:
        detail = test(case)
        if detail:
            return Finding(dataset, kind, case.book.text, case.at, cause, differences, detail)
    detail = "nothing that is known explains it" + (f"; {_gone(case)}" if case.absent else "")
    return Finding(dataset, kind, case.book.text, case.at, Cause.UNEXPLAINED, differences, detail)


# ---------------------------------------------------------------- the tests: what explains a mismatch, or nothing


def _revised(case: _Case) -> str:
    """Another copy of the venue's candle agrees with our trades, and it is not the one that is stored."""
    if any(not case.book.differences(case.ours, other) for other in case.versions):
        return "the venue has changed its candle since it was stored: its other version agrees"
    return ""


def _unit_factor(case: _Case) -> str:
    """Prices, volumes or both differ by a power of ten, the same for all prices, and the trades are as many.

    Where they are not counted, a volume that is ten times ours may also be one of which most is missing: the same factor
    must be found in a second candle, or the numbers must prove that nothing is missing.
    """
    if case.factor is None or case.ours is None or case.theirs is None:
        return ""
    price, volume = case.factor
    value = 0
    if case.theirs.quote_volume is not None:
        found = _value_power(case)
        if found is None:
            return ""
        value = found
    if not (price or volume or value):
        return ""
    if case.theirs.trades is None or case.ours.trades is None:
        if not price and not (case.proven or case.book.factors[case.factor] > 1):
            return ""
    elif case.theirs.trades != case.ours.trades:
        return ""
    parts = {"prices": price, "volume": volume, "quote volume": value}
    return ", ".join(f"the venue's {name} × {_power(power)}" for name, power in parts.items() if power)


def _value_power(case: _Case) -> int | None:
    assert case.ours is not None
    assert case.theirs is not None
    assert case.ours.quote_volume is not None
    assert case.theirs.quote_volume is not None
    price, volume = case.factor or (0, 0)
    for power in (price + volume, price, volume, *sorted(range(-18, 19), key=abs)):
        scaled = case.ours.quote_volume.scaleb(power, _EXACT)
        if case.book.near(scaled, case.theirs.quote_volume, case.ours.trades):
            return power
    return None


def _merged_fills(case: _Case) -> str:
    """All agrees but the number of trades: one of the two counts fills, the other orders."""
    if case.ours is None or case.theirs is None:
        return ""
    if [difference.field for difference in case.book.differences(case.ours, case.theirs)] != ["trades"]:
        return ""
    more = "ours are fills that the venue counts as one" if (case.ours.trades or 0) > (case.theirs.trades or 0) else ""
    return more or "ours are merged, the venue counts every fill"


def _doubled(case: _Case) -> str:
    """Without one of two equal trades, or without all such repetitions, the candles agree."""
    if case.ours is None or case.theirs is None:
        return ""
    equal: dict[tuple[object, ...], list[int]] = {}
    for index, row in enumerate(case.rows):  # the time of one of them may be coarser
        equal.setdefault((row.price, row.size, row.venue_time // SECOND), []).append(index)
    groups = [group for group in equal.values() if len(group) > 1]
    over = _EXACT.subtract(case.ours.volume, case.theirs.volume)
    single = [[index] for group in groups if case.rows[group[0]].size == over for index in group]
    every = [[at for group in groups for at in group[1:]], [at for group in groups for at in group[:-1]]]
    for gone in (*single, *every):
        if gone and _volume(case.rows[index] for index in gone) == over:
            left = [row for index, row in enumerate(case.rows) if index not in gone]
            if case.explained(left):
                names = ", ".join(case.rows[index].trade_id for index in gone[:3]) + (" …" if len(gone) > 3 else "")
                return f"{len(gone)} too many: equal to another and explains the difference: {names}"
    return ""


def _duration(time: int) -> str:
    for name, size in (("h", HOUR), ("min", MINUTE), ("s", SECOND)):
        if time % size == 0:
            return f"{time // size} {name}"
    return f"{time // MS} ms"


@frozen
class _Rule:
    """Which trades a candle has that opens at one time and ends at another, otherwise than by [open, end)."""

    told: str
    shift: int
    first: Callable[[Sequence[int], int], int]
    after: Callable[[Sequence[int], int], int]

    def slice(self, book: _Book, at: int) -> tuple[int, int]:
        """The trades of the candle that opens then: the first, and the one after the last."""
        end = book.grid.next(at)
        return self.first(book.times, at + self.shift), self.after(book.times, end + self.shift)

    def known(self, book: _Book, at: int) -> bool:
        """Whether all trades that the rule may give to the candle were read and are held."""
        return book.held.covers(Spans.of((at + self.shift, book.grid.next(at) + self.shift + 1)))

    def neighbours(self, book: _Book, at: int) -> set[str]:
        """What the candles before and after say to it, of those that are compared and that it would change.

        `against` is one that agrees as it is, `for` one that agrees by the rule only.
        """
        said = set()
        for other in (book.grid.floor(at - 1), book.grid.next(at)):
            first, after = self.slice(book, other)
            mine = book.slices.get(other, (first, first))
            if (first, after) == mine or not book.spans.touches(other, other + 1) or not self.known(book, other):
                continue
            theirs = book.theirs.get(other)
            if not book.differences(book.candle(other, theirs), theirs):
                said.add("against")
            elif not book.differences(book.made(book.trades[first:after], other, theirs), theirs):
                said.add("for")
        return said


_SHIFTS = (MS, SECOND, MINUTE, *range(30 * MINUTE, REACH + 1, 30 * MINUTE))
_RULES = (
    _Rule("a trade at the boundary belongs to the candle that ends there", 0, bisect_right, bisect_right),
    _Rule("a trade at the boundary belongs to both candles", 0, bisect_left, bisect_right),
    _Rule("a trade at the boundary belongs to neither candle", 0, bisect_right, bisect_left),
    *(
        _Rule(f"the venue's candle begins {_duration(abs(shift))} {word}", shift, bisect_left, bisect_left)
        for distance in _SHIFTS
        for shift, word in ((distance, "later"), (-distance, "earlier"))
    ),
)


def _boundary(case: _Case) -> str:
    """With the trades between other boundaries the candles agree, and no neighbour speaks against them.

    Where a trade is known to be missing and ours is less, that is why, however well another one may fit. That nothing is
    left by some rule explains an absent candle only where a neighbour confirms the rule.
    """
    book, wanted = case.book, Decimal() if case.theirs is None else case.theirs.volume
    if case.absent and (case.ours is None or case.ours.volume < wanted):
        return ""
    mine = book.slices.get(case.at, (0, 0))
    for rule in _RULES:
        if abs(rule.shift) >= case.end - case.at or not rule.known(book, case.at):
            continue
        first, after = rule.slice(book, case.at)
        rows = book.trades[first:after]
        if (first, after) == mine or _volume(rows) != wanted or not case.explained(rows):
            continue
        said = rule.neighbours(book, case.at)
        if "against" not in said and (rows or "for" in said):
            return rule.told
    return ""


def _impossible(case: _Case) -> str:
    """No trades whatever make the venue's candle."""
    trades = None if case.ours is None else case.ours.trades
    return "" if case.theirs is None else impossible(case.theirs, case.book.unit, trades)


def _missing(case: _Case) -> str:
    """Ours is less, and its numbers have a gap or prove nothing."""
    if case.theirs is None or case.proven:
        return ""
    ours, theirs = case.ours, case.theirs
    if ours is not None:
        if not ours.volume < theirs.volume:
            return ""
        fits = theirs.low <= ours.low and ours.high <= theirs.high
        counted = ours.trades is not None and theirs.trades is not None
        if not case.absent and not (fits and (not counted or (ours.trades or 0) < (theirs.trades or 0))):
            return ""
    if case.absent:
        return _gone(case)
    lacking = _EXACT.subtract(theirs.volume, ours.volume if ours is not None else Decimal())
    return f"a volume of {_text(lacking)} is missing from our trades"


def _wrong(case: _Case) -> str:
    """The numbers prove that our trades are all there are, and nothing else explains it."""
    return "our trades are consecutive, so the stored candle is wrong" if case.proven else ""


TESTS: tuple[tuple[Cause, Callable[[_Case], str]], ...] = (
    (Cause.REVISED, _revised),
    (Cause.UNIT, _unit_factor),
    (Cause.MERGED, _merged_fills),
    (Cause.DOUBLED, _doubled),
    (Cause.BOUNDARY, _boundary),
    (Cause.WRONG, _impossible),
    (Cause.MISSING, _missing),
    (Cause.WRONG, _wrong),
)
"""Cause and test, in the order in which they are tried; a test answers with what it found, or with nothing."""


# ---------------------------------------------------------------- exact comparison


def _unit(candles: Iterable[Candle]) -> Decimal:
    """The last digit that the quote volumes of a venue show: that of most of them, so that one in error decides nothing."""
    shown = Counter(_last_digit(row.quote_volume) for row in candles if row.quote_volume)
    return Decimal(1).scaleb(max(shown, key=lambda last: (shown[last], -last), default=0), _EXACT)


def _last_digit(number: Decimal) -> int:
    exponent = _EXACT.normalize(number).as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent


def _ten(ours: Decimal, theirs: Decimal) -> int | None:
    """The power of ten by which theirs is ours, exactly; None where there is none."""
    if not ours or not theirs:
        return 0 if ours == theirs else None
    mine, its = _EXACT.normalize(ours).as_tuple(), _EXACT.normalize(theirs).as_tuple()
    if mine[:2] != its[:2]:
        return None
    assert isinstance(mine.exponent, int)
    assert isinstance(its.exponent, int)
    return its.exponent - mine.exponent


def _misplaced(candle: Candle, unit: Decimal) -> int | None:
    """The power of ten by which the quote volume would have to be larger for the candle to be possible."""
    if not candle.quote_volume:
        return None
    for power in sorted(range(-18, 19), key=abs):
        if not impossible(evolve(candle, quote_volume=candle.quote_volume.scaleb(power, _EXACT)), unit):
            return power
    return None


def _volume(rows: Iterable[Trade]) -> Decimal:
    total = Decimal()
    for row in rows:
        total = _EXACT.add(total, row.size)
    return total


def _gone(case: _Case) -> str:
    runs = [f"{first}" if first == last else f"{first} … {last}" for first, last in case.absent]
    return f"not there: trade {', '.join(runs[:3])}" + (" …" if len(runs) > 3 else "")


def _power(power: int) -> str:
    return f"{10**power}" if power >= 0 else f"1/{10**-power}"


def _text(value: Decimal | int | None) -> str:
    return "nothing" if value is None else digits(value) if isinstance(value, Decimal) else str(value)
