"""How many requests a plan makes: the fewest that the venue's own limits allow."""

import pytest

from tradeflood.coverage import Claim, Dataset, Grade, State
from tradeflood.models import Candle, Market, Ticker, Trade
from tradeflood.models.time import iso, minutes, parse_time
from tradeflood.planner import Plan, Query

START = parse_time("2025-06-01")
KLINES, OLD, AGG, INFO = (
    "/api/v3/klines", "/api/v3/historicalTrades", "/api/v3/aggTrades", "/api/v3/exchangeInfo",
)  # fmt: skip


def candles(market, first, last, interval="1m"):
    return Query(Candle, market, interval=interval, start=iso(START + minutes(first)), end=iso(START + minutes(last)))


def trades(market, first, last, **kind):
    return Query(Trade, market, start=iso(START + minutes(first)), end=iso(START + minutes(last)), **kind)


def test_a_hundred_markets_with_a_wildcard_take_the_lower_bound(go, answers):
    """Market, Trade and two overlapping Candle queries over 100 markets, named one by one, and a wildcard for all.

    The lower bound, from the venue's own limits:

    - 1 for the market list, which also resolves the wildcard;
    - per market the candles wanted are minutes [0, 1500), 1,000 to a page: 2 pages, 200 in all
      (asked one by one it would be 1 + 1 for [0, 1000) and [500, 1500), and 2 for the wildcard's [0, 1500));
    - per market the trades wanted are minutes [0, 10) at one each 0.6 s: 1,000 ids, one page, and the ids at its
      two ends must be looked up: 2 + 1, 300 in all.
    """
    queries = [Query(Market, "binance:*"), candles("binance:*/USDT", 0, 1500)]
    for number in range(100):
        market = f"binance:A{number}/USDT"
        queries += [trades(market, 0, 10), candles(market, 0, 1000), candles(market, 500, 1500)]
    run = go(*queries)
    assert answers.count == {INFO: 1, KLINES: 200, AGG: 200, OLD: 100}
    assert sum(answers.count.values()) == len(run.nodes) == 1 + 200 + 300
    assert len(set(answers.log)) == len(answers.log)
    assert len(run.frame(queries[0])) == 100
    assert len(run.frame(queries[1])) == 100 * 1500
    assert {len(run.frame(query)) for query in queries[2:] if query.model is Trade} == {1000}
    assert {len(run.frame(query)) for query in queries[2:] if query.model is Candle} == {1000}


def test_explain_shows_what_is_merged_and_saved(venues, go):
    """Two overlapping queries and one inside both: asked 2 + 2 + 1, merged into 3; what the store holds is dropped."""
    queries = [
        candles("binance:A1/USDT", 0, 2000),
        candles("binance:A1/USDT", 500, 2500),
        candles("binance:A1/USDT", 700, 800),
    ]
    told = Plan(queries, venues, at=START + minutes(10_000)).explain()
    assert (told.asked, told.merged, told.dropped, told.left) == (5, 2, 0, 3)

    class Store:
        def claims(self, dataset):
            return [Claim(dataset, START, START + minutes(1000), State.HELD, Grade.A, "x")]

        def rows(self, dataset, spans):
            raise AssertionError("planning reads no rows")

    told = Plan(queries, venues, store=Store(), at=START + minutes(10_000)).explain()
    assert (told.asked, told.merged, told.dropped, told.left) == (5, 2, 1, 2)
    assert "2 requests: 5 asked for, 2 merged, 1 held by the store already" in str(told)
    assert told.lanes[0].weight == 4


def test_the_same_query_twice_is_asked_once(go, answers):
    """Equal queries share every request and both get the answer."""
    query = candles("binance:A1/USDT", 0, 10)
    run = go(query, candles("binance:A1/USDT", 0, 10))
    assert answers.count == {KLINES: 1}
    assert len(run.frame(query)) == 10


def test_raw_and_merged_trades_share_the_look_ups(go, answers):
    """Both kinds ask where the ids of the same moments lie: once."""
    run = go(trades("binance:A1/USDT", 0, 5), trades("binance:A1/USDT", 0, 5, kind="merged"))
    assert answers.count == {AGG: 2 + 1, OLD: 1}
    assert [len(run.frame(query)) for query in run.queries] == [500, 500]
    assert {row.kind for row in run.frame(run.queries[1])} == {"merged"}


def test_tickers_are_fused_and_everyone_gets_his_own(go, answers):
    """A hundred tickers are one request, and no market gets another's row."""
    day = dict.fromkeys(
        ("lastPrice", "bidPrice", "askPrice", "openPrice", "highPrice", "lowPrice", "volume", "quoteVolume"), "1"
    )
    import msgspec

    answers.rules.append(
        lambda path, params: (
            msgspec.json.encode(
                [
                    {"symbol": name, "closeTime": 1, "lastId": 5, "count": 2, **day}
                    for name in msgspec.json.decode(params["symbols"])
                ]
            )
            if path.endswith("24hr")
            else None
        )
    )
    queries = [Query(Ticker, f"binance:A{number}/USDT") for number in range(100)]
    run = go(*queries)
    assert sum(answers.count.values()) == 1
    assert [[row.market for row in run.frame(query)] for query in queries] == [[f"A{n}/USDT"] for n in range(100)]


def test_holes_closer_than_a_page_share_a_page(go, answers):
    """Three short spans within a thousand positions are one request."""
    go(*(candles("binance:A1/USDT", at, at + 10) for at in (0, 400, 900)))
    assert answers.count == {KLINES: 1}


def test_a_clamped_limit_is_not_taken_for_the_end(go, answers):
    """A venue that gives 500 rows where 1,000 were asked is asked on, until nothing is missing."""
    full = answers.klines
    answers.klines = lambda params: full(params)[:500]
    run = go(candles("binance:A1/USDT", 0, 1000))
    assert answers.count == {KLINES: 2}
    assert len(run.frame(run.queries[0])) == 1000


@pytest.mark.parametrize("held", [(0, 1500), (500, 1000), (1000, 1500)])
def test_what_the_store_holds_is_not_asked(venues, answers, held):
    """A dataset that is held is subtracted; what is left is asked in the fewest pages."""
    from .conftest import NOW, Run, drive

    class Store:
        def claims(self, dataset):
            assert dataset == Dataset(Candle, "binance", "A1/USDT", ("1m", "venue"))
            return [Claim(dataset, START + minutes(held[0]), START + minutes(held[1]), State.HELD, Grade.A, "x")]

        def rows(self, dataset, spans):
            return []

    run = drive(Run([candles("binance:A1/USDT", 0, 1500)], venues, NOW, Store()), answers)
    missing = 1500 - (held[1] - held[0])
    assert sum(answers.count.values()) == {0: 0, 1000: 1 if held == (1000, 1500) else 2}[missing]
    assert len(run.works[Dataset(Candle, "binance", "A1/USDT", ("1m", "venue"))].models) >= missing
