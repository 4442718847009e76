"""Audits of a store, and their repair from the venue; as a session has them, and as a command."""

import asyncio
import json
from pathlib import Path

import pytest
from attrs import evolve

from tradeflood import plugins
from tradeflood.cli.main import main
from tradeflood.coverage import Dataset
from tradeflood.coverage.audit import Cause, merged
from tradeflood.models import Candle, Trade
from tradeflood.models.time import HOUR, MINUTE, SECOND, iso, parse_time
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.faults import Faults, FaultyDesk
from tradeflood.replay.simulated import Simulated
from tradeflood.runner import audit
from tradeflood.runner.audit import audit_store, repair
from tradeflood.runner.execute import Patience
from tradeflood.runner.flood import Flood
from tradeflood.spans import Spans
from tradeflood.store import open_store
from tradeflood.testing import FakeClock, FakeTransport, answers_of, reply

NOW = parse_time("2026-03-04T05:06:07")
START = parse_time("2026-03-04T04:00:00")
MINUTES = 20
END = START + MINUTES * MINUTE
BTC = "binance:BTC/USDT"
CANDLES = Dataset(Candle, "binance", "BTC/USDT", ("1m", "venue"))
TRADES = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
RANGE = {"start": iso(START), "end": iso(END)}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugins.load()


def session(store="memory://", refuse=(), now=NOW):
    """A session with a simulated Binance; paths in `refuse` are refused."""
    clock = FakeClock(now)
    desk = FaultyDesk(desk_of("binance"), Simulated(3), Clock(1, now, monotonic=clock.now), Faults((), 1))
    good = answers_of(desk, clock)

    async def answer(call):
        if call.request.path in refuse:
            return reply({"code": -1100, "msg": "no"}, status=400)
        return await good(call)

    return Flood({"store": store}, transport=FakeTransport(answer, clock), clock=clock, patience=Patience(attempts=1))


def collected(work, store="memory://", refuse=()):
    """What some work gives in a session that has collected candles and trades of twenty minutes."""

    async def run():
        async with session(store, refuse) as flood:
            await flood.collect(Candle, BTC, interval="1m", **RANGE)
            if not refuse:
                await flood.collect(Trade, BTC, **RANGE)
            return await work(flood)

    return asyncio.run(run())


def without(store, number):
    """One row of the trades is gone from the store, claims and all else as they were."""
    place = store.inner._rows[TRADES]
    name = list(place)[number]
    return place.pop(name)[1]


def candle(store, number):
    return store.read(CANDLES, START + number * MINUTE, START + (number + 1) * MINUTE)[0]


def test_what_a_venue_says_of_itself_agrees():
    """Every candle against its trades; a pattern and a range choose among them."""

    async def work(flood):
        (report,) = audit_store(flood.store)
        assert (report.candles, report.kind, report.findings) == (CANDLES, "raw", ())
        assert report.spans == Spans.of((START, END))
        assert report.audited.compared == MINUTES
        (part,) = audit_store(flood.store, ["binance:*/USDT"], "1m", START + 90 * SECOND, START + 10 * MINUTE + 1)
        assert part.spans == Spans.of((START + 2 * MINUTE, START + 10 * MINUTE))
        assert audit_store(flood.store, ["okx:*"]) == audit_store(flood.store, [], "5m") == []

    collected(work)


def test_a_lost_trade_comes_back():
    """Named with its number, asked for again, stored; then all agrees."""

    async def work(flood):
        gone = without(flood.store, 30)
        reports = audit_store(flood.store)
        (finding,) = reports[0].findings
        assert (finding.cause, finding.open_time) == (Cause.MISSING, gone.venue_time // MINUTE * MINUTE)
        assert gone.trade_id in finding.detail
        (report,), failures = await repair(flood, reports)
        assert (report.findings, report.repaired, failures) == ((), (finding,), [])
        assert report.audited.compared == MINUTES
        assert gone in [evolve(row, received_at=gone.received_at) for row in flood.store.read(TRADES, START, END)]

    collected(work)


def test_a_candle_that_was_stored_too_early_is_a_late_revision():
    """Its stored form disagrees, the venue's fresh one agrees: that names the cause, and mends it."""

    async def work(flood):
        old = candle(flood.store, 3)
        flood.store.write({Candle: [evolve(old, volume=old.volume / 2, trades=old.trades - 1)]})
        reports = audit_store(flood.store)
        assert [finding.cause for finding in reports[0].findings] == [Cause.WRONG]
        (report,), _ = await repair(flood, reports)
        assert report.findings == ()
        assert [finding.cause for finding in report.repaired] == [Cause.REVISED]

    collected(work)


def test_what_the_venue_cannot_mend_stays():
    """A doubled trade is named, and is still there: a store deletes nothing."""

    async def work(flood):
        twin = evolve(flood.store.read(TRADES, START, END)[40], trade_id="77777777777")
        flood.store.write({Trade: [twin]})
        (report,), _ = await repair(flood, audit_store(flood.store))
        assert [finding.cause for finding in report.findings] == [Cause.DOUBLED]
        assert report.repaired == ()

    collected(work)


def test_candles_without_trades_are_looked_at_alone():
    """No kind is told; a repair asks for the candles only, and says what failed."""

    async def work(flood):
        flood.store.write(
            {Candle: [evolve(row, volume=row.volume * 10) for row in flood.store.read(CANDLES, START, END)]}
        )
        reports = audit_store(flood.store)
        assert [(report.kind, report.audited.compared) for report in reports] == [(None, MINUTES)]
        assert {finding.cause for finding in reports[0].findings} == {Cause.UNIT}
        assert [(t.start, t.end) for t in merged(reports[0].audited)] == [(START, END)]
        (report,), failures = await repair(flood, reports)
        assert (len(report.findings), len(report.repaired), failures) == (0, MINUTES, [])

    collected(work, refuse=("/api/v3/historicalTrades",))


def test_a_long_audit_goes_in_portions(monkeypatch):
    """Cut between candles, with the same findings as in one go."""

    async def work(flood):
        gone = [without(flood.store, number) for number in (500, 200, 30)]
        whole = audit_store(flood.store)
        read = []
        monkeypatch.setattr(audit, "PORTION", 100)
        inner = flood.store.read
        monkeypatch.setattr(flood.store, "read", lambda *what: read.append(what) or inner(*what))
        assert audit_store(flood.store) == whole
        assert len(read) > 4
        assert {f.open_time for f in whole[0].findings} == {row.venue_time // MINUTE * MINUTE for row in gone}

    collected(work)


def test_it_needs_nothing_of_intervals_that_are_not_there():
    """A day of which an hour is held is no candle to compare."""

    async def work(flood):
        await flood.collect(Candle, BTC, interval="1d", start=iso(START - 48 * HOUR), end=iso(START - 24 * HOUR))
        return [(report.candles.variant[0], report.kind) for report in audit_store(flood.store)]

    assert collected(work) == [("1d", None), ("1m", "raw")]


# ---------------------------------------------------------------- the command


@pytest.fixture
def said(capfd):
    """The exit code of a command line, its standard output and its standard error."""

    def run(*args):
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(arg) for arg in args])
        return end.value.code, *capfd.readouterr()

    return run


def test_the_command(said, monkeypatch):
    """0 when clean, 1 with findings, one line per interval, one document with --json; the same store after a repair."""
    pytest.importorskip("chdb")
    url = f"chdb://{Path.cwd() / 'store'}"
    monkeypatch.setenv("TRADEFLOOD_STORE", url)

    async def nothing(flood):
        pass

    collected(nothing, url)
    code, out, _ = said("audit")
    assert (code, out) == (0, "20 candles compared with trades, 0 without trades looked at alone: no findings\n")
    with open_store(url) as store:
        rows = store.read(CANDLES, START + 5 * MINUTE, START + 8 * MINUTE)
        store.write({Candle: [evolve(row, volume=row.volume * 1000, received_at=NOW + SECOND) for row in rows]})
    code, out, _ = said("audit", BTC, "--interval", "1m")
    assert code == 1
    assert "unit factor" in out
    assert out.count("binance:BTC/USDT") == 1
    assert "3 findings" in out
    code, out, _ = said("audit", "--json", "--start", iso(START), "--end", iso(END))
    (told,) = json.loads(out)
    assert (code, told["candles"], told["interval"], told["kind"]) == (1, MINUTES, "1m", "raw")
    (finding,) = told["findings"]
    assert (finding["cause"], finding["candles"], finding["fields"]) == ("unit factor", 3, ["volume"])
    assert (finding["start"], finding["end"]) == (iso(START + 5 * MINUTE), iso(START + 8 * MINUTE))
    assert finding["first"]["detail"] == "the venue's volume × 1000"
    monkeypatch.setattr("tradeflood.cli.auditing.Flood", lambda config: session(config.store, now=NOW + MINUTE))
    code, out, _ = said("audit", "--repair", "--json")
    (finding,) = json.loads(out)[0]["findings"]
    assert (code, finding["cause"], finding["repaired"]) == (0, "late revision", True)
    assert said("audit")[0] == 0


def test_mistakes(said, monkeypatch):
    """No store, no such market, a range that ends before it starts: one line and exit code 2; nothing is made."""
    monkeypatch.setenv("TRADEFLOOD_STORE", "chdb://./none")
    for args, word in (
        ((), "there is no store"),
        (("--start", "2024-01-02", "--end", "2024-01-01"), "is not before the end"),
        (("--interval", "7x"), "no interval"),
    ):
        code, out, err = said("audit", *args)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert word in err
    assert list(Path().iterdir()) == []
    monkeypatch.setenv("TRADEFLOOD_STORE", "memory://")
    code, _, err = said("audit", "okx:*")
    assert (code, "holds nothing of okx:*" in err) == (2, True)
