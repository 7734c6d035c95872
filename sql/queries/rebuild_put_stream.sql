-- By the names of the columns: one that is added is put in by its name too.
insert into {schema}.streams_rebuilt
select r.* from jsonb_populate_record(null::{schema}.streams_rebuilt, %s::jsonb) as r -- noqa: AM04
