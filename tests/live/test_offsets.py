"""What numbered messages prove: nothing is held of which a message did not come, and all is that the numbers show."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.coverage import Dataset, Grade, State, held
from tradeflood.coverage.claims import digest_of, stretches
from tradeflood.live import Offsets
from tradeflood.live.offsets import GROWS_FOR, Numbers
from tradeflood.models import Side, Trade
from tradeflood.models.time import SECOND
from tradeflood.spans import Spans

IRT = Dataset(Trade, "nobitex", "BTC/IRT", ("raw",))
ONE = Decimal(1)


def trade(at, name=None):
    return Trade("nobitex", "BTC/IRT", "raw", str(name or at), ONE, ONE, Side.BUY, at, at)


def told(messages, epoch="e"):
    """The tracker after messages of (offset, times), as they come; those that repeat are left out."""
    offsets = Offsets(IRT, "p")
    for offset, *times in messages:
        if not offsets.repeats(offset, epoch):
            offsets.came(offset, epoch, [trade(at) for at in times], 0)
    return offsets


def spans(claims, state=State.HELD):
    return Spans.of(*((claim.start, claim.end) for claim in claims if claim.state is state))


def test_consecutive_offsets_hold_from_after_the_first_row_to_the_last():
    (claim,) = told([(7, 100), (8, 200), (9, 300, 310)]).claims(rest=True)
    assert (claim.start, claim.end, claim.state, claim.grade) == (101, 310, State.HELD, Grade.D)
    assert (claim.evidence, claim.count, claim.parser) == ("consecutive offsets", 4, "p")
    assert claim.digest == digest_of([trade(at) for at in (100, 200, 300, 310)])


def test_a_missing_offset_is_a_hole_that_is_pending():
    claims = told([(7, 100), (8, 200), (11, 500), (12, 600)]).claims(rest=True)
    assert spans(claims) == Spans.of((101, 200), (501, 600))
    (hole,) = [claim for claim in claims if claim.state is State.PENDING]
    assert (hole.start, hole.end, hole.grade, hole.evidence) == (200, 501, None, "2 offsets missing from 9 on")


def test_a_message_that_could_not_be_read_is_a_hole():
    """Its number came, so that it is no repetition when it comes again; its rows did not."""
    offsets = told([(7, 100), (8, 200)])
    assert not offsets.repeats(9, "e")
    assert not offsets.repeats(10, "e")
    offsets.came(10, "e", [trade(400)], 0)
    assert offsets.repeats(9, "e")
    assert spans(offsets.claims(rest=True)) == Spans.of((101, 200))


def test_a_message_that_comes_late_joins_what_lies_on_its_sides():
    offsets = told([(7, 100), (8, 200), (10, 400), (11, 500)])
    first = offsets.claims()
    assert not offsets.repeats(9, "e")
    offsets.came(9, "e", [trade(300)], 0)
    assert held(first + offsets.claims(rest=True)) == Spans.of((101, 500))


def test_another_epoch_counts_anew():
    """A low number is then no repetition; what lies between the epochs is pending."""
    offsets = told([(7, 100), (8, 200)])
    assert not offsets.repeats(1, "f")
    offsets.came(1, "f", [trade(300)], 0)
    assert not offsets.repeats(2, "f")
    offsets.came(2, "f", [trade(400)], 0)
    claims = offsets.claims(rest=True)
    assert spans(claims) == Spans.of((101, 200), (301, 400))
    assert spans(claims, State.PENDING) == Spans.of((200, 301))
    assert offsets.repeats(8, "e")  # an old connection that still stands in the first epoch
    assert offsets.position == (2, "f")


def test_claims_grow_for_a_while_and_join():
    offsets, ready = Offsets(IRT, "p"), []
    for second in range(60):
        assert not offsets.repeats(second, "e")
        offsets.came(second, "e", [trade((second + 1) * SECOND)], 0)
        ready += offsets.claims()
    assert 3 <= len(ready) <= 4
    assert all(claim.end - claim.start > GROWS_FOR - SECOND for claim in ready)
    ready += offsets.claims(rest=True)
    (part,) = stretches(ready)
    assert (part.start, part.end, part.grade) == (SECOND + 1, 60 * SECOND, Grade.D)
    assert sum(claim.count for claim in ready) == 60


def test_messages_without_rows_keep_the_chain():
    assert spans(told([(7, 100), (8,), (9, 300)]).claims(rest=True)) == Spans.of((101, 300))


def test_nothing_is_known_to_go_on_from_without_an_epoch():
    offsets = Offsets(IRT, "p")
    assert not offsets.begun
    assert not offsets.repeats(5, None)
    offsets.came(5, None, [trade(1)], 0)
    assert offsets.begun
    assert offsets.position is None


@given(st.lists(st.integers(0, 30), max_size=60))
def test_a_number_is_new_once(numbers):
    known, seen = Numbers(), set()
    for number in numbers:
        assert known.add(number) == (number not in seen)
        seen.add(number)


steps = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from(["comes"] * 6 + ["never", "spoilt"])), min_size=1, max_size=30
)


@given(steps, st.randoms(), st.lists(st.booleans(), min_size=60, max_size=60))
def test_no_claim_covers_a_moment_of_a_row_that_did_not_come(history, random, looks):
    """Messages of rising times are lost, spoilt, doubled, or come in another order."""
    moment, messages = 100, []
    for offset, (gap, fate) in enumerate(history):
        moment += gap
        messages.append((offset, moment, fate))
    come = [message for message in messages if message[2] != "never"]
    for place in range(len(come) - 1):
        if random.random() < 0.2:
            come[place], come[place + 1] = come[place + 1], come[place]
    come += random.sample(come, min(3, len(come)))
    offsets, claims, there = Offsets(IRT, "p"), [], set()
    for (offset, at, fate), look in zip(come, looks, strict=False):
        if not offsets.repeats(offset, "e") and fate == "comes":
            offsets.came(offset, "e", [trade(at)], 0)
            there.add(offset)
        claims += offsets.claims() if look else []
        sure = held(claims)
        assert not [n for n, at, _ in messages if n not in there and sure.touches(at, at + 1)]
    claims += offsets.claims(rest=True)
    sure = held(claims)
    assert not [n for n, at, _ in messages if n not in there and sure.touches(at, at + 1)]
    assert {claim.grade for claim in claims} <= {Grade.D, None}


@pytest.mark.parametrize("count", [200])
def test_memory_is_bounded_where_every_other_message_is_lost(count):
    claims = []
    offsets = Offsets(IRT, "p")
    for number in range(count):
        offsets.repeats(2 * number, "e")
        offsets.came(2 * number, "e", [trade(100 * number + 1)], 0)
        claims += offsets.claims()
    assert len(offsets._runs) <= 64
    assert len(offsets._seen["e"]._runs) <= 64
    assert len([claim for claim in claims if claim.state is State.PENDING]) == count - 1
