"""Keeping what venues said, byte for byte, with our clock: `tradeflood replay` serves it again, or reads it anew.

A folder per venue; in it files of JSON lines for requests, and for each live connection:

    rest-<start>.jsonl                {"at", "method", "path", "params", "status", "headers", "body"}
    feed-<connection>-<start>.jsonl   {"at", "dir": "connect" | "out" | "in", "url", "text"}

`at` is in ns, and so is `start`, the `at` of the first line. What is not UTF-8 stands in `base64` instead of `body` or
`text`. A file that has grown too large or too old is followed by another one.

Whoever hears a frame only lays it aside. A thread encodes and writes what lies there, every half second or as soon as
there is enough: the feed never waits for a disk, and a process that is killed loses half a second of its recording.
"""

from __future__ import annotations

import logging
import threading
from base64 import b64encode
from collections import deque
from contextlib import suppress
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from tradeflood.errors import UsageError
from tradeflood.models.time import HOUR
from tradeflood.transport.base import Call, Transport
from tradeflood.turns import Reply

log = logging.getLogger("tradeflood")

_KEPT = ("date", "content-type", "retry-after")

FLUSH_EVERY = 0.5  # seconds
FLUSH_AT = 1024 * 1024
"""How many bytes come before they are written at once."""

FULL = 64 * 1024 * 1024
"""How many bytes may lie aside: where a disk is slower than the feed, what is beyond that is not kept, and counted."""

LARGEST = 64 * 1024 * 1024
LONGEST = HOUR
"""The size and the age at which a file is followed by another one."""


class _Frame(msgspec.Struct, omit_defaults=True):
    """A line of a `feed-` file."""

    at: int
    dir: str
    url: str = ""
    text: str | None = None
    base64: str | None = None


class _Answer(msgspec.Struct, omit_defaults=True):
    """A line of a `rest-` file."""

    at: int
    method: str
    path: str
    params: dict[str, str]
    status: int
    headers: dict[str, str]
    body: str | None = None
    base64: str | None = None


_Key: TypeAlias = tuple[str, int]
"""A venue, and the number of a connection; 0 for its answers."""
_Aside: TypeAlias = tuple[_Key, int, Any, Any, str]


class Recorder:
    """Writes recordings below a folder. One per process; close it to write what still lies aside.

    A disk that refuses ends the recording and nothing else: `trouble` then says why, and how much was not kept.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.lost = 0
        self._aside: deque[_Aside] = deque()
        self._taken = self._wake_at = self._written = 0  # bytes; what the writer changes nobody else does
        self._connections = count(1)
        self._encode = msgspec.json.Encoder().encode_lines
        self._files: dict[_Key, _File] = {}
        self._why: str | None = None
        self._behind = False
        self._enough, self._lock = threading.Event(), threading.Lock()
        self._over = False
        self._writer: threading.Thread | None = None

    def open(self) -> None:
        """Make the folder.

        Raises UsageError where that cannot be.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"cannot record into {self.folder}: {error.strerror}; name a folder that can be written"
            raise UsageError(text) from error

    @property
    def trouble(self) -> str | None:
        """Why and how much of what was said is not in the recording; None where all of it is."""
        if not self.lost and self._why is None:
            return None
        why = self._why or "the disk was slower than the feed"
        return f"recording {self.folder}: {why}; {self.lost} frames and answers were not kept"

    def connection(self) -> int:
        """A number for a live connection, which no other one of this process has."""
        return next(self._connections)

    def rest(self, call: Call, reply: Reply) -> None:
        """Keep an answer."""
        self._lay(((call.venue, 0), reply.received_at, call.request, reply, ""), len(reply.body))

    def feed(self, venue: str, connection: int, at: int, direction: str, frame: bytes | str, url: str = "") -> None:
        """Keep a frame of a live connection, or that it was opened."""
        self._lay(((venue, connection), at, direction, frame, url), len(frame))

    def _lay(self, aside: _Aside, size: int) -> None:
        if self._why is not None or self._taken - self._written > FULL:
            self._lose()
            return
        self._taken += size
        self._aside.append(aside)
        if self._taken >= self._wake_at or self._writer is None:
            self._wake()

    def _lose(self) -> None:
        self.lost += 1
        if self._why is None and not self._behind:
            self._behind = True
            log.error("recording %s: the disk is slower than the feed; what comes now is not all kept", self.folder)

    def _wake(self) -> None:
        self._wake_at = self._taken + FLUSH_AT
        if self._writer is None and not self._over:
            self._writer = threading.Thread(target=self._write_on, name="tradeflood-record", daemon=True)
            self._writer.start()
        self._enough.set()

    def flush(self) -> None:
        """Write what lies aside."""
        with self._lock:
            batches: dict[_Key, list[_Aside]] = {}
            size = 0
            for _ in range(len(self._aside)):
                aside = self._aside.popleft()
                batches.setdefault(aside[0], []).append(aside)
                size += len(aside[3].body if not aside[0][1] else aside[3])
            for key, batch in batches.items():
                self._write(key, batch)
            self._written += size

    def close(self) -> None:
        """Write what still lies aside, and close every file."""
        self._over = True
        writer, self._writer = self._writer, None
        if writer is not None:
            self._enough.set()
            writer.join()
        self.flush()
        files, self._files = self._files, {}
        for file in files.values():
            file.close()
        self._over = False
        if (trouble := self.trouble) is not None:
            log.error("%s", trouble)

    # ---------------------------------------------------------------- the writer's own

    def _write_on(self) -> None:
        while not self._over:
            self._enough.wait(FLUSH_EVERY)
            self._enough.clear()
            self.flush()

    def _write(self, key: _Key, batch: list[_Aside]) -> None:
        if self._why is not None:
            self.lost += len(batch)
            return
        line = _frame if key[1] else _answer
        try:
            self._file(key, batch[0][1]).write(self._encode([line(aside) for aside in batch]))
        except OSError as error:
            self._stop(error, len(batch))

    def _stop(self, error: OSError, lost: int) -> None:
        """The disk refuses: no more is kept from here on, and that is said once."""
        self._why = f"stopped: {error.strerror or error}"
        self.lost += lost
        log.error("recording %s: %s; collecting goes on without it", self.folder, self._why)

    def _file(self, key: _Key, at: int) -> _File:
        for old in [known for known, file in self._files.items() if file.is_over(at)]:
            self._files.pop(old).close()
        file = self._files.get(key)
        if file is None:
            file = self._files[key] = _File(self.folder / key[0], f"feed-{key[1]}" if key[1] else "rest", at)
        return file


class _File:
    """A file of a recording, new and ours alone."""

    def __init__(self, folder: Path, name: str, at: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._began, self._size = at, 0
        for start in count(at):
            try:
                self._file = FileIO(folder / f"{name}-{start}.jsonl", "x")
            except FileExistsError:
                continue
            break

    def write(self, lines: bytes) -> None:
        """Append lines: all of them, or, where the disk refuses, none."""
        at = 0
        try:
            while at < len(lines):
                at += self._file.write(lines[at:])
        except OSError:
            with suppress(OSError):
                self._file.truncate(self._size)
            raise
        self._size += len(lines)

    def is_over(self, at: int) -> bool:
        """Whether it is large or old enough."""
        return self._size >= LARGEST or at - self._began >= LONGEST

    def close(self) -> None:
        """Close it."""
        self._file.close()


def _frame(aside: _Aside) -> _Frame:
    _, at, direction, frame, url = aside
    if isinstance(frame, str):
        return _Frame(at, direction, url, frame)
    try:
        return _Frame(at, direction, url, frame.decode())
    except UnicodeDecodeError:
        return _Frame(at, direction, url, None, b64encode(frame).decode())


def _answer(aside: _Aside) -> _Answer:
    _, at, request, reply, _ = aside
    params = {name: str(value) for name, value in request.params}
    headers = {name: reply.headers[name] for name in _KEPT if name in reply.headers}
    line = _Answer(at, request.method, request.path, params, reply.status, headers)
    try:
        line.body = reply.body.decode()
    except UnicodeDecodeError:
        line.base64 = b64encode(reply.body).decode()
    return line


class Recorded:
    """A transport that keeps every answer."""

    def __init__(self, inner: Transport, recorder: Recorder) -> None:
        self._inner, self._recorder = inner, recorder

    async def send(self, call: Call) -> Reply:
        """The answer, kept."""
        reply = await self._inner.send(call)
        self._recorder.rest(call, reply)
        return reply

    async def close(self) -> None:
        """Close the inner transport; the recorder belongs to whoever made it."""
        await self._inner.close()
