"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

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


def variant(interval: str | None, kind: str | None, origin: str | None, more: tuple[str, ...]) -> dict[str, str]:
    """The parts that were stated, by name."""
    stated = {"interval": interval, "kind": kind, "origin": origin}
    for text in more:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise click.UsageError(f"--variant {text!r}: write NAME=VALUE")
        stated[name] = value
    return {name: value for name, value in stated.items() if value is not None}
