"""Each fault: chosen by text, played when it should, logged."""

import json

import pytest

from tradeflood.errors import UsageError
from tradeflood.models.time import MINUTE, MS, SECOND, parse_time
from tradeflood.replay.desk import Clock, Close, Fate, Half, HttpRequest
from tradeflood.replay.desks.binance import Binance
from tradeflood.replay.faults import HUGE, SORTS, Faults, FaultyDesk, parse
from tradeflood.replay.simulated import Simulated

NOW = parse_time("2026-03-04T05:06:07.089")
KLINES = HttpRequest("GET", "/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "5"})
TRADES = HttpRequest("GET", "/api/v3/trades", {"symbol": "BTCUSDT", "limit": "5"})


def desk(*chosen, seed=0):
    return FaultyDesk(Binance, Simulated(3), Clock(1, NOW), Faults(chosen, seed))


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
    return [json.loads(frame)["t"] for frame in found if isinstance(frame, str) and frame.startswith('{"e"')]


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


def test_every_fault_says_what_it_does():
    assert all(sort.says for sort in SORTS.values())
