-- Statements of the claim.

-- name: lock_turn
-- SQLite's writers exclude each other: there is nothing to lock.

-- name: next_deliveries
-- Of one handler at most what it may start, oldest due first. Those that are not due yet come along, since where none
-- is due the first of them tells how long to wait.
SELECT due_at, seq, lapses, id, event_seq, handler, run, begun, attempts, created_at, reason, replayed_by,
       replay_reason, key
FROM deliveries
WHERE state = 'pending' AND parked = 0 AND handler = :handler
ORDER BY due_at, seq LIMIT :limit

-- name: next_event
SELECT min(coalesce(hold_until, received_at)) FROM events WHERE fanned_out_at IS NULL AND standing = 'accepted'

-- name: claim_deliveries
UPDATE deliveries SET
    state = 'running', begun = begun + 1, attempts = attempts + 1,
    attempt = column2, key = column3, worker = column4, started_at = column5
FROM (VALUES (?, ?, ?, ?, ?))
WHERE deliveries.seq = column1

-- name: events_with_tasks
SELECT e.*, t.* FROM events e LEFT JOIN tasks t ON t.id = e.task_id
WHERE e.seq IN (SELECT value FROM json_each(:events))

-- name: count_running
SELECT count(*) FROM deliveries WHERE handler = :handler AND state = 'running'

-- name: running_keys
SELECT key FROM deliveries
WHERE handler = :handler AND state = 'running' AND key IN (SELECT value FROM json_each(:keys))

-- name: store_keys
-- The first key that is told stays: a delivery that is parked under one would not be found under another.
UPDATE deliveries SET key = column2 FROM (VALUES (?, ?))
WHERE deliveries.id = column1 AND deliveries.state = 'pending' AND deliveries.key IS NULL

-- name: park
-- Behind another of its key, whose end frees it.
UPDATE deliveries SET parked = 1, key = column2 FROM (VALUES (?, ?)) WHERE deliveries.seq = column1

-- name: unpark
-- What others wait for must be found by its key when it ends, and until then be able to begin, or run already.
UPDATE deliveries SET parked = 0, key = column2 FROM (VALUES (?, ?)) WHERE deliveries.seq = column1

-- name: owed_of_tasks
-- What one handler is still owed of these tasks, whatever it waits for.
SELECT e.task_id, e.status, d.event_seq, d.seq, d.key, d.state = 'running'
FROM json_each(:tasks) given
CROSS JOIN events e ON e.fact_key > given.value || ':' AND e.fact_key < given.value || ';'
CROSS JOIN deliveries d ON d.event_seq = e.seq
WHERE d.handler = :handler AND (d.state = 'pending' OR d.state = 'running')

-- name: tasks_of_events
-- Facts alone have an order.
SELECT seq, task_id FROM events WHERE seq IN (SELECT value FROM json_each(:events)) AND fact_key IS NOT NULL

-- name: starts
-- What began within the period, oldest first.
SELECT started_at, count FROM starts
WHERE handler = :handler AND started_at > :since AND started_at <= :until ORDER BY started_at

-- name: forget_starts
DELETE FROM starts WHERE handler = :handler AND started_at <= :before

-- name: count_starts
INSERT INTO starts (handler, started_at, count)
VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET count = count + excluded.count
