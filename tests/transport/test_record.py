"""Recording: what was said is kept byte for byte, and comes back so."""

import asyncio
import json
from base64 import b64decode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.errors import TransportError, UsageError
from tradeflood.replay.recording import read
from tradeflood.testing import FakeTransport
from tradeflood.transport import DIRECT, Call, Recorded, Recorder
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
