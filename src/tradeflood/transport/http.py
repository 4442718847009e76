"""Requests over httpx: one client per venue and exit, so that a slow venue takes no connection from another."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from tradeflood.errors import TransportError, UsageError
from tradeflood.transport.base import Call, Exit
from tradeflood.transport.clock import Clock
from tradeflood.turns import Reply

if TYPE_CHECKING:
    import httpx

LARGEST = 64 * 1024 * 1024
"""The largest body that is read, in bytes."""

CONNECT = 5.0
"""Seconds in which a connection must be open."""


def user_agent() -> str:
    """Who we say we are."""
    return f"TradeFlood/{version('tradeflood')}"


class HttpTransport:
    """The real network. `timeout` in seconds is for sending and for every piece of the answer, `whole` for all of it."""

    def __init__(self, clock: Clock, *, timeout: float = 15.0, whole: float = 120.0) -> None:
        self._clock, self._timeout, self._whole = clock, timeout, whole
        self._clients: dict[tuple[str, Exit], httpx.AsyncClient] = {}

    async def send(self, call: Call) -> Reply:
        """The venue's answer.

        Raises TransportError where none came, or one that is larger than anything a venue sends.
        """
        import httpx

        request = call.request
        url = call.url + request.path
        if request.params:
            url = f"{url}?{urlencode(request.params)}"
        headers = {**dict(call.headers), **dict(request.headers)}
        where = f"{call.venue}: {request.method} {url}"
        try:
            async with (
                asyncio.timeout(self._whole),
                self._client(call.venue, call.exit).stream(
                    request.method, url, headers=headers, content=request.body or None
                ) as answer,
            ):
                body = bytearray()
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > LARGEST:
                        raise TransportError(f"{where}: an answer of more than {LARGEST} bytes", request=request)
                return Reply(answer.status_code, bytes(body), dict(answer.headers), self._clock.now())
        except TimeoutError as error:
            raise TransportError(f"{where}: no whole answer within {self._whole:g} s", request=request) from error
        except httpx.ConnectTimeout as error:
            raise TransportError(f"{where}: no connection within {CONNECT:g} s", request=request) from error
        except httpx.TimeoutException as error:
            raise TransportError(f"{where}: no answer within {self._timeout:g} s", request=request) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TransportError(f"{where}: {str(error) or type(error).__name__}", request=request) from error

    async def close(self) -> None:
        """Close every client."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    def _client(self, venue: str, leave: Exit) -> httpx.AsyncClient:
        import httpx

        client = self._clients.get((venue, leave))
        if client is None:
            try:
                client = httpx.AsyncClient(
                    proxy=leave.proxy,
                    timeout=httpx.Timeout(self._timeout, connect=min(CONNECT, self._timeout), pool=None),
                    trust_env=False,
                    headers={"User-Agent": user_agent(), "Accept": "application/json"},
                    limits=httpx.Limits(max_connections=20, max_keepalive_connections=20),
                )
            except ImportError as error:
                raise UsageError(
                    f"exit {leave}: SOCKS needs another package; install it with: pip install 'tradeflood[proxy]'"
                ) from error
            except ValueError as error:
                raise UsageError(f"exit {leave}: {error}") from error
            self._clients[venue, leave] = client
        return client
