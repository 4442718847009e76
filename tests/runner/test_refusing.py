"""A run whose store refuses: named while it lasts, nothing dropped, nothing claimed that is not stored."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tradeflood import plugins
from tradeflood.cli import running
from tradeflood.config import load_config
from tradeflood.coverage import Dataset, held
from tradeflood.errors import StoreError
from tradeflood.models import Trade
from tradeflood.models.time import MS, SECOND, parse_time
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.execute import Patience
from tradeflood.runner.flood import Flood
from tradeflood.runner.metrics import Counts
from tradeflood.runner.outlet import Outlet
from tradeflood.runner.runner import Runner
from tradeflood.store import SCHEMES, open_store
from tradeflood.store.memory import MemoryStore
from tradeflood.testing import VenueTime

START = parse_time("2026-03-04T05:06:07")
BTC = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
SCRIPT = Path(__file__).with_name("killed.py")
SPEED = 8


class Moody(MemoryStore):
    """A store that refuses the writes for which `mood` gives an error, by their number."""

    mood = staticmethod(lambda number: None)

    def __init__(self, url):
        super().__init__(url)
        self.number = 0

    def write(self, batches, claims=()):
        self.number += 1
        if (error := self.mood(self.number)) is not None:
            raise StoreError(error)
        super().write(batches, claims)


@pytest.fixture
def moody(monkeypatch):
    plugins.load()
    monkeypatch.setitem(SCHEMES, "memory", Moody)

    def choose(mood):
        monkeypatch.setattr(Moody, "mood", staticmethod(mood))

    return choose


def run(seconds=8, **config):
    """The report, the steps that were taken, and every trade that is absent from what is held."""

    async def main():
        counts = Counts()
        async with serve(seed=5, venues=["binance"], speed=SPEED, start=START) as served:
            wants = [{"model": "trade", "markets": ["binance:BTC/USDT"], "history": "1m"}]
            told = {"store": "memory://", "venues": served.settings(), "collect": wants, **config}
            patience = Patience(attempts=2, first_delay=20 * MS)
            async with Flood(told, clock=VenueTime(served.clock), patience=patience, observe=counts) as flood:
                runner = Runner(flood)
                report = await runner.run(asyncio.Event(), seconds * SECOND)
                store = flood.store
                sure = held(store.claims(BTC))
                real = Simulated(5).at("binance").trades(
                    "BTC/USDT", "raw", now=served.clock.now(), start=START - 60 * SECOND, end=served.clock.now(), limit=10**9
                )  # fmt: skip
                have = Counter(row.trade_id for row in store.read(BTC, 0, 1 << 62))
                assert not [
                    row for row in real if sure.touches(row.venue_time, row.venue_time + 1) and not have[row.trade_id]
                ]
                assert max(have.values(), default=0) <= 1
                return report, counts.steps, sure, runner

    return asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.loopback
def test_a_store_that_is_full_for_a_while_ends_no_run(moody):
    moody(lambda number: "NOT_ENOUGH_SPACE" if 2 <= number <= 6 else None)
    report, steps, sure, runner = run(seconds=20)
    assert any("store: disk full; rows wait in memory" in text for text in report.failures)
    assert steps["store.refused"] >= 1
    assert steps["store.back"] >= 1
    assert runner.outlet.trouble is None
    assert report.lost == 0
    assert sure.size > 60 * SECOND


@pytest.mark.parametrize(("answered", "state"), [(None, "store: disk full"), (False, "store: disk full"), (True, None)])
def test_a_pass_that_stored_nothing_shows_no_store_that_takes_rows(answered, state):
    """Else it would be called back, and refuse again, and be tried ever as often."""

    class Passing:
        async def one_pass(self, *_, **__):
            return answered

    async def main():
        async with Flood({"store": "memory://"}) as flood:
            runner = Runner(flood)
            runner.outlet = Outlet(flood.store, now=lambda: 0)
            runner._refiller = Passing()
            runner.outlet.refused("store: disk full")
            runner.outlet._again_at = 0
            await runner._attempt("binance")
            assert runner.outlet.trouble == state

    plugins.load()
    asyncio.run(main())


@pytest.mark.loopback
def test_what_a_store_never_takes_is_counted(moody):
    moody(lambda number: "it is read-only")
    report, _, sure, runner = run()
    assert not sure
    assert report.lost > 0
    assert any(f"{report.lost} rows could not be kept" in text for text in report.failures)
    assert any(text.startswith("store: refuses: it is read-only") for text in report.failures)
    assert runner.outlet.trouble == "store: refuses: it is read-only"


@pytest.mark.loopback
def test_with_a_spill_the_next_run_has_it_all(moody, tmp_path):
    moody(lambda number: "NOT_ENOUGH_SPACE")
    report, _, _, _ = run(spill=str(tmp_path / "spill"))
    assert report.lost == 0
    assert report.spilled > 0
    assert any(f"{report.spilled} rows wait in" in text for text in report.failures)
    moody(lambda number: None)
    report, steps, _, _ = run(seconds=2, spill=str(tmp_path / "spill"))
    assert report.spilled == 0
    assert steps["spill.drained"] > 0
    assert list((tmp_path / "spill").iterdir()) == []


@pytest.mark.loopback
def test_the_command_says_what_is_lost_and_fails(moody, tmp_path, monkeypatch, capsys):
    moody(lambda number: "NOT_ENOUGH_SPACE")
    monkeypatch.chdir(tmp_path)
    config = {"store": "memory://", "collect": [{"model": "trade", "markets": ["binance:BTC/USDT"], "history": "1m"}]}
    job = running.run_job(load_config(config), replay=True, duration=4 * SECOND, as_json=True)
    assert asyncio.run(asyncio.wait_for(job, 30)) == 1
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["lost"] > 0
    assert told["steps"]["store.refused"] == 1
    assert told["took_ms"]["request.answered"]["count"] > 0
    assert f"{told['lost']} rows could not be kept" in err


def may_mount():
    """Whether a small disk can be had: a file system in memory, in a name space of our own."""
    if shutil.which("unshare") is None or sys.platform != "linux":
        return False
    words = ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs -o size=1m none /tmp"]
    return subprocess.run(words, check=False, capture_output=True, timeout=30).returncode == 0


@pytest.mark.chaos
@pytest.mark.skipif(not may_mount(), reason="no disk of its own can be mounted here")
def test_a_disk_that_is_really_full(tmp_path):
    """The store's disk is full at first; two seconds later somebody makes room."""
    disk, spill = tmp_path / "disk", tmp_path / "spill"
    disk.mkdir()

    async def main():
        plugins.load()
        async with serve(seed=5, venues=["binance"], speed=SPEED, start=START) as served:
            wants = [{"model": "trade", "markets": ["binance:BTC/USDT"], "history": "1m"}]
            config = {
                "store": f"chdb://{disk}/store",
                "spill": str(spill),
                "venues": served.settings(),
                "collect": wants,
            }
            order = {
                "config": config,
                "for": 6 * SPEED * SECOND,
                "clock": [served.clock.start, served.clock._begin, SPEED],
            }
            order["look"] = ["binance", "BTC/USDT"]
            script = (
                f"mount -t tmpfs -o size=120m none {disk} && head -c 80m /dev/zero > {disk}/ballast && "
                f'{{ (sleep 2; rm {disk}/ballast) & exec {sys.executable} {SCRIPT} "$0"; }}'
            )
            process = await asyncio.create_subprocess_exec(
                "unshare", "-Urm", "sh", "-c", script, json.dumps(order), stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = await asyncio.wait_for(process.communicate(), 50)
            assert process.returncode == 0, err.decode()[-2000:]
            return json.loads(out)

    told = asyncio.run(main())
    assert any("disk full" in text for text in told["failures"])
    assert told["steps"]["store.back"] >= 1
    assert told["steps"]["spill.drained"] >= 1
    assert (told["lost"], told["spilled"]) == (0, 0)
    held_rows, real_rows = told["rows"], told["held"]
    assert held_rows >= real_rows > 0


@pytest.mark.skipif(os.name != "posix", reason="there is no statvfs")
def test_a_store_leaves_some_of_the_disk_alone(tmp_path, monkeypatch):
    """It does not wait for the end of the disk: what chdb writes there is lost without a word."""
    from tradeflood.store import chdb

    with open_store(f"chdb://{tmp_path / 'store'}") as store:
        monkeypatch.setattr(chdb, "ROOM", 1 << 60)
        with pytest.raises(StoreError, match="disk full"):
            store.write({Trade: []}, [])
