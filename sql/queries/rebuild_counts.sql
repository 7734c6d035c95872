select
    (select count(*) from {schema}.streams), (select count(*) from {schema}.checkpoints),
    (select count(*) from {schema}.snapshots)
