"""Deep history: everything comes, once, in bounded memory; stopped in whatever way, it goes on from what is held."""

import asyncio
import gc
import json
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from attrs import evolve

from tradeflood import plugins
from tradeflood.cli import progress
from tradeflood.cli.main import main
from tradeflood.config import STORE
from tradeflood.coverage import Coverage, Dataset, Frame, Grade, State, held
from tradeflood.errors import RateLimited, Refused, StoreError, TransportError, Unavailable, UsageError
from tradeflood.models import Candle, Market, Trade
from tradeflood.models.time import DAY, HOUR, MINUTE, MS, SECOND, iso, parse_time
from tradeflood.planner import Query
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.simulated import Simulated
from tradeflood.runner import deep
from tradeflood.runner.deep import Advance
from tradeflood.runner.execute import Patience
from tradeflood.runner.flood import Flood, demand
from tradeflood.spans import Spans
from tradeflood.store import open_store
from tradeflood.store.memory import MemoryStore
from tradeflood.testing import FakeClock, FakeTransport, answers_of, params_of

NOW = parse_time("2026-03-04T05:06:07")
START = parse_time("2026-03-04T04:00:00")
BTC = "binance:BTC/USDT"
DATASET = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
OLD = "/api/v3/historicalTrades"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugins.load()


def told(rows):
    return msgspec.json.encode(rows)


class Numbered:
    """Binance with trades of our making: number n happened at `times[n]`, or `START + n * gap`."""

    def __init__(self, count, gap=0, times=None):
        self.times = times or range(START, START + count * gap, gap)
        self.count = count

    def __call__(self, call):
        params = params_of(call)
        if call.request.path == OLD:
            first = int(params["fromId"])
            return told([self._trade(n) for n in range(first, min(self.count, first + int(params["limit"])))])
        if "startTime" in params:
            at = int(params["startTime"]) * MS
            low, high = 0, self.count
            while low < high:
                middle = (low + high) // 2
                low, high = (middle + 1, high) if self.times[middle] < at else (low, middle)
            return told([self._merged(low)] if low < self.count else [])
        return told([self._merged(self.count - 1)])

    def _trade(self, n):
        return {"id": n, "price": "1.5", "qty": "2", "quoteQty": "3", "time": self.times[n] // MS, "isBuyerMaker": True,
                "isBestMatch": True}  # fmt: skip

    def _merged(self, n):
        return {"a": n, "p": "1.5", "q": "2", "f": n, "l": n, "T": self.times[n] // MS, "m": True, "M": True}


class Session:
    """A session with venues that a function answers for; `rules` may answer first."""

    def __init__(self, answer=None, store="memory://", venues=("binance",), patience=None):
        self.clock = FakeClock(NOW)
        self.rules = []
        if answer is None:
            made = [(name, desk_of(name)(Simulated(3), Clock(1, NOW, monotonic=self.clock.now))) for name in venues]
            desks = {name: answers_of(desk, self.clock) for name, desk in made}
            answer = lambda call: desks[call.venue](call)  # noqa: E731

        def first(call):
            for rule in self.rules:
                said = rule(call)
                if said is not None:
                    return said
            return answer(call)

        self.transport = FakeTransport(first, self.clock)
        self.flood = Flood(
            {"store": store}, transport=self.transport, clock=self.clock, patience=patience or Patience(attempts=1)
        )
        self.steps = []

    def __call__(self, work):
        async def main():
            async with self.flood:
                return await work(self.flood)

        return asyncio.run(main())

    def fill(self, *queries, **more):
        """A filling, and the store's view of it, in one go."""

        def observe(advance):
            self.steps.append((advance.step, advance.rows, advance.share))

        return self(lambda flood: flood.fill(*queries, observe=observe, **more))


@pytest.fixture
def keeping(monkeypatch):
    """Memory stores last for the test, however often a session is entered."""
    monkeypatch.setattr(Flood, "close_store", lambda flood: None)


def query(model=Trade, market=BTC, first=0, last=50 * MINUTE, **words):
    return Query(model, market, start=iso(START + first), end=iso(START + last), **words)


def asked_ids(transport):
    return [
        (int(call["fromId"]), int(call["fromId"]) + int(call["limit"]))
        for call in map(params_of, [call for call in transport.calls if call.request.path == OLD])
    ]


# ---------------------------------------------------------------- portions


@pytest.mark.parametrize("market", [BTC, "okx:BTC/USDT", "bitget:BTC/USDT"])
@pytest.mark.parametrize(("model", "words", "portion"), [(Trade, {}, 100), (Candle, {"interval": "1m"}, 7)])
def test_portions_bring_what_one_plan_brings_on_no_weaker_evidence(keeping, market, model, words, portion):
    venues = (market.partition(":")[0],)
    wanted = query(model, market, **words)
    whole = Session(venues=venues)(lambda flood: flood.run(flood.plan(wanted)))[0]
    session = Session(venues=venues)
    filling = session.fill(wanted, portion=portion)
    (part,) = filling.filled
    assert len([step for step, *_ in session.steps if step == "stored"]) > 4
    stored = session.flood.store.read(part.dataset, wanted.start, wanted.end)
    assert [evolve(row, received_at=0) for row in stored] == [evolve(row, received_at=0) for row in whole]
    assert part.rows == filling.rows == len(whole)
    assert filling.failures == ()
    demand(Frame(model, [], filling.coverage), [wanted])
    (parts,) = whole.coverage.parts.values()
    assert {stretch.grade for stretch in part.parts} == {stretch.grade for stretch in parts}
    assert not part.holes


def test_a_seam_in_a_quiet_stretch_is_bracketed_by_the_next_portion(keeping):
    """Candles are absent wherever nothing traded; wherever portions meet, rows on both sides say so."""
    there = [n for n in range(200) if n % 5 not in {2, 3}]

    def klines(call):
        params = params_of(call)
        first, last = (int(params[name]) * MS for name in ("startTime", "endTime"))
        opens = [START + n * MINUTE for n in there if first <= START + n * MINUTE <= last]
        return told([[at // MS, "1", "1", "1", "1", "1", at // MS + 59_999, "1", 1, "1", "1", "0"] for at in opens])

    wanted = query(Candle, last=60 * MINUTE, interval="1m")
    filling = Session(klines).fill(wanted, portion=4)
    (part,) = filling.filled
    assert {(stretch.state, stretch.grade) for stretch in part.parts[:-1]} == {
        (State.HELD, Grade.A),
        (State.HELD, Grade.B),
    }
    assert part.rows == len([n for n in there if n < 60])


def test_venues_go_side_by_side_and_datasets_share_a_plan(keeping):
    session = Session(venues=("binance", "okx"))
    queries = [query(market=name, last=5 * MINUTE) for name in (BTC, "binance:ETH/USDT", "okx:BTC/USDT")]
    filling = session.fill(*queries, portion=200)
    assert [part.dataset.label.split()[0] for part in filling.filled] == [BTC, "binance:ETH/USDT", "okx:BTC/USDT"]
    assert all(part.rows and not part.holes for part in filling.filled)
    order = [call.venue for call in session.transport.calls]
    assert order.index("okx") < len(order) - 1 - order[::-1].index("binance"), "one venue waited for the other"


def test_ranges_and_patterns_of_one_dataset_are_united(keeping):
    session = Session()
    filling = session.fill(query(last=2 * MINUTE), query(first=MINUTE, last=3 * MINUTE), query(market="binance:BTC/U*"))
    assert [(part.dataset, part.start, part.end) for part in filling.filled if part.dataset == DATASET] == [
        (DATASET, START, START + 50 * MINUTE)
    ]


def test_lists_are_stored_too(keeping):
    session = Session()
    filling = session.fill(Query(Market, "binance:*"))
    assert filling.rows == len(session.flood.store.read_list(Market, "binance")) > 1
    assert filling.coverage == Coverage({})


def test_the_newest_rows_are_asked_for_once_where_there_are_no_others(keeping):
    """Nobitex tells the newest trades and no older ones: a year is not asked for week by week."""
    session = Session(venues=("nobitex",))
    filling = session.fill(query(market="nobitex:BTC/IRT", first=-365 * DAY))
    assert len(session.transport.calls) < 10
    assert filling.filled[0].holes


# ---------------------------------------------------------------- memory


class Forgetful(MemoryStore):
    """A store that keeps claims, and of rows only their numbers."""

    def __init__(self):
        super().__init__()
        self.numbers = set()
        self.doubled = 0

    def _put(self, model, rows, now):
        for row in rows:
            self.doubled += int(row.trade_id) in self.numbers
            self.numbers.add(int(row.trade_id))


def alive():
    gc.collect()
    return sum(type(thing) is Trade for thing in gc.get_objects())


@pytest.mark.chaos
def test_a_hundred_thousand_trades_are_never_in_memory_together():
    """Portions of 2,000 rows: of 100,000 trades there are never more than a few portions' at once."""
    count, portion = 100_000, 2_000
    session = Session(Numbered(count, 36 * MS))
    store = session.flood._store = Forgetful()
    most, looks = 0, 0

    def observe(advance):
        nonlocal most, looks
        if advance.step == "storing":
            looks += 1
            most = max(most, alive())

    wanted = query(last=HOUR)
    filling = session(lambda flood: flood.fill(wanted, observe=observe, portion=portion))
    assert len(store.numbers) == filling.rows == count
    assert store.doubled == 0
    assert looks > 20
    assert portion // 4 < most <= 3 * portion, most
    assert not filling.filled[0].holes


@pytest.mark.chaos
def test_a_market_that_wakes_up_does_not_fill_the_memory():
    """A week with a trade an hour, then 30 a second: what was cut too wide is dropped and cut anew."""
    quiet = [START - 7 * DAY + n * HOUR for n in range(7 * 24)]
    times = quiet + [START + n * 30 * MS for n in range(60_000)]
    session = Session(Numbered(len(times), times=times))
    store = session.flood._store = Forgetful()
    most = 0

    def observe(advance):
        nonlocal most
        if advance.step == "asked" and advance.requests % 8 == 0:
            most = max(most, alive())

    wanted = query(first=-7 * DAY, last=30 * MINUTE)
    filling = session(lambda flood: flood.fill(wanted, observe=observe, portion=1_000))
    assert filling.rows == len(store.numbers) == len(times)
    assert most < 14_000, most


# ---------------------------------------------------------------- failures


def page_of(call, first):
    return call.request.path == OLD and int(params_of(call)["fromId"]) == first


def test_a_portion_that_fails_in_passing_is_asked_once_more_at_the_end(keeping):
    session = Session(Numbered(6_000, SECOND // 2))
    failed = []

    def once(call):
        if call.request.path == OLD and 2_000 <= int(params_of(call)["fromId"]) < 3_000 and len(failed) < 2:
            failed.append(call)
            return RateLimited("not now", until=NOW + HOUR)
        return None

    session.rules.append(once)
    filling = session.fill(query(), portion=500)
    assert failed
    assert filling.failures == ()
    assert not filling.filled[0].holes
    assert filling.rows == 6_000


def test_what_cannot_be_had_is_passed_over_and_named(keeping):
    """One page is refused for ever: it is asked for once, the rest comes, and the hole is named."""
    session = Session(Numbered(6_000, SECOND // 2))
    refused = []

    def never(call):
        if call.request.path == OLD and int(params_of(call)["fromId"]) <= 2_500 < int(params_of(call)["fromId"]) + int(
            params_of(call)["limit"]
        ):
            refused.append(call)
            return Refused("not this one")
        return None

    session.rules.append(never)
    filling = session.fill(query(), portion=500)
    (part,) = filling.filled
    assert len(refused) == 1
    assert filling.rows > 5_000
    (failure,) = filling.failures
    assert "not this one" in str(failure.error)
    lost = START + 2_500 * SECOND // 2
    assert any(start <= lost < end for start, end in part.holes)
    assert part.holes.size < 10 * MINUTE
    assert failure.start <= lost < failure.end


def test_a_venue_that_never_answers_is_given_up_at_once(keeping):
    session = Session(lambda call: TransportError("no route"), venues=())
    filling = session.fill(query(first=-365 * DAY))
    assert filling.rows == 0
    assert {str(failure.error) for failure in filling.failures} == {"no route"}
    assert len(session.transport.calls) < 20
    assert session.clock.slept == []


@pytest.mark.parametrize("error", [TransportError, Unavailable])
def test_a_venue_that_falls_silent_is_waited_for(keeping, error):
    """Nothing but errors for a minute: nothing is passed over, nothing is lost."""
    session = Session(Numbered(6_000, SECOND // 2))
    session.rules.append(
        lambda call: error("gone") if len(session.transport.calls) > 30 and session.clock.now() < NOW + MINUTE else None
    )
    filling = session.fill(query(), portion=500)
    assert [step for step, *_ in session.steps].count("waiting") >= 3
    assert filling.failures == ()
    assert filling.rows == 6_000
    assert not filling.filled[0].holes


def test_a_time_of_which_a_venue_tells_errors_only_is_passed_over(keeping):
    """Its page of errors is no reason to leave out what lies behind it."""
    session = Session(Numbered(6_000, SECOND // 2))
    bad = range((START + 10 * MINUTE) // MS, (START + 12 * MINUTE) // MS)
    session.rules.append(lambda call: Unavailable("no") if int(params_of(call).get("startTime", 0)) in bad else None)
    filling = session.fill(query(), portion=500)
    (part,) = filling.filled
    assert part.rows > 4_000
    assert part.holes
    assert part.holes.bounds[1] < START + 30 * MINUTE
    assert [str(failure.error) for failure in filling.failures] == ["no"]


def test_a_venue_that_says_not_now_is_waited_for(keeping):
    """Half an hour of no: no portion is passed over for it."""
    session = Session(Numbered(6_000, SECOND // 2))
    said = []

    def not_now(call):
        if len(session.transport.calls) > 30 and not said:
            said.append(call)
            return RateLimited("not now", until=NOW + HOUR // 2)
        return None

    session.rules.append(not_now)
    filling = session.fill(query(), portion=500)
    assert said
    assert session.clock.now() >= NOW + HOUR // 2
    assert filling.failures == ()
    assert filling.rows == 6_000


def test_a_venue_that_stays_silent_is_given_up_and_the_others_are_not(keeping):
    session = Session(venues=("binance", "okx"))
    calls = session.transport.calls
    session.rules.append(
        lambda call: (
            TransportError("gone")
            if call.venue == "binance" and sum(c.venue == "binance" for c in calls) > 20
            else None
        )
    )
    filling = session.fill(query(), query(market="okx:BTC/USDT", last=10 * MINUTE), portion=100)
    binance, okx = filling.filled
    assert set(deep.PAUSES) <= set(session.clock.slept)
    assert binance.holes
    assert binance.rows
    assert okx.rows
    assert not okx.holes
    assert {str(failure.error) for failure in filling.failures} == {"gone"}


def test_a_market_that_the_venue_does_not_know_is_not_asked_for_year_by_year(keeping):
    session = Session()
    filling = session.fill(query(market="binance:NO/WHERE", first=-365 * DAY), portion=100)
    assert all(isinstance(failure.error, UsageError) for failure in filling.failures)
    assert filling.failures
    assert len(session.transport.calls) < 10


def test_what_cannot_be_asked_is_said_before_anything_is(keeping):
    session = Session()
    with pytest.raises(UsageError, match="no venue 'nowhere'"):
        session.fill(query(market="nowhere:BTC/USDT"))
    assert session.transport.calls == []


class Failing(MemoryStore):
    """A store whose writes fail from a certain one on."""

    def __init__(self, good):
        super().__init__()
        self.good = good

    def write(self, batches, claims=()):
        if not self.good:
            raise StoreError("the disk is full")
        self.good -= 1
        super().write(batches, claims)


def test_a_store_that_fails_ends_it_and_later_it_goes_on_from_there(keeping):
    session = Session(Numbered(6_000, SECOND // 2))
    store = session.flood._store = Failing(3)
    with pytest.raises(StoreError, match="the disk is full"):
        session.fill(query(), portion=500)
    before = held(store.claims(DATASET))
    kept = store.read(DATASET, START, START + HOUR)
    assert kept
    assert all(START + n * SECOND // 2 in {row.venue_time for row in kept} for n in range(len(kept)))
    first = asked_ids(session.transport)
    store.good = 1 << 30
    session.transport.calls.clear()
    filling = session.fill(query(), portion=500)
    assert not filling.filled[0].holes
    assert min(low for low, _ in asked_ids(session.transport)) >= len(kept) - 1
    assert before
    assert first
    ids = [int(row.trade_id) for row in store.read(DATASET, START, START + HOUR)]
    assert ids == list(range(6_000))


# ---------------------------------------------------------------- stopped, and begun again


def test_cancelled_while_it_stores_it_waits_for_the_store(keeping):
    """What is being written when we are told to stop is written to its end, before the store may be closed."""
    session = Session(Numbered(6_000, SECOND // 2))
    order = []

    class Slow(MemoryStore):
        def write(self, batches, claims=()):
            order.append("begun")
            super().write(batches, claims)
            order.append("written")

    store = session.flood._store = Slow()

    async def work(flood):
        def observe(advance):
            if advance.step == "storing" and len(order) == 4:
                asyncio.get_running_loop().call_soon(filling.cancel)

        filling = asyncio.ensure_future(flood.fill(query(), observe=observe, portion=500))
        with pytest.raises(asyncio.CancelledError):
            await filling
        order.append("ended")

    session(work)
    assert order == ["begun", "written"] * 3 + ["ended"]
    kept = len(store.read(DATASET, START, START + HOUR))
    session.transport.calls.clear()
    assert session.fill(query(), portion=500).rows == 6_000 - kept
    assert min(low for low, _ in asked_ids(session.transport)) >= kept - 1


SCRIPT = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_deep import Numbered, Session, asked_ids, query, SECOND, plugins
plugins.load()
kill_at = int(sys.argv[2])
session = Session(Numbered(3_000, SECOND), store="chdb://./kept")
seen = 0
def observe(advance):
    global seen
    seen += 1
    if seen == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
def note():
    with open("asked", "w") as file:
        json.dump(asked_ids(session.transport), file)
filling = session(lambda flood: flood.fill(query(), observe=lambda a: (note(), observe(a)), portion=300))
print(filling.rows, len(filling.filled[0].holes), len(filling.failures))
"""


@pytest.mark.loopback
@pytest.mark.parametrize("kill_at", [23, 24, 25])
def test_killed_it_goes_on_from_what_is_held(tmp_path, kill_at):
    """kill -9 after an answer, before a portion is stored, after it: nothing doubled, nothing lost, nothing asked twice."""

    def run(at):
        words = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(at)]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    done = run(kill_at)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with open_store(f"chdb://{tmp_path}/kept") as store:
        kept = [int(row.trade_id) for row in store.read(DATASET, START, START + HOUR)]
        sure = held(store.claims(DATASET))
    assert sure
    assert kept == list(range(len(kept)))
    done = run(-1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1:] == ["0", "0"]
    after = json.loads((tmp_path / "asked").read_text())
    first = (sure[0][1] - START) // SECOND
    assert min(low for low, _ in after) >= first - 1, "what was held is asked for again"
    with open_store(f"chdb://{tmp_path}/kept") as store:
        ids = [int(row.trade_id) for row in store.read(DATASET, START, START + HOUR)]
        assert ids == list(range(3_000))
        assert not Spans.of((START, START + 50 * MINUTE)) - held(store.claims(DATASET))


# ---------------------------------------------------------------- how far it is


def test_the_share_rises_to_the_whole_and_begins_where_it_was(keeping):
    session = Session(Numbered(6_000, SECOND // 2))
    session.fill(query(last=25 * MINUTE), portion=500)
    session.steps.clear()
    session.fill(query(), portion=500)
    shares = [share for _, _, share in session.steps]
    assert shares[0] == pytest.approx(0.5)
    assert shares[-1] == 1
    assert shares == sorted(shares)
    rows = [rows for step, rows, _ in session.steps if step == "stored"]
    assert rows == sorted(rows)
    assert rows[-1] == 3_000
    session.steps.clear()
    assert session.fill(query()).rows == 0
    assert session.steps == []


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Depth() as depth:
        for second in range(20):
            now[0] = second
            depth(Advance(1000, 50 * second, second * 10, second, "asked", DATASET, START))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"25.0%: 50 rows, 5 requests, at {DATASET.label} {iso(START)}"
    assert len(lines) == 3
    assert progress.told(Advance(dataset=DATASET, step="waiting")).endswith(f"waiting for the venue {DATASET.label}")


# ---------------------------------------------------------------- the command


@pytest.fixture
def command(monkeypatch, capsys):
    """`collect --out store` on answers of our making: exit code, standard output, standard error."""

    def run(answer, *words):
        made = []

        def session(config):
            one = Session(answer, store=STORE)
            made.append(one)
            return one.flood

        monkeypatch.setattr("tradeflood.cli.collecting.Flood", session)
        span = ["--start", iso(START), "--end", iso(START + 10 * MINUTE)]
        with pytest.raises(SystemExit) as end:
            main(["collect", "trade", BTC, *span, "--out", "store", *words])
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return run


def test_the_command_stores_and_prints_a_summary_but_no_rows(command, tmp_path):
    code, out, err = command(Numbered(1_300, SECOND // 2), "--strict")
    assert (code, out) == (0, "")
    assert err == f"1200 new rows in {STORE}\n"
    code, out, err = command(Numbered(1_300, SECOND // 2), "--json")
    assert code == 0
    document = json.loads(out)
    assert document["rows"] == 0, "all of it was held"
    assert [part["spans"][0]["state"] for part in document["filled"]] == ["held"]


def test_the_command_names_what_it_lacks(command):
    good = Numbered(1_300, SECOND // 2)

    def holed(call):
        refused = call.request.path == OLD and int(params_of(call)["fromId"]) > 300
        return Refused("not this one") if refused else good(call)

    code, out, err = command(holed)
    assert (code, out) == (1, "")
    assert "new rows in" in err
    assert f"not held: {DATASET.label}: " in err
    assert err.count("not this one") == 1
    code, out, err = command(holed, "--strict")
    assert (code, out) == (3, "")
    assert "not complete" in err
    code, out, err = command(lambda call: TransportError("no route"))
    assert (code, out) == (1, "")
    assert "no route" in err
