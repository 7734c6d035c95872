"""A proxy that does harm at a chosen message: between a client on TCP and a PostgreSQL server on a unix socket.

It knows how PostgreSQL's protocol is framed (a type byte and a length; no type byte in the first message), so a fault
is placed at a step of the protocol and not at a point in time: a test is the same in every run. Which steps a call has,
`Plan.steps` of an undisturbed call says. It runs in a thread with an event loop of its own.

A server answers when it is asked to (Sync, or a simple Query), and has committed by then. So a fault at any message
from the server is one where the work was done and the client does not know, at any message to it one where it was not.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from typing_extensions import Self

__all__ = ["FAULTS", "Fault", "Plan", "Proxy", "Said", "Step"]

Fault = Literal["reset", "close", "truncate", "stall", "delay"]

#: What can happen to a message. "reset" and "close" end the connection before it (with and without TCP's reset),
#: "truncate" in its middle, "stall" some time after it was due; "delay" passes it on late, and nothing is lost.
FAULTS: tuple[Fault, ...] = ("reset", "close", "truncate", "stall", "delay")

#: What a client in a pipeline sends when it begins to wait, so that how many there are depends on timing: no step.
FLUSH = ("client", "H")

#: How long a stalled or delayed message is held, in seconds: long for a computer; no test waits for it by the clock.
HELD = 0.05


class Step(NamedTuple):
    """One message: its direction, its number among those of its direction, and its type."""

    sender: Literal["client", "server"]
    number: int
    type: str


class Said(NamedTuple):
    """The first message of that direction that has a text in it."""

    sender: Literal["client", "server"]
    text: bytes


@dataclass
class Plan:
    """What is to happen, and what was seen, since the proxy was given it."""

    fault: Fault | None = None
    at: Step | Said | None = None
    """Without it nothing happens, and the steps are counted."""
    on_fault: Callable[[], object] | None = None
    """Called in the proxy's thread when it is about to happen."""
    steps: list[Step] = field(default_factory=list)
    is_done: bool = False
    _counts: dict[str, int] = field(default_factory=lambda: {"client": 0, "server": 0})

    def next(self, sender: Literal["client", "server"], type_: str, message: bytes) -> Fault | None:
        """Count a message; returns what is to happen to it."""
        if (sender, type_) == FLUSH:
            return None
        number = self._counts[sender]
        self._counts[sender] += 1
        self.steps.append(Step(sender, number, type_))
        if self.is_done or self.at is None or self.at.sender != sender:
            return None
        if self.at.text not in message if isinstance(self.at, Said) else self.at.number != number:
            return None
        self.is_done = True
        if self.on_fault is not None:
            self.on_fault()
        return self.fault


class _Link:
    """A client's connection and the server's that belongs to it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.held: asyncio.Event = asyncio.Event()
        self.held.set()

    def cut(self, *, reset: bool) -> None:
        """End both. The client gets what was sent before, unless it is a reset that throws it away."""
        if reset:
            sock = self.client.get_extra_info("socket")
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.client.transport.abort()
        else:
            self.client.close()
        self.server.close()


class Proxy:
    """Passes on what comes for a server, and does what it is told to.

    Args:
        uri: the database behind it, on a unix socket.
    """

    def __init__(self, uri: str) -> None:
        info = conninfo_to_dict(uri)
        self._socket = f"{info['host']}/.s.PGSQL.{info.get('port') or 5432}"
        self._uri = uri
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._port = 0
        self.plan = Plan()

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def uri(self) -> str:
        """The connection string of the same database behind the proxy."""
        return make_conninfo(
            self._uri, host="127.0.0.1", port=self._port, sslmode="disable", gssencmode="disable", connect_timeout=10
        )

    def follow(
        self, fault: Fault | None = None, at: Step | Said | None = None, on_fault: Callable[[], object] | None = None
    ) -> Plan:
        """Have a plan from now on; without arguments, one that only counts."""
        self.plan = Plan(fault, at, on_fault)
        return self.plan

    def cut_all(self) -> None:
        """Reset all connections that there are."""
        self._call(self._cut_all())

    def refuse(self) -> None:
        """No socket listens from now on, and all connections are reset."""
        self._call(self._refuse())

    def accept(self) -> None:
        """Listen again, at the same place."""
        self._call(self._listen())

    def _call(self, todo: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(todo, self._loop).result(timeout=60)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _cut_all(self) -> None:
        for link in list(self._links):
            link.cut(reset=True)

    async def _refuse(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._cut_all()

    async def _close(self) -> None:
        await self._refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            from_server, server = await asyncio.open_unix_connection(self._socket)
        except OSError:
            client.transport.abort()
            self._tasks.discard(task)
            return
        link = _Link(client, server)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pump(link, "client", from_client, server), self._pump(link, "server", from_server, client)
            )
        except (OSError, asyncio.CancelledError):
            pass  # One of the two has hung up in the middle of a message, or the proxy is closed.
        finally:
            link.cut(reset=False)
            self._links.discard(link)
            self._tasks.discard(task)

    async def _pump(
        self,
        link: _Link,
        sender: Literal["client", "server"],
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
    ) -> None:
        is_first = sender == "client"
        with suppress(asyncio.IncompleteReadError):
            while True:
                type_ = b"" if is_first else await source.readexactly(1)
                length = await source.readexactly(4)
                message = type_ + length + await source.readexactly(int.from_bytes(length, "big") - 4)
                await link.held.wait()
                fault = self.plan.next(sender, type_.decode() or "startup", message)
                if fault in ("stall", "delay"):
                    link.held.clear()
                    await asyncio.sleep(HELD)
                    link.held.set()
                elif fault == "truncate":
                    target.write(message[: len(message) // 2])
                    await target.drain()
                if fault not in (None, "delay"):
                    link.cut(reset=fault in ("reset", "stall"))
                    return
                target.write(message)
                await target.drain()
                is_first = False
        link.cut(reset=False)
