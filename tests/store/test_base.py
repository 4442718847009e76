"""What every store promises: each scheme that needs no server is asked the same questions."""

import asyncio
import itertools
import random
from decimal import Decimal

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tradeflood.coverage import Claim, Dataset, Grade, State
from tradeflood.errors import StoreError, UsageError
from tradeflood.models import Candle, Market, Model, Side, Ticker, Trade
from tradeflood.models.time import DAY, MINUTE, SECOND, parse_time
from tradeflood.store import Summary
from tradeflood.store.base import dataset_of, number_of, order_of, version_fields
from tradeflood.testing.strategies import claims, datasets, rows

AT = parse_time("2026-03-31T23:59:59.999Z")
RAW = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
BARS = Dataset(Candle, "binance", "BTC/USDT", ("1m", "venue"))
ALWAYS = (-(1 << 63), 1 << 63)

# A fresh store per test, not per example: each example has a venue of its own.
fresh = itertools.count()
many = settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def trade(number, **more):
    values = {"price": Decimal("61234.5"), "size": Decimal("0.001"), "aggressor": Side.BUY, "venue_time": AT}
    if isinstance(number, int):
        values["venue_time"] += number * SECOND
    return Trade("binance", "BTC/USDT", "raw", str(number), **(values | more))


def candle(number, close="1", **more):
    one = Decimal(1)
    return Candle(
        "binance", "BTC/USDT", "1m", "venue", AT + number * MINUTE, one, one, one, Decimal(close), one, **more
    )


def claim(start, end, state=State.HELD, grade=Grade.A, dataset=RAW, **more):
    return Claim(dataset, start, end, state, grade, "ids", **more)


def put(store, *some):
    store.write({type(some[0]): some})


# ---------------------------------------------------------------- rows


@many
@given(data=st.data())
@pytest.mark.parametrize("name", ["trade", "candle", "storespread", "storefunding"])
def test_any_row_comes_back_the_same(store, name, data):
    row = data.draw(rows(Model.named(name)))
    row.venue += str(next(fresh))
    put(store, row)
    assert [row] == store.read(dataset_of(row), *ALWAYS)


@many
@given(data=st.data())
@pytest.mark.parametrize("model", [Market, Ticker])
def test_any_row_of_a_list_comes_back_the_same(store, model, data):
    row = data.draw(rows(model))
    row.venue += str(next(fresh))
    put(store, row)
    assert [row] == store.read_list(model, row.venue)


def test_the_same_rows_in_any_batches_are_there_once_at_once(store):
    some = [trade(number) for number in range(60)]
    chance = random.Random(1)
    for size in (60, 7, 1, 25):
        again = chance.sample(some, len(some))
        for first in range(0, len(again), size):
            put(store, *again[first : first + size])
        assert store.read(RAW, *ALWAYS) == some
    put(store, *some, *some)
    assert store.read(RAW, *ALWAYS) == some


def test_trade_ids_are_sorted_as_numbers(store):
    same_time = [trade(number, venue_time=AT) for number in ("1000", "999", "0998", "12x", "99999999999999999999")]
    put(store, *same_time)
    assert [row.trade_id for row in store.read(RAW, *ALWAYS)] == ["12x", "99999999999999999999", "0998", "999", "1000"]


@given(st.text() | st.integers(0, 10**22).map(str))
def test_the_number_of_a_position_is_a_pure_function_of_it(text):
    number = number_of(text)
    assert 0 <= number < 1 << 64
    assert not number or int(text) == number


def test_a_revised_time_across_a_month_leaves_one_row(store):
    early, late = trade(1, venue_time=AT), trade(1, venue_time=AT + DAY)
    for first, second in ((early, late), (late, early)):
        put(store, first)
        put(store, second)
        assert store.read(RAW, *ALWAYS) == [second]
        assert store.read(RAW, second.venue_time, second.venue_time + 1) == [second]
        assert store.read(RAW, first.venue_time, first.venue_time + 1) == []


def test_a_range_is_half_open(store):
    some = [trade(number) for number in range(5)]
    put(store, *some)
    assert store.read(RAW, some[1].venue_time, some[3].venue_time) == some[1:3]
    assert store.read(RAW, some[1].venue_time + 1, some[3].venue_time + 1) == some[2:4]
    assert store.read(RAW, some[3].venue_time, some[1].venue_time) == []


def test_kinds_markets_and_venues_do_not_mix(store):
    others = [evolve(trade(1), kind="merged"), evolve(trade(1), market="ETH/USDT"), evolve(trade(1), venue="okx")]
    put(store, trade(1), *others)
    assert store.read(RAW, *ALWAYS) == [trade(1)]
    for other in others:
        assert store.read(dataset_of(other), *ALWAYS) == [other]


@pytest.mark.parametrize("market", ["' OR 1=1 --", "\\", "a\tb\nc", "{k0:String}", "`x`", "", "𝔘/USDT", "\0", "\\N"])
def test_a_hostile_name_is_only_a_name(store, market):
    hostile = evolve(trade(1), market=market, venue=market)
    put(store, hostile, trade(2))
    about = claim(0, 5, dataset=dataset_of(hostile))
    store.write({}, [about])
    assert store.read(dataset_of(hostile), *ALWAYS) == [hostile]
    assert store.read(RAW, *ALWAYS) == [trade(2)]
    assert store.claims(dataset_of(hostile)) == [about]
    assert set(store.datasets()) == {RAW, dataset_of(hostile)}
    put(store, Market(market, market, market, "a", "b"))
    assert [row.market for row in store.read_list(Market, market)] == [market]


def test_a_list_has_no_range(store):
    put(store, Market("binance", "BTC/USDT", "BTCUSDT", "BTC", "USDT"))
    with pytest.raises(UsageError, match="market is a list"):
        store.read(Dataset(Market, "binance", "BTC/USDT"), 0, 1)


def test_a_list_is_in_the_order_of_its_key(store):
    some = [Market("binance", name, name, "A", "B") for name in ("B/USDT", "A/USDT", "C/USDT")]
    put(store, *some, Market("okx", "A/USDT", "A-USDT", "A", "USDT"))
    assert [row.market for row in store.read_list(Market, "binance")] == ["A/USDT", "B/USDT", "C/USDT"]
    changed = evolve(some[0], status="halted")
    put(store, changed)
    assert changed in store.read_list(Market, "binance")
    assert len(store.read_list(Market, "binance")) == 3


def test_an_empty_store_has_nothing(store):
    assert store.read(RAW, *ALWAYS) == []
    assert store.read_list(Market, "binance") == []
    assert store.claims(RAW) == []
    assert store.datasets() == []
    assert store.summary() == []
    store.write({Trade: []}, [])


# ---------------------------------------------------------------- versions


def test_a_late_running_candle_never_overwrites_the_closed_one(store):
    closed = candle(0, "5", closed=True, venue_time=AT + 60 * SECOND, received_at=AT + 61 * SECOND)
    running = candle(0, "4", closed=False, venue_time=AT + 90 * SECOND, received_at=AT + 99 * SECOND)
    unknown = candle(0, "3", venue_time=AT + 90 * SECOND)
    put(store, closed)
    for late in (running, unknown):
        put(store, late)
        assert store.read(BARS, *ALWAYS) == [closed]
    put(store, candle(0, "4", closed=False), closed, running)
    assert store.read(BARS, *ALWAYS) == [closed]


def test_of_two_running_candles_the_venues_clock_decides(store):
    late, early = candle(0, "2", venue_time=AT + 9), candle(0, "1", venue_time=AT + 5, received_at=AT + 99)
    put(store, late)
    put(store, early)
    assert store.read(BARS, *ALWAYS) == [late]


def test_a_revised_closed_candle_replaces_the_closed_one(store):
    put(store, candle(0, "1", closed=True, venue_time=AT + 5))
    put(store, candle(0, "2", closed=True, venue_time=AT + 9))
    assert [row.close for row in store.read(BARS, *ALWAYS)] == [2]


def test_of_two_trades_the_one_received_later_is_kept(store):
    early, late = trade(1, price=Decimal(1), received_at=AT + 1), trade(1, price=Decimal(2), received_at=AT + 2)
    for order in ((early, late), (late, early)):
        put(store, *order)
        assert store.read(RAW, *ALWAYS) == [late]


def test_without_a_clock_the_last_one_written_is_kept(store):
    count = 70_000 if store.url.startswith("chdb") else 100  # more than one of ClickHouse's blocks
    some = [trade(number % 50, price=Decimal(number)) for number in range(count)]
    put(store, *some)
    assert [row.price for row in store.read(RAW, *ALWAYS)] == [row.price for row in some[-50:]]
    put(store, trade(7, price=Decimal("0.5")))
    assert store.read(RAW, *ALWAYS)[7].price == Decimal("0.5")


def test_which_fields_make_a_version():
    assert (version_fields(Candle).closed, version_fields(Candle).clocks) == ("closed", ("venue_time", "received_at"))
    assert (version_fields(Trade).closed, version_fields(Trade).clocks) == (None, ("received_at",))
    assert version_fields(Ticker).clocks == ("received_at",)
    assert version_fields(Market).clocks == ()


# ---------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("price", Decimal("1E-19")),
        ("price", Decimal(10**20)),
        ("size", Decimal("NaN")),
        ("size", 0.5),
        ("price", None),
        ("venue_time", 1 << 63),
        ("trade_id", "\ud800"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_nothing_is_written(store, field, value):
    bad = evolve(trade(2), **{field: value})
    batches = {Candle: [candle(0)], Trade: [trade(1), bad]}
    with pytest.raises(StoreError, match=f"trade binance:BTC/USDT:raw:.*: {field} = .* does not fit") as caught:
        store.write(batches, [claim(0, 5)])
    assert "\n" not in str(caught.value)
    assert store.datasets() == []


def test_decimals_are_exact_to_the_last_of_38_digits(store):
    most = Decimal("99999999999999999999.999999999999999999")
    put(store, trade(1, price=most, size=most.copy_negate()), trade(2, price=Decimal("1E-18"), size=Decimal("1.50000")))
    first, second = store.read(RAW, *ALWAYS)
    assert (first.price, first.size) == (most, most.copy_negate())
    assert (second.price, second.size) == (Decimal("1E-18"), Decimal("1.5"))


# ---------------------------------------------------------------- claims


@many
@given(data=st.data())
@pytest.mark.parametrize("name", ["trade", "candle", "storespread"])
def test_any_claim_comes_back_the_same(store, name, data):
    about = data.draw(claims(datasets(Model.named(name))))
    store.write({}, [about])
    assert about in store.claims(about.dataset)
    assert about.dataset in store.datasets()


def test_the_same_claim_twice_is_there_once(store):
    one = claim(0, 5, count=3, digest="ab", as_of=7, parser="binance 1", left="1", right="4")
    store.write({}, [one, one])
    store.write({}, [one])
    assert store.claims(RAW) == [one]


def test_claims_that_differ_in_anything_are_all_there(store):
    one = claim(0, 5, left=None)
    others = [
        evolve(one, start=1), evolve(one, end=6), evolve(one, state=State.OPEN), evolve(one, grade=None),
        evolve(one, evidence="page"), evolve(one, count=1), evolve(one, digest="d"), evolve(one, as_of=1),
        evolve(one, parser="p"), evolve(one, left=""), evolve(one, right="x"),
    ]  # fmt: skip
    store.write({}, [one, *others])
    found = store.claims(RAW)
    assert len(found) == 12
    assert set(found) == {one, *others}
    assert [(c.start, c.end) for c in found] == sorted((c.start, c.end) for c in found)


def test_claims_belong_to_their_dataset(store):
    datasets = [
        RAW,
        BARS,
        Dataset(Candle, "binance", "BTC/USDT", ("1m", "trades")),
        Dataset(Trade, "okx", "BTC/USDT", ("raw",)),
    ]
    for number, dataset in enumerate(datasets):
        store.write({}, [claim(number, number + 1, dataset=dataset)])
    for number, dataset in enumerate(datasets):
        assert store.claims(dataset) == [claim(number, number + 1, dataset=dataset)]
    assert set(store.datasets()) == set(datasets)


def test_datasets_and_summary(store):
    store.write({Trade: [trade(3), trade(1), trade(1)], Candle: [candle(0)], Market: [Market("v", "m", "s", "b", "q")]})
    store.write({}, [claim(0, 1, dataset=Dataset(Trade, "okx", "BTC/USDT", ("raw",)))])
    assert store.datasets() == [BARS, RAW, Dataset(Trade, "okx", "BTC/USDT", ("raw",))]
    assert store.summary() == [
        Summary(BARS, 1, AT, AT),
        Summary(RAW, 2, AT + SECOND, AT + 3 * SECOND),
    ]


# ---------------------------------------------------------------- life


def test_a_model_may_be_defined_at_any_time(store, spread, funding):
    put(store, funding("okx", "BTC/USDT", 2, AT, Decimal("0.0001")), funding("okx", "BTC/USDT", 10, AT, Decimal(0)))
    assert [row.number for row in store.read(Dataset(funding, "okx", "BTC/USDT"), *ALWAYS)] == [2, 10]
    assert store.read(Dataset(spread, "okx", "BTC/USDT", ("1m",)), *ALWAYS) == []


def test_migrating_twice_changes_nothing(store):
    store.migrate()
    put(store, trade(1))
    assert store.migrate() == []
    assert store.read(RAW, *ALWAYS) == [trade(1)]


def test_threads_share_a_store(store):
    async def main():
        batches = [[trade(number) for number in range(first, first + 20)] for first in range(0, 160, 20)]
        writes = [asyncio.to_thread(store.write, {Trade: batch}, [claim(i, i + 1)]) for i, batch in enumerate(batches)]
        reads = [asyncio.to_thread(store.read, RAW, *ALWAYS) for _ in batches]
        await asyncio.gather(*(each for pair in zip(writes, reads, strict=True) for each in pair))

    asyncio.run(main())
    assert store.read(RAW, *ALWAYS) == [trade(number) for number in range(160)]
    assert len(store.claims(RAW)) == 8


def test_order_is_time_then_position():
    some = [trade("2", venue_time=1), trade("10", venue_time=1), trade("1", venue_time=2)]
    assert sorted([some[2], some[1], some[0]], key=order_of(Trade)) == some
