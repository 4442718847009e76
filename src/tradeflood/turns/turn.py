"""Turns: one declared exchange with a venue each, not yet executed; and how a connector declares them.

@turn(list[Kline], pages=Windows(1000, per="interval"), weight=2)
def klines(self, page, symbol, interval) -> Request: ...

venue.klines("BTCUSDT", "1m").over(spans)        # a Turn[list[Kline]]: a value
await venue.klines("BTCUSDT", "1m").over(spans)  # inside a binding: the rows
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, TypeAlias, TypeVar, overload

import msgspec
from msgspec import Struct

from tradeflood.errors import DeclarationError, PayloadChanged
from tradeflood.models import interval
from tradeflood.spans import Spans
from tradeflood.turns.limits import Budget
from tradeflood.turns.pages import Ids, Page, Pages
from tradeflood.turns.request import Request

if TYPE_CHECKING:
    from tradeflood.turns.connector import Connector

R = TypeVar("R")
Raw = TypeVar("Raw")
P = ParamSpec("P")

Lane: TypeAlias = tuple[str, str]
"""Venue and budget: what waits together."""


class Turn(Struct, Generic[R], frozen=True, gc=False):
    """One declared exchange and what is wanted of it: spans of times or ids, or symbols. Await it inside a binding."""

    bound: BoundTurn[Any, R]
    args: tuple[Any, ...]
    spans: Spans | None = None
    symbols: tuple[str, ...] = ()
    ids: Ids | None = None

    def over(self, spans: Spans | Ids) -> Turn[R]:
        """The same turn, for these times, or for ids that stand for times."""
        if isinstance(spans, Ids):
            return Turn(self.bound, self.args, spans.spans, (), spans)
        return Turn(self.bound, self.args, spans)

    def of(self, *symbols: str) -> Turn[R]:
        """The same turn, for these symbols."""
        return Turn(self.bound, self.args, None, symbols)

    def __await__(self) -> Generator[Any, Any, R]:
        return (yield self)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"{self.bound.connector.venue}.{self.bound.spec.name}({', '.join(map(str, self.args))})"


class Both(tuple[Any, ...]):
    """Several things awaited together."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, tuple[Any, ...]]:
        return (yield self)  # type: ignore[no-any-return]


def both(*needs: Any) -> Both:
    """Several turns or asks, awaited together: the answers in the same order. One that fails fails all."""
    return Both(needs)


class TurnSpec(Generic[P, R]):
    """A declared turn, as it stands on the connector's class."""

    def __init__(
        self,
        build: Callable[..., Request | str],
        *,
        reply: Any,
        rows: Callable[[Any], R] | None,
        pages: Pages | None,
        symbols: int | None,
        by: Callable[[Any], str] | None,
        weight: int,
        budget: Budget | None,
        live: bool,
        path: str | None,
        every: int | None,
    ) -> None:
        self.build, self.reply, self.rows, self.pages = build, reply, rows, pages
        self.symbols, self.by, self.weight, self.budget = symbols, by, weight, budget
        self.live, self.path, self.every = live, path, every
        self.name = build.__name__
        self.__doc__ = build.__doc__
        params = list(inspect.signature(build).parameters.values())[1:]
        paged = bool(params) and params[0].name == "page"
        if (pages is not None or symbols is not None) != paged:
            wants = "takes `page` first" if not paged else "declares neither pages nor symbols, so takes no `page`"
            raise DeclarationError(f"turn {build.__qualname__}: it {wants}")
        if symbols is not None and by is None:
            raise DeclarationError(f"turn {build.__qualname__}: with symbols= it needs by=, the symbol of a row")
        self.paged = paged
        self.params = params[1:] if paged else params
        self.where = {parameter.name: index for index, parameter in enumerate(self.params)}
        if pages is not None and pages.per == "interval" and "interval" not in self.where:
            raise DeclarationError(f"turn {build.__qualname__}: pages per interval need a parameter `interval`")

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, connector: None, owner: type) -> TurnSpec[P, R]: ...
    @overload
    def __get__(self, connector: Connector, owner: type) -> BoundTurn[P, R]: ...
    def __get__(self, connector: Connector | None, owner: type) -> TurnSpec[P, R] | BoundTurn[P, R]:
        if connector is None:
            return self
        bound = connector.__dict__[self.name] = BoundTurn(self, connector)
        return bound

    def on(self, connector: Connector) -> BoundTurn[P, R]:
        """The turn of a connector in whose class it does not stand: what a plug-in asks of somebody else's venue."""
        key = f"{self.build.__module__}.{self.build.__qualname__}"
        bound: BoundTurn[P, R] | None = connector.__dict__.get(key)
        if bound is None:
            bound = connector.__dict__[key] = BoundTurn(self, connector)
        return bound

    def decoder(self, envelope: Any) -> msgspec.json.Decoder[Any]:
        """The decoder of a whole answer: the reply type, in the connector's envelope where it has one."""
        return msgspec.json.Decoder(envelope[self.reply] if envelope is not None and not self.live else self.reply)


class BoundTurn(Generic[P, R]):
    """A turn of one connector: call it with its arguments to get a `Turn`."""

    def __init__(self, spec: TurnSpec[P, R], connector: Connector) -> None:
        self.spec, self.connector = spec, connector
        self.budget = connector.budget_of(spec.budget)
        self.lane: Lane = (connector.venue, self.budget.name)
        self._interval = spec.where.get("interval")
        self.grain = 1 if spec.pages is None else spec.pages.grain
        """The unit, in ns, to which the venue cuts the times of its rows."""

    def __call__(self, *args: P.args, **named: P.kwargs) -> Turn[R]:
        """The turn with these arguments: nothing is asked yet."""
        if named or len(args) != len(self.spec.params):
            return Turn(self, self._bind(args, named))
        return Turn(self, args)

    def _bind(self, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        full = [*args, *(parameter.default for parameter in self.spec.params[len(args) :])]
        if len(full) != len(self.spec.params) or set(named) - set(self.spec.where):
            raise TypeError(f"{self.spec.name} takes {', '.join(self.spec.where)}")
        for name, value in named.items():
            full[self.spec.where[name]] = value
        if any(value is inspect.Parameter.empty for value in full):
            raise TypeError(f"{self.spec.name}: an argument is missing; it takes {', '.join(self.spec.where)}")
        return tuple(full)

    def request(self, page: Page, args: tuple[Any, ...]) -> Request:
        """The request of a page."""
        build: Any = self.spec.build
        return build(self.connector, page, *args) if self.spec.paged else build(self.connector, *args)  # type: ignore[no-any-return]

    def topic(self, args: tuple[Any, ...]) -> str:
        """The topic of a live turn."""
        build: Any = self.spec.build
        return build(self.connector, *args)  # type: ignore[no-any-return]

    def step(self, args: tuple[Any, ...]) -> int:
        """The distance of two positions: the interval's where pages are per interval, else 1."""
        return 1 if self._interval is None else interval(args[self._interval]).step

    @cached_property
    def _decode(self) -> Callable[[bytes], Any]:
        decoder = self.spec.decoder(self.connector.envelope)
        rows = self.spec.rows
        if self.connector.envelope is None or self.spec.live:
            return decoder.decode if rows is None else lambda body: rows(decoder.decode(body))
        if rows is None:
            return lambda body: decoder.decode(body).data
        return lambda body: rows(decoder.decode(body).data)

    def decode(self, body: bytes) -> R:
        """The declared rows of an answer's body.

        Raises PayloadChanged that names the place where the answer is not of the declared shape.
        """
        try:
            return self._decode(body)  # type: ignore[no-any-return]
        except PayloadChanged:
            raise
        except Exception as error:
            raise self.changed(error, body) from error

    def changed(self, error: Exception, body: bytes) -> PayloadChanged:
        """What to raise where an answer is not what was declared."""
        text = str(error)
        _, _, path = text.rpartition(" - at `")
        where = path.removesuffix("`") if path != text else "$"
        return PayloadChanged(f"{self.connector.venue}.{self.spec.name}: {text}", path=where, body=body)


@overload
def turn(
    reply: type[Raw], *, live: Literal[True], path: str | None = None
) -> Callable[[Callable[Concatenate[Any, P], str]], TurnSpec[P, list[Raw]]]: ...
@overload
def turn(
    reply: type[Raw], *, rows: Callable[[Raw], R], pages: Pages, weight: int = 1, budget: Budget | None = None,
    every: int | None = None,
) -> Callable[[Callable[Concatenate[Any, Page, P], Request]], TurnSpec[P, R]]: ...  # fmt: skip
@overload
def turn(
    reply: type[R], *, pages: Pages, weight: int = 1, budget: Budget | None = None, every: int | None = None
) -> Callable[[Callable[Concatenate[Any, Page, P], Request]], TurnSpec[P, R]]: ...
@overload
def turn(
    reply: type[Raw], *, rows: Callable[[Raw], R], symbols: int, by: Callable[[Any], str], weight: int = 1,
    budget: Budget | None = None,
) -> Callable[[Callable[Concatenate[Any, Page, P], Request]], TurnSpec[P, R]]: ...  # fmt: skip
@overload
def turn(
    reply: type[R], *, symbols: int, by: Callable[[Any], str], weight: int = 1, budget: Budget | None = None
) -> Callable[[Callable[Concatenate[Any, Page, P], Request]], TurnSpec[P, R]]: ...
@overload
def turn(
    reply: type[Raw], *, rows: Callable[[Raw], R], weight: int = 1, budget: Budget | None = None,
    every: int | None = None,
) -> Callable[[Callable[Concatenate[Any, P], Request]], TurnSpec[P, R]]: ...  # fmt: skip
@overload
def turn(
    reply: type[R], *, weight: int = 1, budget: Budget | None = None, every: int | None = None
) -> Callable[[Callable[Concatenate[Any, P], Request]], TurnSpec[P, R]]: ...
def turn(
    reply: Any,
    *,
    rows: Any = None,
    pages: Pages | None = None,
    symbols: int | None = None,
    by: Any = None,
    weight: int = 1,
    budget: Budget | None = None,
    live: bool = False,
    path: str | None = None,
    every: int | None = None,
) -> Any:
    """Declare a method of a connector as a turn.

    - `reply`: the type of the answer, inside the connector's envelope. `rows` takes the list out of it.
    - `pages`: the page style; `page` is then the first word of the body, and callers do not pass it.
    - `symbols`: how many symbols fit into one request; `by` tells the symbol of a row, so that each market gets its own.
    - `weight`, `budget`: what a request costs, of which budget; the connector's own unless named.
    - `live`: the method names a topic; `path` is the endpoint below the feed's URL that carries it.
    - `every`: the turn may be polled for live data, at this distance in ns.
    """

    def declared(build: Any) -> TurnSpec[Any, Any]:
        return TurnSpec(
            build, reply=reply, rows=rows, pages=pages, symbols=symbols, by=by, weight=weight, budget=budget,
            live=live, path=path, every=every,
        )  # fmt: skip

    return declared


def judged_rows(rows: Any) -> Sequence[Any]:
    """The rows of an answer as a sequence: a list as it is, anything else as one row."""
    return rows if isinstance(rows, list) else (rows,)
