"""The embedded store: reopening, locks, views, migrations, and the order of writing."""

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from attrs import define, evolve

from tradeflood.coverage import Claim, Dataset, Grade, State, held
from tradeflood.errors import DeclarationError, StoreError, UsageError
from tradeflood.models import Candle, Model, Side, Time, Trade
from tradeflood.models.time import DAY, parse_time
from tradeflood.spans import Spans
from tradeflood.store import open_store, tables
from tradeflood.store.chdb import ChdbStore

pytest.importorskip("chdb", reason="the extra `embedded` is not installed")
pa = pytest.importorskip("pyarrow", reason="the extra `embedded` is not installed")

AT = parse_time("2026-03-31T23:59:59.999Z")
RAW = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
ALWAYS = (-(1 << 63), 1 << 63)
CLAIM = Claim(RAW, AT, AT + DAY, State.HELD, Grade.A, "ids", 1, "ab", AT + DAY, "binance 1", "1", None)


def trade(number, at=AT, price="61234.5", size="0.001", venue="binance"):
    return Trade(venue, "BTC/USDT", "raw", str(number), Decimal(price), Decimal(size), Side.BUY, at)


def asked(store, sql):
    return [json.loads(line) for line in store.query(sql, "JSONEachRow").splitlines()]


# ---------------------------------------------------------------- rows before claims


def test_rows_and_claims_survive_reopening(url):
    with open_store(url) as store:
        store.write({Trade: [trade(1), trade(2)]}, [CLAIM])
    with open_store(url) as store:
        assert store.read(RAW, *ALWAYS) == [trade(1), trade(2)]
        assert store.claims(RAW) == [CLAIM]
        assert store.migrate() != []  # only the models that were not used before
        assert store.migrate() == []


def test_a_claim_is_written_after_every_row(chdb, monkeypatch):
    seen = []
    insert = type(chdb._engine).insert

    def watched(engine, sql, rows):
        there = [asked(chdb, f"SELECT count() AS n FROM {view}")[0]["n"] for view in ("trades", "candles", "coverage")]
        seen.append((sql.split("`")[1] if "`" in sql.split("(")[0] else sql.split()[2], there))
        insert(engine, sql, rows)

    one = Decimal(1)
    candle = Candle("binance", "BTC/USDT", "1m", "venue", AT, one, one, one, one, one)
    chdb.migrate()
    monkeypatch.setattr(type(chdb._engine), "insert", watched)
    chdb.write({Trade: [trade(1)], Candle: [candle]}, [CLAIM])
    assert seen == [("trades_rows", [0, 0, 0]), ("candles_rows", [1, 0, 0]), ("coverage_rows", [1, 1, 0])]


def test_rows_that_were_not_stored_are_never_claimed(chdb, monkeypatch):
    insert = type(chdb._engine).insert

    def failing(engine, sql, rows):
        insert(engine, sql.replace("trades_rows", "nowhere"), rows)

    chdb.migrate()
    monkeypatch.setattr(type(chdb._engine), "insert", failing)
    with pytest.raises(StoreError, match="1 rows were not stored") as caught:
        chdb.write({Trade: [trade(1)]}, [CLAIM])
    assert "\n" not in str(caught.value)
    assert chdb.claims(RAW) == []


def test_a_process_that_dies_leaves_no_claim_without_its_rows(url):
    script = """if True:
        import os, sys
        from tradeflood.store import open_store
        from tradeflood.store.chdb import _Engine
        from tests_store import CLAIM, trade
        from tradeflood.models import Trade
        insert, left = _Engine.insert, int(sys.argv[2])
        def dying(engine, sql, rows):
            global left
            if not left:
                os.kill(os.getpid(), 9)
            left -= 1
            insert(engine, sql, rows)
        _Engine.insert = dying
        open_store(sys.argv[1]).write({Trade: [trade(1)]}, [CLAIM])
        os.kill(os.getpid(), 9)
    """
    loader = f"import sys, importlib.util as u; s = u.spec_from_file_location('tests_store', {__file__!r}); m = u.module_from_spec(s); sys.modules['tests_store'] = m; s.loader.exec_module(m)\n"
    for steps, rows, claims in ((1, [trade(1)], []), (2, [trade(1)], [CLAIM])):
        subprocess.run([sys.executable, "-c", f"{loader}{script}", url, str(steps)], check=False, timeout=60)
        with open_store(url) as store:
            assert store.read(RAW, *ALWAYS) == rows
            assert store.claims(RAW) == claims


# ---------------------------------------------------------------- what people see


def test_the_views_show_each_row_once_at_once(chdb):
    for _ in range(3):
        chdb.write({Trade: [trade(1), trade(2)]}, [CLAIM])
    assert asked(chdb, "SELECT count() AS n FROM trades") == [{"n": 2}]
    assert asked(chdb, "SELECT count() AS n FROM coverage") == [{"n": 1}]


def test_the_view_of_coverage_is_for_people(chdb):
    chdb.write({}, [CLAIM])
    (row,) = asked(chdb, "SELECT * FROM coverage")
    assert row["start"] == "2026-03-31 23:59:59.999000000"
    assert (row["model"], row["state"], row["grade"]) == ("trade", "held", "A")
    assert (row["kind"], row["interval"], row["origin"]) == ("raw", None, None)


def test_a_filter_by_time_never_brings_an_old_version_back(chdb):
    chdb.write({Trade: [trade(number, AT + number) for number in range(20_000)]})
    chdb.write({Trade: [trade(5, AT + 40 * DAY)]})
    end = f"fromUnixTimestamp64Nano(toInt64({AT + 10}), 'UTC')"
    assert asked(chdb, f"SELECT count() AS n FROM trades WHERE venue_time < {end}") == [{"n": 9}]


def test_what_a_batch_repeats_is_there_once_and_never_as_it_was(chdb):
    """Both versions of a row lie beside one another in one part, somewhere with the end of a granule between them."""
    again = [trade(number, AT + 40 * DAY) for number in range(1, 20_000)]
    chdb.write({Trade: [trade(number) for number in range(20_000)] + again})
    assert chdb.read(RAW, AT, AT + DAY) == [trade(0)]
    assert chdb.read(RAW, AT + DAY, AT + 50 * DAY) == again
    assert chdb.summary()[0].rows == 20_000
    end = f"fromUnixTimestamp64Nano(toInt64({AT + DAY}), 'UTC')"
    assert asked(chdb, f"SELECT count() AS n FROM trades WHERE venue_time < {end}") == [{"n": 1}]


def test_a_sum_in_256_bits_does_not_overflow(chdb):
    most = "99999999999999999999"
    chdb.write({Trade: [trade(number, price=most, size=most) for number in range(3)]})
    wide = "sum(toDecimal256(price, 18) * toDecimal256(size, 18))"
    assert asked(chdb, f"SELECT {wide} AS s FROM trades") == [{"s": str(3 * int(most) ** 2)}]


def test_decimals_are_text_in_json(chdb):
    chdb.write({Trade: [trade(1, price="0.100000000000000001")]})
    assert json.loads(chdb.query("SELECT price FROM trades"))["data"] == [{"price": "0.100000000000000001"}]


def test_the_views_are_there_before_anything_is_stored(chdb):
    assert chdb.query("SELECT count() FROM trades UNION ALL SELECT count() FROM coverage", "TSV") == b"0\n0\n"


def test_arrow_is_an_answer_and_objects_are_not(chdb):
    chdb.write({Trade: [trade(1)]})
    table = pa.ipc.open_file(chdb.query("SELECT market, price FROM trades", "Arrow")).read_all()
    assert table.to_pylist() == [{"market": "BTC/USDT", "price": Decimal("61234.5")}]
    with pytest.raises(UsageError, match="ask for Arrow"):
        chdb.query("SELECT 1", "DataFrame")


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO trades_rows (venue) VALUES ('x')",
        "DROP TABLE trades_rows",
        "ALTER TABLE trades_rows DELETE WHERE 1",
        "SELECT 1 SETTINGS readonly = 0",
        "SET readonly = 0",
        "SELECT 1 INTO OUTFILE '/tmp/never'",
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT nonsense",
    ],
)
def test_a_query_only_reads(chdb, sql):
    chdb.write({Trade: [trade(1)]})
    with pytest.raises(StoreError) as caught:
        chdb.query(sql)
    assert "\n" not in str(caught.value)
    assert chdb.read(RAW, *ALWAYS) == [trade(1)]


def test_more_venues_than_clickhouse_likes_in_one_insert(chdb):
    some = [trade(1, venue=f"v{number}") for number in range(120)]
    chdb.write({Trade: some})
    assert asked(chdb, "SELECT count() AS n FROM trades") == [{"n": 120}]


# ---------------------------------------------------------------- who has the folder


def test_one_path_in_one_process_is_shared(url, tmp_path):
    with open_store(url) as first, open_store(f"chdb://{tmp_path}/./data") as second:
        first.write({Trade: [trade(1)]})
        assert second.read(RAW, *ALWAYS) == [trade(1)]
        first.close()
        first.close()
        assert second.read(RAW, *ALWAYS) == [trade(1)]
        with pytest.raises(StoreError, match="the store is closed"):
            first.read(RAW, *ALWAYS)


def test_another_path_has_to_wait_until_the_first_is_closed(url, tmp_path):
    other = f"chdb://{tmp_path}/other"
    with open_store(url), pytest.raises(StoreError, match=r"this process has .*data open") as caught:
        open_store(other)
    assert "\n" not in str(caught.value)
    with open_store(other) as store:
        store.write({Trade: [trade(1)]})
    with open_store(url) as store:
        assert store.read(RAW, *ALWAYS) == []


def held_elsewhere(url):
    script = "import sys\nfrom tradeflood.store import open_store\nopen_store(sys.argv[1])"
    return subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True, check=False, timeout=60)


def test_a_path_that_another_process_holds_is_refused_in_one_line(url):
    with open_store(url):
        done = held_elsewhere(url)
    *_, last = done.stderr.strip().splitlines()
    assert (
        last
        == f"tradeflood.errors.StoreError: store {url}: process {os.getpid()} holds it; stop that, or choose another folder"
    )
    assert "Cannot lock file" not in done.stderr
    assert held_elsewhere(url).returncode == 0


def test_a_path_that_bare_chdb_holds_is_refused_too(url):
    from chdb import session

    with open_store(url):
        pass
    bare = session.Session(url.removeprefix("chdb://"))
    done = held_elsewhere(url)
    bare.close()
    assert f"process {os.getpid()} holds it" in done.stderr
    assert "Cannot lock file" not in done.stderr


def test_a_path_that_cannot_be_written_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=f"store chdb://{tmp_path}/file/data: cannot write there: Not a directory"):
        open_store(f"chdb://{tmp_path}/file/data")
    with pytest.raises(StoreError, match="cannot write there"):
        open_store(f"chdb://{tmp_path}/file")


@pytest.mark.parametrize("url", ["chdb://", "chdb://data?mode=ro"])
def test_a_url_without_a_folder_is_refused(url):
    with pytest.raises(UsageError, match="name a folder"):
        open_store(url)


def test_a_folder_may_have_any_name(tmp_path):
    with open_store(f"chdb://{tmp_path}/my data é%20&x=1#") as store:
        store.write({Trade: [trade(1)]})
        assert store.read(RAW, *ALWAYS) == [trade(1)]
    assert (tmp_path / "my data é%20&x=1#").is_dir()


def test_the_missing_extra_is_named(url, monkeypatch):
    monkeypatch.setitem(sys.modules, "chdb", None)
    with pytest.raises(
        UsageError, match=r"chdb is not installed; install it with: pip install 'tradeflood\[embedded\]'"
    ):
        open_store(url)


# ---------------------------------------------------------------- migrations


def version_of_model(**fields):
    """A model of one name, as it was and as it is: what a third party releases one after the other."""
    Model.models.pop("storequote", None)
    space = {
        "__annotations__": {"venue": str, "market": str, "at": Time, "bid": Decimal}
        | {k: v for k, (v, _) in fields.items()}
    }
    space |= {"__module__": __name__} | {name: default for name, (_, default) in fields.items() if default is not ...}
    return define(type("StoreQuote", (Model,), space, key=("venue", "market", "at"), time="at"))


@pytest.fixture(autouse=True)
def forget_the_model():
    yield
    Model.models.pop("storequote", None)


def test_changes_are_numbered_dated_and_recorded(url):
    with ChdbStore(url, clock=lambda: AT) as store:
        made = store.migrate()
        assert {"coverage 0001 2026-11-20 create", "trades 0001 2026-03-31 create"} <= set(made)
        recorded = asked(store, "SELECT `table`, number, toString(date) AS date, title, sql FROM migrations FINAL")
        assert sorted(f"{r['table']} {r['number']:04} {r['date']} {r['title']}" for r in recorded) == sorted(made)
        (trades,) = [r["sql"] for r in recorded if r["table"] == "trades"]
        assert trades == ";\n".join(
            (tables.create(tables.layout_of(Trade)), tables.create_view(tables.layout_of(Trade)))
        )


def test_a_column_that_a_model_gained_is_added(url):
    old = version_of_model()
    with open_store(url) as store:
        store.write({old: [old("v", "m", AT, Decimal(1))]})
    new = version_of_model(
        ask=(Decimal | None, None), depth=(int, 3), side=(Side, Side.SELL), note=(str, "it's \\ `new`")
    )
    with open_store(url) as store:
        assert "storequotes 0002" in next(
            label for label in store.migrate() if label.endswith("add ask, depth, side, note")
        )
        row = new("v", "m", AT + 1, Decimal(2), Decimal(3), 4, Side.BUY, "x")
        store.write({new: [row]})
        kept = new("v", "m", AT, Decimal(1), None, 3, Side.SELL, "it's \\ `new`")
        assert store.read(Dataset(new, "v", "m"), *ALWAYS) == [kept, row]
        assert [r["depth"] for r in asked(store, "SELECT depth FROM storequotes ORDER BY at")] == [3, 4]
    version_of_model()  # an older release reads what it knows
    with open_store(url) as store:
        assert [r.bid for r in store.read(Dataset(Model.named("storequote"), "v", "m"), *ALWAYS)] == [1, 2]


def test_a_gained_field_that_old_rows_cannot_have_is_refused(url):
    old = version_of_model()
    with open_store(url) as store:
        store.write({old: [old("v", "m", AT, Decimal(1))]})
    new = version_of_model(ask=(Decimal, ...))
    with open_store(url) as store, pytest.raises(StoreError, match="rows without the new field ask: make it optional"):
        store.read(Dataset(new, "v", "m"), *ALWAYS)


def test_a_column_of_another_type_is_refused(url):
    old = version_of_model(depth=(int, 3))
    with open_store(url) as store:
        store.write({old: [old("v", "m", AT, Decimal(1))]})
    new = version_of_model(depth=(str, "3"))
    with open_store(url) as store, pytest.raises(StoreError, match="depth is Int64, model storequote says String"):
        store.read(Dataset(new, "v", "m"), *ALWAYS)


def test_another_key_is_refused(url):
    old = version_of_model()
    with open_store(url) as store:
        store.write({old: [old("v", "m", AT, Decimal(1))]})
    new = version_of_model(level=(int, 0))
    new.key = ("venue", "market", "level", "at")
    with open_store(url) as store, pytest.raises(StoreError, match=r"has the key \(venue, market, at\)"):
        store.write({new: [new("v", "m", AT, Decimal(1))]})


def test_a_start_that_was_cut_short_is_finished_later(url):
    layout = tables.layout_of(Trade)
    with open_store(url) as store:
        store.migrate()
        store._engine.run("DROP VIEW trades")
    with open_store(url) as store:
        store.migrate()
        assert asked(store, "SELECT count() AS n FROM trades") == [{"n": 0}]
        assert set(store._engine.columns("trades")) >= set(layout.columns)


def test_a_table_belongs_to_one_model(chdb):
    for table in ("trades", "trades_rows", "coverage", "migrations"):
        clashing = version_of_model()
        clashing.table = table
        with pytest.raises(DeclarationError, match=f"model storequote: the table '{table}'|model trade: the table"):
            chdb.write({clashing: [clashing("v", "m", AT, Decimal(1))]})


def test_datasets_of_a_model_that_is_not_here_are_left_out(url):
    old = version_of_model()
    with open_store(url) as store:
        store.write(
            {old: [old("v", "m", AT, Decimal(1))]}, [Claim(Dataset(old, "v", "m"), 0, 1, State.OPEN, None, "tail")]
        )
        assert store.datasets() == [Dataset(old, "v", "m")]
    Model.models.pop("storequote")
    with open_store(url) as store:
        assert store.datasets() == []
        assert store.summary() == []


# ---------------------------------------------------------------- what cannot be opened as it was


def spoil(url, table):
    """Nothing is left of what a table's parts on the disk hold."""
    with open_store(url) as store:
        sql = f"SELECT path FROM system.parts WHERE active AND `table` = '{table}'"
        places = [Path(row["path"]) for row in asked(store, sql)]
    assert places
    for place in places:
        for file in place.glob("*.bin"):
            file.write_bytes(b"junk")


@pytest.mark.parametrize("table", ["trades_rows", "coverage_rows"])
def test_what_was_in_a_damaged_part_is_no_longer_held(url, table):
    """ClickHouse opens without such a part and is silent about it; what is asked for again afterwards is believed."""
    candles = Dataset(Candle, "binance", "BTC/USDT", ("1m", "venue"))
    later = evolve(CLAIM, as_of=CLAIM.as_of + DAY)
    with open_store(url) as store:
        store.write({Trade: [trade(1)]}, [CLAIM, evolve(CLAIM, dataset=candles)])
    spoil(url, table)
    with open_store(url) as store:
        with pytest.warns(UserWarning, match=f"damaged parts of {table} were set aside"):
            assert not held(store.claims(RAW))
        assert bool(held(store.claims(candles))) == (table == "trades_rows")
        store.write({Trade: [trade(1)]}, [later])
    with open_store(url) as store:  # said once
        assert held(store.claims(RAW)) == Spans.of((AT, AT + DAY))
        assert store.read(RAW, *ALWAYS) == [trade(1)]


def test_a_folder_of_a_newer_version_is_left_alone(url):
    with open_store(url) as store:
        store.migrate()
        change = tables.Change(tables.COVERAGE, 99, "2027-01-01", "of tomorrow", ())
        store._apply(store._engine, change)
    with open_store(url) as store:
        with pytest.raises(
            StoreError, match=r"coverage is of a newer TradeFlood \(change 99, this one knows \d+\): upgrade"
        ):
            store.claims(RAW)
        with pytest.raises(StoreError, match="newer"):
            store.write({Trade: [trade(1)]}, [CLAIM])
