"""Printing live rows, as fast as they are read.

A reader such as `less` takes a page and no more. A write that waits for it would hold up everything: connections whose
pings nobody answers, the time after which to stop, and signals.
"""

from __future__ import annotations

import asyncio
import io
import json
import select
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tradeflood.cli.output import write_csv
from tradeflood.models import Model
from tradeflood.models.forms import to_json

LOOK_EVERY = 0.05
"""Seconds between two looks whether a reader takes more."""


class Printer:
    """Prints rows in one of the ways of `--out`, or keeps them for one `document`; it counts those that are out."""

    def __init__(self, model: type[Model], out: str) -> None:
        self._model, self._out, self._header = model, out, True
        self.count = 0
        self.kept: list[Any] = []

    async def show(self, batch: Sequence[Any]) -> None:
        """Nothing; the rows are printed, a line each. Cancel it, and those that nobody takes are not."""
        if self._out == "document":
            self.kept += batch
            self.count += len(batch)
            return
        for line in self._lines(batch):
            while not _has_room():  # noqa: ASYNC110 - nothing else tells of a pipe, and a file or terminal may be there
                await asyncio.sleep(LOOK_EVERY)
            sys.stdout.write(line)
            sys.stdout.flush()
            self.count += 1

    def _lines(self, batch: Sequence[Any]) -> Iterator[str]:
        for row in batch:
            if self._out == "csv":
                text = io.StringIO()
                write_csv(text, self._model, [row], header=self._header)
                self._header = False
                yield text.getvalue()
            else:
                values = to_json(row)
                yield (_words(values) if self._out == "table" else json.dumps(values, ensure_ascii=False)) + "\n"


def _has_room() -> bool:
    """Whether standard output takes a line now: a pipe that can be written takes a page of memory."""
    try:
        return bool(select.select([], [sys.stdout], [], 0)[1])
    except (OSError, ValueError):  # it is no file of the system
        return True


def _words(values: dict[str, Any]) -> str:
    return "  ".join(str(value) for name, value in values.items() if value is not None and name != "received_at")
