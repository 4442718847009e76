"""What a stream of weeks keeps in memory does not grow with its length."""

import random

import pytest
from attrs import evolve

import tradeflood as tf
from tradeflood.errors import TransportError
from tradeflood.models.time import HOUR, SECOND, parse_time
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.simulated import Simulated
from tradeflood.runner import group
from tradeflood.runner.flood import Flood
from tradeflood.testing import FakeTransport, answers_of
from tradeflood.testing.virtual import VirtualClock, run

START = parse_time("2026-03-04T05:06:07")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random.seed(7)


def polled_for(duration, look):
    """Nobitex's trades, polled for want of a connection, by a consumer that takes rows and no proofs; then `look`."""

    async def unreachable(url, listener, **how):
        raise TransportError(f"{url}: nobody there")

    async def main():
        clock = VirtualClock(START)
        desk = desk_of("nobitex")(Simulated(3), Clock(1, START, monotonic=clock.now))
        async with Flood(transport=FakeTransport(answers_of(desk, clock), clock), clock=clock) as flood:
            flood.network = evolve(flood.network, sockets=unreachable)
            live = flood.stream(tf.Trade, "nobitex:BTC/IRT")
            async for _ in live.batches():
                if clock.now() > START + duration:
                    break
                look(live)

    run(main())


def test_claims_that_nobody_takes_are_forgotten(monkeypatch):
    monkeypatch.setattr(group, "PROOFS", 20)
    most = []
    polled_for(2 * HOUR, lambda live: most.append(len(live._wires.proofs)))
    assert max(most) == 20


def test_of_equal_rows_those_of_the_last_epochs_are_known():
    """A venue that restarts begins another epoch of its numbers, for ever."""
    kept = []

    def look(live):
        (place,) = next(iter(live._places.values()))
        channel, rows = place.channel, [_trade()]
        for epoch in range(100):
            channel._told_apart(f"{epoch}", list(rows))
            channel._told_apart("first", list(rows))
        kept.append((len(channel._ordinals), "first" in channel._ordinals))

    polled_for(30 * SECOND, look)
    assert set(kept) == {(4, True)}


def _trade():
    return tf.Trade("nobitex", "BTC/IRT", "raw", "", 1, 1, tf.Side.BUY, START)
