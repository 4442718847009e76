"""Keeping what venues said, byte for byte, with our clock: what `tradeflood replay` serves again.

A folder per venue; in it one file of JSON lines for requests, and one per live connection:

    rest-<start>.jsonl   {"at", "method", "path", "params", "status", "headers", "body"}
    feed-<start>.jsonl   {"at", "dir": "connect" | "out" | "in", "url", "text"}

`at` is in ns. What is not UTF-8 stands in `base64` instead of `body` or `text`.
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from tradeflood.errors import UsageError
from tradeflood.transport.base import Call, Transport
from tradeflood.turns import Reply

_KEPT = ("date", "content-type", "retry-after")


class Recorder:
    """Writes recordings below a folder. One per process; close it to flush."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._encode = msgspec.json.Encoder().encode
        self._files: dict[tuple[str, str], BinaryIO] = {}

    def open(self) -> None:
        """Make the folder.

        Raises UsageError where that cannot be.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"cannot record into {self.folder}: {error.strerror}; name a folder that can be written"
            raise UsageError(text) from error

    def rest(self, call: Call, reply: Reply) -> None:
        """Keep an answer."""
        request = call.request
        self._write(call.venue, "rest", reply.received_at, {
            "at": reply.received_at,
            "method": request.method,
            "path": request.path,
            "params": {name: str(value) for name, value in request.params},
            "status": reply.status,
            "headers": {name: reply.headers[name] for name in _KEPT if name in reply.headers},
            **_text("body", reply.body),
        })  # fmt: skip

    def feed(self, venue: str, connection: int, at: int, direction: str, frame: bytes | str, url: str = "") -> None:
        """Keep a frame of a live connection, or that it was opened."""
        line: dict[str, Any] = {"at": at, "dir": direction}
        if url:
            line["url"] = url
        data = frame.encode() if isinstance(frame, str) else frame
        self._write(venue, f"feed-{connection}", at, {**line, **_text("text", data)})

    def close(self) -> None:
        """Flush and close every file."""
        files, self._files = self._files, {}
        for file in files.values():
            file.close()

    def _write(self, venue: str, name: str, at: int, line: dict[str, Any]) -> None:
        file = self._files.get((venue, name))
        if file is None:
            folder = self.folder / venue
            folder.mkdir(parents=True, exist_ok=True)
            file = self._files[venue, name] = (folder / f"{name}-{at}.jsonl").open("ab")
        file.write(self._encode(line) + b"\n")


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


def _text(name: str, data: bytes) -> dict[str, str]:
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {"base64": b64encode(data).decode()}
