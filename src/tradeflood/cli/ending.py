"""How a command ends: its exit code, what it complains of, and the signals that ask it to.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 incomplete under --strict.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import click

from tradeflood.errors import Incomplete, TradeFloodError, UsageError

T = TypeVar("T")

DONE, FAILED, USAGE, INCOMPLETE = range(4)
INTERRUPTED = 128 + signal.SIGINT

ENDING = (signal.SIGINT, signal.SIGTERM)
"""The signals that ask for an end."""

AGAIN_AFTER = 1.0
"""Seconds after which another signal is meant as one: `timeout`, and wrappers on a terminal, send the same twice."""

STOPPING = "stopping: what is under way is finished first; another signal ends it at once"


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
    _hear(loop, ENDING, lambda _: stop.set())


async def cancelled_by_signals(work: Coroutine[Any, Any, T]) -> T:
    """The result of work that SIGINT and SIGTERM cancel, unless it hears them itself; then their exit code."""
    task = asyncio.current_task()
    assert task is not None
    by: list[signal.Signals] = []

    def cancel(number: signal.Signals) -> None:
        by.append(number)
        task.cancel()

    # In the background of a script SIGINT is ignored, and stays so.
    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    _hear(asyncio.get_running_loop(), heard, cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if by:
            raise click.exceptions.Exit(128 + by[0]) from None
        raise


def _hear(
    loop: asyncio.AbstractEventLoop, numbers: Sequence[signal.Signals], end: Callable[[signal.Signals], None]
) -> None:
    """The first signal asks for an end; where that takes a while, another one ends the process at once.

    It may die at any moment: claims never precede their rows. A thread that is at work is waited for otherwise.
    """
    asked: float | None = None

    def hear(number: signal.Signals) -> None:
        nonlocal asked
        if asked is None:
            asked = loop.time()
            end(number)
            loop.call_later(AGAIN_AFTER, partial(click.echo, STOPPING, err=True))
        elif loop.time() - asked > AGAIN_AFTER:
            complain(f"ended at once, by {number.name}; what was not stored yet is not claimed either")
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in numbers:
        loop.add_signal_handler(number, hear, number)
