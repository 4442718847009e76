"""What a model is: an attrs class that states its key and its time; every schema follows from it.

A third party adds a model in the same way as the ones beside this file:

    @define
    class Spread(Model, key=("venue", "market", "interval", "open_time"), time="open_time"):
        venue: str
        market: str
        interval: str
        open_time: Time
        spread: Decimal
"""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import attrs
from attrs import frozen

from tradeflood.errors import DeclarationError, UsageError

_NS = "nanoseconds since 1970 UTC"
Time: TypeAlias = Annotated[int, _NS]
"""A moment as integer nanoseconds since 1970 UTC."""


class Side(enum.StrEnum):
    """The side of the taker."""

    BUY = "buy"
    SELL = "sell"


class Kind(enum.Enum):
    """What a column holds; each form of a model is a table from these."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    TIME = "time"
    FLAG = "flag"


@frozen
class Column:
    """One field of a model, as the forms see it."""

    name: str
    kind: Kind
    optional: bool
    choices: tuple[str, ...] = ()
    enum: type[enum.StrEnum] | None = None
    has_default: bool = False


@frozen
class Variant:
    """A part of the key between the market and the position: `kind`, `interval`, `origin`. What a dataset is one of."""

    name: str
    choices: tuple[str, ...]
    default: str | None


_OURS = {"defaults", "key", "models", "position", "table", "time"}
"""What a model says of itself: a field of such a name would hide it."""


class Model:
    """The root of venue-free data. Subclass it, with attrs' `define`, and state key and time.

    - `key`: what makes a row unique, beginning with venue and market; the last is the position inside the
      dataset that the others name.
    - `time`: the field that a range of time selects on, None for lists.
    - `defaults`: what a query means that leaves a part of the key out.
    - `table`: what the rows' table is called, the plural of the class's name unless told otherwise.
    """

    __slots__ = ()
    key: ClassVar[tuple[str, ...]] = ()
    time: ClassVar[str | None] = None
    defaults: ClassVar[Mapping[str, str]] = {}
    table: ClassVar[str] = ""
    models: ClassVar[dict[str, type[Model]]] = {}

    def __init_subclass__(
        cls,
        *,
        key: tuple[str, ...] = (),
        time: str | None = None,
        defaults: Mapping[str, str] | None = None,
        table: str | None = None,
        **rest: Any,
    ) -> None:
        super().__init_subclass__(**rest)
        if taken := _OURS & inspect.get_annotations(cls).keys():
            raise DeclarationError(f"model {cls.__name__}: no field may be called {', '.join(sorted(taken))}")
        if key:  # not when attrs makes the class again with slots: then it carries all this already
            if key[:2] != ("venue", "market"):
                raise DeclarationError(f"model {cls.__name__}: its key must begin with venue and market, not {key}")
            cls.key, cls.time, cls.defaults = key, time, defaults or {}
            cls.table = table or f"{cls.__name__.lower()}s"
        if not cls.key:
            raise DeclarationError(f"model {cls.__name__} states no key")
        known = Model.models.get(cls.name())
        if known and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise DeclarationError(
                f"model {cls.name()!r} is {known.__module__}.{known.__qualname__} already; "
                f"give {cls.__module__}.{cls.__qualname__} another name"
            )
        Model.models[cls.name()] = cls

    @classmethod
    def name(cls) -> str:
        """The word for this model in commands and configuration: `trade`, `candle` and so on."""
        return cls.__name__.lower()

    @classmethod
    def named(cls, name: str) -> type[Model]:
        """The model of a name.

        Raises UsageError where there is none, with the names there are.
        """
        try:
            return cls.models[name.lower()]
        except KeyError:
            raise UsageError(f"no model {name!r}; there are {', '.join(sorted(cls.models))}") from None

    @classmethod
    def variants(cls) -> tuple[Variant, ...]:
        """The parts of the key that a query chooses, in order: none for a list."""
        return _variants(cls)  # type: ignore[arg-type]  # a class has a hash, whatever its rows have

    @classmethod
    def variant_words(cls, variant: tuple[str, ...]) -> dict[str, str]:
        """The parts of a variant by their names, in order."""
        return {part.name: value for part, value in zip(cls.variants(), variant, strict=True)}

    @classmethod
    def columns(cls) -> tuple[Column, ...]:
        """Every field in order, as the forms see it."""
        return _columns(cls)  # type: ignore[arg-type]  # a class has a hash, whatever its rows have

    @property
    def position(self) -> Any:
        """Where this row stands inside its dataset: the last field of the key."""
        return getattr(self, self.key[-1])


@cache
def _variants(model: type[Model]) -> tuple[Variant, ...]:
    columns = {column.name: column for column in model.columns()}
    return tuple(Variant(name, columns[name].choices, model.defaults.get(name)) for name in model.key[2:-1])


@cache
def _columns(model: type[Model]) -> tuple[Column, ...]:
    declared: Any = model
    if not attrs.has(declared):
        raise DeclarationError(f"model {model.__name__} is no attrs class; decorate it with attrs.define")
    hints = get_type_hints(model, include_extras=True)
    columns = tuple(
        _column(model, field.name, hints[field.name], field.default is not attrs.NOTHING)
        for field in attrs.fields(declared)
    )
    missing = set(model.key) - {column.name for column in columns}
    if missing:
        raise DeclarationError(f"model {model.__name__}: its key names {', '.join(sorted(missing))}, which it lacks")
    return columns


def _column(model: type[Model], name: str, hint: Any, has_default: bool) -> Column:  # noqa: FBT001 - a fact of the field
    optional = False
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [argument for argument in get_args(hint) if argument is not types.NoneType]
        optional = len(kinds) < len(get_args(hint))
        hint = kinds[0] if len(kinds) == 1 else hint
    if get_origin(hint) is Annotated and _NS in hint.__metadata__:
        return Column(name, Kind.TIME, optional, has_default=has_default)
    if get_origin(hint) is Literal:
        return Column(name, Kind.TEXT, optional, get_args(hint), has_default=has_default)
    if isinstance(hint, type) and issubclass(hint, enum.StrEnum):
        return Column(name, Kind.TEXT, optional, tuple(hint), hint, has_default)
    kind = {str: Kind.TEXT, int: Kind.INTEGER, Decimal: Kind.DECIMAL, bool: Kind.FLAG}.get(hint)
    if kind is None:
        raise DeclarationError(f"model {model.__name__}.{name}: no column for {hint!r}")
    return Column(name, kind, optional, has_default=has_default)
