"""What somebody may do to the log who may do everything, as SQL: the table in `docs/how-to/prove-it.md` lists each.

The log has the threads 'plain' (8 checkpoints with writes, partly in a dropped partition), 'pruned' (with events that
were relocated, and a record), 'again' (deleted and begun again) and 'alone' (untouched); all of it is sealed.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ATTACKS", "RESEAL", "Attack", "recompute"]


def recompute(thread_id: str) -> str:
    """Gives a stream the chain of digests that its rows have now, as somebody can who may do everything."""
    return f"""
        do $$
        declare
            v_digest bytea := '';
            v_event eventlog.events;
        begin
            for v_event in select * from eventlog.events where thread_id = '{thread_id}' order by seq loop
                v_digest := eventlog.next_digest_v1(
                    v_digest, v_event.seq, v_event.recorded_at, eventlog.stored_leaf_v1(v_event)
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
    Attack("alters the body of an event", "verify()", _alone("body = body || '\\x00'")),
    Attack("alters an event's time", "verify()", _alone("recorded_at = recorded_at + interval '1 microsecond'")),
    Attack("gives an event another checkpoint", "verify()", _alone("checkpoint_id = 'c9'")),
    Attack("makes writes of a checkpoint", "verify()", _alone("kind = 2")),
    Attack("gives an event a kind that there is not", "verify()", _alone("kind = 9")),
    Attack("gives an event another base", "verify()", _alone("base_seq = null")),
    Attack("alters an event's state digest", "verify()", _alone("state_digest = sha256('')")),
    Attack("alters an event's digest", "verify()", _alone("digest = sha256('')")),
    Attack("gives an event an earlier transaction id", "verify()", _alone("xid = '3'")),
    Attack("gives an event a transaction id that there was not yet", "verify()", _alone("xid = '9000000000000000'")),
    Attack(
        "takes out an event in the middle",
        "verify()",
        "delete from eventlog.events where thread_id = 'alone' and seq = 3",
    ),
    Attack(
        "takes out the last event",
        "verify()",
        "delete from eventlog.events where thread_id = 'alone' and seq = (select seq from eventlog.streams where"
        " thread_id = 'alone')",
    ),
    Attack(
        "puts an event in the place of another",
        "verify()",
        "update eventlog.events set seq = 11 - seq where thread_id = 'alone' and seq in (5, 6)",
    ),
    Attack(
        "adds an event twice",
        "verify()",
        "insert into eventlog.events (thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id, base_seq,"
        " state_digest, digest, body) select thread_id, checkpoint_ns, seq, recorded_at + interval '1 second', xid,"
        " kind, checkpoint_id, base_seq, state_digest, digest, body from eventlog.events where thread_id = 'alone' and"
        " seq = 3",
    ),
    Attack(
        "puts an erased event back",
        "verify()",
        "insert into eventlog.events (thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id,"
        " state_digest, digest, body) select 'pruned', checkpoint_ns, 1, recorded_at, xid, kind, checkpoint_id,"
        " state_digest, digest, body from eventlog.events where thread_id = 'alone' and seq = 1",
    ),
    Attack(
        "alters what a record says",
        "verify()",
        "update eventlog.events set body = overlay(body placing '\\x58' from 12)"
        " where thread_id = 'pruned' and kind = 4",
    ),
    Attack(
        "alters the stub of an erased event",
        "verify()",
        "update eventlog.events set body = overlay(body placing '\\x5858' from length(body) - 5)"
        " where thread_id = 'pruned' and kind = 4",
    ),
    Attack("takes out a record", "verify()", "delete from eventlog.events where thread_id = 'pruned' and kind = 4"),
    Attack(
        "alters the body of a relocated event",
        "verify()",
        "update eventlog.events set body = body || '\\x00'"
        " where thread_id = 'pruned' and origin_body_digest is not null",
    ),
    Attack(
        "alters when a relocated event was saved",
        "verify()",
        "update eventlog.events set as_of = as_of - interval '1 day'"
        " where thread_id = 'pruned' and origin_body_digest is not null",
    ),
    Attack(
        "points a thread to an earlier checkpoint",
        "verify()",
        "update eventlog.streams set latest_checkpoint_id = 'c1' where thread_id = 'alone'",
    ),
    Attack(
        "takes out a checkpoint's row",
        "verify()",
        "delete from eventlog.checkpoints where thread_id = 'alone' and checkpoint_id = 'c2'",
    ),
    Attack(
        "points a checkpoint to an earlier event",
        "verify()",
        "update eventlog.checkpoints as c set seq = o.seq, recorded_at = o.recorded_at from eventlog.checkpoints as o"
        " where c.thread_id = 'alone' and c.checkpoint_id = 'c3' and o.thread_id = 'alone' and o.checkpoint_id = 'c2'",
    ),
    Attack(
        "alters a checkpoint's searchable metadata",
        "states",
        "update eventlog.checkpoints set metadata = '{}' where thread_id = 'alone' and checkpoint_id = 'c2'",
    ),
    Attack(
        "takes a checkpoint's parent away",
        "states",
        "update eventlog.checkpoints set parent_checkpoint_id = null"
        " where thread_id = 'alone' and checkpoint_id = 'c2'",
    ),
    Attack(
        "gives a snapshot another state",
        "states",
        "update eventlog.snapshots as s set body = o.body from eventlog.snapshots as o"
        " where s.thread_id = 'alone' and o.thread_id = 'again'",
    ),
    Attack(
        "gives an encrypted event another one's body, and computes the stream's digests again",
        "states",
        "update eventlog.events as e set body = o.body from eventlog.events as o where e.thread_id = 'alone' and"
        f" e.seq = 1 and o.thread_id = 'again' and o.kind = 1 and o.base_seq is null;{recompute('alone')}",
    ),
    Attack("takes out a whole thread", "seals", TAKE_OUT),
    Attack(
        "takes out the last checkpoint with its writes, and all that tells of it",
        "seals",
        "delete from eventlog.events where thread_id = 'alone' and seq > 14;"
        "delete from eventlog.checkpoints where thread_id = 'alone' and seq > 14;"
        "delete from eventlog.snapshots where thread_id = 'alone' and seq > 14;"
        "update eventlog.streams as s set seq = 14, digest = e.digest, updated_at = e.recorded_at, active_at ="
        " e.recorded_at, latest_checkpoint_id = e.checkpoint_id, written_through = e.checkpoint_id, xid = e.xid"
        " from eventlog.events as e where s.thread_id = 'alone' and e.thread_id = 'alone' and e.seq = 14",
    ),
    Attack(
        "makes up a thread of an earlier time, with all that belongs to it",
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
        "takes out a whole thread, and forges rows that say it ended with a partition",
        "verify()",
        "insert into eventlog.partitions (name, starts_at, ends_at, made_at, dropped_at, dropped_by)"
        " select 'events_forged', updated_at - interval '1 hour', updated_at + interval '1 hour', now(), now(), 'me'"
        " from eventlog.streams where thread_id = 'alone';"
        "insert into eventlog.ended"
        " select s.name, s.seq, s.digest, now(), 'events_forged', e.recorded_at, '', eventlog.stored_leaf_v1(e), '{}'"
        " from eventlog.streams as s, eventlog.events as e"
        " where s.thread_id = 'alone' and e.thread_id = 'alone' and e.seq = s.seq;" + TAKE_OUT,
    ),
    Attack(
        "takes out a whole thread, and forges a row that says it ended with a partition that was dropped",
        "verify()",
        "insert into eventlog.ended"
        " select s.name, s.seq, s.digest, p.dropped_at, p.name, p.starts_at, b.digest, eventlog.stored_leaf_v1(e),"
        ' \'{"operation": "delete_thread", "records": []}\''
        " from eventlog.streams as s, eventlog.events as e, eventlog.events as b, eventlog.partitions as p"
        " where s.thread_id = 'alone' and e.thread_id = 'alone' and e.seq = s.seq"
        " and b.thread_id = 'alone' and b.seq = s.seq - 1 and p.dropped_at is not null limit 1;" + TAKE_OUT,
    ),
    Attack(
        "takes out a whole thread, and forges such a row with a last record that fits",
        "seals",
        "insert into eventlog.ended"
        " select s.name, s.seq + 1, sha256(s.digest || int8send(s.seq + 1) || timestamptz_send(p.starts_at)"
        " || sha256('')), p.dropped_at, p.name, p.starts_at, s.digest, sha256(''),"
        ' \'{"operation": "delete_thread", "records": []}\''
        " from eventlog.streams as s, eventlog.partitions as p"
        " where s.thread_id = 'alone' and p.dropped_at is not null limit 1;" + TAKE_OUT,
    ),
    Attack(
        "says that a partition was dropped",
        "verify()",
        "update eventlog.partitions set dropped_at = now() where dropped_at is null",
    ),
    Attack(
        "alters the row of a partition that was dropped",
        "verify()",
        "update eventlog.partitions set dropped_at = dropped_at - interval '1 day' where dropped_at is not null",
    ),
    Attack("alters a seal", "seals", "update eventlog.seals set streams = streams + 1 where number = 1"),
    Attack(
        "takes out a whole thread, and seals the log again",
        "anchor",
        f"{TAKE_OUT}; {RESEAL}",
    ),
    Attack(
        "appends an event with its digest, as an append does",
        "never",
        "select eventlog.append_writes_v1('alone', '', 'c7', null, null, null, null, e.state_digest,"
        " sha256(e.state_digest || sha256(e.body)), e.body)"
        " from eventlog.events as e where e.thread_id = 'alone' and e.kind = 2 and e.base_seq is null and e.seq < 5",
    ),
)
