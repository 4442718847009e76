"""The room plan of ARCHITECTURE.md, kept true by reading every import in the package."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "tradeflood"

FOUNDATION = {"models", "coverage", "turns"}
ABOVE_CONNECTORS = FOUNDATION | {"planner", "transport", "live", "connectors", "bindings"}
ABOVE_RUNNER = ABOVE_CONNECTORS | {"bus", "store", "replay"}
ABOVE_DOORS = ABOVE_RUNNER | {"runner"}

# What each room may import, of our own. What is not named is not allowed; a room always sees itself.
ROOMS: dict[str, set[str]] = {
    "models": set(),
    "coverage": {"models"},
    "turns": {"models", "coverage"},
    "planner": FOUNDATION,
    "transport": FOUNDATION,
    "live": FOUNDATION,
    "connectors": FOUNDATION | {"live"},
    "bindings": FOUNDATION | {"live"},
    "bus": {"models", "coverage"},
    "store": {"models", "coverage"},
    "replay": ABOVE_CONNECTORS,
    "runner": ABOVE_RUNNER,
    "cli": ABOVE_DOORS,
    "server": ABOVE_DOORS,
    "scaffold": ABOVE_DOORS,
    "testing": ABOVE_DOORS | {"cli", "server", "scaffold"},
}

# Single modules that are part of a room.
BESIDE = {
    "spans": "models",
    "errors": "models",
    "steps": "models",
    "hookspecs": "turns",
    "config": "runner",
    "plugins": "runner",
    "__main__": "cli",
}

# Third parties that only some rooms may name: networkx draws, httpx and websockets carry, the rest is an extra.
KEPT_IN: dict[str, set[str]] = {
    "networkx": {"planner"},
    "httpx": {"transport", "store"},
    "websockets": {"transport", "replay"},
    "picows": {"transport"},
    "python_socks": {"transport"},
    "chdb": {"store"},
    "pyarrow": {"models", "coverage", "store", "runner"},
    "polars": {"models", "coverage", "runner"},
    "pandas": {"models", "coverage", "runner"},
    "click": {"cli", "scaffold"},
    "rich": {"cli"},
}

HEAVY = ["networkx", "httpx", "websockets", "chdb", "pyarrow", "polars", "pandas", "picows", "uvloop", "python_socks"]


def room_of(module: str) -> str | None:
    """The room of a dotted name below tradeflood; none for the front page itself."""
    first = module.split(".", maxsplit=1)[0]
    return BESIDE.get(first, first) or None


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the package, as a dotted name below tradeflood ('' for the front page), with its file."""
    for path in sorted(SOURCE.rglob("*.py")):
        parts = list(path.relative_to(SOURCE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        yield ".".join(parts), path


def imports(module: str, path: Path) -> Iterator[tuple[int, str]]:
    """Every absolute name that the file imports, anywhere in it, with its line."""
    package = ["tradeflood", *filter(None, module.split("."))]
    if path.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            if stem == "tradeflood":  # from tradeflood import spans
                yield from ((node.lineno, f"tradeflood.{name.name}") for name in node.names)
            else:
                yield node.lineno, stem


def test_every_module_has_a_room():
    """A new module belongs into a room of the plan; a new room belongs into the plan first."""
    strangers = {room for name, _ in modules() if (room := room_of(name)) and room not in ROOMS}
    assert not strangers, f"not in the room plan: {sorted(strangers)}"


def test_imports_go_only_where_the_plan_allows():
    """A room imports only the rooms that the plan names for it."""
    wrong = []
    for name, path in modules():
        room = room_of(name)
        if room is None:  # the front page sees everybody
            continue
        for line, target in imports(name, path):
            if not target.startswith("tradeflood"):
                continue
            wanted = room_of(target.removeprefix("tradeflood").lstrip("."))
            if wanted is None:
                wrong.append(f"{path.relative_to(SOURCE)}:{line} imports the front page")
            elif wanted != room and wanted not in ROOMS.get(room, set()):
                wrong.append(f"{path.relative_to(SOURCE)}:{line} {room} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_third_parties_stay_in_their_rooms():
    """Only the room that owns a client, a dataframe or the picture names its library."""
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} {target}"
        for name, path in modules()
        for line, target in imports(name, path)
        if (kept := KEPT_IN.get(target.split(".")[0])) is not None and room_of(name) not in kept
    ]
    assert not wrong, "\n".join(wrong)


def test_the_planner_has_never_heard_of_a_venue():
    """No file of the planner, the turns or the transport names a venue that we ship."""
    venues = {path.stem for path in (SOURCE / "connectors").glob("*.py")} - {"__init__"}
    wrong = []
    for name, path in modules():
        if room_of(name) not in {"planner", "transport"}:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and text.lower() in venues:
                wrong.append(f"{path.relative_to(SOURCE)}:{node.lineno} {text}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("statement", ["import tradeflood", "import tradeflood as tf; tf.__all__; dir(tf)"])
def test_importing_loads_nothing_heavy(statement):
    """Saying hello loads no client, no dataframe, no store and no graph library."""
    script = f"import sys\n{statement}\nprint(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
