-- A part of a transaction that may fail without undoing the rest. (sqlfluff does not know the first statement.)

-- name: savepoint
-- Begins the part.
savepoint eventlog_event; -- noqa: PRS

-- name: release_savepoint
-- Ends the part.
release savepoint eventlog_event;

-- name: roll_back_to_savepoint
-- Undoes the part.
rollback to savepoint eventlog_event;
