"""What a plan is going to do, told before it does it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from attrs import field, frozen

from tradeflood.coverage.evidence import PAST_HORIZON
from tradeflood.models.time import SECOND, iso
from tradeflood.planner.parts import NEVER
from tradeflood.planner.query import Query
from tradeflood.planner.run import Run
from tradeflood.turns import Chain

_NEARLY = 0.8  # of a budget
_SOON = 0.1  # of a horizon


@frozen
class Lane:
    """The requests of one turn on one budget."""

    venue: str
    turn: str
    budget: str
    requests: int
    weight: int
    limit: int
    per: int
    grows: bool


@frozen
class Explanation:
    """Requests asked for, merged, dropped and left; their weight per budget; what waits; what may go wrong.

    `asked` is what every query would need alone, `merged` what planning them together saves, `dropped` what the
    store holds already, `left` what will be requested. `duration` in ns is the least that the budgets allow.
    """

    asked: int
    merged: int
    dropped: int
    left: int
    lanes: tuple[Lane, ...]
    waiting: tuple[str, ...]
    risks: tuple[str, ...]
    duration: int
    failures: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The explanation as JSON values; the duration in seconds."""
        return {
            "requests": {"asked": self.asked, "merged": self.merged, "dropped": self.dropped, "left": self.left},
            "turns": [
                {
                    "venue": lane.venue, "turn": lane.turn, "budget": lane.budget, "requests": lane.requests,
                    "weight": lane.weight, "limit": lane.limit, "per_seconds": lane.per // SECOND,
                    "at_least": lane.grows,
                }
                for lane in self.lanes
            ],
            "waiting": list(self.waiting),
            "risks": list(self.risks),
            "failures": list(self.failures),
            "duration_seconds": self.duration / SECOND,
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [
            f"{_count(self.left, 'request')}: {self.asked} asked for, {self.merged} merged, {self.dropped} held by the store already"
        ]
        for lane in self.lanes:
            least = "at least " if lane.grows else ""
            lines.append(
                f"  {lane.venue}.{lane.turn}: {least}{_count(lane.requests, 'request')}, weight {lane.weight} "
                f"of {lane.limit} per {lane.per / SECOND:g} s ({lane.budget})"
            )
        lines.append(f"takes at least {self.duration / SECOND:g} s by the budgets")
        lines += [f"waits: {text}" for text in self.waiting]
        lines += [f"risk: {text}" for text in self.risks]
        lines += [f"failure: {text}" for text in self.failures]
        return "\n".join(lines)


def explanation(
    run: Run, queries: Sequence[Query[Any]], start: Callable[[Sequence[Query[Any]]], Run] | None = None
) -> Explanation:
    """The explanation of a run that has not begun. `start` begins one without a store, to count what is saved."""
    left = len(run.nodes)
    together = alone = left
    if start is not None:
        distinct = list(dict.fromkeys(queries))
        together = len(start(distinct).nodes)
        alone = sum(len(start([query]).nodes) for query in distinct)
    lanes = _lanes(run)
    weights: Counter[tuple[str, str]] = Counter()
    budgets = {}
    for lane in lanes:
        weights[lane.venue, lane.budget] += lane.weight
        budgets[lane.venue, lane.budget] = lane
    duration = max(
        ((weights[key] - 1) // lane.limit * lane.per for key, lane in budgets.items() if weights[key]), default=0
    )
    return Explanation(
        alone, alone - together, together - left, left, lanes, tuple(_waiting(run)), tuple(_risks(run, weights, budgets)),
        duration, tuple(_failures(run)),
    )  # fmt: skip


def _lanes(run: Run) -> tuple[Lane, ...]:
    count: Counter[tuple[str, str, str]] = Counter()
    weight: Counter[tuple[str, str, str]] = Counter()
    one = {}
    for node in run.nodes.values():
        key = (node.key[0], node.bound.spec.name, node.bound.budget.name)
        count[key] += 1
        weight[key] += node.weight
        one[key] = node.bound
    return tuple(
        Lane(*key, count[key], weight[key], bound.budget.limit, bound.budget.per, isinstance(bound.spec.pages, Chain))
        for key, bound in sorted(one.items())
    )


def _waiting(run: Run) -> list[str]:
    names = sorted({work.ask.dataset.label for work in run.waiting_works()})
    shown = [f"{name}: an answer is needed before the rest can be planned" for name in names[:5]]
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} more datasets need an answer before the rest can be planned")
    shown += [f"{venue}: the market list, for {_count(count, 'name')}" for venue, count in run.unresolved().items()]
    return shown


def _risks(run: Run, weights: Counter[tuple[str, str]], budgets: dict[tuple[str, str], Lane]) -> list[str]:
    out = []
    for key, lane in budgets.items():
        if weights[key] > _NEARLY * lane.limit:
            out.append(
                f"{lane.venue}: weight {weights[key]} against {lane.limit} per {lane.per / SECOND:g} s ({lane.budget})"
            )
    soon = [node for node in run.nodes.values() if node.deadline != NEVER]
    for node in sorted(soon)[:1]:
        horizon = node.deadline - node.page.start
        if node.deadline - run.now < _SOON * horizon:
            out.append(
                f"{node.key[0]}.{node.bound.spec.name}: the oldest page passes its horizon at {iso(node.deadline)}"
            )
    out += [
        f"{work.ask.dataset.label}: {iso(claim.start)} … {iso(claim.end)} is past the venue's horizon"
        for work in run.works.values()
        for claim in work.claims
        if claim.evidence == PAST_HORIZON
    ]
    return out


def _failures(run: Run) -> list[str]:
    found = [str(failure.error) for failures in run.failures.values() for failure in failures]
    return found + [str(failure.error) for work in run.works.values() for failure in work.failures]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
