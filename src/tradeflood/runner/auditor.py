"""The audit that goes on by itself: every candle that both sides hold, once, a few minutes after it closed.

What equals the venue's candle is proven thereby. What contradicts is disputed, so that it is asked for again like any
other hole, and looked at once more when the answer is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from attrs import define, evolve, field, frozen

from tradeflood.coverage import Claim, Dataset, Grade, State, stretches
from tradeflood.coverage.audit import FIELDS, Audited, Cause, Finding, audit, margin, whole
from tradeflood.coverage.claims import good_enough
from tradeflood.coverage.evidence import contradicted, of_equal_candles
from tradeflood.models import Candle, Model, Trade, interval
from tradeflood.models.interval import Interval
from tradeflood.models.time import HOUR, MINUTE, SECOND
from tradeflood.runner.audit import WHY, Report
from tradeflood.spans import EMPTY, Spans
from tradeflood.store.known import KnownStore

AFTER = 2 * MINUTE
"""How long after its end a candle is looked at: both sides have settled, and what was missing at first has come."""

EVERY = 30 * SECOND
RECENT = HOUR
"""How far back a run looks at what an earlier one left; `tradeflood audit` looks at all of it."""

MOST = 2_000
"""How many candles of a market are looked at at once."""

KEPT = 1_000
"""How many findings of a market are kept in mind: the newest."""

TRIES = 2
REST = HOUR
"""A contradiction that has been asked about so often, in vain, is left alone so long."""

_OURS = {Cause.MISSING, Cause.DOUBLED}
_THEIRS = {Cause.WRONG, Cause.REVISED}


@frozen
class Due:
    """Candles of a venue that are to be compared with trades of the same market."""

    candles: Dataset
    trades: Dataset
    spans: Spans


@define
class _Open:
    """A finding that is still there: the venue's candle as it was, how often it was found, and when it is asked about again."""

    finding: Finding
    candle: Candle | None
    found: int = 1
    rests_until: int = 0


class Auditor:
    """Compares candles and trades of a store as they come. It hears of every write; what is new is looked at again.

    `settle` is how long a venue's data may still change, by venue; `began` when the run did.
    """

    def __init__(self, store: KnownStore, settle: Callable[[str], int], began: int) -> None:
        self._store, self._settle, self._began = store, settle, began
        self._pairs: dict[tuple[Dataset, Dataset], _Pair] = {}
        self._about: dict[Dataset, list[_Pair]] = {}
        self._markets: dict[tuple[str, str], dict[Dataset, None]] = {}
        self._next = 0
        store.listeners.append(self.wrote)

    def watch(self, datasets: Iterable[Dataset]) -> None:
        """From now on, compare the venue's candles with the trades among these and earlier datasets, market by market.

        Other threads may be in the midst of the pairs there are: one more makes a dictionary of its own.
        """
        for dataset in datasets:
            if dataset.model is not Trade and (dataset.model is not Candle or dataset.variant[1] != "venue"):
                continue
            others = self._markets.setdefault((dataset.venue, dataset.market), {})
            for other in others if dataset not in others else ():
                if other.model is not dataset.model:
                    candles, trades = (dataset, other) if dataset.model is Candle else (other, dataset)
                    pair = _Pair(candles, trades)
                    self._pairs = {**self._pairs, (candles, trades): pair}
                    self._about.setdefault(candles, []).append(pair)
                    self._about.setdefault(trades, []).append(pair)
            others[dataset] = None

    def wrote(self, batches: Mapping[type[Model], Sequence[Model]], claims: Sequence[Claim]) -> None:
        """Nothing; what was compared and is no longer as it was is to be compared again."""
        until = max((pair.until for pair in self._pairs.values()), default=0)
        for model in (Trade, Candle):
            time = model.time or ""
            if old := [row for row in batches.get(model, ()) if getattr(row, time) < until]:  # live ones never are
                for pair in self._pairs.values():
                    pair.came(model, old)
        for claim in claims:
            for pair in self._about.get(claim.dataset, ()):
                pair.said(claim)

    def look(self, now: int) -> list[Finding]:
        """The findings that are new, after what is due was compared."""
        return self.run(self.due(now), now)

    def due(self, now: int) -> list[Due]:
        """What is to be compared now; nothing more often than every half minute."""
        if now < self._next:
            return []
        self._next = now + EVERY
        return [
            due
            for pair in self._pairs.values()
            if (due := pair.due(self._store, self._until(pair, now), self._began)).spans
        ]

    def _until(self, pair: _Pair, now: int) -> int:
        return pair.grid.floor(now - AFTER - self._settle(pair.candles.venue))

    def run(self, due: Sequence[Due], now: int) -> list[Finding]:
        """The findings that are new; the claims that follow from what was compared are stored."""
        new: list[Finding] = []
        for each in due:
            pair = self._pairs[each.candles, each.trades]
            found, claims = pair.compare(self._store, each.spans, now)
            new += found
            if claims:
                pair.own = frozenset(claims)
                self._store.write({}, claims)
        return new

    def resting(self, dataset: Dataset, now: int) -> Spans:
        """The times of a dataset of which the venue was asked again in vain: to be left alone for now."""
        return Spans.of(*(span for pair in self._pairs.values() for span in pair.resting(dataset, now)))

    def reports(self) -> list[Report]:
        """What was found, and repaired, market by market."""
        return [pair.report() for pair in self._pairs.values()]


@define
class _Pair:
    """The candles of a venue and the trades of the same market: what was compared, and what did not agree."""

    candles: Dataset
    trades: Dataset
    seen: Spans | None = None
    until: int = 0
    compared: int = 0
    equal: Spans = EMPTY
    open: dict[int, _Open] = field(factory=dict)
    repaired: dict[int, Finding] = field(factory=dict)
    own: frozenset[Claim] = frozenset()

    @property
    def text(self) -> str:
        """The interval."""
        return self.candles.variant[0]

    @property
    def grid(self) -> Interval:
        """The grid of the candles."""
        return interval(self.text)

    # ---------------------------------------------------------------- what is heard

    def came(self, model: type[Model], rows: Sequence[Model]) -> None:
        """Some rows were written; those of what was compared before are looked at again."""
        if not self.seen:
            return
        dataset, time, until = (self.trades if model is Trade else self.candles), model.time or "", self.until
        moments = {
            at // SECOND
            for row in rows
            if (at := getattr(row, time)) < until and (row.venue, row.market) == dataset[1:3]  # type: ignore[attr-defined]
        }
        self._again((at * SECOND, (at + 1) * SECOND) for at in moments)

    def said(self, claim: Claim) -> None:
        """A claim was written; but for one's own, what it says of what was compared before is looked at again."""
        if self.seen and claim.state in {State.HELD, State.DISPUTED} and claim not in self.own:
            self._again([(claim.start, claim.end)])

    def _again(self, spans: Iterable[tuple[int, int]]) -> None:
        assert self.seen is not None
        self.seen -= Spans.of(*((self.grid.floor(start), self.grid.ceil(end)) for start, end in spans))

    # ---------------------------------------------------------------- what is due

    def due(self, store: KnownStore, until: int, began: int) -> Due:
        """The candles that are held on good evidence and were not compared yet, as they are; a weak one testifies to nothing."""
        grid = self.grid
        good = store.held(self.candles) & store.solid(self.candles)
        there = whole(self.text, good) & Spans.of((-(1 << 62), until))
        if self.seen is None:
            self.seen = there & Spans.of((-(1 << 62), grid.floor(began - RECENT)))
        self.until = until
        self.seen &= there
        todo = there - self.seen
        if todo:
            todo &= Spans.of((todo.bounds[0], grid.floor(todo.bounds[0] + MOST * grid.step)))
        return Due(self.candles, self.trades, todo)

    # ---------------------------------------------------------------- what is found

    def compare(self, store: KnownStore, spans: Spans, now: int) -> tuple[list[Finding], list[Claim]]:
        """The new findings, and what follows for coverage."""
        new: list[Finding] = []
        claims: list[Claim] = []
        assert self.seen is not None
        self.seen |= spans  # first of all: what is written meanwhile takes out of it again
        for start, end in spans:
            with store.writing:
                of_candles, of_trades = store.claims(self.candles), store.claims(self.trades)
                sure = whole(self.text, store.held(self.trades)) & Spans.of((start, end))
                read = start - margin(self.text), end + margin(self.text)
                trades = [row for row in store.read(self.trades, *read) if isinstance(row, Trade)]
                candles = [row for row in store.read(self.candles, start, end) if isinstance(row, Candle)]
            rest = Spans.of((start, end)) - sure
            kind = self.trades.variant[0]
            compared = audit(self.candles, kind, candles, trades, of_trades, sure, read)
            beside = audit(self.candles, kind, candles, trades, of_trades, rest, read)
            self.compared += compared.compared
            now_there = {finding.open_time: finding for finding in compared.findings}
            by_time = {row.open_time: row for row in candles}
            new += self._noted(sure, now_there, by_time)
            equal = Spans.of((start, end)) - _spans(compared.findings) - _spans(beside.findings)
            self.equal |= equal & sure
            claims += self._proven(equal, trades, of_candles, of_trades)
            claims += self._disputed(now_there.values(), of_candles, of_trades, now)
        return new, claims

    def _noted(self, sure: Spans, found: Mapping[int, Finding], candles: Mapping[int, Candle]) -> list[Finding]:
        """The findings that were not there before; those that are gone are repaired."""
        new = []
        for at in [at for at in self.open if sure.touches(at, at + 1) and at not in found]:
            gone = self.open.pop(at)
            if _told(gone.candle) != _told(candles.get(at)):
                why = "the venue has changed its candle since it was stored: its other version agrees"
                gone.finding = evolve(gone.finding, cause=Cause.REVISED, detail=why)
            self.repaired[at] = gone.finding
        for at, finding in found.items():
            known = self.open.get(at)
            if known is None:
                self.open[at] = _Open(finding, candles.get(at))
                self.repaired.pop(at, None)
                new.append(finding)
            else:
                known.found += 1
                known.finding = finding
        for kept in (self.open, self.repaired):
            while len(kept) > KEPT:
                del kept[min(kept)]
        return new

    def _proven(
        self, equal: Spans, trades: Sequence[Trade], of_candles: Sequence[Claim], of_trades: Sequence[Claim]
    ) -> Iterator[Claim]:
        """Trades that make the venue's candles are all there, where nothing better says so already."""
        strong = Spans.of(
            *(
                (part.start, part.end)
                for part in stretches(of_trades)
                if part.state is State.HELD and good_enough(part.grade, Grade.C)
            )
        )
        told = [part for part in stretches(of_candles) if part.state is State.HELD and good_enough(part.grade, Grade.C)]
        sound = whole(self.text, Spans.of(*((part.start, part.end) for part in told)))  # not absent at an edge
        for span in equal & sound:
            weak = Spans.of(span) - strong
            wanted = Spans.of(*((self.grid.floor(start), self.grid.ceil(end)) for start, end in weak)) & Spans.of(span)
            for part in wanted:
                clock = max(claim.as_of for claim in of_candles if claim.start < part[1] and part[0] < claim.end)
                yield from of_equal_candles(self.trades, self.text, Spans.of(part), trades, of_trades, clock)

    def _disputed(
        self, findings: Iterable[Finding], of_candles: Sequence[Claim], of_trades: Sequence[Claim], now: int
    ) -> Iterator[Claim]:
        """The claims that a contradiction refutes are disputed, so that the venue is asked again.

        A venue that says the same of its own candle again is believed to mean it: the finding stays, the candle is held.
        What nothing mends is left alone for a while, and stays disputed.
        """
        for finding in findings:
            known, why = self.open[finding.open_time], f"{WHY}{finding.cause}"
            if finding.cause in _OURS:
                if finding.cause is Cause.DOUBLED or known.found > TRIES:
                    known.rests_until = now + REST
                yield from contradicted(self.trades, finding.open_time, finding.end, why, of_trades)
            elif finding.cause in _THEIRS and known.found < TRIES:
                yield from contradicted(self.candles, finding.open_time, finding.end, why, of_candles)

    def resting(self, dataset: Dataset, now: int) -> Iterator[tuple[int, int]]:
        """The times that are left alone."""
        if dataset == self.trades:
            for known in list(self.open.values()):  # a pass asks while another thread compares
                if now < known.rests_until:
                    yield known.finding.open_time, known.finding.end

    # ---------------------------------------------------------------- what is told of it

    def report(self) -> Report:
        """Everything that does not agree, and what was repaired."""
        findings = tuple(self.open[at].finding for at in sorted(self.open))
        times = sorted([*self.open, *self.repaired])
        between = [  # one that agrees between two that do not keeps them apart
            Spans.of((self.equal & Spans.of((one + 1, other))).bounds).bounds[0]
            for one, other in pairwise(times)
            if self.equal.touches(one + 1, other)
        ]
        repaired = tuple(self.repaired[at] for at in sorted(self.repaired))
        return Report(
            self.candles,
            self.trades.variant[0],
            self.seen or EMPTY,
            Audited(findings, tuple(between)),
            repaired,
            self.compared,
        )


def _told(candle: Candle | None) -> tuple[object, ...] | None:
    return None if candle is None else tuple(getattr(candle, name) for name in FIELDS)


def _spans(findings: Iterable[Finding]) -> Spans:
    return Spans.of(*((finding.open_time, finding.end) for finding in findings))
