"""Audits of what a store holds, and repairs: what does not agree is asked of the venue again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

from attrs import evolve, frozen

from tradeflood.coverage import Claim, Dataset, State, held, stretches
from tradeflood.coverage.audit import Audited, Finding, alone, audit, margin, whole
from tradeflood.errors import TradeFloodError
from tradeflood.models import Candle, Trade, interval
from tradeflood.models.time import iso
from tradeflood.planner import Node, Query, Run
from tradeflood.runner.execute import carry_out
from tradeflood.runner.flood import Flood, keep
from tradeflood.spans import EMPTY, Span, Spans
from tradeflood.store import Store, Summary

WHY = "the audit: "
"""How the evidence of a dispute begins that an audit has raised; its cause follows."""

PORTION = 200_000
"""How many trades are looked at together, so that a long audit needs no more memory than a short one."""


@frozen
class Report:
    """The audit of a venue's candles against trades of one kind; with no kind, those without trades, each by itself.

    `repaired` are findings that a repair has ended; `findings` what is still there.
    """

    candles: Dataset
    kind: str | None
    spans: Spans
    audited: Audited
    repaired: tuple[Finding, ...] = ()
    looked: int | None = None

    @property
    def compared(self) -> int:
        """How many candles were looked at."""
        return self.audited.compared if self.looked is None else self.looked

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What does not agree."""
        return self.audited.findings

    @property
    def trades(self) -> Dataset | None:
        """The trades, where there are any."""
        return None if self.kind is None else Dataset(Trade, self.candles.venue, self.candles.market, (self.kind,))


def audit_store(
    store: Store, markets: Sequence[str] = (), text: str | None = None, start: int | None = None, end: int | None = None
) -> list[Report]:
    """The audits of what a store holds of the markets that match, of all without a pattern, in [start, end)."""
    datasets = store.datasets()
    trades = [dataset for dataset in datasets if dataset.model is Trade]
    counts = {summary.dataset: summary for summary in store.summary()}
    reports = []
    for dataset in sorted(datasets, key=lambda dataset: dataset.label):
        if dataset.model is not Candle or dataset.variant[1] != "venue" or text not in {None, dataset.variant[0]}:
            continue
        if markets and not any(fnmatchcase(f"{dataset.venue}:{dataset.market}", pattern) for pattern in markets):
            continue
        claims = store.claims(dataset)
        name = dataset.variant[0]
        asked = rest = whole(name, _said(claims) & _range(start, end, claims))
        for rows in trades:
            if rows[1:3] != dataset[1:3]:
                continue
            spans = asked & whole(name, _said(claims) & _said(store.claims(rows)))
            report = Report(dataset, rows.variant[0], spans, Audited())
            reports.append(evolve(report, audited=_audited(store, report, {}, _portion(counts.get(rows)))))
            rest -= spans
        report = Report(dataset, None, rest, Audited())
        reports.append(evolve(report, audited=_audited(store, report, {})))
    return [report for report in reports if report.spans]


def _said(claims: Iterable[Claim]) -> Spans:
    """What is held, and what was until an audit contradicted it: that is still there to be looked at."""
    listed = list(claims)
    against = (part for part in stretches(listed) if part.state is State.DISPUTED and part.evidence.startswith(WHY))
    return held(listed) | Spans.of(*((part.start, part.end) for part in against))


async def repair(
    flood: Flood, reports: Sequence[Report], observe: Callable[[Run, Node], None] | None = None
) -> tuple[list[Report], list[TradeFloodError]]:
    """The reports after the venues were asked again for the trades and candles concerned, and what failed on the way.

    What comes is stored as always: rows and claims are added, nothing is deleted. A candle that the venue has changed
    meanwhile is named as such, also where it is repaired thereby.
    """
    store = await asyncio.to_thread(flood.open_store)
    queries = list(dict.fromkeys(query for report in reports for query in _queries(report)))
    run = Run(queries, flood.venues, flood.clock.now(), None)  # no store: what it holds is in doubt
    await carry_out(run, flood.network, observe)
    frames = {query: run.frame(query) for query in queries}
    failures = [failure.error for frame in frames.values() for failure in frame.failures]
    fresh: dict[Dataset, dict[int, Candle]] = {}
    for work in run.works.values():
        if work.ask.model is Candle:
            fresh[work.ask.dataset] = {row.open_time: row for row in work.models.values() if isinstance(row, Candle)}
    # Causes are judged in the light of fresh candles while the stored ones are still as they were.
    named = [await asyncio.to_thread(_over, store, report, fresh.get(report.candles, {})) for report in reports]
    await asyncio.to_thread(keep, run, store)
    return [await asyncio.to_thread(_again, store, report) for report in named], failures


def _queries(report: Report) -> Iterator[Query[Any]]:
    market = f"{report.candles.venue}:{report.candles.market}"
    for start, end in _concerned(report.findings):
        yield Query(Candle, market, start=iso(start), end=iso(end), interval=report.candles.variant[0])
        if report.kind is not None:
            yield Query(Trade, market, start=iso(start), end=iso(end), kind=report.kind)


def _again(store: Store, report: Report) -> Report:
    """A report after a repair."""
    now = _over(store, report, {})
    still = {finding.open_time for finding in now.findings}
    return evolve(now, repaired=tuple(finding for finding in report.findings if finding.open_time not in still))


def _over(store: Store, report: Report, fresh: Mapping[int, Candle]) -> Report:
    """A report with the candles of its findings audited once more; what agreed is not looked at again."""
    if not report.findings:
        return report
    spans = _concerned(report.findings)
    found = _audited(store, evolve(report, spans=spans), fresh)
    agreed = sorted({*report.audited.agreed, *found.agreed})
    return evolve(report, audited=Audited(found.findings, tuple(agreed)))


def _concerned(findings: Iterable[Finding]) -> Spans:
    return Spans.of(*((finding.open_time, finding.end) for finding in findings))


def _audited(store: Store, report: Report, fresh: Mapping[int, Candle], portion: int | None = None) -> Audited:
    """The audit of some spans, portion by portion."""
    findings: list[Finding] = []
    agreed: list[int] = []
    text = report.candles.variant[0]
    claims = store.claims(report.trades) if report.trades else []
    for start, end in _portions(report.spans, text, portion):
        candles = [row for row in store.read(report.candles, start, end) if isinstance(row, Candle)]
        here = Spans.of((start, end))
        if report.kind is None or report.trades is None:
            found = alone(report.candles, candles, here)
        else:
            read = start - margin(text), end + margin(text)
            trades = [row for row in store.read(report.trades, *read) if isinstance(row, Trade)]
            versions = [row for at, row in fresh.items() if start <= at < end]
            found = audit(report.candles, report.kind, candles, trades, claims, here, read, versions=versions)
        findings += found.findings
        agreed += found.agreed
    return Audited(tuple(findings), tuple(agreed))


def _portion(trades: Summary | None) -> int | None:
    """How long a portion is; None where all goes in one."""
    if trades is None or trades.rows <= PORTION:
        return None
    return (trades.last - trades.first) * PORTION // trades.rows


def _portions(spans: Spans, text: str, portion: int | None) -> Iterator[Span]:
    """The spans, cut between candles into parts of about this length."""
    grid = interval(text)
    for start, end in spans:
        if portion is None:
            yield start, end
            continue
        cuts = [start]
        while cuts[-1] < end:
            cuts.append(min(end, max(grid.next(cuts[-1]), grid.floor(cuts[-1] + portion))))
        yield from pairwise(cuts)


def _range(start: int | None, end: int | None, claims: Iterable[Any]) -> Spans:
    times = [time for claim in claims for time in (claim.start, claim.end)]
    if not times:
        return EMPTY
    return Spans.of((min(times) if start is None else start, max(times) if end is None else end))
