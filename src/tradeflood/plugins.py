"""Loading plug-ins. The built-in venues arrive by the same hook as anybody else's."""

from __future__ import annotations

import pkgutil
import warnings
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType

import pluggy
from attrs import define, field

from tradeflood import bindings, connectors, hookspecs
from tradeflood.hookspecs import hookimpl
from tradeflood.models import Model
from tradeflood.store import SCHEMES
from tradeflood.store.tables import check_names
from tradeflood.turns import registry

GROUP = "tradeflood"


@define
class Plugin:
    """A plug-in that was found: where it came from, the hooks it answers, what it brought, why it failed."""

    name: str
    version: str
    hooks: list[str] = field(factory=list)
    venues: list[str] = field(factory=list)
    models: list[str] = field(factory=list)
    bindings: list[str] = field(factory=list)
    error: str | None = None


class BuiltIn:
    """What comes with the library."""

    @hookimpl
    def tradeflood_modules(self) -> Sequence[str]:
        """Every module of the built-in rooms."""
        return [name for room in (connectors, bindings) for name in _modules(room)]


@cache
def load() -> tuple[Plugin, ...]:
    """Find and load every plug-in, once per process. One that fails is named in a warning and left out."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    found = [_take(manager, "tradeflood", "built in", BuiltIn)]
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        version = entry.dist.version if entry.dist else "?"
        found.append(_take(manager, entry.name, version, entry.load))
    return tuple(found)


def _take(manager: pluggy.PluginManager, name: str, version: str, get: object) -> Plugin:
    plugin = Plugin(name, version)
    before = _known()
    try:
        with registry.whole():
            loaded = get()  # type: ignore[operator]
            manager.register(loaded, name)
            manager.check_pending()
            answers = {hook.name: hook for hook in manager.get_hookcallers(loaded) or []}
            plugin.hooks = sorted(answers)
            only = manager.subset_hook_caller
            others = [other for other_name, other in manager.list_name_plugin() if other_name != name]
            for modules in only("tradeflood_modules", others)():
                for module in modules:
                    import_module(module)
            schemes = [dict(stores) for stores in only("tradeflood_stores", others)()]
            for model in set(Model.models) - before[1]:  # one that cannot be stored is found here, not in every store
                Model.models[model].variants()
            check_names(Model.models.values())
            for openers in schemes:  # last of all: what fails takes nothing that was there
                SCHEMES.update(openers)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody else's code; it must not take the rest down
        plugin.error = f"{type(error).__name__}: {error}"
        warnings.warn(f"the plug-in {name} {version} failed and is left out: {plugin.error}", stacklevel=3)
        manager.set_blocked(name)
    after = _known()
    plugin.venues, plugin.models, plugin.bindings = (sorted(new - old) for old, new in zip(before, after, strict=True))
    return plugin


def _known() -> tuple[set[str], set[str], set[str]]:
    made = {
        f"{binding.connector.venue} {binding.model.name()}" for known in registry.bindings.values() for binding in known
    }
    return set(registry.connectors), set(Model.models), made


def _modules(room: ModuleType) -> list[str]:
    return [f"{room.__name__}.{module.name}" for module in pkgutil.iter_modules(room.__path__)]
