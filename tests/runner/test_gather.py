"""When rows are taken: after a while, or as soon as many wait."""

import asyncio

from tradeflood.models.time import SECOND
from tradeflood.runner import stream as streams
from tradeflood.runner.stream import Stream
from tradeflood.steps import ignore
from tradeflood.testing import FakeClock


class Network:
    observe = staticmethod(ignore)

    def __init__(self):
        self.clock = FakeClock(jumps=False)


def gathered(monkeypatch, counts, duration):
    """Whether somebody who waits for a second is done after so many ns, when rows come in such portions."""
    monkeypatch.setattr(streams, "MANY", 10)

    async def main():
        network = Network()
        stream = Stream(lambda: (), network)
        waiting = asyncio.create_task(stream.gather(SECOND))
        await network.clock.advance(0)
        for count in counts:
            stream._give([count] * count)
        await network.clock.advance(duration)
        done = waiting.done()
        assert len(stream.take()) == sum(counts)
        again = asyncio.create_task(stream.gather(SECOND))
        await network.clock.advance(0)
        assert not again.done()  # what was taken waits no longer
        await network.clock.advance(SECOND)
        await asyncio.gather(waiting, again)
        return done

    return asyncio.run(main())


def test_few_rows_wait_for_their_time(monkeypatch):
    assert not gathered(monkeypatch, [4, 5], SECOND - 1)
    assert gathered(monkeypatch, [4, 5], SECOND)


def test_many_rows_are_taken_at_once(monkeypatch):
    assert gathered(monkeypatch, [4, 6], 0)
