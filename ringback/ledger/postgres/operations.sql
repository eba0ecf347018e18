-- Statements for what operators do. What is meant is looked up beforehand, on a connection that cannot write; here each
-- row is looked at once more, since a worker may have come between.

-- name: replayable
-- One per event and handler, and none of which a run is still to end, or whose event was pruned to its keys.
SELECT max(d.seq) FROM deliveries d
CROSS JOIN LATERAL (SELECT pruned FROM events WHERE seq = d.event_seq LIMIT 1) e
WHERE d.seq = ANY (ARRAY(SELECT json_array_elements_text(%(deliveries)s)::bigint)) AND e.pruned < 2
  AND (d.state = 'succeeded' OR d.state = 'discarded' OR d.state = 'cancelled')
  AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.event_seq = d.event_seq AND o.handler = d.handler
                  AND (o.state = 'pending' OR o.state = 'running' OR (%(latest)s AND o.run > d.run)))
GROUP BY d.event_seq, d.handler

-- name: replay
-- A new run, never a reset one. Where another one was made meanwhile, this fails, and it is looked at anew.
INSERT INTO deliveries (id, event_seq, handler, run, state, due_at, created_at, replayed_by, replay_reason)
SELECT 'dlv_' || lpad(to_hex(%(now)s::bigint / 1000), 12, '0')
       || substr(replace(gen_random_uuid()::text, '-', '') , 1, 12)
       || right(gen_random_uuid()::text, 6), d.event_seq, d.handler,
       (SELECT max(run) FROM deliveries o WHERE o.event_seq = d.event_seq AND o.handler = d.handler) + 1,
       'pending', %(now)s, %(now)s, %(by)s, %(reason)s
FROM deliveries d
CROSS JOIN LATERAL (SELECT 1 FROM events WHERE seq = d.event_seq AND pruned < 2 FOR KEY SHARE) e
WHERE d.seq = ANY (ARRAY(SELECT json_array_elements_text(%(deliveries)s)::bigint))
RETURNING id

-- name: end_pending
-- What runs is its worker's: only that one may end it.
UPDATE deliveries SET state = %(state)s, settled_at = %(now)s, reason = %(reason)s
WHERE seq = ANY (ARRAY(SELECT json_array_elements_text(%(deliveries)s)::bigint)) AND state = 'pending'
RETURNING id, handler, key

-- name: matching_events
-- With what a handler's patterns look at, and the state of its unfinished delivery. Events that wait for their fan-out
-- are not meant: they come to the handler by themselves.
SELECT e.seq, e.id,
       (SELECT o.state FROM deliveries o WHERE o.event_seq = e.seq AND o.handler = %(handler)s
        AND (o.state = 'pending' OR o.state = 'running')) AS unfinished,
       e.type, e.provider, replace(t.form, '\u0000', '')::json ->> 'model'
FROM events e
LEFT JOIN tasks t ON t.id = e.task_id
WHERE e.seq >= %(from_seq)s AND e.received_at >= %(since)s AND e.received_at < %(until)s
  AND e.standing = 'accepted' AND e.pruned < 2
  AND (SELECT w.event_seq FROM waiting w WHERE w.event_seq = e.seq) IS NULL
  AND (%(status)s::text IS NULL OR e.status = %(status)s)
  AND (%(provider)s::text IS NULL OR e.provider = %(provider)s)
  AND (%(type)s::text IS NULL OR e.type = %(type)s)
ORDER BY e.seq LIMIT nullif(%(limit)s, -1)

-- name: replay_events
-- The first run where the handler never had one.
INSERT INTO deliveries (id, event_seq, handler, run, state, due_at, created_at, replayed_by, replay_reason)
SELECT 'dlv_' || lpad(to_hex(%(now)s::bigint / 1000), 12, '0')
       || substr(replace(gen_random_uuid()::text, '-', '') , 1, 12)
       || right(gen_random_uuid()::text, 6), e.seq, %(handler)s,
       coalesce((SELECT max(run) FROM deliveries o WHERE o.event_seq = e.seq AND o.handler = %(handler)s), 0) + 1,
       'pending', %(now)s, %(now)s, %(by)s, %(reason)s
FROM (SELECT value::bigint AS seq FROM json_array_elements_text(%(events)s) ORDER BY 1) given
CROSS JOIN LATERAL (SELECT seq FROM events WHERE seq = given.seq AND pruned < 2 FOR KEY SHARE) e
WHERE NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.event_seq = e.seq AND o.handler = %(handler)s
                  AND (o.state = 'pending' OR o.state = 'running'))
ORDER BY e.seq
RETURNING id

-- name: forget_steps
-- Nobody records any meanwhile: there was no unfinished run beside the new one.
DELETE FROM steps WHERE (event_seq, handler) IN (
    SELECT event_seq, handler FROM deliveries
    WHERE id = ANY (ARRAY(SELECT json_array_elements_text(%(deliveries)s))))
