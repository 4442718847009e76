"""`tradeflood stream`: what it stores it can vouch for, and what a feed does wrong is said as it happens."""

import asyncio
import threading

import pytest

from tradeflood.cli.collecting import _read, stream_job
from tradeflood.coverage import Dataset, Grade
from tradeflood.models import Trade
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated
from tradeflood.store import open_store

pytestmark = pytest.mark.loopback


def streamed(venue, market, *faults, store, out="store", duration="2s"):
    """The exit code of the command, and what the store then claims."""

    async def main():
        async with serve(Simulated(7), [venue], faults=faults, seed=1, speed=20) as served:
            config = {"store": store, "venues": served.settings()}
            return await stream_job("trade", (f"{venue}:{market}",), {}, duration, out, config)

    code = asyncio.run(asyncio.wait_for(main(), 20))
    if out != "store":
        return code, []
    with open_store(store) as kept:
        return code, kept.claims(Dataset(Trade, venue, market, ("raw",)))


def test_a_stream_into_the_store_keeps_what_the_numbers_of_messages_prove(tmp_path):
    code, claims = streamed("nobitex", "USDT/IRT", store=f"chdb://{tmp_path / 'store'}")
    assert code == 0
    assert {claim.grade for claim in claims} == {Grade.D}
    assert sum(claim.count for claim in claims) > 0


def test_what_a_feed_does_wrong_is_said_once(tmp_path, capsys):
    code, _ = streamed("binance", "BTC/USDT", "garbage#3", store=f"chdb://{tmp_path / 'store'}", out="json")
    out, err = capsys.readouterr()
    assert code == 0
    assert out.count("\n") > 3
    lines = err.splitlines()
    assert lines
    assert len(lines) == len(set(lines)) <= 3
    assert all(line.startswith("tradeflood: binance: a frame that cannot be read") for line in lines)


def test_a_stream_that_is_stopped_in_the_midst_of_a_batch_waits_for_its_end():
    """What comes last is written by another thread: two at once would mix up what they claim."""
    begun, go, order = threading.Event(), threading.Event(), []

    class Slow:
        def write(self, *_):
            order.append("begun")
            begun.set()
            go.wait(5)
            order.append("over")

    class Rows:
        async def batches(self):
            yield [1]

        def proofs(self):
            return []

    async def main():
        reader = asyncio.create_task(_read(Rows(), None, Slow()))
        await asyncio.to_thread(begun.wait, 5)
        for _ in range(2):
            reader.cancel()
            await asyncio.sleep(0.01)
        assert not reader.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert order == ["begun", "over"]

    asyncio.run(main())
