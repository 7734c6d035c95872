create table {schema}.usage (
    thread_id text collate "C" not null,
    run_id text collate "C" not null,
    events bigint not null,
    bytes bigint not null,
    steps bigint not null,
    input_tokens bigint not null,
    output_tokens bigint not null,
    total_tokens bigint not null,
    first_at timestamptz,
    last_at timestamptz,
    primary key (thread_id, run_id)
)
