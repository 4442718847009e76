"""The steps of a run, each announced to one observer: what metrics count, and where a test may pull the plug.

An observer is called in the thread that takes the step, also in several at once; it must be quick and not raise.
Where several of one kind go on at once, `of` in the facts says which one a step belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol


class Observer(Protocol):
    """Whoever wants to hear of steps: called with a name of `STEPS` and what there is to know about it."""

    def __call__(self, step: str, /, **facts: Any) -> None:
        """Nothing; the step is noted."""


def ignore(step: str, /, **facts: Any) -> None:
    """Nothing: the observer of those who have none."""


STEPS: Mapping[str, str] = MappingProxyType({
    # the run
    "run.begun": "the store is open, what is wanted is being resolved",
    "run.report": "the report of a run is made",
    "pass.begun": "a pass looks for what coverage lacks",
    "pass.planned": "a pass knows what to ask for",
    "pass.ended": "what a pass asked for is answered and stored",
    "settle.begun": "the run is over: every right edge is asked for",
    "settle.ended": "every right edge has been asked for, or the time for it was up",
    # requests
    "request.sent": "a request is about to be sent",
    "request.answered": "a request has its good answer, which is not read yet",
    "request.failed": "a request has failed for good",
    "request.read": "the rows of an answer are in memory",
    "answers.keeping": "what some requests brought is about to be stored",
    "answers.kept": "what some requests brought is stored",
    # streams
    "stream.opening": "a connection is about to be opened",
    "stream.opened": "a connection is open; nothing is subscribed yet",
    "stream.acknowledged": "the venue has acknowledged every subscription of a connection",
    "stream.lost": "a connection was lost",
    "stream.replaced": "a successor has taken over from a connection whose end was near",
    "stream.mute": "a witness has contradicted the silence of a subscription",
    "stream.resubscribed": "a mute topic is subscribed anew",
    "stream.reopened": "another connection is asked for, because a subscription was mute",
    "stream.fallback": "a mute subscription is polled from now on",
    "stream.recovered": "a subscription that was mute speaks again",
    "stream.polled": "rows came by polling",
    "stream.paused": "as many rows wait as may: nothing more is read",
    "stream.resumed": "the rows that waited are taken: reading goes on",
    "stream.dropped": "the rows that waited are taken: those that came meanwhile were dropped, as `overflow` asks",
    # live rows on their way into the store
    "batch.taken": "a batch of live rows is taken from the stream",
    "batch.proved": "the claims of a batch are made",
    "batch.kept": "a batch is handed on: stored, spilled, or waiting for a store that takes none",
    "edges.closing": "the claims that were still growing are about to be stored",
    "edges.closed": "the claims that were still growing are handed on",
    # the store
    "store.writing": "rows and claims are about to be written",
    "rows.writing": "the rows of one model are about to be written",
    "rows.written": "the rows of one model are written",
    "claims.writing": "the rows are written, their claims are about to be",
    "claims.written": "the claims are written",
    "claims.replacing": "some claims are about to make way for fewer that say the same",
    "claims.joined": "the fewer claims are written, those that make way are still there",
    "claims.replaced": "the claims that made way are gone",
    "store.written": "rows and claims are written",
    "store.migrating": "a change of the schema is about to be made",
    "store.changed": "a change of the schema is made, and not yet recorded",
    "store.migrated": "a change of the schema is made and recorded",
    "store.refused": "the store does not take rows now",
    "store.back": "the store takes rows again",
    # the disk beside a store that does not take rows
    "spill.appending": "a batch is about to be appended to the spill",
    "spill.appended": "a batch is appended to the spill, perhaps not yet on the disk",
    "spill.synced": "a batch is in the spill and on the disk",
    "spill.full": "the spill has no room for a batch",
    "spill.draining": "a spilled batch is about to be written to the store",
    "spill.drained": "a spilled batch is in the store and still in the spill",
    "spill.truncated": "batches that are in the store are gone from the spill",
})  # fmt: skip
"""Every step by its name, and what it means. `before` and `after` are steps of their own, so that each is a place to fail at."""

PAIRS: Mapping[str, str] = MappingProxyType({
    "pass.ended": "pass.begun",
    "settle.ended": "settle.begun",
    "request.answered": "request.sent",
    "request.failed": "request.sent",
    "answers.kept": "answers.keeping",
    "stream.opened": "stream.opening",
    "batch.kept": "batch.taken",
    "edges.closed": "edges.closing",
    "claims.replaced": "claims.replacing",
    "store.written": "store.writing",
    "rows.written": "rows.writing",
    "claims.written": "claims.writing",
    "store.migrated": "store.migrating",
    "store.back": "store.refused",
    "spill.synced": "spill.appending",
    "spill.drained": "spill.draining",
})  # fmt: skip
"""The step that ends something → the step that began it: between the two lies a duration."""
