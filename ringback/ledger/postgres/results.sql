-- Statements about results that are stored in a place of the user's own.

-- name: keep_results
-- Stored again (`ringback results fetch`): what was written last counts. An event that is gone takes none.
INSERT INTO results (event_seq, position, stored_url, size, sha256, content_type, stored_at)
SELECT e.seq, (value ->> 1)::bigint, value ->> 2, (value ->> 3)::bigint, value ->> 4, value ->> 5,
       (value ->> 6)::bigint
FROM jsonb_array_elements(%(rows)s)
CROSS JOIN LATERAL (SELECT event_seq FROM facts WHERE key = value ->> 0 LIMIT 1) f
CROSS JOIN LATERAL (SELECT seq FROM events WHERE seq = f.event_seq FOR KEY SHARE) e
ON CONFLICT (event_seq, position) DO UPDATE SET
    stored_url = excluded.stored_url, size = excluded.size, sha256 = excluded.sha256,
    content_type = excluded.content_type, stored_at = excluded.stored_at
RETURNING (SELECT id FROM events WHERE seq = event_seq)

-- name: stored_of_events
SELECT event_seq, position, stored_url, size, sha256, content_type, stored_at FROM results
WHERE event_seq = ANY (ARRAY(SELECT json_array_elements_text(%(events)s)::bigint)) ORDER BY event_seq, position

-- name: lives_of_events
SELECT e.* FROM json_array_elements_text(%(events)s)
CROSS JOIN LATERAL (SELECT seq, received_at, results FROM events WHERE seq = value::bigint LIMIT 1) e

-- name: being_stored
-- Events of these whose results somebody is still to store.
SELECT event_seq FROM deliveries
WHERE event_seq = ANY (ARRAY(SELECT json_array_elements_text(%(events)s)::bigint)) AND handler = %(handler)s
  AND (state = 'pending' OR state = 'running')

-- name: postpone
-- Not an attempt, and no reason to call the delivery by another state: it waits.
UPDATE deliveries SET due_at = %(until)s
WHERE seq = ANY (ARRAY(SELECT json_array_elements_text(%(deliveries)s)::bigint)) AND state = 'pending'

-- name: nudge
-- Storing has come to an end for these events. What was never begun and is due later waited for just that.
UPDATE deliveries SET due_at = %(now)s
WHERE event_seq = ANY (ARRAY(SELECT json_array_elements_text(%(events)s)::bigint))
  AND state = 'pending' AND begun = 0 AND due_at > %(now)s

-- name: events_with_results
SELECT seq, id, task_id, provider, received_at, results FROM events
WHERE seq < %(below)s AND type = 'task.completed' AND standing = 'accepted' AND results <> '[]'
ORDER BY seq DESC LIMIT %(limit)s

-- name: event_with_results
SELECT e.seq, e.id, e.task_id, e.provider, e.received_at, e.results FROM facts f
CROSS JOIN LATERAL (SELECT * FROM events WHERE seq = f.event_seq LIMIT 1) e
WHERE f.key = %(task_id)s || ':completed' AND e.seq < %(below)s AND e.standing = 'accepted' AND e.results <> '[]'

-- name: count_stored
SELECT count(*), coalesce(sum(size), 0)::bigint FROM results

-- name: storing_is_known
SELECT EXISTS (SELECT 1 FROM handlers WHERE name = %(handler)s)

-- name: events_to_store
-- What is still to be stored, by the indexes of what waits; with whether it was given up. What nobody has fanned out
-- yet waits, too.
SELECT event_seq, 0 FROM deliveries
WHERE handler = %(handler)s AND state = 'pending' AND parked = 0
UNION ALL
SELECT event_seq, 0 FROM deliveries WHERE handler = %(handler)s AND state = 'running'
UNION ALL
SELECT d.event_seq, 1 FROM deliveries d
WHERE d.handler = %(handler)s AND d.state = 'discarded' AND NOT EXISTS (
    SELECT 1 FROM deliveries o WHERE o.event_seq = d.event_seq AND o.handler = d.handler AND o.run > d.run)
UNION ALL
SELECT w.event_seq, 0 FROM waiting w
CROSS JOIN LATERAL (SELECT type, results FROM events WHERE seq = w.event_seq LIMIT 1) e
WHERE e.type = 'task.completed' AND e.results <> '[]'

-- name: events_by_seq
SELECT e.* FROM json_array_elements_text(%(events)s)
CROSS JOIN LATERAL (
    SELECT seq, id, task_id, provider, received_at, results FROM events WHERE seq = value::bigint LIMIT 1) e
