-- Begins a seal: inserts its row, and lists the streams that changed since the last seal.
--
-- finish_seal_v1 completes the row in the same transaction. Null: another session is sealing the log. One statement
-- reads what changed, so all of it is from one moment. On Citus, it reads each shard at a moment of its own: the seal
-- has every event that was committed before it began, and some of those that were committed while it was read. The
-- seal's time is never before the previous seal's, even if the clock went back.
create or replace function {schema}.begin_seal_v1(
    out o_number bigint, out o_previous bytea, out o_sealed_at timestamptz, out o_by text, out o_partitions text,
    out o_log_id bytea
)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_last record;
begin
    -- On Citus, to lock a row that each node has a copy of waits for the row, whatever the statement says.
    if {schema}.is_distributed_v1() and not pg_try_advisory_xact_lock('{schema}.seals'::regclass::oid::bigint) then
        return;
    end if;
    perform 1 from {schema}.locks as l
    where l.name = 'seal'
    for no key update skip locked;
    if not found then
        return;
    end if;
    select s.number, s.digest, s.sealed_at into v_last
    from {schema}.seals as s
    order by s.number desc
    limit 1;
    o_number := coalesce(v_last.number, 0) + 1;
    o_previous := coalesce(v_last.digest, decode(repeat('00', 32), 'hex'));
    o_sealed_at := greatest(v_last.sealed_at, {schema}.clock_v1());
    o_by := session_user;
    select s.log_id into o_log_id from {schema}.settings as s;

    insert into {schema}.sealed (stream, seal, seq, digest, ended_at, record)
    select t.name, o_number, t.seq, t.digest, null, null
    from {schema}.streams as t
    left join lateral (
        select d.seq, d.digest
        from {schema}.sealed as d
        where d.stream = t.name
        order by d.seal desc
        limit 1
    ) as l on true
    where (l.seq, l.digest) is distinct from (t.seq, t.digest);
    -- No stream ends meanwhile. But one that has ended may still be in `streams` on a node of a Citus cluster that has
    -- not committed that yet.
    insert into {schema}.sealed (stream, seal, seq, digest, ended_at, record)
    select
        e.stream, o_number, e.seq, e.digest, e.ended_at, sha256(convert_to(e.record::text, 'UTF8'))
    from {schema}.ended as e
    where
        not exists (
            select 1 from {schema}.sealed as d
            where d.stream = e.stream and d.ended_at is not null
        )
    on conflict (stream, seal) do update
    set seq = excluded.seq, digest = excluded.digest, ended_at = excluded.ended_at, record = excluded.record;

    -- Read after the streams, so that the list has the partitions of all their events.
    select
        string_agg(
            concat_ws(
                ' ', p.name, encode(timestamptz_send(p.starts_at), 'hex'), encode(timestamptz_send(p.ends_at), 'hex'),
                encode(timestamptz_send(p.made_at), 'hex'), coalesce(encode(timestamptz_send(p.dropped_at), 'hex'), '-'),
                coalesce(encode(p.archive, 'hex'), '-')
            ), E'\n' order by p.name
        ) into o_partitions
    from {schema}.partitions as p;
    o_partitions := coalesce(o_partitions, '');
    insert into {schema}.seals (number, sealed_at, streams, changed, root, changes, partitions, previous, digest, by)
    values (o_number, o_sealed_at, 0, 0, '', '', o_partitions, o_previous, '', o_by);
end
$function$;
