"""`replay`: venues on this machine."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import click

from tradeflood.cli.main import DONE, stop_on_signals
from tradeflood.cli.output import print_json
from tradeflood.models.time import SECOND, iso, parse_duration
from tradeflood.plugins import load
from tradeflood.replay.server import serve
from tradeflood.replay.source import Source


async def replay_job(
    folder: Path | None, *, port: int, seed: int, speed: str, faults: tuple[str, ...], venues: tuple[str, ...],
    duration: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Serve until stopped; the addresses are printed first, as configuration to copy."""
    load()
    stop = asyncio.Event()
    stop_on_signals(asyncio.get_running_loop(), stop)
    length = parse_duration(duration) / SECOND if duration else None
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


def _source(folder: Path | None, venues: tuple[str, ...]) -> tuple[Source | None, tuple[str, ...] | None]:
    if folder is None:
        return None, venues or None
    from tradeflood.replay.recorded import Recorded

    recorded = Recorded.load(folder)
    return recorded, venues or recorded.venues
