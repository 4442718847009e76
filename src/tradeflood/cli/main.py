"""The commands. Each states its options, calls the runner, and shows what comes back."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import sys
import warnings
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from attrs import evolve

from tradeflood.cli.ending import DONE, FAILED, INTERRUPTED, USAGE, cancelled_by_signals, code_of, complain
from tradeflood.cli.options import config_option, form, json_option, range_options, variant, variant_options
from tradeflood.errors import TradeFloodError, UsageError

OUTS = ("table", "csv", "json", "parquet", "store")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tradeflood")
@click.option("-v", "--verbose", count=True, help="Log more to standard error; twice for everything.")
def app(verbose: int) -> None:
    """Collect market data, and be told how complete it is."""
    level = {0: logging.ERROR, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if verbose < 2:
        logging.getLogger("httpx").setLevel(logging.ERROR)


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with its code; a user's mistake, and a warning, is one line on standard error."""
    with warnings.catch_warnings(), _whole_writes():
        warnings.showwarning = _warned
        code = _code(args)
    sys.exit(code)


@contextmanager
def _whole_writes() -> Iterator[None]:
    """Standard output has a buffer meanwhile.

    Without one (PYTHONUNBUFFERED) Python drops the rest of a long write that a signal interrupts, without a word.
    """
    out = sys.stdout
    raw = getattr(out, "buffer", None)
    if not (isinstance(out, io.TextIOWrapper) and isinstance(raw, io.RawIOBase)):
        yield
        return
    buffer = io.BufferedWriter(raw)
    sys.stdout = whole = io.TextIOWrapper(buffer, out.encoding, out.errors, line_buffering=True)
    try:
        yield
    finally:
        sys.stdout = out
        whole.detach()
        buffer.detach()


def _code(args: list[str] | None) -> int:
    try:
        code = app.main(args, standalone_mode=False)
        sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as error:
        complain(error.format_message())
        return USAGE
    except TradeFloodError as error:
        complain(str(error))
        return code_of(error)
    except BrokenPipeError:
        return _unread()
    except OSError as error:  # standard output is a full disk, say; what is wrong with a store or a file is a StoreError, a UsageError
        _unread()
        complain(f"cannot go on: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        return FAILED
    except SystemExit as end:
        if end.code == FAILED:  # so click and rich end where nobody reads any more, and nobody else does
            return _unread()
        raise
    return code if isinstance(code, int) else DONE


def _unread() -> int:
    """The reader of standard output left, as `head` does: that is no error, and nothing more is written there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE


def _warned(message: Warning | str, *_: object, **__: object) -> None:
    complain(str(message))


def wait_for(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of the session's work, on uvloop where it is installed."""
    work = cancelled_by_signals(work)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


# ---------------------------------------------------------------- the main job


@app.command()
@click.argument("config_file", required=False, metavar="[CONFIG]")
@click.option("--replay", is_flag=True, help="Collect from a simulated market on this machine; no network is needed.")
@click.option(
    "--for", "duration", metavar="TIME", help="Stop after so long, such as 60s (with --replay: 60s unless told)."
)
@click.option("--record", metavar="DIR", help="Keep every frame and body; `tradeflood replay DIR` serves them again.")
@config_option
@json_option
def run(
    config_file: str | None,
    *,
    replay: bool,
    duration: str | None,
    record: str | None,
    config: str | None,
    as_json: bool,
) -> int:
    """Collect into the store what is configured: live, and back to where its history begins.

    Stops on SIGINT and SIGTERM, or after --for; what has come is flushed and the right edge settled first.
    """
    from tradeflood.cli.running import run_job
    from tradeflood.config import load_config
    from tradeflood.models.time import parse_duration

    loaded = load_config(config if config_file is None else config_file)
    if record is not None:
        if not record:
            raise UsageError("--record: name a folder")
        loaded = evolve(loaded, record=record)
    length = None if duration is None else parse_duration(duration)
    return int(wait_for(run_job(loaded, replay=replay, duration=length, as_json=as_json)))


# ---------------------------------------------------------------- what there is


@app.command()
@config_option
@json_option
def venues(*, config: str | None, as_json: bool) -> None:
    """List the venues and what each offers."""
    from tradeflood.cli.output import print_json, print_table
    from tradeflood.config import load_config
    from tradeflood.runner.catalogue import offers
    from tradeflood.runner.venues import SessionVenues

    found = offers(SessionVenues(load_config(config).venues))
    if as_json:
        print_json([offer.to_json() for offer in found])
        return
    print_table(
        ["venue", "model", "what", "history", "live"],
        [[o.venue, o.model, o.variants, o.reach, "yes" if o.live else "no"] for o in found],
    )


@app.command()
@click.argument("venue")
@config_option
@json_option
def markets(venue: str, *, config: str | None, as_json: bool) -> None:
    """List the markets of a venue, as it answers now."""
    from tradeflood.cli.output import frame_json, print_json, print_table
    from tradeflood.models import Market
    from tradeflood.models.forms import to_json
    from tradeflood.planner import Query
    from tradeflood.runner.flood import Flood

    async def work() -> Any:
        session = Flood(config)
        session.venues.connector(venue)  # before a name that is none becomes part of a pattern
        session.check(Query(Market, f"{venue}:*"))
        async with session as flood:
            return await flood.collect(Market, f"{venue}:*")

    frame = wait_for(work())
    if as_json:
        print_json(frame_json(frame)["rows"])
        return
    names = ["market", "symbol", "kind", "status", "price_increment", "size_increment", "price_unit"]
    print_table(names, [[to_json(row)[name] for name in names] for row in frame])


@app.command()
@json_option
@config_option
def plugins(*, as_json: bool, config: str | None) -> None:
    """List the plug-ins that are loaded, the hooks they answer and what they brought."""
    from attrs import asdict

    from tradeflood.cli.output import print_json, print_table
    from tradeflood.plugins import load

    del config
    found = load()
    if as_json:
        print_json([asdict(plugin) for plugin in found])
        return
    print_table(
        ["plug-in", "version", "venues", "models", "bindings", "hooks", "error"],
        [
            [
                p.name,
                p.version,
                ", ".join(p.venues),
                ", ".join(p.models),
                ", ".join(p.bindings),
                ", ".join(p.hooks),
                p.error,
            ]
            for p in found
        ],
    )


# ---------------------------------------------------------------- the past


@app.command()
@click.argument("model")
@click.argument("market", nargs=-1, required=True)
@range_options
@variant_options
@click.option("--offline", is_flag=True, help="Only what the store holds; no venue is asked.")
@click.option("--strict", is_flag=True, help="Exit with 3 unless all of the range is held on grade B or better.")
@click.option("--out", type=click.Choice(OUTS), default="table", help="Where to and how (default: table).")
@click.option("--file", "path", type=click.Path(), metavar="PATH", help="Write csv, json or parquet there.")
@config_option
@json_option
def collect(
    model: str, market: tuple[str, ...], *, start: str | None, end: str | None, interval: str | None, kind: str | None,
    origin: str | None, more: tuple[str, ...], offline: bool, strict: bool, out: str, path: str | None, config: str | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Fetch rows of a MODEL (trade, candle, market, ticker) for MARKETs such as binance:BTC/USDT or okx:*/USDT.

    With --out store they go into the store portion by portion, however many there are, and are not printed; stopped
    and called again, it goes on from what is held.
    """
    from tradeflood.cli.collecting import collect_job

    words = variant(interval, kind, origin, more)
    return int(
        wait_for(
            collect_job(
                model, market, start=start, end=end, offline=offline, strict=strict,
                out=form(out, path, as_json=as_json), path=path, config=config, words=words, as_json=as_json,
            )
        )
    )  # fmt: skip


@app.command()
@click.argument("model")
@click.argument("market", nargs=-1, required=True)
@range_options
@variant_options
@click.option("--graph", type=click.Choice(["mermaid", "dot"]), help="Print the graph of the plan instead.")
@config_option
@json_option
def plan(
    model: str, market: tuple[str, ...], *, start: str | None, end: str | None, interval: str | None, kind: str | None,
    origin: str | None, more: tuple[str, ...], graph: str | None, config: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Explain what `collect` with the same words would request; nothing is asked of any venue."""
    from tradeflood.cli.collecting import plan_of
    from tradeflood.cli.output import print_json

    made = wait_for(plan_of(model, market, start, end, variant(interval, kind, origin, more), config))
    if graph is not None:
        click.echo(made.mermaid() if graph == "mermaid" else made.dot())
    elif as_json:
        print_json(made.explain().to_json())
    else:
        click.echo(made.explain())


@app.command()
@click.argument("model")
@click.argument("market", nargs=-1, required=True)
@variant_options
@click.option("--for", "duration", metavar="TIME", help="Stop after so long, such as 10s.")
@click.option(
    "--out", type=click.Choice(["table", "csv", "json", "store"]), default="table", help="How (default: table)."
)
@config_option
@json_option
def stream(
    model: str, market: tuple[str, ...], *, interval: str | None, kind: str | None, origin: str | None,
    more: tuple[str, ...], duration: str | None, out: str, config: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Print live rows as they come, a line each; with --json, one document at the end."""
    from tradeflood.cli.collecting import stream_job

    words = variant(interval, kind, origin, more)
    if as_json and out == "store":
        raise UsageError("--json and --out store: say one of them")
    how = form(out, None, as_json=as_json)
    return int(wait_for(stream_job(model, market, words, duration, "document" if as_json else how, config)))


# ---------------------------------------------------------------- what is held


@app.command()
@click.argument("market", nargs=-1)
@config_option
@json_option
def coverage(market: tuple[str, ...], *, config: str | None, as_json: bool) -> None:
    """Show what the store holds, dataset by dataset, and on what evidence."""
    from tradeflood.cli.holding import show_coverage

    show_coverage(market, config, as_json=as_json)


@app.command()
@click.argument("market", nargs=-1)
@range_options
@click.option(
    "--interval", "text", metavar="TEXT", help="Only candles of this interval (default: all that are stored)."
)
@click.option("--repair", is_flag=True, help="Ask the venue again for what does not agree, store it, and audit again.")
@config_option
@json_option
def audit(
    market: tuple[str, ...], *, start: str | None, end: str | None, text: str | None, repair: bool, config: str | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Compare stored candles with the stored trades, exactly; exit with 1 where they differ.

    Every difference gets a cause. Only what is held for both is compared.
    """
    from tradeflood.cli.auditing import audit_job

    return int(
        wait_for(audit_job(market, text=text, start=start, end=end, mend=repair, config=config, as_json=as_json))
    )


@app.command()
@config_option
@json_option
def migrate(*, config: str | None, as_json: bool) -> None:
    """Bring the store's tables up to date."""
    from tradeflood.cli.holding import migrate_store

    migrate_store(config, as_json=as_json)


# ---------------------------------------------------------------- a venue on the desk


@app.command()
@click.argument("folder", required=False, metavar="[DIR]")
@click.option("--simulate", is_flag=True, help="Serve the simulated market (the default without DIR).")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9001, show_default=True, help="Of the first venue; 0: any free."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the simulated market and of the faults.")
@click.option("--speed", default="1", show_default=True, metavar="X", help="Venue time per real time.")
@click.option(
    "--fault", multiple=True, metavar="FAULT", help="A fault to play, such as 429=2@binance#3; see the manual."
)
@click.option("--venue", "only", multiple=True, metavar="VENUE", help="Serve only this venue; may be repeated.")
@click.option("--for", "duration", metavar="TIME", help="Stop after so long.")
@click.option(
    "--into", metavar="STORE", help="Serve nothing: read DIR anew, with the parsers of today, into this store."
)
@config_option
@json_option
@click.pass_context
def replay(
    context: click.Context, folder: str | None, *, simulate: bool, port: int, seed: int, speed: str, fault: tuple[str, ...],
    only: tuple[str, ...], duration: str | None, into: str | None, config: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Serve recordings from DIR, or a simulated market, in the venues' own protocols on this machine."""
    from tradeflood.cli.replaying import replay_job, reread_job

    if simulate and folder is not None:
        raise UsageError("replay: say DIR or --simulate, not both")
    if into is not None:
        _only(context, "folder", "into", "config", "as_json")
        if folder is None:
            raise UsageError("replay: --into needs the DIR of a recording")
        return int(wait_for(reread_job(Path(folder), into, config, as_json=as_json)))
    return int(
        wait_for(
            replay_job(
                None if folder is None else Path(folder), port=port, seed=seed, speed=speed, faults=fault, venues=only,
                duration=duration, as_json=as_json,
            )
        )
    )  # fmt: skip


def _only(context: click.Context, *names: str) -> None:
    """Nothing, where no other option was stated than these.

    Raises UsageError that names one which does not go with them.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name not in names and source is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(
                f"{context.command.name}: {parameter.opts[0]} does not go with --into, which serves nothing"
            )


if __name__ == "__main__":
    main()
