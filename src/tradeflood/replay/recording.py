"""Recordings on disk, as `tradeflood.transport.record` writes them, read back line by line."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush, merge
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

    A file may end in the midst of a line: the process that wrote it was killed.
    Raises UsageError where there is none, and for a line that is not of the form, naming file and line.
    """
    found: dict[str, Recording] = {}
    for name in venues(folder):
        files = files_of(folder, name)
        answers, frames = tuple(files.answers()), tuple(files.frames())
        if answers or frames:
            found[name] = Recording(answers, tuple(line for line in frames if line.dir == "in"))
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
                    if _is_torn(text):
                        return
                    raise UsageError(f"{path}, line {number}: no line of a recording: {error}") from error
                yield line
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _is_torn(text: bytes) -> bool:
    """Whether a line is the beginning of one: whoever wrote it was killed, or the disk was full."""
    return not text.endswith(b"\n")


def _check(line: Exchange | Said) -> None:
    """Raises ValueError where a line has no content, or one that is no base64."""
    text = line.body if isinstance(line, Exchange) else line.text
    if text is None and line.base64 is None:
        raise ValueError(f"neither {'body' if isinstance(line, Exchange) else 'text'} nor base64 in it")
    if line.base64 is not None:
        _bytes(None, line.base64)


def _bytes(text: str | None, base64: str | None) -> bytes:
    return b64decode(base64 or "", validate=True) if text is None else text.encode()


@frozen
class Files:
    """The files of one venue's recording, to be read line by line, each kind by time. They are never in memory as a whole."""

    rest: tuple[Path, ...]
    feed: tuple[Path, ...]

    def answers(self) -> Iterator[Exchange]:
        """Every answer."""
        return _in_time(self.rest, Exchange)

    def frames(self) -> Iterator[Said]:
        """Every line of every connection."""
        return _in_time(self.feed, Said)

    def everything(self) -> Iterator[Exchange | Said]:
        """Answers and frames together."""
        return merge(self.answers(), self.frames(), key=lambda line: line.at)


def venues(folder: Path) -> list[str]:
    """The venues that were recorded below a folder.

    Raises UsageError where there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"no recording at {folder}: there is no such folder")
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def files_of(folder: Path, venue: str) -> Files:
    """The recording of a venue."""
    place = folder / venue
    return Files(tuple(sorted(place.glob("rest-*.jsonl"))), tuple(sorted(place.glob("feed-*.jsonl"))))


def _in_time(paths: Sequence[Path], kind: type[Line]) -> Iterator[Line]:
    """The lines of several files by time; a file keeps its own order, even where its clock was set back.

    A file is opened when its time has come, which its name tells: a long recording has many.
    """
    waiting = sorted(((_begun(path), number, path) for number, path in enumerate(paths)), reverse=True)
    reading: list[tuple[int, int, Line, Iterator[Line]]] = []
    while waiting or reading:
        while waiting and (not reading or waiting[-1][0] <= reading[0][0]):
            _, number, path = waiting.pop()
            _advance(reading, number, _lines(path, kind), 0)
        if reading:
            latest, number, line, lines = heappop(reading)
            yield line
            _advance(reading, number, lines, latest)


def _advance(
    reading: list[tuple[int, int, Line, Iterator[Line]]], number: int, lines: Iterator[Line], latest: int
) -> None:
    """Put the next line of a file among those that are being read; nothing where it is over."""
    line = next(lines, None)
    if line is not None:
        heappush(reading, (max(latest, line.at), number, line, lines))


def _begun(path: Path) -> int:
    """When the first line of a file came, by its name; 0 where that does not tell."""
    text = path.stem.rpartition("-")[2]
    return int(text) if text.isdecimal() else 0
