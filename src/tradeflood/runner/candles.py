"""Candles from trades, kept right in a store while the trades come: live, late, or filled in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import evolve

from tradeflood.coverage import Claim, Dataset, Grade, State, Stretch, held, stretches
from tradeflood.coverage.audit import whole
from tradeflood.coverage.candles import Fold, place_of
from tradeflood.coverage.claims import disputes, good_enough
from tradeflood.coverage.evidence import graded, of_made_candles
from tradeflood.models import Candle, Model, Trade, interval
from tradeflood.models.time import HOUR
from tradeflood.spans import EMPTY, Span, Spans
from tradeflood.store.known import KnownStore
from tradeflood.turns import Ask

ROWS = 50_000
"""How many trades are read at once."""

FOREVER = 400 * 365 * 24 * HOUR

AT_ONCE = 20
"""How many such portions are read before others have their turn."""

FOLDS = 1_000
"""How many candles of a dataset are in the making at most; what more there are is read from the store again."""


def basis_of(dataset: Dataset) -> Dataset | None:
    """The trades that a dataset is made of; None where it is not candles from trades."""
    if dataset.model is not Candle or dataset.variant[1] != "trades":
        return None
    return Dataset(Trade, dataset.venue, dataset.market, ("raw",))


def basis_ask(ask: Ask) -> Ask | None:
    """What has to be collected for an ask of candles from trades; None for any other."""
    return None if basis_of(ask.dataset) is None else ask.other(Trade)


class Maker:
    """Keeps the candles of a store in step with its trades: a candle is there, and held, when all its trades are.

    It hears of every write. Trades that come in order are folded as they come; what came otherwise, or was there
    before, is read from the store. A late trade makes its candle anew, a disputed one disputes its candle.
    """

    def __init__(self, store: KnownStore, datasets: Iterable[Dataset] = ()) -> None:
        self._store = store
        self._made: dict[Dataset, list[_Made]] = {}
        self._begun = True
        store.listeners.append(self.wrote)
        self.make(*datasets)

    def make(self, *datasets: Dataset) -> None:
        """From now on, keep these candles as well; nothing for those that it keeps already."""
        with self._store.writing:
            for dataset in datasets:
                basis = basis_of(dataset)
                known = self._made.setdefault(basis, []) if basis is not None else []
                if basis is not None and dataset not in [made.dataset for made in known]:
                    known.append(_Made(dataset, basis))
                    self._begun = False

    def wrote(self, batches: Mapping[type[Model], Sequence[Model]], claims: Sequence[Claim]) -> None:
        """Nothing; it knows what was written."""
        if not self._made:
            return
        parts: dict[tuple[str, str, str], list[Trade]] = {}
        for row in batches.get(Trade, ()):
            assert isinstance(row, Trade)
            parts.setdefault((row.venue, row.market, row.kind), []).append(row)
        for (venue, market, kind), rows in parts.items():
            for made in self._made.get(Dataset(Trade, venue, market, (kind,)), ()):
                made.add(rows)
        for claim in claims:
            for made in self._made.get(claim.dataset, ()):
                made.said(claim)

    def bring_up_to_date(self) -> int:
        """How many candles were written: all that follow from what the store holds now, or as many as go at once."""
        count = 0
        if not self._begun:
            self._begin()
        with self._store.writing:  # while nobody adds to them
            changed = [made for some in self._made.values() for made in some if made.changed]
        for made in changed:
            with self._store.writing:
                todo = made.todo(self._store)
            read = made.read(self._store, todo)
            with self._store.writing:
                candles, claims = made.due(self._store, todo, *read)
                if candles or claims:
                    self._store.write({Candle: candles}, claims)
            count += len(candles)
        return count

    def _begin(self) -> None:
        """Note what is there of those that are new: from then on every trade is heard."""
        with self._store.writing:
            last = {summary.dataset: summary.last for summary in self._store.summary()}
            for made in [made for some in self._made.values() for made in some]:
                made.begin(last.get(made.basis))
            self._begun = True

    @property
    def is_behind(self) -> bool:
        """Whether there is more to make than was made at once."""
        return any(made.changed for some in self._made.values() for made in some)


class _Made:
    """One dataset of candles, and what is in the making of it."""

    def __init__(self, dataset: Dataset, basis: Dataset) -> None:
        self.dataset, self.basis, self.text = dataset, basis, dataset.variant[0]
        self.grid = interval(self.text)
        self.changed = True
        self._claimed: Spans | None = None  # of the store's claims, what is still true of its trades
        self._as_of = 0
        self._folds: dict[int, Fold] = {}
        self._again: set[int] = set()  # candles of which trades came otherwise than in order
        self._since: int | None = None  # from here on every trade was heard
        self._last = (0, 0)  # time and number of the newest trade
        self._moment: set[str] = set()  # the trades of that time
        self._doubted = EMPTY  # the same for many candles at once
        self._refuted = EMPTY  # candles whose trades' claims were refuted, whatever was claimed of them since
        self._reading = EMPTY
        self._graded: list[tuple[Grade, Spans]] = []  # what is claimed, by grade
        self._taken = EMPTY  # of what was heard, the part that is made and forgotten
        self._lost = EMPTY  # what is refuted, while it is read again
        self._wide = HOUR

    # ---------------------------------------------------------------- what is heard

    def begin(self, last: int | None) -> None:
        """From now on every trade is heard; the newest that is there already is of this time."""
        if self._since is None:
            self._since = 0 if last is None else self.grid.next(last)
            self._last = (last or 0, 0)

    def add(self, rows: Sequence[Trade]) -> None:
        """Take some trades in."""
        self.changed = True
        opened = end = 0
        for row in sorted(rows, key=place_of):
            place = place_of(row)
            time, number = place[0], place[1]
            if not opened <= time < end:
                opened = self.grid.floor(time)
                end = self.grid.next(opened)
            if self._since is None:
                self._again.add(opened)
                continue
            last = self._last
            if time < last[0] or (number and number <= last[1]) or (time == last[0] and row.trade_id in self._moment):
                self._again |= {self.grid.floor(opened - 1), opened, end}  # its time may have been revised
                continue
            if time != last[0]:
                self._moment = set()
            self._moment.add(row.trade_id)
            self._last = (time, number)
            fold = self._folds.get(opened)
            if opened < self._since or self._claimed is None or self._reading.touches(opened, end):
                self._again.add(opened)
            elif fold is not None:
                fold.add(row, place)
            elif self._claimed.touches(opened, end):
                self._again.add(opened)
            else:
                self._folds[opened] = Fold.of(row, self.text, place)
        while len(self._folds) > FOLDS:
            first = next(iter(self._folds))
            del self._folds[first]
            self._again.add(first)
        if len(self._again) > FOLDS:  # too many to remember one by one: all from the first to the last are made anew
            self._doubted |= Spans.of((min(self._again), self.grid.next(max(self._again))))
            self._again = set()

    def said(self, claim: Claim) -> None:
        """Take a claim about the trades in."""
        self.changed = True
        if claim.state is State.DISPUTED:
            self._refuted |= self._wide_as_candles(claim)

    # ---------------------------------------------------------------- what follows from it

    def todo(self, store: KnownStore) -> Spans:
        """What is to be read from the store: candles that are to be made and of which not all trades were heard."""
        self.changed = False
        if self._claimed is None:
            self._claimed = self._left(store.claims(self.dataset), store.claims(self.basis))
        there = whole(self.text, store.held(self.basis))
        again = self._doubted | self._refuted | self._spans_of(self._again)
        wanted = (there - self._heard()) & (again | (there - self._claimed))
        self._again = {at for at in self._again if not wanted.touches(at, at + 1)}
        self._doubted -= wanted
        self._reading = wanted
        self._lost, self._refuted = self._refuted, EMPTY
        return wanted

    def read(self, store: KnownStore, wanted: Spans) -> tuple[Spans, list[Candle]]:
        """The part of the candles that is read at once, and they themselves. Others may write meanwhile."""
        candles: list[Candle] = []
        done, portions = EMPTY, AT_ONCE
        for start, end in wanted:
            at = start
            while at < end and portions > 0:
                until = min(end, max(self.grid.next(at), self.grid.floor(at + self._wide)))
                made, portions = self._read(store, (at, until), portions)
                candles += made
                done |= Spans.of((at, until))
                at = until
        return done, candles

    def due(
        self, store: KnownStore, wanted: Spans, done: Spans, candles: list[Candle]
    ) -> tuple[list[Candle], list[Claim]]:
        """The candles that are new or not as they were, and the claims of what is held now and of what no longer is."""
        assert self._claimed is not None
        self._reading = EMPTY
        of_trades = store.claims(self.basis)
        there = whole(self.text, store.held(self.basis))
        self._as_of = max([self._as_of, *(claim.as_of for claim in of_trades if claim.state is State.HELD)])
        claims = self._disputed((self._claimed - there) | (self._claimed & (self._lost | self._refuted)))
        again = self._doubted | self._refuted | self._spans_of(self._again)  # also what came while others were read
        done = (done & there) - again
        heard = (there - self._claimed) & (self._heard() - wanted)
        candles = _within(candles, done)
        candles += [self._folds.pop(at).candle for at in sorted(self._folds) if heard.touches(at, at + 1)]
        for at in [at for at in self._folds if done.touches(at, at + 1)]:
            del self._folds[at]
        self._doubted |= wanted - done - heard
        done |= heard
        self._taken |= done
        self.changed |= bool((there - self._claimed - done) | (self._doubted & there) | (again & there))
        candles, fresh = self._amended(store, candles, done & self._claimed, done - self._claimed)
        parts = stretches(of_trades)
        self._claimed |= done
        better = self._better(parts) - fresh
        rows = candles + [row for span in better for row in store.read(self.dataset, *span) if isinstance(row, Candle)]
        claims += of_made_candles(self.dataset, self.text, fresh | better, parts, rows, self._as_of)
        return candles, claims

    def _better(self, parts: Sequence[Stretch]) -> Spans:
        """The candles that are claimed on weaker evidence than their trades have by now."""
        assert self._claimed is not None
        before, self._graded = self._graded, graded(self.text, self._claimed, parts)
        better = EMPTY
        for grade, spans in self._graded:
            said = [span for least, some in before if good_enough(least, grade) for span in some]
            better |= spans - Spans.of(*said)
        return better

    def _heard(self) -> Spans:
        """Where every trade was heard, in order, and is not forgotten."""
        if self._since is None:
            return EMPTY
        ever = Spans.of((self._since, max(self.grid.next(self._last[0]), self._since) + FOREVER))
        return ever - self._taken - self._doubted - self._spans_of(self._again)

    def _spans_of(self, opens: Iterable[int]) -> Spans:
        return Spans.of(*((at, self.grid.next(at)) for at in opens))

    def _left(self, claims: Sequence[Claim], of_trades: Sequence[Claim]) -> Spans:
        """What an earlier run claimed; what was refuted since, of the trades below it, is in doubt."""
        doubts = [
            evolve(claim, start=start, end=end)
            for claim in disputes(of_trades)
            for start, end in self._wide_as_candles(claim)
        ]
        self._as_of = max((max(claim.as_of, (claim.refutes or 0) + 1) for claim in claims), default=0)
        self._graded = graded(self.text, held(claims), stretches(claims))
        self._refuted |= held(claims) - held([*claims, *doubts])
        return held(claims)

    def _wide_as_candles(self, claim: Claim) -> Spans:
        return Spans.of((self.grid.floor(claim.start), self.grid.ceil(claim.end)))

    def _disputed(self, lost: Spans) -> list[Claim]:
        """The disputes of candles whose trades are no longer held."""
        claims = [
            Claim(
                self.dataset, start, end, State.DISPUTED, None, "the trades it was made of are in doubt",
                as_of=self._as_of, refutes=self._as_of,
            )
            for start, end in lost
        ]  # fmt: skip
        if claims:
            assert self._claimed is not None
            self._claimed -= lost
            self._as_of += 1
        return claims

    def _read(self, store: KnownStore, span: Span, portions: int) -> tuple[list[Candle], int]:
        """The candles of a span, made of what the store has; and how many portions more may be read."""
        folds: dict[int, Fold] = {}
        at, end = span
        while at < end:
            until = min(end, at + self._wide)
            rows = store.read(self.basis, at, until)
            for row in rows:
                assert isinstance(row, Trade)
                opened = self.grid.floor(row.venue_time)
                fold = folds.get(opened)
                if fold is None:
                    folds[opened] = Fold.of(row, self.text, place_of(row))
                else:
                    fold.add(row, place_of(row))
            portions -= 1
            at = until
            if len(rows) > 2 * ROWS:
                self._wide = max(1, self._wide // 2)
            elif len(rows) < ROWS // 2:
                self._wide = min(8 * self._wide, 400 * 24 * HOUR)
        return [fold.candle for fold in folds.values()], portions

    def _amended(
        self, store: KnownStore, candles: list[Candle], before: Spans, fresh: Spans
    ) -> tuple[list[Candle], Spans]:
        """The candles that are not as they were, and the spans that need a claim: a repeated trade changes nothing."""
        for row in candles:
            row.closed = True
        kept = _within(candles, fresh)
        for start, end in before:
            was = {row.open_time: row for row in store.read(self.dataset, start, end) if isinstance(row, Candle)}
            other = [row for row in _within(candles, Spans.of((start, end))) if not _same(row, was.get(row.open_time))]
            kept += other
            fresh |= Spans.of(*((row.open_time, self.grid.next(row.open_time)) for row in other))
            self._as_of += bool(other)  # what is said of them now is newer than what was said before
        return sorted(kept, key=lambda row: row.open_time), fresh


def _within(candles: Sequence[Candle], spans: Spans) -> list[Candle]:
    return [row for row in candles if spans.touches(row.open_time, row.open_time + 1)]


def _same(one: Candle, other: Candle | None) -> bool:
    return other is not None and one == evolve(other, received_at=None, venue_time=None)
