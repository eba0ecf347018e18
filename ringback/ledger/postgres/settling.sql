-- Statements that close attempts.

-- name: lock_handlers
-- Whoever parks deliveries of a handler, or frees them, keeps the others out until the commit.
SELECT pg_advisory_xact_lock(7461, hashtext(value)) FROM (
    SELECT DISTINCT value FROM json_array_elements_text(%(handlers)s) ORDER BY value) named

-- name: settle_deliveries
-- The fence: only the delivery's current attempt can move it. A key that is its own id stands for none, or for a key
-- function that failed: the next attempt asks again. The state is asked for in words that no index knows: by that of
-- what runs, each settling would walk through all that runs in any worker. What has moved has its attempt written by
-- the same stroke: to name them all once more would cost as much again.
WITH moved AS (
    UPDATE deliveries SET
        state = value ->> 2, due_at = coalesce((value ->> 3)::bigint, due_at),
        attempts = attempts - (value ->> 4)::boolean::int,
        settled_at = CASE WHEN value ->> 2 <> 'pending' THEN (value ->> 5)::bigint END, reason = value ->> 6,
        worker = NULL, started_at = NULL, key = nullif(key, id)
    FROM jsonb_array_elements(%(rows)s)
    WHERE deliveries.id = value ->> 0 AND deliveries.attempt = value ->> 1 AND deliveries.state || '' = 'running'
    RETURNING seq, attempt, handler, key, event_seq, begun, value),
closed AS (
    INSERT INTO attempts (id, delivery_seq, number, worker, started_at, finished_at, outcome, error, traceback)
    SELECT attempt, seq, begun, value ->> 7, (value ->> 8)::bigint, (value ->> 5)::bigint, value ->> 9, value ->> 6,
           value ->> 10
    FROM moved)
SELECT seq, attempt, handler, key, event_seq, NULL::bigint FROM moved

-- name: lock_settled
-- Of handlers with neither key nor order many may settle at once. But none while another worker, whose code does ask for
-- an order, parks deliveries behind those that end here.
SELECT pg_advisory_xact_lock_shared(7461, hashtext(value)) FROM (
    SELECT DISTINCT value FROM json_array_elements_text(%(handlers)s) ORDER BY value) named

-- name: insert_attempts
INSERT INTO attempts (id, delivery_seq, number, worker, started_at, finished_at, outcome, error, traceback)
SELECT value ->> 0, (value ->> 1)::bigint, (value ->> 2)::bigint, value ->> 3, (value ->> 4)::bigint,
       (value ->> 5)::bigint, value ->> 6, value ->> 7, value ->> 8
FROM jsonb_array_elements(%(rows)s) WITH ORDINALITY AS given (value, place)
ORDER BY place

-- name: free_parked
-- The one that waited longest for each of these keys goes back among those that are due.
UPDATE deliveries SET parked = 0 WHERE seq IN (
    SELECT (SELECT d.seq FROM deliveries d
            WHERE d.handler = value ->> 0 AND d.key = value ->> 1 AND d.state = 'pending' AND d.parked = 1
            ORDER BY d.due_at, d.seq LIMIT 1)
    FROM jsonb_array_elements(%(keys)s))

-- name: upsert_process
INSERT INTO processes (id, role, host, pid, started_at, seen_at, dead_at)
VALUES (%(id)s, %(role)s, %(host)s, %(pid)s, %(started_at)s, %(now)s, %(dead_at)s)
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, dead_at = excluded.dead_at

-- name: forget_process
DELETE FROM processes WHERE id = %(id)s

-- name: lock_new_handlers
-- Whoever hands out events has read which handlers there are: a new one waits until that is committed, so that looking
-- back finds every event which was handed out without it.
SELECT pg_advisory_xact_lock(7462, 0) FROM (
    SELECT 1 FROM jsonb_array_elements(%(rows)s)
    WHERE NOT EXISTS (SELECT 1 FROM handlers WHERE name = value ->> 0) LIMIT 1) new

-- name: upsert_handlers
-- How far to look back is asked of a handler only when it is new.
INSERT INTO handlers (name, patterns, attempts, since, catch_up, registered_at, seen_at)
SELECT value ->> 0, value ->> 1, (value ->> 2)::bigint, (value ->> 3)::bigint,
       CASE WHEN value ->> 3 IS NOT NULL THEN 0 END, %(now)s::bigint, %(now)s::bigint
FROM jsonb_array_elements(%(rows)s) ORDER BY value ->> 0
ON CONFLICT (name) DO UPDATE SET
    patterns = excluded.patterns, attempts = excluded.attempts, seen_at = excluded.seen_at

-- name: lapsed_deliveries
-- Held by a worker that is silent, or gone from the list. One that is just being settled is left to whoever does so.
SELECT d.seq, d.attempts, d.lapses, h.attempts, d.attempt, d.begun, d.worker, d.started_at, d.handler, d.key
FROM deliveries d LEFT JOIN handlers h ON h.name = d.handler
WHERE d.state = 'running' AND NOT EXISTS (
    SELECT 1 FROM processes p WHERE p.id = d.worker AND (p.seen_at >= %(dead_before)s OR p.dead_at >= %(now)s))
ORDER BY d.seq
FOR UPDATE OF d SKIP LOCKED

-- name: lapse_deliveries
UPDATE deliveries SET
    state = value ->> 1, due_at = coalesce((value ->> 2)::bigint, due_at),
    attempts = attempts - (value ->> 3)::boolean::int, settled_at = (value ->> 4)::bigint, reason = value ->> 5,
    worker = NULL, started_at = NULL, lapses = lapses + 1
FROM jsonb_array_elements(%(rows)s)
WHERE deliveries.seq = (value ->> 0)::bigint

-- name: deliveries_by_seq
SELECT d.*, e.id AS event_id FROM deliveries d
CROSS JOIN LATERAL (SELECT id FROM events WHERE seq = d.event_seq LIMIT 1) e
WHERE d.seq = ANY (ARRAY(SELECT json_array_elements_text(%(deliveries)s)::bigint)) ORDER BY d.due_at, d.seq

-- name: forget_dead
-- A minute later than they count as dead: people are still shown when somebody was last seen.
DELETE FROM processes WHERE seen_at < %(dead_before)s - 60000000 AND dead_at < %(now)s - 60000000
