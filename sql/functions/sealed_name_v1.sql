-- What a stream is called in seals: a hash of the hashes of its ids, so that no two pairs of texts give the same bytes.
create or replace function {schema}.sealed_name_v1(p_thread_id text, p_checkpoint_ns text) returns bytea
language sql immutable parallel safe as $function$
    select pg_catalog.sha256(
        pg_catalog.sha256(pg_catalog.convert_to(p_thread_id, 'UTF8'))
        operator(pg_catalog.||) pg_catalog.sha256(pg_catalog.convert_to(p_checkpoint_ns, 'UTF8'))
    )
$function$;
