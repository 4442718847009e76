"""A store with its claims in mind says what the store says."""

from hypothesis import given
from hypothesis import strategies as st

from tradeflood.coverage import Claim, Dataset, Grade, State, held
from tradeflood.coverage.claims import settled, solid
from tradeflood.models import Trade
from tradeflood.store.known import MANY, KnownStore, known
from tradeflood.store.memory import MemoryStore
from tradeflood.testing.strategies import claims

DATASET = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
some_claims = st.lists(claims(st.just(DATASET), st.integers(0, 20)), max_size=6)


class Counting(MemoryStore):
    """Counts how often claims are read."""

    reads = 0

    def claims(self, dataset):
        self.reads += 1
        return super().claims(dataset)


@given(some_claims, some_claims)
def test_it_knows_what_was_there_and_what_came(before, after):
    inner = Counting()
    inner.write({}, before)
    store = KnownStore(inner)
    store.held(DATASET)
    store.write({}, after)
    assert set(store.claims(DATASET)) == {*before, *after} == set(inner.claims(DATASET))
    for told, worked_out in ((store.held, held), (store.settled, settled), (store.solid, solid)):
        assert told(DATASET) == worked_out([*before, *after])
    assert inner.reads == 2  # one of them ours


def test_many_claims_are_made_fewer_here_and_in_the_store():
    inner = MemoryStore()
    store = KnownStore(inner)
    store.write({}, [
        Claim(DATASET, at, at + 1, State.HELD, Grade.A, "ids", 1, f"{at:x}", at, "p", str(at), str(at + 1))
        for at in range(2 * MANY)
    ])  # fmt: skip
    store.compact(DATASET)
    (one,) = inner.claims(DATASET)
    assert (one.start, one.end, one.count) == (0, 2 * MANY, 2 * MANY)
    assert store.claims(DATASET) == [one]


def test_few_claims_are_left_as_they_are():
    store = KnownStore(MemoryStore())
    store.write({}, [Claim(DATASET, 0, 1, State.HELD, Grade.A, "ids", right="1"), Claim(DATASET, 1, 2, State.HELD, Grade.A, "ids", left="1")])  # fmt: skip
    store.compact(DATASET)
    assert len(store.claims(DATASET)) == 2


def test_a_store_is_wrapped_once():
    store = known(MemoryStore())
    assert known(store) is store
