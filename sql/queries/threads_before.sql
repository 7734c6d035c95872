-- Records of what was done to a deleted stream go with their partitions.
select
    d.thread_id,
    exists(
        select 1
        from {schema}.streams as s
        where
            s.thread_id = d.thread_id
            and (s.begins_at is null or s.begins_at < %(before)s)
            and (s.latest_checkpoint_id is not null or s.written_through is not null)
    ) as is_pending
from (
    select distinct e.thread_id
    from {schema}.events as e
    where e.recorded_at < %(before)s and e.thread_id > %(after)s
    order by e.thread_id
    limit %(rows)s
) as d
order by d.thread_id
