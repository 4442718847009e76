"""The picture of a plan: built when it is read, of the same things that are asked."""

import subprocess
import sys

import pytest

from tradeflood.coverage import Dataset
from tradeflood.models import Candle, Trade
from tradeflood.models.time import iso, minutes, parse_time
from tradeflood.planner import Plan, Query

START = parse_time("2025-06-01")
WHEN = {"start": iso(START), "end": iso(START + minutes(1_500))}


@pytest.fixture
def plan(venues):
    candles = Query(Candle, "binance:A1/USDT", interval="1m", **WHEN)
    part = Query(Candle, "binance:A1/USDT", interval="1m", start=iso(START + minutes(5)), end=iso(START + minutes(7)))
    return Plan(
        [candles, part, Query(Trade, "binance:A2/USDT", kind="merged", **WHEN)], venues, at=START + minutes(9_000)
    )


def test_the_graph_leads_from_queries_over_datasets_to_requests(plan):
    """Two queries of one dataset share it and its two pages; trades have to look first: their look-ups belong to no dataset."""
    graph = plan.graph
    candles, part, trades = plan.queries
    shared = Dataset(Candle, "binance", "A1/USDT", ("1m", "venue"))
    assert list(graph.successors(candles)) == list(graph.successors(part)) == [shared]
    requests = list(graph.successors(shared))
    assert sorted(dict(key[3])["startTime"] for key in requests) == [
        (START + minutes(after)) // 1_000_000 for after in (0, 1_000)
    ]
    assert list(graph.successors(trades)) == [Dataset(Trade, "binance", "A2/USDT", ("merged",))]
    parts = [data["part"] for _, data in graph.nodes(data=True)]
    assert {part: parts.count(part) for part in parts} == {"query": 3, "dataset": 2, "request": 4}
    assert len([node for node, data in graph.nodes(data=True) if data["part"] == "request"]) == len(plan.requests)


def test_every_node_has_words(plan):
    labels = {data["label"] for _, data in plan.graph.nodes(data=True)}
    assert "binance:A1/USDT candle 1m venue" in labels
    assert any(label.startswith("binance.klines /api/v3/klines?") for label in labels)
    assert any(label.startswith("Query Candle binance:A1/USDT") for label in labels)


def test_mermaid_and_dot_have_every_node_and_every_line(plan):
    graph, mermaid, dot = plan.graph, plan.mermaid(), plan.dot()
    assert mermaid.startswith("flowchart LR\n")
    assert mermaid.count(" --> ") == graph.number_of_edges()
    assert mermaid.count('["') == graph.number_of_nodes()
    assert dot.startswith("digraph plan {")
    assert dot.rstrip().endswith("}")
    assert dot.count(" -> ") == graph.number_of_edges()


def test_quotes_in_a_label_do_not_end_it(venues):
    plan = Plan([Query(Trade, 'binance:A"1/USDT', **WHEN)], venues, at=START + minutes(9_000))
    assert "A'1/USDT" in plan.mermaid()
    assert plan.mermaid().count('"') % 2 == 0


def test_looking_at_a_plan_asks_nothing_and_changes_nothing(plan):
    before = plan.requests
    _ = plan.graph, plan.explain(), plan.mermaid()
    assert plan.requests == before
    assert all(node.reply is None for node in plan.start().nodes.values())


def test_the_graph_library_is_loaded_only_when_a_graph_is_read():
    code = (
        "import sys, tradeflood as tf\n"
        "plan = tf.plan(tf.Query(tf.Candle, 'binance:BTC/USDT', interval='1m', start='2025-06-01', end='2025-06-02'))\n"
        "print(plan.explain())\n"
        "assert 'networkx' not in sys.modules\n"
        "plan.graph\n"
        "assert 'networkx' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
