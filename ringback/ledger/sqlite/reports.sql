-- Statements for people: read-only, on a connection of their own.

-- name: tasks
SELECT * FROM tasks
WHERE (:provider IS NULL OR provider = :provider) AND (:state IS NULL OR state = :state)
ORDER BY seq DESC LIMIT :limit

-- name: tasks_by_id
SELECT * FROM tasks
WHERE id IN (SELECT value FROM json_each(:ids))
  AND (:provider IS NULL OR provider = :provider) AND (:state IS NULL OR state = :state)
ORDER BY seq DESC LIMIT :limit

-- name: tasks_between
-- A page at a time: what follows goes on from the last one's time and id, so a row that is deleted meanwhile hides none.
SELECT * FROM tasks
WHERE created_at >= :since AND (:before IS NULL OR (created_at, id) < (:before, :below))
  AND (:provider IS NULL OR provider = :provider) AND (:state IS NULL OR state = :state)
ORDER BY created_at DESC, id DESC LIMIT :limit

-- name: task_by_reference
-- Our id, the user's key, or the provider's id; ours first where two fit. One provider after the other by their index:
-- to ask for all of them with DISTINCT would read every task.
WITH RECURSIVE of (provider) AS (
    SELECT (SELECT provider FROM tasks WHERE provider_id IS NOT NULL ORDER BY provider LIMIT 1)
    UNION ALL
    SELECT (SELECT provider FROM tasks WHERE provider_id IS NOT NULL AND tasks.provider > of.provider
            ORDER BY provider LIMIT 1)
    FROM of WHERE provider IS NOT NULL)
SELECT * FROM (
    SELECT *, 1 AS preference FROM tasks WHERE id = :reference
    UNION ALL SELECT *, 2 FROM tasks WHERE key = :reference
    UNION ALL SELECT tasks.*, 3 FROM of CROSS JOIN tasks
              WHERE tasks.provider = of.provider AND tasks.provider_id = :reference)
ORDER BY preference LIMIT 1

-- name: events
SELECT * FROM events
WHERE (:provider IS NULL OR provider = :provider) AND (:type IS NULL OR type = :type)
ORDER BY seq DESC LIMIT :limit

-- name: events_of_one_task
-- The same of one task, in the order of a list.
SELECT * FROM events WHERE seq IN (
    SELECT seq FROM events WHERE fact_key > :task_id || ':' AND fact_key < :task_id || ';'
    UNION ALL SELECT seq FROM events WHERE fact_key IS NULL AND task_id = :task_id)
  AND (:provider IS NULL OR provider = :provider) AND (:type IS NULL OR type = :type)
ORDER BY seq DESC LIMIT :limit

-- name: events_by_id
SELECT * FROM events
WHERE id IN (SELECT value FROM json_each(:ids)) AND (:provider IS NULL OR provider = :provider)
  AND (:type IS NULL OR type = :type) AND (:task_id IS NULL OR task_id = :task_id)
ORDER BY seq DESC LIMIT :limit

-- name: events_of_task
-- Facts are found by their key, which begins with the task, the rest by an index of its own.
SELECT * FROM events WHERE seq IN (
    SELECT seq FROM events WHERE fact_key > :task_id || ':' AND fact_key < :task_id || ';'
    UNION ALL SELECT seq FROM events WHERE fact_key IS NULL AND task_id = :task_id)
ORDER BY seq

-- name: children_of_task
SELECT * FROM tasks WHERE parent = :task_id ORDER BY seq

-- name: callbacks_of_task
SELECT c.verdict, c.reason, c.trust, c.task_id, c.event_id, c.received_at, c.headers,
       coalesce(c.body, e.body, x'') AS body
FROM callbacks c LEFT JOIN events e ON e.id = c.event_id
WHERE c.task_id = :task_id ORDER BY c.seq

-- name: deliveries
SELECT d.*, e.id AS event_id, e.type AS event_type, e.provider AS event_provider, e.task_id AS event_task,
       (SELECT o.id FROM deliveries o WHERE o.event_seq = d.event_seq AND o.handler = d.handler AND o.run > d.run
        ORDER BY o.run DESC LIMIT 1) AS replayed_as
FROM deliveries d JOIN events e ON e.seq = d.event_seq
WHERE d.seq IN (SELECT value FROM json_each(:deliveries)) ORDER BY d.seq DESC

-- name: attempts
SELECT a.*, d.id AS delivery_id FROM attempts a JOIN deliveries d ON d.seq = a.delivery_seq
WHERE d.seq IN (SELECT value FROM json_each(:deliveries)) ORDER BY a.seq

-- name: open_attempts
-- What runs is written down in its delivery.
SELECT attempt AS id, id AS delivery_id, begun AS number, worker, started_at, NULL AS finished_at, NULL AS outcome,
       NULL AS error, NULL AS traceback
FROM deliveries WHERE seq IN (SELECT value FROM json_each(:deliveries)) AND state = 'running'

-- name: count_tasks
SELECT provider, state, count(*), sum(callbacks),
       sum(settled_by = 'poll'), sum(settled_by = 'poll' AND url_key IS NOT NULL),
       sum(state = 'pending' AND sent_at IS NOT NULL AND resend_at IS NULL)
FROM tasks GROUP BY provider, state

-- name: count_events
SELECT type, count(*), sum(duplicates), sum(standing = 'contradicted'), sum(conflict IS NOT NULL AND task_id IS NULL),
       sum(fanned_out_at IS NULL AND standing = 'accepted')
FROM events GROUP BY type

-- name: count_callbacks
SELECT verdict, count(*) FROM callbacks GROUP BY verdict

-- name: count_taskless
-- Requests that belong to no task are not in the tasks' counters.
SELECT coalesce(sum(1 + duplicates), 0) FROM events WHERE task_id IS NULL AND source = 'callback'

-- name: count_deliveries
SELECT state, count(*) FROM deliveries GROUP BY state

-- name: queues
-- What each handler has before it, from the partial indexes alone: however much is settled, it costs nothing.
-- A run that was replayed is settled history: of the discarded ones the latest run counts.
SELECT handler, 'pending', sum(waiting), min(due_at) FROM (
    SELECT handler, count(*) AS waiting, min(due_at) AS due_at FROM deliveries INDEXED BY deliveries_due
    WHERE state = 'pending' AND parked = 0 GROUP BY handler
    UNION ALL
    SELECT handler, count(*), min(due_at) FROM deliveries INDEXED BY deliveries_parked
    WHERE state = 'pending' AND parked = 1 GROUP BY handler)
GROUP BY handler
UNION ALL
SELECT handler, 'running', count(*), NULL FROM deliveries INDEXED BY deliveries_running
WHERE state = 'running' GROUP BY handler
UNION ALL
SELECT d.handler, 'discarded', count(*), NULL FROM deliveries d INDEXED BY deliveries_discarded
WHERE d.state = 'discarded' AND NOT EXISTS (
    SELECT 1 FROM deliveries o WHERE o.event_seq = d.event_seq AND o.handler = d.handler AND o.run > d.run)
GROUP BY d.handler

-- name: count_attempts
SELECT outcome, count(*) FROM attempts GROUP BY outcome

-- name: count_rejections
SELECT provider, reason, sum(count), sum(CASE WHEN day >= :since THEN count ELSE 0 END)
FROM rejections GROUP BY provider, reason

-- name: open_by_key
SELECT url_key, count(*) FROM tasks WHERE url_key IS NOT NULL AND settled_at IS NULL GROUP BY url_key

-- name: url_keys
SELECT fingerprint FROM url_keys ORDER BY first_seen_at DESC, rowid DESC

-- name: handlers
SELECT name, seen_at FROM handlers ORDER BY name

-- name: orphaned
SELECT d.handler, count(*) FROM deliveries d LEFT JOIN handlers h ON h.name = d.handler
WHERE d.state = 'pending' AND (h.seen_at IS NULL OR h.seen_at < :before) GROUP BY d.handler

-- name: processes
SELECT * FROM processes WHERE seen_at >= :since ORDER BY role, started_at
