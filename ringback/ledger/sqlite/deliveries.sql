-- Statements of the worker.

-- name: upsert_handlers
INSERT INTO handlers (name, patterns, registered_at, seen_at)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[2]')
FROM json_each(:rows) WHERE true
ON CONFLICT (name) DO UPDATE SET patterns = excluded.patterns, seen_at = excluded.seen_at

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

-- name: due_deliveries
-- Of one handler at most what it may start, oldest due first. A delivery that lapsed comes back here like any other.
SELECT due_at, seq FROM deliveries
WHERE state = 'pending' AND handler = :handler AND due_at <= :now
ORDER BY due_at, seq LIMIT :limit

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
SELECT d.seq FROM deliveries d
WHERE d.state = 'running' AND NOT EXISTS (
    SELECT 1 FROM processes p WHERE p.id = d.worker AND p.seen_at >= :dead_before)

-- name: lapse_attempts
UPDATE attempts SET finished_at = :now, outcome = 'lapsed', error = 'its worker died or fell silent'
WHERE finished_at IS NULL
  AND id IN (SELECT attempt FROM deliveries WHERE seq IN (SELECT value FROM json_each(:deliveries)))

-- name: lapse_deliveries
-- A lapse counts as an attempt, or a handler that kills its process would run for ever.
UPDATE deliveries SET state = 'pending', worker = NULL, due_at = :now, lapses = lapses + 1,
                      reason = 'its worker died or fell silent'
WHERE seq IN (SELECT value FROM json_each(:deliveries))

-- name: forget_dead
-- A minute later than they count as dead: people are still shown when somebody was last seen.
DELETE FROM processes WHERE seen_at < :dead_before - 60000000

-- name: next_due
SELECT min(due) FROM (
    SELECT min(due_at) AS due FROM deliveries WHERE state = 'pending'
    UNION ALL
    SELECT min(coalesce(hold_until, received_at)) FROM events WHERE fanned_out_at IS NULL AND standing = 'accepted')

-- name: replay_known
SELECT id FROM deliveries WHERE id IN (SELECT value FROM json_each(:ids))

-- name: replay
-- A new run, never a reset one; those that are not settled yet are left alone.
INSERT INTO deliveries (id, event_seq, handler, run, state, due_at, created_at, replayed_by)
SELECT 'dlv_' || printf('%012x', :now / 1000) || lower(hex(randomblob(9))), d.event_seq, d.handler,
       (SELECT max(run) FROM deliveries o WHERE o.event_seq = d.event_seq AND o.handler = d.handler) + 1,
       'pending', :now, :now, :by
FROM deliveries d
WHERE d.id IN (SELECT value FROM json_each(:ids)) AND d.state IN ('succeeded', 'discarded', 'cancelled')
  AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.event_seq = d.event_seq AND o.handler = d.handler
                  AND o.state IN ('pending', 'running'))
GROUP BY d.event_seq, d.handler
RETURNING seq
