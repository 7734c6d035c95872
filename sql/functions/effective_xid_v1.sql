-- Returns the transaction id under which a stream's next event is recorded: the caller's own, or p_xid if greater.
--
-- p_xid is the id of the stream's last event. It can be greater, because a transaction takes its id with its first
-- write: long ago, or just before it began to wait for the stream's row.
--
-- An id at or beyond the end of a snapshot taken now cannot come from this cluster: every earlier append was committed
-- before the caller got the stream's row. A restore brought it from another cluster that had counted further; it is
-- ignored. Volatile, so that each statement uses a snapshot of its own.
create or replace function {schema}.effective_xid_v1(p_xid xid8) returns xid8
language plpgsql as $function$
begin
    if p_xid <= pg_current_xact_id() or p_xid >= pg_snapshot_xmax(pg_current_snapshot()) then
        return pg_current_xact_id();
    end if;
    return p_xid;
end
$function$;
