"""The spill: batches of rows and claims in files, in order, while the store takes none.

A folder of segments, `000000000001.spill` and so on; a segment is a row of entries:

    length of the body, crc32 of the body, rows in it (three 32-bit numbers, big-endian), body

The body is JSON: rows in their models' own form, then the claims that came with them. An entry is on the disk before
`append` returns. A segment is removed once the store has all of it; whoever is stopped before that writes some entries
twice, which has no effect. An entry that is torn or does not match its sum ends its segment, and what it held is a
hole; no claim that was spilled after it is believed, since it may rest on what is gone.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
from attrs import define, fields, frozen

from tradeflood.coverage import Claim, Dataset, Grade, State
from tradeflood.errors import StoreError, TradeFloodError, UsageError
from tradeflood.models import Model
from tradeflood.models.forms import from_json, to_json
from tradeflood.steps import Observer, ignore

SEGMENT = 8 * 1024 * 1024
"""How many bytes a segment has before the next one begins: what is gone at once when the store has it."""

ROOM = 64 << 20
"""How many bytes of the disk are left free: whatever else is on it, such as the store, needs room to live."""

_HEAD = struct.Struct(">III")
_PLAIN = [field.name for field in fields(Claim) if field.name not in {"dataset", "state", "grade"}]


@frozen
class Batch:
    """Rows by model, and the claims that rest on them and on those before."""

    rows: Mapping[type[Model], Sequence[Model]]
    claims: Sequence[Claim] = ()

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(len(rows) for rows in self.rows.values())


@define
class _Segment:
    """A file, and where its entries are: the offset of each body, its length, its sum, its rows.

    It is `inherited` where an earlier process made it, and `closed` where nothing is appended to it.
    """

    path: Path
    entries: deque[tuple[int, int, int, int]]
    size: int
    inherited: bool = False
    closed: bool = False


class Spill:
    """A queue of batches on the disk, of at most `limit` bytes. Used by one thread at a time."""

    def __init__(self, folder: str | Path, limit: int, observe: Observer = ignore) -> None:
        self.folder, self._limit, self._observe = Path(folder), limit, observe
        self._segments: deque[_Segment] = deque()
        self._torn = False
        self._number = 0
        self.troubles: list[str] = []

    def open(self) -> None:
        """Nothing; the folder is there, and what an earlier run left in it is found.

        Raises UsageError where it cannot be used.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(self.folder.glob("*.spill")):
                self._number = int(path.stem)
                self._torn |= bool(self.troubles)  # what is torn is not the end of all
                segment = self._scanned(path)
                if segment.entries:
                    self._segments.append(segment)
                else:
                    path.unlink()
        except (OSError, ValueError) as error:
            raise UsageError(f"spill {self.folder}: cannot be used: {error}; name a folder of its own") from error

    def _scanned(self, path: Path) -> _Segment:
        """The entries of a file, by their heads alone."""
        entries: deque[tuple[int, int, int, int]] = deque()
        size, at = path.stat().st_size, 0
        with path.open("rb") as file:
            while len(head := file.read(_HEAD.size)) == _HEAD.size:
                length, check, rows = _HEAD.unpack(head)
                if at + _HEAD.size + length > size:
                    break
                entries.append((at + _HEAD.size, length, check, rows))
                at += _HEAD.size + length
                file.seek(at)
        if at < size:
            self.troubles.append(f"spill {path}: its end is torn: {size - at} bytes are left out, and are a hole")
        return _Segment(path, entries, size, inherited=True, closed=True)

    def __len__(self) -> int:
        return sum(len(segment.entries) for segment in self._segments)

    @property
    def size(self) -> int:
        """How many bytes it takes on the disk."""
        return sum(segment.size for segment in self._segments)

    @property
    def rows(self) -> int:
        """How many rows wait in it."""
        return sum(rows for segment in self._segments for _, _, _, rows in segment.entries)

    # ---------------------------------------------------------------- in

    def append(self, batch: Batch) -> None:
        """Nothing; the batch is on the disk, behind those before it.

        Raises StoreError where there is no room for it, with nothing appended.
        """
        self._observe("spill.appending", rows=batch.count, claims=len(batch.claims))
        body = _body(batch)
        entry = _HEAD.pack(len(body), crc32(body), batch.count) + body
        if self.size + len(entry) > self._limit:
            self._observe("spill.full", rows=batch.count, bytes=self.size)
            raise StoreError(f"spill {self.folder}: full, {self.size} of {self._limit} bytes")
        if (left := _free(self.folder)) < ROOM:
            self._observe("spill.full", rows=batch.count, bytes=self.size)
            raise StoreError(f"spill {self.folder}: disk full: {left >> 20} MiB are free, {ROOM >> 20} are left alone")
        segment = self._last()
        try:
            with segment.path.open("ab") as file:
                file.write(entry)
                file.flush()
                self._observe("spill.appended", rows=batch.count, bytes=len(entry))
                os.fsync(file.fileno())
            if not segment.size:
                self._sync_folder()
        except OSError as error:
            self._give_up(segment)
            raise StoreError(f"spill {self.folder}: {error.strerror}") from error
        segment.entries.append((segment.size + _HEAD.size, len(body), crc32(body), batch.count))
        segment.size += len(entry)
        self._observe("spill.synced", rows=batch.count, bytes=len(entry))

    def _last(self) -> _Segment:
        """The segment to append to: one of this process that is not large yet, and whose end is sound."""
        last = self._segments[-1] if self._segments else None
        if last is None or last.size >= SEGMENT or last.closed:
            self._number += 1
            last = _Segment(self.folder / f"{self._number:012}.spill", deque(), 0)
            self._segments.append(last)
        return last

    def _sync_folder(self) -> None:
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _give_up(self, segment: _Segment) -> None:
        """Nothing; a segment is as long as it was before the entry that failed, and nothing is added to it any more."""
        segment.closed = True
        with suppress(OSError):
            os.truncate(segment.path, segment.size)
        if not segment.size:
            self._segments.pop()
            with suppress(OSError):
                segment.path.unlink()

    # ---------------------------------------------------------------- out

    def first(self) -> Batch | None:
        """The batch that is next, None where there is none.

        What cannot be read is left out, and named in `troubles`.
        Raises StoreError for a model that this process does not know.
        """
        while self._segments:
            segment = self._segments[0]
            at, length, check, _ = segment.entries[0]
            try:
                with segment.path.open("rb") as file:
                    file.seek(at)
                    body = file.read(length)
            except OSError as error:
                raise StoreError(f"spill {segment.path}: {error.strerror}") from error
            if crc32(body) == check:
                batch = _batch(body, self.folder)
                self._observe("spill.draining", rows=batch.count, claims=len(batch.claims))
                return Batch(batch.rows) if self._torn and segment.inherited else batch
            left = sum(rows for *_, rows in segment.entries)
            self.troubles.append(f"spill {segment.path}: damaged: {left} rows are left out, and are a hole")
            self._torn = True
            segment.entries.clear()
            self._remove()
        return None

    def drop(self) -> None:
        """Nothing; the store has the batch that was next."""
        segment = self._segments[0]
        *_, rows = segment.entries.popleft()
        self._observe("spill.drained", rows=rows)
        if not segment.entries:
            self._remove()

    def _remove(self) -> None:
        segment = self._segments.popleft()
        segment.path.unlink(missing_ok=True)
        self._observe("spill.truncated", bytes=segment.size)


def _free(folder: Path) -> int:
    """How many bytes are free on the disk of a folder."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def _body(batch: Batch) -> bytes:
    return msgspec.json.encode({
        "rows": {model.name(): [to_json(row) for row in rows] for model, rows in batch.rows.items() if rows},
        "claims": [
            {
                "dataset": [claim.dataset.model.name(), claim.dataset.venue, claim.dataset.market, claim.dataset.variant],
                "state": str(claim.state),
                "grade": None if claim.grade is None else str(claim.grade),
                **{name: getattr(claim, name) for name in _PLAIN},
            }
            for claim in batch.claims
        ],
    })  # fmt: skip


def _batch(body: bytes, folder: Path) -> Batch:
    told: dict[str, Any] = msgspec.json.decode(body)
    try:
        rows = {
            model: [from_json(model, values) for values in some]
            for name, some in told["rows"].items()
            for model in (Model.named(name),)
        }
        return Batch(rows, [_claim(values) for values in told["claims"]])
    except (TradeFloodError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"spill {folder}: a batch does not fit the models that are there: {error}; load the plug-in that it came from"
        ) from error


def _claim(values: dict[str, Any]) -> Claim:
    name, venue, market, variant = values.pop("dataset")
    grade = values.pop("grade")
    return Claim(
        dataset=Dataset(Model.named(name), venue, market, tuple(variant)),
        state=State(values.pop("state")),
        grade=None if grade is None else Grade(grade),
        **values,
    )
