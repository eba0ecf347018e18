-- Statements of the claim.

-- name: lock_turn
-- Before anything is read: a turn of a handler with limits keeps the other turns of that handler out until the commit,
-- always in one order; and a new handler waits for those that hand out events.
SELECT pg_advisory_xact_lock(7461, hashtext(value)) FROM (
    SELECT value FROM json_array_elements_text(%(handlers)s) ORDER BY value) named
UNION ALL SELECT pg_advisory_xact_lock_shared(7462, 0)

-- name: next_deliveries
-- Of one handler at most what it may start, oldest due first: others skip what is locked here. The first of those that
-- are not due yet comes along unlocked, since where none is due it tells how long to wait.
WITH due AS MATERIALIZED (
    SELECT due_at, seq, lapses, id, event_seq, handler, run, begun, attempts, created_at, reason, replayed_by,
           replay_reason, key
    FROM deliveries
    WHERE state = 'pending' AND parked = 0 AND handler = %(handler)s AND due_at <= %(now)s
    ORDER BY due_at, seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
SELECT * FROM due
UNION ALL
(SELECT due_at, seq, lapses, id, event_seq, handler, run, begun, attempts, created_at, reason, replayed_by,
        replay_reason, key
 FROM deliveries
 WHERE state = 'pending' AND parked = 0 AND handler = %(handler)s AND due_at > %(now)s
 ORDER BY due_at, seq LIMIT 1)

-- name: next_event
SELECT min(coalesce(hold_until, received_at)) FROM waiting

-- name: claim_deliveries
UPDATE deliveries SET
    state = 'running', begun = begun + 1, attempts = attempts + 1,
    attempt = value ->> 1, key = value ->> 2, worker = value ->> 3, started_at = (value ->> 4)::bigint
FROM jsonb_array_elements(%(rows)s)
WHERE deliveries.seq = (value ->> 0)::bigint

-- name: events_with_tasks
-- Each by itself: so it is looked for in its own partition only, whatever the planner believes about the others. When it
-- was fanned out, a worker does not ask.
SELECT e.*, t.* FROM json_array_elements_text(%(events)s)
CROSS JOIN LATERAL (SELECT * FROM events WHERE seq = value::bigint LIMIT 1) e
LEFT JOIN LATERAL (SELECT * FROM tasks WHERE id = e.task_id LIMIT 1) t ON true

-- name: count_running
SELECT count(*) FROM deliveries WHERE handler = %(handler)s AND state = 'running'

-- name: running_keys
SELECT key FROM deliveries
WHERE handler = %(handler)s AND state = 'running' AND key = ANY (ARRAY(SELECT json_array_elements_text(%(keys)s)))

-- name: store_keys
-- The first key that is told stays: a delivery that is parked under one would not be found under another.
UPDATE deliveries SET key = value ->> 1 FROM jsonb_array_elements(%(rows)s)
WHERE deliveries.id = value ->> 0 AND deliveries.state = 'pending' AND deliveries.key IS NULL

-- name: park
-- Behind another of its key, whose end frees it.
UPDATE deliveries SET parked = 1, key = value ->> 1 FROM jsonb_array_elements(%(rows)s)
WHERE deliveries.seq = (value ->> 0)::bigint

-- name: unpark
-- What others wait for must be found by its key when it ends, and until then be able to begin, or run already.
UPDATE deliveries SET parked = 0, key = value ->> 1 FROM jsonb_array_elements(%(rows)s)
WHERE deliveries.seq = (value ->> 0)::bigint

-- name: owed_of_tasks
-- What one handler is still owed of these tasks, whatever it waits for.
SELECT e.task_id, e.status, d.event_seq, d.seq, d.key, d.state = 'running'
FROM json_array_elements_text(%(tasks)s)
CROSS JOIN LATERAL (SELECT event_seq FROM facts WHERE key > value || ':' AND key < value || ';' OFFSET 0) f
CROSS JOIN LATERAL (SELECT task_id, status, fact_key FROM events WHERE seq = f.event_seq LIMIT 1) e
CROSS JOIN LATERAL (SELECT * FROM deliveries WHERE event_seq = f.event_seq OFFSET 0) d
WHERE e.fact_key IS NOT NULL AND d.handler = %(handler)s AND (d.state = 'pending' OR d.state = 'running')

-- name: tasks_of_events
-- Facts alone have an order.
SELECT e.seq, e.task_id FROM json_array_elements_text(%(events)s)
CROSS JOIN LATERAL (SELECT seq, task_id, fact_key FROM events WHERE seq = value::bigint LIMIT 1) e
WHERE e.fact_key IS NOT NULL

-- name: starts
-- What began within the period, oldest first.
SELECT started_at, count FROM starts
WHERE handler = %(handler)s AND started_at > %(since)s AND started_at <= %(until)s ORDER BY started_at

-- name: forget_starts
DELETE FROM starts WHERE handler = %(handler)s AND started_at <= %(before)s

-- name: count_starts
INSERT INTO starts (handler, started_at, count)
SELECT value ->> 0, (value ->> 1)::bigint, (value ->> 2)::bigint FROM jsonb_array_elements(%(rows)s)
ON CONFLICT (handler, started_at) DO UPDATE SET count = starts.count + excluded.count
