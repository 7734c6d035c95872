-- Removes the fence: triggers, functions and marks.
drop trigger if exists eventlog_fence on {schema}.checkpoints;
drop trigger if exists eventlog_fence on {schema}.checkpoint_blobs;
drop trigger if exists eventlog_fence on {schema}.checkpoint_writes;
drop trigger if exists eventlog_fence_deleted on {schema}.checkpoints;
drop function if exists {schema}.eventlog_refuse_moved();
drop function if exists {schema}.eventlog_note_deleted();
drop table if exists {schema}.moved;
