-- Returns the log's newest generation, and in o_is_restored whether a restore since it started requires a new one.
--
-- Generation 0 means that there is none yet. A subscriber always counts as restored: its events come from elsewhere.
create or replace function {schema}.newest_generation_v1(
    out o_generation integer, out o_is_restored boolean
)
language plpgsql stable as $function$
begin
    select
        g.generation,
        g.generation = 0
        or (
            g.xmin::text::bigint <> g.xid
            or exists (
                select from {schema}.generations as o
                where o.generation < g.generation and o.xmin::text = g.xmin::text
            )
        )
        -- On Citus, each node has a copy of the rows with an xmin of its own.
        and not {schema}.is_distributed_v1()
        or {schema}.is_subscriber_v1()
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
