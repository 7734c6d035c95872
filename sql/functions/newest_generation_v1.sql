-- The newest generation of the log, and whether the log was restored from elsewhere since it started (o_is_restored):
-- then a new one has to be started. Generation 0 is none. What a replica of another log has is from elsewhere too.
create or replace function {schema}.newest_generation_v1(
    out o_generation integer, out o_is_restored boolean
)
language plpgsql stable as $function$
begin
    select
        g.generation,
        g.generation = 0
        or g.xmin::text::bigint <> g.xid
        or exists (
            select from {schema}.generations as o
            where o.generation < g.generation and o.xmin::text = g.xmin::text
        )
        or {schema}.is_replica_v1()
    into o_generation, o_is_restored
    from {schema}.generations as g
    order by g.generation desc
    limit 1;
    if not found then
        o_generation := 0;
        o_is_restored := true;
    end if;
end
$function$;
