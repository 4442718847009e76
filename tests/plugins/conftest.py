"""Plug-ins in a folder of their own, and commands that find them there: this process never learns of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import contextlib, io, json, sys
from tradeflood.cli.main import main
done = []
for words in json.loads(sys.argv[1]):
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as end:
            code = end.code
    done.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(done))
"""


class Room:
    """A folder on the path of the commands that are run in it, with a store of their own."""

    def __init__(self, folder: Path) -> None:
        self.packages = folder / "packages"
        self.packages.mkdir(parents=True)
        self.folder = folder
        self.settings: dict[str, str] = {}

    @property
    def environment(self) -> dict[str, str]:
        plain = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TRADEFLOOD_", "PYTHONUNBUFFERED"))
        }
        store = f"chdb://{self.folder / 'store'}"
        return {**plain, "PYTHONPATH": str(self.packages), "TRADEFLOOD_STORE": store, **self.settings}

    def install(self, package: Path) -> None:
        """Installs a package as anybody would, without the network."""
        words = "install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --target".split()
        subprocess.run(
            [sys.executable, "-m", "pip", *words, str(self.packages), str(package)],
            check=True,
            timeout=60,
            capture_output=True,
            env={**os.environ, "PIP_NO_INPUT": "1"},
        )

    def write(self, name: str, code: str) -> None:
        """Puts a plug-in of one module there, with the metadata that an installer would write."""
        (self.packages / f"{name}_module.py").write_text(code, encoding="utf-8")
        info = self.packages / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[tradeflood]\n{name} = {name}_module\n", encoding="utf-8")

    def run(self, *commands: str) -> list[tuple[int, str, str]]:
        """Exit code, standard output and standard error of commands, one after the other in one fresh process."""
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps([command.split() for command in commands])],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=self.folder,
            env=self.environment,
        )
        assert done.returncode == 0, done.stderr
        return [tuple(told) for told in json.loads(done.stdout)]

    def python(self, code: str) -> str:
        """What a script prints."""
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=self.folder,
            env=self.environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path)
