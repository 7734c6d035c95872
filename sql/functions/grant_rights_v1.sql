-- Grants a set of rights to a role and remembers it; with nulls, repeats all remembered grants.
--
-- Repeating restores what a new version added to a set, or what a restore lost. It also revokes from PUBLIC what a
-- restore granted to it. It writes only differences: when there are none, many sessions may run it at once.
--   writer     appends, reads, copies, creates partitions for now and the stored number ahead
--   eraser     reads, erases, drops partitions, sets the retention and carries it out
--   sealer     seals
--   auditor    reads every table, future ones included
--   projector  reads the feed, moves cursors, creates tables in p_views
--   importer   imports another checkpointer's threads: a writer that may also append in batches with a record
create or replace function {schema}.grant_rights_v1(p_rights text, p_role text, p_views text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $function$
declare
    v_log oid := '{schema}'::regnamespace;
    v_grant record;
    v_role oid;
    v_name text;
    v_tables text[];
    v_functions text[];
    v_right text;
    v_reading text[] := array[
        'clock_v1', 'end_node_feed_v1', 'feed_holder_v1', 'feed_keys_v1', 'feed_parts_v1', 'is_distributed_v1',
        'is_subscriber_v1', 'measure_node_feed_v1', 'newest_generation_v1', 'read_ancestry_v1', 'read_checkpoint_v1',
        'read_checkpoints_v1', 'read_feed_v1', 'read_listed_v1', 'read_node_feed_v1', 'read_replay_v1',
        'record_details_v1', 'relation_size_v1', 'relation_sizes_v1'
    ];
    v_read text[] := array[
        'checkpoints', 'events', 'generations', 'migrations', 'partitions', 'settings', 'snapshots', 'streams'
    ];
begin
    -- After a restore without privileges, PostgreSQL's default applies: PUBLIC may execute every function.
    for v_name in
        select p.oid::regprocedure::text
        from pg_proc as p
        where
            p.pronamespace = v_log and (p.proname ~ '_v[0-9]+$' or p.prorettype = 'trigger'::regtype)
            and exists (
                select 1 from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
                where a.grantee = 0
            )
    loop
        execute format('revoke execute on function %s from public', v_name);
    end loop;
    if p_role is not null then
        insert into {schema}.grants (role_name, rights) values (p_role, p_rights)
        on conflict (role_name, rights) do nothing;
    end if;
    for v_grant in
        select g.role_name, g.rights from {schema}.grants as g
        where p_role is null or g.role_name = p_role and g.rights = p_rights
        order by g.role_name, g.rights
    loop
        select r.oid into v_role from pg_roles as r where r.rolname = v_grant.role_name;
        if v_role is null then
            -- Dumps contain no roles, so a remembered role may be missing.
            continue when p_role is null;
            raise exception 'role "%" does not exist', p_role using errcode = 'undefined_object';
        end if;
        v_tables := v_read;
        v_functions := v_reading;
        case v_grant.rights
            when 'writer', 'importer' then
                v_functions := v_functions || array[
                    'append_checkpoint_strict_v1', 'append_checkpoint_v1', 'append_thread_v1', 'append_together_v1',
                    'append_writes_v1', 'copy_stream_v1', 'extend_partitions_v1', 'lock_streams_v1',
                    'start_generation_v1'
                ];
                if v_grant.rights = 'importer' then
                    v_functions := v_functions || array['import_events_v1', 'import_lock_v1', 'record_import_v1'];
                end if;
            when 'eraser' then
                v_functions := v_functions || array[
                    'cut_stream_v1', 'delete_thread_v1', 'drop_partition_v1', 'extend_partitions_v1',
                    'hold_maintenance_v1', 'import_lock_v1', 'lock_partition_v1', 'lock_streams_v1', 'lock_thread_v1',
                    'record_stubs_v1', 'relocate_events_v1', 'set_retention_v1', 'start_generation_v1'
                ];
                -- A purge reports the projections that have not reached an erasure.
                v_tables := v_tables || array['projections', 'set_aside'];
            when 'sealer' then
                v_functions := array['begin_seal_v1', 'clock_v1', 'finish_seal_v1'];
                v_tables := array['sealed', 'seals'];
            when 'auditor' then
                v_functions := v_functions || array['find_stream_name_v1', 'record_stubs_v1'];
                v_tables := array(
                    select c.relname from pg_class as c where c.relnamespace = v_log and c.relkind in ('r', 'p')
                );
            when 'projector' then
                v_functions := v_functions || array[
                    'advance_projection_v1', 'forget_projection_v1', 'lock_projection_v1', 'set_aside_v1',
                    'start_projection_v1', 'take_back_v1'
                ];
                v_tables := v_tables || array['projections', 'set_aside'];
        end case;

        if not has_schema_privilege(v_role, v_log, 'usage') then
            execute format('grant usage on schema {schema} to %I', v_grant.role_name);
        end if;
        foreach v_name in array v_tables loop
            if not has_table_privilege(v_role, format('{schema}.%I', v_name)::regclass, 'select') then
                execute format('grant select on {schema}.%I to %I', v_name, v_grant.role_name);
            end if;
        end loop;
        for v_name in
            select p.oid::regprocedure::text
            from pg_proc as p
            where
                p.pronamespace = v_log and p.proname = any(v_functions)
                and not has_function_privilege(v_role, p.oid, 'execute')
        loop
            execute format('grant execute on function %s to %I', v_name, v_grant.role_name);
        end loop;
        if v_grant.rights = 'auditor' then
            perform 1
            from pg_default_acl as d
            cross join lateral aclexplode(d.defaclacl) as a
            where
                d.defaclnamespace = v_log and d.defaclobjtype = 'r' and a.grantee = v_role
                and d.defaclrole = (select c.relowner from pg_class as c where c.oid = '{schema}.events'::regclass);
            if not found then
                execute format(
                    'alter default privileges for role %s in schema {schema} grant select on tables to %I',
                    (select c.relowner::regrole from pg_class as c where c.oid = '{schema}.events'::regclass),
                    v_grant.role_name
                );
            end if;
        end if;
        if v_grant.rights = 'projector' then
            if to_regnamespace(quote_ident(p_views)) is null then
                execute format('create schema %I', p_views);
            end if;
            foreach v_right in array array['usage', 'create'] loop
                if not has_schema_privilege(v_role, to_regnamespace(quote_ident(p_views)), v_right) then
                    execute format('grant %s on schema %I to %I', v_right, p_views, v_grant.role_name);
                end if;
            end loop;
        end if;
    end loop;
end
$function$;
