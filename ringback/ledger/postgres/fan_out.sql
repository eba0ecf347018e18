-- Statements of the fan-out: from events to what is owed to handlers.

-- name: handlers
SELECT name, patterns, since, catch_up FROM handlers

-- name: waiting_events
-- Never a cursor over ids: an event that was held, or written late by another process, is found all the same. Whole
-- rows, since most of them begin right away; no more are asked for than can begin. Others skip what is locked here.
-- A NUL that a form may quote is no JSON for PostgreSQL, and must not hold up everything.
SELECT e.*, t.*, replace(t.form, '\u0000', '')::json ->> 'model' FROM events e LEFT JOIN tasks t ON t.id = e.task_id
WHERE e.fanned_out_at IS NULL AND e.standing = 'accepted' AND (e.hold_until IS NULL OR e.hold_until <= %(now)s)
ORDER BY e.seq LIMIT %(limit)s
FOR NO KEY UPDATE OF e SKIP LOCKED

-- name: insert_deliveries
INSERT INTO deliveries (id, event_seq, handler, state, due_at, begun, attempts, attempt, worker, started_at, created_at)
SELECT value ->> 0, (value ->> 1)::bigint, value ->> 2, value ->> 3, (value ->> 4)::bigint, (value ->> 5)::bigint,
       (value ->> 6)::bigint, value ->> 7, value ->> 8, (value ->> 9)::bigint, (value ->> 10)::bigint
FROM jsonb_array_elements(%(rows)s) WITH ORDINALITY AS given (value, place)
ORDER BY place
ON CONFLICT (event_seq, handler, run) DO NOTHING

-- name: mark_fanned_out
UPDATE events SET fanned_out_at = %(now)s
WHERE seq = ANY (ARRAY(SELECT json_array_elements_text(%(events)s)::bigint))

-- name: first_event
-- Where to begin to look back: an event's id begins with the time at which it was received.
SELECT min(seq) FROM events WHERE id >= 'evt_' || lpad(to_hex(%(since)s::bigint / 1000), 12, '0')

-- name: past_events
-- Those that were fanned out before a handler was known; the others come to it by themselves.
SELECT e.seq, e.type, e.provider, replace(t.form, '\u0000', '')::json ->> 'model'
FROM events e LEFT JOIN tasks t ON t.id = e.task_id
WHERE e.seq >= %(from_seq)s AND e.received_at >= %(since)s
  AND e.fanned_out_at IS NOT NULL AND e.standing = 'accepted' AND e.pruned < 2
ORDER BY e.seq LIMIT %(limit)s

-- name: caught_up
UPDATE handlers SET catch_up = %(next)s WHERE name = %(name)s
