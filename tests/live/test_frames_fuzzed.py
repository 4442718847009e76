"""Whatever a feed sends, a conversation and its channels end with rows that are sound, or with one named error per row."""

import asyncio
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood import plugins
from tradeflood.coverage import State
from tradeflood.errors import PayloadChanged, TradeFloodError
from tradeflood.live import Conversation
from tradeflood.models import Candle, Trade
from tradeflood.models.checks import checked
from tradeflood.models.time import SECOND, parse_time
from tradeflood.planner import Query
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.flood import Flood
from tradeflood.runner.keeper import Keeper
from tradeflood.runner.line import Channel
from tradeflood.runner.stream import subscription
from tradeflood.store import open_store
from tradeflood.testing import FakeClock

NOW = parse_time("2026-03-04T05:06:07")
VENUES = {"binance": "BTC/USDT", "okx": "BTC/USDT", "nobitex": "BTC/IRT", "bitget": "BTC/USDT"}
HOSTILE = [
    None, True, 0, -1, 10**12, 10**30, 1.5, "", "abc", "NaN", "sNaN", "Infinity", "1e400", "1E+30", "1e-30", "-0", "-5", "٣", [], {},
    [None], {"e": 1}, "9" * 5000, "9" * 25, "buy",
]  # fmt: skip

plugins.load()
FLOOD = Flood({})


def subscriptions(venue):
    """Every live subscription of a venue's market."""
    connector = FLOOD.venues.connector(venue)
    for model in (Trade, Candle):
        for binding in FLOOD.venues.registry.candidates(type(connector), model):
            if binding.has_live() and not binding.follows():
                variant = tuple(binding.offered(part.name)[0] for part in model.variants())
                words = dict(zip((part.name for part in model.variants()), variant, strict=True))
                (ask,) = asyncio.run(FLOOD.asks([Query(model, f"{venue}:{VENUES[venue]}", **words)]))
                yield subscription(ask, connector, binding())


CASES = {
    f"{sub.connector.venue}-{sub.ask.model.name()}-{'-'.join(sub.ask.variant)}": sub
    for venue in VENUES
    for sub in subscriptions(venue)
}


def frames(sub):
    """What the simulated venue sends on a topic within some minutes."""
    clock = FakeClock(NOW)
    desk = desk_of(sub.connector.venue)(Simulated(3), Clock(1, NOW, monotonic=clock.now))
    feed = sub.connector.feed
    path, _, query = (sub.path + sub.connector.open([sub.topic])).partition("?")
    talk = desk.connect(path, dict(part.split("=") for part in query.split("&") if part), NOW)
    ours = Conversation(sub.connector, feed, [sub.topic], NOW)
    said = [frame for out in ours.send(NOW) for frame in talk.receive(out, NOW)]
    now = NOW
    while len(said) < 60 and now < NOW + 300 * SECOND:
        now += SECOND
        said += talk.advance(now)
    return [frame.encode() if isinstance(frame, str) else frame for frame in said if isinstance(frame, str | bytes)]


FRAMES = {name: frames(sub) for name, sub in CASES.items()}


def heard(sub, said):
    """The rows of some frames and what was complained of, by the way that frames go."""
    told = Conversation(sub.connector, sub.connector.feed, [sub.topic], NOW)
    channel, errors, rows = Channel(sub, NOW), [], []
    for frame in said:
        try:
            for event in told.receive(frame, NOW):
                if event.topic == sub.topic:
                    channel.add(event)
        except PayloadChanged as error:
            errors.append(error)
        rows += channel.models(NOW, errors.append)
    for error in errors:
        assert isinstance(error, TradeFloodError)
        assert "\n" not in str(error)
    for row in rows:
        assert checked(row).received_at == NOW
    return rows, errors


@pytest.mark.parametrize("name", CASES)
def test_honest_frames_are_rows(name):
    rows, errors = heard(CASES[name], FRAMES[name])
    assert rows
    assert errors == []


@pytest.mark.parametrize("name", CASES)
def test_frames_with_something_wrong(name):
    """Two hundred frames with a value, a key or a byte changed: never anything but a payload error; the good rows come."""
    rng, sub = random.Random(name), CASES[name]
    for _ in range(200):
        spoilt = mutated(rng.choice(FRAMES[name]), rng)
        rows, _ = heard(sub, [*FRAMES[name][:6], spoilt, *FRAMES[name][-6:]])
        assert rows


@given(st.sampled_from(sorted(CASES)), st.binary(max_size=80) | st.text(max_size=60).map(str.encode))
def test_random_bytes(name, frame):
    heard(CASES[name], [frame])


@pytest.mark.parametrize("name", CASES)
def test_whatever_comes_can_be_kept(name):
    """Rows that no store can hold are left out by name; all the others are stored."""
    rng, sub, refused = random.Random(name), CASES[name], []
    store = open_store("memory://")
    keeper = Keeper(FLOOD.venues, store, refused.append)
    spoilt = [mutated(rng.choice(FRAMES[name]), rng) for _ in range(100)]
    rows, _ = heard(sub, [*FRAMES[name], *spoilt])
    keeper.write(rows)
    keeper.close()
    assert all(isinstance(error, PayloadChanged) for error in refused)
    assert sum(summary.rows for summary in store.summary()) > 0
    assert all(claim.start < claim.end for dataset in store.datasets() for claim in store.claims(dataset))


@pytest.mark.parametrize("url", ["memory://", "chdb://{}/data"], ids=["memory", "chdb"])
def test_a_row_with_too_many_digits_is_named_and_the_rest_is_kept(url, tmp_path):
    from decimal import Decimal

    if url.startswith("chdb"):
        pytest.importorskip("chdb", reason="the extra `embedded` is not installed")
        pytest.importorskip("pyarrow", reason="the extra `embedded` is not installed")
    store, refused = open_store(url.format(tmp_path)), []
    rows, _ = heard(CASES["binance-trade-raw"], FRAMES["binance-trade-raw"])
    rows[3].price = Decimal("1E-19")
    rows[4].trade_id = "no number"
    Keeper(FLOOD.venues, store, refused.append).close(rows)
    assert [str(error) for error in refused] == ["trade: price is 1E-19: more than 18 digits after the point"]
    (summary,) = store.summary()
    assert summary.rows == len(rows) - 1
    (dispute,) = (claim for claim in store.claims(summary.dataset) if claim.state is State.DISPUTED)
    assert dispute.start == rows[3].venue_time
    store.close()


def places(value, path=()):
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        yield from places(part, (*path, name))


def mutated(frame, rng):
    kind = rng.randrange(8)
    if kind == 0:
        return frame[: rng.randrange(len(frame) + 1)]
    if kind == 1:
        at = rng.randrange(len(frame))
        return frame[:at] + bytes([rng.randrange(256)]) + frame[at + rng.randrange(2) :]
    try:
        value = json.loads(frame, parse_float=str)
    except ValueError:  # several messages in one frame
        return frame + b"\n" + frame[: rng.randrange(len(frame))]
    path = rng.choice(list(places(value)))
    if not path:
        return json.dumps(rng.choice(HOSTILE)).encode()
    holder = value
    for step in path[:-1]:
        holder = holder[step]
    if kind == 2:
        del holder[path[-1]]
    elif kind == 3 and isinstance(holder[path[-1]], str | int):
        holder[path[-1]] = f"-{holder[path[-1]]}"
    else:
        holder[path[-1]] = rng.choice(HOSTILE)
    return json.dumps(value).encode()
