insert into {schema}.checkpoints (
    thread_id, checkpoint_ns, checkpoint_id, seq, recorded_at, first_at, parent_checkpoint_id,
    keyframe_seq, keyframe_at, state_bytes, run_id, metadata
)
select
    %s, %s, r.checkpoint_id, r.seq, r.recorded_at, r.first_at, r.parent_id,
    r.keyframe_seq, r.keyframe_at, r.state_bytes, r.run_id, r.metadata::jsonb
from unnest(
    %s::text[], %s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::text[],
    %s::bigint[], %s::timestamptz[], %s::bigint[], %s::text[], %s::text[]
) as r (
    checkpoint_id, seq, recorded_at, first_at, parent_id, keyframe_seq, keyframe_at, state_bytes, run_id, metadata
)
