-- Statements of the worker.

-- name: upsert_handlers
INSERT INTO handlers (name, patterns, attempts, registered_at, seen_at)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), :now, :now
FROM json_each(:rows) WHERE true
ON CONFLICT (name) DO UPDATE SET
    patterns = excluded.patterns, attempts = excluded.attempts, seen_at = excluded.seen_at

-- name: waiting_events
-- Never a cursor over ids: an event that was held, or written late by another process, is found all the same.
SELECT seq FROM events
WHERE fanned_out_at IS NULL AND standing = 'accepted' AND (hold_until IS NULL OR hold_until <= :now)
ORDER BY seq LIMIT :limit

-- name: insert_deliveries
-- One per event and handler, however many of its patterns fit. A pattern's `*` means the same to GLOB; nothing else
-- that is special to GLOB gets into a pattern.
INSERT INTO deliveries (id, event_seq, handler, state, due_at, created_at)
SELECT 'dlv_' || printf('%012x', :now / 1000) || lower(hex(randomblob(9))), e.seq, h.name, 'pending', :now, :now
FROM events e
LEFT JOIN tasks t ON t.id = e.task_id
CROSS JOIN handlers h
WHERE e.seq IN (SELECT value FROM json_each(:events))
  AND EXISTS (
    SELECT 1 FROM json_each(h.patterns) p
    WHERE e.type GLOB json_extract(p.value, '$.event')
      AND e.provider GLOB json_extract(p.value, '$.provider')
      AND (json_extract(p.value, '$.model') = '*'
           OR json_extract(t.form, '$.model') GLOB json_extract(p.value, '$.model')))
ON CONFLICT (event_seq, handler, run) DO NOTHING

-- name: mark_fanned_out
UPDATE events SET fanned_out_at = :now WHERE seq IN (SELECT value FROM json_each(:events))

-- name: next_deliveries
-- Of one handler at most what it may start, oldest due first. Those that are not due yet come along, since where none
-- is due the first of them tells how long to wait.
SELECT due_at, seq, lapses FROM deliveries
WHERE state = 'pending' AND handler = :handler
ORDER BY due_at, seq LIMIT :limit

-- name: next_event
SELECT min(coalesce(hold_until, received_at)) FROM events WHERE fanned_out_at IS NULL AND standing = 'accepted'

-- name: claim_deliveries
UPDATE deliveries SET
    state = 'running', worker = :worker, attempts = attempts + 1,
    attempt = 'att_' || printf('%012x', :now / 1000) || lower(hex(randomblob(9)))
WHERE seq IN (SELECT value FROM json_each(:deliveries))

-- name: open_attempts
INSERT INTO attempts (id, delivery_seq, number, worker, started_at)
SELECT d.attempt, d.seq, (SELECT count(*) FROM attempts a WHERE a.delivery_seq = d.seq) + 1, d.worker, :now
FROM deliveries d WHERE d.seq IN (SELECT value FROM json_each(:deliveries))

-- name: claimed_deliveries
SELECT d.*, e.id AS event_id FROM deliveries d JOIN events e ON e.seq = d.event_seq
WHERE d.seq IN (SELECT value FROM json_each(:deliveries)) ORDER BY d.due_at, d.seq

-- name: claimed_attempts
SELECT a.*, d.id AS delivery_id FROM deliveries d JOIN attempts a ON a.id = d.attempt
WHERE d.seq IN (SELECT value FROM json_each(:deliveries))

-- name: claimed_events
SELECT * FROM events WHERE seq IN
    (SELECT event_seq FROM deliveries WHERE seq IN (SELECT value FROM json_each(:deliveries)))

-- name: claimed_tasks
SELECT * FROM tasks WHERE id IN (
    SELECT task_id FROM events WHERE seq IN
        (SELECT event_seq FROM deliveries WHERE seq IN (SELECT value FROM json_each(:deliveries))))

-- name: settle_deliveries
-- The fence: only the delivery's current attempt can move it.
UPDATE deliveries SET
    state = json_extract(value, '$[2]'),
    due_at = coalesce(json_extract(value, '$[3]'), due_at),
    attempts = attempts - CASE WHEN json_extract(value, '$[4]') THEN 0 ELSE 1 END,
    settled_at = CASE WHEN json_extract(value, '$[2]') = 'pending' THEN NULL ELSE json_extract(value, '$[5]') END,
    reason = json_extract(value, '$[6]'),
    worker = NULL
FROM json_each(:rows)
WHERE deliveries.id = json_extract(value, '$[0]')
  AND deliveries.state = 'running' AND deliveries.attempt = json_extract(value, '$[1]')
RETURNING deliveries.attempt

-- name: close_attempts
UPDATE attempts SET
    finished_at = json_extract(value, '$[5]'), outcome = json_extract(value, '$[7]'),
    error = json_extract(value, '$[6]'), traceback = json_extract(value, '$[8]')
FROM json_each(:rows)
WHERE attempts.id = json_extract(value, '$[1]') AND attempts.finished_at IS NULL

-- name: upsert_process
INSERT INTO processes (id, role, host, pid, started_at, seen_at)
VALUES (:id, :role, :host, :pid, :started_at, :now)
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at

-- name: forget_process
DELETE FROM processes WHERE id = :id

-- name: lapsed_deliveries
-- Held by a worker that is silent, or gone from the list.
SELECT d.seq, d.attempts, d.lapses, h.attempts FROM deliveries d LEFT JOIN handlers h ON h.name = d.handler
WHERE d.state = 'running' AND NOT EXISTS (
    SELECT 1 FROM processes p WHERE p.id = d.worker AND p.seen_at >= :dead_before)

-- name: lapse_attempts
UPDATE attempts SET finished_at = :now, outcome = 'lapsed', error = :error
FROM json_each(:rows) JOIN deliveries d ON d.seq = json_extract(value, '$[0]')
WHERE attempts.id = d.attempt AND attempts.finished_at IS NULL

-- name: lapse_deliveries
UPDATE deliveries SET
    state = json_extract(value, '$[1]'), worker = NULL, lapses = lapses + 1,
    due_at = coalesce(json_extract(value, '$[2]'), due_at),
    attempts = attempts - CASE WHEN json_extract(value, '$[3]') THEN 0 ELSE 1 END,
    settled_at = CASE WHEN json_extract(value, '$[1]') = 'pending' THEN NULL ELSE :now END,
    reason = json_extract(value, '$[4]')
FROM json_each(:rows)
WHERE deliveries.seq = json_extract(value, '$[0]')

-- name: forget_dead
-- A minute later than they count as dead: people are still shown when somebody was last seen.
DELETE FROM processes WHERE seen_at < :dead_before - 60000000
