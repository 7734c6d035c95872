lock table {schema}.streams, {schema}.checkpoints, {schema}.snapshots in access exclusive mode
