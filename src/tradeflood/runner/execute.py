"""Carrying a run out: the asyncio shell around the planner's machine."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from attrs import frozen

from tradeflood.errors import RateLimited, TradeFloodError, TransportError, Unavailable
from tradeflood.models.time import MINUTE, MS
from tradeflood.planner import Node, Run
from tradeflood.steps import Observer, ignore
from tradeflood.transport import Call, Clock, Kind, Limiter, ProxyScheme, Rank, Transport, call_of
from tradeflood.transport.websocket import Sockets, open_socket
from tradeflood.turns import Reply
from tradeflood.turns.turn import Lane

T = TypeVar("T")


@frozen
class Patience:
    """How long a request is tried: the one policy of retries.

    `attempts` for answers that did not come or that a gateway gave; `waits` for a venue that says not now;
    `longest` is the pause in ns for which a request is kept rather than given up.
    """

    attempts: int = 4
    waits: int = 8
    longest: int = 5 * MINUTE
    first_delay: int = 300 * MS
    width: int = 8


@frozen
class Network:
    """What a run needs of the network."""

    transport: Transport
    limiter: Limiter
    scheme: ProxyScheme
    clock: Clock
    patience: Patience = Patience()
    observe: Observer = ignore
    sockets: Sockets = open_socket


async def carry_out(
    run: Run, network: Network, observe: Callable[[Run, Node], None] | None = None, *, rank: Rank = Rank.COMMON
) -> None:
    """Make every request of a run, in as many lanes as there are budgets; one lane never waits for another.

    Returns when nothing is left. Cancelling it puts back what was under way. `observe` hears of every request
    that is over. Of a venue that has answered nothing at all, only as many requests are tried to the end as go at
    once: the others fail for the same reason, so that being without a network is known soon. `rank` says what of the
    budgets may be spent.
    """
    busy: dict[Lane, int] = {}
    heard: set[str] = set()
    silent: dict[str, TransportError] = {}
    async with asyncio.TaskGroup() as group:

        def pump() -> None:
            for lane in run.lanes():
                while busy.get(lane, 0) < network.patience.width and (node := run.take(lane)) is not None:
                    busy[lane] = busy.get(lane, 0) + 1
                    group.create_task(one(node, lane))

        async def one(node: Node, lane: Lane) -> None:
            venue = node.bound.connector.venue
            try:
                if venue in silent:
                    raise TransportError(str(silent[venue]), request=node.request) from silent[venue].__cause__
                network.observe("request.sent", of=node, venue=venue)
                reply = await ask(node, network, rank=rank)
                network.observe("request.answered", of=node, venue=venue)
            except asyncio.CancelledError:
                run.back(node)
                raise
            except TradeFloodError as error:
                if not isinstance(error, TransportError):
                    heard.add(venue)
                elif venue not in heard:
                    silent[venue] = error
                run.fail(node, error)
                network.observe("request.failed", of=node, venue=venue, error=error)
            else:
                heard.add(venue)
                silent.pop(venue, None)
                run.feed(node, reply)
                network.observe("request.read", of=node, venue=venue)
            busy[lane] -= 1
            if observe is not None:
                observe(run, node)
            pump()

        pump()


async def to_its_end(work: Callable[..., T], /, *args: Any) -> T:
    """What a call gives that is made in a thread. Whoever is cancelled meanwhile waits for its end, for nothing ends it before."""
    going = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(going)
    except asyncio.CancelledError:
        while not going.done():
            with suppress(asyncio.CancelledError):  # said twice it counts once
                await asyncio.wait({going})
        raise


async def ask(node: Node, network: Network, kind: Kind | None = None, *, rank: Rank = Rank.COMMON) -> Reply:
    """The venue's good answer to a request, after as many tries as patience allows. `kind` chooses the exit.

    Raises the venue's or the transport's error, with the request in it.
    """
    patience = network.patience
    if kind is None:
        kind = "paged" if node.bound.spec.pages is not None else "rest"
    failed = waited = 0
    while True:
        call = call_of(node.bound, node.request, kind, network.scheme.exit(kind), rank)
        try:
            reply = await network.transport.send(call)
            _judge(node, call, reply, network.limiter)
        except RateLimited as error:
            waited += 1
            until = network.limiter.pause(call, error.until, banned=error.banned)
            wait = until - network.clock.now()
            if waited >= patience.waits or wait > patience.longest:
                error.request = node.request
                raise
        except (TransportError, Unavailable) as error:
            failed += 1
            if failed >= patience.attempts:
                error.request = node.request
                raise
            delay = patience.first_delay << (failed - 1)
            await network.clock.sleep(delay + random.randrange(delay // 2))  # noqa: S311 - jitter
        except TradeFloodError as error:
            error.request = node.request
            raise
        else:
            network.limiter.accepted(call)
            return reply


def _judge(node: Node, call: Call, reply: Reply, limiter: Limiter) -> None:
    """Nothing for a good answer; else the error that it is, also where the connector stumbles over it."""
    connector = node.bound.connector
    try:
        if (used := connector.spent(reply)) is not None:
            limiter.correct(call, used)
        connector.judge(reply)
    except TradeFloodError:
        raise
    except Exception as error:
        raise node.bound.changed(error, reply.body) from error
