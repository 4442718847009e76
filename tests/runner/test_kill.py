"""Kill -9, at every step that writes and at random moments; restarted on the same store, a run ends with the truth.

A failpoint is a step of `tradeflood.steps`. The venues are served by this process and outlive the runs, so what was
missed while a run was dead is asked for by the next one.
"""

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, field, frozen

from tradeflood import plugins
from tradeflood.coverage import Dataset, State, held
from tradeflood.models import Candle, Trade
from tradeflood.models.time import MINUTE, SECOND
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated
from tradeflood.steps import STEPS
from tradeflood.store import open_store

SCRIPT = Path(__file__).with_name("killed.py")
LONG = int(os.environ.get("TRADEFLOOD_CHAOS_SEEDS", "1")) > 1
SPEED = 4
SEED = 7
AT_ONCE = 4
MARKETS = {"binance": "BTC/USDT", "okx": "BTC/USDT", "bitget": "BTC/USDT", "nobitex": "BTC/IRT"}
PAGED = {"binance", "okx", "bitget"}  # whose trades of the last quarter of an hour can be asked for

QUICK = {"runner.runner.PASS_EVERY": SECOND // 2}


@frozen
class Scenario:
    """Steps at which a run is killed, one after the other on one store, and what makes it come to them."""

    steps: tuple[str, ...]
    venues: tuple[str, ...] = ("binance", "okx")
    faults: tuple[str, ...] = ()
    seconds: float = 3.0
    last: float = 3.0
    order: Mapping[str, Any] = field(factory=dict)


SCENARIOS = {
    "from the first second on": Scenario(
        ("store.migrating", "store.changed", "store.migrated", "run.begun", "pass.begun", "pass.planned", "request.sent",
         "request.answered", "request.read", "answers.keeping", "answers.kept", "pass.ended", "stream.opening",
         "stream.opened", "stream.acknowledged"),
        tuple(MARKETS),
    ),
    "while it writes": Scenario(
        ("store.writing", "rows.writing", "rows.written", "claims.writing", "claims.written", "store.written", "batch.taken",
         "batch.proved", "batch.kept"),
        tuple(MARKETS),
    ),
    "while it ends": Scenario(
        ("edges.closing", "edges.closed", "settle.begun", "settle.ended", "run.report"), ("binance", "bitget"), seconds=1.5
    ),
    "while the store refuses": Scenario(
        ("store.refused", "spill.appending", "spill.appended", "spill.synced", "spill.draining", "spill.drained",
         "spill.truncated", "store.back"),
        seconds=6.0, order={"refuses": 1.5, "spill": True},
    ),
    "while rows wait": Scenario(
        ("stream.paused", "spill.full", "stream.resumed"), seconds=6.0,
        order={"refuses": 1.5, "spill": True, "spill_limit": 2000, "limits": {"runner.stream.FULL": 3}},
    ),
    "while rows are dropped": Scenario(
        ("stream.dropped",), seconds=6.0,
        order={"refuses": 1.5, "overflow": "drop", "limits": {"runner.stream.FULL": 3}},
    ),
    "while claims are made fewer": Scenario(
        ("claims.replacing", "claims.joined", "claims.replaced"), seconds=8.0,
        order={"limits": {"store.known.MANY": 4, "runner.keeper.GROWS_FOR": 0}},
    ),
    "when the network fails": Scenario(
        ("request.failed", "stream.lost", "stream.polled", "stream.replaced"), ("binance", "okx", "nobitex"),
        ("nothing@okx%20", "cut=5@nobitex", "shutdown=4@binance"), seconds=20.0, last=6.0,
    ),
    "when a feed is mute": Scenario(
        ("stream.mute", "stream.resubscribed", "stream.reopened", "stream.fallback"), ("binance",),
        ("mute@binance%100",), seconds=20.0, last=4.0,
    ),
    "when a feed speaks again": Scenario(("stream.recovered",), ("binance",), ("mute@binance#1",), seconds=20.0),
}  # fmt: skip


class Ground:
    """Venues, a store, and runs that are killed on it."""

    def __init__(self, served, folder, venues, order):
        self.served, self.folder, self.venues, self.order = served, folder, venues, order
        self.url = f"chdb://{folder / 'store'}"
        self.began = served.clock.now()

    async def run(self, seconds=3.0, kill=None, after=None, **order):
        """What the run told, None where it was killed."""
        order = {**self.order, **order}
        clock, names = self.served.clock, [f"{venue}:{MARKETS[venue]}" for venue in self.venues]
        config = {
            "store": self.url,
            "venues": self.served.settings(),
            "collect": [
                {"model": "trade", "markets": names, "history": "15m"},
                {"model": "candle", "interval": "1m", "markets": names, "history": "15m"},
            ],
        }
        if order.pop("spill", False):
            config |= {"spill": str(self.folder / "spill"), "spill_limit": order.pop("spill_limit", 1 << 30)}
        config |= {"overflow": order.pop("overflow", "wait")}
        told = {
            **order,
            "config": config,
            "for": int(seconds * SPEED * SECOND),
            "clock": [clock.start, clock._begin, SPEED],
            "limits": {**QUICK, **order.get("limits", {})},
            "kill": kill or (None, 0),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SCRIPT),
            json.dumps(told),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            talk = asyncio.create_task(process.communicate())
            if after is not None:
                await asyncio.wait({talk}, timeout=after)
                if not talk.done():
                    process.kill()
            await asyncio.wait({talk}, timeout=seconds + 60)
            assert talk.done(), f"a run of {seconds:.0f} s has not ended, told {told}"
        finally:
            if process.returncode is None:
                process.kill()
            out, err = await talk
        if process.returncode == -9:
            return None
        assert process.returncode == 0, err.decode()[-3000:]
        return json.loads(out)

    def judged(self, settled):
        """Everything about the store that is not as it should be, after a run that settled at that time."""
        wrong = []
        with open_store(self.url) as store:
            for venue in self.venues:
                for dataset in (
                    Dataset(Trade, venue, MARKETS[venue], ("raw",)),
                    Dataset(Candle, venue, MARKETS[venue], ("1m", "venue")),
                ):
                    wrong += self._judged(store, dataset, settled)
            for view in ("trades", "candles"):
                key = (
                    "venue, market, kind, trade_id"
                    if view == "trades"
                    else "venue, market, `interval`, origin, open_time"
                )
                asked = store.query(f"SELECT count(), uniqExact({key}) FROM {view}", "JSONCompact")
                rows, keys = json.loads(asked)["data"][0]
                wrong += [f"{view}: {rows} rows have {keys} keys"] * (rows != keys)
        return wrong

    def _judged(self, store, dataset, settled):
        source, sure = Simulated(SEED).at(dataset.venue), held(store.claims(dataset))
        rows = store.read(dataset, 0, 1 << 62)
        low, high = self.began - 16 * MINUTE, settled + 10 * MINUTE
        if dataset.model is Trade:
            coarse = SECOND if dataset.venue == "bitget" else 1
            real = source.trades(dataset.market, "raw", now=high, start=low, end=high, limit=1 << 40)

            def what(row):
                return row.venue_time // coarse, row.price.normalize(), row.size.normalize(), row.aggressor

            owed = settled - 2 * SECOND
        else:
            coarse = 1
            real = list(source.candles(dataset.market, "1m", now=high, start=low, end=high, limit=1 << 40))
            rows = [row for row in rows if row.closed]

            def what(row):
                return row.open_time, row.open, row.high, row.low, row.close, row.volume

            owed = settled - 2 * MINUTE
        time = dataset.model.time
        have, was = Counter(map(what, rows)), Counter(map(what, real))
        wrong = [f"{dataset.label}: doubled or unreal: {extra}" for extra in list((have - was).items())[:3]]
        absent = was - have
        for row in real:
            at = getattr(row, time)
            if absent[what(row)]:
                start = at // coarse * coarse
                if sure.touches(start, start + 1) and sure.touches(start + coarse - 1, start + coarse):
                    wrong.append(f"{dataset.label}: absent and claimed: {row}")
                elif self.began <= at < owed and (dataset.model is Candle or dataset.venue in PAGED):
                    wrong.append(
                        f"{dataset.label}: lost, though the venue has it ({(settled - at) / SECOND:.1f} s): {row}"
                    )
        wrong += [
            f"{dataset.label}: {counted(claim, rows, coarse - 1)} rows are there, and claimed are: {claim}"
            for claim in store.claims(dataset)
            if claim.state is State.HELD and counted(claim, rows, coarse - 1) < claim.count
        ]
        if not rows or not sure:
            wrong.append(f"{dataset.label}: nothing is held")
        return wrong


def counted(claim, rows, vague):
    """How many rows are what a claim is about: of a sequence those with its ids or numbers, else those of its time.

    Where times may be revised within a second, a row may since have moved out of the claim by as much.
    """
    if claim.evidence.endswith("consecutive ids"):
        return sum(int(claim.left) <= int(row.position) < int(claim.right) for row in rows)
    linked = claim.left is not None  # the rows at either end belong to the sequence, and their moments do not
    more = max(linked, vague)
    return sum(claim.start - more <= getattr(row, row.time) < claim.end + more for row in rows)


async def ordeal(folder, scenario, judging, numbers=(1,)):
    """Kill a run at each of the steps, let the last one live, and judge: one at a time, for a process opens one store."""
    plugins.load()
    faults, venues = scenario.faults, scenario.venues
    async with serve(Simulated(SEED), venues=venues, faults=faults, seed=SEED, speed=SPEED) as served:
        ground = Ground(served, folder, venues, scenario.order)
        for number in numbers:
            for step in scenario.steps:
                for times in (1, 3, 9):  # on a busy machine a run may be over before it comes there
                    lived = await ground.run(times * scenario.seconds, kill=(step, number))
                    if not lived:
                        break
                assert not lived, f"no run came to {step} ({number}); the last one: {lived}"
        end = await ground.run(scenario.last, refuses=0)
        assert end is not None
        assert (end["lost"], end["spilled"]) == (0, 0)
        async with judging:
            wrong = await asyncio.to_thread(ground.judged, end["settled"])
        assert not wrong, "\n".join(wrong)


@pytest.mark.loopback
def test_a_killed_run_goes_on_where_it_was(tmp_path):
    """Killed when the rows are written and their claims are not."""
    asyncio.run(ordeal(tmp_path, Scenario(("rows.written",), ("binance",), last=1.5), asyncio.Lock()))


@pytest.mark.chaos
def test_killed_at_every_step(tmp_path):
    """Every scenario, some of them at a time, since a run waits more than it works.

    On a fresh store a step that writes is the first to bring rows of a time; after other runs it finds them there.
    """

    async def main():
        judging, turn, trouble = asyncio.Lock(), asyncio.Semaphore(AT_ONCE), {}

        async def one(name, scenario, numbers=(1,)):
            folder = tmp_path / name.replace(" ", "-")
            folder.mkdir()
            async with turn:
                try:
                    await ordeal(folder, scenario, judging, numbers)
                except AssertionError as error:
                    trouble[name] = str(error)

        writing = SCENARIOS["while it writes"]
        alone = {f"{step} alone": evolve(writing, steps=(step,), last=2.0) for step in writing.steps}
        works = [one(*each) for each in (SCENARIOS | alone).items()]
        if LONG:
            works.append(one("while it writes, later", writing, (2, 5)))
        await asyncio.gather(*works)
        return trouble

    trouble = asyncio.run(main())
    assert not trouble, "\n".join(f"killed {name}: {text}" for name, text in trouble.items())


@pytest.mark.chaos
def test_killed_at_random(tmp_path):
    """Fifty times, ten in the short form: at any moment between the start of the process and a few seconds later."""
    venues, dice = ("binance", "nobitex"), random.Random(SEED)

    async def main():
        plugins.load()
        async with serve(Simulated(SEED), venues=venues, seed=SEED, speed=SPEED) as served:
            ground = Ground(served, tmp_path, venues, {})
            killed = 0
            for _ in range(50 if LONG else 10):
                killed += await ground.run(2.0, after=dice.uniform(0.3, 3.0)) is None
            end = await ground.run(3.0)
            assert end is not None
            assert killed > 6
            wrong = await asyncio.to_thread(ground.judged, end["settled"])
            assert not wrong, "\n".join(wrong)

    asyncio.run(main())


def test_every_step_is_a_failpoint():
    """Whoever announces a new step says in which scenario a run comes to it."""
    listed = [step for scenario in SCENARIOS.values() for step in scenario.steps]
    assert sorted(STEPS) == sorted(listed)
    assert len(listed) >= 25
