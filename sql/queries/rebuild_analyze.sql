analyze {schema}.streams_rebuilt, {schema}.checkpoints_rebuilt, {schema}.snapshots_rebuilt
