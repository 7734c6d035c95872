-- An id may be personal, and is not to outlive the thread.
update {schema}.rebuilds as r
set
    finished_at = {schema}.clock_v1(), seen_at = {schema}.clock_v1(), keeps_old = %s,
    thread_id = '', checkpoint_ns = ''
where r.id = %s
