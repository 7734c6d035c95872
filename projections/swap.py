"""A rebuild's beginning and end: whose it is, how far it is, and the change of places.

Nothing here depends on a session. A rebuild is a row in `rebuilds`; whoever works on it has its *claim* there, and
locks the row for as long as each of its transactions lasts. Another call waits to see whether anything moves, and
either gives up (`LogBusyError`) or takes the claim over from one that was killed. Should it take it from one that only
slept, that one finds the claim changed at its next step, and gives up itself: two never work at the same time.

What was appended while the streams were derived is found by transaction ids. `since` is a number below which every
transaction was over when a round began, so what they appended was seen by every derivation of that round; all that may
have been missed is in events whose `xid` is at or above it. (An event's `xid` is never below the id of the transaction
that appended it.) Rounds go on until little is left. The last one runs under an exclusive lock on the three live
tables. Whatever appends, erases, carries forward, copies or drops takes a lock on `streams` before it changes anything
and has it until its end, which this lock excludes: nothing is in flight then, nothing can begin, and what that round
finds is all there is. The time under the lock depends on how much was appended since the round before, not on the size
of the log: all else was derived and compared before.

A statement that waits for the lock looks up the tables' names again when it has it, and finds the new ones. It also
takes its snapshot then, unless it took one before it came to the table: a function that is declared stable reads with
the snapshot of the statement that calls it. What such a one would miss are the rows that were put into the new tables
under the lock. That is why the statements that call one name `streams` themselves (``sql/queries/read_checkpoint``).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata

from eventlog.db.locks import try_lock
from eventlog.db.migrations import check_not_newer
from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import InvalidInputError, LogBusyError, MissingGrantError, StorageError
from eventlog.settings import Settings
from eventlog.streams import Stream
from projections.side_tables import Done, Side

__all__ = ["LOCKED_STREAMS", "State", "Swapped", "Swapper", "drop_old"]

#: Streams that are brought up to date under the lock, and the events that this takes, at most; with more, another round
#: comes first. Where rounds do not help, as a long thread is cut again and again, it may be so many times more.
LOCKED_STREAMS = 50
LOCKED_EVENTS = 500
MOST_TIMES = 10

#: How long the lock on one of the three tables is waited for, in milliseconds: at first, and at most. Others wait
#: behind it. Three times the most must stay below PostgreSQL's deadlock_timeout (a second): a writer may have one of
#: the tables and wait for another, and it is not the one to be ended for that.
LOCK_WAIT_MS = 100
LONGEST_LOCK_WAIT_MS = 300

DISTRIBUTION = "langgraph-checkpoint-eventlog"


@dataclass(slots=True)
class State:
    """A rebuild that is under way, and how far it is."""

    id: int
    after: Stream
    """The first pass has come so far."""
    is_listed: bool
    """Whether it is over."""
    events: int
    since: str
    """Every transaction below appended nothing that was not derived."""
    dropped: str
    """Which partitions were gone then."""


@dataclass(frozen=True, slots=True)
class Swapped:
    """The rebuilt tables are the live ones."""

    locked_seconds: float
    """How long others had to wait for the tables."""
    done: Done
    """What was brought up to date meanwhile."""


class Swapper:
    """Begins, holds and ends one rebuild.

    Args:
        statements: for the schema.
        settings: of the saver.
        claim: the name of this call.
        is_encrypted: whether snapshots are.
    """

    def __init__(self, statements: Statements, settings: Settings, claim: str, *, is_encrypted: bool) -> None:
        self._statements = statements
        self._claim = claim
        self._depends_on = {
            "version": metadata.version(DISTRIBUTION),
            "snapshot_floor_bytes": settings.snapshot_floor_bytes,
            "max_body_bytes": settings.max_body_bytes,
            "encrypted": is_encrypted,
        }

    # --- the beginning

    def check(self) -> Op[None]:
        """That the user may change the tables, and that nothing hangs on them.

        Raises:
            MissingGrantError: when the user does not own the log.
            StorageError: naming what would stay with the old tables.
            DatabaseTooNewError: as `check_version`.
        """
        yield from self.check_version()
        ((is_owner, owner),) = yield Query(self._statements["owner"])
        if not is_owner:
            raise MissingGrantError(
                f"only the log's owner can rebuild its projections: run this as {owner!r}, or a member of it"
            )
        yield from self._check_obstacles()

    def check_version(self) -> Op[None]:
        """That this version knows all there is to derive: columns that a newer one has added would come out empty.

        Raises:
            DatabaseTooNewError: when a newer version has set up the database.
        """
        yield from check_not_newer(self._statements)

    def _check_obstacles(self) -> Op[None]:
        obstacles = yield Query(self._statements["rebuild_obstacles"])
        if obstacles:
            names = "; ".join(what for (what,) in obstacles)
            raise StorageError(
                "these objects depend on the tables that a rebuild replaces, and would stay with the old tables: drop "
                f"them before the rebuild, and create them again after it: {names}"
            )

    def look(self) -> Op[tuple[int, datetime] | None]:
        """The rebuild that is under way and claimed, and when somebody last worked on it; None if there is none.

        Raises:
            LogBusyError: when somebody is working on it right now.
        """
        rows = yield Query(self._statements["rebuild_under_way"])
        if not rows or rows[0][2] is None:
            return None
        id_ = rows[0][0]
        seen = yield Query(self._statements["rebuild_peek"], (id_,))
        if not seen:
            raise _busy()
        return id_, seen[0][0]

    def start(self, *, restart: bool) -> Op[State]:
        """Take over the rebuild that is under way, or begin one: also when the log was restored from elsewhere since.

        Args:
            restart: begin anew in any case.

        Raises:
            InvalidInputError: when one is under way with other settings.
            LogBusyError: when somebody else does the same.
        """
        if not (yield from try_lock(self._statements.schema, "rebuild")):
            raise _busy()
        ((generation,),) = yield Query(self._statements["start_generation"])
        rows = yield Query(self._statements["rebuild_under_way"])
        if rows:
            id_, settings, _, _, thread_id, ns, is_listed, events, since, dropped = rows[0]
            if not (yield Query(self._statements["rebuild_peek"], (id_,))):
                raise _busy()
            before = json.loads(settings)
            # Where the log was restored since from another cluster, `since` counts that one's transactions.
            if before.pop("generation", None) == generation and not restart:
                if before != self._depends_on:
                    differ = [name for name, value in self._depends_on.items() if before.get(name) != value]
                    was = ", ".join(f"{name}={before.get(name)!r}" for name in differ)
                    raise InvalidInputError(
                        f"an unfinished rebuild was started with {was}: continue it with the same settings, or restart"
                    )
                yield Query(self._statements["rebuild_claim"], {"id": id_, "claim": self._claim}, returns=False)
                return State(id_, Stream(thread_id, ns), is_listed, events, since, dropped)
            yield Query(self._statements["rebuild_finish"], (False, id_), returns=False)
        since, dropped = yield from self._now()
        yield Query(self._statements["rebuild_make"])
        yield Query(self._statements["rebuild_forget_differences"], returns=False)
        params = (json.dumps({**self._depends_on, "generation": generation}), self._claim, since, dropped)
        ((id_,),) = yield Query(self._statements["rebuild_begin"], params)
        return State(id_, Stream("", ""), False, 0, since, dropped)

    # --- on the way

    def hold(self, state: State) -> Op[bool]:
        """Keep others away until the transaction ends; returns whether the rebuild is done already.

        Raises:
            LogBusyError: when another call has taken over.
        """
        rows = yield Query(self._statements["rebuild_hold"], (state.id, self._claim))
        if not rows:
            raise LogBusyError("another call has taken over this rebuild: wait for that one, or run it again")
        return bool(rows[0][0])

    def advance(self, state: State, events: int) -> Op[None]:
        """Record how far the rebuild is."""
        params = {
            **state.after._asdict(),
            "is_listed": state.is_listed,
            "events": events,
            "since": state.since,
            "dropped": state.dropped,
            "id": state.id,
            "claim": self._claim,
        }
        if not (yield Query(self._statements["rebuild_advance"], params)):
            yield from self.hold(state)

    def now(self, state: State) -> Op[tuple[str, str]]:
        """What a round begins with: a value for `since`, and one for `dropped`."""
        yield from self.hold(state)
        return (yield from self._now())

    def _now(self) -> Op[tuple[str, str]]:
        ((since, dropped),) = yield Query(self._statements["rebuild_now"])
        return since, dropped

    def changed(self, state: State, after: Stream, limit: int) -> Op[list[Stream]]:
        """The next streams that have to be derived, or gone on with."""
        yield from self.hold(state)
        return (yield from self._changed(state, after, limit))

    def _changed(self, state: State, after: Stream, limit: int) -> Op[list[Stream]]:
        params = {**after._asdict(), "since": state.since, "rows": limit}
        return [Stream(*row) for row in (yield Query(self._statements["rebuild_changed"], params))]

    # --- the end

    def swap(self, state: State, side: Side, attempt: int) -> Op[Swapped | None]:
        """Lock the live tables, derive what is left, and change places; None when too much is left.

        Args:
            attempt: the first, the second, …: each waits a little longer for the lock, and may do more under it.

        Raises:
            DatabaseTooNewError: as `check_version`.
            LogBusyError (from the driver): when the lock was not to be had in a moment.
        """
        # What is read under the lock must be what is there then, whatever the connection's default is.
        yield Query(b"set transaction isolation level read committed", returns=False)
        # Whoever waits for this lock keeps all others waiting behind it.
        wait = min(LOCK_WAIT_MS * attempt, LONGEST_LOCK_WAIT_MS)
        yield Query(b"select set_config('lock_timeout', %s, true)", (f"{wait}ms",))
        yield Query(self._statements["rebuild_lock"], returns=False)
        started = time.monotonic()
        if (yield from self.hold(state)):
            return Swapped(0.0, Done(0, 0, 0, []))  # done, but the answer was lost with its connection
        times = min(attempt, MOST_TIMES)
        _, dropped = yield from self._now()
        changed = yield from self._changed(state, Stream("", ""), LOCKED_STREAMS * times + 1)
        if dropped != state.dropped or len(changed) > LOCKED_STREAMS * times:
            return None
        threads, namespaces = ([each[at] for each in changed] for at in (0, 1))
        params = {"threads": threads, "namespaces": namespaces, "rows": LOCKED_EVENTS * times + 1}
        ((left,),) = yield Query(self._statements["rebuild_left"], params)
        if left > LOCKED_EVENTS * times:
            return None
        done = yield from side.bring_up_to_date(state.id, changed)
        # The tables that were made beside the live ones lack what an upgrade has added since.
        yield from self.check_version()
        yield from self._check_obstacles()
        yield Query(self._statements["rebuild_swap"], (state.id,))
        yield Query(self._statements["rebuild_finish"], (True, state.id), returns=False)
        return Swapped(time.monotonic() - started, done)

    def release(self, state: State) -> Op[None]:
        """Let go of the rebuild: the next call need not wait to see whether this one is alive."""
        yield Query(self._statements["rebuild_release"], (state.id, self._claim), returns=False)


def drop_old(statements: Statements) -> Op[list[str]]:
    """Drop the tables that rebuilds have kept; returns their names.

    Raises (from the driver):
        MissingGrantError: when the user does not own them.
    """
    rows = yield Query(statements["rebuild_drop_old"])
    return [name for (name,) in rows]


def _busy() -> LogBusyError:
    return LogBusyError("another rebuild is running: wait until it has ended")
