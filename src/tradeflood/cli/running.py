"""`tradeflood run`: the runner, with or without a simulated market beside it."""

from __future__ import annotations

import asyncio
import gc
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import click
from attrs import evolve

from tradeflood.cli.auditing import findings_json, show_findings
from tradeflood.cli.ending import DONE, FAILED, complain, stop_on_signals
from tradeflood.cli.output import print_json, print_table, told
from tradeflood.cli.progress import pauses_json, pauses_named
from tradeflood.config import STORE, Config
from tradeflood.coverage import Coverage
from tradeflood.models.time import SECOND, iso, seconds
from tradeflood.plugins import load
from tradeflood.runner.flood import Flood
from tradeflood.runner.metrics import Counts
from tradeflood.runner.runner import DEFAULT_COLLECT, Report, Runner
from tradeflood.turns import Settings, registry

REPLAY_STORE = "chdb://./tradeflood-replay"
REPLAY_TIME = seconds(60)

COLLECTED_EVERY = (50_000, 10, 10)
"""How many new objects Python's garbage collector lets pass before it looks at them: 700 are two reads of a feed. The rows
that wait are no garbage, and looking at them again and again is a seventh of what a durable row costs."""


async def run_job(config: Config, *, replay: bool, duration: int | None, as_json: bool) -> int:
    """The exit code, after the report is shown."""
    stop = asyncio.Event()
    stop_on_signals(asyncio.get_running_loop(), stop)
    async with AsyncExitStack() as stack:
        stack.callback(gc.set_threshold, *gc.get_threshold())
        gc.set_threshold(*COLLECTED_EVERY)
        if replay:
            from tradeflood.replay.desk import desks
            from tradeflood.replay.server import serve

            load()
            served = await stack.enter_async_context(serve(venues=registry.connectors.keys() & desks().keys()))
            venues = {name: Settings(urls["rest_url"], urls["feed_url"]) for name, urls in served.settings().items()}
            config = evolve(
                config,
                store=config.store or REPLAY_STORE,
                venues={**config.venues, **venues},
                collect=config.collect or [want for want in DEFAULT_COLLECT if want.venue in venues],
            )
            duration = REPLAY_TIME if duration is None else duration
        else:
            config = evolve(config, store=config.store or STORE)
        counts = Counts()
        flood = Flood(config, observe=counts)
        runner = Runner(flood)  # which looks at what is wanted, before a store is opened
        await stack.enter_async_context(flood)
        length = f"for {duration / SECOND:g} s" if duration else "until it is stopped (Ctrl-C)"
        where = "a simulated market" if replay else "the venues"
        click.echo(f"collecting from {where} into {config.store} {length}", err=True)
        pulse = asyncio.create_task(_pulse(runner, counts))
        try:
            with pauses_named(flood.network.limiter):
                report = await runner.run(stop, duration)
        finally:
            pulse.cancel()
    show(report, config, counts, as_json=as_json)
    for failure in report.failures:
        complain(failure)
    return DONE if (report.collected or any(report.lists.values())) and not report.lost else FAILED


async def _pulse(runner: Runner, counts: Counts) -> None:
    """A line on standard error now and then: it is alive."""
    while True:
        await asyncio.sleep(10)
        if runner.stream is not None:
            opened = sum(health.opened for health in runner.stream.health.values())
            acked = sum(len(health.acked) for health in runner.stream.health.values())
            line = f"{runner.stream.count} live rows so far, {acked} subscriptions on {opened} connections"
            click.echo("; ".join([line, *_noteworthy(runner, counts)]), err=True)


def _noteworthy(runner: Runner, counts: Counts) -> Iterator[str]:
    """What the pulse adds where there is something to say: requests, connections lost, rows dropped, a store that refuses, the spill."""
    steps = counts.steps
    if steps["request.answered"]:
        yield f"{steps['request.answered']} requests answered"
    if steps["stream.lost"]:
        yield f"{steps['stream.lost']} connections lost"
    if runner.dropped:
        yield f"{runner.dropped} rows dropped"
    if (outlet := runner.outlet) is not None:
        if outlet.trouble is not None:
            yield outlet.trouble
        if outlet.spilled:
            yield f"{outlet.spilled} rows spilled"


def program() -> str:
    """How this command was called: its name where the shell finds it, else its path."""
    if shutil.which("tradeflood"):
        return "tradeflood"
    path = Path(sys.argv[0])
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def show(report: Report, config: Config, counts: Counts, *, as_json: bool) -> None:
    """The table, and the next command to type."""
    if as_json:
        coverage = Coverage({line.dataset: line.parts for line in report.collected}).to_json()
        print_json({
            "store": config.store,
            "began": iso(report.began),
            "ended": iso(report.ended),
            "collected": [
                {**covered, "rows": line.rows, "new": line.new, "first": iso(line.first), "last": iso(line.last)}
                for line, covered in zip(report.collected, coverage, strict=True)
            ],
            "lists": report.lists,
            "failures": report.failures,
            "findings": [findings_json(told) for told in report.findings],
            "spilled": report.spilled,
            "lost": report.lost,
            "dropped": report.dropped,
            "pauses": pauses_json(report.pauses),
            **counts.told(),
        })  # fmt: skip
        return
    rows = [
        [
            f"{line.dataset.venue}:{line.dataset.market}", line.dataset.model.name(),
            " ".join(part for part in line.dataset.variant if part not in {"raw", "venue"}), line.rows, line.new,
            iso(line.first), iso(line.last), told(line.parts),
        ]
        for line in sorted(report.collected, key=lambda line: line.dataset.label)
    ]  # fmt: skip
    print_table(["market", "model", "", "rows", "new", "first", "last", "coverage"], rows)
    for name, count in report.lists.items():
        click.echo(f"{count} rows of {name}")
    show_findings(report.findings)
    if compared := sum(found.compared for found in report.findings):
        differ = sum(len(found.findings) for found in report.findings)
        click.echo(f"{compared} candles compared with trades: {differ or 'no'} findings")
    for pause in report.pauses:
        click.echo(pause)
    if report.collected:
        line = report.collected[0]
        words = f"{program()} collect {line.dataset.model.name()} {line.dataset.venue}:{line.dataset.market}"
        if "interval" in {part.name for part in line.dataset.model.variants()}:
            words += f" --interval {line.dataset.variant[0]}"
        words += f" --start {iso(line.first)} --offline"
        sys.stdout.write(f"next: TRADEFLOOD_STORE={shlex.quote(config.store or STORE)} {words}\n")
