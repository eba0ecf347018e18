-- Which deliveries a query means, newest first. What names a task, an event or a delivery is found by that name's
-- index; only a query that names none walks through the deliveries.

-- name: events_by_task
-- Facts have a key that begins with the task, and what is no fact has one, too.
SELECT event_seq FROM facts WHERE key > %(task_id)s || ':' AND key < %(task_id)s || ';'

-- name: event_by_id
SELECT event_seq FROM facts WHERE key = %(event_id)s AND starts_with(key, 'evt_')

-- name: deliveries_by_event
SELECT seq FROM deliveries
WHERE event_seq = ANY (ARRAY(SELECT json_array_elements_text(%(events)s)::bigint))

-- name: deliveries_by_id
SELECT seq FROM deliveries WHERE id = ANY (ARRAY(SELECT json_array_elements_text(%(ids)s)))

-- name: count_seldom
-- Events of the types that are not everywhere, as far as there are not more of one than `most`.
SELECT kind, (SELECT count(*) FROM (
    SELECT 1 FROM events WHERE type <> 'task.completed' AND type = kind LIMIT %(most)s) found)
FROM json_array_elements_text(%(types)s) kind

-- name: deliveries_by_type
-- Of events of a type that is not everywhere.
SELECT d.seq FROM (SELECT seq FROM events WHERE type <> 'task.completed' AND type = %(type)s) e
CROSS JOIN LATERAL (SELECT seq FROM deliveries WHERE event_seq = e.seq OFFSET 0) d

-- name: matching
SELECT d.seq, d.id, d.state FROM deliveries d
CROSS JOIN LATERAL (SELECT provider, type FROM events WHERE seq = d.event_seq LIMIT 1) e
WHERE d.seq < %(below)s
  AND (%(provider)s::text IS NULL OR e.provider = %(provider)s) AND (%(type)s::text IS NULL OR e.type = %(type)s)
  AND d.state = ANY (ARRAY(SELECT json_array_elements_text(%(states)s)))
  AND (%(handler)s::text IS NULL OR d.handler = %(handler)s)
  AND (%(before)s::bigint IS NULL OR d.created_at < %(before)s)
  AND (%(text)s::text IS NULL OR position(lower(%(text)s) IN lower(coalesce(d.reason, ''))) > 0)
  AND (NOT %(latest)s OR NOT EXISTS (
    SELECT 1 FROM deliveries o WHERE o.event_seq = d.event_seq AND o.handler = d.handler AND o.run > d.run))
ORDER BY d.seq DESC LIMIT nullif(%(limit)s, -1)

-- name: matching_among
-- The same of some, which were found by a name.
SELECT d.seq, d.id, d.state FROM deliveries d
CROSS JOIN LATERAL (SELECT provider, type FROM events WHERE seq = d.event_seq LIMIT 1) e
WHERE d.seq = ANY (ARRAY(SELECT json_array_elements_text(%(among)s)::bigint)) AND d.seq < %(below)s
  AND (%(provider)s::text IS NULL OR e.provider = %(provider)s) AND (%(type)s::text IS NULL OR e.type = %(type)s)
  AND d.state = ANY (ARRAY(SELECT json_array_elements_text(%(states)s)))
  AND (%(handler)s::text IS NULL OR d.handler = %(handler)s)
  AND (%(before)s::bigint IS NULL OR d.created_at < %(before)s)
  AND (%(text)s::text IS NULL OR position(lower(%(text)s) IN lower(coalesce(d.reason, ''))) > 0)
  AND (NOT %(latest)s OR NOT EXISTS (
    SELECT 1 FROM deliveries o WHERE o.event_seq = d.event_seq AND o.handler = d.handler AND o.run > d.run))
ORDER BY d.seq DESC LIMIT nullif(%(limit)s, -1)

-- name: unfinished_deliveries
-- What has not succeeded is found by the indexes that hold nothing else: a walk through millions that have succeeded
-- would come upon the few that were given up, or wait, at last.
SELECT seq FROM deliveries WHERE %(pending)s AND state = 'pending' AND parked = 0
UNION ALL SELECT seq FROM deliveries WHERE %(pending)s AND state = 'pending' AND parked = 1
UNION ALL SELECT seq FROM deliveries WHERE %(running)s AND state = 'running'
UNION ALL SELECT seq FROM deliveries WHERE %(discarded)s AND state = 'discarded'
UNION ALL SELECT seq FROM deliveries WHERE %(cancelled)s AND state = 'cancelled'
LIMIT %(most)s
