-- The view of the projection that counts tokens. {schema} is the schema of the views; in usage_runs, the log's schema.

-- name: usage_schema
-- Whether the tables' schema exists. `create schema if not exists` would need the right to create one even if it does.
select n.nspname from pg_catalog.pg_namespace as n
where n.nspname = %s;

-- name: usage_make
-- Creates the table of tokens by run.
create table {schema}.usage (
    thread_id text collate "C" not null,
    run_id text collate "C" not null,
    events bigint not null,
    bytes bigint not null,
    steps bigint not null,
    input_tokens bigint not null,
    output_tokens bigint not null,
    total_tokens bigint not null,
    first_at timestamptz,
    last_at timestamptz,
    primary key (thread_id, run_id)
);

-- name: usage_make_messages
-- Creates the table that holds each message once, by the sha256 of its id.
create table {schema}.usage_messages (
    thread_id text collate "C" not null,
    message bytea not null,
    checkpoint_ns text collate "C" not null,
    seq bigint not null,
    run_id text collate "C" not null,
    input_tokens bigint not null,
    output_tokens bigint not null,
    total_tokens bigint not null,
    primary key (thread_id, message)
);

-- name: usage_without_statistics
-- Keeps run ids out of the planner's statistics, where they would outlive a thread.
alter table {schema}.usage alter column run_id set statistics 0;

-- name: usage_messages_without_statistics
-- The same for messages.
alter table {schema}.usage_messages alter column run_id set statistics 0;

-- name: usage_drop
-- Drops both tables.
drop table if exists {schema}.usage, {schema}.usage_messages;

-- name: usage_runs
-- The run that saved each checkpoint.
select c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.run_id
from unnest(%s::text[], %s::text[], %s::text[]) as n (thread_id, checkpoint_ns, checkpoint_id)
inner join {schema}.checkpoints as c
    on n.thread_id = c.thread_id and n.checkpoint_ns = c.checkpoint_ns and n.checkpoint_id = c.checkpoint_id;

-- name: usage_add
-- Adds tokens to the rows of runs.
insert into {schema}.usage as u (
    thread_id, run_id, events, bytes, steps, input_tokens, output_tokens, total_tokens, first_at, last_at
)
select
    n.thread_id, n.run_id, pg_catalog.sum(n.events)::bigint, pg_catalog.sum(n.bytes)::bigint,
    pg_catalog.sum(n.steps)::bigint, pg_catalog.sum(n.input_tokens)::bigint, pg_catalog.sum(n.output_tokens)::bigint,
    pg_catalog.sum(n.total_tokens)::bigint, pg_catalog.min(n.at), pg_catalog.max(n.at)
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
    last_at = greatest(u.last_at, excluded.last_at);

-- name: usage_take_back
-- Subtracts tokens. The messages stay known: a message that was written again was paid for again.
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
from taken as t;

-- name: usage_put_messages
-- Notes counted messages; returns those that were not counted before.
insert into {schema}.usage_messages (
    thread_id, message, checkpoint_ns, seq, run_id, input_tokens, output_tokens, total_tokens
)
select n.thread_id, n.message, n.checkpoint_ns, n.seq, n.run_id, n.input_tokens, n.output_tokens, n.total_tokens
from
    unnest(
        %s::text[], %b::bytea[], %s::text[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[]
    ) as n (thread_id, message, checkpoint_ns, seq, run_id, input_tokens, output_tokens, total_tokens)
on conflict (thread_id, message) do nothing
returning thread_id, message;

-- name: usage_forget_messages
-- Deletes the messages of a thread.
delete from {schema}.usage_messages as m
where m.thread_id = %s;

-- name: usage_forget
-- Deletes the token counts of a thread.
delete from {schema}.usage as u
where u.thread_id = %s;
