-- Drops the tables that rebuilds have kept, and forgets what differed in them; returns their names.
create or replace function {schema}.drop_old_v1() returns setof text
language plpgsql as $function$
declare
    v_id bigint;
    v_name text;
begin
    for v_id in
        select r.id from {schema}.rebuilds as r
        where r.keeps_old
        order by r.id
        for update
    loop
        foreach v_name in array array['streams', 'checkpoints', 'snapshots'] loop
            execute format('drop table if exists {schema}.%I', v_name || '_old_' || v_id);
            return next v_name || '_old_' || v_id;
        end loop;
        delete from {schema}.rebuild_differences as d where d.rebuild_id = v_id;
        update {schema}.rebuilds as r set keeps_old = false where r.id = v_id;
    end loop;
end
$function$;
