select o_status, o_seq, o_at, o_epoch
from {schema}.append_checkpoint_v1(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
