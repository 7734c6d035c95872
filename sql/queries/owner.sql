select pg_has_role(c.relowner, 'usage') as is_owner, pg_get_userbyid(c.relowner)::text as owner
from pg_catalog.pg_class as c
where c.oid = '{schema}.events'::regclass
