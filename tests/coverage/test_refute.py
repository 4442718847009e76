"""Rows that come too late: which claims they refute, and when those hold again."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.coverage import Claim, Dataset, Grade, State, held
from tradeflood.coverage.refute import NEAR, disputed, refuted, touched
from tradeflood.live.offsets import Offsets
from tradeflood.live.pair import Agreement
from tradeflood.models import Side, Trade
from tradeflood.models.time import HOUR, MINUTE, SECOND
from tradeflood.runner.late import disputes_of
from tradeflood.spans import Spans
from tradeflood.store.known import KnownStore
from tradeflood.store.memory import MemoryStore

BTC = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
ONE = Decimal(1)


def trade(number, at):
    return Trade("binance", "BTC/USDT", "raw", str(number), ONE, ONE, Side.BUY, at, at)


def claim(start, end, **more):
    return Claim(BTC, start, end, State.HELD, Grade.B, "a bracketed page", as_of=end, **more)


def test_a_row_outside_what_is_held_refutes_nothing():
    assert list(refuted([claim(0, HOUR)], [trade(1, HOUR)])) == []


def test_a_late_row_refutes_its_neighbourhood_and_no_more():
    whole = claim(0, HOUR)
    (dispute,) = refuted([whole], [trade(1, HOUR // 2)])
    assert (dispute.start, dispute.end) == (HOUR // 2 - NEAR, HOUR // 2 + NEAR)
    assert held([whole, dispute]) == Spans.of((0, HOUR // 2 - NEAR), (HOUR // 2 + NEAR, HOUR))


def test_what_is_found_after_a_dispute_holds_again():
    whole = claim(0, MINUTE)
    (dispute,) = refuted([whole], [trade(1, 10)])
    assert not held([whole, dispute])
    again = claim(0, 2 * MINUTE)
    assert held([whole, dispute, again]) == Spans.of((0, 2 * MINUTE))


def test_a_claim_that_counts_ids_is_refuted_by_a_missing_id_and_not_by_a_time():
    """Id 7 follows what is held, and its time is earlier: the venue's clock stepped back."""
    counted = claim(0, 100, left="3", right="7")
    assert list(refuted([counted], [trade(7, 50)])) == []
    assert [dispute.state for dispute in refuted([counted], [trade(5, 50)])] == [State.DISPUTED]


def test_a_zombie_that_claims_the_old_thing_again_changes_nothing():
    whole = claim(0, 100)
    (dispute,) = refuted([whole], [trade(1, 50)])
    assert not held([dispute, whole, claim(0, 100, parser="zombie")])


@given(st.lists(st.integers(0, 100), max_size=8), st.sets(st.integers(0, 100), max_size=8))
def test_only_what_the_store_lacks_is_late(come, there):
    store = KnownStore(MemoryStore())
    store.write({Trade: [trade(at, at) for at in there]}, [claim(0, 101)])
    disputes = disputes_of(store, BTC, [trade(at, at) for at in come])
    assert bool(disputes) == bool(set(come) - there)


def test_a_dispute_says_until_when_it_refutes():
    one = disputed(BTC, 0, 10, "a row that no store can hold", 7)
    assert (one.as_of, one.refutes) == (7, 7)
    assert touched(Spans.of((0, 5)), [trade(1, 4), trade(2, 5)]) == [trade(1, 4)]


@pytest.mark.parametrize("observed", ["pair", "offsets"])
def test_what_rests_on_no_ids_is_refuted_by_a_late_row_whatever_its_id(observed):
    """Both observers, and the numbers of the messages, went without the third trade: its id tells nothing of them."""
    rows = [trade(n, HOUR + n * SECOND) for n in (1, 2, 4, 5)]
    if observed == "pair":
        agreement = Agreement(BTC, "p")
        for side in (0, 1):
            agreement.came(side, rows, 0, 2 * HOUR)
        claims = agreement.claims(rest=True)
    else:
        offsets = Offsets(BTC, "p")
        for number, row in enumerate(rows):
            offsets.came(number, "epoch", [row], 2 * HOUR)
        claims = offsets.claims(rest=True)
    late = trade(3, HOUR + 3 * SECOND)
    assert held(claims).touches(late.venue_time, late.venue_time + 1)
    claims += refuted(claims, [late])
    assert not held(claims).touches(late.venue_time, late.venue_time + 1)
