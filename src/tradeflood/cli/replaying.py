"""`replay`: venues on this machine, and recordings read anew."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import click
from attrs import evolve

from tradeflood.cli.ending import DONE, FAILED, complain, stop_on_signals
from tradeflood.cli.output import print_json, print_table
from tradeflood.cli.progress import Lines
from tradeflood.config import load_config
from tradeflood.coverage import Dataset
from tradeflood.models.time import SECOND, iso, parse_duration
from tradeflood.plugins import load
from tradeflood.replay.server import serve
from tradeflood.replay.source import Source
from tradeflood.runner.flood import Flood


async def replay_job(
    folder: Path | None, *, port: int, seed: int, speed: str, faults: tuple[str, ...], venues: tuple[str, ...],
    duration: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Serve until stopped; the addresses are printed first, as configuration to copy."""
    load()
    stop = asyncio.Event()
    stop_on_signals(asyncio.get_running_loop(), stop)
    length = None if duration is None else parse_duration(duration) / SECOND
    source, named = _source(folder, venues)
    async with serve(source, named, port, speed=speed, faults=faults, seed=seed) as served:
        if as_json:
            print_json(served.settings())
        else:
            for venue, urls in served.settings().items():
                click.echo(f"[venues.{venue}]")
                for name, url in urls.items():
                    click.echo(f'{name} = "{url}"')
        click.echo("serving; stop with Ctrl-C", err=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), length)
        for played in served.faults.injected:
            click.echo(f"fault {played.name} at {iso(played.time)}: {played.detail}", err=True)
    return DONE


async def reread_job(folder: Path, into: str, config: str | None, *, as_json: bool) -> int:
    """The exit code, after what was read anew is shown."""
    load()
    loaded = evolve(load_config(config), store=into, record=None)
    progress = Lines()
    async with Flood(loaded) as flood:
        anew = await flood.reread(folder, lambda anew: progress(f"{sum(anew.rows.values())} rows read anew"))
    datasets = sorted(anew.rows.items(), key=lambda pair: pair[0].label)
    if as_json:
        print_json({
            "store": into,
            "rows": sum(anew.rows.values()),
            "claims": anew.claims,
            "unreadable": anew.unreadable,
            "parsers": anew.parsers,
            "datasets": [{"dataset": dataset.label, "rows": rows} for dataset, rows in datasets],
        })  # fmt: skip
    else:
        names = ["market", "model", "", "rows", "parser"]
        print_table(names, [[*_words(dataset), rows, anew.parsers[dataset.venue]] for dataset, rows in datasets])
    for text in anew.trouble:
        complain(text)
    if anew.unreadable > len(anew.trouble):
        complain(f"{anew.unreadable} answers and frames could not be read")
    return DONE if anew.rows else FAILED


def _words(dataset: Dataset) -> list[str]:
    return [f"{dataset.venue}:{dataset.market}", dataset.model.name(), " ".join(dataset.variant)]


def _source(folder: Path | None, venues: tuple[str, ...]) -> tuple[Source | None, tuple[str, ...] | None]:
    if folder is None:
        return None, venues or None
    from tradeflood.replay.recorded import Recorded

    recorded = Recorded.load(folder)
    return recorded, venues or recorded.venues
