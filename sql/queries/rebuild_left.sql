-- How many events have to be derived to bring streams up to date: of each as many as are asked for at most.
select count(*)
from unnest(%(threads)s::text[], %(namespaces)s::text[]) as s (thread_id, checkpoint_ns)
left join {schema}.streams_rebuilt as r on s.thread_id = r.thread_id and s.checkpoint_ns = r.checkpoint_ns
cross join
    lateral (
        select e.seq
        from {schema}.events as e
        where
            e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
            and e.seq > case
                when
                    exists (
                        select 1 from {schema}.events as c
                        where
                            c.thread_id = s.thread_id and c.checkpoint_ns = s.checkpoint_ns and c.seq > r.seq
                            and c.kind > 2
                    )
                    then 0
                else coalesce(r.seq, 0)
            end
        order by e.seq
        limit %(rows)s
    ) as e
