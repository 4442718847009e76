"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

NOT_PARTS = frozenset({"self", "model", "market", "markets", "start", "end"})
"""What the session is told beside the parts of a variant."""

F = TypeVar("F", bound=Callable[..., Any])


def config_option(command: F) -> F:
    """`--config`, on every command."""
    return click.option(
        "--config",
        "config",
        type=click.Path(),
        metavar="FILE",
        help="Configuration file (default: ./tradeflood.toml, if it exists).",
    )(command)


def json_option(command: F) -> F:
    """`--json`."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document on standard output, nothing else."
    )(command)


def variant_options(command: F) -> F:
    """The parts of a model's variant."""
    for option in (
        click.option("--origin", help="Of candles: venue (default) or trades."),
        click.option("--kind", help="Of trades: raw (default) or merged."),
        click.option("--interval", help="Of candles: 1s, 1m, 1h, 1d, 1d@+08:00, …"),
        click.option(
            "--variant", "more", multiple=True, metavar="NAME=VALUE", help="Of other models: a part of their key."
        ),
    ):
        command = option(command)
    return command


def range_options(command: F) -> F:
    """`--start` and `--end`."""
    for option in (
        click.option("--end", help="First moment not asked for (default: now)."),
        click.option("--start", help="First moment asked for, as 2024-01-31 or 2024-01-31T12:00:00Z."),
    ):
        command = option(command)
    return command


def form(out: str, path: str | None, *, as_json: bool) -> str:
    """What `--out` says, which `--json` may say as well.

    Raises UsageError where both say something else, and where a `--file` is named that nothing would be written to.
    """
    if as_json and out in {"csv", "parquet"}:
        raise click.UsageError(f"--json and --out {out}: say one of them")
    if path is not None and not as_json and out in {"table", "store"}:
        raise click.UsageError("--file takes csv, json or parquet; say which with --out")
    return "json" if as_json and out != "store" else out


def variant(interval: str | None, kind: str | None, origin: str | None, more: tuple[str, ...]) -> dict[str, str]:
    """The parts that were stated, by name, each once."""
    stated = {"interval": interval, "kind": kind, "origin": origin}
    for text in more:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise click.UsageError(f"--variant {text!r}: write NAME=VALUE")
        if name in NOT_PARTS or stated.get(name) is not None:
            raise click.UsageError(
                f"--variant {text!r}: {name} has an option or an argument of its own, or was said before"
            )
        stated[name] = value
    return {name: value for name, value in stated.items() if value is not None}
