insert into {schema}.rebuild_differences as d (
    rebuild_id, thread_id, checkpoint_ns, streams, checkpoints, snapshots, examples
)
values (%s, %s, %s, %s, %s, %s, %s::jsonb)
on conflict (rebuild_id, thread_id, checkpoint_ns) do update set
    streams = greatest(d.streams, excluded.streams), checkpoints = d.checkpoints + excluded.checkpoints,
    snapshots = d.snapshots + excluded.snapshots,
    examples = case when d.examples = '[]'::jsonb then excluded.examples else d.examples end
