select s.thread_id
from {schema}.streams as s
where s.latest_checkpoint_id is not null or s.written_through is not null
group by s.thread_id
having
    %(before)s::timestamptz is null
    or max(s.active_at) < %(before)s::timestamptz
    or (max(s.active_at) = %(before)s::timestamptz and s.thread_id > %(before_id)s)
order by max(s.active_at) desc, s.thread_id
limit %(rows)s
