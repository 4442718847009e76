"""Requests over httpx: one client per exit."""

from __future__ import annotations

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


def user_agent() -> str:
    """Who we say we are."""
    return f"TradeFlood/{version('tradeflood')}"


class HttpTransport:
    """The real network. `timeout` in seconds is for each of connecting, sending and every piece of the answer."""

    def __init__(self, clock: Clock, *, timeout: float = 15.0) -> None:
        self._clock, self._timeout = clock, timeout
        self._clients: dict[Exit, httpx.AsyncClient] = {}

    async def send(self, call: Call) -> Reply:
        """The venue's answer.

        Raises TransportError where none came, or one that is larger than anything a venue sends.
        """
        import httpx  # noqa: PLC0415 - loaded when something is asked for

        request = call.request
        url = call.url + request.path
        if request.params:
            url = f"{url}?{urlencode(request.params)}"
        headers = {**dict(call.headers), **dict(request.headers)}
        where = f"{call.venue}: {request.method} {url}"
        try:
            async with self._client(call.exit).stream(
                request.method, url, headers=headers, content=request.body or None
            ) as answer:
                body = bytearray()
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > LARGEST:
                        raise TransportError(f"{where}: an answer of more than {LARGEST} bytes", request=request)
                return Reply(answer.status_code, bytes(body), dict(answer.headers), self._clock.now())
        except httpx.TimeoutException as error:
            raise TransportError(f"{where}: no answer within {self._timeout:g} s", request=request) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TransportError(f"{where}: {error or type(error).__name__}", request=request) from error

    async def close(self) -> None:
        """Close every client."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    def _client(self, leave: Exit) -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415

        client = self._clients.get(leave)
        if client is None:
            try:
                client = httpx.AsyncClient(
                    proxy=leave.proxy,
                    timeout=self._timeout,
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
            self._clients[leave] = client
        return client
