"""The table of steps is what is announced, no more and no less."""

import ast
from pathlib import Path

from tradeflood.steps import PAIRS, STEPS, ignore

SOURCE = Path(__file__).resolve().parents[1] / "src" / "tradeflood"


def announced():
    """Every name that any module announces, with the place."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and getattr(node.func, "attr", getattr(node.func, "id", "")) in {"observe", "_observe"}:  # fmt: skip
                name = node.args[0]
                if isinstance(name, ast.Constant):
                    yield name.value, f"{path.relative_to(SOURCE)}:{node.lineno}"


def test_what_is_announced_is_in_the_table():
    assert [f"{place} {name}" for name, place in announced() if name not in STEPS] == []


def test_what_is_in_the_table_is_announced():
    assert sorted(STEPS.keys() - {name for name, _ in announced()}) == []


def test_every_step_says_what_it_means():
    assert [name for name, means in STEPS.items() if not means] == []
    assert len(STEPS) >= 25


def test_pairs_are_steps():
    assert PAIRS.keys() | set(PAIRS.values()) <= STEPS.keys()


def test_nobody_listens_unless_told():
    assert ignore("run.begun", store="memory://") is None
