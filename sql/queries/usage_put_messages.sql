insert into {schema}.usage_messages (
    thread_id, message, checkpoint_ns, seq, run_id, input_tokens, output_tokens, total_tokens
)
select n.thread_id, n.message, n.checkpoint_ns, n.seq, n.run_id, n.input_tokens, n.output_tokens, n.total_tokens
from
    unnest(
        %s::text[], %s::bytea[], %s::text[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[]
    ) as n (thread_id, message, checkpoint_ns, seq, run_id, input_tokens, output_tokens, total_tokens)
on conflict (thread_id, message) do nothing
returning thread_id, message
