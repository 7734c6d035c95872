select
    {schema}.cut_stream_v1(
        %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s, %s, %s, %s,
        %s, %s::timestamptz[], %s::bigint[], %s::timestamptz[], %s::boolean[], %s, %s
    )
