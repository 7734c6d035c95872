-- What was written to some checkpoints before a number of their stream, without bodies.
select e.checkpoint_ns, e.checkpoint_id, e.seq, octet_length(e.body) as bytes
from unnest(%(ns)s::text[], %(ids)s::text[], %(seqs)s::bigint[]) as w (ns, id, seq)
inner join {schema}.streams as s on s.thread_id = %(thread_id)s and w.ns = s.checkpoint_ns
inner join {schema}.events as e
    on
        s.thread_id = e.thread_id and s.checkpoint_ns = e.checkpoint_ns and w.id = e.checkpoint_id and e.seq < w.seq
        and e.kind = 2 and e.recorded_at >= coalesce(s.begins_at, '-infinity')
order by e.checkpoint_ns, e.seq
