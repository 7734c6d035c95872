select o_status, o_seq
from {schema}.append_writes_v1(%s, %s, %s, %s, %s::bigint, %s::timestamptz, %s::bigint, %s)
