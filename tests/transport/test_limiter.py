"""Budgets: never exceeded, spent in the order of asking, corrected by the venue, paused without loss."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.errors import RateLimited
from tradeflood.models.time import DAY, HOUR, MINUTE, SECOND
from tradeflood.testing import FakeClock, FakeTransport
from tradeflood.transport import DIRECT, Call, Exit, Limited, Limiter, Rank, Window
from tradeflood.turns import Budget, Feed, get

BUDGET = Budget("weight", 10, per=MINUTE)
ORDERS = Budget("orders", 10, per=MINUTE)
OTHER = Exit("http://127.0.0.1:1")


def call(weight=1, *, budget=BUDGET, leave=DIRECT, number=0, venue="somewhere", rank=Rank.COMMON, path="/x"):
    return Call(venue, "http://somewhere", get(path, number=number), "rest", budget, weight, (), leave, rank)


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


SOME = (call(), call(budget=ORDERS), call(leave=OTHER), call(venue="elsewhere"))


def moments(limiter, clock):
    """When calls may be made on the budget, on another one, from another exit, and to another venue."""
    passed = {id(asked): at for at, asked in spend(SOME, clock, limiter)}
    return [passed[id(asked)] - clock.start for asked in SOME]


def test_a_pause_stops_one_budget_from_one_exit():
    clock = FakeClock()
    limiter = Limiter(clock)
    limiter.pause(call(), clock.now() + 30 * SECOND)
    assert moments(limiter, clock) == [30 * SECOND, 0, 0, 0]


def test_a_ban_stops_everything_towards_one_venue_from_one_exit():
    clock = FakeClock()
    limiter = Limiter(clock)
    limiter.pause(call(), clock.now() + 30 * SECOND, banned=True)
    assert moments(limiter, clock) == [30 * SECOND, 30 * SECOND, 0, 0]


def test_a_pause_of_what_is_not_counted_by_address_stops_it_from_every_exit():
    by_key = Budget("orders", 10, per=MINUTE, scope="key")
    clock = FakeClock()
    limiter = Limiter(clock)
    limiter.pause(call(budget=by_key), clock.now() + 30 * SECOND)
    passed = spend([call(budget=by_key, leave=OTHER), call(budget=BUDGET, leave=OTHER)], clock, limiter)
    assert sorted(at - clock.start for at, _ in passed) == [0, 30 * SECOND]


def refused(limiter, clock, asked, **options):
    """For how many seconds it is paused that is refused again and again, each time as soon as it may be asked."""
    while True:
        yield (limiter.pause(asked, None, **options) - clock.now()) / SECOND
        clock._now = limiter.pause(asked, None, **options)


@pytest.mark.parametrize(
    ("per", "waits"),
    [(SECOND // 10, [1, 2, 4, 8, 16, 32, 60, 60]), (2 * SECOND, [2, 4, 8, 16, 32, 60]), (DAY, [5, 10, 20, 40, 60, 60])],
)
def test_a_pause_that_names_no_end_is_short_at_first_and_a_minute_at_last(per, waits):
    """Doubled, with some chance, as often as it is refused in a row; a good answer makes it short again."""
    clock = FakeClock()
    limiter, asked = Limiter(clock), call(budget=Budget("x", 1, per))
    for _ in range(2):
        for wait, told in zip(waits, refused(limiter, clock, asked), strict=False):
            assert wait <= told < 1.5 * wait
        clock._now += 2 * MINUTE
        limiter.accepted(asked)


def test_a_ban_that_names_no_end_is_a_minute_at_once():
    clock = FakeClock()
    assert 60 <= next(refused(Limiter(clock), clock, call(), banned=True)) < 90


def test_what_is_refused_together_is_refused_once():
    """Eight that were under way come back with the same answer: they wait no longer than one would, and so does the next."""
    clock = FakeClock()
    limiter = Limiter(clock)
    assert len({limiter.pause(call(number=number), None) for number in range(8)}) == 1
    limiter.accepted(call())  # it was under way before the first refusal
    clock._now = limiter.pause(call(), None)
    assert 10 <= (limiter.pause(call(), None) - clock.now()) / SECOND < 15


def test_who_waits_for_whom_until_when_is_told_in_a_line():
    clock = FakeClock(jumps=False)
    limiter = Limiter(clock)
    secret = Exit("http://me:secret@proxy:8080")

    async def main():
        assert limiter.pauses() == []
        limiter.pause(call(path="/trades"), clock.now() + MINUTE)
        tasks = [
            asyncio.create_task(limiter.spend(call(path=path))) for path in ("/candles", "/candles", "/trades", "/time")
        ]
        await asyncio.sleep(0)
        (pause,) = limiter.pauses()
        assert (pause.venue, pause.budget, pause.held) == ("somewhere", "weight", ("/trades", "/candles", "/time"))
        assert str(pause) == (
            "somewhere: not to be asked before 2026-01-01T00:01:00Z (its limit of weight); waiting: /trades, /candles, /time"
        )
        assert limiter.pauses(longer=MINUTE) == []
        limiter.pause(call(leave=secret), clock.now() + MINUTE, banned=True)
        assert str(limiter.pauses()[1]) == (
            "somewhere: not to be asked through proxy:8080 before 2026-01-01T00:01:00Z (we are banned); waiting: /x"
        )
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert limiter.pauses()[0].held == ("/trades", "/candles", "/time")  # what it kept from being asked
        await clock.advance(MINUTE)
        assert limiter.pauses() == []

    asyncio.run(main())


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
        with pytest.raises(RateLimited, match="not to be asked before 2026-01-04T00:00:00Z") as caught:
            await waiting
        assert not caught.value.banned
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
    refill = call(rank=Rank.FIRST)
    start = clock.now()
    passed = spend([*(call(number=number) for number in range(10)), refill, refill], clock, limiter)
    at_once = [asked for at, asked in passed if at == start]
    assert sum(asked.rank is Rank.COMMON for asked in at_once) == 8
    assert sum(asked.rank is Rank.FIRST for asked in at_once) == 2
    assert limiter.left("somewhere", BUDGET) >= 0
    assert limiter.left("elsewhere", BUDGET) == 10


SCARCE = Budget("requests", 20, per=10 * MINUTE)


@given(st.lists(st.integers(0, 4 * MINUTE), min_size=1, max_size=12))
def test_whoever_cannot_wait_finds_room_beside_those_that_can(waits):
    """Twenty in ten minutes, and more than enough that can wait: another one waits for half a minute at most."""
    clock = FakeClock()
    limiter = Limiter(clock)
    limiter.reserve = 20
    waited, passed = [], []

    async def patient(number):
        await limiter.spend(call(budget=SCARCE, rank=Rank.PATIENT, number=number))
        passed.append(clock.now())

    async def main():
        others = [asyncio.create_task(patient(number)) for number in range(200)]
        for wait in waits:
            await clock.sleep(2 * MINUTE + wait)
            began = clock.now()
            await limiter.spend(call(budget=SCARCE, rank=Rank.FIRST))
            waited.append(clock.now() - began)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run(main())
    assert max(waited) <= 40 * SECOND
    assert len(passed) >= clock.elapsed // MINUTE  # and they have half


@pytest.mark.parametrize(("limit", "common", "patient"), [(1, 1, 1), (2, 1, 1), (8, 6, 7), (10, 8, 9), (20, 16, 18)])
def test_each_rank_leaves_something_to_those_above_it(limit, common, patient):
    window = Window(Budget("x", limit, MINUTE))
    assert [limit - window.left_over(rank, 20) for rank in Rank] == [common, patient, limit]
    assert [window.left_over(rank, 0) for rank in Rank] == [0, 0, 0]
