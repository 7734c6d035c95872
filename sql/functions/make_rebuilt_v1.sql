-- Makes the tables that a rebuild fills, like those that it will replace: columns, indexes, constraints, storage
-- settings and owner. Drops those of a rebuild that was given up. Rights are copied when they change places
-- (swap_rebuilt_v1): they may be granted meanwhile.
create or replace function {schema}.make_rebuilt_v1() returns void
language plpgsql as $function$
declare
    v_name text;
    v_live regclass;
    v_side text;
    v_options text;
    v_owner text;
begin
    foreach v_name in array array['streams', 'checkpoints', 'snapshots'] loop
        v_live := format('{schema}.%I', v_name)::regclass;
        v_side := format('{schema}.%I', v_name || '_rebuilt');
        execute format('drop table if exists %s', v_side);
        execute format('create table %s (like %s including all)', v_side, v_live);

        -- Neither the table's storage parameters nor those of what it stores out of line are copied by that.
        select string_agg(o.setting, ', ') into v_options
        from pg_catalog.pg_class as c
        left join pg_catalog.pg_class as t on c.reltoastrelid = t.oid
        cross join
            lateral (
                select format('%s = %L', p.option_name, p.option_value) as setting
                from pg_options_to_table(c.reloptions) as p
                union all
                select format('toast.%s = %L', p.option_name, p.option_value)
                from pg_options_to_table(t.reloptions) as p
            ) as o
        where c.oid = v_live;
        if v_options is not null then
            execute format('alter table %s set (%s)', v_side, v_options);
        end if;
        -- Made by a member of the owner's role, it would be the member's, and the owner could not drop it.
        select c.relowner::regrole::text into v_owner from pg_catalog.pg_class as c where c.oid = v_live;
        execute format('alter table %s owner to %s', v_side, v_owner);
    end loop;
end
$function$;
