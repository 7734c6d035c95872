-- Returns the entry in an operation's record for the events that it is about to erase.
--
-- The entry has ranges of numbers, the stubs through which the chain is computed (time and leaf of each event, 40
-- bytes), and the number after which the chain begins. Call it before the events are deleted and after the relocated
-- ones were appended, at p_at.
--
-- p_seqs are the numbers of the events to erase (null: all checkpoints and writes). All events recorded before
-- p_void_before go too; the last of them, as number and digest, is the stream's "cut". If no checkpoint and no write
-- survives (p_is_end), the record speaks for all earlier records, which may be dropped before it: it lists those that
-- exist, in "records", and takes over their stubs.
--
-- Stubs are dropped with the partition of their record. So when the record of an earlier cut goes, the chain begins
-- after that cut, at the "anchor"; at the end of a stream, it begins at the last cut. Stubs from there on in records
-- that go are copied, and with them what those records say of their operations ("earlier"), without run ids: a receipt
-- names the first operation that erased an event.
create or replace function {schema}.erased_events_v1(
    p_thread_id text, p_checkpoint_ns text, p_seqs bigint[], p_at timestamptz, p_from timestamptz, p_to timestamptz,
    p_void_before timestamptz, p_is_end boolean, out o_details jsonb, out o_stubs bytea
)
language plpgsql as $function$
declare
    v_begins_at timestamptz;
    v_cut jsonb;
    v_anchor jsonb;
    v_anchor_seq bigint;
    v_records jsonb;
    v_earlier jsonb;
    v_from timestamptz := p_from;
    v_to timestamptz := p_to;
    v_relocated bigint[];
begin
    select coalesce(s.begins_at, '-infinity') into v_begins_at
    from {schema}.streams as s
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns;
    if p_is_end or p_void_before is not null then
        v_from := v_begins_at;
        v_to := 'infinity';
    end if;

    if p_void_before is not null then
        select jsonb_build_array(e.seq, encode(e.digest, 'hex')) into v_cut
        from {schema}.events as e
        where
            e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns
            and e.recorded_at >= v_begins_at and e.recorded_at < p_void_before
            and e.origin_body_digest is null
        order by e.seq desc
        limit 1;
    end if;
    if p_is_end then
        v_anchor := v_cut;
        select
            coalesce(
                jsonb_agg(
                    jsonb_build_array(
                        e.seq, to_char(e.recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US+00:00')
                    ) order by e.seq
                ), '[]'
            )
        into v_records
        from {schema}.events as e
        where
            e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns and e.kind > 2
            and e.recorded_at >= greatest(v_begins_at, p_void_before);
    end if;
    if v_anchor is null and (p_is_end or p_void_before is not null) then
        -- From the records that go: where their cut was, or where their chain begins.
        select
            case when p_void_before is null then d.details -> 'anchor'
            else coalesce(d.details -> 'cut', d.details -> 'anchor') end
        into v_anchor
        from (
            select e.seq, {schema}.record_details_v1(e.body) as details
            from {schema}.events as e
            where
                e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns and e.kind > 2
                and e.recorded_at >= v_begins_at
                and (p_void_before is null or e.recorded_at < p_void_before)
        ) as d
        where case when p_void_before is null then d.details ? 'anchor' else d.details ?| array['cut', 'anchor'] end
        order by d.seq desc
        limit 1;
    end if;
    v_anchor_seq := coalesce((v_anchor ->> 0)::bigint, 0);

    if p_void_before is not null then
        with gone as (
            select
                e.seq, e.kind, e.digest, {schema}.record_details_v1(e.body) as details,
                to_char(e.recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US+00:00') as recorded_at
            from {schema}.events as e
            where
                e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns and e.kind > 2
                and e.recorded_at >= v_begins_at and e.recorded_at < p_void_before
        )

        select jsonb_agg(r.says order by r.number) into v_earlier
        from (
            select distinct on (q.number) q.number, q.says
            from (
                select
                    d.seq as number,
                    d.details
                    - array['runs', 'salt', 'previous', 'relocated', 'records', 'cut', 'anchor', 'earlier', 'lost']
                    || jsonb_build_object(
                        'number', d.seq, 'recorded_at', d.recorded_at, 'digest', encode(d.digest, 'hex')
                    ) as says
                from gone as d
                where d.kind in (3, 4)
                union all
                select (j.says ->> 'number')::bigint, j.says
                from gone as d
                cross join lateral jsonb_array_elements(d.details -> 'earlier') as j (says)
            ) as q
            order by q.number
        ) as r
        where r.number > v_anchor_seq;
    end if;

    select array_agg(e.seq) into v_relocated
    from {schema}.events as e
    where e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns and e.recorded_at = p_at;

    with stubs as (
        select distinct on (g.seq) g.seq, g.at, g.leaf
        from (
            select
                e.seq,
                timestamptz_send(case when e.kind > 2 then e.recorded_at else coalesce(e.as_of, e.recorded_at) end),
                {schema}.stored_leaf_v1(
                    e.kind, e.thread_id, e.checkpoint_ns, e.checkpoint_id, e.base_seq,
                    e.state_digest, e.origin_base_seq, e.origin_body_digest, e.body
                )
            from {schema}.events as e
            where
                e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns
                and e.recorded_at between v_from and v_to
                and e.recorded_at is distinct from p_at
                and (
                    p_is_end
                    or e.recorded_at < p_void_before
                    or e.kind in (1, 2) and (p_seqs is null or e.seq = any(p_seqs))
                )
            union all
            select r.o_seq, r.o_at, r.o_leaf
            from {schema}.events as e
            cross join lateral {schema}.record_stubs_v1(e.body) as r
            where
                e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns and e.kind > 2
                and e.recorded_at >= v_begins_at
                and (p_is_end or e.recorded_at < p_void_before)
        ) as g (seq, at, leaf)
        where
            g.seq > v_anchor_seq
            and not exists (
                select 1 from unnest(v_relocated) as n (seq)
                where n.seq = g.seq
            )
        order by g.seq
    )

    select
        coalesce(jsonb_agg(jsonb_build_array(i.first, i.last) order by i.first), '[]'),
        coalesce(string_agg(i.stubs, ''::bytea order by i.first), '')
    into o_details, o_stubs
    from (
        -- Gaps and islands: consecutive numbers form one range.
        select min(n.seq) as first, max(n.seq) as last, string_agg(n.at || n.leaf, ''::bytea order by n.seq) as stubs
        from (
            select s.seq, s.at, s.leaf, s.seq - row_number() over (order by s.seq) as island
            from stubs as s
        ) as n
        group by n.island
    ) as i;
    o_details := jsonb_strip_nulls(
        jsonb_build_object(
            'erased', o_details, 'cut', v_cut, 'anchor', v_anchor, 'records', v_records, 'earlier', v_earlier
        )
    );
end
$function$;
