"""Passes and stores work in threads; what belongs to the event loop is changed by nobody else."""

import asyncio
import threading

import pytest

from tradeflood import plugins
from tradeflood.live.conversation import Conversation
from tradeflood.live.escalation import Escalation
from tradeflood.models.time import SECOND, parse_time
from tradeflood.replay.server import serve
from tradeflood.runner.flood import Flood
from tradeflood.runner.group import Group, Place
from tradeflood.runner.line import Channel, Health, Line
from tradeflood.runner.runner import Runner
from tradeflood.runner.stream import Stream
from tradeflood.testing import VenueTime
from tradeflood.transport.limiter import Limiter, Pause, Window

THE_LOOPS = (Channel, Conversation, Escalation, Group, Health, Limiter, Line, Pause, Place, Stream, Window)


@pytest.fixture
def trespasses(monkeypatch):
    """Every attribute of something of the loop's that another thread has set."""
    plugins.load()
    found, loops = set(), threading.get_ident()

    def guarded(kind):
        plain = kind.__setattr__

        def guard(self, name, value):
            if threading.get_ident() != loops:
                found.add(f"{kind.__name__}.{name}")
            plain(self, name, value)

        return guard

    def forgetting(window, now, plain=Window._forget):  # it takes from a sum, though seldom in a test
        if threading.get_ident() != loops:
            found.add("Window._forget")
        plain(window, now)

    for kind in THE_LOOPS:
        monkeypatch.setattr(kind, "__setattr__", guarded(kind))
    monkeypatch.setattr(Window, "_forget", forgetting)
    return found


@pytest.mark.loopback
def test_no_thread_changes_what_is_the_loops(trespasses, tmp_path, monkeypatch):
    """Half the subscriptions are mute, so that every pass has something to look at, to ask and to tell."""
    monkeypatch.chdir(tmp_path)
    markets = [f"{venue}:{base}/USDT" for venue in ("binance", "okx", "bitget") for base in ("BTC", "ETH")]

    async def main():
        start = parse_time("2026-03-04T05:06:07")
        async with serve(
            seed=5, venues=("binance", "okx", "bitget"), speed=40, start=start, faults=("mutetopic=0.5",)
        ) as served:
            wants = [{"model": "trade", "markets": markets, "history": "2m"}]
            wants.append({"model": "candle", "interval": "1m", "markets": markets, "history": "2m"})
            config = {"store": "memory://", "venues": served.settings(), "collect": wants}
            async with Flood(config, clock=VenueTime(served.clock)) as flood:
                report = await Runner(flood).run(asyncio.Event(), 150 * SECOND)
                assert all(line.rows for line in report.collected)

    asyncio.run(main(), debug=True)
    assert trespasses == set()
