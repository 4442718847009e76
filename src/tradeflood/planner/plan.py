"""Plan: queries and the merged graph of requests that answers them; looked at before it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tradeflood.coverage import Frame
from tradeflood.errors import UsageError
from tradeflood.planner.explain import Explanation, explanation
from tradeflood.planner.graph import dot_of, graph_of, mermaid_of
from tradeflood.planner.parts import Held, Venues
from tradeflood.planner.query import Query, now
from tradeflood.planner.run import Run

if TYPE_CHECKING:
    import networkx as nx


class Result(Sequence[Frame[Any]]):
    """The frames of a plan, in the order of its queries."""

    def __init__(self, frames: Sequence[Frame[Any]]) -> None:
        self._frames = tuple(frames)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: Any) -> Any:
        return self._frames[index]

    def __iter__(self) -> Iterator[Frame[Any]]:
        return iter(self._frames)

    def __repr__(self) -> str:
        return f"<Result {list(self._frames)}>"


class Plan:
    """A set of queries, merged: the same requests whatever their order, grouping or repetition.

    Nothing is asked before `run`. `plan | other` is the plan of both.
    """

    def __init__(
        self,
        queries: Sequence[Query[Any]],
        venues: Venues,
        *,
        store: Held | None = None,
        at: int | None = None,
        runner: Callable[[Plan], Result] | None = None,
    ) -> None:
        self.queries, self.venues, self.store = tuple(queries), venues, store
        self.now = now() if at is None else at
        self._runner = runner
        for query in self.queries:
            if not isinstance(query, Query):
                raise UsageError(f"a plan is made of queries, not {query!r}; write tradeflood.Query(…)")

    def __or__(self, other: Plan) -> Plan:
        return Plan(
            self.queries + other.queries,
            self.venues,
            store=self.store,
            at=max(self.now, other.now),
            runner=self._runner,
        )

    def start(self) -> Run:
        """A fresh run of this plan, nothing asked yet."""
        return Run(self.queries, self.venues, self.now, self.store)

    @cached_property
    def _looked(self) -> Run:
        return self.start()

    @property
    def requests(self) -> frozenset[Any]:
        """The identities of the requests that can be known before anything is asked."""
        return frozenset(self._looked.nodes)

    def explain(self) -> Explanation:
        """Requests asked, merged, dropped and left; weight per budget; duration; what waits; risks. Print it."""
        return self._explained

    @cached_property
    def _explained(self) -> Explanation:
        return explanation(self._looked, self.queries, lambda queries: Run(queries, self.venues, self.now))

    @property
    def graph(self) -> nx.DiGraph[Any]:
        """The plan as a networkx graph, built when it is read."""
        return graph_of(self._looked)

    def mermaid(self) -> str:
        """The graph as a Mermaid flow chart."""
        return mermaid_of(self.graph)

    def dot(self) -> str:
        """The graph in DOT."""
        return dot_of(self.graph)

    def run(self) -> Result:
        """Ask what must be asked; the frames in the order of the queries."""
        if self._runner is None:
            raise UsageError("this plan has nobody to run it: await flood.run(plan), or make it with tradeflood.plan")
        return self._runner(self)
