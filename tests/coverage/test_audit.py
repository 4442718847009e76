"""The audit, against truth: random trades, what a right venue makes of them, and one thing put wrong on purpose."""

from decimal import ROUND_DOWN, Decimal

import pytest
from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st

from tradeflood.coverage import Claim, Dataset, Grade, State
from tradeflood.coverage.audit import TESTS, Cause, alone, audit, common, impossible, margin, merged, whole
from tradeflood.coverage.candles import candles_of
from tradeflood.models import Candle, Side, Trade, interval
from tradeflood.models.time import HOUR, MINUTE, MS, SECOND, parse_time
from tradeflood.spans import Spans

START = parse_time("2024-02-28T23:58:00")
MINUTES = 6
END = START + MINUTES * MINUTE
CANDLES = Dataset(Candle, "binance", "BTC/USDT", ("1m", "venue"))
TRADES = Dataset(Trade, "binance", "BTC/USDT", ("raw",))


def trade(number, offset, price, size, **more):
    return Trade(
        "binance", "BTC/USDT", "raw", str(number), Decimal(price), Decimal(size), Side.BUY, START + offset, **more
    )


@st.composite
def truths(draw, fewest=1):
    """Trades of six minutes, numbered from 101. No two sets of sizes have one sum, or one ten times
    as large, so that only the truth explains it.

    Boundaries are hit often, and the prices have many digits.
    """
    moments = st.one_of(
        st.integers(0, MINUTES * 60_000 - 1),
        st.builds(lambda m, ms: m * 60_000 + ms, st.integers(0, 5), st.integers(0, 1)),
    )
    offsets = sorted(draw(st.lists(moments, min_size=fewest, max_size=25)))
    prices = draw(st.lists(st.integers(90_001, 99_999), min_size=len(offsets), max_size=len(offsets)))
    return [
        trade(101 + n, offset * MS, Decimal(price).scaleb(-7), Decimal(7) ** n / 10**3)
        for n, (offset, price) in enumerate(zip(offsets, prices, strict=True))
    ]


def of_venue(trades, text="1m"):
    return [evolve(row, origin="venue", closed=True) for row in candles_of(trades, text)]


def claim(trades, start=START, end=END, *, grade=Grade.A, chained=True):
    ids = [int(row.trade_id) for row in trades]
    ends = (str(min(ids)), str(max(ids) + 1)) if chained and ids else (None, None)
    return Claim(TRADES, start, end, State.HELD, grade, "as told", len(ids), "", END, "", *ends)


def audited(candles, trades, claims, **more):
    read = START - margin("1m"), END + margin("1m")
    return audit(CANDLES, "raw", candles, trades, claims, Spans.of((START, END)), read, **more)


def causes(*args, **more):
    return [finding.cause for finding in audited(*args, **more).findings]


def bucket(row, text="1m"):
    return interval(text).floor(row.venue_time)


chained = pytest.mark.parametrize("numbered", [True, False], ids=["numbered", "without numbers"])
evidence = st.booleans().map(lambda counted: {} if counted else {"trades": None})


def evidence_of(truth, numbered):
    return [claim(truth) if numbered else claim(truth, grade=Grade.B, chained=False)]


# ---------------------------------------------------------------- nothing wrong, and each cause on purpose


@chained
@given(truths(fewest=0), st.sampled_from([None, 8, 4, 2]), evidence)
def test_nothing_injected_nothing_found(numbered, truth, shown, known):
    """Also where the venue counts no trades, repeats quiet minutes, or cuts the worth of each trade to some digits."""
    candles = [evolve(row, **known) for row in of_venue(truth)]
    if shown is not None:
        for row in candles:
            parts = [t.price * t.size for t in truth if bucket(t) == row.open_time]
            row.quote_volume = sum((part.quantize(Decimal(1).scaleb(-shown), ROUND_DOWN) for part in parts), Decimal())
    quiet = set(interval("1m").opens(START, END)) - {row.open_time for row in candles}
    still = [
        Candle("binance", "BTC/USDT", "1m", "venue", at, *[Decimal(5)] * 4, Decimal(), Decimal(), 0) for at in quiet
    ]
    found = audited(candles + still, truth, evidence_of(truth, numbered))
    assert (found.findings, list(found.agreed)) == ((), sorted(row.open_time for row in candles))
    assert merged(found) == []


@chained
@given(truths(), st.data(), evidence)
def test_a_removed_trade(numbered, truth, data, known):
    """Its number is named, where there are numbers; only its candle differs."""
    gone = data.draw(st.sampled_from(truth))
    left = [row for row in truth if row is not gone]
    found = audited([evolve(row, **known) for row in of_venue(truth)], left, evidence_of(truth, numbered))
    (finding,) = found.findings
    assert (finding.cause, finding.open_time, finding.kind) == (Cause.MISSING, bucket(gone), "raw")
    assert ("volume", gone.size) in {
        (d.field, d.theirs - (d.ours or 0)) for d in finding.differences if d.field == "volume"
    }
    assert (gone.trade_id in finding.detail) is numbered


@chained
@given(truths(), st.data(), evidence)
def test_a_doubled_trade(numbered, truth, data, known):
    """Removing one of the two explains it exactly; the time of the other may be coarser."""
    twice = data.draw(st.sampled_from(truth))
    moment = data.draw(st.sampled_from([twice.venue_time, twice.venue_time // SECOND * SECOND]))
    name = data.draw(st.sampled_from(["999999999", "2024-02-28:9.5:1:0"]))
    ours = sorted([*truth, evolve(twice, trade_id=name, venue_time=moment)], key=lambda row: row.venue_time)
    found = audited([evolve(row, **known) for row in of_venue(truth)], ours, evidence_of(truth, numbered)).findings
    assert [(finding.cause, finding.open_time) for finding in found] == [(Cause.DOUBLED, bucket(twice))]
    assert "1 too many" in found[0].detail


@chained
@given(truths(fewest=2), evidence)
def test_a_boundary_that_belongs_to_the_candle_before(numbered, truth, known):
    """The venue's candles are (open, end]; only those with a trade on a boundary differ."""
    shifted = of_venue([evolve(row, venue_time=row.venue_time - 1) for row in truth])
    theirs = [evolve(row, **known) for row in shifted if row.open_time >= START]
    hit = {bucket(row) for row in truth if row.venue_time == bucket(row)}
    touched = {at for opened in hit for at in (opened, opened - MINUTE)} & set(range(START, END, MINUTE))
    wide = [claim(truth, START - HOUR, END + HOUR, grade=Grade.A if numbered else Grade.B, chained=numbered)]
    found = audited(theirs, truth, wide).findings
    assert {finding.open_time for finding in found} == touched
    lonely = {START, START - MINUTE} - {row.open_time for row in theirs}  # the candle before it is not compared
    assert {finding.cause for finding in found if finding.open_time not in lonely} <= {Cause.BOUNDARY}
    for finding in found:
        if finding.cause is Cause.BOUNDARY:
            assert finding.detail == "a trade at the boundary belongs to the candle that ends there"


@given(truths(fewest=3), st.sampled_from([MS, SECOND, -MS, -SECOND]))
def test_a_shifted_boundary(truth, shift):
    """The venue's candles begin a little later or earlier."""
    theirs = [
        evolve(row, open_time=row.open_time)
        for row in of_venue([evolve(t, venue_time=t.venue_time - shift) for t in truth])
    ]
    theirs = [row for row in theirs if START <= row.open_time < END]
    found = audited(theirs, truth, [claim(truth, START - HOUR, END + HOUR)]).findings
    present = {row.open_time for row in theirs}
    assume(any(finding.open_time in present for finding in found))
    assert {finding.cause for finding in found if finding.open_time in present} == {Cause.BOUNDARY}


@chained
@given(truths(), st.integers(-9, 9), st.integers(-9, 9), st.sampled_from(["both", "prices", "volume"]), evidence)
def test_a_unit_factor(numbered, truth, price, volume, what, known):
    """Rial for toman, satoshi for bitcoin: whatever is scaled by a power of ten, the worth with it or not."""
    price, volume = price if what != "volume" else 0, volume if what != "prices" else 0
    assume(price or volume)
    # Without a count and without numbers one candle cannot tell ten times the volume from nine tenths missing.
    assume(price or numbered or not known or len({bucket(row) for row in truth}) > 1)
    for power in (price + volume, 0):
        theirs = [
            evolve(
                row, **known, **{name: getattr(row, name).scaleb(price) for name in ("open", "high", "low", "close")},
                volume=row.volume.scaleb(volume), quote_volume=row.quote_volume.scaleb(power),
            )
            for row in of_venue(truth)
        ]  # fmt: skip
        found = audited(theirs, truth, evidence_of(truth, numbered))
        assert [finding.cause for finding in found.findings] == [Cause.UNIT] * len(theirs)
        assert len(merged(found)) == 1


@given(truths(), st.data())
def test_merged_fills(truth, data):
    """The venue counts orders where we have fills, or the other way round; nothing else differs."""
    theirs = of_venue(truth)
    chosen = data.draw(st.sampled_from(theirs))
    chosen.trades += data.draw(st.sampled_from([-1, 1, 7]))
    found = audited(theirs, truth, [claim(truth)]).findings
    assert [(finding.cause, finding.open_time) for finding in found] == [(Cause.MERGED, chosen.open_time)]
    (difference,) = found[0].differences
    assert (difference.field, difference.theirs) == ("trades", chosen.trades)


@chained
@given(truths(fewest=2), st.data())
def test_a_revised_candle(numbered, truth, data):
    """The venue's candle was short when it was stored; a fresh copy agrees with our trades."""
    late = data.draw(st.sampled_from(truth))
    before = of_venue([row for row in truth if row is not late])
    right = of_venue(truth)
    stale = [next((row for row in before if row.open_time == now.open_time), None) for now in right]
    found = audited([row for row in stale if row], truth, evidence_of(truth, numbered), versions=right).findings
    assert [(finding.cause, finding.open_time) for finding in found] == [(Cause.REVISED, bucket(late))]
    assert causes([row for row in stale if row], truth, evidence_of(truth, numbered)) != [Cause.REVISED]


@given(truths(fewest=2), st.data(), evidence)
def test_a_candle_that_is_wrong(truth, data, known):
    """With consecutive numbers on both sides of it, a mismatch that nothing explains is the venue's."""
    theirs = [evolve(row, **known) for row in of_venue(truth)]
    chosen = data.draw(st.sampled_from(theirs))
    name = data.draw(st.sampled_from(["volume", "low", "high"]))
    setattr(chosen, name, getattr(chosen, name) * Decimal({"volume": "0.7", "low": "0.9993", "high": "1.0007"}[name]))
    assert causes(theirs, truth, [claim(truth)]) == [Cause.WRONG]


@given(truths(fewest=2), st.data())
def test_a_candle_that_is_impossible_is_wrong_whatever_our_evidence(truth, data):
    """Its worth cannot come from its prices and its volume."""
    theirs = of_venue(truth)
    chosen = data.draw(st.sampled_from(theirs))
    chosen.quote_volume *= 3
    chosen.quote_volume += Decimal("1e-9")
    (finding,) = audited(theirs, truth, evidence_of(truth, numbered=False)).findings
    assert (finding.cause, finding.open_time) == (Cause.WRONG, chosen.open_time)
    assert "typical price" in finding.detail


@given(truths(fewest=2), st.data())
def test_what_nothing_explains_is_said_to_be_unexplained(truth, data):
    """Without numbers, a lower high proves nothing about anybody."""
    theirs = of_venue(truth)
    chosen = data.draw(st.sampled_from(theirs))
    chosen.high *= Decimal("1.0007")
    chosen.trades = None
    assert causes(theirs, truth, evidence_of(truth, numbered=False)) == [Cause.UNEXPLAINED]


def test_every_cause_is_injected_above():
    assert {cause for cause, _ in TESTS} | {Cause.UNEXPLAINED} == set(Cause)


# ---------------------------------------------------------------- what is compared


def test_only_what_is_held_for_both_is_compared():
    claims = [claim([], START + 30 * SECOND, START + 4 * MINUTE + 59 * SECOND, chained=False)]
    theirs = [Claim(CANDLES, START, START + 10 * MINUTE, State.HELD, Grade.A, "")]
    assert common("1m", theirs, claims) == Spans.of((START + MINUTE, START + 4 * MINUTE))
    disputed = Claim(TRADES, START + 2 * MINUTE, START + 2 * MINUTE + 1, State.DISPUTED, None, "a late row")
    assert common("1m", theirs, [*claims, disputed]) == Spans.of(
        (START + MINUTE, START + 2 * MINUTE), (START + 3 * MINUTE, START + 4 * MINUTE)
    )
    assert whole("1h", Spans.of((START, END))) == Spans()


def test_a_candle_on_one_side_only():
    """Ours without theirs, proven: the venue lacks a candle. Theirs without ours: trades are missing."""
    rows = [trade(1, 0, 5, 1), trade(2, MINUTE, 5, 1), trade(3, 2 * MINUTE, 5, 1)]
    theirs = of_venue(rows)
    assert causes([theirs[0], theirs[2]], rows, [claim(rows)]) == [Cause.WRONG]
    (finding,) = audited(theirs, [rows[0], rows[2]], [claim(rows)]).findings
    assert (finding.cause, finding.detail) == (Cause.MISSING, "not there: trade 2")
    assert [(d.field, d.ours, d.theirs) for d in finding.differences][-1] == ("trades", None, 1)


def test_the_order_of_trades_without_numbers_is_not_known():
    """Of two in one moment either may have opened and closed; a third price is still a mismatch."""
    rows = [evolve(trade(n, 0, price, 1), trade_id=f"x:{n}") for n, price in enumerate([7, 5, 6])]
    (theirs,) = of_venue(rows)
    for opened, closed in ((5, 7), (7, 5), (6, 6)):
        swapped = evolve(theirs, open=Decimal(opened), close=Decimal(closed))
        assert causes([swapped], rows, evidence_of([], numbered=False)) == []
    assert causes([evolve(theirs, open=Decimal("5.5"))], rows, evidence_of([], numbered=False)) == [Cause.UNEXPLAINED]


def test_merged_trades_that_do_not_tell_their_count_are_not_counted():
    rows = [evolve(trade(1, 0, 5, 1), kind="merged"), evolve(trade(2, 1, 6, 1), kind="merged", count=4)]
    (theirs,) = of_venue([trade(1, 0, 5, 1), trade(2, 1, 6, 1)])
    assert causes([evolve(theirs, trades=9)], rows, [claim(rows)]) == []
    assert causes([evolve(theirs, trades=9)], [rows[1]], [claim(rows)]) == [Cause.MISSING]


def test_a_day_that_opens_elsewhere():
    """A venue whose days begin at four in the afternoon."""
    text, day = "1d", 24 * HOUR
    first = interval(text).floor(START)
    rows = [evolve(trade(n, 0, 5 + n, Decimal(3) ** n), venue_time=first + n * 5 * HOUR) for n in range(20)]
    shifted = [evolve(row, venue_time=row.venue_time + 8 * HOUR) for row in rows]
    theirs = [row for row in of_venue(shifted, text) if row.open_time == first + day]
    spans, read = Spans.of((first + day, first + 2 * day)), (first, first + 4 * day)
    dataset = Dataset(Candle, "binance", "BTC/USDT", (text, "venue"))
    (finding,) = audit(dataset, "raw", theirs, rows, [claim(rows, *read)], spans, read).findings
    assert (finding.cause, finding.detail) == (Cause.BOUNDARY, "the venue's candle begins 8 h earlier")


# ---------------------------------------------------------------- alone


def test_units_are_told_from_a_candle_alone():
    """Trap: prices turned from rial to toman, and the volume with them. Typical price × volume betrays it."""
    rows = [trade(1, 0, "92.5", "0.25"), trade(2, 1, "93.5", "0.5")]
    (right,) = of_venue(rows)
    spans = Spans.of((START, END))
    assert alone(CANDLES, [right], spans).findings == ()
    (finding,) = alone(CANDLES, [evolve(right, volume=right.volume / 10)], spans).findings
    assert (finding.cause, finding.kind) == (Cause.UNIT, None)
    (finding,) = alone(CANDLES, [evolve(right, high=Decimal(93))], spans).findings
    assert (finding.cause, finding.detail) == (Cause.WRONG, "open or close lies outside low and high")
    assert alone(CANDLES, [evolve(right, volume=Decimal(), high=Decimal(93))], spans).findings == ()
    assert impossible(evolve(right, volume=Decimal(-1))) == "a volume of -1"


# ---------------------------------------------------------------- as intervals


def test_neighbours_are_one_interval():
    """Trap: one line per bucket. A quiet minute does not part a run, one that agrees does, another cause too."""
    rows = [trade(n, n * MINUTE, 5 + n, 3**n) for n in (0, 1, 3, 4, 5)]
    theirs = of_venue(rows)
    for row in (theirs[0], theirs[1], theirs[2], theirs[4]):
        row.volume *= 10
    told = merged(audited(theirs, rows, [claim(rows, START - HOUR, END + HOUR, chained=False, grade=Grade.B)]))
    assert [(t.start - START, t.end - START, t.candles, t.fields) for t in told] == [
        (0, 4 * MINUTE, 3, ("volume",)),
        (5 * MINUTE, 6 * MINUTE, 1, ("volume",)),
    ]
    theirs[1].volume *= 10
    told = merged(audited(theirs, rows, [claim(rows, START - HOUR, END + HOUR, chained=False, grade=Grade.B)]))
    assert [(t.start - START) // MINUTE for t in told] == [0, 1, 3, 5]
