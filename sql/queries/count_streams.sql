select count(*) from {schema}.streams
