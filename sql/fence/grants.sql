-- Every role that may write checkpoints may be a mover.
do $grants$
declare
    v_role text;
begin
    for v_role in
        select distinct case a.grantee when 0 then 'public' else a.grantee::regrole::text end
        from pg_catalog.pg_class as c
        cross join lateral pg_catalog.aclexplode(c.relacl) as a
        where c.oid = '{schema}.checkpoints'::regclass and a.privilege_type = 'INSERT'
    loop
        execute 'grant select, insert, update, delete on {schema}.moved to ' || v_role;
    end loop;
end;
$grants$;
