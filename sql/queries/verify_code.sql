-- The code that is in the database.

-- name: verify_code
-- Everything that runs in the log's schema or affects how its tables are read: kind, name and facts of each function,
-- table, view, trigger, policy, rule, constraint and index, and of tables that inherit from its tables. Facts are texts
-- that depend neither on the schema's name nor on PostgreSQL's version; a function's source is a column of its own. Of
-- a partition's constraints and indexes, only those that its table does not have.
with schema as (
    select
        n.oid,
        (
            select c.relowner from pg_catalog.pg_class as c
            where c.relnamespace = n.oid and c.relname = 'events'
        ) as owner,
        (
            select c.oid from pg_catalog.pg_class as c
            where c.relnamespace = n.oid and c.relname = 'events'
        ) as events
    from pg_catalog.pg_namespace as n
    where n.oid = '{schema}'::pg_catalog.regnamespace::pg_catalog.oid
),

-- On Citus, a shard of the table has partitions of its own.
partition_of as (
    select i.inhrelid, i.inhparent
    from schema as s
    inner join pg_catalog.pg_class as c on c.relnamespace = s.oid and c.relname::text ~ '^events(_[0-9]+)?$'
    inner join pg_catalog.pg_inherits as i on c.oid = i.inhparent
),

relations as (
    select
        c.oid, c.relrowsecurity, c.relforcerowsecurity, c.relowner as owner, c.relacl as acl,
        c.relkind::text as relkind, c.relname::text as own_name,
        c.relowner <> s.owner as is_foreign, i.inhparent is not null as is_partition,
        case when i.inhparent is null then c.relname::text else 'a partition' end as name
    from schema as s
    inner join pg_catalog.pg_class as c on c.relnamespace = s.oid and c.relkind in ('r', 'p', 'v', 'm', 'f')
    left join partition_of as i on c.oid = i.inhrelid
)

select
    'function' as kind, p.proname::text as name, null as own_name,
    pg_catalog.concat_ws(
        ', ',
        'language ' || l.lanname::text,
        case when p.prosecdef then 'security definer' end,
        'volatility ' || p.provolatile::text,
        'parallel ' || p.proparallel::text,
        case when p.proisstrict then 'strict' end,
        case when p.proleakproof then 'leakproof' end,
        'kind ' || p.prokind::text,
        pg_catalog.array_to_string(p.proconfig, ', '),
        'arguments ' || pg_catalog.array_to_string(p.proargnames, ' '),
        'returns ' || case when p.proretset then 'set of ' else '' end || t.typname::text,
        case when p.proowner <> s.owner then 'not the log''s owner''s' end,
        case
            when exists (
                select 1
                from pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) as a
                where a.grantee = 0::pg_catalog.oid
            ) then 'execute for all'
        end,
        (
            select 'of extension ' || e.extname::text
            from pg_catalog.pg_depend as d
            inner join pg_catalog.pg_extension as e on d.refobjid = e.oid
            where
                d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid and d.objid = p.oid
                and d.deptype = 'e'
        )
    ) as facts,
    p.prosrc as source
from schema as s
inner join pg_catalog.pg_proc as p on s.oid = p.pronamespace
inner join pg_catalog.pg_language as l on p.prolang = l.oid
inner join pg_catalog.pg_type as t on p.prorettype = t.oid
union all
select
    'relation', r.name, r.own_name,
    pg_catalog.concat_ws(
        ', ',
        'kind ' || r.relkind,
        case when r.relrowsecurity then 'row security' end,
        case when r.relforcerowsecurity then 'row security for its owner' end,
        case when r.is_foreign then 'not the log''s owner''s' end,
        (
            select
                pg_catalog.string_agg(
                    pg_catalog.concat_ws(
                        ' ',
                        'column', a.attname::text, t.typname::text,
                        case when a.attnotnull then 'not null' end,
                        -- Partitions have an identity only from PostgreSQL 17 on.
                        case
                            when a.attidentity <> '' and not r.is_partition
                                then 'identity ' || a.attidentity::text
                        end,
                        'default ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid)
                    ),
                    ', ' order by a.attnum
                )
            from pg_catalog.pg_attribute as a
            inner join pg_catalog.pg_type as t on a.atttypid = t.oid
            left join pg_catalog.pg_attrdef as d on a.attrelid = d.adrelid and a.attnum = d.adnum
            where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
        ),
        -- Rights to change the table or a column: only the owner should have any.
        (
            select
                pg_catalog.string_agg(
                    distinct pg_catalog.lower(g.privilege) || ' for ' || case
                        when g.grantee = 0::pg_catalog.oid then 'all' else pg_catalog.pg_get_userbyid(g.grantee)::text
                    end, ', '
                )
            from (
                select x.grantee, x.privilege_type as privilege
                from pg_catalog.aclexplode(r.acl) as x
                union all
                select x.grantee, x.privilege_type
                from pg_catalog.pg_attribute as a
                cross join lateral pg_catalog.aclexplode(a.attacl) as x
                where a.attrelid = r.oid
            ) as g
            where
                g.grantee <> r.owner
                and g.privilege in ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER')
        )
    ), null
from relations as r
union all
select
    'trigger', t.tgname::text || ' on ' || r.name, r.own_name,
    pg_catalog.concat_ws(
        ', ', 'type ' || t.tgtype::text, 'enabled ' || t.tgenabled::text, 'function ' || p.proname::text,
        case when p.pronamespace <> s.oid then 'of another schema' end, case when t.tgqual is not null then 'when …' end
    ), null
from schema as s
cross join relations as r
-- PostgreSQL 14 marks the triggers that partitions inherit as internal.
inner join pg_catalog.pg_trigger as t
    on
        r.oid = t.tgrelid
        and (
            not t.tgisinternal or t.tgparentid <> 0::pg_catalog.oid and t.tgconstraint = 0::pg_catalog.oid
        )
inner join pg_catalog.pg_proc as p on t.tgfoid = p.oid
union all
select 'policy', p.polname::text || ' on ' || r.name, r.own_name, 'command ' || p.polcmd::text, null
from relations as r
inner join pg_catalog.pg_policy as p on r.oid = p.polrelid
union all
select
    'constraint', o.conname::text || ' on ' || r.name, r.own_name,
    pg_catalog.concat_ws(
        ', ', pg_catalog.pg_get_constraintdef(o.oid), case when not o.convalidated then 'not validated' end
    ), null
from relations as r
inner join pg_catalog.pg_constraint as o
    on r.oid = o.conrelid and o.contype in ('c', 'p', 'u', 'f', 'x')
where not r.is_partition or o.conparentid = 0::pg_catalog.oid and o.coninhcount = 0
union all
select
    'index', c.relname::text || ' on ' || r.name, r.own_name,
    pg_catalog.concat_ws(
        ', ',
        case when x.indisunique then 'unique' end,
        m.amname::text,
        case when not x.indisvalid then 'not valid' end,
        'of ' || (
            select
                pg_catalog.string_agg(pg_catalog.pg_get_indexdef(x.indexrelid, k.number, true), ' ' order by k.number)
            from pg_catalog.generate_series(1, x.indnatts::integer) as k (number)
        ),
        'where ' || pg_catalog.pg_get_expr(x.indpred, x.indrelid)
    ), null
from relations as r
inner join pg_catalog.pg_index as x on r.oid = x.indrelid
inner join pg_catalog.pg_class as c on x.indexrelid = c.oid
inner join pg_catalog.pg_am as m on c.relam = m.oid
where not r.is_partition or x.indisunique and not c.relispartition
union all
select
    'table',
    pg_catalog.quote_ident(n.nspname::text) || '.' || pg_catalog.quote_ident(c.relname::text) || ' inheriting from '
    || r.name,
    r.own_name,
    'rows',
    null
from schema as s
cross join relations as r
inner join pg_catalog.pg_inherits as i on r.oid = i.inhparent
inner join pg_catalog.pg_class as c on i.inhrelid = c.oid
inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
where
    not (
        r.oid = s.events and c.relnamespace = s.oid
        and c.relname in (
            select p.name from {schema}.partitions as p
            where p.dropped_at is null
        )
    )
union all
select 'rule', w.rulename::text || ' on ' || r.name, r.own_name, 'event ' || w.ev_type::text, null
from relations as r
inner join pg_catalog.pg_rewrite as w on r.oid = w.ev_class and w.rulename <> '_RETURN'
order by kind, name, own_name, facts; -- noqa: RF02
