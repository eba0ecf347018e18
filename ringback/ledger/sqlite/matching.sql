-- Which deliveries a query means, newest first. What names a task, an event or a delivery is found by that name's
-- index; only a query that names none walks through the deliveries.

-- name: events_by_task
-- Facts are found by their key, which begins with the task, the rest by an index of its own.
SELECT seq FROM events WHERE fact_key > :task_id || ':' AND fact_key < :task_id || ';'
UNION ALL SELECT seq FROM events WHERE fact_key IS NULL AND task_id = :task_id

-- name: event_by_id
SELECT seq FROM events WHERE id = :event_id

-- name: deliveries_by_event
SELECT seq FROM deliveries WHERE event_seq IN (SELECT value FROM json_each(:events))

-- name: deliveries_by_id
SELECT seq FROM deliveries WHERE id IN (SELECT value FROM json_each(:ids))

-- name: count_seldom
-- Events of the types that are not everywhere, as far as there are not more of one than `most`.
SELECT value, (SELECT count(*) FROM (
    SELECT 1 FROM events INDEXED BY events_seldom WHERE type <> 'task.completed' AND type = value LIMIT :most))
FROM json_each(:types)

-- name: deliveries_by_type
-- Of events of a type that is not everywhere.
SELECT d.seq FROM (
    SELECT seq FROM events INDEXED BY events_seldom WHERE type <> 'task.completed' AND type = :type) e
CROSS JOIN deliveries d ON d.event_seq = e.seq

-- name: matching
-- CROSS JOIN: in the order of the deliveries, so that a LIMIT ends it early.
SELECT d.seq, d.id, d.state FROM deliveries d CROSS JOIN events e ON e.seq = d.event_seq
WHERE d.seq < :below
  AND (:provider IS NULL OR e.provider = :provider) AND (:type IS NULL OR e.type = :type)
  AND d.state IN (SELECT value FROM json_each(:states)) AND (:handler IS NULL OR d.handler = :handler)
  AND (:before IS NULL OR d.created_at < :before)
  AND (:text IS NULL OR instr(lower(coalesce(d.reason, '')), lower(:text)) > 0)
  AND (NOT :latest OR NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.event_seq = d.event_seq AND o.handler = d.handler
                                  AND o.run > d.run))
ORDER BY d.seq DESC LIMIT :limit

-- name: matching_among
-- The same of some, which were found by a name.
SELECT d.seq, d.id, d.state FROM deliveries d CROSS JOIN events e ON e.seq = d.event_seq
WHERE d.seq IN (SELECT value FROM json_each(:among)) AND d.seq < :below
  AND (:provider IS NULL OR e.provider = :provider) AND (:type IS NULL OR e.type = :type)
  AND d.state IN (SELECT value FROM json_each(:states)) AND (:handler IS NULL OR d.handler = :handler)
  AND (:before IS NULL OR d.created_at < :before)
  AND (:text IS NULL OR instr(lower(coalesce(d.reason, '')), lower(:text)) > 0)
  AND (NOT :latest OR NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.event_seq = d.event_seq AND o.handler = d.handler
                                  AND o.run > d.run))
ORDER BY d.seq DESC LIMIT :limit

-- name: unfinished_deliveries
-- What has not succeeded is found by the indexes that hold nothing else: a walk through millions that have succeeded
-- would come upon the few that were given up, or wait, at last.
SELECT seq FROM deliveries INDEXED BY deliveries_due WHERE :pending AND state = 'pending' AND parked = 0
UNION ALL SELECT seq FROM deliveries INDEXED BY deliveries_parked WHERE :pending AND state = 'pending' AND parked = 1
UNION ALL SELECT seq FROM deliveries INDEXED BY deliveries_running WHERE :running AND state = 'running'
UNION ALL SELECT seq FROM deliveries INDEXED BY deliveries_discarded WHERE :discarded AND state = 'discarded'
UNION ALL SELECT seq FROM deliveries INDEXED BY deliveries_cancelled WHERE :cancelled AND state = 'cancelled'
LIMIT :most
