-- Appending events.

-- name: append_checkpoint
-- Appends one checkpoint.
select o_status, o_seq, o_at, o_epoch
from
    {schema}.append_checkpoint_v1(
        %s, %s, %s, %s, %s, %s::bigint, %s::timestamptz, %s::bigint, %s, %s, %s::bigint, %s, %s, %s,
        nullif(%s::bytea, ''::bytea)
    );

-- name: append_checkpoint_strict
-- Appends one checkpoint, unless its parent got another child meanwhile.
select o_status, o_seq, o_at, o_epoch, o_rival_id
from
    {schema}.append_checkpoint_strict_v1(
        %s, %s, %s, %s, %s, %s::bigint, %s::timestamptz, %s::bigint, %s, %s, %s::bigint, %s, %s, %s,
        nullif(%s::bytea, ''::bytea), %s::bigint
    );

-- name: append_writes
-- Appends the writes of one task.
select o_status, o_seq
from {schema}.append_writes_v1(%s, %s, %s, %s, %s::bigint, %s::timestamptz, %s::bigint, %s);

-- name: append_writes_together
-- Appends the writes of several tasks to one stream.
select {schema}.append_writes_together_v1(
    %s, %s, %s::text[], %s::bigint[], %s::timestamptz[], %s::bigint[], %s::bytea[]
);
