-- Appending events.
--
-- The thread's id has the collation of the columns: Citus checks that each statement of an append names the same
-- thread, and compares collations too.

-- name: append_checkpoint
-- Appends one checkpoint.
select o_status, o_seq, o_at, o_epoch, o_digest
from
    {schema}.append_checkpoint_v1(
        %s::text collate "C", %s, %s, %s, %s,
        %s::bigint, %s::timestamptz, %s::bigint, %s::bigint, %s::timestamptz,
        %s, %s, %s::bigint, %s, %s, %s, %s, %s,
        nullif(%s::bytea, ''::bytea)
    );

-- name: append_checkpoint_strict
-- Appends one checkpoint, unless its parent has got another child since.
select o_status, o_seq, o_at, o_epoch, o_digest, o_rival_id
from
    {schema}.append_checkpoint_strict_v1(
        %s::text collate "C", %s, %s, %s, %s,
        %s::bigint, %s::timestamptz, %s::bigint, %s::bigint, %s::timestamptz,
        %s, %s, %s::bigint, %s, %s, %s, %s, %s,
        nullif(%s::bytea, ''::bytea), %s::bigint
    );

-- name: append_writes
-- Appends the writes of one task.
select o_status, o_seq, o_at, o_epoch, o_digest
from
    {schema}.append_writes_v1(
        %s::text collate "C", %s, %s, %s, %s::bigint, %s::timestamptz, %s::bigint, %s, %s, %s
    );

-- name: append_writes_relaxed
-- Appends the writes of one task; the commit does not wait for the disk.
select o_status, o_seq, o_at, o_epoch, o_digest
from
    {schema}.append_writes_v1(
        %s::text collate "C", %s, %s, %s, %s::bigint, %s::timestamptz, %s::bigint, %s, %s, %s, true
    );

-- name: append_together
-- Appends several checkpoints and writes. A call without a row in the answer must be made alone. Arrays of bytes go in
-- binary (%b): as text the driver takes 200 microseconds to write 200 bytes.
select o_number, o_status, o_seq, o_at, o_epoch, o_digest
from {schema}.append_together_v1(%s::json, %b::bytea[], %b::bytea[], %b::bytea[], %b::bytea[], %s);

-- name: append_thread
-- Appends several checkpoints and writes of one thread.
select o_number, o_status, o_seq, o_at, o_epoch, o_digest
from
    {schema}.append_thread_v1(
        %s::text collate "C", %s::json, %b::bytea[], %b::bytea[], %b::bytea[], %b::bytea[], %s
    );
