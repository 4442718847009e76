"""The plug-in is found as any other: by its entry point."""

import pytest

from tradeflood import plugins


@pytest.fixture(autouse=True, scope="session")
def loaded():
    found = {plugin.name: plugin for plugin in plugins.load()}
    assert "example" in found, "install the package first, as `make plugins` does"
    return found["example"]
