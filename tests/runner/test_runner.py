"""The runner against a simulated market, whose truth is known: what is called held is there, and nothing twice."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood import plugins
from tradeflood.coverage import Dataset, Grade, State, digest_of, held, stretches
from tradeflood.coverage.evidence import Link, in_sequence
from tradeflood.errors import TransportError, UsageError
from tradeflood.models import Side, Trade
from tradeflood.models.time import MINUTE, MS, SECOND, parse_time
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.execute import Patience
from tradeflood.runner.flood import Flood
from tradeflood.runner.keeper import Tail
from tradeflood.runner.runner import Runner
from tradeflood.spans import Spans
from tradeflood.store import open_store
from tradeflood.testing import VenueTime
from tradeflood.turns import Numbering

START = parse_time("2026-03-04T05:06:07")
BTC = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
ONE = Decimal(1)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugins.load()


QUICK = Patience(attempts=2, first_delay=20 * MS)


async def collected(
    *wants, store="memory://", faults=(), venues=("binance",), speed=8, start=START, seconds=8, patience=QUICK, stop=None,
    over=None,
):  # fmt: skip
    """A report, with the store still open to look into, and the venue's time at the end."""
    async with serve(seed=5, venues=venues, speed=speed, start=start, faults=faults) as served:
        settings = {**served.settings(), **(over or {})}
        config = {"store": store, "venues": settings, "collect": [dict(want) for want in wants]}
        async with Flood(config, clock=VenueTime(served.clock), patience=patience) as flood:
            runner = Runner(flood)
            report = await runner.run(stop or asyncio.Event(), seconds * SECOND)
            opened = open_store(store) if store != "memory://" else flood.store
            return report, opened, served, runner


def want(model, *markets, **more):
    return {"model": model, "markets": list(markets), "history": "2m", **more}


def run(*wants, check=None, **options):
    """Run, look for lies, and hand the report, what `check` says of the store, and what was served."""

    async def main():
        report, store, served, runner = await collected(*wants, **options)
        with store:
            assert lies(store, 5, options.get("start", START) + 365 * 86_400 * SECOND) == []
            return report, check(store) if check else None, served, runner

    return asyncio.run(asyncio.wait_for(main(), 30))


def lies(store, seed, now):
    """Everything that a store holds of a simulated market and that is not so."""
    wrong = []
    for dataset in store.datasets():
        source, sure = Simulated(seed).at(dataset.venue), held(store.claims(dataset))
        coarse = SECOND if (dataset.venue, dataset.model) == ("bitget", Trade) else 1
        for start, end in sure:
            low, high = -(-start // coarse) * coarse, end // coarse * coarse
            if dataset.model is Trade:
                kind = dataset.variant[0]
                truth = source.trades(dataset.market, kind, now=now, start=low, end=high, limit=1 << 40)
                was = Counter((row.venue_time // coarse, row.price, row.size, row.aggressor) for row in truth)
                have = Counter(
                    (row.venue_time // coarse, row.price, row.size, row.aggressor)
                    for row in store.read(dataset, low, high)
                )
            else:
                truth = source.candles(dataset.market, dataset.variant[0], now=now, start=low, end=high, limit=1 << 40)
                opens = {row.open_time for row in truth}
                rows = [row for row in store.read(dataset, low, high) if row.open_time in opens or row.volume]
                was, have = (
                    Counter((row.open_time, row.open, row.high, row.low, row.close, row.volume) for row in some)
                    for some in (truth, rows)
                )
            if was != have:
                wrong.append(
                    f"{dataset.label}: missing {list((was - have).items())[:3]}, unreal {list((have - was).items())[:3]}"
                )
    return wrong


def told(store, dataset):
    """Its coverage from START on: (first s, last s, state, grade)."""
    return [
        (
            (part.start - START) // SECOND,
            -(-(part.end - START) // SECOND),
            str(part.state),
            part.grade and str(part.grade),
        )
        for part in stretches(store.claims(dataset))
    ]


# ---------------------------------------------------------------- live claims, without a network

steps = st.lists(st.tuples(st.sampled_from([0, 0, 1, 5]), st.booleans()), min_size=1, max_size=25)


@given(steps, st.lists(st.integers(1, 5), min_size=1, max_size=25), st.randoms())
def test_live_claims_hold_no_moment_of_which_a_row_is_missing(history, sizes, random):
    """Rows come in batches, some never, some late, some twice: no claim covers a moment of a row that did not come."""
    rows, moment = [], 100
    for number, (gap, comes) in enumerate(history):
        moment += gap
        rows.append((Trade("binance", "BTC/USDT", "raw", str(995 + number), ONE, ONE, Side.BUY, moment, moment), comes))
    come = [row for row, comes in rows if comes]
    for place in range(len(come) - 1):
        if random.random() < 0.2:
            come[place], come[place + 1] = come[place + 1], come[place]
    come += random.sample(come, min(2, len(come)))
    tail, claims, there = Tail(BTC, "p", Numbering.CONTIGUOUS), [], set()
    for size in sizes:
        batch, come = come[:size], come[size:]
        if batch:
            claims += tail.claims(batch)
            there |= {row.trade_id for row in batch}
        sure = held(claims)
        assert not [
            row for row, _ in rows if row.trade_id not in there and sure.touches(row.venue_time, row.venue_time + 1)
        ]
    claims += tail.rest()
    sure = held(claims)
    assert not [
        row for row, _ in rows if row.trade_id not in there and sure.touches(row.venue_time, row.venue_time + 1)
    ]
    assert {(claim.state, claim.grade) for claim in claims} <= {(State.HELD, Grade.A), (State.PENDING, None)}


def trade(number, at):
    return Trade("binance", "BTC/USDT", "raw", str(number), ONE, ONE, Side.BUY, at, at)


def test_live_claims_join_from_batch_to_batch():
    tail = Tail(BTC, "p", Numbering.CONTIGUOUS)
    claims = [claim for number in range(998, 1004) for claim in tail.claims([trade(number, 10 * number)])]
    (claim,) = claims + tail.rest()
    assert (claim.count, claim.left, claim.right) == (5, "999", "1004")  # one row alone claims no time
    assert claim.digest == digest_of(trade(number, 10 * number) for number in range(999, 1004))
    assert [(part.start, part.end) for part in stretches([claim])] == [(9_981, 10_030)]


def test_live_claims_join_with_those_of_rest():
    """REST holds 996 … 999, the stream brings 999 … 1001: they share a row."""
    rows = [Link(number, number + 1, trade(number, 10 * number)) for number in range(996, 1000)]
    rest = list(
        in_sequence(BTC, [((996, 1000), (9_955, 9_995), True, True)], Spans.of((996, 1000)), rows, 10**6, 0, "p")
    )
    tail = Tail(BTC, "p", Numbering.CONTIGUOUS)
    live = tail.claims([trade(number, 10 * number) for number in range(999, 1002)]) + tail.rest()
    assert [(part.start, part.end, part.grade) for part in stretches(rest + live)] == [(9_955, 10_010, Grade.A)]


def test_a_missing_live_id_leaves_a_hole():
    tail = Tail(BTC, "p", Numbering.CONTIGUOUS)
    claims = tail.claims([trade(number, 10 * number) for number in (1, 2, 3, 5, 6)])
    assert held(claims) == Spans.of((11, 30))  # what a hole has ended is handed on at once, the rest grows on
    claims += tail.rest()
    assert held(claims) == Spans.of((11, 30), (51, 60))
    (hole,) = [part for part in stretches(claims) if part.state is State.PENDING]
    assert (hole.start, hole.end, hole.evidence) == (30, 51, "1 ids were not delivered")


def test_chained_ids_are_linked_by_their_counts():
    """Merged rows say where the one before them ended: 5–7, 8–8, then 11–12, so that 9 and 10 are missing."""
    rows = [
        Trade("okx", "BTC/USDT", "merged", str(last), ONE, ONE, Side.BUY, 10 * last, 10 * last, str(first), str(last), last - first + 1)
        for first, last in ((5, 7), (8, 8), (11, 12), (13, 20))
    ]  # fmt: skip
    tail = Tail(Dataset(Trade, "okx", "BTC/USDT", ("merged",)), "p", Numbering.CHAINED)
    claims = [claim for row in rows for claim in tail.claims([row])] + tail.rest()
    assert held(claims) == Spans.of((71, 80), (121, 200))
    assert [(part.start, part.end) for part in stretches(claims) if part.state is State.PENDING] == [(80, 121)]
    assert {claim.evidence for claim in claims if claim.state is State.HELD} == {"chained ids"}


def test_a_claim_that_grows_is_handed_on_after_a_while():
    """Not one claim per batch: one per quarter of a minute."""
    tail = Tail(BTC, "p", Numbering.CONTIGUOUS)
    ready = [claim for number in range(1, 61) for claim in tail.claims([trade(number, number * SECOND)])]
    assert 3 <= len(ready) <= 5
    ((start, end),) = held(ready + tail.rest())
    assert (start, end) == (SECOND + 1, 60 * SECOND)


def test_without_consecutive_ids_nothing_live_is_claimed():
    assert Tail(BTC, "p", Numbering.SNOWFLAKE).claims([trade(1, 10), trade(2, 20)]) == []


# ---------------------------------------------------------------- in one process, with a simulated market


@pytest.mark.loopback
def test_all_venues_are_collected_and_a_second_run_adds_nothing_twice(tmp_path):
    """Trades and candles of four venues into ClickHouse, twice: every key once, and what was held is not fetched again."""
    pytest.importorskip("chdb", reason="the extra `embedded` is not installed")
    url = f"chdb://{tmp_path}/data"
    venues = ("binance", "okx", "bitget", "nobitex")
    markets = ["binance:BTC/USDT", "okx:BTC/USDT", "bitget:BTC/USDT", "nobitex:USDT/IRT"]
    wants = (want("trade", *markets), want("candle", *markets, interval="1m"))

    def rows(store, sql):
        return json.loads(store.query(sql))["data"]

    def count(store):
        (row,) = rows(
            store,
            "SELECT (SELECT count() FROM trades) AS t, (SELECT count() FROM candles) AS c, "
            "(SELECT uniqExact(venue, market, kind, trade_id) FROM trades_rows) AS tk, "
            "(SELECT uniqExact(venue, market, interval, origin, open_time) FROM candles_rows) AS ck",
        )
        return {key: int(value) for key, value in row.items()}

    def units(store):
        return rows(
            store,
            "SELECT venue, market, open_time FROM candles WHERE quote_volume IS NOT NULL AND volume > 0 AND NOT "
            "(toFloat64(quote_volume) BETWEEN toFloat64(low) * toFloat64(volume) * 0.999 AND "
            "toFloat64(high) * toFloat64(volume) * 1.001)",
        )

    first, (counts, wrong_units), _, _ = run(
        *wants, store=url, venues=venues, check=lambda store: (count(store), units(store))
    )
    assert counts["t"] == counts["tk"]
    assert counts["c"] == counts["ck"]
    assert wrong_units == []
    assert len(first.collected) == 8
    assert all(line.new == line.rows > 0 for line in first.collected)
    assert first.failures == []
    assert first.began < first.ended

    def again(store):
        known = rows(
            store,
            "SELECT count() AS n FROM trades_rows WHERE venue IN ('binance', 'okx') GROUP BY venue, market, kind, trade_id "
            "HAVING n > 2",
        )
        return count(store), known

    second, (counts, thrice), _, _ = run(*wants, store=url, venues=venues, start=first.ended, check=again)
    assert counts["t"] == counts["tk"]
    assert counts["c"] == counts["ck"]
    assert thrice == []  # once live, once from a pass; the second run did not bring what the first one held
    before = {line.dataset: line.rows for line in first.collected}
    assert all(line.rows == before[line.dataset] + line.new for line in second.collected)


@pytest.mark.loopback
@pytest.mark.parametrize(
    "faults",
    [["cut=4@binance"], ["withhold=0.2@binance", "duplicate@binance"], ["reorder@binance", "late=2@binance"]],
    ids=str,
)
def test_nothing_is_lost_of_consecutive_ids_whatever_the_feed_does(faults):
    """The connection is cut again and again, rows are withheld, doubled, late: in the end there is one whole, grade A."""
    report, parts, served, _ = run(
        want("trade", "binance:BTC/USDT"), faults=faults, check=lambda store: told(store, BTC)
    )
    assert {played.name for played in served.faults.injected} == {
        fault.partition("=")[0].partition("@")[0] for fault in faults
    }
    (line,) = report.collected
    sure = [part for part in parts if part[2] == "held"]
    assert sure[0][0] <= -119
    assert sure[-1][1] >= 7
    assert {part[3] for part in sure[:-1]} <= {"A"}
    assert all(one[1] >= other[0] for one, other in pairwise(sure))
    assert line.new == line.rows


@pytest.mark.loopback
def test_stopping_flushes_what_has_come():
    """Told to stop after a moment: what came is stored, its edge is settled, and the run ends by itself."""

    async def main():
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.6, stop.set)
        begin = time.monotonic()
        report, store, _, runner = await collected(want("trade", "binance:BTC/USDT"), seconds=3_600, stop=stop)
        with store:
            live = runner.stream.count
            return (
                report,
                live,
                time.monotonic() - begin,
                store.read(BTC, 0, 1 << 62),
                held(store.claims(BTC)),
                lies(store, 5, START + 10**15),
            )

    report, live, took, rows, sure, wrong = asyncio.run(asyncio.wait_for(main(), 20))
    assert took < 5
    assert live > 0
    assert wrong == []
    assert sure.bounds[1] >= rows[-1].venue_time - SECOND
    assert report.collected[0].rows == len(rows)


@pytest.mark.loopback
def test_a_venue_that_is_down_keeps_nobody_from_the_others():
    closed = {"okx": {"rest_url": "http://127.0.0.1:9", "feed_url": "ws://127.0.0.1:9"}}
    report, _, _, _ = run(want("trade", "okx:BTC/USDT", "binance:BTC/USDT"), over=closed, seconds=4)
    assert [line.dataset for line in report.collected] == [BTC]
    assert any("okx" in text for text in report.failures)


@pytest.mark.loopback
def test_where_no_venue_answers_it_is_said_at_once():
    closed = {"binance": {"rest_url": "http://127.0.0.1:9", "feed_url": "ws://127.0.0.1:9"}}
    with pytest.raises(TransportError, match="no venue answers .*tradeflood run --replay"):
        run(want("trade", "binance:BTC/USDT"), over=closed, seconds=600)


@pytest.mark.loopback
def test_wildcards_are_resolved_when_the_run_begins():
    report, _, _, _ = run(want("candle", "binance:*/USDT", interval="1m"), seconds=4)
    markets = {row.market for row in Simulated(5).at("binance").markets() if row.quote == "USDT"}
    assert {line.dataset.market for line in report.collected} == markets
    assert len(markets) > 1


@pytest.mark.loopback
def test_history_reaches_back_as_far_as_is_said_and_no_further():
    lines = {
        history: run(want("candle", "binance:BTC/USDT", interval="1m", history=history), seconds=2)[0].collected[0]
        for history in ("5m", "2h")
    }
    assert [START - lines[history].first <= bound for history, bound in (("5m", 5 * MINUTE), ("2h", 120 * MINUTE))] == [
        True,
        True,
    ]
    assert lines["5m"].rows in {5, 6, 7}
    assert lines["2h"].rows in {120, 121, 122}


def test_what_cannot_be_collected_is_said_with_its_place():
    with pytest.raises(UsageError, match=r"collect\[1\]: "):
        Runner(Flood({"collect": [want("trade", "binance:BTC/USDT"), want("trade", "nowhere:BTC/USDT")]}))


# ---------------------------------------------------------------- killed in the middle

CONFIG = """
[[collect]]
model = "trade"
markets = ["binance:BTC/USDT", "okx:BTC/USDT"]
history = "1m"
[[collect]]
model = "candle"
interval = "1m"
markets = ["binance:BTC/USDT"]
history = "5m"
"""


@pytest.mark.loopback
def test_killed_in_the_middle_and_started_again(tmp_path):
    """`kill -9` while it writes, then a second run: every key once, and no claim that exceeds the rows."""
    pytest.importorskip("chdb", reason="the extra `embedded` is not installed")
    (tmp_path / "tradeflood.toml").write_text(CONFIG)
    url = f"chdb://{tmp_path}/data"
    command = [sys.executable, "-m", "tradeflood.cli.main", "run", "--replay", "--for"]
    env = {**os.environ, "TRADEFLOOD_STORE": url}
    with subprocess.Popen(
        [*command, "60s"], cwd=tmp_path, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as running:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and len(list(tmp_path.glob("data/store/*/*/all_*"))) < 12:
            time.sleep(0.1)
            assert running.poll() is None, running.stderr.read().decode()
        time.sleep(0.8)
        running.send_signal(signal.SIGKILL)
        running.wait()
    with open_store(url) as store:
        killed = store.read(BTC, 0, 1 << 62)
        assert lies(store, 0, time.time_ns()) == []
    done = subprocess.run([*command, "1s", "--json"], cwd=tmp_path, env=env, capture_output=True, check=True)
    report = json.loads(done.stdout)
    with open_store(url) as store:
        assert lies(store, 0, time.time_ns()) == []
        rows = store.read(BTC, 0, 1 << 62)
        assert len({row.trade_id for row in rows}) == len(rows)
        assert {row.trade_id for row in killed} <= {row.trade_id for row in rows}
        sure = held(store.claims(BTC))
        before = [row for row in rows if row.venue_time < sure.bounds[0]]  # seen to prove what comes after it
        assert len(before) <= 1 < len(killed)
        assert sure[0][0] <= killed[len(before)].venue_time
        assert sure[0][1] >= rows[-1].venue_time - SECOND  # the time in which nobody ran was filled
    assert {line["venue"] for line in report["collected"]} == {"binance", "okx"}
