select o_part, o_seq, o_other_seq, o_at, o_id, o_parent_id, o_body
from {schema}.read_checkpoints_v1(%s, %s, %s)
