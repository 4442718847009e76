"""Budgets: never exceeded, spent in the order of asking, corrected by the venue, paused without loss."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.errors import RateLimited
from tradeflood.models.time import DAY, HOUR, MINUTE, SECOND
from tradeflood.testing import FakeClock, FakeTransport
from tradeflood.transport import DIRECT, Call, Exit, Limited, Limiter, Window
from tradeflood.turns import Budget, Feed, get

BUDGET = Budget("weight", 10, per=MINUTE)
OTHER = Exit("http://127.0.0.1:1")


def call(weight=1, *, budget=BUDGET, leave=DIRECT, number=0, venue="somewhere"):
    return Call(venue, "http://somewhere", get("/x", number=number), "rest", budget, weight, (), leave)


def spend(calls, clock, limiter, between=()):
    """[(moment, call)] as the limiter lets them pass; calls come in together, but for the waits between them."""
    passed = []

    async def one(asked):
        await limiter.spend(asked)
        passed.append((clock.now(), asked))

    async def main():
        tasks = []
        for asked, wait in zip(calls, [*between, *[0] * len(calls)], strict=False):
            tasks.append(asyncio.create_task(one(asked)))
            if wait:
                await clock.sleep(wait)
        await asyncio.gather(*tasks)

    asyncio.run(main())
    return passed


def fullest(passed, per):
    """The most weight in any window of that length."""
    return max(sum(asked.weight for at, asked in passed if begin <= at < begin + per) for begin, _ in passed)


weights = st.lists(st.integers(1, 10), min_size=1, max_size=40)
waits = st.lists(st.integers(0, 30 * SECOND), max_size=40)


@given(weights, waits)
def test_no_window_ever_holds_more_than_the_limit_and_nobody_overtakes(weights, waits):
    clock = FakeClock()
    passed = spend([call(weight, number=n) for n, weight in enumerate(weights)], clock, Limiter(clock), waits)
    assert len(passed) == len(weights)
    assert fullest(passed, BUDGET.per) <= BUDGET.limit
    assert [dict(asked.request.params)["number"] for _, asked in passed] == list(range(len(weights)))


@given(weights, st.integers(0, 3 * MINUTE), st.integers(1, 4 * MINUTE))
def test_a_pause_loses_nothing_and_is_no_reason_to_hurry_afterwards(weights, at, length):
    """What waited through a pause is spread out again: no burst of what had been booked for the time of the pause."""
    clock = FakeClock()
    limiter = Limiter(clock)
    passed = []

    async def one(asked):
        await limiter.spend(asked)
        passed.append((clock.now(), asked))

    async def ban():
        await clock.sleep(at)
        limiter.pause(call(), clock.now() + length)

    async def main():
        tasks = [asyncio.create_task(one(call(weight))) for weight in weights]
        await asyncio.gather(ban(), *tasks)

    asyncio.run(main())
    begin = clock.start + at
    assert len(passed) == len(weights)
    assert fullest(passed, BUDGET.per) <= BUDGET.limit
    assert not [when for when, _ in passed if begin < when < begin + length]


def test_what_is_free_is_not_waited_for():
    clock = FakeClock()
    assert {at for at, _ in spend([call()] * 10, clock, Limiter(clock))} == {clock.start}


def test_a_weight_above_the_whole_limit_waits_for_an_empty_window():
    clock = FakeClock()
    passed = spend([call(3), call(25), call(1)], clock, Limiter(clock))
    assert [at - clock.start >= turns * MINUTE for turns, (at, _) in enumerate(passed)] == [True] * 3


def test_the_venues_own_count_is_taken_where_it_is_higher():
    """Somebody else behind the same address has spent 9 of 10: one more fits, the next waits."""
    clock = FakeClock()
    limiter = Limiter(clock)
    limiter.correct(call(), 9)
    limiter.correct(call(), 2)
    passed = spend([call(), call()], clock, limiter)
    assert passed[0][0] == clock.start
    assert passed[1][0] >= clock.start + MINUTE


def test_budgets_are_counted_per_exit_only_where_the_venue_counts_addresses():
    by_key = Budget("orders", 1, per=MINUTE, scope="key")
    for budget, together in ((Budget("weight", 1, per=MINUTE), True), (by_key, False)):
        clock = FakeClock()
        passed = spend([call(budget=budget), call(budget=budget, leave=OTHER)], clock, Limiter(clock))
        assert (passed[1][0] == clock.start) is together


def test_a_pause_stops_one_exit_and_one_venue():
    clock = FakeClock()
    limiter = Limiter(clock)
    limiter.pause(call(), clock.now() + 30 * SECOND)
    passed = {
        asked.exit.proxy or asked.venue: at - clock.start
        for at, asked in spend([call(), call(leave=OTHER), call(venue="elsewhere")], clock, limiter)
    }
    assert passed == {"somewhere": 30 * SECOND, OTHER.proxy: 0, "elsewhere": 0}


@pytest.mark.parametrize(("per", "pause"), [(SECOND // 10, SECOND), (10 * SECOND, 10 * SECOND), (DAY, MINUTE)])
def test_a_pause_that_names_no_end_is_one_window_and_at_most_a_minute(per, pause):
    clock = FakeClock()
    assert Limiter(clock).pause(call(budget=Budget("x", 1, per)), None) == clock.now() + pause


def test_a_pause_is_never_shortened():
    clock = FakeClock()
    limiter = Limiter(clock)
    limiter.pause(call(), clock.now() + HOUR)
    assert limiter.pause(call(), clock.now() + SECOND) == clock.now() + HOUR


def test_nobody_waits_through_a_ban_of_days():
    """A pause longer than anybody waits refuses at once, also those who wait already."""
    clock = FakeClock()
    limiter = Limiter(clock, longest=5 * MINUTE)

    async def main():
        await limiter.spend(call(10))
        waiting = asyncio.create_task(limiter.spend(call(10)))
        await asyncio.sleep(0)
        limiter.pause(call(), clock.now() + 3 * DAY)
        with pytest.raises(RateLimited, match="not to be asked before 2026-01-04T00:00:00Z"):
            await waiting
        with pytest.raises(RateLimited):
            await limiter.spend(call())
        limiter.pause(call(), 10**40)
        with pytest.raises(RateLimited):
            await limiter.spend(call())

    asyncio.run(main())
    assert clock.elapsed <= MINUTE + SECOND


def test_whoever_gives_up_waiting_spends_nothing():
    clock = FakeClock(jumps=False)
    limiter = Limiter(clock)

    async def main():
        await limiter.spend(call(10))
        impatient, patient = (asyncio.create_task(limiter.spend(call(10))) for _ in range(2))
        await asyncio.sleep(0)
        impatient.cancel()
        await clock.advance(MINUTE + SECOND)
        assert patient.done()

    asyncio.run(main())


def test_connection_attempts_are_paced_as_the_feed_declares():
    clock = FakeClock()
    limiter = Limiter(clock)
    feed = Feed("ws://x", attempts=(2, 10 * SECOND))

    async def main():
        for _ in range(5):
            await limiter.attempt("somewhere", feed, DIRECT)

    asyncio.run(main())
    assert 20 * SECOND <= clock.elapsed < 21 * SECOND


def test_a_limited_transport_waits_and_then_sends():
    clock = FakeClock()
    inner = FakeTransport(lambda call: {}, clock)
    transport = Limited(inner, Limiter(clock))

    async def main():
        for number in range(11):
            await transport.send(call(number=number))
        await transport.close()

    asyncio.run(main())
    assert clock.elapsed >= MINUTE
    assert inner.count == {"/x": 11}
    assert inner.asked[10] == "/x?number=10"
    assert inner.closed


@given(st.lists(st.tuples(st.integers(0, 2 * MINUTE), st.integers(1, 10)), max_size=40))
def test_a_window_forgets_what_is_older_than_itself(spent):
    window, now = Window(BUDGET), 0
    log = []
    for wait, weight in spent:
        now = window.room(now + wait, weight)
        window.spend(now, weight)
        log.append((now, weight))
        assert window.used(now) == sum(w for at, w in log if at > now - window.per) <= BUDGET.limit


def test_polls_and_lists_leave_a_part_of_the_budget_to_refills():
    """Of ten a fifth is reserved: eight go at once, then only refills do; a refill does not wait behind others that wait."""
    clock = FakeClock()
    limiter = Limiter(clock)
    limiter.reserve = 20
    refill = Call("somewhere", "http://somewhere", get("/refill"), "rest", BUDGET, 1, (), DIRECT, True)
    start = clock.now()
    passed = spend([*(call(number=number) for number in range(10)), refill, refill], clock, limiter)
    at_once = [asked for at, asked in passed if at == start]
    assert sum(not asked.reserved for asked in at_once) == 8
    assert sum(asked.reserved for asked in at_once) == 2
    assert limiter.left("somewhere", BUDGET) >= 0
    assert limiter.left("elsewhere", BUDGET) == 10
