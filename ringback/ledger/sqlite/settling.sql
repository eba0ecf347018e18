-- Statements that close attempts.

-- name: lock_handlers
-- SQLite's writers exclude each other: there is nothing to lock.

-- name: settle_deliveries
-- The fence: only the delivery's current attempt can move it. A key that is its own id stands for none, or for a key
-- function that failed: the next attempt asks again. Last comes the number of the attempt, which is still to be
-- written.
UPDATE deliveries SET
    state = column3, due_at = coalesce(column4, due_at), attempts = attempts - column5,
    settled_at = CASE WHEN column3 <> 'pending' THEN column6 END,
    reason = column7, worker = NULL, started_at = NULL, key = nullif(key, id)
FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?))
WHERE deliveries.id = column1 AND deliveries.attempt = column2 AND deliveries.state = 'running'
RETURNING seq, attempt, handler, key, event_seq, begun

-- name: lock_settled
-- SQLite's writers exclude each other: there is nothing to lock.

-- name: insert_attempts
INSERT INTO attempts (id, delivery_seq, number, worker, started_at, finished_at, outcome, error, traceback)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: free_parked
-- The one that waited longest for each of these keys goes back among those that are due.
UPDATE deliveries SET parked = 0 WHERE seq IN (
    SELECT (SELECT d.seq FROM deliveries d
            WHERE d.handler = json_extract(value, '$[0]') AND d.key = json_extract(value, '$[1]')
              AND d.state = 'pending' AND d.parked = 1
            ORDER BY d.due_at, d.seq LIMIT 1)
    FROM json_each(:keys))

-- name: upsert_process
INSERT INTO processes (id, role, host, pid, started_at, seen_at, dead_at)
VALUES (:id, :role, :host, :pid, :started_at, :now, :dead_at)
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, dead_at = excluded.dead_at

-- name: forget_process
DELETE FROM processes WHERE id = :id

-- name: lock_new_handlers
-- SQLite's writers exclude each other: there is nothing to lock.

-- name: upsert_handlers
-- How far to look back is asked of a handler only when it is new.
INSERT INTO handlers (name, patterns, attempts, since, catch_up, registered_at, seen_at)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]'), CASE WHEN json_extract(value, '$[3]') IS NOT NULL THEN 0 END, :now, :now
FROM json_each(:rows) WHERE true
ON CONFLICT (name) DO UPDATE SET
    patterns = excluded.patterns, attempts = excluded.attempts, seen_at = excluded.seen_at

-- name: lapsed_deliveries
-- Held by a worker that is silent, or gone from the list.
SELECT d.seq, d.attempts, d.lapses, h.attempts, d.attempt, d.begun, d.worker, d.started_at, d.handler, d.key
FROM deliveries d LEFT JOIN handlers h ON h.name = d.handler
WHERE d.state = 'running' AND NOT EXISTS (
    SELECT 1 FROM processes p WHERE p.id = d.worker AND (p.seen_at >= :dead_before OR p.dead_at >= :now))

-- name: lapse_deliveries
UPDATE deliveries SET
    state = column2, due_at = coalesce(column3, due_at), attempts = attempts - column4, settled_at = column5,
    reason = column6, worker = NULL, started_at = NULL, lapses = lapses + 1
FROM (VALUES (?, ?, ?, ?, ?, ?))
WHERE deliveries.seq = column1

-- name: deliveries_by_seq
SELECT d.*, e.id AS event_id FROM deliveries d JOIN events e ON e.seq = d.event_seq
WHERE d.seq IN (SELECT value FROM json_each(:deliveries)) ORDER BY d.due_at, d.seq

-- name: forget_dead
-- A minute later than they count as dead: people are still shown when somebody was last seen.
DELETE FROM processes WHERE seen_at < :dead_before - 60000000 AND dead_at < :now - 60000000
