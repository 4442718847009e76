"""What a run did, in numbers: an observer that counts steps and measures what lies between two of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from threading import Lock, get_ident
from typing import Any

from attrs import define

from tradeflood.models.time import MS
from tradeflood.steps import PAIRS, Observer, ignore

_BEGINS = frozenset(PAIRS.values())
OPEN = 10_000
"""How many steps may have begun and not ended before the oldest is forgotten: some never end, such as a request that is put back."""


@define
class Spent:
    """How often something took time, and how much (ns)."""

    count: int = 0
    total: int = 0
    longest: int = 0

    def add(self, duration: int) -> None:
        """Take one more in."""
        self.count += 1
        self.total += duration
        self.longest = max(self.longest, duration)


class Counts:
    """Counts every step, and the time between the steps that `PAIRS` names. Hands each on to `then`."""

    def __init__(self, then: Observer = ignore, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._then, self._clock = then, clock
        self._lock = Lock()
        self._begun: dict[tuple[str, Any], int] = {}
        self.steps: Counter[str] = Counter()
        self.spent: dict[str, Spent] = {}

    def __call__(self, step: str, /, **facts: Any) -> None:
        """Nothing; the step is counted."""
        now = self._clock()
        with self._lock:
            self.steps[step] += 1
            which = id(facts["of"]) if "of" in facts else get_ident() if _stays(step) else None
            if (first := PAIRS.get(step)) is not None and (began := self._begun.pop((first, which), None)) is not None:
                self.spent.setdefault(step, Spent()).add(now - began)
            if step in _BEGINS:
                self._begun[step, which] = now
                if len(self._begun) > OPEN:
                    del self._begun[next(iter(self._begun))]
        self._then(step, **facts)

    def told(self) -> dict[str, Any]:
        """The numbers for a report: how often each step was taken, and how long (ms) what it ends took."""
        with self._lock:
            return {
                "steps": dict(sorted(self.steps.items())),
                "took_ms": {
                    step: {
                        "count": spent.count,
                        "mean": round(spent.total / spent.count / MS, 3),
                        "longest": round(spent.longest / MS, 3),
                    }
                    for step, spent in sorted(self.spent.items())
                },
            }


def _stays(step: str) -> bool:
    """Whether a step and its pair are taken in one thread, of which there may be several at once."""
    return step.partition(".")[0] in {"rows", "claims", "answers"} or step in {"store.writing", "store.written"}
