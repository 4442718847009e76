"""The way of live rows into the store: in order, bounded, also where the store is slow or takes none."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from tradeflood.coverage import Claim
from tradeflood.errors import StoreError, TradeFloodError
from tradeflood.models import Model
from tradeflood.models.time import SECOND
from tradeflood.runner.spill import Batch, Spill
from tradeflood.store import Store

SLOW = 2.0
"""Seconds after which a write that is still under way is slow: where there is a spill, what comes next goes there."""

CLOSE_WITHIN = 10.0
"""Seconds that the last write may take."""

FIRST_DELAY, LONGEST_DELAY = SECOND, 30 * SECOND
"""How long a store that refuses is left alone: twice as long each time."""

AT_ONCE = 1.0
"""For how many seconds spilled batches are drained before new rows are looked at again."""

_FULL = (
    "disk full",
    "no space left",
    "not_enough_space",
    "file too large",
    "disk quota exceeded",
    "errno: 28",
    "errno: 27",
)


class Outlet:
    """Writes batches one after the other, as a store does, and never raises because the store refuses.

    What the store does not take waits: in the spill, where there is one with room, else here; then `takes` is False,
    and whoever has more keeps it, or `drops` what is too much. Claims wait with their rows. `trouble` names the state while it lasts, and `blame`
    hears of it once. Used by one thread at a time.
    """

    def __init__(
        self,
        store: Store,
        now: Callable[[], int] = time.time_ns,
        spill: Spill | None = None,
        blame: Callable[[TradeFloodError], None] = lambda _: None,
        *,
        drops: bool = False,
    ) -> None:
        self._store, self._now, self._spill, self._blame = store, now, spill, blame
        self.columnar = store.columnar
        self._beyond = "what comes is dropped" if drops else "the feeds are not read"
        self._waiting: deque[Batch] = deque()
        self._flight: Future[None] | None = None
        self._spilled = False  # whether what is being written is the first of the spill
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="tradeflood-store")
        self._again_at = 0
        self._delay = FIRST_DELAY
        self._no_room: str | None = None
        self.trouble: str | None = None
        self.lost = 0
        if spill is not None:
            spill.open()
            self._tell()

    @property
    def observe(self) -> Callable[..., None]:
        """Who hears of steps."""
        return self._store.observe

    @property
    def takes(self) -> bool:
        """Whether more may come now."""
        return not self._waiting

    @property
    def rests(self) -> bool:
        """Whether the store has refused so lately that it is left alone."""
        return self.trouble is not None and self._now() < self._again_at

    @property
    def spilled(self) -> int:
        """How many rows wait in the spill."""
        return self._spill.rows if self._spill is not None else 0

    def write(self, rows: Mapping[type[Model], Sequence[Model]], claims: Sequence[Claim] = ()) -> None:
        """Nothing; the batch is stored, or spilled, or waits. Without one, what waits gets another chance."""
        batch = Batch(rows, claims)
        if batch.count or claims:
            self._waiting.append(batch)
        self._advance(SLOW if self._spill is not None else None, AT_ONCE)

    def close(self) -> None:
        """Nothing; what waits got its last chance, what cannot be kept is counted in `lost`, and the writer is gone."""
        self._again_at = 0
        self._advance(CLOSE_WITHIN, CLOSE_WITHIN)
        self._writer.shutdown(wait=False)
        self.lost = sum(batch.count for batch in self._waiting)
        why = self.trouble or "the store is slow"
        if self.lost:
            self._blame(
                StoreError(f"{why}: {self.lost} rows could not be kept; what coverage lacks is asked for again")
            )
        if self._spill is not None and len(self._spill):
            text = f"{why}: {self._spill.rows} rows wait in {self._spill.folder}; the next run stores them first"
            self._blame(StoreError(text))

    # ---------------------------------------------------------------- one step after the other

    def _advance(self, patience: float | None, within: float) -> None:
        """Write what is next, again and again, until nothing is left, the store refuses, or others want their turn."""
        until = time.monotonic() + within
        if self._flight is not None or self._now() < self._again_at or self._has_spilled():
            self._shelve()
        while self._flight is not None or self._now() >= self._again_at:
            try:
                if self._flight is None and not self._begin():
                    return
                assert self._flight is not None
                self._flight.result(patience)
            except (TimeoutError, StoreError) as error:
                if isinstance(error, TimeoutError) and not self._is_own(error):
                    self.refused("store: slow")
                else:
                    self._flight = None
                    self.refused(state_of(error))
                self._shelve()
                return
            self._landed()
            if time.monotonic() >= until:
                return

    def _begin(self) -> bool:
        """Whether there is a batch to write; it is on its way."""
        batch = self._spill.first() if self._spill is not None else None
        self._tell()
        self._spilled = batch is not None
        if batch is None and self._waiting:
            batch = self._waiting[0]
        if batch is not None:
            self._flight = self._writer.submit(self._store.write, batch.rows, batch.claims)
        return batch is not None

    def _is_own(self, error: TimeoutError) -> bool:
        """Whether the store itself has given up waiting for something; else it is we who did, and the write goes on."""
        return self._flight is not None and self._flight.done() and self._flight.exception() is error

    def _landed(self) -> None:
        """The batch that was on its way is stored."""
        self._flight = None
        if self._spilled and self._spill is not None:
            self._spill.drop()
        else:
            self._waiting.popleft()
        self.took()

    def _has_spilled(self) -> bool:
        return self._spill is not None and len(self._spill) > 0

    def _shelve(self) -> None:
        """What waits goes into the spill, as far as there is room; also what is on its way, until it is stored."""
        while self._spill is not None and self._waiting:
            try:
                self._spill.append(self._waiting[0])
            except StoreError as error:
                if self._no_room is None:
                    self._blame(error)
                self._no_room = str(error)
                return
            self._no_room = None
            self._spilled = True  # a batch on its way was the first to wait, so it is the first that is spilled
            self._waiting.popleft()

    # ---------------------------------------------------------------- its state

    def refused(self, state: str) -> None:
        """The store has not taken a batch: name the state, and leave it alone for a while."""
        self._again_at = self._now() + self._delay
        self._delay = min(LONGEST_DELAY, 2 * self._delay)
        self._name(state)

    def took(self) -> None:
        """The store has taken a batch."""
        self._again_at, self._delay = 0, FIRST_DELAY
        if self.trouble is not None:
            self.trouble = None
            self.observe("store.back")

    def _name(self, state: str) -> None:
        if self.trouble == state:
            return
        if self.trouble is None:
            self.observe("store.refused", why=state)
        self.trouble = state
        where = f"in memory, and {self._beyond} once they are too many"
        if self._spill is not None:
            where = f"in {self._spill.folder}"
        self._blame(StoreError(f"{state}; rows wait {where}"))

    def _tell(self) -> None:
        if self._spill is not None:
            troubles, self._spill.troubles = self._spill.troubles, []
            for text in troubles:
                self._blame(StoreError(text))


def state_of(error: Exception) -> str:
    """The state of a store that raised this: a full disk, or a refusal in its own words."""
    text = str(error)
    return "store: disk full" if any(sign in text.lower() for sign in _FULL) else f"store: refuses: {text}"
