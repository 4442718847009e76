"""A feed that misbehaves, on both transports: what is good comes through, what is bad is named, the stream goes on."""

import asyncio
import gc

import pytest

import tradeflood as tf
from tradeflood.errors import DeclarationError, UsageError
from tradeflood.models.time import parse_time
from tradeflood.planner import Query
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.flood import Flood
from tradeflood.testing import FakeClock
from tradeflood.testing.venues import venues_here
from tradeflood.turns import Binding, registry, turn_execution

pytestmark = pytest.mark.loopback

START = parse_time("2026-03-04T05:06:07")
BOTH = [pytest.param(False, id="websockets"), pytest.param(True, id="picows")]
VENUES = {"binance": "BTC/USDT", "okx": "BTC/USDT", "nobitex": "BTC/IRT", "bitget": "BTC/USDT"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def stream(venue, *faults, fast=None, enough=80, model=tf.Trade, speed=500, until=None, **variant):
    """The rows that came, the venue's health, and what was played.

    Waiting between connections takes no time, so that nobody is the witness of a silence: a minute of it is over at once.
    """
    if fast:
        pytest.importorskip("picows")

    async def main():
        rows = []
        async with serve(Simulated(3), [venue], speed=speed, start=START, faults=faults, seed=2) as served:
            async with Flood({"venues": served.settings()}, clock=FakeClock(START)) as flood:
                live = flood.stream_of([Query(model, f"{venue}:{VENUES[venue]}", **variant)], fast=fast)
                async for batch in live.batches():
                    rows += batch
                    if len(rows) >= enough and (until is None or until(live.health[venue])):
                        break
                await live.close()
            return rows, live.health[venue], [fault.name for fault in served.faults.injected]

    return asyncio.run(asyncio.wait_for(main(), 15))


def numbers(rows):
    return [int(row.trade_id) for row in rows]


@pytest.mark.parametrize("fast", BOTH)
@pytest.mark.parametrize("venue", VENUES)
def test_garbage_is_named_and_nothing_else_is_lost(venue, fast):
    rows, health, played = stream(venue, "garbage#3", fast=fast)
    assert played == ["garbage"] * 3
    assert (health.unreadable, health.opened, health.lost) == (3, 1, 0)
    assert all(text.startswith(f"{venue}: a frame that cannot be read") for text in health.trouble)
    if venue == "binance":
        assert numbers(rows) == list(range(numbers(rows)[0], numbers(rows)[0] + len(rows)))


@pytest.mark.parametrize(("venue", "fast"), [("binance", False), ("binance", True), ("okx", None), ("bitget", None)])
def test_a_message_of_ten_million_bytes_costs_a_connection_and_is_named(venue, fast):
    rows, health, _ = stream(venue, "huge#1", fast=fast, until=lambda health: health.opened > 1)
    assert health.lost == 1
    assert any("1009" in text or "exceeding" in text for text in health.trouble), health.trouble
    assert len(rows) >= 80


@pytest.mark.parametrize("fast", BOTH)
@pytest.mark.parametrize(
    ("fault", "venue"),
    [("halfframe#2", "binance"), ("cut=5#2", "binance"), ("halfframe#1", "nobitex"), ("cut=5#1", "okx")],
)
def test_a_connection_that_breaks_is_opened_again(fault, venue, fast):
    many = int(fault[-1])
    rows, health, played = stream(venue, fault, fast=fast, until=lambda health: health.opened > many)
    assert len(played) == many
    assert (health.opened, health.lost) == (many + 1, many)
    assert all(f"{venue}: connection lost: " in text for text in health.trouble)
    assert all("\n" not in text for text in health.trouble)
    assert len(rows) == len({row.trade_id for row in rows})


@pytest.mark.parametrize(("venue", "fast"), [(venue, number % 2 == 0) for number, venue in enumerate(VENUES)])
def test_frames_without_their_middle_are_named_one_by_one(venue, fast):
    rows, health, played = stream(venue, "corrupt%30", fast=fast, until=lambda health: health.unreadable > 3)
    assert len(played) > 3
    assert 0 < health.unreadable <= len(played)
    assert health.opened == 1
    assert len(rows) >= 80


@pytest.mark.parametrize("venue", ["binance", "nobitex"])
def test_frames_that_come_twice_are_rows_of_the_same_name(venue):
    """Binance repeats ids; Nobitex, which has none, repeats a numbered message, which is left out."""
    rows, _, played = stream(venue, "duplicate%30")
    assert played
    unique = {row.trade_id for row in rows}
    if venue == "nobitex":
        assert len(unique) == len(rows)
    else:
        assert sorted(map(int, unique)) == list(range(min(map(int, unique)), max(map(int, unique)) + 1))


def test_everything_at_once():
    """All faults of a feed together: rows still come, and every trouble is one line."""
    rows, health, played = stream(
        "binance", "garbage%10", "corrupt%10", "duplicate%10", "cut=30#3", "huge#1", "halfframe#1", "late=1%10", "reorder%10",
        enough=200,
    )  # fmt: skip
    assert {"garbage", "corrupt", "cut", "huge", "halfframe"} <= set(played)
    assert health.lost >= 3
    assert len(health.trouble) <= 20
    assert all(row.price > 0 for row in rows)


def test_a_feed_that_refuses_the_only_topic_is_a_usage_error(monkeypatch):
    monkeypatch.setitem(VENUES, "bitget", "NOPE/USDT")
    with pytest.raises(UsageError, match="bitget refused trade:NOPEUSDT: "):
        stream("bitget")


@pytest.mark.parametrize("fast", BOTH)
def test_nobody_at_the_feed_is_tried_again_and_again(fast):
    """The address answers nothing: each attempt is named, and none follows at once."""
    clock = FakeClock(START)

    async def main():
        config = {"venues": {"binance": {"rest_url": "http://127.0.0.1:1", "feed_url": "ws://127.0.0.1:1"}}}
        async with Flood(config, clock=clock) as flood:
            live = flood.stream(tf.Trade, "binance:BTC/USDT", fast=fast)
            await live.begin()
            while "binance" not in live.health or live.health["binance"].lost < 12:
                await asyncio.sleep(0.01)
            await live.close()
            return live.health["binance"]

    health = asyncio.run(asyncio.wait_for(main(), 10))
    assert health.opened == 0
    assert "ws://127.0.0.1:1/stream: " in health.trouble[0]
    assert clock.elapsed > 12 * 10**9
    assert max(clock.slept) <= 30 * 10**9


@pytest.mark.parametrize("fast", BOTH)
def test_who_leaves_the_loop_at_the_end_of_everything_leaves_no_socket_open(fast):
    """The stream is closed by the end of the event loop then, which cancels the closing itself: a warning is an error here."""
    if fast:
        pytest.importorskip("picows")

    async def main():
        async with Flood() as flood:
            async for row in flood.stream(tf.Trade, "binance:BTC/USDT", fast=fast):
                return row
        return None

    with venues_here("binance", speed=30):
        assert asyncio.run(asyncio.wait_for(main(), 15))
    gc.collect()


# ---------------------------------------------------------------- bindings that somebody else wrote


@pytest.fixture
def scope():
    from tradeflood import plugins

    plugins.load()
    with registry.scope() as inside:
        yield inside


def test_a_packing_step_that_stumbles_over_some_rows_costs_those(scope):
    class Picky(registry.binding(registry.connector("binance"), tf.Trade, ("raw",))):
        @turn_execution
        def pack_live(self, rows, market):
            for row in rows:
                if row.t % 10 == 0:
                    raise ZeroDivisionError("a bug")
                yield tf.Trade("binance", market, "raw", str(row.t), row.p, row.q, tf.Side.BUY, row.T * 10**6)

    rows, health, _ = stream("binance")
    assert not [number for number in numbers(rows) if number % 10 == 0]
    assert len({number % 10 for number in numbers(rows)}) == 9
    assert health.unreadable > 3
    assert "binance.live_trades: a bug" in health.trouble[0]
    assert health.lost == 0


def test_a_connector_that_stumbles_over_some_frames_costs_those(scope):
    class Hard(registry.connector("okx")):
        heard = 0

        def hear(self, frame):
            Hard.heard += 1
            if Hard.heard % 5 == 0:
                raise AttributeError("a bug")
            return super().hear(frame)

    rows, health, _ = stream("okx")
    assert len(rows) >= 80
    assert "okx: a frame that cannot be read: a bug" in health.trouble[0]
    assert health.lost == 0


@pytest.mark.parametrize("what", ["raises", "nothing", "unpacked", "a turn that is neither live nor polled"])
def test_a_live_binding_that_is_wrong_is_an_error_of_its_declaration(scope, what):
    class Wrong(Binding[tf.Candle], connector=registry.connector("binance"), interval="1m", origin="trades"):
        def live(self, venue, ask):
            if what == "raises":
                raise KeyError("a bug")
            if what == "nothing":
                return None
            if what == "unpacked":
                return venue.live_trades(ask.symbol)
            return self.pack(venue.newest(ask.symbol))

        @turn_execution
        def pack(self, rows):
            return []

    with pytest.raises(DeclarationError, match=r"Wrong"):
        stream("binance", model=tf.Candle, interval="1m", origin="trades")


def test_a_connector_that_cannot_say_what_it_wants_ends_the_stream_with_its_name(scope):
    class Mute(registry.connector("okx")):
        def say(self, verb, topics, number):
            raise RuntimeError("a bug")

    with pytest.raises(DeclarationError, match=r"a live stream failed: RuntimeError\('a bug'\)"):
        stream("okx")
