-- Puts the rebuilt tables in the place of the live ones, which stay as streams_old_N and so on (N = p_id). Names of
-- indexes and constraints, rights and the replica identity go with the place; all that is changed is the catalogue, so
-- it takes no longer for large tables. The caller has locked the live tables; whoever waits for them finds the new
-- ones, because names are looked up again after a wait.
create or replace function {schema}.swap_rebuilt_v1(p_id bigint) returns void
language plpgsql as $function$
declare
    v_name text;
    v_suffix text := '_old_' || p_id;
    v_live regclass;
    v_side regclass;
    v_index record;
    v_right record;
    v_identity text;
begin
    foreach v_name in array array['streams', 'checkpoints', 'snapshots'] loop
        v_live := format('{schema}.%I', v_name)::regclass;
        v_side := format('{schema}.%I', v_name || '_rebuilt')::regclass;

        -- What default privileges gave the new table goes, and the live one's comes: of the owner, of others, of columns.
        for v_right in
            select distinct case when a.grantee = 0 then 'public' else a.grantee::regrole::text end as grantee
            from pg_catalog.pg_class as c
            cross join lateral aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as a
            where c.oid = v_side
        loop
            execute format('revoke all on table %s from %s', v_side, v_right.grantee);
        end loop;
        for v_right in
            select
                r.privilege_type, r.what, case when r.grantee = 0 then 'public' else r.grantee::regrole::text end as grantee,
                case when r.is_grantable and not r.is_owner then ' with grant option' else '' end as further
            from (
                select a.privilege_type, '' as what, a.grantee, a.is_grantable, a.grantee = c.relowner as is_owner
                from pg_catalog.pg_class as c
                cross join lateral aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as a
                where c.oid = v_live
                union all
                select a.privilege_type, format('(%I)', t.attname), a.grantee, a.is_grantable, a.grantee = c.relowner
                from pg_catalog.pg_class as c
                inner join pg_catalog.pg_attribute as t on c.oid = t.attrelid
                cross join lateral aclexplode(t.attacl) as a
                where c.oid = v_live and not t.attisdropped
            ) as r
        loop
            execute format(
                'grant %s %s on table %s to %s%s',
                v_right.privilege_type, v_right.what, v_side, v_right.grantee, v_right.further
            );
        end loop;

        for v_index in
            select l.indexrelid::regclass as live, s.indexrelid::regclass as side, c.relname, l.indisreplident
            from pg_catalog.pg_index as l
            inner join pg_catalog.pg_class as c on l.indexrelid = c.oid
            inner join pg_catalog.pg_index as s
                on
                    l.indisprimary = s.indisprimary and l.indisunique = s.indisunique
                    -- All of the definition that does not name the index or the table.
                    and substring(pg_get_indexdef(l.indexrelid) from ' USING .*')
                    = substring(pg_get_indexdef(s.indexrelid) from ' USING .*')
            where l.indrelid = v_live and s.indrelid = v_side
        loop
            execute format('alter index %s rename to %I', v_index.live, left(v_index.relname, 40) || v_suffix);
            execute format('alter index %s rename to %I', v_index.side, v_index.relname);
            if v_index.indisreplident then
                execute format('alter table %s replica identity using index %I', v_side, v_index.relname);
            end if;
        end loop;
        select case c.relreplident when 'f' then 'full' when 'n' then 'nothing' end into v_identity
        from pg_catalog.pg_class as c where c.oid = v_live;
        if v_identity is not null then
            execute format('alter table %s replica identity %s', v_side, v_identity);
        end if;

        execute format('comment on table %s is %L', v_side, obj_description(v_live, 'pg_class'));
        execute format('alter table %s rename to %I', v_live, v_name || v_suffix);
        execute format('alter table %s rename to %I', v_side, v_name);
    end loop;
end
$function$;
