-- Each message once, by the sha256 of its id.
create table {schema}.usage_messages (
    thread_id text collate "C" not null,
    message bytea not null,
    checkpoint_ns text collate "C" not null,
    seq bigint not null,
    run_id text collate "C" not null,
    input_tokens bigint not null,
    output_tokens bigint not null,
    total_tokens bigint not null,
    primary key (thread_id, message)
)
