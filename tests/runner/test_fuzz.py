"""Whatever a venue answers, a run ends: with rows that a store can hold, or with an error of the venue that says where."""

import asyncio
import copy
import json
import random
from functools import cache

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood import plugins
from tradeflood.coverage import Grade, State
from tradeflood.errors import PayloadChanged, TransportError, VenueError
from tradeflood.models import Candle, Market, Ticker, Trade, interval
from tradeflood.models.checks import checked, exact
from tradeflood.models.time import HOUR, MINUTE, SECOND, iso, parse_time
from tradeflood.planner import Query
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.execute import Patience
from tradeflood.runner.flood import Flood
from tradeflood.store.memory import check
from tradeflood.testing import FakeClock, FakeTransport, answers_of
from tradeflood.turns import registry
from tradeflood.turns.turn import TurnSpec

NOW = parse_time("2026-03-04T05:06:07")
MOST = 60
"""Requests after which a run is told that the venue is gone: a venue may send one into circles, but not for ever."""

plugins.load()
VENUES = ("binance", "okx", "nobitex", "bitget")


def queries(venue):
    """One query per model and way of asking."""
    market = f"{venue}:BTC/IRT" if venue == "nobitex" else f"{venue}:BTC/USDT"
    day = 5 * HOUR
    yield Query(Market, f"{venue}:*")
    yield Query(Ticker, market)
    for back, length in ((HOUR, 30 * MINUTE), (8 * day, HOUR), (45 * 24 * HOUR, HOUR)):
        start = (NOW - back) // MINUTE * MINUTE
        yield Query(Candle, market, interval="1m", start=iso(start), end=iso(start + length))
    yield Query(Candle, market, interval="1m", start=iso(NOW - 10 * MINUTE), end=iso(NOW))
    for kind in ("raw", "merged"):
        binding = registry.candidates(registry.connector(venue), Trade)
        if any(made.makes((kind,)) and made.has_history() for made in binding):
            yield Query(Trade, market, kind=kind, start=iso(NOW - 20 * SECOND), end=iso(NOW))
            if venue != "nobitex":  # which has no history of them
                yield Query(Trade, market, kind=kind, start=iso(NOW - 6 * MINUTE), end=iso(NOW - 5 * MINUTE))


CASES = [
    pytest.param(query, id=f"{query.venue}-{number}-{query.model.name()}")
    for venue in VENUES
    for number, query in enumerate(queries(venue))
]


@cache
def desk(venue):
    return desk_of(venue)(Simulated(3), Clock(1, NOW, monotonic=lambda: 0))


def run(query, spoil):
    """The finished run of a query against the simulated venue, every answer handed to `spoil` first."""
    clock = FakeClock(NOW)
    good = answers_of(desk(query.venue), FakeClock(NOW))
    sent = []

    async def answer(call):
        sent.append(call)
        if len(sent) > MOST:
            raise TransportError("gone")
        told = await good(call)
        return msgspec.structs.replace(told, body=spoil(len(sent), told.body))

    async def main():
        transport = FakeTransport(answer, clock)
        async with Flood({}, transport=transport, clock=clock, patience=Patience(1, 1)) as flood:
            return (await flood.run(flood.plan(query)))[0]

    desk(query.venue).__init__(Simulated(3), Clock(1, NOW, monotonic=lambda: 0))  # its budgets begin anew
    return asyncio.run(main())


def judge(frame, query):
    """What must be true of every answer."""
    for failure in frame.failures:
        assert isinstance(failure.error, VenueError | TransportError), repr(failure.error)
        assert "\n" not in str(failure.error)
        if isinstance(failure.error, PayloadChanged):
            assert failure.error.path.startswith("$")
    for row in frame:
        check(type(row), exact(checked(row)))
    for dataset, parts in frame.coverage.parts.items():
        assert dataset.model is query.model
        assert all(part.start < part.end for part in parts)
        assert all(part.grade in Grade for part in parts if part.state is State.HELD)
    json.dumps(frame.coverage.to_json())


@pytest.mark.parametrize("query", CASES)
def test_the_honest_answer_is_an_answer(query):
    """The cases are real ones: unspoilt, each brings rows and no failure."""
    frame = run(query, lambda _, body: body)
    assert len(frame) > 0
    assert frame.failures == ()
    judge(frame, query)


def test_every_turn_that_asks_is_among_the_cases():
    """A new turn of a built-in venue is fuzzed too, or the cases must grow."""
    seen = set()
    for query in (case.values[0] for case in CASES):
        original = {}
        connector = registry.connector(query.venue)
        for name, spec in vars(connector).items():
            if isinstance(spec, TurnSpec) and not spec.live:
                original[name] = spec.build
                spec.build = lambda *args, _name=name, _build=spec.build, _venue=query.venue: (
                    seen.add((_venue, _name)) or _build(*args)
                )
        try:
            run(query, lambda _, body: body)
        finally:
            for name, build in original.items():
                vars(connector)[name].build = build
    declared = {
        (venue, name)
        for venue in VENUES
        for name, spec in vars(registry.connector(venue)).items()
        if isinstance(spec, TurnSpec) and not spec.live
    }
    assert declared - seen <= SELDOM


# Asked when somebody streams by polling; where a venue remembers nothing before; where nothing has happened since.
SELDOM = {("okx", "recent_trades"), ("okx", "trades_back"), ("binance", "newest"), ("bitget", "newest")}


# ---------------------------------------------------------------- bodies that are nothing

HOSTILE = [
    None, True, False, 0, -1, 1, 10**12, 10**18, 10**30, -(10**30), 1.5, 1e300, "", " ", "abc", "NaN", "nan", "sNaN", "Infinity",
    "-Infinity", "1e400", "1E+30", "1e-30", "-0", "0", "-5", "1_000", "٣٤", "+1", "0x10", "1" * 40, "0." + "1" * 30, "é\u0000",
    "\U0001f600", [], {}, [[]], [None], {"code": 1}, "9" * 5000, "2026-01-01", "buy",
]  # fmt: skip

RAW = [
    b"", b" ", b"null", b"[]", b"{}", b"0", b'""', b"true", b"[[]]", b"[null]", b"<html></html>", b"\xff\xfe", b"\x00", b'"\xff"',
    b'{"code":', b'{"code":-1,"msg":"\xff"}', b'{"code":"0","data":null}', b'{"code":"0","data":"x"}', b'{"code":"00000","data":[null]}',
    b'{"code":[]}', b'{"status":"ok"}', b'{"status":"failed","code":5}', b'{"status":{"a":1}}', b'{"s":"ok","t":[1],"o":[]}',
    b'{"backOff":-1,"code":"TooManyRequests"}', b'{"backOff":99999999999999999999,"code":"TooManyRequests"}', b'{"backOff":"x"}',
    b'{"s":"error","errmsg":5}', b"[" * 3_000, b'{"a":' * 3_000, b'{"code":-1121}', b'{"code":-1003,"msg":"x"}', b"NaN", b"[NaN]",
    b'{"code":-1e400}', b'[[1e400,"1","1","1","1","1",1,"1",1]]', b'"\\ud800"', b'{"symbols":[{"symbol":"\\ud800"}]}',
    b'{"code":"50011","msg":"\xed\xa0\x80"}', b'{"code":"0","data":[]}' + b" " * 1000, b'{"stats":{"":{}}}', b'{"stats":{"-":{}}}',
]  # fmt: skip


@pytest.mark.parametrize("query", CASES)
def test_bodies_that_nobody_expects(query):
    for number in (1, 2):
        for body in RAW:
            frame = run(query, lambda place, good, number=number, body=body: body if place == number else good)
            judge(frame, query)


@given(
    st.sampled_from([case.values[0] for case in CASES]),
    st.binary(max_size=60) | st.text(max_size=40).map(str.encode),
    st.integers(1, 3),
)
def test_random_bodies(query, body, number):
    judge(run(query, lambda place, good: body if place >= number else good), query)


# ---------------------------------------------------------------- good bodies with something wrong


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:3] + value[-1:] if len(value) > 4 else value):
            yield from places(inner, (*path, index if len(value) <= 4 or index < 3 else len(value) - 1))


def mutated(body, rng):
    """A good body with one to three things changed."""
    kind = rng.randrange(10)
    if kind == 0 and body:
        return body[: rng.randrange(len(body))]
    if kind == 1 and body:
        at = rng.randrange(len(body))
        return body[:at] + bytes([rng.randrange(256)]) + body[at + rng.randrange(2) :]
    value = json.loads(body, parse_float=str)
    for _ in range(rng.randint(1, 3)):
        path = rng.choice(list(places(value)))
        if not path:
            if rng.random() < 0.1:
                return json.dumps(rng.choice(HOSTILE)).encode()
            continue
        holder = value
        for step in path[:-1]:
            holder = holder[step]
        change = rng.randrange(6)
        if change == 0:
            del holder[path[-1]]
        elif change == 1 and isinstance(holder, list):
            holder.insert(path[-1], copy.deepcopy(holder[path[-1]]))
        elif change == 2 and isinstance(holder, list):
            holder.reverse()
        elif change == 3 and isinstance(holder[path[-1]], str | int):
            holder[path[-1]] = f"-{holder[path[-1]]}" if isinstance(holder[path[-1]], str) else -holder[path[-1]]
        else:
            holder[path[-1]] = copy.deepcopy(rng.choice(HOSTILE))
    return json.dumps(value).encode()


@pytest.mark.parametrize("query", CASES)
def test_good_bodies_with_something_wrong(query):
    rng = random.Random(f"{query!r}")
    for _ in range(40):
        seed, every, number = rng.random(), rng.random() < 0.3, rng.randint(1, 3)

        def spoil(place, body, seed=seed, every=every, number=number):
            return mutated(body, random.Random(seed + place)) if every or place == number else body

        judge(run(query, spoil), query)


# ---------------------------------------------------------------- prices that are none


@pytest.mark.parametrize("price", ["NaN", "Infinity", "-Infinity", "1e400", "1E+25", "sNaN", "1e-30"])
@pytest.mark.parametrize("query", [case for case in CASES if case.values[0].model in (Trade, Candle)])
def test_a_price_that_is_none_is_never_a_row(query, price):
    """Every number of the first row in turn; the page fails and says which field it was."""
    spoilt = []

    def spoil(place, body):
        value = json.loads(body, parse_float=str)
        for path in places(value):
            holder = value
            for step in path[:-1]:
                holder = holder[step]
            last = path[-1] if path else None
            if last in {"p", "px", "price", "o", "open"} or (
                last == 1 and isinstance(holder, list) and isinstance(holder[1], str)
            ):
                if isinstance(holder[last], list):
                    holder[last][0] = price
                else:
                    holder[last] = price
                spoilt.append(path)
                return json.dumps(value).encode()
        return body

    frame = run(query, spoil)
    judge(frame, query)
    assert spoilt
    assert any(isinstance(failure.error, PayloadChanged) for failure in frame.failures)


@pytest.mark.parametrize("venue", VENUES)
def test_a_time_that_no_store_can_hold_is_never_a_row(venue):
    """A time in the year 300000: the page fails."""
    query = next(query for query in queries(venue) if query.model is Candle)

    def spoil(place, body):
        opened = next(iter(interval("1m").opens(query.start, query.end)))
        for unit in (10**6, 10**9):
            body = body.replace(str(opened // unit).encode(), str(10**22 // unit).encode())
        return body

    frame = run(query, spoil)
    judge(frame, query)
