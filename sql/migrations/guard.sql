-- Events are immutable: UPDATE, DELETE and TRUNCATE are refused. Functions that erase set a transaction-local setting
-- to be let through. This guards against accidents; rights guard against attackers.

create function {schema}.refuse_change() returns trigger
language plpgsql as $function$
begin
    if tg_op = 'DELETE' and pg_catalog.current_setting('eventlog.erasing', true) = 'on' then
        return old;
    end if;
    raise exception '% on %.% is refused: events are immutable', tg_op, tg_table_schema, tg_table_name
        using errcode = 'restrict_violation',
              hint = 'Erase through the saver (delete_thread, prune, retain, …), which records what it erases.';
end
$function$;

comment on function {schema}.refuse_change is 'Refuses changes to `events`, except inside the functions that erase.';

revoke all on function {schema}.refuse_change from public;

create trigger events_immutable before update or delete on {schema}.events
for each row execute function {schema}.refuse_change();

create trigger events_not_truncated before truncate on {schema}.events
for each statement execute function {schema}.refuse_change();
