insert into {schema}.usage as u (
    thread_id, run_id, events, bytes, steps, input_tokens, output_tokens, total_tokens, first_at, last_at
)
select
    n.thread_id, n.run_id, sum(n.events)::bigint, sum(n.bytes)::bigint, sum(n.steps)::bigint,
    sum(n.input_tokens)::bigint, sum(n.output_tokens)::bigint, sum(n.total_tokens)::bigint, min(n.at), max(n.at)
from
    unnest(
        %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
        %s::timestamptz[]
    ) as n (thread_id, run_id, events, bytes, steps, input_tokens, output_tokens, total_tokens, at)
group by n.thread_id, n.run_id
on conflict (thread_id, run_id) do update set
    events = u.events + excluded.events,
    bytes = u.bytes + excluded.bytes,
    steps = u.steps + excluded.steps,
    input_tokens = u.input_tokens + excluded.input_tokens,
    output_tokens = u.output_tokens + excluded.output_tokens,
    total_tokens = u.total_tokens + excluded.total_tokens,
    first_at = least(u.first_at, excluded.first_at),
    last_at = greatest(u.last_at, excluded.last_at)
