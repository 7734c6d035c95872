select x.thread_id, x.checkpoint_ns, x.table, x.key, x.what, x.columns, x.live, x.derived
from {schema}.rebuild_differences as d
cross join
    lateral jsonb_to_recordset(d.examples)
        as x (
            thread_id text,
            checkpoint_ns text,
            "table" text,
            key text,
            what text,
            columns jsonb,
            live jsonb,
            derived jsonb
        )
where d.rebuild_id = %s
order by d.thread_id, d.checkpoint_ns
limit %s
