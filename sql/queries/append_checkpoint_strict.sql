select o_status, o_seq, o_at, o_epoch, o_rival_id
from
    {schema}.append_checkpoint_strict_v1(
        %s, %s, %s, %s, %s, %s::bigint, %s::timestamptz, %s::bigint, %s, %s, %s::bigint, %s, %s, %s,
        nullif(%s::bytea, ''::bytea), %s::bigint
    )
