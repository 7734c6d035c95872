insert into {schema}.checkpoints_rebuilt
select r.* from jsonb_populate_recordset(null::{schema}.checkpoints_rebuilt, %s::jsonb) as r -- noqa: AM04
