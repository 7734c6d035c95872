select (case when p.n_distinct < 0 then -p.n_distinct * %(streams)s else p.n_distinct end)::bigint as threads
from pg_catalog.pg_stats as p
where p.schemaname = %(schema)s and p.tablename = 'streams' and p.attname = 'thread_id' and p.n_distinct <> 0
