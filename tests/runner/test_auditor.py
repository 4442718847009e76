"""The audit that goes on by itself: what is looked at and when, what it proves, what it disputes, and how that ends."""

import asyncio
from decimal import Decimal

import pytest
from attrs import evolve

from tradeflood import plugins
from tradeflood.coverage import Claim, Dataset, Grade, State, held, stretches
from tradeflood.coverage.audit import Cause, merged
from tradeflood.coverage.candles import candles_of
from tradeflood.models import Candle, Side, Trade
from tradeflood.models.time import HOUR, MINUTE, SECOND, iso, parse_time
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.faults import Faults, FaultyDesk
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.audit import audit_store
from tradeflood.runner.auditor import AFTER, EVERY, REST, Auditor, _Pair
from tradeflood.runner.execute import Patience
from tradeflood.runner.flood import Flood
from tradeflood.spans import Spans
from tradeflood.store.known import known
from tradeflood.store.memory import MemoryStore
from tradeflood.testing import FakeClock, FakeTransport, answers_of

START = parse_time("2026-03-04T05:00:00")
MINUTES = 6
END = START + MINUTES * MINUTE
CANDLES = Dataset(Candle, "binance", "BTC/USDT", ("1m", "venue"))
TRADES = Dataset(Trade, "binance", "BTC/USDT", ("raw",))


def trade(number, at, size=1):
    return Trade("binance", "BTC/USDT", "raw", str(number), Decimal(5), Decimal(size), Side.BUY, START + at)


ROWS = [trade(100 + n, n * 20 * SECOND, n + 1) for n in range(3 * MINUTES)]


def venue_candles():
    return [evolve(row, origin="venue", closed=True, received_at=END) for row in candles_of(ROWS, "1m")]


class World:
    """A store with six minutes of candles and trades, and an auditor that has the time it is told."""

    def __init__(self, rows=ROWS, claims=None, candles=None):
        self.store = known(MemoryStore())
        self.auditor = Auditor(self.store, lambda venue: SECOND, START)
        self.auditor.watch([CANDLES, TRADES])
        self.now = END + AFTER + SECOND
        right = venue_candles()
        of_candles = Claim(CANDLES, START, END, State.HELD, Grade.A, "closed candles on their grid", as_of=END + SECOND)
        of_trades = [self.claim()] if claims is None else claims
        self.store.write({Trade: rows, Candle: right if candles is None else candles}, [of_candles, *of_trades])

    def claim(self, as_of=0, **more):
        ends = {"left": "100", "right": str(100 + len(ROWS))}
        at = END + SECOND + as_of
        return Claim(TRADES, START, END, State.HELD, Grade.A, "consecutive ids", as_of=at, **(ends | more))

    def look(self, later=EVERY):
        self.now += later
        due = self.auditor.due(self.now)
        return [(finding.cause, (finding.open_time - START) // MINUTE) for finding in self.auditor.run(due, self.now)]

    def told(self, dataset=TRADES):
        return [
            ((part.start - START) // MINUTE, (part.end - START) // MINUTE, str(part.state), part.grade)
            for part in stretches(self.store.claims(dataset))
        ]

    @property
    def report(self):
        (report,) = self.auditor.reports()
        return report


# ---------------------------------------------------------------- when


def test_a_candle_is_looked_at_once_a_while_after_its_end():
    world = World()
    at = [
        sum(end - start for due in world.auditor.due(END + after) for start, end in due.spans) // MINUTE
        for after in (-HOUR, AFTER - 2 * MINUTE, AFTER, AFTER + SECOND)
    ]
    assert at == [
        0,
        3,
        5,
        0,
    ]  # the last one ended a while ago, and has not settled; the question after that comes too soon
    world = World()
    assert world.look() == []
    assert (world.report.compared, world.report.findings) == (MINUTES, ())
    assert world.auditor.due(world.now + EVERY) == []
    assert world.told() == [(0, 6, "held", "A")]  # equal to the candles proves nothing that was not known


def test_a_market_that_is_found_while_rows_are_written_is_watched_too(monkeypatch):
    """A venue whose list comes late is added by the loop, while a thread writes what others bring."""
    world = World()
    world.look(0)
    came = _Pair.came

    def meanwhile(pair, *told):
        market = f"FOUND-{len(world.auditor.reports())}/USDT"
        world.auditor.watch([CANDLES._replace(market=market), TRADES._replace(market=market)])
        came(pair, *told)

    monkeypatch.setattr(_Pair, "came", meanwhile)
    world.store.write({Trade: [trade(99, 0)]})
    assert len(world.auditor.reports()) == 2


def test_what_an_earlier_run_left_is_not_looked_at_again():
    """But for the last hour of it; `tradeflood audit` looks at all."""
    world = World()
    auditor = Auditor(world.store, lambda venue: 0, END + 2 * HOUR)
    auditor.watch([CANDLES, TRADES])
    assert auditor.due(END + 3 * HOUR) == []
    auditor = Auditor(world.store, lambda venue: 0, END + HOUR - 2 * MINUTE)
    auditor.watch([CANDLES, TRADES])
    (due,) = auditor.due(END + 3 * HOUR)
    assert due.spans == Spans.of((END - 2 * MINUTE, END))


def test_a_late_trade_makes_its_candle_be_looked_at_again():
    world = World()
    world.look()
    world.store.write({Trade: [trade(999, 65 * SECOND)]})
    (due,) = world.auditor.due(world.now + EVERY)
    assert due.spans == Spans.of((START + MINUTE, START + 2 * MINUTE))


# ---------------------------------------------------------------- what it proves


@pytest.mark.parametrize("grade", [None, Grade.D])
def test_trades_that_make_the_venues_candles_are_held_on_grade_c(grade):
    """A venue without ids, a page of the last few: what no answer could prove, its own candles do."""
    weak = World.claim(None, left=None, right=None)
    claims = [] if grade is None else [evolve(weak, grade=grade, evidence="answered, not bracketed")]
    world = World(claims=claims)
    assert world.look() == []
    assert world.told() == [(0, 6, "held", "C")]
    (made,) = [claim for claim in world.store.claims(TRADES) if claim.grade is Grade.C]
    assert (made.evidence, made.count) == ("equals the venue's candle", len(ROWS))


def test_what_is_not_equal_and_not_claimed_is_no_finding_and_not_proven():
    """Two minutes of which trades are missing, and nobody said otherwise: they are unknown, as they were."""
    rows = [row for row in ROWS if row.trade_id not in {"104", "110"}]
    world = World(rows, [])
    assert world.look() == []
    assert world.told() == [(0, 1, "held", "C"), (2, 3, "held", "C"), (4, 6, "held", "C")]
    world.store.write({Trade: [ROWS[4]]})  # it came by another way
    assert world.look() == []
    assert held(world.store.claims(TRADES)) == Spans.of((START, START + 3 * MINUTE), (START + 4 * MINUTE, END))


def test_a_quiet_candle_proves_that_nothing_traded():
    """A candle without volume; one that is only absent at the edge of an answer proves nothing."""
    rows = [row for row in ROWS if row.venue_time < START + 2 * MINUTE]
    right = [evolve(row, origin="venue", closed=True) for row in candles_of(rows, "1m")]
    quiet = Candle("binance", "BTC/USDT", "1m", "venue", START + 2 * MINUTE, *[Decimal(5)] * 4, Decimal(), Decimal(), 0)
    world = World(rows, [], [*right, quiet])
    for grade, expected in ((Grade.D, [(0, 3)]), (Grade.B, [(0, 6)])):
        store = known(MemoryStore())
        auditor = Auditor(store, lambda venue: 0, START)
        auditor.watch([CANDLES, TRADES])
        sure = Claim(CANDLES, START, START + 3 * MINUTE, State.HELD, Grade.A, "closed candles", as_of=END)
        rest = Claim(CANDLES, START + 3 * MINUTE, END, State.HELD, grade, "absent", as_of=END)
        store.write({Trade: rows, Candle: [*right, quiet]}, [sure, rest])
        auditor.run(auditor.due(world.now), world.now)
        told = held(store.claims(TRADES))
        assert [((start - START) // MINUTE, (end - START) // MINUTE) for start, end in told] == expected


# ---------------------------------------------------------------- what it disputes


def test_a_missing_trade_is_disputed_until_it_is_there():
    """Asked for again in vain it stays disputed, and is left alone for a while; when it comes, all agrees."""
    world = World([row for row in ROWS if row.trade_id != "104"])
    assert world.look() == [(Cause.MISSING, 1)]
    assert world.told() == [(0, 1, "held", "A"), (1, 2, "disputed", None), (2, 6, "held", "A")]
    for tries in (1, 2):
        assert not world.auditor.resting(TRADES, world.now)
        world.store.write({}, [world.claim(tries * MINUTE)])  # the venue was asked again, and said the same
        assert world.told() == [(0, 6, "held", "A")]
        assert world.look() == []
        assert world.told()[1] == (1, 2, "disputed", None)
    assert world.auditor.resting(TRADES, world.now) == Spans.of((START + MINUTE, START + 2 * MINUTE))
    assert not world.auditor.resting(TRADES, world.now + REST)
    world.store.write({Trade: [ROWS[4]]}, [world.claim(HOUR)])
    assert world.look() == []
    assert world.told() == [(0, 6, "held", "A")]
    assert (world.report.findings, [finding.cause for finding in world.report.repaired]) == ((), [Cause.MISSING])


def test_a_doubled_trade_is_disputed_and_left_alone():
    """A store deletes nothing: no answer of the venue can mend it."""
    world = World([*ROWS, evolve(ROWS[4], trade_id="9999999")])
    assert world.look() == [(Cause.DOUBLED, 1)]
    assert world.told()[1] == (1, 2, "disputed", None)
    assert world.auditor.resting(TRADES, world.now) == Spans.of((START + MINUTE, START + 2 * MINUTE))


def test_what_rests_can_be_asked_while_more_is_found():
    """A pass is planned in one thread, and candles are compared in another one."""
    world = World([*ROWS, *(evolve(row, trade_id=f"99999{row.trade_id}") for row in (ROWS[4], ROWS[10]))])
    world.look()
    (pair,) = world.auditor._pairs.values()
    resting = pair.resting(TRADES, world.now)
    found = [next(resting)]
    pair.open[START - MINUTE] = pair.open[found[0][0]]
    assert len([*found, *resting]) == 2


def candles_with(number, **change):
    rows = venue_candles()
    rows[number] = evolve(rows[number], **change)
    return rows


def test_a_candle_that_is_wrong_is_asked_for_again_and_believed_to_be_meant_the_second_time():
    world = World(candles=candles_with(2, volume=Decimal("3.5")))
    assert world.look() == [(Cause.WRONG, 2)]
    assert world.told(CANDLES)[1] == (2, 3, "disputed", None)
    again = Claim(CANDLES, START, END, State.HELD, Grade.A, "closed candles on their grid", as_of=END + MINUTE)
    world.store.write({Candle: candles_with(2, volume=Decimal("3.5"), received_at=world.now)}, [again])
    assert world.look() == []
    assert world.told(CANDLES) == [(0, 6, "held", "A")]
    assert [finding.cause for finding in world.report.findings] == [Cause.WRONG]


def test_a_candle_that_the_venue_has_revised_is_named_as_such():
    world = World(candles=candles_with(2, volume=Decimal("3.5")))
    world.look()
    again = Claim(CANDLES, START, END, State.HELD, Grade.A, "closed candles on their grid", as_of=END + MINUTE)
    world.store.write({Candle: candles_with(2, received_at=world.now)}, [again])
    assert world.look() == []
    assert (world.report.findings, [finding.cause for finding in world.report.repaired]) == ((), [Cause.REVISED])


def test_what_is_systematic_is_found_and_disputes_nothing():
    """A unit factor is nobody's missing trade."""
    wrong = [evolve(row, origin="venue", closed=True, volume=row.volume * 10) for row in candles_of(ROWS, "1m")]
    world = World(candles=wrong)
    assert {cause for cause, _ in world.look()} == {Cause.UNIT}
    assert world.told() == [(0, 6, "held", "A")]
    (trouble,) = merged(world.report.audited)
    assert (trouble.start, trouble.end, trouble.candles) == (START, END, MINUTES)


def test_what_was_disputed_is_still_shown_by_an_audit_on_demand():
    """A dispute takes a minute out of what is held, and hides nothing."""
    world = World([*ROWS, evolve(ROWS[4], trade_id="9999999")])
    before = [report.findings for report in audit_store(world.store)]
    world.look()
    after = [report.findings for report in audit_store(world.store)]
    assert [finding.cause for findings in after for finding in findings] == [Cause.DOUBLED]
    assert [f.open_time for findings in before for f in findings] == [
        f.open_time for findings in after for f in findings
    ]


# ---------------------------------------------------------------- with a venue that answers


def test_a_hole_in_what_was_held_is_found_and_refilled_like_any_other(monkeypatch, tmp_path):
    """A row is lost from the store: the audit disputes its minute, so the next question asks for it, and all agrees."""
    monkeypatch.chdir(tmp_path)
    plugins.load()
    start, now = parse_time("2026-03-04T04:30:00"), parse_time("2026-03-04T05:06:07")
    clock = FakeClock(now)
    desk = FaultyDesk(desk_of("binance"), Simulated(3), Clock(1, now, monotonic=clock.now), Faults((), 1))
    span = {"start": iso(start), "end": iso(start + 5 * MINUTE)}

    async def run():
        transport = FakeTransport(answers_of(desk, clock), clock)
        async with Flood(
            {"store": "memory://"}, transport=transport, clock=clock, patience=Patience(attempts=1)
        ) as flood:
            await flood.collect(Candle, "binance:BTC/USDT", interval="1m", **span)
            await flood.collect(Trade, "binance:BTC/USDT", **span)
            auditor = Auditor(flood.store, lambda venue: 0, now)
            auditor.watch([CANDLES, TRADES])
            rows = flood.store.inner._rows[TRADES]
            gone = rows.pop(list(rows)[40])[1]
            for later in (0, EVERY):
                auditor.run(auditor.due(now + later), now + later)
                (report,) = auditor.reports()
                told = [finding.cause for finding in report.findings], [finding.cause for finding in report.repaired]
                if later == 0:
                    assert told == ([Cause.MISSING], [])
                    asked = len(transport.calls)
                    await clock.sleep(5 * SECOND)
                    await flood.collect(Trade, "binance:BTC/USDT", **span)
                    assert len(transport.calls) > asked
            assert told == ([], [Cause.MISSING])
            assert gone.trade_id in {row.trade_id for row in flood.store.read(TRADES, start, now)}
            assert held(flood.store.claims(TRADES)).covers(Spans.of((start, start + 5 * MINUTE)))

    asyncio.run(run())
