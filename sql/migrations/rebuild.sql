create table {schema}.rebuilds (
    id bigint generated always as identity,
    started_at timestamptz not null,
    started_by text not null default session_user,
    generation integer,
    losses integer not null default 0,
    thread_id text collate "C" not null default '',
    checkpoint_ns text collate "C" not null default '',
    events bigint not null default 0 check (events >= 0),
    streams bigint not null default 0 check (streams >= 0),
    checkpoints bigint not null default 0 check (checkpoints >= 0),
    snapshots bigint not null default 0 check (snapshots >= 0),
    finished_at timestamptz,
    primary key (id)
);

create unique index rebuilds_unfinished_idx on {schema}.rebuilds ((finished_at is null)) where finished_at is null;

comment on table {schema}.rebuilds is
'Rebuilds of streams, checkpoints and snapshots. An unfinished row marks the log as needing a rebuild: a stream''s '
'first append then searches the log, so that its numbers never restart.';
comment on column {schema}.rebuilds.id is 'The rebuild''s number.';
comment on column {schema}.rebuilds.started_at is 'When it began, or when the log was marked.';
comment on column {schema}.rebuilds.started_by is 'The database user.';
comment on column {schema}.rebuilds.generation is
'The log''s generation when it began. In another generation it begins again. Null: it has not begun.';
comment on column {schema}.rebuilds.losses is 'How often rows of streams were deleted since it began.';
comment on column {schema}.rebuilds.thread_id is 'All streams up to this thread and namespace are done.';
comment on column {schema}.rebuilds.checkpoint_ns is 'The namespace of that stream.';
comment on column {schema}.rebuilds.events is 'How many events those streams have.';
comment on column {schema}.rebuilds.streams is 'How many rows of streams differed from the log.';
comment on column {schema}.rebuilds.checkpoints is 'How many rows of checkpoints differed from the log.';
comment on column {schema}.rebuilds.snapshots is 'How many rows of snapshots differed from the log.';
comment on column {schema}.rebuilds.finished_at is 'When it ended. Null: it is running, or needed.';

-- A stream that lost its row would number its events from 1 again. So every deletion from `streams` marks the log,
-- except for the drop of the partition with which a stream ends.
create function {schema}.mark_lost_streams() returns trigger
language plpgsql as $function$
begin
    if current_setting('eventlog.erasing', true) is distinct from 'on' then
        insert into {schema}.rebuilds as r (started_at) values (clock_timestamp())
        on conflict ((finished_at is null)) where finished_at is null do update set
            losses = r.losses + 1, thread_id = '', checkpoint_ns = '';
    end if;
    return null;
end
$function$;

comment on function {schema}.mark_lost_streams is 'Marks the log as needing a rebuild.';

revoke all on function {schema}.mark_lost_streams from public;

create trigger streams_lost after delete or truncate on {schema}.streams
for each statement execute function {schema}.mark_lost_streams();
