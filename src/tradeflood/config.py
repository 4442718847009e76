"""Configuration: one TOML file, or a dict of the same shape, and the environment."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

import cattrs
from attrs import define, evolve, field, fields_dict, has
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError

from tradeflood.errors import UsageError
from tradeflood.models.time import parse_duration
from tradeflood.turns import Settings

FILE = "tradeflood.toml"
STORE = "chdb://./tradeflood-data"
BUSES = ("memory",)
OVERFLOWS = ("wait", "drop")
"""What becomes of live rows that come while as many wait as may: they wait in the venue's buffers, or are dropped."""
PREFIX = "TRADEFLOOD_"
PLAIN = ("bus", "record", "spill", "store")
"""The keys that the environment may set as well."""
NEAR = 0.8
"""How alike two names are, from 0 to 1, of which one may be meant by the other: others may have names of their own there."""


@define
class Collect:
    """One thing that `run` collects: a model of some markets, live, and `history` back from the start."""

    model: str
    markets: list[str]
    history: str | None = None
    interval: str | None = None
    kind: str | None = None
    origin: str | None = None

    @property
    def venue(self) -> str:
        """The venue of the first market."""
        return self.markets[0].partition(":")[0] if self.markets else ""

    @property
    def variant(self) -> dict[str, str]:
        """The parts of the variant that are stated."""
        parts = {"interval": self.interval, "kind": self.kind, "origin": self.origin}
        return {name: value for name, value in parts.items() if value is not None}


@define
class Config:
    """Everything that can be configured. `store` is None where none is named; see `STORE` for what commands then use."""

    bus: str = "memory://"
    store: str | None = None
    record: str | None = None
    spill: str | None = None
    spill_limit: int = 1 << 30
    overflow: str = "wait"
    audit: bool = True
    collect: list[Collect] = field(factory=list)
    venues: dict[str, Settings] = field(factory=dict)
    proxies: dict[str, list[str]] = field(factory=dict)


def load_config(source: str | Path | Mapping[str, Any] | Config | None = None) -> Config:
    """The configuration of a path, of a dict, or of `./tradeflood.toml` where it exists; then the environment.

    Raises UsageError, one line that names the place in the file.
    """
    if isinstance(source, Config):
        return _from_environment(source)
    if isinstance(source, Mapping):
        return _from_environment(_structured(source, "configuration"))
    if not isinstance(source, str | Path | None):
        raise UsageError(f"a configuration is a path or a dict, not {source!r}")
    path = Path(FILE if source is None else source)
    if source is None and not path.exists():
        return _from_environment(Config())
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    return _from_environment(_structured(values, str(path)))


def _structured(values: Mapping[str, Any], where: str) -> Config:
    try:
        config = _converter.structure(values, Config)
    except cattrs.BaseValidationError as error:
        path, why = _first(error)
        raise UsageError(": ".join(part for part in (where, path, why) if part)) from error
    for key, url, schemes in (("bus", config.bus, BUSES), ("store", config.store, None)):
        scheme, found, _ = ("", "://", "") if url is None else url.partition("://")
        if not found or (schemes is not None and scheme not in schemes):
            known = f"there is {', '.join(f'{name}://' for name in schemes)}" if schemes else f"write it like {STORE}"
            raise UsageError(f"{where}: {key}: no {key} {url!r}; {known}")
    for key, folder in (("record", config.record), ("spill", config.spill)):
        if folder == "":
            raise UsageError(f"{where}: {key}: name a folder, or leave the key out")
    if config.spill_limit <= 0:
        raise UsageError(f"{where}: spill_limit: must be a number of bytes, not {config.spill_limit}")
    if config.overflow not in OVERFLOWS:
        raise UsageError(f"{where}: overflow: must be {' or '.join(map(repr, OVERFLOWS))}, not {config.overflow!r}")
    for number, wanted in enumerate(config.collect):
        if wanted.history is not None:
            try:
                parse_duration(wanted.history)
            except UsageError as error:
                raise UsageError(f"{where}: collect[{number}].history: {error}") from error
    return config


def _from_environment(config: Config) -> Config:
    """`TRADEFLOOD_STORE`, `TRADEFLOOD_BUS`, `TRADEFLOOD_RECORD`, `TRADEFLOOD_SPILL`, `TRADEFLOOD_VENUES__BINANCE__REST_URL` and so on; an empty one counts as none."""
    venues = dict(config.venues)
    plain: dict[str, Any] = {}
    for name, value in os.environ.items():
        if not (name.startswith(PREFIX) and value):
            continue
        path = name.removeprefix(PREFIX).lower().split("__")
        if len(path) == 1 and path[0] in PLAIN:
            plain[path[0]] = value
        elif path[0] in fields_dict(Config) and (path[0] != "venues" or len(path) != 3):
            raise UsageError(f"{name}: {path[0]} cannot be set so; write it into a configuration file")
        elif len(path) == 1 and (near := get_close_matches(path[0], PLAIN, 1, NEAR)):
            raise UsageError(f"{name}: no such setting; did you mean {PREFIX}{near[0].upper()}?")
        elif len(path) == 3 and path[0] == "venues":
            if path[2] not in {"rest_url", "feed_url"}:
                raise UsageError(f"{name}: no such setting of a venue; there are REST_URL and FEED_URL")
            setting: dict[str, Any] = {path[2]: value}
            venues[path[1]] = evolve(venues.get(path[1], Settings()), **setting)
    return evolve(config, venues=venues, **plain)


# ---------------------------------------------------------------- cattrs, made strict

_converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
_WORDS = {str: "text", int: "a whole number", bool: "true or false", list: "a list", dict: "a table"}


def _strict(kind: type) -> Any:
    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise TypeError(f"must be {_WORDS[kind]}, not {value!r}")
        return value

    return structure


for _kind in (str, int, bool):
    _converter.register_structure_hook(_kind, _strict(_kind))


def _made_of(*kinds: Any) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) in kinds


@_converter.register_structure_hook_factory(_made_of(list))
def _list_hook(kind: Any, converter: cattrs.Converter) -> Any:
    of = get_args(kind)[0]

    def structure(value: Any, _: Any) -> Any:
        if isinstance(value, Mapping):
            raise TypeError("must be a list, not a table; in TOML a list of tables has double brackets: [[…]]")
        if not isinstance(value, list):
            raise TypeError(f"must be a list, not {value!r}")
        return [_placed(converter, inner, of, f"[{index}]") for index, inner in enumerate(value)]

    return structure


@_converter.register_structure_hook_factory(_made_of(dict, Mapping))
def _table_hook(kind: Any, converter: cattrs.Converter) -> Any:
    of = get_args(kind)[1]

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError(f"must be a table, not {value!r}")
        return {name: _placed(converter, inner, of, f".{name}") for name, inner in value.items()}

    return structure


class _PlacedError(Exception):
    """A mistake with the place in which it stands, below the one that is being read."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why


def _placed(converter: cattrs.Converter, value: Any, of: Any, path: str) -> Any:
    if has(of) and not isinstance(value, Mapping):
        raise _PlacedError(path, f"must be a table, not {value!r}")
    try:
        return value if of is Any else converter.structure(value, of)
    except Exception as error:
        inner, why = _first(error)
        raise _PlacedError(path + (f".{inner}" if inner and inner[0] != "[" else inner), why) from error


def _first(error: BaseException) -> tuple[str, str]:
    """The place of the first mistake, such as `collect[0].model`, and what it is."""
    path = ""
    while isinstance(error, ClassValidationError):
        inner = error.exceptions[0]
        for note in getattr(inner, "__notes__", ()):
            if (name := getattr(note, "name", None)) is not None:
                path += f".{name}" if path else str(name)
        error = inner
    if isinstance(error, _PlacedError):
        return (path + error.path).lstrip("."), error.why
    if isinstance(error, ForbiddenExtraKeysError):
        known = ", ".join(fields_dict(error.cl))
        return path, f"no key {', '.join(repr(name) for name in sorted(error.extra_fields))}; there are {known}"
    if isinstance(error, KeyError):
        return path.removesuffix(name := str(error.args[0])).rstrip("."), f"the key {name!r} is missing"
    return path, str(error)
