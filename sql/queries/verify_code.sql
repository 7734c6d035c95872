-- What the database's own code is.

-- name: verify_code
-- What runs in the log's schema, and what stands between a reader and its tables: kind, name and facts of each
-- function, table and view, of triggers, policies and rules. Facts are texts that do not depend on the schema's name;
-- the source of a function is by itself.
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
    where n.nspname = %(schema)s
),

relations as (
    select
        c.oid, c.relrowsecurity, c.relforcerowsecurity, c.relkind::text as relkind, c.relname::text as own_name,
        c.relowner <> s.owner as is_foreign,
        case when i.inhparent is null then c.relname::text else 'a partition' end as name
    from schema as s
    inner join pg_catalog.pg_class as c on c.relnamespace = s.oid and c.relkind in ('r', 'p', 'v', 'm', 'f')
    left join pg_catalog.pg_inherits as i on c.oid = i.inhrelid and i.inhparent = s.events
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
        case when p.proowner <> s.owner then 'not the log''s owner''s' end
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
            select 'columns ' || pg_catalog.string_agg(a.attname::text || ' ' || t.typname::text, ' ' order by a.attnum)
            from pg_catalog.pg_attribute as a
            inner join pg_catalog.pg_type as t on a.atttypid = t.oid
            where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
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
-- PostgreSQL 14 takes the triggers that partitions have from their table for internal.
inner join pg_catalog.pg_trigger as t
    on
        r.oid = t.tgrelid
        and (
            not t.tgisinternal or t.tgparentid <> 0::pg_catalog.oid and t.tgconstraint = 0::pg_catalog.oid
        )
inner join pg_catalog.pg_proc as p on t.tgfoid = p.oid
union all
select 'policy', p.polname::text || ' on ' || r.own_name, null, 'command ' || p.polcmd::text, null
from relations as r
inner join pg_catalog.pg_policy as p on r.oid = p.polrelid
union all
select 'rule', w.rulename::text || ' on ' || r.own_name, null, 'event ' || w.ev_type::text, null
from relations as r
inner join pg_catalog.pg_rewrite as w on r.oid = w.ev_class and w.rulename <> '_RETURN'
order by kind, name, own_name, facts; -- noqa: RF02
