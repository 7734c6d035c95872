-- Waits for writers and readers, and keeps them waiting until the rebuilt projections are committed.
truncate {schema}.streams, {schema}.checkpoints, {schema}.snapshots
