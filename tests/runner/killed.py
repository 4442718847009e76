"""A run that is killed, in a process of its own: the script behind test_kill.py.

Its argument is JSON: the configuration; the venues' clock; for how long (venue time, ns) to run; and optionally at
which announcement of which step to die, for how many seconds the store refuses, and limits that are smaller than usual.
Where it lives to the end, it prints what it did.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
import time

from tradeflood.coverage import Dataset, held
from tradeflood.errors import StoreError
from tradeflood.models import Trade
from tradeflood.models.time import MS, SECOND
from tradeflood.runner.execute import Patience
from tradeflood.runner.flood import Flood
from tradeflood.runner.metrics import Counts
from tradeflood.runner.runner import Runner
from tradeflood.store import SCHEMES
from tradeflood.store.chdb import ChdbStore


class VenueTime:
    """The clock of the venues that the other process serves: both count from the machine's start."""

    def __init__(self, start, begin, speed):
        self._start, self._begin, self._speed = start, begin, speed

    def now(self):
        return self._start + int((time.monotonic_ns() - self._begin) * self._speed)

    async def sleep(self, duration):
        await asyncio.sleep(max(0, duration) / SECOND / self._speed)


class Killer:
    """Dies at the n-th announcement of a step, at once and without a word."""

    def __init__(self, step, number, clock):
        self._step, self._left, self._clock = step, number, clock
        self.at = {}

    def __call__(self, step, /, **facts):
        self.at[step] = self._clock.now()
        if step == self._step:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


class Refusing(ChdbStore):
    """A store whose disk is full for some seconds from the first write on."""

    seconds = 0.0

    def __init__(self, url):
        super().__init__(url)
        self._until = None

    def write(self, batches, claims=()):
        if self._until is None:
            self._until = time.monotonic() + self.seconds
        if time.monotonic() < self._until:
            raise StoreError(f"store {self.url}: rows were not stored: NOT_ENOUGH_SPACE")
        super().write(batches, claims)


async def main(order):
    clock = VenueTime(*order["clock"])
    step, number = order.get("kill", (None, 0))
    killer = Killer(step, number, clock)
    counts = Counts(killer)
    for name, value in order.get("limits", {}).items():
        module, _, attribute = name.rpartition(".")
        setattr(importlib.import_module(f"tradeflood.{module}"), attribute, value)
    Refusing.seconds = order.get("refuses", 0)
    SCHEMES["chdb"] = Refusing
    patience = Patience(attempts=2, first_delay=20 * MS)
    async with Flood(order["config"], clock=clock, patience=patience, observe=counts) as flood:
        report = await Runner(flood).run(asyncio.Event(), order["for"])
        looked = look(flood.store, *order["look"]) if "look" in order else {}
    told = {
        "settled": killer.at["settle.begun"],
        "failures": report.failures,
        "lost": report.lost,
        "spilled": report.spilled,
    }
    sys.stdout.write(json.dumps({**told, **looked, **counts.told()}))


def look(store, venue, market):
    """How many trades there are, and how many of them in times that are held."""
    dataset = Dataset(Trade, venue, market, ("raw",))
    sure = held(store.claims(dataset))
    rows = store.read(dataset, 0, 1 << 62)
    return {"rows": len(rows), "held": sum(sure.touches(row.venue_time, row.venue_time + 1) for row in rows)}


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
