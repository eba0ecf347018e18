-- Statements for what operators do. What is meant is looked up beforehand, on the connection that cannot write; here
-- each row is looked at once more, since a worker may have come between.

-- name: replayable
-- One per event and handler, and none of which a run is still to end, or whose event was pruned to its keys.
SELECT max(d.seq) FROM deliveries d JOIN events e ON e.seq = d.event_seq AND e.pruned < 2
WHERE d.seq IN (SELECT value FROM json_each(:deliveries))
  AND (d.state = 'succeeded' OR d.state = 'discarded' OR d.state = 'cancelled')
  AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.event_seq = d.event_seq AND o.handler = d.handler
                  AND (o.state = 'pending' OR o.state = 'running' OR (:latest AND o.run > d.run)))
GROUP BY d.event_seq, d.handler

-- name: replay
-- A new run, never a reset one.
INSERT INTO deliveries (id, event_seq, handler, run, state, due_at, created_at, replayed_by, replay_reason)
SELECT 'dlv_' || printf('%012x', :now / 1000) || lower(hex(randomblob(9))), d.event_seq, d.handler,
       (SELECT max(run) FROM deliveries o WHERE o.event_seq = d.event_seq AND o.handler = d.handler) + 1,
       'pending', :now, :now, :by, :reason
FROM deliveries d WHERE d.seq IN (SELECT value FROM json_each(:deliveries))
RETURNING id

-- name: end_pending
-- What runs is its worker's: only that one may end it.
UPDATE deliveries SET state = :state, settled_at = :now, reason = :reason
WHERE seq IN (SELECT value FROM json_each(:deliveries)) AND state = 'pending'
RETURNING id, handler, key

-- name: matching_events
-- With what a handler's patterns look at, and the state of its unfinished delivery. Events that wait for their fan-out
-- are not meant: they come to the handler by themselves.
SELECT e.seq, e.id,
       (SELECT o.state FROM deliveries o WHERE o.event_seq = e.seq AND o.handler = :handler
        AND (o.state = 'pending' OR o.state = 'running')) AS unfinished,
       e.type, e.provider, json_extract(t.form, '$.model')
FROM events e
LEFT JOIN tasks t ON t.id = e.task_id
WHERE e.seq >= :from_seq AND e.received_at >= :since AND e.received_at < :until
  AND e.standing = 'accepted' AND e.fanned_out_at IS NOT NULL AND e.pruned < 2
  AND (:status IS NULL OR e.status = :status) AND (:provider IS NULL OR e.provider = :provider)
  AND (:type IS NULL OR e.type = :type)
ORDER BY e.seq LIMIT :limit

-- name: replay_events
-- The first run where the handler never had one.
INSERT INTO deliveries (id, event_seq, handler, run, state, due_at, created_at, replayed_by, replay_reason)
SELECT 'dlv_' || printf('%012x', :now / 1000) || lower(hex(randomblob(9))), e.seq, :handler,
       coalesce((SELECT max(run) FROM deliveries o WHERE o.event_seq = e.seq AND o.handler = :handler), 0) + 1,
       'pending', :now, :now, :by, :reason
FROM events e
WHERE e.seq IN (SELECT value FROM json_each(:events)) AND e.pruned < 2
  AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.event_seq = e.seq AND o.handler = :handler
                  AND (o.state = 'pending' OR o.state = 'running'))
RETURNING id

-- name: forget_steps
-- Nobody records any meanwhile: there was no unfinished run beside the new one.
DELETE FROM steps WHERE (event_seq, handler) IN (
    SELECT event_seq, handler FROM deliveries WHERE id IN (SELECT value FROM json_each(:deliveries)))
