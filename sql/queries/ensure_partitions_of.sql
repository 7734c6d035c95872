-- Those that a thread's next events are to go to, where its streams are ahead of the clock.
select e.made
from (
    select distinct date_trunc('day', s.updated_at, 'UTC') as at
    from {schema}.streams as s
    where s.thread_id = %s and s.updated_at > {schema}.clock_v1()
) as d
cross join lateral {schema}.ensure_partitions_v1(d.at, 0, %s) as e (made)
