-- Statements for people: read-only, on connections of their own, each question in one snapshot.

-- name: tasks
SELECT * FROM tasks
WHERE (%(provider)s::text IS NULL OR provider = %(provider)s) AND (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY seq DESC LIMIT %(limit)s

-- name: tasks_by_id
SELECT * FROM tasks
WHERE id = ANY (ARRAY(SELECT json_array_elements_text(%(ids)s)))
  AND (%(provider)s::text IS NULL OR provider = %(provider)s) AND (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY seq DESC LIMIT %(limit)s

-- name: tasks_between
-- A page at a time: what follows goes on from the last one's time and id, so a row that is deleted meanwhile hides none.
SELECT * FROM tasks
WHERE created_at >= %(since)s
  AND (%(before)s::bigint IS NULL OR (created_at, id) < (%(before)s, %(below)s))
  AND (%(provider)s::text IS NULL OR provider = %(provider)s) AND (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY created_at DESC, id DESC LIMIT %(limit)s

-- name: task_by_reference
-- Our id, the user's key, or the provider's id; ours first where two fit. One provider after the other by their index:
-- to ask for all of them with DISTINCT would read every task.
WITH RECURSIVE named (provider) AS (
    (SELECT provider FROM tasks WHERE provider_id IS NOT NULL ORDER BY provider LIMIT 1)
    UNION ALL
    SELECT (SELECT provider FROM tasks WHERE provider_id IS NOT NULL AND tasks.provider > named.provider
            ORDER BY provider LIMIT 1)
    FROM named WHERE provider IS NOT NULL)
SELECT * FROM (
    SELECT *, 1 AS preference FROM tasks WHERE id = %(reference)s
    UNION ALL SELECT *, 2 FROM tasks WHERE key = %(reference)s
    UNION ALL SELECT t.*, 3 FROM named
              CROSS JOIN LATERAL (SELECT * FROM tasks
                                  WHERE provider = named.provider AND provider_id = %(reference)s LIMIT 1) t) fitting
ORDER BY preference LIMIT 1

-- name: events
SELECT * FROM events
WHERE (%(provider)s::text IS NULL OR provider = %(provider)s) AND (%(type)s::text IS NULL OR type = %(type)s)
ORDER BY seq DESC LIMIT %(limit)s

-- name: events_of_one_task
-- The same of one task, in the order of a list.
SELECT e.* FROM facts f CROSS JOIN LATERAL (SELECT * FROM events WHERE seq = f.event_seq LIMIT 1) e
WHERE f.key > %(task_id)s || ':' AND f.key < %(task_id)s || ';'
  AND (%(provider)s::text IS NULL OR e.provider = %(provider)s) AND (%(type)s::text IS NULL OR e.type = %(type)s)
ORDER BY e.seq DESC LIMIT %(limit)s

-- name: events_by_id
SELECT e.* FROM facts f CROSS JOIN LATERAL (SELECT * FROM events WHERE seq = f.event_seq LIMIT 1) e
WHERE f.key = ANY (ARRAY(SELECT json_array_elements_text(%(ids)s))) AND e.id = f.key
  AND (%(provider)s::text IS NULL OR e.provider = %(provider)s) AND (%(type)s::text IS NULL OR e.type = %(type)s)
  AND (%(task_id)s::text IS NULL OR e.task_id = %(task_id)s)
ORDER BY e.seq DESC LIMIT %(limit)s

-- name: events_of_task
SELECT e.* FROM facts f CROSS JOIN LATERAL (SELECT * FROM events WHERE seq = f.event_seq LIMIT 1) e
WHERE f.key > %(task_id)s || ':' AND f.key < %(task_id)s || ';'
ORDER BY e.seq

-- name: children_of_task
SELECT * FROM tasks WHERE parent = %(task_id)s ORDER BY seq

-- name: callbacks_of_task
SELECT c.verdict, c.reason, c.trust, c.task_id, c.event_id, c.received_at, c.headers,
       coalesce(c.body, e.body, ''::bytea) AS body
FROM callbacks c LEFT JOIN LATERAL (SELECT event_seq FROM facts WHERE key = c.event_id LIMIT 1) f ON true
LEFT JOIN LATERAL (SELECT body FROM events WHERE seq = f.event_seq LIMIT 1) e ON true
WHERE c.task_id = %(task_id)s ORDER BY c.seq

-- name: deliveries
SELECT d.*, e.id AS event_id, e.type AS event_type, e.provider AS event_provider, e.task_id AS event_task,
       (SELECT o.id FROM deliveries o WHERE o.event_seq = d.event_seq AND o.handler = d.handler AND o.run > d.run
        ORDER BY o.run DESC LIMIT 1) AS replayed_as
FROM deliveries d
CROSS JOIN LATERAL (SELECT id, type, provider, task_id FROM events WHERE seq = d.event_seq LIMIT 1) e
WHERE d.seq = ANY (ARRAY(SELECT json_array_elements_text(%(deliveries)s)::bigint)) ORDER BY d.seq DESC

-- name: attempts
SELECT a.*, d.id AS delivery_id FROM deliveries d
CROSS JOIN LATERAL (SELECT * FROM attempts WHERE delivery_seq = d.seq OFFSET 0) a
WHERE d.seq = ANY (ARRAY(SELECT json_array_elements_text(%(deliveries)s)::bigint)) ORDER BY a.seq

-- name: open_attempts
-- What runs is written down in its delivery.
SELECT attempt AS id, id AS delivery_id, begun AS number, worker, started_at, NULL AS finished_at, NULL AS outcome,
       NULL AS error, NULL AS traceback
FROM deliveries
WHERE seq = ANY (ARRAY(SELECT json_array_elements_text(%(deliveries)s)::bigint)) AND state = 'running'

-- name: count_tasks
SELECT provider, state, count(*), sum(callbacks)::bigint,
       count(*) FILTER (WHERE settled_by = 'poll'),
       count(*) FILTER (WHERE settled_by = 'poll' AND url_key IS NOT NULL),
       count(*) FILTER (WHERE state = 'pending' AND sent_at IS NOT NULL AND resend_at IS NULL)
FROM tasks GROUP BY provider, state

-- name: count_events
SELECT type, count(*), sum(duplicates)::bigint, count(*) FILTER (WHERE standing = 'contradicted'),
       count(*) FILTER (WHERE conflict IS NOT NULL AND task_id IS NULL),
       count(*) FILTER (WHERE fanned_out_at IS NULL AND standing = 'accepted')
FROM events GROUP BY type

-- name: count_callbacks
SELECT verdict, count(*) FROM callbacks GROUP BY verdict

-- name: count_taskless
-- Requests that belong to no task are not in the tasks' counters.
SELECT coalesce(sum(1 + duplicates), 0)::bigint FROM events WHERE task_id IS NULL AND source = 'callback'

-- name: count_deliveries
SELECT state, count(*) FROM deliveries GROUP BY state

-- name: queues
-- What each handler has before it, from the partial indexes alone: however much is settled, it costs nothing.
-- A run that was replayed is settled history: of the discarded ones the latest run counts.
SELECT handler, 'pending', sum(waiting)::bigint, min(due_at) FROM (
    SELECT handler, count(*) AS waiting, min(due_at) AS due_at FROM deliveries
    WHERE state = 'pending' AND parked = 0 GROUP BY handler
    UNION ALL
    SELECT handler, count(*), min(due_at) FROM deliveries
    WHERE state = 'pending' AND parked = 1 GROUP BY handler) parts
GROUP BY handler
UNION ALL
SELECT handler, 'running', count(*), NULL FROM deliveries
WHERE state = 'running' GROUP BY handler
UNION ALL
SELECT d.handler, 'discarded', count(*), NULL FROM deliveries d
WHERE d.state = 'discarded' AND NOT EXISTS (
    SELECT 1 FROM deliveries o WHERE o.event_seq = d.event_seq AND o.handler = d.handler AND o.run > d.run)
GROUP BY d.handler

-- name: count_attempts
SELECT outcome, count(*) FROM attempts GROUP BY outcome

-- name: count_rejections
SELECT provider, reason, sum(count)::bigint, sum(CASE WHEN day >= %(since)s THEN count ELSE 0 END)::bigint
FROM rejections GROUP BY provider, reason

-- name: open_by_key
SELECT url_key, count(*) FROM tasks WHERE url_key IS NOT NULL AND settled_at IS NULL GROUP BY url_key

-- name: url_keys
SELECT fingerprint FROM url_keys ORDER BY first_seen_at DESC, seq DESC

-- name: handlers
SELECT name, seen_at FROM handlers ORDER BY name

-- name: orphaned
SELECT d.handler, count(*) FROM deliveries d LEFT JOIN handlers h ON h.name = d.handler
WHERE d.state = 'pending' AND (h.seen_at IS NULL OR h.seen_at < %(before)s) GROUP BY d.handler

-- name: processes
SELECT * FROM processes WHERE seen_at >= %(since)s ORDER BY role, started_at
