-- What hangs on the tables that a rebuild replaces, and would stay with the old ones.
select distinct pg_describe_object(o.classid, o.objid, 0) as what
from (
    select d.classid, d.objid
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
) as o
order by what
