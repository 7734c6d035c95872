-- What hangs on the tables that a rebuild replaces, and would stay with the old ones.
select distinct o.what
from (
    select pg_describe_object(d.classid, d.objid, 0) as what
    from pg_catalog.pg_depend as d
    inner join pg_catalog.pg_class as c
        on
            d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = c.oid
            or d.refclassid = 'pg_catalog.pg_type'::regclass and d.refobjid = c.reltype
    where
        c.relnamespace = '{schema}'::regnamespace
        and c.relname in ('streams', 'checkpoints', 'snapshots')
        and (
            d.deptype = 'n'
            or d.classid in (
                'pg_catalog.pg_policy'::regclass, 'pg_catalog.pg_publication_rel'::regclass,
                'pg_catalog.pg_trigger'::regclass
            )
        )
    union all
    select 'row level security of table ' || c.oid::regclass
    from pg_catalog.pg_class as c
    where
        c.relnamespace = '{schema}'::regnamespace
        and c.relname in ('streams', 'checkpoints', 'snapshots')
        and (c.relrowsecurity or c.relforcerowsecurity)
) as o
order by o.what
