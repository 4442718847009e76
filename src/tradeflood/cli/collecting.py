"""`collect`, `plan` and `stream`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from tradeflood.cli.ending import DONE, FAILED, code_of, complain, stop_on_signals
from tradeflood.cli.output import frame_csv, frame_json, print_frame, print_json
from tradeflood.cli.printing import Printer
from tradeflood.cli.progress import Depth, Progress, pauses_json, pauses_named
from tradeflood.config import STORE
from tradeflood.coverage import Failure, Frame
from tradeflood.errors import StoreError, UnknownMarket, UsageError
from tradeflood.models import Model
from tradeflood.models.forms import to_json, write_parquet
from tradeflood.models.time import SECOND, iso, parse_duration
from tradeflood.planner import Plan, Query
from tradeflood.plugins import load
from tradeflood.runner.deep import Advance, Filling
from tradeflood.runner.execute import to_its_end
from tradeflood.runner.flood import Flood, demand, joined
from tradeflood.runner.keeper import Keeper
from tradeflood.runner.stream import Stream
from tradeflood.store import need_existing

HOLES = 20
"""How many holes are named, one line each."""

PRINTED_WITHIN = 0.5
"""Seconds in which a reader of standard output may take the last rows of a stream."""


async def collect_job(
    model: str, market: tuple[str, ...], *, start: str | None, end: str | None, offline: bool, strict: bool, out: str,
    path: str | None, config: str | None, words: dict[str, Any], as_json: bool = False,
) -> int:  # fmt: skip
    """The exit code, after the rows are shown, or stored."""
    load()
    wanted = Model.named(model)
    if out == "parquet" and path is None and sys.stdout.isatty():
        raise UsageError("parquet is binary: name a --file, or send the output elsewhere")
    session = Flood(config)
    queries = session.queries(wanted, market, start, end, **words)
    if offline:
        need_existing(session.config.store or STORE)
    else:
        session.check(*queries)  # before a store is opened; what is held may be of a venue that is gone
    async with session as flood:
        if out == "store" and not offline:
            return await fill_job(flood, queries, strict=strict, as_json=as_json)
        if offline:
            frame = await flood.collect(wanted, *market, start=start, end=end, offline=True, **words)
        else:
            with Progress() as progress, pauses_named(flood.network.limiter):
                frame = joined(wanted, await flood.run(flood.plan(*queries), progress))
    if offline and not strict and not frame and not frame.coverage.parts:
        raise UsageError(f"the store holds nothing of {', '.join(market)}; see what it holds with: tradeflood coverage")
    if not frame and frame.failures:
        complain(said(frame.failures[0]))
        return code_of(frame.failures[0].error)
    _show(frame, out, path)
    if out == "store":
        click.echo(f"{len(frame)} rows in {flood.config.store or STORE}", err=True)
    if strict:
        demand(frame, queries)
    for text in dict.fromkeys(map(said, frame.failures)):
        complain(text)
    return max((code_of(failure.error) for failure in frame.failures), default=DONE)


async def fill_job(flood: Flood, queries: Sequence[Query[Any]], *, strict: bool, as_json: bool) -> int:
    """The exit code, after the ranges are stored; the rows are not shown, they may be more than memory holds."""
    store, reached = flood.config.store or STORE, Advance()

    def observe(advance: Advance) -> None:
        nonlocal reached
        reached = advance
        progress(advance)

    try:
        with Depth() as progress, pauses_named(flood.network.limiter):
            filling = await flood.fill(*queries, observe=observe)
    except asyncio.CancelledError:
        click.echo(f"stopped after {reached.kept} new rows; the same command goes on from what is in {store}", err=True)
        raise
    if filling.failures and not as_json and not any(part.rows or part.held for part in filling.filled):
        complain(said(filling.failures[0]))
        return code_of(filling.failures[0].error)
    if as_json:
        print_json(_filling_json(filling, store) | {"pauses": pauses_json(flood.network.limiter.pauses())})
    click.echo(f"{filling.rows} new rows in {store}", err=True)
    holes = [(part.dataset, span) for part in filling.filled for span in part.holes]
    for dataset, (start, end) in holes[:HOLES]:
        click.echo(f"not held: {dataset.label}: {iso(start)} … {iso(end)}", err=True)
    if len(holes) > HOLES:
        click.echo(f"not held: {len(holes) - HOLES} more; see them with: tradeflood coverage", err=True)
    for text in dict.fromkeys(map(said, filling.failures)):
        complain(text)
    if strict:
        model = queries[0].model
        demand(Frame(model, [], filling.coverage, filling.failures), queries)
    return max((code_of(failure.error) for failure in filling.failures), default=DONE)


def _filling_json(filling: Filling, store: str) -> dict[str, Any]:
    rows = {part.dataset: part.rows for part in filling.filled}
    told = zip(filling.coverage.parts, filling.coverage.to_json(), strict=True)
    return {
        "store": store,
        "rows": filling.rows,
        "filled": [{**covered, "rows": rows[dataset]} for dataset, covered in told],
        "failures": list(dict.fromkeys(map(said, filling.failures))),
    }


def said(failure: Failure) -> str:
    """A failure in words, with the market that it befell."""
    text, dataset = str(failure.error), failure.dataset
    if isinstance(failure.error, UnknownMarket) and "tradeflood markets" not in text:
        text = f"{text}; list the markets with: tradeflood markets {dataset.venue if dataset else 'VENUE'}"
    return text if dataset is None or dataset.market in text else f"{dataset.venue}:{dataset.market}: {text}"


def _show(frame: Frame[Any], out: str, path: str | None) -> None:
    if out == "table":
        print_frame(frame)
    elif out == "parquet":
        with _writing(path):
            write_parquet(frame.to_arrow(), path or sys.stdout.buffer)
    elif out == "csv":
        _write(frame_csv(frame), path)
    elif out == "json":
        if path is None:
            print_json(frame_json(frame))
        else:
            import json

            _write(json.dumps(frame_json(frame), ensure_ascii=False, indent=1) + "\n", path)


def _write(text: str, path: str | None) -> None:
    if path is None:
        sys.stdout.write(text)
        return
    with _writing(path):
        Path(path).write_text(text, encoding="utf-8")


@contextmanager
def _writing(path: str | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if path is None:
            raise
        why = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(f"--file {path}: cannot be written: {why}") from error


async def plan_of(
    model: str, market: tuple[str, ...], start: str | None, end: str | None, words: dict[str, str], config: str | None
) -> Plan:
    """The plan, looked at while the store is open, so that what it holds is subtracted."""
    load()
    wanted = Model.named(model)
    queries = [Query(wanted, name, start=start, end=end, **words) for name in market]
    session = Flood(config)
    session.check(*queries)
    async with session as flood:
        made = flood.plan(*queries)
        made.explain()
        return made


async def stream_job(
    model: str, market: tuple[str, ...], words: dict[str, Any], duration: str | None, out: str, config: str | None
) -> int:
    """The exit code, when the time is over."""
    load()
    wanted = Model.named(model)
    length = None if duration is None else parse_duration(duration)
    stop = asyncio.Event()
    stop_on_signals(asyncio.get_running_loop(), stop)
    session = Flood(config)
    session.check_live(*(Query(wanted, name, **words) for name in market))
    async with session as flood:
        keeper = Keeper(flood.venues, await asyncio.to_thread(flood.open_store)) if out == "store" else None
        printer = Printer(wanted, out)
        rows = flood.stream(wanted, *market, **words)
        ender = asyncio.create_task(_end(stop, length))
        reader = asyncio.create_task(_read(rows, printer if keeper is None else None, keeper))
        told: set[str] = set()
        teller = asyncio.create_task(_tell(rows, told))
        with pauses_named(flood.network.limiter):
            await asyncio.wait({reader, ender}, return_when=asyncio.FIRST_COMPLETED)
        ender.cancel()
        teller.cancel()
        await rows.close()  # the reader gets the rest, and is through
        await asyncio.wait({reader}, timeout=PRINTED_WITHIN if keeper is None else None)
        reader.cancel()
        await asyncio.gather(reader, ender, teller, return_exceptions=True)
        failed = None if reader.cancelled() else reader.exception()
        # Where the store refused the last rows, claims that grow may be about these.
        if keeper is not None and not isinstance(failed, StoreError):
            await asyncio.to_thread(keeper.close, rows.take(), rows.proofs())
    if failed is not None:
        raise failed
    if out == "document":
        print_json([to_json(row) for row in printer.kept])
    _complain(rows, told)
    if keeper is None and (unread := rows.count - printer.count):
        complain(f"{unread} rows were not printed, because standard output takes no more")
        return FAILED
    return FAILED if told and not rows.count else DONE


async def _end(stop: asyncio.Event, length: int | None) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), None if length is None else length / SECOND)


async def _tell(rows: Any, told: set[str]) -> None:
    """Troubles of the feeds, as they come: whoever sees no rows wants to know why."""
    while True:
        await asyncio.sleep(1)
        _complain(rows, told)


def _complain(rows: Any, told: set[str]) -> None:
    for text in [text for health in rows.health.values() for text in health.trouble]:
        if text not in told:
            told.add(text)
            complain(text)


async def _read(rows: Stream[Any], printer: Printer | None, keeper: Keeper | None) -> None:
    async for batch in rows.batches():
        if printer is not None:
            await printer.show(batch)
        elif keeper is not None:
            await to_its_end(keeper.write, batch, rows.proofs())  # before the last ones are written
