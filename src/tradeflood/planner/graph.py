"""The picture of a plan: queries, datasets and requests as a networkx graph, and as Mermaid and DOT text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tradeflood.planner.run import Run

if TYPE_CHECKING:
    import networkx as nx


def graph_of(run: Run) -> nx.DiGraph[Any]:
    """A directed graph: query → dataset → request, each node with a `label` and a `part`."""
    import networkx as nx

    graph: nx.DiGraph[Any] = nx.DiGraph()
    for query in run.queries:
        graph.add_node(query, part="query", label=repr(query)[1:-1])
        for work in run.parts(query):
            graph.add_edge(query, work.ask.dataset)
    for dataset in run.works:
        graph.add_node(dataset, part="dataset", label=dataset.label)
    for node in run.nodes.values():
        graph.add_node(node.key, part="request", label=repr(node))
        for _, _, wants in node.uses:
            for want in wants:
                if want.into is not None:
                    graph.add_edge(want.into.ask.dataset, node.key)
    return graph


def mermaid_of(graph: nx.DiGraph[Any]) -> str:
    """The graph as a Mermaid flow chart."""
    numbers = {node: f"n{index}" for index, node in enumerate(graph)}
    lines = ["flowchart LR"]
    lines += [f'  {numbers[node]}["{_plain(data["label"])}"]' for node, data in graph.nodes(data=True)]
    lines += [f"  {numbers[a]} --> {numbers[b]}" for a, b in graph.edges]
    return "\n".join(lines)


def dot_of(graph: nx.DiGraph[Any]) -> str:
    """The graph in DOT, for Graphviz."""
    numbers = {node: f"n{index}" for index, node in enumerate(graph)}
    lines = ["digraph plan {", "  rankdir=LR;"]
    lines += [f'  {numbers[node]} [label="{_plain(data["label"])}"];' for node, data in graph.nodes(data=True)]
    lines += [f"  {numbers[a]} -> {numbers[b]};" for a, b in graph.edges]
    return "\n".join([*lines, "}"])


def _plain(label: str) -> str:
    return label.replace('"', "'")
