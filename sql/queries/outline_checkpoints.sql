select
    c.checkpoint_ns, c.checkpoint_id, c.seq, c.parent_checkpoint_id, c.recorded_at, c.first_at,
    c.keyframe_seq, c.keyframe_at, c.state_bytes, c.run_id, c.metadata -> 'parents' ->> '' as root_id,
    array(
        select jsonb_object_keys(
            case jsonb_typeof(c.metadata -> 'counters_since_delta_snapshot')
                when 'object' then c.metadata -> 'counters_since_delta_snapshot'
                else '{{}}'::jsonb
            end
        )
    ) as delta_channels
from {schema}.checkpoints as c
where c.thread_id = %s
order by c.checkpoint_ns, c.seq
