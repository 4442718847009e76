"""The hooks that a plug-in may answer. Arguments are passed by name, so more can be added."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pluggy

hookspec = pluggy.HookspecMarker("tradeflood")
hookimpl = pluggy.HookimplMarker("tradeflood")


@hookspec
def tradeflood_modules() -> Sequence[str]:  # type: ignore[empty-body]
    """Names of modules to import: whatever models, connectors and bindings they define is known from then on."""


@hookspec
def tradeflood_stores() -> Mapping[str, Callable[[str], Any]]:  # type: ignore[empty-body]
    """Stores by URL scheme: a function that takes the URL and returns the open store."""
