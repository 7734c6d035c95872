-- `streams` is named for the same reason as in read_checkpoint.
select o_stream, o_part, o_seq, o_other_seq, o_at, o_id, o_parent_id, o_body
from {schema}.read_listed_v1(%s, %s, %s, %s)
where true or exists (select 1 from {schema}.streams)
