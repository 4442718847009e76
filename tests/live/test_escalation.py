"""The ladder, what consumers are told of it, and what a ticker testifies."""

from decimal import Decimal

import pytest

from tradeflood.live import Escalation, Freshness, Rung, Standing, condition, is_dead, witnesses
from tradeflood.live.escalation import RETRY
from tradeflood.models import Ticker
from tradeflood.models.time import DAY, HOUR, SECOND


def test_every_verdict_is_one_rung_up_and_polling_is_the_last():
    ladder = Escalation(2)
    rungs = [ladder.contradicted(at * SECOND) for at in range(5)]
    assert rungs == [Rung.RESUBSCRIBE, Rung.REOPEN, Rung.ELSEWHERE, Rung.ELSEWHERE, Rung.POLL]
    assert (ladder.mute_since, ladder.polled_since) == (0, 4 * SECOND)
    assert ladder.contradicted(5 * SECOND) is None
    assert ladder.contradicted(4 * SECOND + RETRY) is Rung.ELSEWHERE
    assert ladder.contradicted(5 * SECOND + RETRY) is None
    assert ladder.spoke()
    assert not ladder.spoke()
    assert ladder.contradicted(HOUR) is Rung.RESUBSCRIBE


def test_a_connection_that_may_not_subscribe_for_an_hour_is_opened_anew_at_once():
    ladder = Escalation()
    assert ladder.contradicted(0, may_subscribe=False) is Rung.REOPEN
    assert ladder.contradicted(1) is Rung.POLL


def test_what_consumers_are_told_from_the_beginning_to_the_end():
    fresh, ladder = Freshness(0, SECOND), Escalation()

    def told(now, **more):
        said = condition(fresh, ladder, now, **more)
        return said.state, said.since

    assert told(SECOND) == (Standing.STARTING, 0)
    assert told(21 * SECOND) == (Standing.SUSPICIOUS, 20 * SECOND)
    fresh.quiet(21 * SECOND)
    assert told(22 * SECOND) == (Standing.QUIET, 0)
    fresh.heard(30 * SECOND, 1)
    assert told(31 * SECOND) == (Standing.FRESH, 30 * SECOND)
    fresh.heard(31 * SECOND, 1)
    assert told(32 * SECOND) == (Standing.FRESH, 30 * SECOND)
    assert told(32 * SECOND, lost=31 * SECOND) == (Standing.SUSPICIOUS, 31 * SECOND)
    assert told(32 * SECOND, lost=31 * SECOND, stood_in=32 * SECOND) == (Standing.POLLED, 32 * SECOND)
    assert told(60 * SECOND)[0] is Standing.SUSPICIOUS
    ladder.contradicted(61 * SECOND)
    fresh.mute(61 * SECOND)
    assert not fresh.fresh(61 * SECOND)
    assert told(62 * SECOND) == (Standing.MUTE, 61 * SECOND)
    ladder.contradicted(90 * SECOND)
    ladder.contradicted(120 * SECOND)
    assert told(121 * SECOND) == (Standing.POLLED, 120 * SECOND)
    fresh.heard(130 * SECOND, 1)
    ladder.spoke()
    assert told(131 * SECOND)[0] is Standing.FRESH


def test_a_silence_of_our_own_making_says_nothing():
    fresh = Freshness(0, SECOND)
    fresh.paused(HOUR)
    assert not fresh.suspicious(HOUR + SECOND)
    assert not fresh.fresh(HOUR + SECOND)


# ---------------------------------------------------------------- witnesses


def ticker(at=0, **fields):
    return Ticker("binance", "BTC/USDT", at, **fields)


D = Decimal


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ({"last_trade_id": "7"}, {"last_trade_id": "8"}, True),
        ({"last_trade_id": "7"}, {"last_trade_id": "7"}, False),
        ({"last_trade_id": "7", "volume": D(1)}, {"last_trade_id": "7", "volume": D(2)}, False),
        ({"volume": D(1)}, {"volume": D("1.0")}, False),
        ({"volume": D(1)}, {"volume": D("1.1")}, True),
        ({"volume": D(1)}, {"volume": D("0.9")}, None),
        ({"volume": D(1), "quote_volume": D(100)}, {"volume": D("0.9"), "quote_volume": D(101)}, True),
        ({"volume": D(1), "trades": 5}, {"volume": D(1), "trades": 6}, True),
        ({"volume": D(1), "trades": 5}, {"volume": D(1), "trades": 5}, False),
        ({"last": D(1), "bid": D(1)}, {"last": D(2), "bid": D(2)}, None),
        ({}, {}, None),
        ({"volume": D(1)}, {}, None),
    ],
)
def test_a_witness_is_an_id_a_count_or_a_volume(before, after, says):
    """The clock of the ticker moves in every case, and proves nothing."""
    assert witnesses(ticker(0, **before), ticker(HOUR, **after)) is says


@pytest.mark.parametrize(
    ("status", "last", "day", "dead"),
    [
        ("trading", 0, None, True),
        (None, 9 * DAY, None, False),
        ("halted", 10 * DAY, ticker(volume=D(1)), True),
        ("trading", 0, ticker(volume=D(1)), False),
        ("trading", 0, ticker(volume=D(0), quote_volume=D(0)), True),
        ("trading", None, ticker(volume=D(0)), False),
        ("trading", None, None, False),
    ],
)
def test_a_market_is_dead_by_its_status_or_by_a_week_without_a_trade(status, last, day, dead):
    assert is_dead(status, last, day, 10 * DAY) is dead
