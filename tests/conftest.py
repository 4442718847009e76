"""What every test may ask for: real recordings, a quick and a thorough hypothesis profile, an unconfigured environment."""

import importlib.util
import json
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

# The quick profile is the same on every run, so a red test is red for everybody; the thorough one looks for news.
settings.register_profile(
    "quick", max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def recordings_folder() -> Path:
    """The folder of real recordings: TRADEFLOOD_RECORDINGS, else shared/data beside the clone; it may not exist."""
    named = Path(os.environ.get("TRADEFLOOD_RECORDINGS", "../shared/data"))
    return named if named.is_absolute() else (ROOT / named).resolve()


class Recordings:
    """The recordings with their index and their reader, which belong to them and are not copied here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def index(self) -> list[dict[str, Any]]:
        """One entry per recorded file."""
        entries: list[dict[str, Any]] = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
        return entries

    @cached_property
    def reader(self) -> ModuleType:
        """The module that turns every file into events."""
        spec = importlib.util.spec_from_file_location("recordings_reader", self.folder / "reader.py")
        if spec is None or spec.loader is None:
            pytest.skip(f"no reader.py in {self.folder}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def path(self, name: str) -> Path:
        """The file called so; the test is skipped where this set of recordings lacks it."""
        path = self.folder / name
        if not path.exists():
            pytest.skip(f"the recording {name} is not in {self.folder}")
        return path

    def events(self, name: str) -> Iterator[Any]:
        """Everything that was said in the file, in its order."""
        return self.reader.iter_events(self.path(name))

    def load(self, name: str) -> Any:
        """The JSON file with exact numbers."""
        return self.reader.load(self.path(name))


def pytest_configure() -> None:
    """Makes the folder absolute for every test and subprocess, wherever it works."""
    folder = recordings_folder()
    if folder.is_dir():
        os.environ["TRADEFLOOD_RECORDINGS"] = str(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs recordings where there are none, and says where they were looked for."""
    folder = recordings_folder()
    if folder.is_dir():
        return
    absent = pytest.mark.skip(reason=f"no recordings at {folder}; set TRADEFLOOD_RECORDINGS")
    for item in items:
        if item.get_closest_marker("recordings"):
            item.add_marker(absent)


@pytest.fixture(scope="session")
def recordings() -> Recordings:
    """The real recordings; the test is skipped where there are none."""
    folder = recordings_folder()
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}; set TRADEFLOOD_RECORDINGS")
    return Recordings(folder)


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of the person who runs it."""
    for name in list(os.environ):
        if name.startswith("TRADEFLOOD_") and name != "TRADEFLOOD_RECORDINGS":
            monkeypatch.delenv(name)
