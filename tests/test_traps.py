"""The traps that others fell into (design: traps), each with the tests that keep us out of it.

A trap that is tested elsewhere is named with the places of its tests, which must exist; what is not tested elsewhere is
tested here.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from tradeflood.coverage import Claim, Dataset, Grade, State, stretches
from tradeflood.coverage.compact import compacted
from tradeflood.live.freshness import LEAST, MOST, Freshness
from tradeflood.models import Candle, Side, Trade
from tradeflood.models.time import MINUTE, SECOND, parse_time
from tradeflood.runner import stream as streams
from tradeflood.runner.stream import Stream
from tradeflood.steps import ignore

TESTS = Path(__file__).resolve().parent
START = parse_time("2026-03-04T05:00:00")

ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "test_trap_03_a_refill_that_recovers_nothing_is_not_a_repair": (
        "runner/test_auditor.py::test_a_missing_trade_is_disputed_until_it_is_there",
        "runner/test_backlog.py::test_a_hole_that_cannot_be_filled_is_passed_over_and_comes_again",
        "coverage/test_counterexamples.py::test_a_lagging_replica_that_answers_empty",
    ),
    "test_trap_03_a_small_gap_is_a_gap": ("runner/test_runner.py::test_a_missing_live_id_leaves_a_hole",),
    "test_trap_04_the_last_n_trades_are_not_a_day": (
        "coverage/test_counterexamples.py::test_the_oldest_millisecond_of_a_page_shared_with_unseen_rows",
        "connectors/test_nobitex.py::test_recent_trades_are_those_of_the_market_in_toman_and_held_between_their_edges",
    ),
    "test_trap_04_a_clamped_limit_is_not_the_end": (
        "planner/test_counts.py::test_a_clamped_limit_is_not_taken_for_the_end",
        "runner/test_faults.py::test_a_clamped_limit_is_not_the_end",
        "turns/test_pages.py::test_a_clamped_limit_is_asked_on_until_nothing_is_left",
    ),
    "test_trap_04_a_lagging_replica_is_not_empty": (
        "runner/test_faults.py::test_a_lagging_replica_is_not_an_empty_market",
        "turns/test_pages.py::test_a_replica_that_lags_behind_what_was_seen_does_not_make_it_empty",
    ),
    "test_trap_05_a_slow_store_is_waited_for_or_spilled": (
        "runner/test_outlet.py::test_a_spill_that_is_full_is_a_bound_and_says_so",
        "runner/test_outlet.py::test_a_slow_store_spills_what_comes_next_and_keeps_the_order",
        "transport/test_websocket.py::test_who_is_paused_reads_nothing_until_resumed",
    ),
    "test_trap_06_the_tail_of_a_quiet_topic_is_flushed": (
        "runner/test_runner.py::test_stopping_flushes_what_has_come",
        "runner/test_runner.py::test_a_claim_that_grows_is_handed_on_after_a_while",
        "cli/test_bad_input.py::test_run_stops_on_a_signal_with_everything_flushed",
    ),
    "test_trap_06_a_zombie_does_no_harm_however_late": (
        "store/test_base.py::test_the_same_rows_in_any_batches_are_there_once_at_once",
        "runner/test_outlet.py::test_a_run_that_is_killed_while_it_drains_writes_twice_and_has_it_once",
        "coverage/test_claims.py::test_a_claim_said_twice_says_nothing_more",
    ),
    "test_trap_07_absent_candles_are_absent": (
        "coverage/test_candles.py::test_nothing_makes_no_candle_and_a_quiet_interval_is_absent",
        "coverage/test_evidence.py::test_an_absent_candle_is_b_between_two_rows_and_d_at_the_edge",
    ),
    "test_trap_08_a_permanent_hole_is_not_asked_for_again_and_again": (
        "planner/test_run.py::test_an_empty_answer_is_remembered_and_not_asked_again",
        "connectors/test_bitget.py::test_before_the_horizon_trades_are_lost",
        "runner/test_auditor.py::test_a_doubled_trade_is_disputed_and_left_alone",
    ),
    "test_trap_08_now_is_not_rounded_up": (
        "runner/test_flood.py::test_now_asked_twice_a_second_apart_asks_for_the_tail_only",
    ),
    "test_trap_08_not_fetched_is_not_nothing_there": (
        "runner/test_candles.py::test_a_candle_is_made_when_all_its_trades_are_held_and_a_quiet_one_is_told_from_an_unknown_one",
        "runner/test_flood.py::test_offline_asks_no_venue_and_says_what_is_unknown",
    ),
    "test_trap_09_units_scale_prices_and_no_volume": (
        "connectors/test_nobitex.py::test_ten_rial_are_a_toman_exactly",
        "connectors/test_nobitex.py::test_candles_in_another_unit_than_declared_are_refused",
        "coverage/test_audit.py::test_units_are_told_from_a_candle_alone",
    ),
    "test_trap_10_a_trade_id_is_unique_per_market_and_kind": (
        "store/test_base.py::test_kinds_markets_and_venues_do_not_mix",
    ),
    "test_trap_10_ids_and_prices_are_numbers": (
        "store/test_base.py::test_trade_ids_are_sorted_as_numbers",
        "runner/test_candles.py::test_the_order_of_trades_is_that_of_the_store",
    ),
    "test_trap_12_a_budget_belongs_to_its_exit": (
        "transport/test_limiter.py::test_budgets_are_counted_per_exit_only_where_the_venue_counts_addresses",
        "transport/test_limiter.py::test_a_pause_stops_one_budget_from_one_exit",
        "transport/test_limiter.py::test_a_ban_stops_everything_towards_one_venue_from_one_exit",
        "transport/test_proxy.py::test_a_pool_is_used_in_turn_and_only_for_its_kind",
    ),
    "test_trap_13_neighbouring_findings_are_one_line": ("coverage/test_audit.py::test_neighbours_are_one_interval",),
    "test_trap_14_a_moved_horizon_is_not_a_million_ids_that_never_were": (
        "coverage/test_counterexamples.py::test_a_moved_horizon_is_not_read_as_ids_that_never_were",
    ),
    "test_trap_14_a_late_running_candle_does_not_overwrite_the_closed_one": (
        "store/test_base.py::test_a_late_running_candle_never_overwrites_the_closed_one",
        "planner/test_run.py::test_a_late_running_candle_never_overwrites_the_closed_one",
    ),
}
"""Trap → the tests that prove it, elsewhere."""


@pytest.mark.parametrize("trap", ELSEWHERE)
def test_a_trap_that_is_tested_elsewhere_is(trap):
    for place in ELSEWHERE[trap]:
        path, _, name = place.partition("::")
        tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
        there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in there, f"{trap}: {path} has no test {name}"


def test_every_trap_has_a_test():
    here = {name for name in globals() if name.startswith("test_trap_")} | set(ELSEWHERE)
    assert {int(name.split("_")[2]) for name in here} == set(range(1, 15))


# ---------------------------------------------------------------- 1 and 2: silence


def test_trap_01_a_watchdog_is_of_one_subscription_and_not_of_the_socket():
    """Two subscriptions of one socket: what one of them hears says nothing of the other."""
    talks, silent = Freshness(0), Freshness(0)
    for moment in range(SECOND, 10 * MINUTE, SECOND):
        talks.heard(moment, 1)
    assert talks.fresh(10 * MINUTE)
    assert silent.suspicious(10 * MINUTE)
    assert not silent.fresh(10 * MINUTE)


def test_trap_01_a_stream_that_never_delivered_anything_is_suspected_too():
    """Counted from its beginning; sooner where the market is known to be busy."""
    unknown, busy = Freshness(0), Freshness(0, gap=SECOND // 10)
    assert not unknown.suspicious(MOST)
    assert unknown.suspicious(MOST + 1)
    assert not busy.suspicious(LEAST)
    assert busy.suspicious(LEAST + 1)


def test_trap_02_an_acknowledged_subscription_is_not_yet_a_success():
    """Nothing is fresh before a row came or a witness agreed that there was none."""
    silence = Freshness(0)
    assert not silence.fresh(1)
    silence.quiet(2)
    assert silence.fresh(3)


# ---------------------------------------------------------------- 5: queues


def test_trap_05_between_the_parser_and_the_store_there_is_a_bound(monkeypatch):
    """A consumer that does not take: after so many rows nothing more is read, and when it takes, reading goes on."""
    monkeypatch.setattr(streams, "FULL", 10)

    class Network:
        observe = staticmethod(ignore)

        class clock:  # noqa: N801 - it stands for one
            now = staticmethod(lambda: 0)

    stream = Stream(lambda: (), Network())
    for count in range(1, 14):
        stream._give([count])
        assert stream._wires.paused == (count > 10)
    assert stream.take() == list(range(1, 14))
    assert not stream._wires.paused


# ---------------------------------------------------------------- 11: keys


TELL = """
from decimal import Decimal
from tradeflood.coverage import digest_of
from tradeflood.models import Side, Trade
from tradeflood.models.identity import number_equals
rows = [Trade("nobitex", "A/B", "raw", f"1:buy:{n}", Decimal(n), Decimal(1), Side.BUY, 7) for n in (3, 1, 3)]
print([row.position for row in number_equals(rows)], digest_of(rows))
"""


def test_trap_11_keys_and_digests_are_the_same_in_every_interpreter():
    told = {
        subprocess.run(
            [sys.executable, "-c", TELL],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "random")
    }
    assert len(told) == 1


# ---------------------------------------------------------------- 7, 13: what is told


def test_trap_07_a_candle_that_came_as_zeros_is_what_the_venue_said_and_ours_is_not_made_up():
    """A quiet interval has no candle from trades; that it is complete is said by its claim, not by a row."""
    from tradeflood.coverage.candles import candles_of
    from tradeflood.coverage.evidence import of_made_candles
    from tradeflood.spans import Spans

    trades = [Trade("okx", "A/B", "raw", "1", Decimal(5), Decimal(1), Side.BUY, START)]
    rows = list(candles_of(trades, "1m"))
    dataset = Dataset(Candle, "okx", "A/B", ("1m", "trades"))
    of_trades = Claim(Dataset(Trade, "okx", "A/B", ("raw",)), START, START + 3 * MINUTE, State.HELD, Grade.A, "ids")
    claims = list(
        of_made_candles(dataset, "1m", Spans.of((START, START + 3 * MINUTE)), stretches([of_trades]), rows, 0)
    )
    assert [(claim.end - claim.start, claim.count) for claim in claims] == [(MINUTE, 1), (2 * MINUTE, 0)]


def test_trap_13_a_thousand_candles_in_a_row_are_one_stretch():
    dataset = Dataset(Candle, "okx", "A/B", ("1m", "venue"))
    claims = [
        Claim(
            dataset, at, at + MINUTE, State.HELD, Grade.A, "closed candles on their grid", 1, "00", at + MINUTE, "",
            str(at), str(at + MINUTE),
        )
        for at in range(START, START + 1_000 * MINUTE, MINUTE)
    ]  # fmt: skip
    (part,) = stretches(claims)
    assert (part.start, part.end) == (START, START + 1_000 * MINUTE)
    assert len(compacted(claims)) == 1
