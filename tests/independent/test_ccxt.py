"""An independent reader: ccxt, pointed at the replay, gets what `Flood.collect` gets.

Both ask the same desks at the same moment of the simulated market, which stands nearly still, so that even a running
candle is the same for both. ccxt makes its numbers `Decimal` here, so equal means equal; one test reads its floats.
Where the two differ for a reason, the reason stands beside it.
"""

import asyncio
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import islice

import pytest

from tradeflood import Candle, Flood, Market, Trade
from tradeflood.models import interval
from tradeflood.models.time import DAY, HOUR, MINUTE, MS, SECOND, iso, parse_time
from tradeflood.planner import Query
from tradeflood.replay.server import serve

ccxt = pytest.importorskip("ccxt", reason="ccxt is not installed: it is in the group test of pyproject.toml")
asynchronous = pytest.importorskip("ccxt.async_support")
pro = pytest.importorskip("ccxt.pro")

pytestmark = pytest.mark.loopback

START = parse_time("2026-03-04T05:06:07.089")  # a Wednesday; 13:06 in Hong Kong
FIRST = parse_time("2020-02-03")  # the markets begin with the year
STILL = "0.000001"  # an hour of testing is four milliseconds of the market
VENUES = ("binance", "okx", "bitget")
MARKETS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "DOGE/USDT")


class Watch:
    """Our clock: it stands still as the market does, but for what was waited for."""

    def __init__(self):
        self.time = START

    def now(self):
        return self.time

    async def sleep(self, duration):
        await asyncio.sleep(duration / SECOND)  # the desks count budgets at real speed
        self.time += duration


def reader(library, venue, served, number=Decimal):
    """ccxt's client of a venue, every address of which is the desk's; it goes by the venue's clock."""
    options = {"fetchMarkets": {"types": ["spot"]}, "maxRetriesOnFailure": 5, "maxRetriesOnFailureDelay": 500}
    client = getattr(library, venue)({"enableRateLimit": False, "apiKey": "none", "options": options})
    rest, feed = served[venue]
    client.number = number
    client.timeout_on_exit = 0  # it waits for the end of TLS, of which there is none
    client.milliseconds = lambda: served.clock.now() // MS
    client.has["fetchCurrencies"] = False  # what a venue says of coins and chains is no model of ours
    client.urls["api"] = {
        "binance": {"public": f"{rest}/api/v3", "ws": {"spot": f"{feed}/ws"}},
        "okx": {"rest": rest, "ws": f"{feed}/ws/v5"},
        "bitget": dict.fromkeys(("spot", "margin", "common"), rest) | {"ws": {"public": f"{feed}/v2/ws/public"}},
    }[venue]
    return client


@asynccontextmanager
async def both(venue, number=Decimal, speed=STILL, library=asynchronous):
    """ccxt and a session of ours, at the same desk."""
    async with (
        serve(seed=5, venues=[venue], speed=speed, start=START) as served,
        Flood({"venues": served.settings()}, clock=Watch() if speed == STILL else served.clock) as flood,
    ):
        client = reader(library, venue, served, number)
        try:
            yield client, flood
        finally:
            await client.close()


def run(main):
    return asyncio.run(asyncio.wait_for(main, 20))


def theirs(rows):
    """Trades of ccxt: id, price, size, side, time."""
    return [(row["id"], row["price"], row["amount"], row["side"], row["timestamp"] * MS) for row in rows]


def ours(rows, number=Decimal):
    """Trades of ours, the same fields."""
    return [(row.trade_id, number(row.price), number(row.size), row.aggressor.value, row.venue_time) for row in rows]


def in_order(rows):
    """Trades by number, as ours are: ccxt sorts by time alone, and by the id as text where times are equal."""
    return sorted(rows, key=lambda row: int(row[0]))


def cut(rows):
    """Trades with their times cut to the second."""
    return [(*row[:4], row[4] // SECOND * SECOND) for row in rows]


def candles(rows, number=Decimal):
    """Candles of ours as ccxt has them."""
    return [
        [row.open_time // MS, *map(number, (row.open, row.high, row.low, row.close, row.volume))]
        for row in rows
    ]  # fmt: skip


# --- markets ---


@pytest.mark.parametrize("venue", VENUES)
def test_markets(venue):
    async def main():
        async with both(venue) as (client, flood):
            return await client.load_markets(), await flood.collect(Market, f"{venue}:*")

    listed, frame = run(main())
    assert sorted(listed) == sorted(row.market for row in frame) == sorted(MARKETS)
    for row in frame:
        other = listed[row.market]
        assert (other["id"], other["base"], other["quote"], other["type"]) == (
            row.symbol,
            row.base,
            row.quote,
            row.kind,
        )
        assert other["active"] is (row.status == "trading")
        assert other["precision"]["price"] == row.price_increment
        assert other["precision"]["amount"] == row.size_increment
        if venue == "bitget":  # its `minTradeAmount` is documented as obsolete and always 0: we read nothing from it
            assert (other["limits"]["amount"]["min"], row.minimum_size) == (0, None)
        else:
            assert other["limits"]["amount"]["min"] == row.minimum_size
        if venue == "okx":
            assert other["created"] * MS == row.listed_at


# --- trades ---

RECENT = {  # how each client asks for the newest trades: what ccxt is told, and which trades of ours these are
    "binance merged": ("binance", {}, {"kind": "merged"}),  # ccxt's default of this venue is `aggTrades`
    "binance raw": ("binance", {"fetchTradesMethod": "publicGetTrades"}, {"kind": "raw"}),
    "okx": ("okx", {}, {}),
    "okx history": ("okx", {"method": "publicGetMarketHistoryTrades"}, {}),
    "bitget": ("bitget", {"method": "publicSpotGetV2SpotMarketFills"}, {}),
    "bitget history": ("bitget", {}, {}),  # ccxt's default of this venue is `fills-history`
}


@pytest.mark.parametrize("name", RECENT)
def test_recent_trades(name):
    market = "DOGE/USDT" if name.endswith("history") else "BTC/USDT"
    venue, params, variant = RECENT[name]

    async def main():
        async with both(venue) as (client, flood):
            found = theirs(await client.fetch_trades(market, limit=100, params=params))
            start = iso(min(row[4] for row in found) // SECOND * SECOND)
            return in_order(found), ours(await flood.collect(Trade, f"{venue}:{market}", start=start, **variant))

    found, rows = run(main())
    assert len(found) == 100
    if (
        name == "bitget"
    ):  # `fills` tells milliseconds; what began earlier we ask of `fills-history`, which cuts them off
        found = [(*row[:4], row[4] // SECOND * SECOND) for row in found]
    assert found == rows[-100:]


def test_the_last_seconds_of_bitget_are_told_to_the_millisecond():
    async def main():
        async with both("bitget") as (client, flood):
            found = await client.fetch_trades("BTC/USDT", params={"method": "publicSpotGetV2SpotMarketFills"})
            return in_order(theirs(found)), ours(await flood.collect(Trade, "bitget:BTC/USDT", start=iso(late)))

    late = START - 10 * SECOND
    found, rows = run(main())
    assert [row for row in found if row[4] >= late] == rows
    assert any(row[4] % SECOND for row in rows)


async def pages_by_id(client, market, start, end, key, params, step):
    """Every trade of ccxt in [start, end), asked for from the newest backwards by id, as its users do."""
    rows, cursor = {}, None
    while not rows or min(row["timestamp"] for row in rows.values()) * MS >= start:
        asked = params if cursor is None else params | {key: cursor}
        page = await client.fetch_trades(market, limit=step, params=asked)
        if not page:
            break
        rows |= {row["id"]: row for row in page}
        cursor = str(min(map(int, rows)))
    return in_order(row for row in theirs(rows.values()) if start <= row[4] < end)


async def pages_by_since(client, market, start, end, step, variant):
    """Every trade of ccxt in [start, end), page by page through `since`; the last moment of a page is asked again."""
    rows, since = {}, start // MS
    while since * MS < end:
        page = await client.fetch_trades(market, since=since, limit=step, params=variant)
        fresh = [row for row in page if row["id"] not in rows]
        if not fresh:
            break
        rows |= {row["id"]: row for row in fresh}
        since = page[-1]["timestamp"]
    return in_order(row for row in theirs(rows.values()) if start <= row[4] < end)


@pytest.mark.parametrize("market", ["BTC/USDT", "DOGE/USDT"])
def test_past_trades_of_binance(market):
    """By `since` through `aggTrades`, which are our merged trades; by `fromId` through `historicalTrades`, our raw ones."""
    start, end = START - 30 * DAY - 40 * MINUTE, START - 30 * DAY

    async def main():
        async with both("binance") as (client, flood):
            by_since = await pages_by_since(client, market, start, end, 1000, {})
            frames = [
                await flood.collect(Trade, f"binance:{market}", start=iso(start), end=iso(end), kind=kind)
                for kind in ("merged", "raw")
            ]
            wanted, by_id = int(frames[1][0].trade_id), []
            while not by_id or by_id[-1][4] < end:
                params = {"fetchTradesMethod": "publicGetHistoricalTrades", "fromId": wanted}
                by_id += theirs(await client.fetch_trades(market, limit=1000, params=params))
                wanted = int(by_id[-1][0]) + 1
            return (
                by_since,
                [row for row in by_id if row[4] < end],
                frames,
                await spans_of_merged(client, market, start),
            )

    by_since, by_id, (merged, raw), infos = run(main())
    assert by_since == ours(merged)
    assert by_id == ours(raw)
    assert len(raw) > len(merged) >= 20
    # ccxt leaves the ids of the raw trades that a merged one stands for in `info`.
    assert infos == [(row.trade_id, row.first_id, row.last_id) for row in merged[: len(infos)]]


async def spans_of_merged(client, market, start):
    page = await client.fetch_trades(market, since=start // MS, limit=20)
    return [(str(row["info"]["a"]), str(row["info"]["f"]), str(row["info"]["l"])) for row in page]


def test_past_trades_of_okx():
    """ccxt knows no `since` here: it walks back from now through `history-trades` by id, and cuts afterwards."""
    start, end = START - 7 * MINUTE, START - MINUTE

    async def main():
        async with both("okx") as (client, flood):
            params = {"method": "publicGetMarketHistoryTrades"}
            found = await pages_by_id(client, "BTC/USDT", start, end, "after", params, 100)
            return found, ours(await flood.collect(Trade, "okx:BTC/USDT", start=iso(start), end=iso(end)))

    found, rows = run(main())
    assert found == rows
    assert len(rows) > 500


def test_past_trades_of_bitget():
    """By `since` and `until`, then back by id; times of both are whole seconds, which is all that the venue tells."""
    end = (START - 2 * DAY) // SECOND * SECOND
    start = end - 20 * MINUTE

    async def main():
        async with both("bitget") as (client, flood):
            params = {"startTime": start // MS, "until": end // MS - 1}
            found = await pages_by_id(client, "BTC/USDT", start, end, "idLessThan", params, 1000)
            return found, ours(await flood.collect(Trade, "bitget:BTC/USDT", start=iso(start), end=iso(end)))

    found, rows = run(main())
    assert found == rows
    assert len(rows) > 2000


# --- candles ---

INTERVALS = {
    "binance": "1s 1m 3m 15m 1h 4h 8h 12h 1d 3d 1w 1M",
    "okx": "1m 3m 15m 1h 2h 4h 6h 12h 1d 1w 1M",  # of six hours and more ccxt asks for UTC bars, as our names mean them
    "bitget": "1m 3m 15m 1h 4h 6h 12h 1d 1w 1M",  # the same; of three days see test_three_days_of_bitget
}


@pytest.mark.parametrize("venue", VENUES)
def test_candles(venue):
    """Of a busy market and of one in which more than half of the minutes are empty: recent ones and old ones.

    The newest is the running one, as it is at this moment.
    """

    async def main():
        async with both(venue) as (client, flood):
            for text in INTERVALS[venue].split():
                await compare(client, flood, venue, "BTC/USDT", text)
            for text in ("1m", "15m", "1d"):
                await compare(client, flood, venue, "DOGE/USDT", text)

    run(main())


async def compare(client, flood, venue, market, text):
    grid = interval(text)
    newest = grid.floor(START)
    # Now: with the running candle.
    recent = grid.ceil(newest - 20 * grid.step)
    found = await client.fetch_ohlcv(market, text, since=recent // MS, limit=100)
    if venue == "bitget":
        # With `since`, ccxt sends the present as `endTime`, and the venue's ends act on the close: the running candle
        # is left out. Without `since` it is there.
        assert found[-1][0] * MS < newest
        found += (await client.fetch_ohlcv(market, text, limit=1))[-1:]
    frame = await flood.collect(Candle, f"{venue}:{market}", start=iso(recent), interval=text)
    assert found == candles(frame), (venue, market, text)
    assert [row[0] * MS for row in found] == list(grid.opens(recent, START))
    assert [row.closed for row in frame] == [True] * (len(frame) - 1) + [False]
    # Then: beyond what the venues' pages of recent candles reach.
    past = grid.ceil(max(START - 200 * grid.step - (90 * DAY if grid.step < DAY else 0), FIRST))
    until = next(islice(grid.opens(past, START), 50, None))
    found = await client.fetch_ohlcv(market, text, since=past // MS, limit=60)  # it counts a month as thirty days
    found = [row for row in found if row[0] * MS < until]
    frame = await flood.collect(Candle, f"{venue}:{market}", start=iso(past), end=iso(until), interval=text)
    assert found == candles(frame), (venue, market, text)
    assert [row[0] * MS for row in found] == list(grid.opens(past, until))
    assert all(row.closed for row in frame)


def test_three_days_of_bitget():
    """Where bars of three days begin is not documented: we take only what lies on our grid, ccxt whatever comes."""

    async def main():
        async with both("bitget") as (client, flood):
            found = await client.fetch_ohlcv("BTC/USDT", "3d", since=(START - 30 * DAY) // MS, limit=5)
            start, end = (row * MS for row in (found[0][0], found[-1][0]))
            frame = await flood.collect(Candle, "bitget:BTC/USDT", start=iso(start), end=iso(end), interval="3d")
            return found[:-1], candles(frame)

    found, rows = run(main())
    assert found == rows
    assert len(rows) >= 3


@pytest.mark.parametrize("venue", ["okx", "bitget"])
def test_days_of_hong_kong(venue):
    """The venues' own days open at 16:00 UTC: ccxt reads them where told to, and we call them `1d@+08:00`."""

    async def main():
        async with both(venue) as (client, flood):
            since, end = START - 10 * DAY, START - 5 * DAY
            if venue == "okx":
                client.options["fetchOHLCV"] = {"timezone": "HK"}
                found = await client.fetch_ohlcv("BTC/USDT", "1d", since=since // MS, limit=5)
            else:
                client.options["fetchOHLCV"]["timeframes"]["spot"]["1d"] = "1day"
                found = await client.fetch_ohlcv("BTC/USDT", "1d", since=since // MS, limit=20)
                found = [row for row in found if row[0] * MS < end]
            frame = await flood.collect(
                Candle, f"{venue}:BTC/USDT", start=iso(since), end=iso(end), interval="1d@+08:00"
            )
            return found, frame

    found, frame = run(main())
    assert found == candles(frame)
    assert len(found) == 5
    assert {row.open_time % DAY for row in frame} == {16 * HOUR}


# --- as ccxt is used: floats, and live ---


@pytest.mark.parametrize("venue", VENUES)
def test_floats_of_ccxt_are_ours_rounded_once(venue):
    """What ccxt keeps as text in `info` is our decimal; its float is the nearest to it."""

    async def main():
        async with both(venue, number=float) as (client, flood):
            listed = await client.load_markets()
            trades = await client.fetch_trades("ETH/USDT", limit=50)
            bars = await client.fetch_ohlcv("ETH/USDT", "5m", limit=10)
            variant = {"kind": "merged"} if venue == "binance" else {}
            start = iso(trades[0]["timestamp"] // 1000 * SECOND)
            return (
                listed, trades, bars, await flood.collect(Market, f"{venue}:*"),
                await flood.collect(Trade, f"{venue}:ETH/USDT", start=start, **variant),
                await flood.collect(Candle, f"{venue}:ETH/USDT", start=iso(bars[0][0] * MS), interval="5m"),
            )  # fmt: skip

    listed, trades, bars, markets, rows, frame = run(main())
    rows = rows[-50:]
    price, size = {"binance": ("p", "q"), "okx": ("px", "sz"), "bitget": ("price", "size")}[venue]
    infos = {row["id"]: row["info"] for row in trades}
    assert in_order(theirs(trades)) == ours(rows, float)
    assert [(Decimal(infos[row.trade_id][price]), Decimal(infos[row.trade_id][size])) for row in rows] == [
        (row.price, row.size) for row in rows
    ]
    assert bars == candles(frame, float)
    assert {row.market: float(row.price_increment) for row in markets} == {
        name: market["precision"]["price"] for name, market in listed.items()
    }


LIVE = {  # which trades of ours ccxt's feed brings by default
    "binance": "raw",  # `@trade`
    "okx": "merged",  # the channel `trades`; the raw ones are `trades-all`, for which ccxt wants a login
    "bitget": "raw",
}


@pytest.mark.parametrize("venue", VENUES)
def test_live_trades(venue):
    """Every trade that ccxt heard, from the first to the last, is what our own stream heard."""

    async def main():
        async with both(venue, speed=60, library=pro) as (client, flood):
            await client.load_markets()
            live = flood.stream_of([Query(Trade, f"{venue}:BTC/USDT", kind=LIVE[venue])])
            heard, mine = await asyncio.gather(heard_by(client, 40), heard_by_us(live, 60))
            return heard, mine

    found, rows = run(main())
    shared = {row[0] for row in found} & {row[0] for row in rows}
    first, last = min(map(int, shared)), max(map(int, shared))
    found, rows = ([row for row in side if first <= int(row[0]) <= last] for side in (found, rows))
    assert in_order(found) == in_order(rows)
    assert len(found) >= 20


async def heard_by(client, count):
    rows = {}
    while len(rows) < count:
        rows |= {row["id"]: row for row in await client.watch_trades("BTC/USDT")}
    return theirs(rows.values())


async def heard_by_us(live, count):
    rows = []
    async for batch in live.batches():
        rows += batch
        if len(rows) >= count:
            break
    return ours(rows)


@pytest.mark.parametrize("venue", VENUES)
def test_live_candles(venue):
    """The candles that ccxt saw end on the feed are those that we collect afterwards."""

    async def main():
        async with both(venue, number=float, speed=300, library=pro) as (client, flood):
            await client.load_markets()
            seen = {}
            while len(seen) < 5:
                seen |= {row[0]: row for row in await client.watch_ohlcv("BTC/USDT", "1m")}
            start, end = min(seen) * MS, max(seen) * MS
            frame = await flood.collect(Candle, f"{venue}:BTC/USDT", start=iso(start), end=iso(end), interval="1m")
            return [seen[time] for time in sorted(seen)][:-1], candles(frame, float)

    found, rows = run(main())
    assert found == rows
