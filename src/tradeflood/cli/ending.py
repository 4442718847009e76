"""How a command ends: its exit code, what it complains of, and the signals that ask it to.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 incomplete under --strict.
"""

from __future__ import annotations

import asyncio
import signal

import click

from tradeflood.errors import Incomplete, TradeFloodError, UsageError

DONE, FAILED, USAGE, INCOMPLETE = range(4)


def complain(text: str) -> None:
    """One line on standard error."""
    click.echo(f"tradeflood: {' '.join(text.split())}", err=True)


def code_of(error: TradeFloodError) -> int:
    """The exit code of an error."""
    if isinstance(error, Incomplete):
        return INCOMPLETE
    return USAGE if isinstance(error, UsageError) else FAILED


def stop_on_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """SIGINT and SIGTERM ask for an orderly end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
