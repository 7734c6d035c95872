-- The triggers of the fence. For each row, as PostgresSaver writes row by row and an insert that ends in a conflict
-- must be refused too. On any column of `checkpoints` but the parent, which `PostgresSaver.prune` may change with the
-- parent's row.
do $triggers$
declare
    v_columns text;
begin
    select string_agg(format('%I', a.attname), ', ') into v_columns
    from pg_catalog.pg_attribute as a
    where
        a.attrelid = '{schema}.checkpoints'::regclass and a.attnum > 0 and not a.attisdropped
        and a.attname <> 'parent_checkpoint_id';
    execute 'create trigger eventlog_fence before insert or update of ' || v_columns || ' on {schema}.checkpoints '
        'for each row execute function {schema}.eventlog_refuse_moved()';
end;
$triggers$;

create trigger eventlog_fence
before insert or update on {schema}.checkpoint_blobs
for each row execute function {schema}.eventlog_refuse_moved();

create trigger eventlog_fence
before insert or update on {schema}.checkpoint_writes
for each row execute function {schema}.eventlog_refuse_moved();

create trigger eventlog_fence_deleted
after delete on {schema}.checkpoints
referencing old table as gone
for each statement execute function {schema}.eventlog_note_deleted();
