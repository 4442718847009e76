"""A run that makes candles of its trades and audits what it collects, on a simulated market whose truth is known."""

import asyncio

import pytest

from tradeflood import plugins
from tradeflood.coverage import Dataset, held, stretches
from tradeflood.models import Candle, Trade
from tradeflood.models.time import HOUR, MINUTE, SECOND, parse_time
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated
from tradeflood.runner import auditor as module
from tradeflood.runner.flood import Flood
from tradeflood.runner.runner import Runner
from tradeflood.testing import VenueTime

START = parse_time("2026-03-04T05:06:50")
MADE = Dataset(Candle, "binance", "BTC/USDT", ("1m", "trades"))
TRADES = Dataset(Trade, "binance", "BTC/USDT", ("raw",))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugins.load()


def run(*wants, speed=30, seconds=100, check, **more):
    """What `check` says of the report and the store, after a run of so many seconds of the venue's time."""

    async def main():
        async with serve(seed=5, venues=("binance", "nobitex"), speed=speed, start=START) as served:
            config = {"store": "memory://", "venues": served.settings(), "collect": [*wants], **more}
            async with Flood(config, clock=VenueTime(served.clock)) as flood:
                report = await Runner(flood).run(asyncio.Event(), seconds * SECOND)
                return check(report, flood.store)

    return asyncio.run(asyncio.wait_for(main(), 40))


def want(model, **more):
    return {"model": model, "markets": ["binance:BTC/USDT"], "history": "3m", **more}


def truth(venue="binance", market="BTC/USDT"):
    rows = (
        Simulated(5).at(venue).candles(market, "1m", now=START + HOUR, start=START - HOUR, end=START + HOUR, limit=999)
    )
    return {row.open_time: row for row in rows}


@pytest.mark.loopback
def test_a_run_makes_candles_of_the_trades_it_collects_for_them():
    """Only candles are wanted; their trades are collected, history and live, and every candle that is held is right."""

    def check(report, store):
        assert {line.dataset for line in report.collected} == {MADE, TRADES}
        sure, venue = held(store.claims(MADE)), truth()
        rows = store.read(MADE, 0, 1 << 62)
        assert sure.bounds[0] <= START - 3 * MINUTE
        assert sure.bounds[1] >= START + MINUTE
        assert len(rows) >= 4
        for row in rows:
            names = ("open", "high", "low", "close", "volume")
            their = venue[row.open_time]
            assert row.closed
            assert [getattr(row, name) for name in names] == [getattr(their, name) for name in names]
        assert {part.evidence for part in stretches(store.claims(MADE)) if part.state == "held"} <= {
            "made from trades", "nothing traded",
        }  # fmt: skip

    run(want("candle", interval="1m", origin="trades"), check=check)


@pytest.mark.loopback
def test_a_run_audits_what_it_collects(monkeypatch):
    """Candles and trades of the same minutes agree; with `audit = false` nobody looks."""
    monkeypatch.setattr(module, "AFTER", 5 * SECOND)
    monkeypatch.setattr(module, "EVERY", 5 * SECOND)
    wants = (want("trade"), want("candle", interval="1m"))

    def check(report, store):
        (told,) = report.findings
        assert (told.findings, told.repaired) == ((), ())
        assert told.compared >= 3

    run(*wants, check=check)
    run(*wants, seconds=10, audit=False, check=lambda report, store: report.findings == [] or pytest.fail("audited"))


@pytest.mark.loopback
def test_trades_without_ids_are_proven_by_the_candles(monkeypatch):
    """What a page of the last few trades and a feed without ids cannot prove, the venue's own candles do."""
    monkeypatch.setattr(module, "AFTER", 5 * SECOND)
    monkeypatch.setattr(module, "EVERY", 5 * SECOND)
    market = {"markets": ["nobitex:USDT/IRT"], "history": "2m"}

    def check(report, store):
        (told,) = report.findings
        assert told.findings == ()
        parts = stretches(store.claims(Dataset(Trade, "nobitex", "USDT/IRT", ("raw",))))
        return [(part.start, part.end) for part in parts if part.evidence == "equals the venue's candle"]

    proven = run(
        {"model": "trade", **market}, {"model": "candle", "interval": "1m", **market}, check=check, seconds=120
    )
    assert sum(end - start for start, end in proven) >= MINUTE // 2
