"""Rows on their way into a store that is slow, full or gone: in order, bounded, counted, and back again."""

import struct
import threading
from decimal import Decimal

import pytest

from tradeflood.coverage import Claim, Dataset, Grade, State, digest_of
from tradeflood.errors import StoreError, UsageError
from tradeflood.models import Candle, Side, Trade
from tradeflood.models.time import SECOND, parse_time
from tradeflood.runner import outlet as outlets
from tradeflood.runner import spill as spills
from tradeflood.runner.metrics import Counts
from tradeflood.runner.outlet import Outlet, state_of
from tradeflood.runner.spill import Batch, Spill
from tradeflood.steps import STEPS
from tradeflood.store.memory import MemoryStore

AT = parse_time("2026-03-04T05:06:07")
BTC = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
FULL = StoreError("store chdb:///x: 5 rows were not stored: 243. DB::Exception: Cannot reserve: NOT_ENOUGH_SPACE")
LARGE = 1 << 30


def trade(number):
    return Trade(
        "binance", "BTC/USDT", "raw", str(number), Decimal("61000.10") + number, Decimal("0.00000001"),
        Side.BUY if number % 2 else None, AT + number, received_at=AT + number + 5,
    )  # fmt: skip


def batch(*numbers):
    rows = [trade(number) for number in numbers]
    claim = Claim(BTC, AT + numbers[0], AT + numbers[-1], State.HELD, Grade.A, "ids", len(rows), digest_of(rows), AT, "p",
                  str(numbers[0]), str(numbers[-1] + 1))  # fmt: skip
    return Batch({Trade: rows}, [claim])


class Refusing(MemoryStore):
    """A store that raises while `error` is set, waits while `gate` is closed, and knows in what order it was written."""

    def __init__(self):
        super().__init__("memory://")
        self.error = None
        self.gate = threading.Event()
        self.gate.set()
        self.order, self.tried = [], 0

    def write(self, batches, claims=()):
        self.tried += 1
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        super().write(batches, claims)
        self.order += [int(row.trade_id) for rows in batches.values() for row in rows]

    def numbers(self):
        return [int(row.trade_id) for row in self.read(BTC, 0, 1 << 62)]


class Setting:
    """An outlet with a clock that is turned by hand."""

    def __init__(self, folder=None, limit=LARGE, store=None):
        self.now, self.said = AT, []
        self.counts = Counts()
        self.store = store or Refusing()
        self.store.observe = self.counts
        self.spill = Spill(folder, limit, self.counts) if folder else None
        self.outlet = Outlet(self.store, lambda: self.now, self.spill, lambda error: self.said.append(str(error)))

    def write(self, *numbers):
        one = batch(*numbers)
        self.outlet.write(one.rows, one.claims)

    def later(self, seconds=60):
        self.now += seconds * SECOND
        self.outlet.write({})


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(outlets, "SLOW", 0.02)


def test_a_store_that_takes_rows_is_written_at_once():
    here = Setting()
    here.write(1, 2)
    here.write(3)
    assert here.store.order == [1, 2, 3]
    assert here.outlet.takes
    assert here.outlet.trouble is None
    assert len(here.store.claims(BTC)) == 2


def test_without_a_spill_what_is_refused_waits_and_nothing_more_is_taken():
    here = Setting()
    here.store.error = FULL
    here.write(1, 2)
    assert not here.outlet.takes
    assert here.outlet.trouble == "store: disk full"
    assert here.said == ["store: disk full; rows wait in memory, and the feeds are not read once they are too many"]
    here.store.error = None
    here.later()
    assert here.outlet.takes
    assert here.outlet.trouble is None
    assert here.store.order == [1, 2]
    assert here.counts.steps["store.refused"] == here.counts.steps["store.back"] == 1


def test_a_store_that_waited_in_vain_has_refused_and_is_not_slow():
    """Its own timeout ends a write: nothing is under way any more, and it is tried again."""
    here = Setting()
    here.store.error = TimeoutError("no answer within 10 s")
    here.write(1)
    assert here.outlet.trouble == "store: refuses: no answer within 10 s"
    here.store.error = None
    here.later()
    assert here.outlet.trouble is None
    assert here.store.order == [1]


def test_a_store_that_refuses_is_left_alone_longer_and_longer():
    here = Setting()
    here.store.error = FULL
    here.write(1)
    for _ in range(100):
        here.later(1)
    assert 5 <= here.store.tried <= 9  # after 1, 2, 4, 8, 16, 30, 30 s
    assert len(here.said) == 1


def test_with_a_spill_rows_go_on_to_the_disk_and_back_in_order(tmp_path):
    here = Setting(tmp_path / "spill")
    here.store.error = StoreError("it is gone")
    for number in range(1, 9):
        here.write(number)
        assert here.outlet.takes
    assert here.outlet.trouble == "store: refuses: it is gone"
    assert here.outlet.spilled == 8
    assert here.store.claims(BTC) == []
    here.store.error = None
    here.now += 60 * SECOND
    here.write(9)
    assert here.store.order == list(range(1, 10))
    assert here.outlet.spilled == 0
    assert list((tmp_path / "spill").iterdir()) == []
    assert here.store.read(BTC, 0, 1 << 62) == [trade(number) for number in range(1, 10)]
    assert here.store.claims(BTC) == [claim for number in range(1, 10) for claim in batch(number).claims]


def test_what_was_spilled_is_stored_first_after_a_restart(tmp_path):
    first = Setting(tmp_path)
    first.store.error = FULL
    first.write(1, 2)
    first.write(3)
    first.outlet.close()
    assert first.outlet.lost == 0
    assert any("3 rows wait in" in text for text in first.said)
    second = Setting(tmp_path)
    second.write(4)
    assert second.store.order == [1, 2, 3, 4]
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_killed_while_it_drains_writes_twice_and_has_it_once(tmp_path):
    first = Setting(tmp_path)
    first.store.error = FULL
    for number in (1, 2, 3):
        first.write(number)
    first.store.error = None
    assert first.spill.first() == batch(1)
    first.spill.drop()  # and now it is killed
    second = Setting(tmp_path, store=first.store)
    second.write(4)
    assert second.store.order == [1, 2, 3, 4]
    assert second.store.numbers() == [1, 2, 3, 4]


def test_a_spill_that_is_full_is_a_bound_and_says_so(tmp_path):
    here = Setting(tmp_path, limit=1500)
    here.store.error = FULL
    taken = 0
    while here.outlet.takes:
        taken += 1
        here.write(taken)
    assert 1 < taken < 6
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1500
    assert any("full" in text and "1500" in text for text in here.said)
    assert here.counts.steps["spill.full"] >= 1
    here.store.error = None
    here.later()
    assert here.store.order == list(range(1, taken + 1))


def test_what_cannot_be_kept_is_counted():
    here = Setting()
    here.store.error = FULL
    here.write(1, 2, 3)
    here.outlet.close()
    assert here.outlet.lost == 3
    assert here.said[-1].startswith("store: disk full: 3 rows could not be kept")
    assert here.store.claims(BTC) == []


def test_the_last_chance_may_succeed():
    here = Setting()
    here.store.error = FULL
    here.write(1, 2, 3)
    here.store.error = None
    here.outlet.close()
    assert (here.outlet.lost, here.store.order) == (0, [1, 2, 3])


def test_a_slow_store_spills_what_comes_next_and_keeps_the_order(tmp_path):
    here = Setting(tmp_path)
    here.store.gate.clear()
    for number in (1, 2, 3):
        here.write(number)
    assert here.outlet.takes
    assert here.outlet.trouble == "store: slow"
    assert here.outlet.spilled == 3  # also what is under way: nobody knows whether it will be stored
    here.store.gate.set()
    for _ in range(5):
        here.later()
    assert here.store.order == [1, 2, 3]
    assert here.outlet.trouble is None


def test_a_slow_store_without_a_spill_holds_its_writer_up():
    here = Setting()
    here.store.gate.clear()
    writing = threading.Thread(target=here.write, args=(1,))
    writing.start()
    writing.join(0.1)
    assert writing.is_alive()
    here.store.gate.set()
    writing.join(5)
    assert here.store.order == [1]


def test_a_store_that_is_slow_and_then_fails_loses_nothing(tmp_path):
    here = Setting(tmp_path)
    here.store.gate.clear()
    here.write(1)
    here.store.error = FULL
    here.store.gate.set()
    here.write(2)
    here.store.error = None
    here.later()
    assert here.store.order == [1, 2]


# ---------------------------------------------------------------- the files


def spilled(folder, *batches):
    spill = Spill(folder, LARGE)
    spill.open()
    for one in batches:
        spill.append(one)
    return spill


def drained(folder):
    spill = Spill(folder, LARGE)
    spill.open()
    out = []
    while (one := spill.first()) is not None:
        out.append(one)
        spill.drop()
    return out, spill


def test_rows_and_claims_come_back_as_they_went(tmp_path):
    candle = Candle(
        "okx", "BTC/USDT", "1m", "venue", AT, *[Decimal("1.50")] * 4, Decimal(0), closed=True, received_at=AT
    )
    unnumbered = Claim(Dataset(Candle, "okx", "BTC/USDT", ("1m", "venue")), 1, 2, State.LOST, None, "nothing")
    sent = [batch(1, 2), Batch({Candle: [candle]}, [unnumbered]), Batch({}, batch(3).claims)]
    spilled(tmp_path, *sent)
    assert drained(tmp_path)[0] == sent
    assert list(tmp_path.iterdir()) == []


def test_a_torn_end_is_left_out_and_named(tmp_path):
    spilled(tmp_path, batch(1), batch(2))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    out, spill = drained(tmp_path)
    assert out == [batch(1)]
    assert "torn" in spill.troubles[0]


@pytest.mark.parametrize("keep", [0, 5, 12])
def test_a_file_with_nothing_whole_in_it_is_removed(tmp_path, keep):
    spilled(tmp_path, batch(1))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:keep])
    assert drained(tmp_path)[0] == []
    assert list(tmp_path.iterdir()) == []


def test_after_damage_rows_are_believed_and_claims_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(spills, "SEGMENT", 1)
    spilled(tmp_path, batch(1), batch(2), batch(3))
    middle = sorted(tmp_path.iterdir())[1]
    body = bytearray(middle.read_bytes())
    body[struct.calcsize(">III") + 30] ^= 1
    middle.write_bytes(bytes(body))
    out, spill = drained(tmp_path)
    assert out == [batch(1), Batch(batch(3).rows)]
    assert "damaged: 1 rows" in spill.troubles[0]


def test_an_append_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    spill = Spill(tmp_path, LARGE)
    spill.open()
    spill.append(batch(1))
    size = spill.size
    with monkeypatch.context() as patch:
        patch.setattr(spills.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StoreError, match="No space left on device"):
            spill.append(batch(2))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == size
    spill.append(batch(3))
    assert drained(tmp_path)[0] == [batch(1), batch(3)]


def test_a_folder_that_cannot_be_is_a_mistake_of_the_configuration(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="spill .*file"):
        Spill(tmp_path / "file", LARGE).open()


def test_a_model_that_is_not_there_keeps_its_rows_waiting(tmp_path):
    spilled(tmp_path, batch(1))
    (path,) = tmp_path.iterdir()
    body = path.read_bytes()[12:].replace(b'"trade"', b'"treed"')
    path.write_bytes(struct.pack(">III", len(body), spills.crc32(body), 1) + body)
    here = Setting(tmp_path)
    here.write(2)
    assert here.store.order == []
    assert here.outlet.spilled == 2
    assert "treed" in here.outlet.trouble


# ---------------------------------------------------------------- states and numbers


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("x: 243. DB::Exception: NOT_ENOUGH_SPACE", "store: disk full"),
        ("x: cannot write: No space left on device", "store: disk full"),
        ("x: write failed, errno: 27, strerror: File too large", "store: disk full"),
        ("x: readonly", "store: refuses: x: readonly"),
    ],
)
def test_a_state_has_a_name(text, state):
    assert state_of(StoreError(text)) == state


def test_counts_measure_what_lies_between_two_steps():
    times = iter(range(0, 1000 * SECOND, SECOND))
    heard = []
    counts = Counts(lambda step, /, **facts: heard.append(step), lambda: next(times))
    first, second = object(), object()
    counts("request.sent", of=first)
    counts("request.sent", of=second)
    counts("request.answered", of=first)
    counts("request.failed", of=second)
    counts("stream.mute")
    told = counts.told()
    assert told["steps"] == {"request.answered": 1, "request.failed": 1, "request.sent": 2, "stream.mute": 1}
    assert told["took_ms"]["request.answered"] == {"count": 1, "mean": 2000.0, "longest": 2000.0}
    assert set(heard) <= STEPS.keys()
