"""`coverage` and `migrate`: what the store holds."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import click

from tradeflood.cli.output import print_json, print_table, timeline, told
from tradeflood.config import STORE, load_config
from tradeflood.coverage import Coverage, Stretch, stretches
from tradeflood.errors import UsageError
from tradeflood.models.time import iso
from tradeflood.plugins import load
from tradeflood.store import open_existing, open_store


def show_coverage(markets: tuple[str, ...], config: str | None, *, as_json: bool) -> None:
    """Print the coverage of the datasets whose market matches; of all without a pattern."""
    load()
    with open_existing(load_config(config).store or STORE) as store:
        summaries = {summary.dataset: summary for summary in store.summary()}
        chosen = [
            dataset
            for dataset in sorted(store.datasets(), key=lambda dataset: dataset.label)
            if not markets or any(fnmatchcase(f"{dataset.venue}:{dataset.market}", pattern) for pattern in markets)
        ]
        held = Coverage({dataset: stretches(store.claims(dataset)) for dataset in chosen})
    if markets and not chosen:
        raise UsageError(f"the store holds nothing of {', '.join(markets)}")
    if as_json:
        print_json(held.to_json())
        return
    rows = []
    for dataset in chosen:
        found = summaries.get(dataset)
        rows.append([
            f"{dataset.venue}:{dataset.market}", dataset.model.name(), " ".join(dataset.variant), found.rows if found else 0,
            iso(found.first) if found else "", iso(found.last) if found else "", _timeline(held.parts[dataset]), told(held.parts[dataset]),
        ])  # fmt: skip
    print_table(["market", "model", "variant", "rows", "first", "last", "timeline", "coverage"], rows)
    if markets:
        click.echo(held)


def _timeline(parts: Sequence[Stretch]) -> str:
    return timeline(parts, parts[0].start, parts[-1].end) if parts else ""


def migrate_store(config: str | None, *, as_json: bool) -> None:
    """Make and mend the tables; print what was done."""
    url = load_config(config).store or STORE
    load()
    with open_store(url) as store:
        done = store.migrate()
    if as_json:
        print_json({"store": url, "migrations": done})
    else:
        click.echo("\n".join(done) if done else f"{url} is up to date")
