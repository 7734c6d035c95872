delete from {schema}.rebuild_differences
