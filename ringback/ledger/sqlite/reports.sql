-- Statements for people: read-only, on a connection of their own.

-- name: tasks
SELECT * FROM tasks WHERE :state IS NULL OR state = :state ORDER BY seq DESC LIMIT :limit

-- name: tasks_of_provider
SELECT * FROM tasks INDEXED BY tasks_provider
WHERE provider = :provider AND (:state IS NULL OR state = :state)
ORDER BY seq DESC LIMIT :limit

-- name: tasks_among
-- The same of some, which an index of few has found.
SELECT * FROM tasks
WHERE seq IN (SELECT value FROM json_each(:among))
  AND (:provider IS NULL OR provider = :provider) AND state = :state
ORDER BY seq DESC LIMIT :limit

-- name: tasks_lately
-- Of the newest ones, whatever their state is.
SELECT * FROM tasks
WHERE seq > (SELECT max(seq) FROM tasks) - :newest
  AND (:provider IS NULL OR provider = :provider) AND state = :state
ORDER BY seq DESC LIMIT :limit

-- name: pending_tasks
SELECT * FROM tasks WHERE seq IN (
    SELECT seq FROM tasks INDEXED BY tasks_pending
    WHERE state = 'pending' AND (:provider IS NULL OR provider = :provider) ORDER BY seq DESC LIMIT :limit)
ORDER BY seq DESC

-- name: processing_tasks
-- An open task has a time to be asked about.
SELECT * FROM tasks WHERE seq IN (
    SELECT seq FROM tasks INDEXED BY tasks_fetch_other
    WHERE fetch_at IS NOT NULL AND state <> 'submitted' AND state = 'processing'
      AND (:provider IS NULL OR provider = :provider) ORDER BY seq DESC LIMIT :limit)
ORDER BY seq DESC

-- name: submitted_tasks
-- What has such a time and is nothing else: the rows themselves, of which there may be many, are not looked at.
SELECT * FROM tasks WHERE seq IN (
    SELECT seq FROM tasks INDEXED BY tasks_fetch
    WHERE fetch_at IS NOT NULL AND (:provider IS NULL OR provider = :provider)
    EXCEPT SELECT seq FROM tasks INDEXED BY tasks_fetch_other WHERE fetch_at IS NOT NULL AND state <> 'submitted'
    ORDER BY seq DESC LIMIT :limit)
ORDER BY seq DESC

-- name: ended_tasks
-- A task ends by an event that says so, and of some types there are few.
SELECT tasks.seq FROM (
    SELECT task_id FROM events INDEXED BY events_seldom WHERE type <> 'task.completed' AND type = :type) said
CROSS JOIN tasks ON tasks.id = said.task_id

-- name: tasks_by_id
SELECT * FROM tasks
WHERE id IN (SELECT value FROM json_each(:ids))
  AND (:provider IS NULL OR provider = :provider) AND (:state IS NULL OR state = :state)
ORDER BY seq DESC LIMIT :limit

-- name: tasks_between
-- A page at a time: what follows goes on from the last one's time and id, so a row that is deleted meanwhile hides none.
SELECT * FROM tasks
WHERE created_at >= :since AND (created_at, id) < (:before, :below)
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

-- name: events_of_type
-- The same of a type that is not everywhere, by the index of those.
SELECT * FROM events INDEXED BY events_seldom
WHERE type <> 'task.completed' AND type = :type AND (:provider IS NULL OR provider = :provider)
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

-- name: sizes
-- About how many rows there are, never fewer than there are; and whether a sum is to be scaled to that. What is counted
-- below is taken from runs of 64 rows, of which every so-many-th is read (`every`; with 1 it is all of them): where nothing of
-- it is in memory, it is their number that takes the time.
SELECT 'tasks', (SELECT max(seq) FROM tasks) - (SELECT min(seq) FROM tasks) + 1, false
UNION ALL SELECT 'events', (SELECT max(seq) FROM events) - (SELECT min(seq) FROM events) + 1, false
UNION ALL SELECT 'callbacks', (SELECT max(seq) FROM callbacks) - (SELECT min(seq) FROM callbacks) + 1, false
UNION ALL SELECT 'deliveries', (SELECT max(seq) FROM deliveries) - (SELECT min(seq) FROM deliveries) + 1, false
UNION ALL SELECT 'attempts', (SELECT max(seq) FROM attempts) - (SELECT min(seq) FROM attempts) + 1, false

-- name: count_tasks
WITH RECURSIVE run (begin) AS (
    SELECT min(seq) / (64 * :every) * (64 * :every) FROM tasks
    UNION ALL SELECT begin + 64 * :every FROM run WHERE begin + 64 * :every <= (SELECT max(seq) FROM tasks))
SELECT provider, state, count(*), sum(callbacks),
       sum(settled_by = 'poll'), sum(settled_by = 'poll' AND url_key IS NOT NULL)
FROM run CROSS JOIN tasks ON seq >= begin AND seq < begin + 64 GROUP BY provider, state

-- name: count_open
-- Open tasks, as the lists find them.
SELECT 'submitted', (SELECT count(*) FROM tasks INDEXED BY tasks_fetch WHERE fetch_at IS NOT NULL) - (
    SELECT count(*) FROM tasks INDEXED BY tasks_fetch_other WHERE fetch_at IS NOT NULL AND state <> 'submitted')
UNION ALL SELECT 'processing', count(*) FROM tasks INDEXED BY tasks_fetch_other
          WHERE fetch_at IS NOT NULL AND state <> 'submitted' AND state = 'processing'
UNION ALL SELECT 'pending', count(*) FROM tasks INDEXED BY tasks_pending WHERE state = 'pending'
UNION ALL SELECT state, count(*) FROM tasks
          WHERE seq > (SELECT max(seq) FROM tasks) - :newest AND fetch_at IS NULL
            AND (state = 'submitted' OR state = 'processing') GROUP BY state

-- name: awaited
-- Those that have a time to be asked about, are pending, or are among the newest: no open task is anything else.
SELECT url_key, count(*) FROM (
    SELECT seq FROM tasks WHERE seq > (SELECT max(seq) FROM tasks) - :newest
    UNION SELECT seq FROM tasks INDEXED BY tasks_fetch WHERE fetch_at IS NOT NULL
    UNION SELECT seq FROM tasks INDEXED BY tasks_pending WHERE state = 'pending') CROSS JOIN tasks USING (seq)
WHERE settled_at IS NULL AND url_key IS NOT NULL GROUP BY url_key

-- name: unknown_sends
SELECT count(*) FROM tasks INDEXED BY tasks_pending
WHERE state = 'pending' AND sent_at IS NOT NULL AND resend_at IS NULL

-- name: count_events
-- Requests that belong to no task are not in the tasks' counters.
WITH RECURSIVE run (begin) AS (
    SELECT min(seq) / (64 * :every) * (64 * :every) FROM events
    UNION ALL SELECT begin + 64 * :every FROM run WHERE begin + 64 * :every <= (SELECT max(seq) FROM events))
SELECT type, count(*), sum(duplicates), sum(standing = 'contradicted'),
       sum(CASE WHEN task_id IS NULL AND source = 'callback' THEN 1 + duplicates ELSE 0 END)
FROM run CROSS JOIN events ON seq >= begin AND seq < begin + 64 GROUP BY type

-- name: count_waiting
SELECT count(*) FROM events INDEXED BY events_waiting WHERE fanned_out_at IS NULL AND standing = 'accepted'

-- name: count_callbacks
WITH RECURSIVE run (begin) AS (
    SELECT min(seq) / (64 * :every) * (64 * :every) FROM callbacks
    UNION ALL SELECT begin + 64 * :every FROM run WHERE begin + 64 * :every <= (SELECT max(seq) FROM callbacks))
SELECT verdict, count(*) FROM run CROSS JOIN callbacks ON seq >= begin AND seq < begin + 64 GROUP BY verdict

-- name: count_deliveries
WITH RECURSIVE run (begin) AS (
    SELECT min(seq) / (64 * :every) * (64 * :every) FROM deliveries
    UNION ALL SELECT begin + 64 * :every FROM run WHERE begin + 64 * :every <= (SELECT max(seq) FROM deliveries))
SELECT state, count(*) FROM run CROSS JOIN deliveries ON seq >= begin AND seq < begin + 64 GROUP BY state

-- name: count_given_up
-- Deliveries that ended without success, as far as there are not more than `most`.
SELECT 'discarded', count(*) FROM (
    SELECT 1 FROM deliveries INDEXED BY deliveries_discarded WHERE state = 'discarded' LIMIT :most)
UNION ALL SELECT 'cancelled', count(*) FROM (
    SELECT 1 FROM deliveries INDEXED BY deliveries_cancelled WHERE state = 'cancelled' LIMIT :most)

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
WITH RECURSIVE run (begin) AS (
    SELECT min(seq) / (64 * :every) * (64 * :every) FROM attempts
    UNION ALL SELECT begin + 64 * :every FROM run WHERE begin + 64 * :every <= (SELECT max(seq) FROM attempts))
SELECT outcome, count(*) FROM run CROSS JOIN attempts ON seq >= begin AND seq < begin + 64 GROUP BY outcome

-- name: count_rejections
SELECT provider, reason, sum(count), sum(CASE WHEN day >= :since THEN count ELSE 0 END)
FROM rejections GROUP BY provider, reason

-- name: url_keys
SELECT fingerprint FROM url_keys ORDER BY first_seen_at DESC, rowid DESC

-- name: handlers
SELECT name, seen_at FROM handlers ORDER BY name

-- name: processes
SELECT * FROM processes WHERE seen_at >= :since OR dead_at >= :now ORDER BY role, started_at
