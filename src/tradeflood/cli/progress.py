"""How long work is shown: a bar on a terminal, a plain line now and then elsewhere; nothing where it is short."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import click

from tradeflood.models.time import SECOND, iso
from tradeflood.planner import Node, Run
from tradeflood.runner.deep import Advance
from tradeflood.transport import Limiter, Pause

SHORT = 2.0
"""Seconds before anything is shown."""

LINE_EVERY = 5.0

LOOK_EVERY = 1.0
"""Seconds between two looks at what venues have told us to wait for."""


class _Shown:
    """A bar on a terminal, or a line now and then, once the work has taken a while."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _show(self, share: float, words: str, line: str) -> None:
        """How much is done, from 0 to 1; the words beside the bar, and the line where there is none."""
        now = time.monotonic()
        if now - self._began < SHORT:
            return
        if sys.stderr.isatty():
            self._draw(share, words)
        elif now - self._said >= LINE_EVERY:
            self._said = now
            click.echo(line, err=True)

    def _draw(self, share: float, words: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=1.0)
            self._bar.start()
        self._bar.update(self._task, completed=min(1.0, share), description=words)


class Progress(_Shown):
    """Hears of every request that is over, and says on standard error how many are left."""

    def __init__(self) -> None:
        super().__init__()
        self._done = 0

    def __call__(self, run: Run, node: Node) -> None:
        """One request of a run is over."""
        del node
        self._done += 1
        total = self._done + run.outstanding
        words = f"{self._done} of {total} requests"
        self._show(self._done / total, words, words)


class Depth(_Shown):
    """Hears how far a filling has got, and says it: the share of the range, rows, requests, and where it is."""

    def __call__(self, advance: Advance) -> None:
        """One step of a filling."""
        words = told(advance)
        self._show(advance.share, words, f"{advance.share:.1%}: {words}")


@contextmanager
def pauses_named(limiter: Limiter) -> Iterator[None]:
    """As long as it is entered, every pause of some length that a venue orders is a line on standard error, once."""

    async def watch() -> None:
        named: dict[tuple[str, str | None, str], int] = {}
        while True:
            for pause in limiter.pauses(longer=int(LINE_EVERY * SECOND)):
                key = (pause.venue, pause.budget, pause.proxy)
                if named.get(key) != pause.until:
                    named[key] = pause.until
                    click.echo(str(pause), err=True)
            await asyncio.sleep(LOOK_EVERY)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


def pauses_json(pauses: Sequence[Pause]) -> list[dict[str, Any]]:
    """Pauses that venues have ordered as JSON values; `budget` is null where we are banned from a whole address."""
    return [
        {"venue": pause.venue, "budget": pause.budget, "proxy": pause.proxy or None, "until": pause.moment,
         "waiting": list(pause.held)}
        for pause in pauses
    ]  # fmt: skip


class Lines:
    """Says on standard error now and then how far something is."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, text: str) -> None:
        """So far it is."""
        now = time.monotonic()
        if now - self._said >= LINE_EVERY:
            self._said = now
            click.echo(text, err=True)


def told(advance: Advance) -> str:
    """How far a filling has got, in words."""
    text = f"{advance.rows} rows, {advance.requests} requests"
    if advance.dataset is None:
        return text
    where = advance.dataset.label + (f" {iso(advance.at)}" if advance.at else "")
    return f"{text}, {'waiting for the venue' if advance.step == 'waiting' else 'at'} {where}"
