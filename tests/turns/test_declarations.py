"""Declaring venues: defining a class is enough, a subclass replaces, and mistakes are told when they are made."""

import pytest

from tradeflood import plugins
from tradeflood.coverage import Dataset
from tradeflood.errors import DeclarationError, UsageError
from tradeflood.models import Candle, Market, Ticker, Trade
from tradeflood.models.time import SECOND
from tradeflood.spans import Spans
from tradeflood.turns import (
    Ask,
    Binding,
    Budget,
    Chain,
    Connector,
    Page,
    Request,
    Rest,
    Settings,
    Windows,
    get,
    registry,
    turn,
    turn_execution,
)

REST = Rest("http://nowhere/api", Budget("all", 10, per=SECOND))


@pytest.fixture(autouse=True)
def scope():
    plugins.load()
    with registry.scope():
        yield


@pytest.fixture
def venue():
    class Shop(Connector):
        venue = "shop"
        rest = REST

        @turn(list[int], weight=3)
        def numbers(self, symbol: str, least: int = 0) -> Request:
            """Some numbers."""
            return get("/numbers", symbol=symbol, least=least)

        @turn(list[int], pages=Windows(10, per="interval"), budget=Budget("bars", 5, per=SECOND))
        def bars(self, page: Page, symbol: str, interval: str) -> Request:
            return get("/bars", start=page.start)

    return Shop


# ---------------------------------------------------------------- venues


def test_a_venue_that_is_defined_is_known(venue):
    assert registry.connector("shop") is venue


def test_a_subclass_replaces_its_parent(venue):
    class Other(venue):
        pass

    assert registry.connector("shop") is Other


def test_a_base_class_without_a_venue_is_not_entered():
    class Base(Connector):
        rest = REST

    assert Base not in registry.connectors.values()


def test_two_unrelated_venues_of_one_name_are_an_error(venue):
    with pytest.raises(DeclarationError, match=r"'shop' is .*Shop already; .*Rival must subclass it"):

        class Rival(Connector):
            venue = "shop"
            rest = REST

    assert registry.connector("shop") is venue


def test_two_replacements_of_one_parent_are_an_error(venue):
    class One(venue):
        pass

    with pytest.raises(DeclarationError, match=r"must subclass it to replace it"):

        class Two(venue):
            pass

    assert registry.connector("shop") is One


def test_a_module_that_is_loaded_again_is_no_rival():
    for _ in range(2):

        class Again(Connector):
            venue = "again"
            rest = REST

    assert registry.connector("again") is Again


def test_an_unknown_venue_is_answered_with_those_there_are():
    with pytest.raises(UsageError, match=r"no venue 'nowhere'; there are .*binance"):
        registry.connector("nowhere")


def test_what_is_defined_in_a_scope_is_forgotten_at_its_end():
    with registry.scope():

        class Passing(Connector):
            venue = "passing"
            rest = REST

        class PassingMarkets(Binding[Market], connector=Passing):
            pass

        assert registry.candidates(Passing, Market) == [PassingMarkets]
    with pytest.raises(UsageError):
        registry.connector("passing")
    assert registry.candidates(Passing, Market) == []


def test_settings_move_a_venue_and_change_its_figures(venue):
    shop = venue(Settings(rest_url="http://127.0.0.1:9", limits={"all": 7, "bars": 2}))
    assert shop.rest.url == "http://127.0.0.1:9/api"
    assert shop.rest.budget.limit == 7
    assert shop.bars.budget.limit == 2
    assert venue().bars.budget.limit == 5


# ---------------------------------------------------------------- bindings


def test_a_binding_is_found_by_connector_model_and_variant(venue):
    class Trades(Binding[Trade], connector=venue, kind="raw"):
        pass

    assert registry.binding(venue, Trade, ("raw",)) is Trades
    with pytest.raises(UsageError, match="shop trade: no kind 'merged'; there are raw"):
        registry.binding(venue, Trade, ("merged",))
    with pytest.raises(UsageError, match="shop does not offer ticker"):
        registry.binding(venue, Ticker, ())


def test_a_binding_that_says_nothing_makes_the_default(venue):
    class Trades(Binding[Trade], connector=venue):
        pass

    assert Trades.offered("kind") == ("raw",)
    assert Trades.makes(("raw",))
    assert not Trades.makes(("merged",))


def test_bindings_may_share_a_model_where_their_variants_differ(venue):
    class Short(Binding[Candle], connector=venue, interval=("1s", "1m")):
        pass

    class Long(Binding[Candle], connector=venue, interval="1d"):
        pass

    assert registry.binding(venue, Candle, ("1d", "venue")) is Long
    assert registry.binding(venue, Candle, ("1m", "venue")) is Short
    with pytest.raises(UsageError, match="no interval '1h'; there are 1s, 1m, 1d"):
        registry.binding(venue, Candle, ("1h", "venue"))


def test_a_model_that_a_venue_does_not_have_is_refused_whatever_can_be_made_of_others(venue):
    class Minutes(Binding[Candle], connector=venue, interval="1m"):
        pass

    with pytest.raises(UsageError, match="shop"):
        registry.binding(venue, Candle, ("7m", "venue"))


def test_unrelated_bindings_of_one_variant_are_an_error(venue):
    class Minutes(Binding[Candle], connector=venue, interval=("1m", "1h")):
        pass

    with pytest.raises(DeclarationError, match=r"shop candle: .*Hours and .*Minutes both make it; subclass one"):

        class Hours(Binding[Candle], connector=venue, interval=("1h", "1d")):
            pass

    assert registry.binding(venue, Candle, ("1h", "venue")) is Minutes


def test_a_binding_that_subclasses_another_replaces_it(venue):
    class Trades(Binding[Trade], connector=venue, kind="raw"):
        horizon = 5

    class Better(Trades):
        pass

    assert registry.candidates(venue, Trade) == [Better]
    assert registry.binding(venue, Trade, ("raw",)) is Better
    assert Better.horizon == 5


def test_a_replaced_venue_keeps_the_bindings_of_its_parent_and_may_have_its_own(venue):
    class Trades(Binding[Trade], connector=venue, kind="raw"):
        pass

    class Other(venue):
        pass

    assert registry.binding(Other, Trade, ("raw",)) is Trades

    class Own(Binding[Trade], connector=Other, kind="raw"):
        pass

    assert registry.binding(Other, Trade, ("raw",)) is Own
    assert registry.binding(venue, Trade, ("raw",)) is Trades


def test_an_offer_that_the_model_has_not_is_an_error(venue):
    with pytest.raises(DeclarationError, match="trade has no flavour"):

        class Trades(Binding[Trade], connector=venue, flavour="raw"):
            pass

    with pytest.raises(DeclarationError, match="offers are text, not 5"):

        class Candles(Binding[Candle], connector=venue, interval=(5,)):
            pass


def test_a_binding_says_what_it_can_do(venue):
    class Both(Binding[Trade], connector=venue, kind="raw"):
        async def __call__(self, venue, ask):
            return []

        def live(self, venue, ask):
            return None

    class Neither(Binding[Ticker], connector=venue):
        pass

    assert (Both.has_history(), Both.has_live()) == (True, True)
    assert (Neither.has_history(), Neither.has_live()) == (False, False)


def test_an_end_point_can_be_tried_without_a_turn(venue):
    class Trades(Binding[Trade], connector=venue, kind="raw"):
        @turn_execution
        def pack(self, rows: list[int], market: str):
            """Pairs."""
            return [(row, market) for row in rows]

    assert Trades.pack.pure([1, 2], "A/B") == [(1, "A/B"), (2, "A/B")]
    assert Trades.pack.__doc__ == "Pairs."
    step = Trades().pack(venue().numbers("AB"), "A/B")
    assert step.models([3]) == [(3, "A/B")]


# ---------------------------------------------------------------- turns


def test_a_turn_is_a_value(venue):
    shop = venue()
    one, same = shop.numbers("AB"), shop.numbers("AB", 0)
    assert one == same == shop.numbers(symbol="AB") == shop.numbers("AB", least=0)
    assert one != shop.numbers("AB", 1)
    assert shop.numbers.request(Page(), one.args) == get("/numbers", symbol="AB", least=0)
    assert repr(one) == "shop.numbers(AB, 0)"
    assert venue.numbers.__doc__ == "Some numbers."


@pytest.mark.parametrize(("args", "named"), [((), {}), (("AB", 1, 2), {}), (("AB",), {"most": 3}), ((), {"least": 3})])
def test_a_turn_refuses_arguments_that_it_does_not_take(venue, args, named):
    with pytest.raises(TypeError, match="numbers"):
        venue().numbers(*args, **named)


def test_a_turn_over_spans_and_of_symbols(venue):
    bars = venue().bars("AB", "1m")
    assert bars.over(Spans.of((0, 5))).spans == Spans.of((0, 5))
    assert bars.of("A", "B").symbols == ("A", "B")
    assert venue().bars.step(("AB", "1m")) == 60 * SECOND
    assert venue().numbers.step(("AB",)) == 1


def test_pages_need_page_as_the_first_word():
    with pytest.raises(DeclarationError, match="it takes `page` first"):

        @turn(list[int], pages=Windows(5))
        def numbers(self, symbol): ...


def test_page_without_pages_is_an_error():
    with pytest.raises(DeclarationError, match="declares neither pages nor symbols, so takes no `page`"):

        @turn(list[int])
        def numbers(self, page, symbol): ...


def test_pages_per_interval_need_an_interval():
    with pytest.raises(DeclarationError, match="pages per interval need a parameter `interval`"):

        @turn(list[int], pages=Windows(5, per="interval"))
        def bars(self, page, symbol): ...


def test_several_symbols_need_to_know_the_symbol_of_a_row():
    with pytest.raises(DeclarationError, match=r"with symbols= it needs by="):

        @turn(list[int], symbols=10)
        def tickers(self, page): ...


def test_a_chain_needs_no_interval():
    @turn(list[int], pages=Chain(5, reached=int, cursor=min))
    def numbers(self, page, symbol): ...

    assert numbers.paged
    assert list(numbers.where) == ["symbol"]


# ---------------------------------------------------------------- asks


def ask(model=Candle, variant=("1m", "venue")):
    return Ask(model, "shop", "A/B", "AB", variant, Spans.of((0, 60)), 100)


def test_an_ask_knows_its_parts_by_name():
    assert (ask().interval, ask().origin) == ("1m", "venue")
    assert ask(Trade, ("raw",)).kind == "raw"
    assert ask().dataset == Dataset(Candle, "shop", "A/B", ("1m", "venue"))
    with pytest.raises(DeclarationError, match="candle has no 'kind'"):
        _ = ask().kind


def test_an_ask_for_another_model_is_of_the_same_market_and_time():
    other = ask().other(Trade)
    assert (other.model, other.market, other.variant, other.spans) == (Trade, "A/B", ("raw",), Spans.of((0, 60)))
    assert ask().other(Market).spans == Spans()
    assert ask().other(Trade, spans=Spans.of((5, 6)), kind="merged").variant == ("merged",)
    with pytest.raises(DeclarationError, match="trade has no 'interval'"):
        ask().other(Trade, interval="1m")
    with pytest.raises(DeclarationError, match="candle needs interval"):
        ask(Trade, ("raw",)).other(Candle)
