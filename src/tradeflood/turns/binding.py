"""Binding: how a model is made out of a connector's turns.

class BinanceCandles(Binding[Candle], connector=Binance, interval=INTERVALS):
    def __call__(self, venue, ask):
        return self.pack(venue.klines(ask.symbol, ask.interval).over(ask.spans), ask.market, ask.interval)

    @turn_execution
    def pack(self, rows: list[Kline], market: str, interval: str) -> Iterator[Candle]: ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, TypeVar, get_args, overload

from msgspec import Struct

from tradeflood.errors import DeclarationError
from tradeflood.models import Model
from tradeflood.turns.ask import Ask
from tradeflood.turns.connector import Connector
from tradeflood.turns.registry import registry
from tradeflood.turns.turn import Turn

M = TypeVar("M", bound=Model)
R = TypeVar("R")
B = TypeVar("B")
P = ParamSpec("P")


class Step(Struct, Generic[M], frozen=True, gc=False):
    """An end point: a pure function from the rows of one answer to models. Equal steps on one page run once."""

    pure: Callable[..., Iterable[M]]
    binding: Any
    turn: Turn[Any]
    args: tuple[Any, ...]

    def models(self, rows: Any) -> list[M]:
        """What the function makes of these rows."""
        return list(self.pure(self.binding, rows, *self.args))


class Execution(Generic[B, R, P, M]):
    """A `@turn_execution` as it stands on a binding's class. Call `pure` on rows to try it out."""

    def __init__(self, function: Callable[Concatenate[B, R, P], Iterable[M]]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, binding: None, owner: type) -> Execution[B, R, P, M]: ...
    @overload
    def __get__(self, binding: B, owner: type) -> Callable[Concatenate[Turn[R], P], Step[M]]: ...
    def __get__(self, binding: B | None, owner: type) -> Any:
        if binding is None:
            return self
        function = self.function

        def step(turn: Turn[Any], *args: Any) -> Step[Any]:
            return Step(function, binding, turn, args)

        return step

    def pure(self, rows: R, *args: P.args, **named: P.kwargs) -> list[M]:
        """The models of rows, without a turn."""
        return list(self.function(None, rows, *args, **named))  # type: ignore[arg-type]


def turn_execution(function: Callable[Concatenate[B, R, P], Iterable[M]]) -> Execution[B, R, P, M]:
    """Mark a binding's end point: a pure function from rows to models. The planner looks no deeper.

    Call it with a turn in place of the rows; the run calls the function when the answer is there.
    """
    return Execution(function)


class Numbering(StrEnum):
    """What the ids of a venue's rows say of one another, and so what a missing one proves."""

    CONTIGUOUS = "contiguous"
    """Ids follow one another without a hole: a missing id is a missing row."""
    CHAINED = "chained"
    """A row says where the one before it ended (its last id less its count): a broken chain is a missing row."""
    JUMPING = "jumping"
    """Ids ascend and the venue leaves some out: a missing id proves nothing until the venue is asked."""
    SNOWFLAKE = "snowflake"
    """Ids are unique, and ascend with time at best: only an answer with rows on both sides proves anything."""
    NONE = "none"
    """There are no ids: rows that are equal in all they say get an ordinal within one observation."""

    @property
    def is_linked(self) -> bool:
        """Whether rows that came by themselves show that none is missing between them."""
        return self in {Numbering.CONTIGUOUS, Numbering.CHAINED}


class Binding(Generic[M]):
    """Subclass `Binding[SomeModel]` with `connector=` and it is linked; a subclass replaces its parent.

    Further keywords of the class say which variants it makes: `interval=("1m", "1h")`, `kind="raw"`. `horizon` is
    how far back the venue reaches, in ns; `horizon_rows` how many of the newest rows it has, where that is all. `numbering` is what the venue's ids say of
    one another.
    """

    connector: ClassVar[type[Connector]]
    model: ClassVar[type[Model]]
    offers: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    horizon: ClassVar[int | None] = None
    horizon_rows: ClassVar[int | None] = None
    numbering: ClassVar[Numbering] = Numbering.SNOWFLAKE

    def __init_subclass__(cls, *, connector: type[Connector] | None = None, **offers: Any) -> None:
        super().__init_subclass__()
        for base in getattr(cls, "__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, Model):
                    cls.model = argument
        if connector is not None:
            cls.connector = connector
        if offers:
            cls.offers = {**cls.offers, **{name: _listed(value) for name, value in offers.items()}}
        if hasattr(cls, "connector") and hasattr(cls, "model"):
            known = {part.name for part in cls.model.variants()}
            if unknown := set(cls.offers) - known:
                raise DeclarationError(f"binding {cls.__qualname__}: {cls.model.name()} has no {', '.join(unknown)}")
            registry.enter_binding(cls)

    def __call__(self, venue: Any, ask: Ask) -> Any:
        """The steps, or the rows, that answer an ask; `async def` where an answer is needed first."""
        raise NotImplementedError

    def live(self, venue: Any, ask: Ask) -> Any:
        """The step that packs the live rows of an ask; or the ask of another model, whose rows `follow` makes into these."""
        raise NotImplementedError

    def follow(self, ask: Ask, numbering: Numbering) -> Callable[[Iterable[Any]], list[M]]:
        """What makes live rows of another model, whose ask `live` gives, into this one; it hears of all, in batches."""
        raise NotImplementedError

    def fallback(self, venue: Any, ask: Ask) -> Any:
        """The step of a polled turn that serves while the live feed cannot be reached."""
        raise NotImplementedError

    @classmethod
    def has_history(cls) -> bool:
        """Whether it answers questions about the past."""
        return cls.__call__ is not Binding.__call__

    @classmethod
    def has_live(cls) -> bool:
        """Whether it can be streamed."""
        return cls.live is not Binding.live

    @classmethod
    def follows(cls) -> bool:
        """Whether its live rows are made of those of another model."""
        return cls.follow is not Binding.follow

    @classmethod
    def has_fallback(cls) -> bool:
        """Whether it can be polled while its feed is out of reach."""
        return cls.fallback is not Binding.fallback

    @classmethod
    def offered(cls, part: str) -> tuple[str, ...]:
        """The values of a part of the variant that it makes: those declared, else all that the model knows."""
        for variant in cls.model.variants():
            if variant.name == part:
                default = (variant.default,) if variant.default else variant.choices
                return cls.offers.get(part, default)
        return ()

    @classmethod
    def makes(cls, variant: tuple[str, ...]) -> bool:
        """Whether it makes this variant."""
        for part, value in zip(cls.model.variants(), variant, strict=True):
            offered = cls.offered(part.name)
            if offered and value not in offered:
                return False
        return True

    @classmethod
    def overlaps(cls, other: type[Binding[Any]]) -> bool:
        """Whether some variant is made by both."""
        for part in cls.model.variants():
            mine, theirs = cls.offered(part.name), other.offered(part.name)
            if mine and theirs and not set(mine) & set(theirs):
                return False
        return True


def _listed(value: Any) -> tuple[str, ...]:
    values = (value,) if isinstance(value, str) else tuple(value)
    for text in values:
        if not isinstance(text, str):
            raise DeclarationError(f"a binding's offers are text, not {text!r}")
    return values
