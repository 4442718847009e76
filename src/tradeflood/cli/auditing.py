"""`audit`: candles from our trades against the venue's own."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

import click

from tradeflood.cli.ending import DONE, FAILED, complain
from tradeflood.cli.output import print_json, print_table
from tradeflood.cli.progress import Progress
from tradeflood.config import STORE, load_config
from tradeflood.coverage.audit import Audited, Trouble, merged
from tradeflood.errors import UsageError
from tradeflood.models import interval
from tradeflood.models.identity import digits
from tradeflood.models.time import iso, parse_bound
from tradeflood.plugins import load
from tradeflood.runner.audit import Report, audit_store, repair
from tradeflood.runner.flood import Flood
from tradeflood.store import open_existing

SHOWN = 3
"""How many fields of a candle the table shows."""


async def audit_job(
    markets: tuple[str, ...], *, text: str | None, start: str | None, end: str | None, mend: bool, config: str | None,
    as_json: bool,
) -> int:  # fmt: skip
    """The exit code, after the findings are shown: 0 where there are none, or none is left after a repair."""
    first, after = (None if moment is None else parse_bound(moment) for moment in (start, end))
    if first is not None and after is not None and first >= after:
        raise UsageError(f"the start {iso(first)} is not before the end {iso(after)}")
    if text is not None:
        interval(text)
    load()
    loaded = load_config(config)
    reports = await asyncio.to_thread(_reports, loaded.store or STORE, markets, text, first, after)
    if mend and any(report.findings for report in reports):
        async with Flood(loaded) as flood:
            with Progress() as progress:
                reports, failures = await repair(flood, reports, progress)
        for trouble in dict.fromkeys(str(error) for error in failures):
            complain(trouble)
    if as_json:
        print_json([findings_json(report) for report in reports])
    else:
        _show(reports)
    return FAILED if any(report.findings for report in reports) else DONE


def _reports(url: str, markets: tuple[str, ...], text: str | None, start: int | None, end: int | None) -> list[Report]:
    with open_existing(url) as store:
        names = {f"{dataset.venue}:{dataset.market}" for dataset in store.datasets()}
        if markets and not any(fnmatchcase(name, pattern) for name in names for pattern in markets):
            raise UsageError(f"the store holds nothing of {', '.join(markets)}")
        return audit_store(store, markets, text, start, end)


def _show(reports: list[Report]) -> None:
    show_findings(reports)
    compared = sum(report.compared for report in reports if report.kind is not None)
    single = sum(report.compared for report in reports if report.kind is None)
    differ = sum(len(report.findings) for report in reports)
    click.echo(
        f"{compared} candles compared with trades, {single} without trades looked at alone: {differ or 'no'} findings"
    )


def show_findings(reports: list[Report]) -> None:
    """Print the table of what was found and repaired; nothing where nothing was."""
    rows = []
    for report in reports:
        for trouble, repaired in _troubles(report):
            told = "; ".join([*map(str, trouble.first.differences[:SHOWN]), trouble.first.detail])
            rows.append([
                f"{report.candles.venue}:{report.candles.market}", report.candles.variant[0], report.kind,
                f"{trouble.first.cause}{', repaired' if repaired else ''}", iso(trouble.start), iso(trouble.end),
                trouble.candles, told,
            ])  # fmt: skip
    if rows:
        print_table(["market", "interval", "trades", "cause", "start", "end", "candles", "the first of them"], rows)


def _troubles(report: Report) -> list[tuple[Trouble, bool]]:
    """What to show of a report, ascending: what is there, and what was repaired."""
    mended = {finding.open_time for finding in report.repaired}
    before = tuple(at for at in report.audited.agreed if at not in mended)
    parts = (report.audited, False), (Audited(report.repaired, before), True)
    return sorted(((trouble, done) for audited, done in parts for trouble in merged(audited)), key=lambda t: t[0].start)


def findings_json(report: Report) -> dict[str, Any]:
    """What an audit found, as JSON values."""
    return {
        "venue": report.candles.venue,
        "market": report.candles.market,
        "interval": report.candles.variant[0],
        "kind": report.kind,
        "spans": [{"start": iso(start), "end": iso(end)} for start, end in report.spans],
        "candles": report.compared,
        "findings": [
            {
                "cause": trouble.first.cause.value,
                "start": iso(trouble.start),
                "end": iso(trouble.end),
                "candles": trouble.candles,
                "fields": list(trouble.fields),
                "repaired": done,
                "first": {
                    "open_time": iso(trouble.first.open_time),
                    "detail": trouble.first.detail,
                    "differences": [
                        {"field": each.field, "ours": _value(each.ours), "venue": _value(each.theirs)}
                        for each in trouble.first.differences
                    ],
                },
            }
            for trouble, done in _troubles(report)
        ],
    }


def _value(value: Decimal | int | None) -> str | int | None:
    return digits(value) if isinstance(value, Decimal) else value
