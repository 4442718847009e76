"""What is known: connectors by venue, bindings by connector and model. Defining a class enters it here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tradeflood.errors import DeclarationError, UsageError
from tradeflood.models import Model

if TYPE_CHECKING:
    from tradeflood.turns.binding import Binding
    from tradeflood.turns.connector import Connector


_VENUE = re.compile(r"[\w-]+")
"""What a venue may be called: it stands before the colon of every market, in names of files and in the environment."""


class Registry:
    """Connectors and bindings, and which one answers.

    A subclass replaces its parent; two unrelated rivals are an error.
    """

    def __init__(self) -> None:
        self.connectors: dict[str, type[Connector]] = {}
        self.bindings: dict[tuple[type[Connector], type[Model]], list[type[Binding[Any]]]] = {}

    def enter_connector(self, connector: type[Connector]) -> None:
        """Take in a connector that names a venue, and says where it is."""
        name = f"{connector.__module__}.{connector.__qualname__}"
        if not (isinstance(connector.venue, str) and _VENUE.fullmatch(connector.venue)):
            raise DeclarationError(f"{name}: venue is {connector.venue!r}; write letters, digits, _ and - alone")
        if not hasattr(connector, "rest"):
            raise DeclarationError(f"{name}: say where {connector.venue} is asked: rest = tradeflood.Rest(…)")
        known = self.connectors.get(connector.venue)
        if known and not issubclass(connector, known) and not _again(known, connector):
            raise DeclarationError(
                f"venue {connector.venue!r} is {known.__module__}.{known.__qualname__} already; "
                f"{name} must subclass it to replace it"
            )
        self.connectors[connector.venue] = connector

    def enter_binding(self, binding: type[Binding[Any]]) -> None:
        """Take in a binding of a connector and a model."""
        rivals = self.bindings.setdefault((binding.connector, binding.model), [])
        rivals[:] = [rival for rival in rivals if not _again(rival, binding)]
        for rival in rivals:
            if not issubclass(binding, rival) and not issubclass(rival, binding) and binding.overlaps(rival):
                raise DeclarationError(
                    f"{binding.connector.venue} {binding.model.name()}: {binding.__module__}.{binding.__qualname__} and "
                    f"{rival.__module__}.{rival.__qualname__} both make it; subclass one to replace it"
                )
        rivals.append(binding)

    def connector(self, venue: str) -> type[Connector]:
        """The connector of a venue.

        Raises UsageError where there is none, with the venues there are.
        """
        try:
            return self.connectors[venue]
        except KeyError:
            raise UsageError(f"no venue {venue!r}; there are {', '.join(sorted(self.connectors))}") from None

    def candidates(self, connector: type[Connector], model: type[Model]) -> list[type[Binding[Any]]]:
        """Every binding that makes a model for a connector, replaced ones left out."""
        found = [binding for base in connector.__mro__ for binding in self.bindings.get((base, model), ())]
        return [b for b in found if not any(other is not b and issubclass(other, b) for other in found)]

    def binding(self, connector: type[Connector], model: type[Model], variant: tuple[str, ...]) -> type[Binding[Any]]:
        """The binding that makes this variant of a model.

        Raises UsageError where there is none, with what there is.
        """
        candidates = self.candidates(connector, model)
        for binding in candidates:
            if binding.makes(variant):
                return binding
        raise UsageError(_refusal(connector, model, variant, candidates))

    @contextmanager
    def scope(self) -> Iterator[Registry]:
        """What is defined inside is forgotten at the end: for tests, and for trying a connector out."""
        forget = self._memory()
        try:
            yield self
        finally:
            forget()

    @contextmanager
    def whole(self) -> Iterator[Registry]:
        """What is defined inside is kept as a whole, or forgotten as a whole where an error ends it."""
        forget = self._memory()
        try:
            yield self
        except BaseException:
            forget()
            raise

    def _memory(self) -> Callable[[], None]:
        """What makes everything as it is now."""
        connectors, bindings = dict(self.connectors), {key: list(value) for key, value in self.bindings.items()}
        models = dict(Model.models)

        def forget() -> None:
            self.connectors, self.bindings = connectors, bindings
            Model.models.clear()
            Model.models.update(models)

        return forget


def _again(known: type, new: type) -> bool:
    """Whether a class is the same one, defined once more (a module that is loaded again)."""
    return (known.__module__, known.__qualname__) == (new.__module__, new.__qualname__)


def _refusal(
    connector: type[Connector], model: type[Model], variant: tuple[str, ...], candidates: list[type[Binding[Any]]]
) -> str:
    if not candidates:
        return f"{connector.venue} does not offer {model.name()}"
    for index, part in enumerate(model.variants()):
        offered: dict[str, None] = {}
        for binding in candidates:
            offered |= dict.fromkeys(binding.offered(part.name))
        if offered and variant[index] not in offered:
            return (
                f"{connector.venue} {model.name()}: no {part.name} {variant[index]!r}; there are {', '.join(offered)}"
            )
    asked = model.variant_words(variant)
    return f"{connector.venue} does not offer {model.name()} with {', '.join(f'{k} {v}' for k, v in asked.items())}"


registry = Registry()
"""The one that defining a class enters."""
