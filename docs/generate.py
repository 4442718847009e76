"""Writes the parts of the pages that follow from the code, between their marks; `--check` only looks.

A page asks for a part with a pair of comments, and everything between them is replaced:

    <!-- generated: fields trade -->
    <!-- end of generated -->
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
BLOCK = re.compile(r"(<!-- generated: (\w+)(?: (\S+))? -->\n).*?(<!-- end of generated -->)", re.DOTALL)
WIDTH = 100
EVERY_SYMBOL = 10_000  # no venue lists more: a turn that takes so many takes them all


WITHOUT_WORDS = {
    "Time": "A moment: integer nanoseconds since 1970 in UTC. Of a model's field.",
    "hookimpl": "Marks a function as a plug-in's answer to a hook.",
}
"""What exports are that have no docstring of their own, but that of the library that made them."""


class NotThereError(Exception):
    """The code that a part follows from is not written yet; the part is left as it stands."""


def module(name: str) -> Any:
    """The module of a dotted name. Only its absence is forgiven: an error inside it is an error."""
    stem = ROOT / "src" / Path(*name.split("."))
    if not stem.with_suffix(".py").exists() and not (stem / "__init__.py").exists():
        raise NotThereError(name)
    return importlib.import_module(name)


# --- commands ---------------------------------------------------------------------------------------------------------


def app() -> click.Group:
    """The group that holds every command."""
    group: click.Group = module("tradeflood.cli.main").app
    return group


def helps(command: click.Command, parent: click.Context | None, name: str) -> Iterator[tuple[str, str]]:
    """The command's full name with its help, then those of its own commands by name."""
    context = click.Context(command, parent=parent, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for each in sorted(command.list_commands(context)):
            found = command.get_command(context, each)
            if found is not None and not found.hidden:
                yield from helps(found, context, each)


def commands(_: str) -> str:
    """Every command with what its `--help` prints."""
    parts = []
    for path, text in helps(app(), None, "tradeflood"):
        clean = "\n".join(line.rstrip() for line in text.splitlines())
        parts.append(f"## {path}\n\n```text\n{clean}\n```\n")
    return "\n".join(parts)


# --- models -----------------------------------------------------------------------------------------------------------


def fields(name: str) -> str:
    """A model's key, its time and a table of its fields, from the declaration."""
    module("tradeflood.models")
    from tradeflood.models import Model
    from tradeflood.models.forms import clickhouse_type

    model = Model.named(name)
    key = ", ".join(f"`{part}`" for part in model.key)
    lines = [
        f"Key: {key}.",
        f"Time: `{model.time}`." if model.time else "Time: none; it is a list.",
        f"Table: `{model.table}`.",
        *(f"Without a word about it, a query means {part} `{value}`." for part, value in model.defaults.items()),
    ]
    rows = []
    for column in model.columns():
        choices = ", ".join(f"`{choice!s}`" for choice in column.choices)
        may = "may be empty" if column.optional else ""
        what = column.kind.value + (f": {choices}" if choices else "")
        rows.append((f"`{column.name}`", what, may, f"`{clickhouse_type(model, column)}`"))
    return "\n".join(f"- {line}" for line in lines) + "\n\n" + table(("field", "holds", "", "ClickHouse"), rows)


# --- venues -----------------------------------------------------------------------------------------------------------


def connectors() -> dict[str, Any]:
    """The built-in connectors by venue; what an installed plug-in adds is left out."""
    package = module("tradeflood.connectors")
    for each in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{each.name}")
    known: dict[str, Any] = module("tradeflood.turns.registry").registry.connectors
    return {
        venue: known[venue] for venue in sorted(known) if known[venue].__module__.startswith(f"{package.__name__}.")
    }


def venue_names() -> list[str]:
    """The venues that we ship."""
    return list(connectors())


def duration(time: int) -> str:
    """A duration in the largest unit that leaves no fraction, such as `1 day` or `5 minutes`."""
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count, rest = divmod(time, size * 10**9)
        if count and not rest:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{time // 10**6} ms"


def per(time: int) -> str:
    """A window of a limit: `minute`, `2 seconds`."""
    return duration(time).removeprefix("1 ")


def matrix(_: str) -> str:
    """What each binding of each venue makes, as it states it."""
    known = module("tradeflood.turns.registry").registry
    from tradeflood.models import Model

    rows = []
    ours = [model for _, model in sorted(Model.models.items()) if model.__module__.startswith("tradeflood.")]
    for venue, connector in connectors().items():
        for model in ours:
            for binding in known.candidates(connector, model):
                parts = [(part.name, binding.offered(part.name)) for part in model.variants()]
                variants = "; ".join(f"{name} {' '.join(f'`{value}`' for value in values)}" for name, values in parts)
                page = f"[{venue}](venues/{venue}.md)"
                rows.append(
                    (page, f"[{model.name()}](models/{model.name()}.md)", variants, history(binding), live(binding))
                )
    return table(("venue", "model", "which", "history", "live"), rows)


def history(binding: Any) -> str:
    """How far back a binding reaches."""
    if not binding.has_history():
        return "no"
    if not binding.model.time:
        return "as it is now"
    if binding.horizon_rows is not None:
        return "the newest rows only"
    return f"{duration(binding.horizon)} back" if binding.horizon else "as far back as the venue goes"


def live(binding: Any) -> str:
    """Whether a binding streams."""
    return "yes" if binding.has_live() else "no"


def venue(name: str) -> str:
    """A venue's declared addresses, limits and turns."""
    connector = connectors().get(name)
    if connector is None:
        raise NotThereError(f"a connector of {name}")
    from tradeflood.turns import TurnSpec

    rest, feed = connector.rest, connector.feed
    facts = [("REST", f"`{rest.url}`"), ("budget", spent(rest.budget)), ("settles after", duration(rest.settle))]
    if feed:
        facts += [("feed", f"`{feed.url}`"), ("streams per connection", str(feed.streams))]
        facts += [("messages", often(feed.messages)), ("connection attempts", often(feed.attempts))]
        if feed.subscriptions:
            facts += [("subscription messages per connection", often(feed.subscriptions))]
        if feed.connections:
            facts += [("connections at once", f"{feed.connections} per address")]
        if feed.others:
            facts += [("further addresses", ", ".join(f"`{url}`" for url in feed.others))]
        facts += [("a connection lives", duration(feed.lifetime) if feed.lifetime else "as long as it may")]
    turns: dict[str, Any] = {}
    for base in reversed(connector.__mro__):
        turns |= {word: value for word, value in vars(base).items() if isinstance(value, TurnSpec)}
    rows = [
        (
            f"`{word}({', '.join(spec.where)})`",
            style(spec),
            "" if spec.live else f"{spec.weight} of {(spec.budget or rest.budget).name}",
            first_line(spec),
        )
        for word, spec in turns.items()
    ]
    return table(("declared", ""), facts) + "\n" + table(("turn", "in pages of", "costs", "gives"), rows)


def often(windows: Any) -> str:
    """So many per window, of every window."""
    return ", ".join(f"{most} per {per(span)}" for most, span in windows)


def spent(budget: Any) -> str:
    """A budget in words."""
    return f"{budget.limit} {budget.name} per {per(budget.per)} and {budget.scope}"


def style(spec: Any) -> str:
    """How a turn is cut into requests."""
    if spec.live:
        return "live" + (f", at `{spec.path}`" if spec.path else "")
    polled = f"; may be polled every {duration(spec.every)}" if spec.every else ""
    if spec.symbols:
        many = "all symbols" if spec.symbols >= EVERY_SYMBOL else f"{spec.symbols} symbols"
        return many + polled
    if spec.pages is None:
        return f"one{polled}"
    kind = type(spec.pages).__name__
    rows = getattr(spec.pages, "rows", None)
    if kind == "Windows":
        return f"{rows} {'candles' if spec.pages.per == 'interval' else 'ids'}{polled}"
    if kind == "Chain":
        return f"{rows} rows, {'from new to old' if spec.pages.back else 'from old to new'}{polled}"
    return f"the last rows only{polled}"


# --- errors -----------------------------------------------------------------------------------------------------------


def errors(_: str) -> str:
    """The tree of errors, and what each tells its reader to do."""
    found = module("tradeflood.errors")
    tree = "\n".join(line.rstrip() for line in (inspect.getdoc(found) or "").splitlines()[2:])
    classes: list[Any] = [value for value in vars(found).values() if inspect.isclass(value)]
    rows = [
        (f"`{value.__name__}`", first_line(value), value.remedy)
        for value in classes
        if issubclass(value, found.TradeFloodError)
    ]
    return f"```text\n{tree}\n```\n\n" + table(("error", "means", "remedy"), rows)


# --- hooks ------------------------------------------------------------------------------------------------------------


def hook_names() -> list[str]:
    """The hooks that a plug-in may answer, in the order of the file."""
    found = module("tradeflood.hookspecs")
    return [
        name for name, value in vars(found).items() if inspect.isfunction(value) and hasattr(value, "tradeflood_spec")
    ]


def hooks(_: str) -> str:
    """Every hook with its signature and its docstring."""
    found = module("tradeflood.hookspecs")
    parts = []
    for name in hook_names():
        hook = getattr(found, name)
        signature = f"def {name}{inspect.signature(hook)}"
        parts.append(f"## {name}\n\n```python\n{signature}: ...\n```\n\n{inspect.getdoc(hook) or ''}\n")
    return "\n".join(parts)


# --- faults -----------------------------------------------------------------------------------------------------------


def faults(_: str) -> str:
    """Every fault that the replay can play: what it hits, its argument and how often, unless told otherwise."""
    found = module("tradeflood.replay.faults")
    rows = []
    for name, sort in found.SORTS.items():
        often = (
            f"%{sort.percent}" if sort.percent is not None else f"#{sort.first}" if sort.first is not None else "all"
        )
        argument = "" if sort.argument is None else f"{sort.argument}"
        rows.append((f"`{name}`", sort.level, argument, often if sort.level != "clock" else "once", sort.says))
    return table(("fault", "hits", "ARG", "how many", "what it does"), rows)


# --- the front page ---------------------------------------------------------------------------------------------------


def exports(_: str) -> str:
    """Every exported name with the first line of its docstring."""
    found = module("tradeflood")
    names = [name for name in found.__all__ if not name.startswith("_")]
    rows = [(f"`{name}`", WITHOUT_WORDS.get(name) or first_line(getattr(found, name))) for name in names]
    return table(("name", "is"), rows)


def steps(_: str) -> str:
    """Every step of a run, and what it means."""
    found = module("tradeflood.steps").STEPS
    return table(("step", "means"), [(f"`{name}`", means) for name, means in found.items()])


# --- writing ----------------------------------------------------------------------------------------------------------


def first_line(value: object) -> str:
    """What a thing says of itself, in one line."""
    return (inspect.getdoc(value) or "").partition("\n")[0]


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


PARTS: dict[str, Callable[[str], str]] = {
    "commands": commands,
    "errors": errors,
    "exports": exports,
    "steps": steps,
    "faults": faults,
    "fields": fields,
    "hooks": hooks,
    "matrix": matrix,
    "venue": venue,
}


def page(path: Path) -> str:
    """The page as it should be."""

    def block(match: re.Match[str]) -> str:
        start, name, argument, end = match.groups()
        try:
            body = PARTS[name](argument or "")
        except NotThereError as missing:
            print(f"{path.relative_to(ROOT)}: {name}: {missing} is not written yet, left as it is", file=sys.stderr)
            return match.group(0)
        return f"{start}\n{body.strip()}\n\n{end}"

    return BLOCK.sub(block, path.read_text(encoding="utf-8"))


def main() -> int:
    """0, or 1 where `--check` found a page that is stale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a page is stale")
    check = parser.parse_args().check
    stale = []
    for path in sorted(DOCS.rglob("*.md")):
        wanted = page(path)
        if wanted != path.read_text(encoding="utf-8"):
            stale.append(path)
            if not check:
                path.write_text(wanted, encoding="utf-8")
    for path in stale:
        print(f"{path.relative_to(ROOT)}: {'stale; run `make docs`' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
