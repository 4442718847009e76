"""Whoever iterates over a stream is through when it is closed, by whomever: nobody waits for rows that cannot come.

Time is virtual, and the venue simulated.
"""

import asyncio

import pytest
from attrs import evolve

import tradeflood as tf
from tradeflood.models.time import SECOND, parse_time
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.faults import Faults, FaultyDesk
from tradeflood.replay.simulated import Simulated
from tradeflood.testing import FakeTransport, answers_of
from tradeflood.testing.virtual import VirtualClock, run, sockets_of

START = parse_time("2026-03-04T05:06:07")
MARKET = "binance:BTC/USDT"


def with_session(work):
    """What a coroutine gives that is handed a session, its clock and the sockets that were opened; no task is left."""

    async def main():
        clock, opened = VirtualClock(START), []
        paced = Clock(1, START, monotonic=clock.now)
        desk = FaultyDesk(desk_of("binance"), Simulated(3), paced, Faults((), 1))
        flood = tf.Flood({}, transport=FakeTransport(answers_of(desk, clock), clock), clock=clock)
        flood.network = evolve(flood.network, sockets=sockets_of(desk, clock, opened=opened))
        made = await asyncio.wait_for(work(flood, clock, opened), 600)
        assert all(socket._ended for socket in opened)
        await clock.sleep(SECOND)
        assert len(asyncio.all_tasks()) == 1
        return made

    return run(main())


async def counted(rows):
    return len([row async for row in rows])


def test_closing_a_stream_from_inside_the_loop_ends_the_loop():
    async def work(flood, clock, opened):
        async with flood:
            rows, got = flood.stream(tf.Trade, MARKET), []
            async for trade in rows:
                got.append(trade)
                if len(got) == 5:
                    await rows.close()
            assert len(got) == rows.count >= 5  # what had come was delivered

    with_session(work)


@pytest.mark.parametrize("what", ["the stream", "the session"])
def test_closing_from_another_task_ends_the_loop(what):
    async def work(flood, clock, opened):
        async with flood:
            rows = flood.stream(tf.Trade, MARKET)
            reading = [asyncio.create_task(counted(rows)) for _ in range(2)]
            await clock.sleep(20 * SECOND)
            if what == "the stream":
                await rows.close()
        assert sum(await asyncio.gather(*reading)) == rows.count > 0

    with_session(work)


def test_a_stream_that_was_left_is_over_for_who_comes_again():
    async def work(flood, clock, opened):
        async with flood:
            rows = flood.stream(tf.Trade, MARKET)
            async for _ in rows:
                break
            await clock.sleep(SECOND)
            assert await counted(rows) <= rows.count
            assert len(opened) == 1

    with_session(work)


def test_a_stream_that_is_closed_while_it_begins_opens_nothing():
    async def work(flood, clock, opened):
        async with flood:
            rows = flood.stream(tf.Trade, "binance:BTC/USDT*")  # the venue's list is asked first
            beginning = asyncio.create_task(rows.begin())
            await asyncio.sleep(0)
            await rows.close()
            await beginning
            await clock.sleep(SECOND)
            assert not opened

    with_session(work)
