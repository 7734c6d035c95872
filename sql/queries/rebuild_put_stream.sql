insert into {schema}.streams (
    thread_id, checkpoint_ns, seq, epoch, digest, xid, latest_checkpoint_id, written_through,
    erased_through, begins_at, active_at, updated_at
)
values (%s, %s, %s, %s, %s, %s::xid8, %s, %s, %s, %s, %s, %s)
