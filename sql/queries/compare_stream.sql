-- The columns in which a stream's row (null: there is none) is not what was derived.
with live as (
    select c.key, c.value
    from {schema}.streams as s
    cross join lateral jsonb_each_text(to_jsonb(s.*)) as c
    where s.thread_id = %(thread_id)s and s.checkpoint_ns = %(checkpoint_ns)s
)

select n.key, l.value as live, n.value as derived, l.key is null as is_missing
from jsonb_each_text(to_jsonb(jsonb_populate_record(null::{schema}.streams, %(row)s::jsonb))) as n
left join live as l on n.key = l.key
where l.key is null or n.value is distinct from l.value
order by n.key
