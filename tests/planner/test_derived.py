"""Models made of other models: candles from trades hold no more than their trades do."""

from tradeflood.coverage import State
from tradeflood.errors import TransportError
from tradeflood.models import Candle, Trade
from tradeflood.models.time import iso, minutes, parse_time
from tradeflood.planner import Query

START = parse_time("2025-06-01")


def candles(first, last, **variant):
    span = {"start": iso(START + minutes(first)), "end": iso(START + minutes(last))}
    return Query(Candle, "binance:A1/USDT", interval="1m", origin="trades", **variant, **span)


def test_candles_from_trades_are_whole_and_held(go, answers):
    """Ten minutes of a hundred trades each: ten candles, held throughout, grade A; the trades are asked once."""
    run = go(candles(0, 10), Query(Trade, "binance:A1/USDT", start=iso(START), end=iso(START + minutes(10))))
    frame = run.frame(run.queries[0])
    assert [(c.trades, c.volume, c.closed) for c in frame] == [(100, 200, True)] * 10
    ((dataset, parts),) = frame.coverage.parts.items()
    assert [(p.start, p.end, p.state, p.grade) for p in parts] == [(START, START + minutes(10), State.HELD, "A")]
    assert dataset.variant == ("1m", "trades")
    assert answers.count["/api/v3/historicalTrades"] == 1


def test_a_failed_page_of_trades_takes_its_candles_with_it(go, answers):
    """Of three pages of a thousand trades the second fails: its ten minutes are neither given nor held, and it is named."""
    pages = []

    def fail_second(path, params):
        if path.endswith("historicalTrades"):
            pages.append(params["fromId"])
            if len(pages) == 2:
                return TransportError("the line was cut")
        return None

    answers.rules.append(fail_second)
    run = go(candles(0, 30))
    frame = run.frame(run.queries[0])
    given_minutes = {(c.open_time - START) // minutes(1) for c in frame}
    assert {c.trades for c in frame} == {100}
    assert given_minutes.isdisjoint(range(10, 20))
    ((dataset, _),) = frame.coverage.parts.items()
    held = frame.coverage.held(dataset)
    assert not held.touches(START + minutes(10), START + minutes(20))
    assert len(frame) == held.size // minutes(1)
    assert len(frame) >= 18
    assert "the line was cut" in str(frame.failures[0].error)
