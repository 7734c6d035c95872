"""Changes that a superuser may make to the log, as SQL: the table in `docs/explanation/proof.md` lists each.

The log has the threads 'plain' (8 checkpoints with writes, partly in a dropped partition), 'pruned' (with events that
were relocated, and a record), 'again' (deleted and begun again) and 'alone' (untouched); all of it is sealed.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ATTACKS", "RESEAL", "Attack", "leaf_of", "recompute"]


def leaf_of(event: str) -> str:
    """The leaf of an event, which a name in a statement stands for."""
    columns = "kind thread_id checkpoint_ns checkpoint_id base_seq state_digest origin_base_seq origin_body_digest body"
    return f"eventlog.stored_leaf_v1({', '.join(f'{event}.{column}' for column in columns.split())})"


def recompute(thread_id: str) -> str:
    """Gives a stream the chain of digests that its rows have now, as a superuser can."""
    return f"""
        do $$
        declare
            v_digest bytea := '';
            v_event eventlog.events;
        begin
            for v_event in select * from eventlog.events where thread_id = '{thread_id}' order by seq loop
                v_digest := eventlog.next_digest_v1(
                    v_digest, v_event.seq, v_event.recorded_at, {leaf_of("v_event")}
                );
                update eventlog.events set digest = v_digest where thread_id = '{thread_id}' and seq = v_event.seq;
            end loop;
            update eventlog.streams set digest = v_digest where thread_id = '{thread_id}';
        end
        $$
    """


#: Makes the seals again, for the log as it is now.
RESEAL = "delete from eventlog.seals; delete from eventlog.sealed"


TAKE_OUT = "; ".join(
    f"delete from eventlog.{table} where thread_id = 'alone'"
    for table in ("events", "streams", "checkpoints", "snapshots")
)


class Attack(NamedTuple):
    """One change."""

    what: str
    found_by: str
    """`verify()`, `states`, `seals`, `anchor` or `never`: the least that finds it."""
    statement: str


def _alone(change: str) -> str:
    return f"update eventlog.events set {change} where thread_id = 'alone' and seq = 3"


ATTACKS = (
    Attack("change the body of an event", "verify()", _alone("body = body || '\\x00'")),
    Attack("change the time of an event", "verify()", _alone("recorded_at = recorded_at + interval '1 microsecond'")),
    Attack("assign an event to another checkpoint", "verify()", _alone("checkpoint_id = 'c9'")),
    Attack("turn a checkpoint's event into one of writes", "verify()", _alone("kind = 2")),
    Attack("give an event an unknown kind", "verify()", _alone("kind = 9")),
    Attack("change the base of an event", "verify()", _alone("base_seq = null")),
    Attack("change the state digest of an event", "verify()", _alone("state_digest = sha256('')")),
    Attack("change the digest of an event", "verify()", _alone("digest = sha256('')")),
    Attack("give an event an earlier transaction id", "verify()", _alone("xid = '3'")),
    Attack("give an event a future transaction id", "verify()", _alone("xid = '9000000000000000'")),
    Attack(
        "delete an event in the middle of a stream",
        "verify()",
        "delete from eventlog.events where thread_id = 'alone' and seq = 3",
    ),
    Attack(
        "delete the last event of a stream",
        "verify()",
        "delete from eventlog.events where thread_id = 'alone' and seq = (select seq from eventlog.streams where"
        " thread_id = 'alone')",
    ),
    Attack(
        "swap two events",
        "verify()",
        "update eventlog.events set seq = 11 - seq where thread_id = 'alone' and seq in (5, 6)",
    ),
    Attack(
        "insert a copy of an event",
        "verify()",
        "insert into eventlog.events (thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id, base_seq,"
        " state_digest, digest, body) select thread_id, checkpoint_ns, seq, recorded_at + interval '1 second', xid,"
        " kind, checkpoint_id, base_seq, state_digest, digest, body from eventlog.events where thread_id = 'alone' and"
        " seq = 3",
    ),
    Attack(
        "insert an erased event again",
        "verify()",
        "insert into eventlog.events (thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id,"
        " state_digest, digest, body) select 'pruned', checkpoint_ns, 1, recorded_at, xid, kind, checkpoint_id,"
        " state_digest, digest, body from eventlog.events where thread_id = 'alone' and seq = 1",
    ),
    Attack(
        "change the text of a record",
        "verify()",
        "update eventlog.events set body = overlay(body placing '\\x58' from 12)"
        " where thread_id = 'pruned' and kind = 4",
    ),
    Attack(
        "change the stub of an erased event",
        "verify()",
        "update eventlog.events set body = overlay(body placing '\\x5858' from length(body) - 5)"
        " where thread_id = 'pruned' and kind = 4",
    ),
    Attack("delete a record", "verify()", "delete from eventlog.events where thread_id = 'pruned' and kind = 4"),
    Attack(
        "change the body of a relocated event",
        "verify()",
        "update eventlog.events set body = body || '\\x00'"
        " where thread_id = 'pruned' and origin_body_digest is not null",
    ),
    Attack(
        "change the original time of a relocated event",
        "verify()",
        "update eventlog.events set as_of = as_of - interval '1 day'"
        " where thread_id = 'pruned' and origin_body_digest is not null",
    ),
    Attack(
        "make an earlier checkpoint the latest of a thread",
        "verify()",
        "update eventlog.streams set latest_checkpoint_id = 'c1' where thread_id = 'alone'",
    ),
    Attack(
        "delete the row of a checkpoint",
        "verify()",
        "delete from eventlog.checkpoints where thread_id = 'alone' and checkpoint_id = 'c2'",
    ),
    Attack(
        "point the row of a checkpoint to an earlier event",
        "verify()",
        "update eventlog.checkpoints as c set seq = o.seq, recorded_at = o.recorded_at from eventlog.checkpoints as o"
        " where c.thread_id = 'alone' and c.checkpoint_id = 'c3' and o.thread_id = 'alone' and o.checkpoint_id = 'c2'",
    ),
    Attack(
        "change the searchable metadata of a checkpoint",
        "states",
        "update eventlog.checkpoints set metadata = '{}' where thread_id = 'alone' and checkpoint_id = 'c2'",
    ),
    Attack(
        "remove the parent of a checkpoint",
        "states",
        "update eventlog.checkpoints set parent_checkpoint_id = null"
        " where thread_id = 'alone' and checkpoint_id = 'c2'",
    ),
    Attack(
        "replace the state in a snapshot",
        "states",
        "update eventlog.snapshots as s set body = o.body from eventlog.snapshots as o"
        " where s.thread_id = 'alone' and o.thread_id = 'again'",
    ),
    Attack(
        "replace the body of an encrypted event with another one, and recompute the stream's digests",
        "states",
        "update eventlog.events as e set body = o.body from eventlog.events as o where e.thread_id = 'alone' and"
        f" e.seq = 1 and o.thread_id = 'again' and o.kind = 1 and o.base_seq is null;{recompute('alone')}",
    ),
    Attack("delete a whole thread", "seals", TAKE_OUT),
    Attack(
        "delete the last checkpoint, its writes and all rows about it",
        "seals",
        "delete from eventlog.events where thread_id = 'alone' and seq > 14;"
        "delete from eventlog.checkpoints where thread_id = 'alone' and seq > 14;"
        "delete from eventlog.snapshots where thread_id = 'alone' and seq > 14;"
        "update eventlog.streams as s set seq = 14, digest = e.digest, updated_at = e.recorded_at, active_at ="
        " e.recorded_at, latest_checkpoint_id = e.checkpoint_id, written_through = e.checkpoint_id, xid = e.xid"
        " from eventlog.events as e where s.thread_id = 'alone' and e.thread_id = 'alone' and e.seq = 14",
    ),
    Attack(
        "insert a backdated thread with all its rows",
        "seals",
        "insert into eventlog.events (thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id,"
        " state_digest, digest, body) select 'made up', checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id,"
        " state_digest, digest, body from eventlog.events where thread_id = 'alone' and seq = 1;"
        'insert into eventlog.checkpoints select (jsonb_populate_record(c, \'{"thread_id": "made up"}\')).*'
        " from eventlog.checkpoints as c where thread_id = 'alone' and seq = 1;"
        "insert into eventlog.streams (thread_id, checkpoint_ns, name, seq, xid, active_at, updated_at, digest,"
        " latest_checkpoint_id) select thread_id, checkpoint_ns, uuid_send(gen_random_uuid()), seq, xid, recorded_at,"
        f" recorded_at, digest, checkpoint_id from eventlog.events where thread_id = 'made up';{recompute('made up')}",
    ),
    Attack(
        "delete a whole thread, and forge the drop of a partition that it ended with",
        "verify()",
        "insert into eventlog.partitions (name, starts_at, ends_at, made_at, dropped_at, dropped_by)"
        " select 'events_forged', updated_at - interval '1 hour', updated_at + interval '1 hour', now(), now(), 'me'"
        " from eventlog.streams where thread_id = 'alone';"
        "insert into eventlog.ended"
        " select s.name, s.seq, s.digest, now(), 'events_forged', e.recorded_at, '',"
        f" {leaf_of('e')}, '{{}}'"
        " from eventlog.streams as s, eventlog.events as e"
        " where s.thread_id = 'alone' and e.thread_id = 'alone' and e.seq = s.seq;" + TAKE_OUT,
    ),
    Attack(
        "delete a whole thread, and forge its end with a partition that was dropped",
        "verify()",
        "insert into eventlog.ended"
        " select s.name, s.seq, s.digest, p.dropped_at, p.name, p.starts_at, b.digest,"
        f" {leaf_of('e')},"
        ' \'{"operation": "delete_thread", "records": []}\''
        " from eventlog.streams as s, eventlog.events as e, eventlog.events as b, eventlog.partitions as p"
        " where s.thread_id = 'alone' and e.thread_id = 'alone' and e.seq = s.seq"
        " and b.thread_id = 'alone' and b.seq = s.seq - 1 and p.dropped_at is not null limit 1;" + TAKE_OUT,
    ),
    Attack(
        "delete a whole thread, and forge such an end with a matching last record",
        "seals",
        "insert into eventlog.ended"
        " select s.name, s.seq + 1, sha256(s.digest || int8send(s.seq + 1) || timestamptz_send(p.starts_at)"
        " || sha256('')), p.dropped_at, p.name, p.starts_at, s.digest, sha256(''),"
        ' \'{"operation": "delete_thread", "records": []}\''
        " from eventlog.streams as s, eventlog.partitions as p"
        " where s.thread_id = 'alone' and p.dropped_at is not null limit 1;" + TAKE_OUT,
    ),
    Attack(
        "mark a partition as dropped",
        "verify()",
        "update eventlog.partitions set dropped_at = now() where dropped_at is null",
    ),
    Attack(
        "change the row of a dropped partition",
        "verify()",
        "update eventlog.partitions set dropped_at = dropped_at - interval '1 day' where dropped_at is not null",
    ),
    Attack("change a seal", "seals", "update eventlog.seals set streams = streams + 1 where number = 1"),
    Attack(
        "delete a whole thread, and make all seals again",
        "anchor",
        f"{TAKE_OUT}; {RESEAL}",
    ),
    Attack(
        "append a false event with a correct digest",
        "never",
        "select eventlog.append_writes_v1('alone', '', 'c7', null, null, null, null, e.state_digest,"
        " sha256(e.state_digest || sha256(e.body)), e.body)"
        " from eventlog.events as e where e.thread_id = 'alone' and e.kind = 2 and e.base_seq is null and e.seq < 5",
    ),
)
