"""Markets that a venue drops, or takes up, while they are collected: nothing ends for the others, and nothing is overlooked."""

import asyncio
import socket

import pytest

from tradeflood import plugins
from tradeflood.errors import UsageError
from tradeflood.models import Candle, Trade
from tradeflood.models.time import MS, SECOND, parse_time
from tradeflood.replay.desk import Desk
from tradeflood.replay.server import serve
from tradeflood.runner.execute import Patience
from tradeflood.runner.flood import Flood
from tradeflood.runner.runner import Runner
from tradeflood.testing import VenueTime

START = parse_time("2026-03-04T05:06:07")
SPEED = 8


@pytest.fixture
def changing(monkeypatch):
    """Market → (since, until): when every venue lists it, in seconds of the run."""
    spans = {}
    there = {}

    def listed(desk):
        now = (desk.clock.now() - START) / SECOND
        return {
            symbol: market
            for symbol, market in there[desk].items()
            if spans.get(market.market, (0, 1e9))[0] <= now < spans.get(market.market, (0, 1e9))[1]
        }

    monkeypatch.setattr(Desk, "listed", property(listed, there.__setitem__), raising=False)
    return spans


def run(store, *markets, start=START, seconds=32, over=None, heard=None):
    """Market → newest row of what a run collected, in seconds, and its failures as one text.

    `over` replaces a venue's settings; `heard` is filled with the markets of which live rows came.
    """

    async def main():
        plugins.load()
        async with serve(seed=5, venues=["binance", "okx"], speed=SPEED, start=start) as served:
            wants = [{"model": "trade", "markets": list(some), "history": "10s"} for some in markets]
            told = {"store": store, "venues": served.settings() | (over or {}), "collect": wants}
            patience = Patience(attempts=2, first_delay=20 * MS)
            async with Flood(told, clock=VenueTime(served.clock), patience=patience) as flood:
                runner = Runner(flood)
                report = await runner.run(asyncio.Event(), seconds * SECOND)
                if heard is not None:
                    heard.update(
                        f"{line.dataset.venue}:{line.dataset.market}"
                        for line in report.collected
                        if runner.stream.reached(line.dataset)
                    )
        newest = {
            f"{line.dataset.venue}:{line.dataset.market}": (line.last - START) / SECOND for line in report.collected
        }
        return newest, "\n".join(report.failures)

    return asyncio.run(asyncio.wait_for(main(), 40))


@pytest.mark.loopback
@pytest.mark.parametrize("named", ["okx:*/USDT", "okx:ETH/USDT"])
def test_a_market_that_is_dropped_on_the_way_ends_no_run(changing, named):
    """Whether the list named it, or rows that came did."""
    changing["ETH/USDT"] = (0, 12)
    newest, failures = run("memory://", ["okx:BTC/USDT", named])
    assert newest["okx:BTC/USDT"] > 25
    assert 6 < newest["okx:ETH/USDT"] < 13
    assert "okx:ETH/USDT: " in failures


@pytest.mark.loopback
@pytest.mark.parametrize("named", ["okx:ETH/USDT", "okx:ET*/USDT", "binance:E*"])
def test_the_next_run_goes_on_without_it(changing, tmp_path, named):
    """Also where nothing else is collected of its venue, and where a pattern matches nothing else."""
    store = f"chdb://{tmp_path}/store"
    venue = named.partition(":")[0]
    before, _ = run(store, [f"{venue}:ETH/USDT"], seconds=8)
    assert before[f"{venue}:ETH/USDT"] > 0
    changing["ETH/USDT"] = (0, 0)
    other = "binance:BTC/USDT" if venue == "okx" else "okx:BTC/USDT"
    newest, failures = run(store, [named], [other], start=START + 60 * SECOND, seconds=24)
    assert newest[other] > 75
    assert "no market matches" in failures if "*" in named else f"{named}: " in failures


@pytest.mark.loopback
def test_a_market_that_a_venue_takes_up_on_the_way_is_collected(changing, monkeypatch):
    """Its pattern is looked up again, and its history begins where that of the others does."""
    monkeypatch.setattr("tradeflood.runner.runner.RESOLVE_EVERY", 8 * SECOND, raising=False)
    monkeypatch.setattr("tradeflood.runner.runner.PASS_EVERY", SECOND // 2)
    changing["ETH/USDT"] = (4, 1e9)
    heard = set()
    newest, failures = run("memory://", ["okx:*/USDT"], heard=heard)
    assert newest["okx:ETH/USDT"] > 20
    assert newest["okx:BTC/USDT"] > 25
    assert {"okx:BTC/USDT", "okx:ETH/USDT"} <= heard  # by a feed, not only by asking
    assert failures == ""


@pytest.mark.loopback
def test_a_venue_that_does_not_list_its_markets_keeps_nobody_waiting(monkeypatch):
    """It takes connections and says nothing: the others are collected meanwhile, live too."""
    monkeypatch.setattr("tradeflood.runner.runner.FOUND_WITHIN", 0.3)
    heard = set()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        over = {"okx": {"rest_url": f"http://127.0.0.1:{silent.getsockname()[1]}"}}
        newest, _ = run("memory://", ["okx:*/USDT"], ["binance:BTC/USDT"], over=over, heard=heard)
    assert newest["binance:BTC/USDT"] > 25
    assert heard == {"binance:BTC/USDT"}


@pytest.mark.loopback
def test_a_pattern_that_never_matched_names_its_entry():
    with pytest.raises(UsageError, match=r"collect\[1\]: okx: no market matches 'NOPE\*'; list them with"):
        run("memory://", ["binance:BTC/USDT"], ["okx:NOPE*"])


@pytest.mark.loopback
def test_what_a_venue_tells_after_its_feed_has_begun_is_heard_once(monkeypatch):
    """Its trades are found, the feed begins, and then its candles are found."""
    found = Flood.asks

    async def slow(flood, queries):
        if any(query.model is Candle for query in queries):
            await asyncio.sleep(1)
        return await found(flood, queries)

    async def main():
        plugins.load()
        async with serve(seed=5, venues=["okx"], speed=SPEED, start=START) as served:
            wants = [{"model": "trade", "markets": ["okx:*/USDT"], "history": "10s"}]
            wants.append({"model": "candle", "interval": "1m", "markets": ["okx:*/USDT"], "history": "10s"})
            told = {"store": "memory://", "venues": served.settings(), "collect": wants}
            async with Flood(told, clock=VenueTime(served.clock)) as flood:
                runner = Runner(flood)
                await runner.run(asyncio.Event(), 16 * SECOND)
                return [sub.ask.dataset for sub in runner.stream.subscriptions]

    monkeypatch.setattr("tradeflood.runner.runner.FOUND_WITHIN", 0.1)
    monkeypatch.setattr(Flood, "asks", slow)
    heard = asyncio.run(asyncio.wait_for(main(), 20))
    assert len(heard) == len(set(heard))
    assert {dataset.model for dataset in heard} == {Trade, Candle}
