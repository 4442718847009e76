"""A stream that stands alone asks the venue about its silences, and tells its consumer; in virtual time."""

import asyncio
import random
from contextlib import suppress

import pytest
from attrs import evolve

from tradeflood.models import Candle, Trade
from tradeflood.models.time import SECOND, parse_time
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.faults import Faults, FaultyDesk
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.flood import Flood
from tradeflood.testing import FakeTransport, answers_of
from tradeflood.testing.virtual import VirtualClock, run, sockets_of

START = parse_time("2026-03-04T05:06:07")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random.seed(7)


def streamed(*faults, venue="binance", markets=("BTC/USDT",), model=Trade, seconds=120, **variant):
    """What a consumer saw: rows, states by the second, steps with their seconds, and how many requests were made."""
    rows, states, steps, asked = [], [], [], []

    async def main():
        clock = VirtualClock(START)
        desk = FaultyDesk(desk_of(venue), Simulated(5), Clock(1, START, monotonic=clock.now), Faults(faults, 1))
        transport = FakeTransport(answers_of(desk, clock), clock)

        def observe(step, **facts):
            if step.startswith("stream."):
                steps.append((step, (clock.now() - START) // SECOND))
            elif step == "request.sent":
                asked.append(facts["of"].request.path)

        async with Flood({"store": "memory://"}, transport=transport, clock=clock, observe=observe) as flood:
            flood.network = evolve(flood.network, sockets=sockets_of(desk, clock), observe=observe)
            stream = flood.stream(model, *(f"{venue}:{market}" for market in markets), **variant)

            async def consume():
                async for batch in stream.batches():
                    rows.extend(batch)

            task = asyncio.ensure_future(consume())
            for _ in range(seconds):
                await clock.sleep(SECOND)
                states.append({dataset.market: str(told.state) for dataset, told in stream.states().items()})
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    run(main())
    return rows, states, steps, asked


@pytest.mark.parametrize(("venue", "market"), [("binance", "BTC/USDT"), ("okx", "BTC/USDT"), ("bitget", "BTC/USDT")])
def test_a_stream_that_stands_alone_is_not_silent_for_ever(venue, market):
    """Found after a minute, for nothing is known of the market's rate; subscribed anew, opened anew, and the consumer is told."""
    _, states, steps, _ = streamed("mute", venue=venue, markets=(market,), seconds=300)
    told = [step for step, _ in steps]
    assert dict(reversed(steps))["stream.mute"] <= 60 + 5 + 2
    assert {"stream.resubscribed", "stream.reopened", "stream.fallback"} <= set(told)
    assert [states[30][market], states[75][market], states[-1][market]] == ["starting", "mute", "polled"]


def test_one_mute_market_of_many_is_found_and_speaks_again():
    """Its others are left alone, and cost nothing: who speaks is not asked about."""
    rows, states, steps, asked = streamed("mutetopic#1", markets=("BTC/USDT", "ETH/USDT"), seconds=120)
    assert [step for step, _ in steps if step in {"stream.resubscribed", "stream.recovered"}] == [
        "stream.resubscribed", "stream.recovered"
    ]  # fmt: skip
    assert {each["ETH/USDT"] for each in states[15:]} == {"fresh"}
    assert states[-1]["BTC/USDT"] == "fresh"
    assert any(row.market == "BTC/USDT" for row in rows)
    assert len(asked) <= 1 + 2 * 4  # the list of markets; then two looks, four questions each for its raw trades


def test_a_quiet_market_is_told_quiet():
    _, states, steps, asked = streamed(markets=("DOGE/USDT",), seconds=600)
    assert "quiet" in {each["DOGE/USDT"] for each in states}
    assert "mute" not in {each["DOGE/USDT"] for each in states}
    assert not [step for step, _ in steps if step == "stream.mute"]
    assert len(asked) <= 1 + 2 * 600 // 60  # the list of markets; then once a minute, two questions each


def test_a_mute_stream_of_candles_is_found():
    _, states, _, _ = streamed("mute", model=Candle, interval="1m", seconds=200)
    assert "mute" in {each["BTC/USDT"] for each in states}
