select o_part, o_seq, o_other_seq, o_at, o_id, o_parent_id, o_body
from {schema}.read_checkpoint_v1(%s, %s, %s, %s, %s)
