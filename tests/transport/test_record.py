"""Recording: what was said is kept byte for byte, and comes back so."""

import asyncio
import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from base64 import b64decode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.errors import TransportError, UsageError
from tradeflood.models.time import HOUR
from tradeflood.replay.recording import read
from tradeflood.testing import FakeTransport
from tradeflood.transport import DIRECT, Call, Recorded, Recorder, record
from tradeflood.turns import Budget, Reply, Request


def call(path="/x", params=(("a", 1),), venue="binance"):
    return Call(venue, "http://somewhere", Request(path, params), "rest", Budget("w", 1, 1), 1, (), DIRECT)


def lines(folder):
    return {
        str(path.relative_to(folder)): [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted(Path(folder).rglob("*.jsonl"))
    }


def test_an_answer_and_a_frame_are_lines_of_their_files(tmp_path):
    recorder = Recorder(tmp_path / "there" / "in")
    recorder.open()
    headers = {"date": "Thu, 01 Jan 2026 00:00:00 GMT", "set-cookie": "secret", "retry-after": "5"}
    recorder.rest(call(), Reply(418, '{"ä":1}'.encode(), headers, 7))
    recorder.feed("binance", 1, 8, "connect", "", "ws://somewhere/stream?a=b")
    recorder.feed("binance", 1, 9, "out", '{"id":1}')
    recorder.feed("binance", 1, 10, "in", b"\xff\x00")
    recorder.feed("binance", 2, 11, "in", b"pong")
    recorder.close()
    recorder.close()
    kept = lines(tmp_path / "there" / "in")
    assert kept["binance/rest-7.jsonl"] == [
        {
            "at": 7, "method": "GET", "path": "/x", "params": {"a": "1"}, "status": 418,
            "headers": {"date": headers["date"], "retry-after": "5"}, "body": '{"ä":1}',
        }
    ]  # fmt: skip
    one, other = (kept[name] for name in kept if "feed" in name)
    assert [line["dir"] for line in one] == ["connect", "out", "in"]
    assert one[0]["url"] == "ws://somewhere/stream?a=b"
    assert b64decode(one[2]["base64"]) == b"\xff\x00"
    assert other == [{"at": 11, "dir": "in", "text": "pong"}]


@given(st.lists(st.tuples(st.binary(max_size=50), st.booleans()), max_size=20))
def test_whatever_was_said_is_read_back_byte_for_byte(tmp_path_factory, said):
    folder = tmp_path_factory.mktemp("recording")
    recorder = Recorder(folder)
    recorder.open()
    recorder.feed("binance", 1, 1, "connect", "", "ws://x/stream")
    for number, (data, is_answer) in enumerate(said, 2):
        if is_answer:
            recorder.rest(call(params=(("n", number),)), Reply(200, data, {}, number))
        else:
            recorder.feed("binance", 1, number, "in", data)
    recorder.close()
    bodies, frames = [], []
    for name, kept in lines(folder).items():
        for line in kept:
            data = b64decode(line["base64"]) if "base64" in line else line.get("body", line.get("text", "")).encode()
            if "rest" in name:
                bodies.append(data)
            elif line["dir"] == "in":
                frames.append(data)
    assert bodies == [data for data, is_answer in said if is_answer]
    assert frames == [data for data, is_answer in said if not is_answer]
    assert set(read(folder)) == {"binance"}


def test_a_recorded_transport_answers_as_the_inner_one_and_keeps_only_answers(tmp_path):
    recorder = Recorder(tmp_path)
    answers = [b"[1]", TransportError("gone")]
    inner = FakeTransport(lambda call: answers.pop(0))
    transport = Recorded(inner, recorder)

    async def main():
        reply = await transport.send(call())
        with pytest.raises(TransportError):
            await transport.send(call())
        await transport.close()
        return reply

    assert asyncio.run(main()).body == b"[1]"
    recorder.close()
    (kept,) = lines(tmp_path).values()
    assert [line["body"] for line in kept] == ["[1]"]
    assert inner.closed


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot record into .*: Not a directory; name a folder that can be written"):
        Recorder(tmp_path / "file" / "x").open()


# ---------------------------------------------------------------- a feed that does not wait


def test_what_lies_aside_is_written_without_being_told(tmp_path):
    """As soon as there is enough of it; whoever records has nothing to do with it."""
    recorder = Recorder(tmp_path)
    for number in range(1_100):
        recorder.feed("binance", 1, number, "in", b"x" * 1_000)
    deadline = time.monotonic() + 5
    while not (there := list(tmp_path.rglob("*.jsonl"))) or there[0].stat().st_size < 1_000_000:
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
    assert recorder.lost == 0
    recorder.close()
    assert [line["at"] for line in lines(tmp_path)["binance/feed-1-0.jsonl"]] == list(range(1_100))


def test_files_are_followed_by_others_when_they_are_large_or_old(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "LARGEST", 300)
    recorder = Recorder(tmp_path)
    for number in range(10):
        recorder.feed("binance", 1, number, "in", b"x" * 100)
        recorder.flush()
    recorder.feed("binance", 2, 20, "in", b"y")
    recorder.flush()
    recorder.feed("binance", 2, 20 + HOUR, "in", b"y")
    recorder.flush()
    recorder.close()
    names = sorted(lines(tmp_path))
    assert [name for name in names if "feed-1-" in name] == [f"binance/feed-1-{at}.jsonl" for at in (0, 3, 6, 9)]
    assert [name for name in names if "feed-2-" in name] == [
        "binance/feed-2-20.jsonl",
        f"binance/feed-2-{20 + HOUR}.jsonl",
    ]
    kept = read(tmp_path)["binance"]
    assert [line.at for line in kept.frames] == [*range(10), 20, 20 + HOUR]


def test_two_recorders_never_write_into_one_file(tmp_path):
    for text in (b"first", b"second"):
        recorder = Recorder(tmp_path)
        recorder.feed("binance", 1, 7, "in", text)
        recorder.close()
    assert [said.frame for said in read(tmp_path)["binance"].frames] == ["first", "second"]


def test_a_half_line_at_the_end_of_a_file_is_left_out(tmp_path):
    """As after kill -9, or where the disk was full; in the middle of a file it would be an error."""
    recorder = Recorder(tmp_path)
    recorder.feed("binance", 1, 7, "in", b"whole")
    recorder.close()
    (path,) = tmp_path.rglob("*.jsonl")
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole + whole[:length])
        assert next(said.frame for said in read(tmp_path)["binance"].frames) == "whole"
    path.write_bytes(whole + whole[:20] + b"\n" + whole)
    with pytest.raises(UsageError, match="line 2: no line of a recording"):
        read(tmp_path)


KILLED = """
import os, signal, sys, threading
from tradeflood.transport import Recorder
recorder = Recorder(sys.argv[1])
recorder.open()
for number in range(5_000):
    recorder.feed("binance", 1, number, "in", b'{"n":%d}' % number)
recorder.flush()
for number in range(5_000, 5_500):
    recorder.feed("binance", 1, number, "in", b'{"n":%d}' % number)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_a_recording_that_can_be_read(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, timeout=30)
    assert done.returncode == -signal.SIGKILL
    frames = read(tmp_path)["binance"].frames
    assert len(frames) >= 5_000
    assert [frame.at for frame in frames] == list(range(len(frames)))


class Full:
    """A disk with room for so many bytes."""

    def __init__(self, room):
        self.room = room

    def __call__(self, path, mode):
        disk, whole = self, io.FileIO(path, mode)

        class File:
            def write(self, data):
                some = data[: disk.room]
                disk.room -= len(some)
                if not some:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return whole.write(some)

            truncate, close = whole.truncate, whole.close

        return File()


def test_a_full_disk_ends_the_recording_and_nothing_else(tmp_path, monkeypatch, caplog):
    """One line says so, what is not kept is counted, what was kept can be read, and the feed never sees an error."""
    monkeypatch.setattr(record, "FileIO", Full(500))
    recorder = Recorder(tmp_path)
    for number in range(50):
        recorder.feed("binance", 1, number, "in", b"x" * 50)
        if number % 5 == 4:
            recorder.flush()
    recorder.rest(call(), Reply(200, b"[]", {}, 60))
    recorder.close()
    kept = read(tmp_path)["binance"].frames
    assert 0 < len(kept) < 50
    assert recorder.lost == 51 - len(kept)
    assert recorder.trouble == (
        f"recording {tmp_path}: stopped: No space left on device; {51 - len(kept)} frames and answers were not kept"
    )
    said = [entry.message for entry in caplog.records]
    assert len(said) == 2
    assert said[0].endswith("collecting goes on without it")
    assert said[1] == recorder.trouble


def test_a_disk_that_is_slower_than_the_feed_loses_frames_and_counts_them(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "FULL", 1_000)
    recorder = Recorder(tmp_path)
    with recorder._lock:  # the disk takes its time
        for number in range(40):
            recorder.feed("binance", 1, number, "in", b"x" * 100)
    recorder.close()
    kept = len(read(tmp_path)["binance"].frames)
    assert 10 <= kept < 40
    assert recorder.lost == 40 - kept
    assert "the disk was slower than the feed" in recorder.trouble


def test_connections_of_several_streams_have_numbers_of_their_own(tmp_path):
    recorder = Recorder(tmp_path)
    assert [recorder.connection() for _ in range(3)] == [1, 2, 3]
