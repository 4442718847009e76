"""What venues do wrong, one by one: contained, named, and told apart from having nothing to say."""

import asyncio
import inspect
import random

import msgspec
import pytest

from tradeflood.coverage import Dataset, State
from tradeflood.errors import (
    DeclarationError,
    PayloadChanged,
    RateLimited,
    Refused,
    TransportError,
    Unavailable,
    UnknownMarket,
)
from tradeflood.models import Candle, Market, Ticker, Trade
from tradeflood.models.time import DAY, HOUR, MINUTE, MS, SECOND, iso, parse_time
from tradeflood.planner import Query
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.faults import Faults, FaultyDesk
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.execute import Patience
from tradeflood.runner.flood import Flood
from tradeflood.spans import Spans
from tradeflood.testing import FakeClock, FakeTransport, answers_of, params_of, reply
from tradeflood.turns import Binding, registry, turn_execution

NOW = parse_time("2026-03-04T05:06:07")
KLINES = "/api/v3/klines"
TRADES = "/api/v3/historicalTrades"
LIST = "/api/v3/exchangeInfo"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No test finds a configuration, or leaves a file in the tree."""
    monkeypatch.chdir(tmp_path)
    random.seed(7)  # jitter


class Venue:
    """A simulated venue behind a fake transport, with faults; the clock jumps."""

    def __init__(self, *faults, venue="binance", rule=None, patience=None):
        self.clock = FakeClock(NOW)
        self.faults = Faults(faults, 1)
        paced = Clock(1, NOW, monotonic=self.clock.now)
        self.desk = FaultyDesk(desk_of(venue), Simulated(3), paced, self.faults)
        good = answers_of(self.desk, self.clock)

        async def answer(call):
            told = rule(call) if rule else None
            if told is None:
                told = good(call)
            return await told if inspect.isawaitable(told) else told

        self.transport = FakeTransport(answer, self.clock)
        self.patience = patience

    def flood(self, config=None):
        return Flood(config or {}, transport=self.transport, clock=self.clock, patience=self.patience)

    def run(self, *queries, config=None):
        """The frames of some queries, from one plan."""

        async def main():
            async with self.flood(config) as flood:
                return list(await flood.run(flood.plan(*queries)))

        return asyncio.run(main())


def candles(market="BTC/USDT", count=60, start=NOW - 2 * HOUR, venue="binance"):
    start = start // MINUTE * MINUTE
    return Query(Candle, f"{venue}:{market}", interval="1m", start=iso(start), end=iso(start + count * MINUTE))


def trades(seconds=120, market="BTC/USDT", back=HOUR, **kind):
    start = NOW - back
    return Query(Trade, f"binance:{market}", start=iso(start), end=iso(start + seconds * SECOND), **kind)


def held(frame):
    """The spans that the only dataset of a frame holds."""
    ((dataset, _),) = frame.coverage.parts.items()
    return frame.coverage.held(dataset)


def failures(frame):
    return [failure.error for failure in frame.failures]


# ---------------------------------------------------------------- answers that are none

WHOLE = Venue().run(candles())[0]


def test_the_honest_venue_holds_all_that_was_asked():
    query = candles()
    assert len(WHOLE) == 60
    assert held(WHOLE) == query.spans


@pytest.mark.parametrize(
    ("fault", "error", "says", "tries"),
    [
        ("html", Unavailable, "a page instead of data (HTTP 200): <!DOCTYPE html>", 4),
        ("html=503", Unavailable, "HTTP 503", 4),
        ("html=403", Unavailable, "HTTP 403", 4),
        ("html=404", Refused, "HTTP 404", 1),
        ("truncated", PayloadChanged, "binance.klines: Input data was truncated", 1),
        ("half", TransportError, "closed before the answer was whole", 4),
        ("types", PayloadChanged, "binance.klines: Expected `int`, got `object` - at `$[0][0]`", 1),
        ("error200", Unavailable, "code -1000", 4),
        ("empty", Unavailable, "an empty answer (HTTP 200)", 4),
        ("nothing", TransportError, "closed before the answer", 4),
    ],
)
def test_an_answer_that_is_none_fails_its_span_and_says_why(fault, error, says, tries):
    """Never rows, never "nothing there": the failure has the error, the span and the request; coverage holds nothing."""
    venue, query = Venue(fault), candles()
    (frame,) = venue.run(query)
    (failure,) = frame.failures
    assert type(failure.error) is error
    assert says in str(failure.error)
    assert "binance" in str(failure.error)
    assert (failure.start, failure.end) == (query.start, query.end)
    assert not frame
    assert not held(frame)
    assert venue.transport.count == {KLINES: tries}
    if tries > 1 or error is Refused:
        assert failure.error.request.path == KLINES
    if fault == "types":
        assert failure.error.path == "$[0][0]"
        assert failure.error.body


@pytest.mark.parametrize("fault", ["html#3", "error200#3", "empty#3", "nothing#3", "half#3", "slow=30#1"])
def test_a_venue_that_comes_back_in_time_is_not_noticed(fault):
    """Three bad answers are borne; the delays between them grow and stay small."""
    venue = Venue(fault)
    (frame,) = venue.run(candles())
    assert (len(frame), frame.failures) == (60, ())
    assert held(frame) == WHOLE.coverage.held(next(iter(WHOLE.coverage.parts)))
    assert venue.clock.elapsed < (31 if "slow" in fault else 4) * SECOND


@pytest.mark.parametrize("venue", ["okx", "nobitex", "bitget"])
@pytest.mark.parametrize(
    "fault", ["html", "truncated", "half", "types", "error200", "empty", "nothing", "429", "ban=7200"]
)
def test_every_venue_fails_by_name_and_holds_nothing(venue, fault):
    """The same of the other venues, whose answers stand in envelopes and whose errors come inside HTTP 200."""
    market = "BTC/IRT" if venue == "nobitex" else "BTC/USDT"
    simulated = Venue(fault, venue=venue)
    (frame,) = simulated.run(candles(market, venue=venue))
    assert not frame
    assert frame.failures
    assert all(
        isinstance(error, Unavailable | PayloadChanged | TransportError | RateLimited | Refused)
        for error in failures(frame)
    )
    assert all(venue in str(error) for error in failures(frame))
    assert not any(frame.coverage.held(dataset) for dataset in frame.coverage.parts)
    assert simulated.clock.elapsed < HOUR


# ---------------------------------------------------------------- not now


def test_429_without_retry_after_pauses_for_longer_each_time_and_loses_nothing():
    """Two refusals, five seconds and ten and some chance; then the same request is made again."""
    venue = Venue("429#2")
    (frame,) = venue.run(candles())
    assert (len(frame), frame.failures) == (60, ())
    assert venue.transport.count == {KLINES: 3}
    assert len(set(venue.transport.asked)) == 1
    assert 15 * SECOND <= venue.clock.elapsed < 23 * SECOND


def test_429_with_retry_after_pauses_for_just_that():
    venue = Venue("429=7#1")
    (frame,) = venue.run(candles())
    assert len(frame) == 60
    assert 7 * SECOND <= venue.clock.elapsed < 9 * SECOND


def test_a_venue_that_never_says_yes_is_given_up():
    """A bounded number of waits, after which the span fails with what the venue said."""
    venue = Venue("429")
    (frame,) = venue.run(candles())
    (error,) = failures(frame)
    assert isinstance(error, RateLimited)
    assert "code -1003" in str(error)
    assert venue.transport.count == {KLINES: 8}
    assert venue.clock.elapsed < 10 * MINUTE


def test_a_pause_holds_every_request_on_that_budget():
    """While one request waits out its pause no other is sent: the venue counts refused requests too."""
    venue = Venue("429=30#1")
    frames = venue.run(*(candles(market) for market in ("BTC/USDT", "ETH/USDT", "SOL/USDT")), trades())
    assert not [error for frame in frames for error in failures(frame)]
    assert len(venue.faults.injected) == 1
    moments = [at for at in venue.clock.slept if at >= 29 * SECOND]
    assert moments


@pytest.mark.parametrize(("refusal", "held"), [(429, [30, 0]), (418, [30, 30])])
def test_a_limit_of_one_endpoint_holds_up_no_other_and_a_ban_does(refusal, held):
    """Candles and trades are two budgets of OKX: trades go on, unless the whole address is shut out."""
    asked = {}

    def rule(call):
        path = call.request.path.rpartition("/")[2]
        asked.setdefault(path, []).append(venue.clock.elapsed / SECOND)
        if path == "history-candles" and len(asked[path]) == 1:
            return reply(b"{}", refusal, at=venue.clock.now(), headers={"retry-after": "30"})
        return None

    start = NOW - HOUR
    trades = Query(Trade, "okx:BTC/USDT", start=iso(start), end=iso(start + 600 * SECOND))
    venue = Venue(venue="okx", rule=rule)
    frames = venue.run(candles(venue="okx"), trades)
    assert [len(frame.failures) for frame in frames] == [0, 0]
    assert asked["history-candles"][:2] == [0, 30]
    assert len(asked["history-trades"]) >= 2
    assert [int(asked["history-candles"][1]), int(asked["history-trades"][-1])] == held


def test_a_short_ban_is_waited_out():
    """418: nothing more is sent until it is over, and then everything is."""
    venue = Venue("ban=60")
    (frame,) = venue.run(candles())
    assert (len(frame), frame.failures) == (60, ())
    assert len(venue.faults.injected) == 1
    assert 60 * SECOND <= venue.clock.elapsed < 62 * SECOND


def test_nobody_waits_for_a_ban_of_two_hours():
    """It fails at once, with the moment in the error; later requests are not even sent."""
    venue = Venue("ban=7200")
    frames = venue.run(*(candles(market) for market in ("BTC/USDT", "ETH/USDT")), trades())
    errors = [error for frame in frames for error in failures(frame)]
    assert {type(error) for error in errors} == {RateLimited}
    assert {error.until for error in errors} == {NOW + 2 * HOUR}
    assert venue.clock.elapsed < SECOND
    assert sum(venue.transport.count.values()) <= 8


# ---------------------------------------------------------------- nobody there


def no_venue(call):
    raise TransportError(f"{call.venue}: GET {call.url}{call.request.path}: no connection")


def test_without_a_network_everything_fails_soon():
    """A hundred requests to a venue that answers nothing: the first eight are tried four times, no more."""
    venue = Venue(rule=no_venue)
    (frame,) = venue.run(candles(count=100_000, start=NOW - 100 * DAY))
    assert sum(failure.end - failure.start for failure in frame.failures) == 100_000 * MINUTE
    assert sum(venue.transport.count.values()) <= 4 * 8
    assert venue.clock.elapsed < 4 * SECOND


def test_a_venue_that_has_answered_is_tried_to_the_end():
    """An outage of most of a second in the middle: each request is tried again, nothing is given up."""
    moments = []

    def rule(call):
        moments.append(venue.clock.elapsed)
        return no_venue(call) if len(moments) > 10 and moments[-1] < moments[10] + 850 * MS else None

    venue = Venue(rule=rule)
    (frame,) = venue.run(candles(count=30_000, start=NOW - 30 * DAY))
    assert frame.failures == ()
    assert len(frame) == 30_000
    assert len(moments) > 30 + 8


# ---------------------------------------------------------------- one of many


def at_page(number, *, path=KLINES):
    """A rule that spoils one page of many, by its place."""
    seen = []

    def rule(call):
        if call.request.path != path:
            return None
        asked = str(call.request.params)
        if asked not in seen:
            seen.append(asked)
        return b"<html>" if seen.index(asked) == number else None

    return rule


def test_one_failed_page_of_many_costs_exactly_its_span():
    """Three pages, the second fails: the rest is delivered, the failure names the span, coverage lacks just that."""
    query = candles(count=3000, start=NOW - 3 * DAY)
    second = Spans.of((query.start + 1000 * MINUTE, query.start + 2000 * MINUTE))
    venue = Venue(rule=at_page(1))
    (frame,) = venue.run(query)
    (failure,) = frame.failures
    assert Spans.of((failure.start, failure.end)) == second
    assert held(frame) == query.spans - second
    assert len(frame) == 2000


def test_one_failed_page_of_trades_costs_only_what_it_stood_for():
    """Trades are asked for by id: the failure lies inside the range, and what is held has no part of it."""
    query = trades(1200)
    (whole,) = Venue().run(query)
    (frame,) = Venue(rule=at_page(1, path=TRADES)).run(query)
    assert len(whole) > 2 * len({row.trade_id for row in whole} - {row.trade_id for row in frame}) > 0
    lost = sorted(int(row.trade_id) for row in whole if row.trade_id not in {kept.trade_id for kept in frame})
    assert lost == list(range(lost[0], lost[0] + 1000))
    (failure,) = frame.failures
    before = max(row.venue_time for row in frame if int(row.trade_id) < lost[0])
    after = min(row.venue_time for row in frame if int(row.trade_id) > lost[-1])
    missing = query.spans - held(frame)
    assert missing.bounds[0] >= before
    assert missing.bounds[1] <= after + 1
    assert not [
        row for row in whole if int(row.trade_id) in lost and held(frame).touches(row.venue_time, row.venue_time + 1)
    ]
    assert query.start <= failure.start < failure.end <= query.end


def test_a_failed_look_up_is_the_failure_of_the_whole_range():
    """Where the ids of a time cannot be found nothing is asked, and nothing is held."""
    venue = Venue(rule=lambda call: b"<html>" if call.request.path.endswith("aggTrades") else None)
    (frame,) = venue.run(query := trades())
    (failure,) = frame.failures
    assert isinstance(failure.error, Unavailable)
    assert (failure.start, failure.end) == (query.start, query.end)
    assert not held(frame)
    assert TRADES not in venue.transport.count


def test_a_failed_list_belongs_to_the_pattern_and_others_are_answered():
    venue = Venue(rule=lambda call: b'{"symbols":' if call.request.path == LIST else None)
    pattern = Query(Candle, "binance:*/USDT", interval="1m", start=iso(NOW - HOUR), end=iso(NOW))
    failed, listed, answered = venue.run(pattern, Query(Market, "binance:*"), candles())
    for frame in (failed, listed):
        (error,) = failures(frame)
        assert isinstance(error, PayloadChanged)
        assert "binance.markets" in str(error)
    assert not failed
    assert len(answered) == 60
    assert not answered.failures


def test_a_pattern_that_matches_nothing_is_an_unknown_market():
    (frame,) = Venue().run(Query(Candle, "binance:NOPE*/USDT", interval="1m"))
    (error,) = failures(frame)
    assert isinstance(error, UnknownMarket)
    assert "no market matches 'NOPE*/USDT'" in str(error)


def test_a_market_that_only_the_venue_can_refuse():
    """Binance answers -1121; it is not asked again, and the other market is delivered."""
    unknown, known = (venue := Venue()).run(candles("NOPE/USDT"), candles())
    (error,) = failures(unknown)
    assert isinstance(error, UnknownMarket)
    assert "-1121" in str(error)
    assert venue.transport.count == {KLINES: 2}
    assert len(known) == 60


def test_a_status_that_nobody_knows_is_passed_on_and_not_streamed():
    """The venue invents a status: the market is listed with it, and other markets are what they were."""

    def rule(call):
        if call.request.path != LIST:
            return None
        rows = [("AUSDT", "POST_TRADING_V2", "A"), ("BUSDT", "TRADING", "B")]
        return {
            "symbols": [
                {"symbol": symbol, "status": status, "baseAsset": base, "quoteAsset": "USDT", "filters": []}
                for symbol, status, base in rows
            ]
        }

    venue = Venue(rule=rule)
    (frame,) = venue.run(Query(Market, "binance:*"))
    assert [(row.market, row.status) for row in frame] == [("A/USDT", "post_trading_v2"), ("B/USDT", "trading")]

    async def main():
        async with venue.flood() as flood:
            return [ask.market for ask in await flood.asks([Query(Trade, "binance:*/USDT")])]

    assert asyncio.run(main()) == ["B/USDT"]


def test_tickers_whose_answer_lacks_one_of_them_deliver_the_others():
    def rule(call):
        names = msgspec.json.decode(params_of(call)["symbols"])
        number = dict.fromkeys(
            "lastPrice bidPrice askPrice openPrice highPrice lowPrice volume quoteVolume".split(), "1"
        )
        return [
            {"symbol": name, **number, "closeTime": 1, "lastId": 1, "count": 1} for name in names if name != "BUSDT"
        ]

    frames = Venue(rule=rule).run(*(Query(Ticker, f"binance:{base}/USDT") for base in "ABC"))
    assert [[row.market for row in frame] for frame in frames] == [["A/USDT"], [], ["C/USDT"]]


# ---------------------------------------------------------------- half of the truth


def test_a_lagging_replica_is_not_an_empty_market():
    """A replica that is 30 s behind: what it does not show yet is neither held nor lost."""
    end = NOW // MINUTE * MINUTE
    query = Query(Trade, "binance:BTC/USDT", start=iso(end - 10 * MINUTE), end=iso(NOW))
    (whole,) = Venue().run(query)
    (frame,) = Venue("lagging=30").run(query)
    assert len(frame) < len(whole)
    newest = max(row.venue_time for row in frame)
    assert newest <= NOW - 30 * SECOND
    missing = [row.venue_time for row in whole if row.venue_time > newest]
    (parts,) = frame.coverage.parts.values()
    firm = [part for part in parts if part.state is State.HELD and part.grade and part.grade.value in "AB"]
    assert not [time for time in missing if any(part.start <= time < part.end for part in firm)]


@pytest.mark.parametrize("clamp", [1, 7, 500, 999])
def test_a_clamped_limit_is_not_the_end(clamp):
    """The venue gives fewer rows than were asked for: what is missing is asked on, and nothing is lost."""

    def rule(call):
        if call.request.path != KLINES or len(call.request.params) != 5:
            return None
        params = params_of(call)
        if int(params["limit"]) <= clamp:
            return None
        short = {**params, "limit": str(clamp)}
        changed = msgspec.structs.replace(call.request, params=tuple(sorted(short.items())))
        return good(msgspec.structs.replace(call, request=changed))

    venue = Venue(rule=rule)
    good = answers_of(venue.desk, venue.clock)
    count = 20 if clamp < 10 else 1000
    (frame,) = venue.run(query := candles(count=count, start=NOW - 2 * DAY))
    assert len(frame) == count
    assert held(frame) == query.spans
    assert frame.failures == ()


# ---------------------------------------------------------------- bindings that somebody else wrote


@pytest.fixture
def scope():
    from tradeflood import plugins

    plugins.load()
    with registry.scope() as inside:
        yield inside


def binance():
    return registry.connector("binance")


def test_a_page_of_trades_that_fails_under_derived_candles_is_missing_from_their_coverage(scope):
    """Candles made of `ask.other(Trade)`: one page of trades fails, and no candle over it is held or complete."""

    class FromTrades(Binding[Candle], connector=binance(), interval="1m", origin="trades"):
        async def __call__(self, venue, ask):
            found = await ask.other(Trade, kind="raw")
            minutes = {}
            for row in found:
                minutes.setdefault(row.venue_time // MINUTE * MINUTE, []).append(row)
            return [
                Candle(
                    "binance", ask.market, "1m", "trades", at, rows[0].price, max(row.price for row in rows),
                    min(row.price for row in rows), rows[-1].price, sum(row.size for row in rows), closed=True,
                )
                for at, rows in minutes.items()
            ]  # fmt: skip

    start = NOW // MINUTE * MINUTE - HOUR
    query = Query(
        Candle, "binance:BTC/USDT", interval="1m", origin="trades", start=iso(start), end=iso(start + 40 * MINUTE)
    )
    (whole,) = Venue().run(query)
    assert held(whole) == query.spans
    venue = Venue(rule=at_page(1, path=TRADES))
    (frame,) = venue.run(query)
    lost = query.spans - held(frame)
    assert frame.failures
    assert {type(error) for error in failures(frame)} == {Unavailable}
    assert "binance" in str(failures(frame)[0])
    assert lost
    assert held(frame)
    assert all(query.start <= failure.start < failure.end <= query.end for failure in frame.failures)
    assert lost.size >= 9 * MINUTE  # a thousand trades
    volumes = {row.open_time: row.volume for row in whole}
    assert all(
        row.volume == volumes[row.open_time] for row in frame if held(frame).touches(row.open_time, row.open_time + 1)
    )


def one_candle(scope, call):
    """What a binding of somebody else's makes of one question."""

    class Theirs(Binding[Candle], connector=binance(), interval="1m", origin="trades"):
        __call__ = call

        @turn_execution
        def pack(self, rows):
            raise RuntimeError("a bug in a packing step")

    bad = Query(
        Candle,
        "binance:BTC/USDT",
        interval="1m",
        origin="trades",
        start=iso(NOW // MINUTE * MINUTE - HOUR),
        end=iso(NOW // MINUTE * MINUTE),
    )
    frame, other = Venue().run(bad, candles())
    assert len(other) == 60
    assert not other.failures
    assert not frame
    assert not held(frame)
    (failure,) = frame.failures
    assert (failure.start, failure.end) == (bad.start, bad.end)
    return failure.error


async def _itself(self, venue, ask):
    return list(await ask)


async def _nonsense(self, venue, ask):
    return await asyncio.sleep(1)


class _Odd:
    def __await__(self):
        return (yield 42)


async def _number(self, venue, ask):
    return await _Odd()


def _raising(self, venue, ask):
    raise KeyError("a bug")


async def _raising_later(self, venue, ask):
    await venue.trade_at(ask.symbol, ask.now)
    raise KeyError("a bug")


def _unpacked(self, venue, ask):
    return venue.klines(ask.symbol, "1m").over(ask.spans)


def _text(self, venue, ask):
    return "rows"


def _numbers(self, venue, ask):
    return [1, 2, 3]


def _object(self, venue, ask):
    return 5


def _other_model(self, venue, ask):
    return [Trade("binance", ask.market, "raw", "1", None, None, None, ask.now)]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (_itself, "waits for itself"),
        (_nonsense, "neither a turn nor a model"),
        (_number, "awaited 42, which is neither a turn nor a model"),
        (_raising, "KeyError('a bug')"),
        (_raising_later, "KeyError('a bug')"),
        (_unpacked, "unpacked"),
        (_text, "Theirs"),
        (_numbers, "Theirs"),
        (_object, "Theirs"),
        (_other_model, "Theirs"),
    ],
)
def test_a_binding_that_is_wrong_is_named_and_nobody_else_suffers(scope, call, says):
    error = one_candle(scope, call)
    assert isinstance(error, DeclarationError)
    assert says in str(error)
    assert "candle" in str(error).lower() or "Theirs" in str(error)


def test_a_packing_step_that_is_wrong_is_named(scope):
    error = one_candle(scope, lambda self, venue, ask: self.pack(venue.klines(ask.symbol, "1m").over(ask.spans)))
    assert isinstance(error, PayloadChanged)
    assert "binance.klines: a bug in a packing step" in str(error)


def test_two_models_that_await_each_other_are_named(scope):
    """A circle of two: each waits for the other, nothing is asked, both say so."""

    class Candles(Binding[Candle], connector=binance(), interval="1m", origin="trades"):
        async def __call__(self, venue, ask):
            return list(await ask.other(Ticker)) + list(await ask.other(Candle, interval="2m", origin="trades"))

    class Others(Binding[Candle], connector=binance(), interval="2m", origin="trades"):
        async def __call__(self, venue, ask):
            return list(await ask.other(Candle, interval="1m", origin="trades"))

    def rule(call):
        return b"[]" if call.request.path.endswith("24hr") else None

    query = Query(Candle, "binance:BTC/USDT", interval="1m", origin="trades", start=iso(NOW - HOUR), end=iso(NOW))
    (frame,) = Venue(rule=rule).run(query)
    assert "waits for itself" in str(failures(frame)[0])
    assert not held(frame)


def test_a_binding_may_bear_the_failure_of_a_turn(scope):
    """What it awaits raises where it awaits it: it may catch that and do something else."""

    class Theirs(Binding[Candle], connector=binance(), interval="1m", origin="trades"):
        async def __call__(self, venue, ask):
            try:
                await venue.trade_at("NOPE", ask.now)
            except UnknownMarket:
                return []

    query = Query(Candle, "binance:BTC/USDT", interval="1m", origin="trades", start=iso(NOW - HOUR), end=iso(NOW))
    (frame,) = Venue().run(query)
    assert frame.failures == ()


# ---------------------------------------------------------------- time runs out


def test_a_cancelled_run_leaves_nothing_half_counted():
    """What was under way is put back, and can be taken again."""
    from tradeflood.planner import Run
    from tradeflood.runner.execute import carry_out

    venue = Venue("slow=1000")

    async def main():
        async with venue.flood() as flood:
            run = Run([candles(count=5000, start=NOW - 5 * DAY)], flood.venues, NOW)
            task = asyncio.create_task(carry_out(run, flood.network))
            venue.clock.jumps = False
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert run.outstanding == 5
            venue.faults.chosen.clear()
            venue.clock.jumps = True
            await carry_out(run, flood.network)
            return run

    run = asyncio.run(main())
    assert run.done
    assert len(run.frame(run.queries[0])) == 5000


def test_a_connector_that_stumbles_over_an_answer_is_a_failure_not_a_crash(scope):
    class Stumbling(binance()):
        def judge(self, reply):
            raise AttributeError("a bug in judge")

    (frame,) = Venue().run(candles())
    (error,) = failures(frame)
    assert isinstance(error, PayloadChanged)
    assert "a bug in judge" in str(error)


@pytest.mark.parametrize(
    "date", ["", "yesterday", "Mon, 99 Feb 2026 25:61:61 GMT", "Thu, 01 Jan 99999 00:00:00 GMT", "\x00", "0"]
)
def test_a_date_that_is_none_does_no_harm(date):
    """The venue's clock is then ours."""

    def rule(call):
        return reply(b"[]", at=NOW, headers={"date": date})

    (frame,) = Venue(rule=rule).run(candles())
    assert frame.failures == ()


@pytest.mark.parametrize(
    "header", ["soon", "-5", "1.5", "9" * 5000, "99999999999", "Thu, 01 Jan 99999 00:00:00 GMT", ""]
)
def test_a_retry_after_that_is_none_does_no_harm(header):
    """It pauses as if there were none, or fails at once where it names a moment that nobody waits for."""

    def rule(call):
        body = b'{"code":-1003,"msg":"Too many requests."}'
        return reply(body, 429, at=venue.clock.now(), headers={"retry-after": header})

    venue = Venue(rule=rule, patience=Patience(waits=3))
    (frame,) = venue.run(candles())
    (error,) = failures(frame)
    assert isinstance(error, RateLimited)
    assert venue.clock.elapsed <= 3 * MINUTE


def test_the_weight_that_the_venue_counts_slows_us_down():
    """The header says that the budget is spent, by somebody else on this address: the next page waits a minute."""

    def rule(call):
        return reply(b"[]", at=venue.clock.now(), headers={"x-mbx-used-weight-1m": "6000"})

    venue = Venue(rule=rule)
    venue.run(candles(count=20_000, start=NOW - 20 * DAY))
    assert venue.transport.count == {KLINES: 20}
    assert venue.clock.elapsed >= MINUTE


def test_a_dataset_of_a_venue_whose_clock_is_wrong_is_still_one_dataset():
    """A Date an hour in the past: what lies after it is open, not held."""

    def rule(call):
        return reply(b"[]", at=NOW - HOUR)

    (frame,) = Venue(rule=rule).run(query := candles(count=110))
    dataset = Dataset(Candle, "binance", "BTC/USDT", ("1m", "venue"))
    assert list(frame.coverage.parts) == [dataset]
    assert frame.coverage.held(dataset).bounds[1] <= NOW - HOUR < query.end
    assert query.start * MS > 0
