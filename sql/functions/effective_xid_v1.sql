-- The transaction id under which the next event of a stream is recorded: the caller's own, or p_xid, that of the
-- stream's last event, where it is greater. It may be: a transaction takes its id with its first write, which may have
-- been long ago, or just before it began to wait for the stream's row.
--
-- What is not below the end of a snapshot that is taken now cannot have been assigned here: every earlier append
-- was committed before the caller got the stream's row. It came with a restore from another cluster, whose ids were
-- further on, and is left behind. Volatile, so that each statement looks with a snapshot of its own.
create or replace function {schema}.effective_xid_v1(p_xid xid8) returns xid8
language plpgsql as $function$
begin
    if p_xid <= pg_current_xact_id() or p_xid >= pg_snapshot_xmax(pg_current_snapshot()) then
        return pg_current_xact_id();
    end if;
    return p_xid;
end
$function$;
