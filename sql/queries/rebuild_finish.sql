-- An id may be personal, and is not to outlive the thread.
update {schema}.rebuilds as r
set
    finished_at = clock_timestamp(), seen_at = clock_timestamp(), keeps_old = %s,
    thread_id = '', checkpoint_ns = ''
where r.id = %s
