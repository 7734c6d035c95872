"""The feed of a log that is distributed by thread over the nodes of a Citus cluster.

A node gives its own transaction ids and positions to the events that it records; both would mean nothing elsewhere. So
the feed has a *part* for each shard and each node that has recorded events of the shard's threads: its *origin*, the
highest 16 bits of a position. Each part is ordered and gated as the feed of one server (`eventlog.feed`), and a cursor
has an entry for each part that it has begun.

* **Order.** The events of a stream come in the order of ``seq``: while its shard is on one node, all are in one part.
  When the shard moves, a part begins behind the other: of the parts of a shard, the reader takes that with the oldest
  next event. Events of different shards have no order.
* **Each event once.** An event's part never changes, wherever its shard moves. Where a shard is split, entries of its
  range hold for both halves.
* **Nothing missed.** Events that came with a moved shard are committed; only a transaction that began at their origin
  before the move may still add one there. So a reader of such events first asks the origin what is settled.

One query reads all parts on a node, on that node.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from eventlog.db.query import Op, Query, Rows
from eventlog.db.statements import Statements
from eventlog.errors import CursorError, LogBusyError
from eventlog.events import Cursor, DistributedCursor, Kind, ShardPlace, StoredEvent
from eventlog.feed_page import FeedPage, Holder, Lag

__all__ = ["Generations", "Nodes", "find_nodes", "read_nodes", "read_nodes_end", "read_nodes_lag"]

#: As many hashes of thread ids there are.
HASHES = 2**32

#: All positions and transaction ids are below.
BEYOND = 2**63 - 1
SETTLED = str(2**64 - 1)

#: How often to look again for ranges that have moved meanwhile.
MOST_TRIES = 10


class Nodes(NamedTuple):
    """What a reader knows of the nodes before it asks them for events of a generation."""

    keys: list[str]
    """A thread id for each node."""
    begins: int
    """The generation's events have greater positions."""
    ends: int | None
    """And at most this one; None in the newest generation."""
    node: int | None
    """The Citus group id of the server that was asked."""
    xmin: int
    """That server's oldest running transaction."""


class Generations(NamedTuple):
    """The nodes, and the generations from one on."""

    keys: list[str]
    """A thread id for each node."""
    begins: list[int]
    """The events of each generation have greater positions."""
    ends: list[int]
    """And at most these."""
    newest: int
    """The last generation's number."""
    read_at: datetime
    """The time of the database."""


#: Asks a node only about itself.
_NO_PAGE = {"ends": BEYOND, "rows": 0, "bytes": 0, "threads": None, "turn": 0}


class Places:
    """A cursor's entries, as they advance."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._places = sorted(cursor.shards, key=_part)
        self._parts = list(map(_part, self._places))

    def advance(self, place: ShardPlace) -> None:
        part = _part(place)
        number = bisect_left(self._parts, part)
        if number < len(self._parts) and self._parts[number] == part:
            self._places[number] = place
        else:
            self._parts.insert(number, part)
            self._places.insert(number, place)

    def cursor(self) -> Cursor:
        generation, xid, position = self._cursor
        if not self._places:
            return self._cursor
        return DistributedCursor(generation, xid, position, tuple(self._places))

    def params(self) -> dict[str, Any]:
        """As the database's functions take them."""
        return {
            "xid": self._cursor.xid,
            "position": self._cursor.position,
            "lows": [place.low for place in self._places],
            "highs": [place.high for place in self._places],
            "xids": [str(place.xid) for place in self._places],
            "positions": [place.position for place in self._places],
        }


def _part(place: ShardPlace) -> tuple[int, int, int]:
    return place.low, place.high, place.origin


class _Row(NamedTuple):
    """The columns of the statement before those of the event."""

    node: int
    xmin: int
    xmax: int
    is_standby: bool
    low: int | None
    high: int | None
    is_end: bool | None
    needs: int | None
    is_wanted: bool | None


def read_nodes(
    statements: Statements, nodes: Nodes, after: Cursor, rows: int, size: int, threads: list[str] | None
) -> Op[FeedPage]:
    """The next events after a cursor, from one node after the other, until the page is full.

    Args:
        rows: at most so many events.
        size: no event begins beyond so many bytes of bodies.
        threads: only events of these, and only their shards are read.

    Raises:
        CursorError: when an entry is ahead of its node.
    """
    places = Places(after)
    gates = {} if nodes.node is None else {nodes.node: str(nodes.xmin)}
    turn = sum(place.position for place in after.shards) % HASHES
    first = turn % max(len(nodes.keys), 1)
    keys = nodes.keys[first:] + nodes.keys[:first]
    events: list[StoredEvent] = []
    left, bytes_left, covered, is_end = rows, size, 0, True
    for key in keys:
        if left <= 0 or bytes_left <= 0:
            is_end = False
            break
        params = {
            "key": key,
            "begins": nodes.begins,
            "ends": BEYOND if nodes.ends is None else nodes.ends,
            "bytes": bytes_left,
            "threads": threads,
            "turn": turn,
        }
        found = yield from _ask(statements, {**params, **places.params(), "rows": left}, gates, after)
        if missing := {row[7] for row in found if row[7] is not None}:
            for other in keys:
                if other != key:
                    asked = {**_NO_PAGE, **Places(after).params(), "key": other, "begins": 0}
                    yield from _ask(statements, asked, gates, after)
            # A node without shards, or one that has left the cluster.
            gates.update((origin, SETTLED) for origin in missing if origin not in gates)
            found = yield from _ask(statements, {**params, **places.params(), "rows": left}, gates, after)
        for row in found:
            about = _Row(*row[: len(_Row._fields)])
            if about.low is None:
                continue
            assert about.high is not None
            seq, base_seq, at, body, kind, *rest = row[len(_Row._fields) :]
            if seq is None:
                covered += about.high - about.low + 1
                is_end = is_end and bool(about.is_end)
                continue
            position, xid = rest[3], rest[7]
            places.advance(ShardPlace(about.low, about.high, xid, position))
            left -= 1
            if about.is_wanted:
                bytes_left -= len(body)
                event = StoredEvent(seq, base_seq, at, body, Kind(kind), *rest)
                events.append(event._replace(generation=after.generation, feed_cursor=places.cursor()))
    # Otherwise a shard was moving: it is read the next time.
    is_end = is_end and (threads is not None or covered == HASHES)
    return FeedPage(events, places.cursor(), is_end)


def _ask(statements: Statements, params: dict[str, Any], gates: dict[int, str], cursor: Cursor) -> Op[Rows]:
    """Read the feed of a node, and learn what is settled there."""
    asked = {**params, "origins": list(gates), "gates": list(gates.values())}
    found: Rows = yield Query(statements["read_node_feed"], asked)
    # Without rows, the log is on one server.
    if not found:
        return found
    node = _Row(*found[0][: len(_Row._fields)])
    gates[node.node] = str(node.xmin)
    for place in cursor.shards:
        if place.origin == node.node and place.xid >= node.xmax and not node.is_standby:
            raise CursorError(
                f"cursor {cursor} is ahead of the log: its entry {place} belongs to another database, or to a time "
                f"that a restore of the node with Citus group id {node.node} undid. Restart from the beginning or from "
                "tail_position(). (In a repeatable read transaction the cursor may only be newer than the transaction)"
            )
    return found


def find_nodes(statements: Statements, generation: int = 0) -> Op[Generations | None]:
    """The nodes, and the generations from one on; None: the log is not distributed."""
    (row,) = yield Query(statements["feed_nodes"], {"generation": generation})
    found = Generations(*row)
    return None if found.keys is None else found


def read_nodes_end(statements: Statements, found: Generations) -> Op[Cursor]:
    """The end of the feed now. Raises LogBusyError when shards keep moving."""
    for _ in range(MOST_TRIES):
        places, covered = Places(Cursor(found.newest, 0, 0)), set()
        for key in found.keys:
            for low, high, xid, position in (
                yield Query(statements["end_node_feed"], {"key": key, "begins": found.begins[-1]})
            ):
                covered.add((low, high))
                if position is not None:
                    places.advance(ShardPlace(low, high, xid, position))
        if _size(covered) == HASHES:
            return places.cursor()
        found = (yield from find_nodes(statements)) or found
    raise LogBusyError("shards of the log moved from node to node while its end was read: try again")


def read_nodes_lag(statements: Statements, found: Generations, cursor: Cursor, most: int) -> Op[Lag]:
    """How far a cursor is behind; counts stop at `most`."""
    waiting = unsettled = 0
    oldest = holder = None
    for key in found.keys:
        params = {
            **Places(cursor).params(),
            "key": key,
            "begins": found.begins,
            "ends": found.ends,
            "most": most,
        }
        ((there, oldest_at, held, *about, is_held),) = yield Query(statements["measure_node_feed"], params)
        waiting, unsettled = waiting + there, unsettled + held
        oldest = min((at for at in (oldest, oldest_at) if at is not None), default=None)
        # The transaction that holds most, or any that is running.
        if is_held and (holder is None or held > holder[0]):
            holder = (held, Holder(*about))
        yield from _ask(statements, {**_NO_PAGE, **Places(cursor).params(), "key": key, "begins": 0}, {}, cursor)
    seconds = None if oldest is None else (found.read_at - oldest).total_seconds()
    return Lag(cursor, min(waiting, most), seconds, min(unsettled, most), holder and holder[1])


def _size(ranges: Iterable[tuple[int, int]]) -> int:
    return sum(high - low + 1 for low, high in ranges)
