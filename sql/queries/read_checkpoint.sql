-- `streams` is named so that its lock is waited for before the statement's snapshot is taken, with which the function
-- reads: who waits while a rebuild changes places with the live tables would look into the new ones with a snapshot
-- from before, and miss what was last put there.
select o_part, o_seq, o_other_seq, o_at, o_id, o_parent_id, o_body
from {schema}.read_checkpoint_v1(%s, %s, %s, %s::bigint, %s::timestamptz)
where true or exists (select 1 from {schema}.streams)
