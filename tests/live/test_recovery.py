"""A connection that is lost for a moment goes on where it was, where the venue keeps its last messages."""

import random

import pytest
from attrs import evolve

import tradeflood as tf
from tradeflood.coverage import Grade, held
from tradeflood.models.time import SECOND, parse_time
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.faults import Faults, FaultyDesk
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.flood import Flood
from tradeflood.testing import FakeTransport, answers_of
from tradeflood.testing.virtual import VirtualClock, run, sockets_of

START = parse_time("2026-03-04T05:06:07")


def streamed(*faults, seconds=300):
    """The rows, proofs and health of a stream of Nobitex."""

    async def main():
        random.seed(7)
        clock = VirtualClock(START)
        desk = FaultyDesk(desk_of("nobitex"), Simulated(3), Clock(1, START, monotonic=clock.now), Faults(faults, 1))
        async with Flood({}, transport=FakeTransport(answers_of(desk, clock), clock), clock=clock) as flood:
            flood.network = evolve(flood.network, sockets=sockets_of(desk, clock))
            live = flood.stream(tf.Trade, "nobitex:USDT/IRT")
            rows, proofs = [], []
            await live.begin()
            for _ in range(seconds):
                await clock.sleep(SECOND)
                rows += live.take()
                proofs += live.proofs()
            await live.close()
            return rows + live.take(), proofs + live.proofs(), live.health["nobitex"]

    return run(main())


def missing(rows):
    """The trades between the first and the last row that did not come."""
    times = [row.venue_time for row in rows]
    truth = (
        Simulated(3)
        .at("nobitex")
        .trades("USDT/IRT", "raw", now=max(times), start=min(times), end=max(times), limit=1 << 40)
    )
    have = {(row.venue_time, row.price, row.size) for row in rows}
    return [row for row in truth if (row.venue_time, row.price, row.size) not in have]


def test_an_honest_feed_is_held_by_its_offsets():
    rows, proofs, _ = streamed()
    assert missing(rows) == []
    (span,) = held(proofs)
    assert span == (rows[0].venue_time + 1, rows[-1].venue_time)
    assert {(claim.grade, claim.evidence) for claim in proofs} == {(Grade.D, "consecutive offsets")}


def test_a_short_loss_is_recovered():
    """Cut five times: what was published meanwhile comes with the new subscription, and the proof does not break."""
    rows, proofs, health = streamed("cut=10#5")
    assert health.lost == 5
    assert missing(rows) == []
    assert len(held(proofs)) == 1


@pytest.mark.parametrize("fault", ["withhold=0.1", "corrupt%10", "reorder%20", "duplicate%20"])
def test_what_was_not_delivered_is_not_held(fault):
    rows, proofs, _ = streamed(fault)
    sure = held(proofs)
    assert sure.size > 20 * SECOND
    lost = missing(rows)
    assert not [row for row in lost if sure.touches(row.venue_time, row.venue_time + 1)]
    assert bool(lost) == (fault[0] in "wc")
    assert len({row.trade_id for row in rows}) == len(rows)
