"""A run against venues that misbehave in every way they know, held against the truth.

The simulated market is a pure function of seed and time, so what really traded is known. However the venues fail,
nothing that is absent may lie inside `held`, nothing may be there twice or wrong, and no claim may say more than is true.
Two forms: four venues over real sockets for half a minute, where how much is held is reported and not demanded, for it
depends on what the venues still served; and twelve venues, one of every class among them, for minutes of virtual time,
where the faults stop at last, so that all that the venues still serve must be healed.

`TRADEFLOOD_CHAOS_SEEDS` says how many seeds are run, one unless told; `TRADEFLOOD_CHAOS_SECONDS` how long each.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter

import pytest

import tradeflood as tf
from tradeflood.models.time import MINUTE, SECOND, iso
from tradeflood.replay.faults import parse
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.flood import Flood
from tradeflood.runner.runner import Runner

from .ordeal import FAULTS as ALL
from .ordeal import FORGETFUL, ordeal

SEEDS = range(int(os.environ.get("TRADEFLOOD_CHAOS_SEEDS", "1")))
LENGTH = int(os.environ.get("TRADEFLOOD_CHAOS_SECONDS", "25"))

MARKETS = {
    "binance": ("BTC/USDT", "ETH/USDT", "DOGE/USDT"),
    "okx": ("BTC/USDT", "ETH/USDT"),
    "nobitex": ("BTC/IRT", "USDT/IRT"),
    "bitget": ("BTC/USDT", "ETH/USDT"),
}
QUIET = "DOGE/USDT"
FAULTS = (
    "withhold=0.18", "duplicate%8", "reorder%4", "late%3", "corrupt%3", "garbage%3", "halfframe#2", "huge#1",
    "cut=60@okx", "cut=80@bitget", "stall=40@binance#1", "mute@nobitex#1",
    "429=1%3", "429%1", "ban=2@binance#1", "slow=1%3", "error200%3", "html%3", "truncated%3", "half%2", "types%2",
    "empty%3", "nothing%3", "lagging=3%10",
)  # fmt: skip


@pytest.mark.chaos
@pytest.mark.parametrize("seed", SEEDS)
def test_all_that_the_venues_still_serve_is_healed(seed, tmp_path, monkeypatch):
    """Three rough minutes and three calm ones of twelve venues: every kind of fault, hundreds of them, and the truth."""
    monkeypatch.chdir(tmp_path)
    logging.disable(logging.WARNING)
    try:
        outcome = ordeal(seed, 3 * MINUTE, 3 * MINUTE)
    finally:
        logging.disable(logging.NOTSET)
    print(f"\n{outcome}")
    assert not outcome.lies, "\n".join(outcome.lies)
    assert outcome.faults.total() >= 200
    assert outcome.faults.keys() == {parse(fault).name for fault in ALL}
    for dataset, told in outcome.told.items():
        if dataset.venue not in FORGETFUL:
            assert told.absent == 0, dataset.label
            assert told.strict == "", dataset.label


@pytest.mark.chaos
@pytest.mark.parametrize("seed", SEEDS)
def test_no_claim_is_better_than_the_truth(seed):
    """Every fault at once, on four venues over real sockets, for a while."""
    asyncio.run(_ordeal(seed))


async def _ordeal(seed: int) -> None:
    truth = Simulated(seed)
    async with serve(truth, venues=list(MARKETS), faults=FAULTS, seed=seed) as served:
        config = {
            "store": "memory://",
            "venues": served.settings(),
            "collect": [
                {"model": "trade", "markets": _names(), "history": "1m"},
                {"model": "candle", "interval": "1m", "markets": _names(), "history": "5m"},
            ],
        }
        async with Flood(config) as flood:
            runner = Runner(flood)
            report = await runner.run(asyncio.Event(), LENGTH * SECOND)
            assert flood.store is not None
            wrong = [line for part in report.collected for line in _judged(part, flood.store, truth)]
            shares = {part.dataset.label: _share(part, report) for part in report.collected}
        injected = Counter(fault.name for fault in served.faults.injected)
    print(f"\nseed {seed}: {injected.total()} faults: {dict(injected.most_common())}")
    for label, share in sorted(shares.items()):
        print(f"  {label}: {share:.1%} of its time held")
    assert runner.stream is not None
    print("  " + "; ".join(f"{venue}: {h.opened} opened, {h.mute} mute, {h.unreadable} unreadable" for venue, h in runner.stream.health.items()))  # fmt: skip
    every = {label for name in _names() for label in (f"{name} trade raw", f"{name} candle 1m venue")}
    heard = {label.partition(":")[0] for label in shares}
    assert len(heard) >= len(MARKETS) - 1  # one may have told us to wait longer than all of it takes
    for label in every - shares.keys():  # in so short a time nothing may trade
        assert QUIET in label or label.partition(":")[0] not in heard, label
    assert not wrong, "\n".join(wrong)
    assert len(injected) >= len({fault.partition("=")[0].partition("%")[0].partition("#")[0] for fault in FAULTS}) - 6


def _names() -> list[str]:
    return [f"{venue}:{market}" for venue, markets in MARKETS.items() for market in markets]


def _share(part, report) -> float:
    held = _held(part)
    return held.size / (report.ended - held.bounds[0]) if held else 0.0


def _held(part) -> tf.Spans:
    return tf.Spans.of(*((piece.start, piece.end) for piece in part.parts if piece.state is tf.State.HELD))


def _judged(part, store, truth) -> list[str]:
    """What the store says and the truth does not: absent inside held, there twice, or with other values."""
    dataset, held = part.dataset, _held(part)
    source = truth.at(dataset.venue)
    rows = store.read(dataset, 0, 1 << 62)
    times = [getattr(row, dataset.model.time) for row in rows]
    low = min([held.bounds[0], *times] if held else times) - 600 * SECOND
    high = max([held.bounds[1], *times]) + 60 * SECOND
    if dataset.model is tf.Candle:
        now = max((row.received_at or 0) for row in rows) if rows else 0
        real = {c.open_time: c for c in source.candles(dataset.market, "1m", start=low, end=high, now=high)}
        mine = {row.open_time: row for row in rows}
        return [
            f"{dataset.label}: the candle of {iso(at)} is {mine.get(at)}, not {candle}"
            for at, candle in real.items()
            if held.touches(at, at + 1) and at + 60 * SECOND <= now and _figures(mine.get(at)) != _figures(candle)
        ]
    real_rows = source.trades(dataset.market, "raw", start=low, end=high, limit=1_000_000, now=high)
    key = _equal_trades if dataset.venue == "nobitex" else _numbered_trades
    have, want = Counter(map(key, rows)), Counter(map(key, real_rows))
    absent = [
        f"{dataset.label}: trade {row.trade_id} of {iso(row.venue_time)} is absent and claimed"
        for row in real_rows
        if held.touches(row.venue_time, row.venue_time + 1) and have[key(row)] < want[key(row)]
    ]
    return absent + [
        f"{dataset.label}: {row} is there and did not happen" for row in rows if have[key(row)] > want[key(row)]
    ]


def _figures(candle) -> object:
    return candle and (candle.open, candle.high, candle.low, candle.close, candle.volume)


def _numbered_trades(row) -> object:
    return row.trade_id, row.price, row.size, row.aggressor


def _equal_trades(row) -> object:
    return row.price.normalize(), row.size.normalize(), row.aggressor, row.venue_time
