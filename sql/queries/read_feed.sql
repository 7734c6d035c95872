-- `streams` is named for the reason that read_checkpoint.sql gives.
select
    f.o_newest, f.o_is_restored, f.o_is_known, f.o_last_position, f.o_last_xid::text::bigint as last_xid,
    f.o_xmax::text::bigint as xmax, f.o_is_replica,
    f.o_found, f.o_is_wanted, f.o_xid::text::bigint as xid, f.o_position,
    f.o_seq, f.o_base_seq, f.o_recorded_at, f.o_body, f.o_kind, f.o_checkpoint_id, f.o_checkpoint_ns, f.o_thread_id,
    f.o_position as position, f.o_digest, f.o_as_of, null::timestamptz as first_at, f.o_xid::text::bigint as event_xid,
    %(generation)s::integer as generation
from
    {schema}.read_feed_v1(
        %(generation)s::integer, %(xid)s::bigint::text::xid8, %(position)s::bigint, %(rows)s::bigint, %(bytes)s::bigint,
        %(threads)s::text[]
    ) as f
where true or exists (select 1 from {schema}.streams)
