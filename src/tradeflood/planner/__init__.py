"""From queries to the fewest requests: plan, explain, run. It has never heard of any venue, and it performs no I/O."""

from tradeflood.planner.explain import Explanation
from tradeflood.planner.parts import Held, Node, Venues
from tradeflood.planner.plan import Plan, Result
from tradeflood.planner.query import Query, query_of
from tradeflood.planner.run import Run

__all__ = ["Explanation", "Held", "Node", "Plan", "Query", "Result", "Run", "Venues", "query_of"]
