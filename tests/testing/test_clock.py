"""The fake clock: sleepers wake in order, hours take no time."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from tradeflood.models.time import HOUR, SECOND
from tradeflood.testing import FakeClock


@given(st.lists(st.integers(0, 50 * HOUR), max_size=20))
def test_sleepers_wake_in_the_order_of_their_moments(durations):
    clock, woken = FakeClock(), []

    async def one(number, duration):
        await clock.sleep(duration)
        woken.append((clock.elapsed, number))

    async def main():
        await asyncio.gather(*(one(number, duration) for number, duration in enumerate(durations)))

    asyncio.run(main())
    assert woken == [(durations[number], number) for _, number in sorted((d, n) for n, d in enumerate(durations))]
    assert sorted(clock.slept) == sorted(durations)


def test_a_clock_that_does_not_jump_moves_when_it_is_told():
    clock, woken = FakeClock(jumps=False), []

    async def nap(seconds):
        await clock.sleep(seconds * SECOND)
        woken.append(clock.elapsed // SECOND)
        if seconds == 1:
            await nap(2)

    async def main():
        tasks = [asyncio.create_task(nap(seconds)) for seconds in (1, 2, 9)]
        await asyncio.sleep(0)
        await clock.advance(4 * SECOND)
        assert woken == [1, 2, 3]
        assert clock.elapsed == 4 * SECOND
        tasks[2].cancel()
        await clock.advance(HOUR)
        assert woken == [1, 2, 3]

    asyncio.run(main())


def test_one_clock_serves_one_loop_after_another():
    clock = FakeClock(5)
    for _ in range(3):
        asyncio.run(clock.sleep(HOUR))
    assert (clock.now(), clock.elapsed) == (5 + 3 * HOUR, 3 * HOUR)
