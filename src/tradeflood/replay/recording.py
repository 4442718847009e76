"""Recordings on disk, as `tradeflood.transport.record` writes them, read back line by line."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from attrs import frozen

from tradeflood.errors import UsageError
from tradeflood.turns import Reply


class Exchange(msgspec.Struct):
    """A line of a `rest-` file: a request and what was answered."""

    at: int
    method: str
    path: str
    params: dict[str, str]
    status: int
    headers: dict[str, str] = {}
    body: str | None = None
    base64: str | None = None

    @property
    def reply(self) -> Reply:
        """The answer, as a connector takes it."""
        return Reply(self.status, _bytes(self.body, self.base64), self.headers, self.at)


class Said(msgspec.Struct):
    """A line of a `feed-` file: a frame, or that the connection was opened."""

    at: int
    dir: Literal["connect", "out", "in"]
    url: str = ""
    text: str | None = None
    base64: str | None = None

    @property
    def frame(self) -> str | bytes:
        """The frame as it came: text, or bytes where it was no text."""
        return _bytes(None, self.base64) if self.text is None else self.text


Line = TypeVar("Line", Exchange, Said)


@frozen
class Recording:
    """All that one venue said: answers and received frames, each in the order in which they came."""

    answers: tuple[Exchange, ...]
    frames: tuple[Said, ...]


def read(folder: Path) -> dict[str, Recording]:
    """The recordings below a folder, by venue.

    Raises UsageError where there is none, and for a line that is not of the form, naming file and line.
    """
    if not folder.is_dir():
        raise UsageError(f"no recording at {folder}: there is no such folder")
    found: dict[str, Recording] = {}
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        answers = _in_time(_lines(path, Exchange) for path in sorted(place.glob("rest-*.jsonl")))
        frames = _in_time(_lines(path, Said) for path in sorted(place.glob("feed-*.jsonl")))
        if answers or frames:
            found[place.name] = Recording(tuple(answers), tuple(line for line in frames if line.dir == "in"))
    if not found:
        raise UsageError(f"no recording in {folder}: it has no VENUE/rest-*.jsonl and no VENUE/feed-*.jsonl")
    return found


def _lines(path: Path, kind: type[Line]) -> Iterator[Line]:
    decode = msgspec.json.Decoder(kind).decode
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                if not text.strip():
                    continue
                try:
                    line = decode(text)
                    _check(line)
                except (msgspec.MsgspecError, ValueError) as error:
                    raise UsageError(f"{path}, line {number}: no line of a recording: {error}") from error
                yield line
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _check(line: Exchange | Said) -> None:
    """Raises ValueError where a line has no content, or one that is no base64."""
    text = line.body if isinstance(line, Exchange) else line.text
    if text is None and line.base64 is None:
        raise ValueError(f"neither {'body' if isinstance(line, Exchange) else 'text'} nor base64 in it")
    if line.base64 is not None:
        _bytes(None, line.base64)


def _bytes(text: str | None, base64: str | None) -> bytes:
    return b64decode(base64 or "", validate=True) if text is None else text.encode()


def _in_time(files: Iterator[Iterator[Line]]) -> list[Line]:
    """The lines of several files by time; a file keeps its own order, even where its clock was set back."""
    placed: list[tuple[int, Line]] = []
    for lines in files:
        latest = 0
        for line in lines:
            latest = max(latest, line.at)
            placed.append((latest, line))
    return [line for _, line in sorted(placed, key=lambda pair: pair[0])]
