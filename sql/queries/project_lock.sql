-- A transaction's lock, not a session's: it works through PgBouncer, and ends with a worker that is killed.
select pg_try_advisory_xact_lock(hashtextextended(%s, 0))
