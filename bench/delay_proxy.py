"""A proxy in its own process that delays all data: it simulates a network between a client and its server.

    python bench/delay_proxy.py --listen FOLDER --server 'host=… port=…' --milliseconds 0.5

It listens on the unix socket that libpq expects in the folder. In each direction, data is passed on the given number of
milliseconds after its arrival, while more may arrive: latency grows, throughput does not shrink. It prints a line when
it is ready, and ends when its standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import selectors
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from functools import partial

from psycopg.conninfo import conninfo_to_dict, make_conninfo

__all__ = ["delayed"]

PORT = "5432"


@contextlib.contextmanager
def delayed(uri: str, milliseconds: float) -> Iterator[str]:
    """The connection string of the same database behind a proxy.

    Args:
        uri: the database, on a unix socket or a TCP port.
        milliseconds: the delay of each direction; a round trip takes twice as much longer.
    """
    with tempfile.TemporaryDirectory(prefix="delay-") as folder:
        command = [sys.executable, __file__, "--listen", folder, "--server", uri, "--milliseconds", str(milliseconds)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as proxy:
            assert proxy.stdin is not None
            assert proxy.stdout is not None
            if not proxy.stdout.readline():
                raise SystemExit("the proxy did not start")
            try:
                yield make_conninfo(uri, host=folder, port=PORT)
            finally:
                proxy.stdin.close()


class _Side(asyncio.Protocol):
    """One of a pair of connections: what it receives, the other one sends, later."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: deque[bytes | None] = deque()
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._later(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._later(None)

    def _later(self, piece: bytes | None) -> None:
        # The oldest piece goes when a timer rings, whichever timer that is: two may ring in the wrong order.
        self._waiting.append(piece)
        asyncio.get_running_loop().call_later(self._seconds, self._pass_on)

    def _pass_on(self) -> None:
        piece = self._waiting.popleft()
        if self.other is None or self.other.transport is None:
            return
        if piece is None:
            self.other.transport.close()
        else:
            self.other.transport.write(piece)


class _Client(_Side):
    """A client's connection, which has the proxy connect to the server."""

    def __init__(self, server: str, seconds: float) -> None:
        super().__init__(seconds)
        self._server = server
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._connecting = asyncio.create_task(self._connect(self.transport))

    async def _connect(self, client: asyncio.Transport) -> None:
        info = conninfo_to_dict(self._server)
        host, port = str(info.get("host") or "localhost"), str(info.get("port") or PORT)
        loop, side = asyncio.get_running_loop(), partial(_Side, self._seconds)
        try:
            if host.startswith("/"):
                _, other = await loop.create_unix_connection(side, f"{host}/.s.PGSQL.{port}")
            else:
                _, other = await loop.create_connection(side, host, int(port))
        except OSError:
            client.abort()
            raise
        self.other, other.other = other, self
        client.resume_reading()


async def serve(folder: str, server: str, seconds: float) -> None:
    """Pass on data until standard input ends."""
    loop = asyncio.get_running_loop()
    await loop.create_unix_server(partial(_Client, server, seconds), f"{folder}/.s.PGSQL.{PORT}")
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Parse arguments, pass on."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--listen", required=True, help="the folder for the socket")
    parser.add_argument("--server", required=True, help="the connection string of the server")
    parser.add_argument("--milliseconds", type=float, required=True)
    args = parser.parse_args()
    # epoll waits whole milliseconds, select microseconds.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(serve(args.listen, args.server, args.milliseconds / 1000))


if __name__ == "__main__":
    main()
