drop table if exists {schema}.usage, {schema}.usage_messages
