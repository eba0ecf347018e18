-- Which deliveries a query means, newest first. What names a task, an event or a delivery is found by that name's
-- index; only a query that names none walks through the deliveries.

-- name: events_by_task
-- Facts are found by their key, which begins with the task, the rest by an index of its own.
SELECT seq FROM events WHERE fact_key > %(task_id)s || ':' AND fact_key < %(task_id)s || ';'
UNION ALL SELECT seq FROM events WHERE fact_key IS NULL AND task_id = %(task_id)s

-- name: event_by_id
SELECT seq FROM events WHERE id = %(event_id)s

-- name: deliveries_by_event
SELECT seq FROM deliveries
WHERE event_seq = ANY (ARRAY(SELECT json_array_elements_text(%(events)s)::bigint))

-- name: deliveries_by_id
SELECT seq FROM deliveries WHERE id = ANY (ARRAY(SELECT json_array_elements_text(%(ids)s)))

-- name: matching
SELECT d.seq, d.id, d.state FROM deliveries d JOIN events e ON e.seq = d.event_seq
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
SELECT d.seq, d.id, d.state FROM deliveries d JOIN events e ON e.seq = d.event_seq
WHERE d.seq = ANY (ARRAY(SELECT json_array_elements_text(%(among)s)::bigint)) AND d.seq < %(below)s
  AND (%(provider)s::text IS NULL OR e.provider = %(provider)s) AND (%(type)s::text IS NULL OR e.type = %(type)s)
  AND d.state = ANY (ARRAY(SELECT json_array_elements_text(%(states)s)))
  AND (%(handler)s::text IS NULL OR d.handler = %(handler)s)
  AND (%(before)s::bigint IS NULL OR d.created_at < %(before)s)
  AND (%(text)s::text IS NULL OR position(lower(%(text)s) IN lower(coalesce(d.reason, ''))) > 0)
  AND (NOT %(latest)s OR NOT EXISTS (
    SELECT 1 FROM deliveries o WHERE o.event_seq = d.event_seq AND o.handler = d.handler AND o.run > d.run))
ORDER BY d.seq DESC LIMIT nullif(%(limit)s, -1)
