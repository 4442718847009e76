"""What a run keeps in mind: requests, series of pages, wants and datasets. State without behaviour of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tradeflood.coverage import Claim, Coverage, Dataset, Failure, Frame, clipped, stretches
from tradeflood.coverage.evidence import PAST_HORIZON
from tradeflood.errors import TradeFloodError
from tradeflood.models import Model
from tradeflood.models.time import DAY
from tradeflood.spans import EMPTY, Span, Spans
from tradeflood.turns import Ask, BoundTurn, Connector, Page, Reply, Request, Step, Turn
from tradeflood.turns.registry import Registry
from tradeflood.turns.request import Identity

WAITING, DONE, FAILED = range(3)
NEVER = 1 << 63
AHEAD = DAY
"""How far a venue's clock may be ahead of ours: what lies later is not asked for, it cannot have happened."""


class Held(Protocol):
    """What a store holds already."""

    def claims(self, dataset: Dataset) -> Sequence[Claim]:
        """The claims on a dataset."""
        ...

    def rows(self, dataset: Dataset, spans: Spans) -> Sequence[Model]:
        """The rows of these times, ascending."""
        ...


class Venues(Protocol):
    """Where connectors come from: one instance per venue, with its settings."""

    registry: Registry

    def connector(self, venue: str) -> Connector:
        """The connector of a venue."""
        ...


class Node:
    """One request to be made. Several pages of several turns may wait for it."""

    __slots__ = (
        "bound", "clock", "deadline", "error", "key", "lane", "other_rows", "packed", "page", "reply", "request", "rows", "state",
        "unproven", "uses",
    )  # fmt: skip

    def __init__(self, key: Identity, bound: BoundTurn[Any, Any], request: Request, page: Page, deadline: int) -> None:
        self.key, self.bound, self.request, self.page, self.deadline = key, bound, request, page, deadline
        self.lane = bound.lane
        self.state = WAITING
        self.uses: list[tuple[Series, Page, list[Want]]] = []
        self.rows: Any = None
        self.reply: Reply | None = None
        self.clock = NEVER
        self.error: TradeFloodError | None = None
        self.other_rows: dict[BoundTurn[Any, Any], Any] | None = None
        self.packed: dict[Any, list[Model]] = {}
        self.unproven: dict[Any, frozenset[int]] = {}

    def rows_of(self, bound: BoundTurn[Any, Any]) -> Any:
        """The answer as another turn declares it, which made the same request and reads it in its own way.

        Raises PayloadChanged where it is not of that shape.
        """
        assert self.reply is not None
        if self.other_rows is None:
            self.other_rows = {}
        if bound not in self.other_rows:
            self.other_rows[bound] = bound.decode(self.reply.body)
        return self.other_rows[bound]

    @property
    def weight(self) -> int:
        """What it costs."""
        return self.bound.spec.weight if self.request.weight is None else self.request.weight

    def __repr__(self) -> str:
        params = "&".join(f"{name}={value}" for name, value in self.request.params)
        return f"{self.key[0]}.{self.bound.spec.name} {self.request.path}?{params}"

    def __lt__(self, other: Node) -> bool:
        return self.deadline < other.deadline


class Series:
    """All that is wanted of one turn with the same arguments."""

    __slots__ = ("args", "asked", "bound", "live", "new", "queued", "symbols", "symbols_asked", "wanted")

    def __init__(self, bound: BoundTurn[Any, Any], args: tuple[Any, ...]) -> None:
        self.bound, self.args = bound, args
        self.wanted = self.asked = EMPTY
        self.symbols: dict[str, None] = {}
        self.symbols_asked: set[str] = set()
        self.new: list[Want] = []
        self.live: list[tuple[Node, Page]] = []
        self.queued = False


class Want:
    """Somebody who waits for part of a series: it gets rows answer by answer and is told at the end."""

    __slots__ = (
        "answers",
        "clock",
        "covered",
        "done",
        "errors",
        "firm",
        "firm_ends",
        "into",
        "left",
        "rows",
        "seams",
        "shown",
        "step",
        "symbols",
        "turn",
        "unproven",
        "work",
    )

    def __init__(
        self, turn: Turn[Any], *, into: Work | None = None, step: Step[Any] | None = None,
        done: Callable[[Want], None] | None = None, work: Work | None = None,
    ) -> None:  # fmt: skip
        self.turn, self.into, self.step, self.done = turn, into, step, done
        self.work = into if work is None else work
        self.symbols = frozenset(turn.symbols)
        self.left = 0
        self.rows: Any = None
        self.covered: list[Span] = []
        self.firm: set[int] = set()  # starts of pages before which a row was seen
        self.firm_ends: set[int] = set()  # ends of pages behind which one was seen
        self.seams: set[int] = set()  # where the ranges of two questions may meet
        self.answers: list[Span] = []  # the lowest and highest position of each answer
        self.shown: list[Span] = []  # of each answer to a range of time, from its first row to its last
        self.unproven: set[int] = set()  # open times of candles that nothing shows to be final
        self.clock = NEVER
        self.errors: list[TradeFloodError] = []

    def meets(self, page: Page) -> bool:
        """Whether it wants anything of a page."""
        if page.symbols:
            return not self.symbols.isdisjoint(page.symbols)
        spans = self.turn.spans
        return spans is None or spans.touches(page.start, page.end)


class Work:
    """One dataset inside a run: what was asked of it, what came, on what evidence, and who waits."""

    __slots__ = (
        "ask", "asked", "basis", "claims", "clock", "failures", "grain", "horizon", "known", "loaded", "models", "open",
        "unproven", "waiting", "weight",
    )  # fmt: skip

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.asked = EMPTY
        self.models: dict[Any, Model] = {}
        self.grain = 1  # the coarsest unit, in ns, to which an answer cut their times
        self.unproven: set[Any] = set()  # candles among them that nothing shows to be final
        self.claims: list[Claim] = []
        self.clock = NEVER  # the venue's, when it answered the first question of a binding
        self.known = 0
        self.loaded = EMPTY
        self.horizon: int | None = None
        self.failures: list[Failure] = []
        self.basis: list[Frame[Any]] = []
        self.open = 0
        self.weight = 0  # of the requests that were made first for it
        self.waiting: list[Callable[[Work], None]] = []

    @property
    def new_claims(self) -> list[Claim]:
        """The claims that this run adds to those it began with; past a horizon is no claim to keep: it moves."""
        return [claim for claim in self.claims[self.known :] if claim.evidence != PAST_HORIZON]

    def frame(self, spans: Spans) -> Frame[Any]:
        """The rows of these times so far, ascending, with their coverage; nothing is held here without its rows."""
        model, dataset, time = self.ask.model, self.ask.dataset, self.ask.model.time
        if time is None:
            return Frame(model, ordered(model, self.models.values()), Coverage({}), self.failures)
        rows = [row for row in self.models.values() if spans.touches(at := getattr(row, time), at + 1)]
        parts = stretches(self.claims)
        told = [part for start, end in spans for part in clipped(parts, start, end)]
        return Frame(model, ordered(model, rows), Coverage({dataset: told}), self.failures)


def ordered(model: type[Model], rows: Any) -> list[Any]:
    """Rows by time, equal times by position, as numbers where positions are numbers."""
    time = model.time
    if time is None:
        return sorted(rows, key=lambda row: [str(getattr(row, name)) for name in model.key])
    last = model.key[-1]
    if last == time:
        return sorted(rows, key=lambda row: getattr(row, time))
    return sorted(rows, key=lambda row: (getattr(row, time), *_number(getattr(row, last))))


def _number(text: Any) -> tuple[int, str]:
    """An order for ids: '999' before '1000', and texts after each other."""
    return (int(text), "") if isinstance(text, int) or text.isdecimal() else (0, text)
