-- Statements of the fan-out: from events to what is owed to handlers.

-- name: handlers
SELECT name, patterns, since, catch_up FROM handlers

-- name: waiting_events
-- Never a cursor over ids: an event that was held, or written late by another process, is found all the same. Whole
-- rows, since most of them begin right away; no more are asked for than can begin.
SELECT e.*, t.* FROM events e LEFT JOIN tasks t ON t.id = e.task_id
WHERE e.fanned_out_at IS NULL AND e.standing = 'accepted' AND (e.hold_until IS NULL OR e.hold_until <= :now)
ORDER BY e.seq LIMIT :limit

-- name: insert_deliveries
INSERT INTO deliveries (id, event_seq, handler, state, due_at, begun, attempts, attempt, worker, started_at, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (event_seq, handler, run) DO NOTHING

-- name: mark_owed
UPDATE events SET fanned_out_at = :now WHERE seq IN (SELECT value FROM json_each(:events))

-- name: mark_unwanted
-- By themselves, since PostgreSQL tells of the others by their deliveries.
UPDATE events SET fanned_out_at = :now WHERE seq IN (SELECT value FROM json_each(:events))

-- name: first_event
-- Where to begin to look back: an event's id begins with the time at which it was received.
SELECT min(seq) FROM events WHERE id >= 'evt_' || printf('%012x', :since / 1000)

-- name: past_events
-- Those that were fanned out before a handler was known; the others come to it by themselves.
SELECT e.seq, e.type, e.provider, json_extract(t.form, '$.model')
FROM events e LEFT JOIN tasks t ON t.id = e.task_id
WHERE e.seq >= :from_seq AND e.received_at >= :since
  AND e.fanned_out_at IS NOT NULL AND e.standing = 'accepted' AND e.pruned < 2
ORDER BY e.seq LIMIT :limit

-- name: caught_up
UPDATE handlers SET catch_up = :next WHERE name = :name
