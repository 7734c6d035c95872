insert into {schema}.seals (number, sealed_at, streams, changed, root, changes, previous, digest, by, actor)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
