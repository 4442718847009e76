"""A venue that told us to wait is named while requests wait for it, and in what a run tells in the end."""

import asyncio
import json

from tradeflood.cli.progress import pauses_json, pauses_named
from tradeflood.cli.running import show
from tradeflood.config import Config
from tradeflood.models.time import HOUR, MINUTE, SECOND
from tradeflood.runner.metrics import Counts
from tradeflood.runner.runner import Report
from tradeflood.testing import FakeClock
from tradeflood.transport import Call, Exit, Limiter
from tradeflood.turns import Budget, get

LIMIT = "somewhere: not to be asked before 2026-01-01T00:01:00Z (its limit of trades); waiting: /trades\n"
BAN = "elsewhere: not to be asked through proxy:8080 before 2026-01-01T01:00:00Z (we are banned); waiting: /time\n"


def call(venue, path, proxy=None):
    return Call(venue, "http://x", get(path), "rest", Budget(path.strip("/"), 10, per=MINUTE), 1, (), Exit(proxy))


def paused():
    limiter = Limiter(FakeClock())
    limiter.pause(call("somewhere", "/trades"), limiter._clock.now() + MINUTE)
    limiter.pause(call("elsewhere", "/time", "http://me:secret@proxy:8080"), limiter._clock.now() + HOUR, banned=True)
    return limiter


def test_each_pause_is_a_line_on_standard_error_once(capsys, monkeypatch):
    monkeypatch.setattr("tradeflood.cli.progress.LOOK_EVERY", 0)
    limiter = paused()
    limiter.pause(call("briefly", "/x"), limiter._clock.now() + SECOND)

    async def main():
        with pauses_named(limiter):
            for _ in range(20):
                await asyncio.sleep(0)
            limiter.pause(call("somewhere", "/trades"), limiter._clock.now() + 2 * MINUTE)
            for _ in range(20):
                await asyncio.sleep(0)

    asyncio.run(main())
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == LIMIT + BAN + LIMIT.replace("00:01:00", "00:02:00")


def test_the_report_of_a_run_ends_with_them(capsys):
    report = Report(pauses=paused().pauses())
    show(report, Config(), Counts(), as_json=False)
    assert capsys.readouterr().out.endswith(LIMIT + BAN)
    show(report, Config(), Counts(), as_json=True)
    told = json.loads(capsys.readouterr().out)["pauses"]
    assert told == pauses_json(report.pauses) == [
        {"venue": "somewhere", "budget": "trades", "proxy": None, "until": "2026-01-01T00:01:00Z", "waiting": ["/trades"]},
        {"venue": "elsewhere", "budget": None, "proxy": "proxy:8080", "until": "2026-01-01T01:00:00Z", "waiting": ["/time"]},
    ]  # fmt: skip
