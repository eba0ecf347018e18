-- Statements of the fan-out: from events to what is owed to handlers.

-- name: handlers
SELECT name, patterns, since, catch_up FROM handlers

-- name: waiting_events
-- Never a cursor over ids: an event that was held, or written late by another process, is found all the same. Whole
-- rows, since most of them begin right away; no more are asked for than can begin. Others skip what is locked here.
-- What is found is fanned out in the same transaction, so it waits no more; the event's own row, with its body, is not
-- written. Nor is it held: until the commit it waits for all others, so nobody prunes it, and who adopts it takes its
-- row in `waiting` first.
WITH taken AS MATERIALIZED (
    DELETE FROM waiting WHERE event_seq = ANY (ARRAY(
        SELECT event_seq FROM waiting WHERE hold_until IS NULL OR hold_until <= %(now)s
        ORDER BY event_seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING event_seq)
SELECT e.*, t.* FROM taken
CROSS JOIN LATERAL (
    SELECT seq, id, type, provider, task_id, status, source, trust, standing, conflict, provider_event_id, results,
           error, body, headers, received_at, last_seen_at, duplicates, fanned_out_at
    FROM events WHERE seq = taken.event_seq LIMIT 1) e
LEFT JOIN LATERAL (SELECT * FROM tasks WHERE id = e.task_id LIMIT 1) t ON true
ORDER BY taken.event_seq

-- name: insert_deliveries
INSERT INTO deliveries (id, event_seq, handler, state, due_at, begun, attempts, attempt, worker, started_at, created_at)
SELECT value ->> 0, (value ->> 1)::bigint, value ->> 2, value ->> 3, (value ->> 4)::bigint, (value ->> 5)::bigint,
       (value ->> 6)::bigint, value ->> 7, value ->> 8, (value ->> 9)::bigint, (value ->> 10)::bigint
FROM jsonb_array_elements(%(rows)s) WITH ORDINALITY AS given (value, place)
ORDER BY place
ON CONFLICT (event_seq, handler, run) DO NOTHING

-- name: mark_owed
-- Nothing: when these were fanned out is told by their first delivery, and to write it here would cost more than all else
-- of the fan-out.
SELECT %(now)s::bigint, %(events)s::text WHERE false

-- name: mark_unwanted
UPDATE events SET fanned_out_at = %(now)s
WHERE seq = ANY (ARRAY(SELECT json_array_elements_text(%(events)s)::bigint))
  AND seq >= (SELECT min(value::bigint) FROM json_array_elements_text(%(events)s))
  AND seq <= (SELECT max(value::bigint) FROM json_array_elements_text(%(events)s))

-- name: first_event
-- Where to begin to look back: an event's id begins with the time at which it was received. One of which only keys are
-- left has no place among the others any more, and is not looked back at.
SELECT min(event_seq) FROM facts
WHERE key >= 'evt_' || lpad(to_hex(%(since)s::bigint / 1000), 12, '0') AND key < 'evt`' AND event_seq > 0

-- name: past_events
-- Those that were fanned out before a handler was known; the others come to it by themselves. No foreign key may stand in
-- the way of a partition that is dropped, so they are held here: one that is being pruned is owed to nobody.
SELECT e.seq, e.type, e.provider, replace(t.form, '\u0000', '')::json ->> 'model'
FROM events e LEFT JOIN tasks t ON t.id = e.task_id
WHERE e.seq >= %(from_seq)s AND e.received_at >= %(since)s
  AND (SELECT w.event_seq FROM waiting w WHERE w.event_seq = e.seq) IS NULL AND e.standing = 'accepted' AND e.pruned < 2
ORDER BY e.seq LIMIT %(limit)s
FOR KEY SHARE OF e

-- name: caught_up
UPDATE handlers SET catch_up = %(next)s WHERE name = %(name)s
