-- The messages stay known: written again, they have been paid for as well.
with taken as (
    select m.thread_id, m.message, m.run_id, m.input_tokens, m.output_tokens, m.total_tokens
    from {schema}.usage_messages as m
    where m.thread_id = %s and m.checkpoint_ns = %s and m.seq >= %s and m.seq < %s
),

freed as (
    update {schema}.usage_messages as m
    set input_tokens = 0, output_tokens = 0, total_tokens = 0
    from taken as t
    where m.thread_id = t.thread_id and m.message = t.message
)

select t.run_id, t.input_tokens, t.output_tokens, t.total_tokens
from taken as t
