select {schema}.append_writes_together_v1(
    %s, %s, %s::text[], %s::bigint[], %s::timestamptz[], %s::bigint[], %s::bytea[]
)
