"""Each fault: chosen by text, played when it should, logged."""

import json
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tradeflood.errors import UsageError
from tradeflood.models.time import MINUTE, MS, SECOND, parse_time
from tradeflood.replay.desk import Clock, Close, Fate, Half, HttpRequest
from tradeflood.replay.desks.binance import Binance
from tradeflood.replay.desks.bitget import Bitget
from tradeflood.replay.desks.nobitex import Nobitex
from tradeflood.replay.desks.okx import OKX
from tradeflood.replay.faults import HUGE, SORTS, STEP_AFTER, Faults, FaultyDesk, _gutted, parse
from tradeflood.replay.recorded import Recorded
from tradeflood.replay.simulated import Simulated

NOW = parse_time("2026-03-04T05:06:07.089")
KLINES = HttpRequest("GET", "/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "5"})
TRADES = HttpRequest("GET", "/api/v3/trades", {"symbol": "BTCUSDT", "limit": "5"})


def desk(*chosen, seed=0, of=Binance):
    return FaultyDesk(of, Simulated(3), Clock(1, NOW), Faults(chosen, seed))


def names(faulty):
    return [played.name for played in faulty.faults.injected]


def test_a_fault_is_read_from_its_text():
    fault = parse("429=2@binance#3:/api/v3/klines")
    assert (fault.name, fault.argument, fault.venue, fault.first, fault.percent, fault.prefix) == (
        "429",
        2,
        "binance",
        3,
        None,
        "/api/v3/klines",
    )
    assert parse("slow=0.5%20").percent == 20
    assert parse("withhold=0.25").percent == 25
    assert parse("garbage").first == 1
    assert parse("duplicate").percent == 10
    assert (parse("empty").first, parse("empty").percent) == (None, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write it like"),
        ("explode", "there is no fault 'explode'; there are 429"),
        ("429=x", "'x' is no argument"),
        ("429=-1", "'-1' is no argument"),
        ("slow%101", "'101' is no percentage; write a number up to 100"),
        ("slow%nan", "'nan' is no percentage"),
        ("slow#1.5", "'1.5' is no count; write a whole number"),
        ("slow#", "'' is no count"),
        ("withhold=2", "a share from 0 to 1"),
        ("withhold=0.1#3", "neither % nor #"),
        ("slow:klines", "write it like"),
        ("stepback%5", "a clock has neither % nor #"),
        ("stepback#1", "a clock has neither % nor #"),
        ("stepback:/api", "nor a path"),
    ],
)
def test_a_text_that_is_no_fault_is_one_clear_line(text, says):
    with pytest.raises(UsageError) as wrong:
        parse(text)
    assert says in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_only_the_first_of_the_named_venue_and_path_are_hit():
    faulty = desk("429=2@binance#2:/api/v3/klines", "empty@okx")
    assert [faulty.answer(request, NOW).status for request in (TRADES, KLINES, KLINES, KLINES)] == [200, 429, 429, 200]
    assert names(faulty) == ["429", "429"]
    assert faulty.faults.injected[0].time == NOW
    assert faulty.faults.injected[0].detail == "GET /api/v3/klines"


def test_a_share_of_requests_is_hit_and_the_same_ones_for_the_same_seed():
    def hits(seed):
        faulty = desk("empty%30", seed=seed)
        return [faulty.answer(HttpRequest("GET", "/api/v3/time"), NOW).body == b"" for _ in range(200)]

    assert hits(1) == hits(1) != hits(2)
    assert 30 < sum(hits(1)) < 90


def test_429_has_the_venues_body_and_tells_when_only_if_asked_to():
    told, untold = desk("429=2").answer(KLINES, NOW), desk("429").answer(KLINES, NOW)
    assert told.headers["Retry-After"] == "2"
    assert "Retry-After" not in untold.headers
    assert {json.loads(answer.body)["code"] for answer in (told, untold)} == {-1003}


def test_a_ban_lasts_as_long_as_it_says():
    faulty = desk("ban=60")
    answers = [faulty.answer(KLINES, NOW + seconds * SECOND) for seconds in (0, 30, 59, 60, 61)]
    assert [answer.status for answer in answers] == [418, 418, 418, 200, 200]
    assert [answer.headers.get("Retry-After") for answer in answers[:3]] == ["60", "30", "1"]


def test_slow_waits_and_then_answers_whole():
    answer = desk("slow=0.5").answer(KLINES, NOW)
    assert answer.delay == SECOND // 2
    assert len(json.loads(answer.body)) == 5


def test_bodies_that_are_no_answer():
    whole = desk().answer(KLINES, NOW).body
    assert desk("error200").answer(KLINES, NOW).status == 200
    assert json.loads(desk("error200").answer(KLINES, NOW).body)["code"] == -1000
    assert desk("html=503").answer(KLINES, NOW).status == 503
    assert desk("html").answer(KLINES, NOW).body.startswith(b"<!DOCTYPE html>")
    assert desk("truncated").answer(KLINES, NOW).body == whole[: len(whole) // 2]
    assert desk("empty").answer(KLINES, NOW).body == b""
    assert desk("half").answer(KLINES, NOW).fate is Fate.HALF
    assert desk("nothing").answer(KLINES, NOW).fate is Fate.NOTHING
    types = json.loads(desk("types").answer(KLINES, NOW).body)
    assert types[0] == [{"unexpected": True}] * 12


def test_a_lagging_replica_does_not_show_the_last_seconds_but_knows_the_time():
    faulty, honest = desk("lagging=30:/api/v3/trades"), desk()
    assert faulty.answer(TRADES, NOW).body == honest.answer(TRADES, NOW - 30 * SECOND).body
    assert faulty.answer(KLINES, NOW).body == honest.answer(KLINES, NOW).body
    assert json.loads(desk("lagging").answer(HttpRequest("GET", "/api/v3/time"), NOW).body)["serverTime"] == NOW // MS


def frames(faulty, until=NOW + MINUTE, path="/ws/btcusdt@trade"):
    feed = faulty.connect(path, {}, NOW)
    found = []
    for now in range(NOW, until + 1, 5 * SECOND):
        while said := feed.advance(now):
            assert len(found) < 1_000
            found += said
    return found


def ids(found):
    return [json.loads(frame)["t"] for frame in found if isinstance(frame, str) and frame.startswith('{"e":"trade"')]


HONEST = ids(frames(desk()))


def test_without_a_fault_everything_comes_in_order():
    assert len(HONEST) > 80
    assert list(range(HONEST[0], HONEST[0] + len(HONEST))) == HONEST


def test_cut_breaks_the_connection_after_so_many_frames():
    faulty = desk("cut=7")
    found = frames(faulty)
    assert ids(found) == HONEST[:7]
    assert found[7:] == [Close(None)]
    assert names(faulty) == ["cut"]


def test_cut_of_the_first_connection_leaves_the_second():
    faulty = desk("cut=7#1")
    assert len(frames(faulty)) == 8
    assert ids(frames(faulty)) == HONEST


@pytest.mark.parametrize(("text", "count"), [("stall=7", 7), ("mute", 0)])
def test_stall_and_mute_keep_the_socket_and_the_acknowledgements(text, count):
    faulty = desk(text)
    feed = faulty.connect("/ws/btcusdt@trade", {}, NOW)
    found = []
    while said := feed.advance(NOW + 25 * SECOND):
        found += said
    assert ids(found) == HONEST[:count]
    assert any(type(frame).__name__ == "Ping" for frame in found)
    assert feed.receive('{"method":"SUBSCRIBE","params":["ethusdt@trade"],"id":1}', NOW) == ['{"result":null,"id":1}']
    assert feed.advance(NOW + 30 * SECOND) == []
    assert names(faulty) == [text.partition("=")[0]]


def symbols(found):
    return [json.loads(frame)["s"] for frame in found if isinstance(frame, str)]


THREE = "/ws/btcusdt@trade/ethusdt@trade/solusdt@trade"


def test_one_topic_of_several_is_mute_for_ever_and_on_every_connection():
    """The topic is chosen by the alphabet, so that it is the same one whatever the client's order; both forms know it."""
    faulty = desk("mutetopic=2")
    for path in (THREE, "/ws/solusdt@trade/ethusdt@trade/btcusdt@trade"):
        found = symbols(frames(faulty, path=path))
        assert set(found) == {"BTCUSDT", "SOLUSDT"}
        assert found.count("BTCUSDT") == len(HONEST)
    assert [played.detail for played in faulty.faults.injected] == [
        f"{THREE}: ethusdt@trade", "/ws/solusdt@trade/ethusdt@trade/btcusdt@trade: ethusdt@trade",
    ]  # fmt: skip


def test_a_topic_stays_mute_when_it_is_subscribed_anew():
    faulty = desk("mutetopic=1")
    feed = faulty.connect(THREE, {}, NOW)
    for verb in ("UNSUBSCRIBE", "SUBSCRIBE"):
        said = feed.receive(f'{{"method":"{verb}","params":["btcusdt@trade"],"id":1}}', NOW)
        assert said == ['{"result":null,"id":1}']
    found = []
    while said := feed.advance(NOW + 10 * SECOND):
        found += said
    assert set(symbols(found)) == {"ETHUSDT", "SOLUSDT"}


def test_there_is_no_such_topic():
    assert ids(frames(desk("mutetopic=2"))) == HONEST
    assert names(desk("mutetopic=0")) == []


ASKED = {
    OKX: ("/ws/v5/business", [json.dumps({"op": "subscribe", "args": [
        {"channel": "trades-all", "instId": symbol} for symbol in ("ETH-USDT", "BTC-USDT")]})]),
    Bitget: ("/v2/ws/public", [json.dumps({"op": "subscribe", "args": [
        {"instType": "SPOT", "channel": "trade", "instId": symbol} for symbol in ("ETHUSDT", "BTCUSDT")]})]),
    Nobitex: ("/connection/websocket", [
        '{"id":1,"connect":{}}',
        *(json.dumps({"id": 2 + n, "subscribe": {"channel": f"public:trades-{symbol}"}})
          for n, symbol in enumerate(("USDTIRT", "BTCIRT")))]),
}  # fmt: skip


@pytest.mark.parametrize("venue", ASKED, ids=lambda venue: venue.venue)
@pytest.mark.parametrize(
    ("fault", "heard"), [((), ["BTC", "ETH"]), (("mutetopic=1",), ["ETH"])], ids=["none", "the first"]
)
def test_one_topic_is_mute_at_every_venue(venue, fault, heard):
    path, messages = ASKED[venue]
    feed = desk(*fault, of=venue).connect(path, {}, NOW)
    for message in messages:
        feed.receive(message, NOW)
    found = ""
    for seconds in range(1, 121):
        while said := feed.advance(NOW + seconds * SECOND):
            found += "".join(frame for frame in said if isinstance(frame, str))
    names = {"BTC": "BTC", "ETH": "USDTIRT" if venue is Nobitex else "ETH"}
    assert [key for key, name in names.items() if name in found] == heard


def test_mute_from_a_moment_on():
    faulty = desk("mutelate=20")
    found = ids(frames(faulty))
    assert found == HONEST[: len(found)]
    assert len(found) == len(ids(frames(desk(), NOW + 15 * SECOND)))
    assert names(faulty) == ["mutelate"]
    assert len(ids(frames(faulty))) == len(found)  # a new connection speaks as long


def test_a_shutdown_is_announced_and_then_comes_true():
    faulty = desk("shutdown=10#1")
    found = frames(faulty)
    (at,) = [place for place, frame in enumerate(found) if isinstance(frame, str) and "serverShutdown" in frame]
    assert json.loads(found[at]) == {"e": "serverShutdown", "E": (NOW + 10 * SECOND) // MS}
    assert 0 < at < len(found) - 2  # rows come before the notice, and after it
    assert found[-1] == Close(1001, "shutdown")
    assert ids(found) == HONEST[: len(ids(found))]
    assert [played.time for played in faulty.faults.injected] == [NOW + 10 * SECOND, NOW + 20 * SECOND]
    assert ids(frames(faulty)) == HONEST


@pytest.mark.parametrize(
    ("of", "path", "says"),
    [
        (Binance, "/stream", '{"stream":"!serverShutdown","data":{"e":"serverShutdown",'),
        (OKX, "/ws/v5/public", '{"event":"notice","code":"64008",'),
        (Bitget, "/v2/ws/public", None),
    ],
)
def test_venues_announce_a_shutdown_in_their_own_words_or_not_at_all(of, path, says):
    feed = desk("shutdown=1", of=of).connect(path, {}, NOW)
    notice = feed.advance(NOW + SECOND)
    assert [frame[: len(says)] for frame in notice] == [says] if says else notice == []
    assert feed.advance(NOW + 2 * SECOND) == [Close(1001, "shutdown")]


@pytest.mark.parametrize("broken", ["cut=3#1", "halfframe#1", "shutdown=5#1"])
def test_after_a_break_nobody_is_let_in_for_a_while(broken):
    faulty = desk(broken, "away=30")
    frames(faulty, NOW + 20 * SECOND)
    at = next(played.time for played in reversed(faulty.faults.injected) if played.name in broken)
    refused = faulty.connect("/ws/btcusdt@trade", {}, at + 29 * SECOND)
    assert refused.status == 503
    assert faulty.answer(TRADES, at).status == 200  # the feed is away, the rest is there
    assert not hasattr(faulty.connect("/ws/btcusdt@trade", {}, at + 30 * SECOND), "status")
    assert names(faulty)[-1] == "away"


def test_without_a_break_nobody_is_away():
    assert ids(frames(desk("away=30"))) == HONEST


# --- a clock that steps back ---

STEP = NOW + STEP_AFTER


def rows_of(faulty, now, **params):
    answer = faulty.answer(HttpRequest("GET", "/api/v3/aggTrades", {"symbol": "BTCUSDT", **params}), now)
    return [(row["a"], row["T"]) for row in json.loads(answer.body)], answer


def test_the_clock_steps_back_once():
    faulty, asked = desk("stepback=8"), HttpRequest("GET", "/api/v3/time")
    told = [json.loads(faulty.answer(asked, STEP + at).body)["serverTime"] for at in (-MS, 0, SECOND, MINUTE)]
    assert told == [(STEP + at) // MS for at in (-MS, -8 * SECOND, -7 * SECOND, MINUTE - 8 * SECOND)]
    date = parsedate_to_datetime(faulty.answer(asked, STEP + SECOND).headers["Date"])
    assert int(date.timestamp()) == (STEP - 7 * SECOND) // SECOND
    assert "Date" not in faulty.answer(asked, STEP - MS).headers  # the shell writes the clock's own
    assert names(faulty) == ["stepback"]


def test_rows_carry_the_stepped_time_and_their_numbers_go_on():
    now = STEP + 20 * SECOND
    honest, _ = rows_of(desk(), now, limit="60")
    stepped, _ = rows_of(desk("stepback=8"), now, limit="60")
    assert [number for number, _ in stepped] == [number for number, _ in honest]
    assert [time for _, time in stepped] == [time - 8_000 * (time * MS >= STEP) for _, time in honest]
    assert [time for _, time in stepped] != sorted(time for _, time in stepped)


def test_a_span_of_time_brings_the_rows_of_both_clocks():
    now, span = STEP + 20 * SECOND, (STEP - 7 * SECOND, STEP - SECOND)
    everything, _ = rows_of(desk("stepback=8"), now, limit="60")
    asked = {"startTime": str(span[0] // MS), "endTime": str(span[1] // MS - 1)}
    found, _ = rows_of(desk("stepback=8"), now, **asked)
    assert found == [row for row in everything if span[0] <= row[1] * MS < span[1]]
    assert {number > max(n for n, t in rows_of(desk(), STEP - MS)[0]) for number, _ in found} == {True, False}


def test_the_feed_steps_back_and_leaves_nothing_out():
    plain, stepped = frames(desk()), frames(desk("stepback=8"))
    assert ids(stepped) == ids(plain)[: len(ids(stepped))]
    assert len(ids(stepped)) > len(HONEST) - 20
    times = [json.loads(frame)["T"] for frame in stepped if isinstance(frame, str)]
    honest = [json.loads(frame)["T"] for frame in plain if isinstance(frame, str)]
    assert times == [time - 8_000 * (time * MS >= STEP) for time in honest[: len(times)]]


def test_candles_of_a_stepped_clock_are_what_its_trades_give():
    now = STEP + 90 * SECOND
    faulty = desk("stepback=8")
    candle = json.loads(faulty.answer(KLINES, now).body)[-2]
    trades = HttpRequest("GET", "/api/v3/aggTrades", {"symbol": "BTCUSDT", "limit": "1000"})
    rows = [row for row in json.loads(faulty.answer(trades, now).body) if candle[0] <= row["T"] <= candle[6]]
    prices = [float(row["p"]) for row in rows]
    assert [float(value) for value in candle[1:5]] == [prices[0], max(prices), min(prices), prices[-1]]
    assert float(candle[5]) == pytest.approx(sum(float(row["q"]) for row in rows))
    assert candle[8] == sum(row["l"] - row["f"] + 1 for row in rows)


def test_only_the_named_venue_steps_and_no_recording():
    assert names(desk("stepback@okx")) == []
    assert json.loads(desk("stepback@okx").answer(HttpRequest("GET", "/api/v3/time"), STEP).body) == {
        "serverTime": STEP // MS
    }
    with pytest.raises(UsageError, match="only the simulated market"):
        FaultyDesk(Binance, Recorded(Path(), {}), Clock(1, NOW), Faults(["stepback"]))


def test_withheld_frames_leave_holes_in_the_venues_numbers():
    faulty = desk("withhold=0.2")
    found = ids(frames(faulty))
    assert len(found) + len(names(faulty)) == len(HONEST)
    assert 0 < len(names(faulty)) < len(HONEST) / 2
    assert set(found) < set(HONEST)
    assert found == sorted(found)


def test_duplicates_come_twice():
    faulty = desk("duplicate%20")
    found = ids(frames(faulty))
    assert len(found) == len(HONEST) + len(names(faulty)) > len(HONEST)
    assert sorted(set(found)) == HONEST


def test_reordered_frames_come_after_their_successor_and_none_is_lost():
    found = ids(frames(desk("reorder#3")))
    assert found != HONEST
    assert sorted(found) == HONEST


def test_late_frames_come_seconds_later_and_none_is_lost():
    found = ids(frames(desk("late=10#3"), NOW + MINUTE))
    assert found[:1] != HONEST[:1]
    assert sorted(found) == HONEST


def test_spoilt_frames():
    (first, *rest) = frames(desk("corrupt#1"))
    with pytest.raises(ValueError):
        json.loads(first)
    assert ids(rest) == HONEST[1:]
    nonsense, *rest = frames(desk("garbage"))
    assert not nonsense.startswith("{")
    assert ids(rest) == HONEST
    huge, *rest = frames(desk("huge"))
    assert len(huge) > HUGE
    assert ids(rest) == HONEST
    (half,) = frames(desk("halfframe"))
    assert isinstance(half, Half)


def test_a_corrupt_frame_is_no_json_however_alike_its_rows_are():
    """Without its middle third a snapshot of equally long rows would be a shorter snapshot, with one row of 1970 in it."""
    row = '{"ts":"1795232481028","price":"3589.87","size":"6.3198","side":"buy","tradeId":"217395720"}'
    for count in range(1, 60):
        frame = f'{{"data":[{",".join([row] * count)}]}}'
        for spoilt in (_gutted(frame), _gutted(frame.encode())):
            with pytest.raises(ValueError):
                json.loads(spoilt)


def test_every_fault_says_what_it_does():
    assert all(sort.says for sort in SORTS.values())
