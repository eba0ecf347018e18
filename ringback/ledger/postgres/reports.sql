-- Statements for people: read-only, on connections of their own, each question in one snapshot.
--
-- Lists of events are ordered by `seq & 4611686018427387903`, which is the `seq` that an emptied event had before it was
-- lowered by 2^62.

-- name: tasks
SELECT * FROM tasks WHERE %(state)s::text IS NULL OR state = %(state)s ORDER BY seq DESC LIMIT %(limit)s

-- name: tasks_of_provider
SELECT * FROM tasks WHERE provider = %(provider)s AND (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY seq DESC LIMIT %(limit)s

-- name: tasks_among
-- The same of some, which an index of few has found.
SELECT * FROM tasks
WHERE seq = ANY (ARRAY(SELECT json_array_elements_text(%(among)s)::bigint))
  AND (%(provider)s::text IS NULL OR provider = %(provider)s) AND state = %(state)s
ORDER BY seq DESC LIMIT %(limit)s

-- name: tasks_lately
-- Of the newest ones, whatever their state is.
SELECT * FROM (SELECT * FROM tasks ORDER BY seq DESC LIMIT %(newest)s) newest
WHERE (%(provider)s::text IS NULL OR provider = %(provider)s) AND state = %(state)s
ORDER BY seq DESC LIMIT %(limit)s

-- name: pending_tasks
-- A span of one value: with an equation, the planner may walk through all tasks in the order of `seq`, in the hope of soon
-- having enough.
SELECT * FROM tasks WHERE seq IN (
    SELECT seq FROM tasks
    WHERE stage BETWEEN 'pending' AND 'pending' AND (%(provider)s::text IS NULL OR provider = %(provider)s)
    ORDER BY stage DESC, seq DESC LIMIT %(limit)s)
ORDER BY seq DESC

-- name: processing_tasks
-- As pending ones.
SELECT * FROM tasks WHERE seq IN (
    SELECT seq FROM tasks
    WHERE stage BETWEEN 'processing' AND 'processing' AND (%(provider)s::text IS NULL OR provider = %(provider)s)
    ORDER BY stage DESC, seq DESC LIMIT %(limit)s)
ORDER BY seq DESC

-- name: submitted_tasks
-- An open task has a time to be asked about. What has one and is neither pending nor processing is hardly anything else, and
-- looked at one after the other, until there are enough.
SELECT t.* FROM (
    SELECT seq FROM (
        SELECT task_seq AS seq FROM fetches WHERE %(provider)s::text IS NULL OR provider = %(provider)s
        EXCEPT SELECT seq FROM tasks WHERE stage IS NOT NULL) asked
    ORDER BY seq DESC) found
CROSS JOIN LATERAL (SELECT * FROM tasks WHERE tasks.seq = found.seq AND state = 'submitted' LIMIT 1) t
ORDER BY found.seq DESC LIMIT %(limit)s

-- name: ended_tasks
-- A task ends by an event that says so, and of some types there are few. An index by state would have every callback
-- rewrite its task's entries in all of them.
SELECT tasks.seq FROM events CROSS JOIN LATERAL (SELECT seq FROM tasks WHERE id = events.task_id LIMIT 1) tasks
WHERE type <> 'task.completed' AND type = %(type)s

-- name: tasks_by_id
SELECT * FROM tasks
WHERE id = ANY (ARRAY(SELECT json_array_elements_text(%(ids)s)))
  AND (%(provider)s::text IS NULL OR provider = %(provider)s) AND (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY seq DESC LIMIT %(limit)s

-- name: tasks_between
-- A page at a time: what follows goes on from the last one's time and id, so a row that is deleted meanwhile hides none.
SELECT * FROM tasks
WHERE created_at >= %(since)s
  AND (created_at, id) < (%(before)s, %(below)s)
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
-- Whole events are walked through from the newest, then emptied ones, no further than to where the whole ones ended: so
-- each part is found by its index, and no more is looked at than if all lay in one order. When they were fanned out is
-- told by their first delivery, where there is one: of two columns of a name the first counts.
WITH whole AS MATERIALIZED (
    SELECT * FROM events
    WHERE seq >= 0 AND (%(provider)s::text IS NULL OR provider = %(provider)s)
      AND (%(type)s::text IS NULL OR type = %(type)s)
    ORDER BY seq DESC LIMIT %(limit)s),
emptied AS (
    SELECT * FROM events
    WHERE seq < 0 AND seq > (SELECT CASE WHEN count(*) = %(limit)s THEN min(seq) ELSE 0 END FROM whole) - 4611686018427387904
      AND (%(provider)s::text IS NULL OR provider = %(provider)s) AND (%(type)s::text IS NULL OR type = %(type)s)
    ORDER BY seq DESC LIMIT %(limit)s)
SELECT coalesce(e.fanned_out_at, (SELECT min(created_at) FROM deliveries WHERE event_seq = e.seq)) AS fanned_out_at, e.*
FROM (SELECT * FROM whole UNION ALL SELECT * FROM emptied) e
ORDER BY e.seq & 4611686018427387903 DESC LIMIT %(limit)s

-- name: events_of_type
-- The same of a type that is not everywhere, by the index of those.
WITH whole AS MATERIALIZED (
    SELECT * FROM events
    WHERE seq >= 0 AND type <> 'task.completed' AND type = %(type)s
      AND (%(provider)s::text IS NULL OR provider = %(provider)s)
    ORDER BY seq DESC LIMIT %(limit)s),
emptied AS (
    SELECT * FROM events
    WHERE seq < 0 AND seq > (SELECT CASE WHEN count(*) = %(limit)s THEN min(seq) ELSE 0 END FROM whole) - 4611686018427387904
      AND type <> 'task.completed' AND type = %(type)s AND (%(provider)s::text IS NULL OR provider = %(provider)s)
    ORDER BY seq DESC LIMIT %(limit)s)
SELECT coalesce(e.fanned_out_at, (SELECT min(created_at) FROM deliveries WHERE event_seq = e.seq)) AS fanned_out_at, e.*
FROM (SELECT * FROM whole UNION ALL SELECT * FROM emptied) e
ORDER BY e.seq & 4611686018427387903 DESC LIMIT %(limit)s

-- name: events_of_one_task
-- The same of one task, in the order of a list.
SELECT coalesce(e.fanned_out_at, (SELECT min(created_at) FROM deliveries WHERE event_seq = e.seq)) AS fanned_out_at, e.*
FROM facts f CROSS JOIN LATERAL (SELECT * FROM events WHERE seq = f.event_seq LIMIT 1) e
WHERE f.key > %(task_id)s || ':' AND f.key < %(task_id)s || ';'
  AND (%(provider)s::text IS NULL OR e.provider = %(provider)s) AND (%(type)s::text IS NULL OR e.type = %(type)s)
ORDER BY e.seq & 4611686018427387903 DESC LIMIT %(limit)s

-- name: events_by_id
SELECT coalesce(e.fanned_out_at, (SELECT min(created_at) FROM deliveries WHERE event_seq = e.seq)) AS fanned_out_at, e.*
FROM facts f CROSS JOIN LATERAL (SELECT * FROM events WHERE seq = f.event_seq LIMIT 1) e
WHERE f.key = ANY (ARRAY(SELECT json_array_elements_text(%(ids)s))) AND e.id = f.key
  AND (%(provider)s::text IS NULL OR e.provider = %(provider)s) AND (%(type)s::text IS NULL OR e.type = %(type)s)
  AND (%(task_id)s::text IS NULL OR e.task_id = %(task_id)s)
ORDER BY e.seq & 4611686018427387903 DESC LIMIT %(limit)s

-- name: events_of_task
SELECT coalesce(e.fanned_out_at, (SELECT min(created_at) FROM deliveries WHERE event_seq = e.seq)) AS fanned_out_at, e.*
FROM facts f CROSS JOIN LATERAL (SELECT * FROM events WHERE seq = f.event_seq LIMIT 1) e
WHERE f.key > %(task_id)s || ':' AND f.key < %(task_id)s || ';'
ORDER BY e.seq & 4611686018427387903

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

-- name: sizes
-- About how many rows there are, by what the server has counted and how many pages that was; and whether a sum is to be
-- scaled to that. What is counted below is taken from pages of which every so-many-th is read (`every`; with 1 it is all
-- of them), always the same ones.
SELECT name, (
    SELECT sum(CASE WHEN reltuples > 0 AND relpages > 0 THEN
               reltuples / relpages * (pg_relation_size(oid) / current_setting('block_size')::bigint) END)::bigint
    FROM pg_class WHERE relkind = 'r' AND (oid = to_regclass(name)
                    OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(name)))), true
FROM unnest(ARRAY['tasks', 'events', 'callbacks', 'deliveries', 'attempts']) name

-- name: count_tasks
SELECT provider, state, count(*), sum(callbacks)::bigint,
       count(*) FILTER (WHERE settled_by = 'poll'),
       count(*) FILTER (WHERE settled_by = 'poll' AND url_key IS NOT NULL)
FROM tasks TABLESAMPLE SYSTEM (100.0 / %(every)s) REPEATABLE (0) GROUP BY provider, state

-- name: count_open
-- Open tasks, as the lists find them; those that have a time to be asked about in one walk.
SELECT unnest(ARRAY['submitted', 'processing']), unnest(ARRAY[submitted, processing]) FROM (
    SELECT count(*) FILTER (WHERE state = 'submitted') AS submitted,
           count(*) FILTER (WHERE state = 'processing') AS processing
    FROM tasks WHERE seq = ANY (ARRAY(SELECT task_seq FROM fetches)) AND fetch_at IS NOT NULL) counted
UNION ALL SELECT 'pending', count(*) FROM tasks WHERE stage = 'pending'
UNION ALL SELECT state, count(*) FROM (SELECT state, fetch_at FROM tasks ORDER BY seq DESC LIMIT %(newest)s) newest
          WHERE fetch_at IS NULL AND (state = 'submitted' OR state = 'processing') GROUP BY state

-- name: awaited
-- Those that have a time to be asked about, are pending, or are among the newest: no open task is anything else.
SELECT url_key, count(*) FROM (
    (SELECT seq FROM tasks ORDER BY seq DESC LIMIT %(newest)s)
    UNION SELECT task_seq FROM fetches
    UNION SELECT seq FROM tasks WHERE stage = 'pending') found
CROSS JOIN LATERAL (SELECT url_key, settled_at FROM tasks WHERE seq = found.seq LIMIT 1) tasks
WHERE settled_at IS NULL AND url_key IS NOT NULL GROUP BY url_key

-- name: unknown_sends
SELECT count(*) FROM tasks WHERE stage = 'pending' AND sent_at IS NOT NULL AND resend_at IS NULL

-- name: count_events
-- Requests that belong to no task are not in the tasks' counters.
SELECT type, count(*), sum(duplicates)::bigint,
       count(*) FILTER (WHERE standing = 'contradicted'),
       sum(CASE WHEN task_id IS NULL AND source = 'callback' THEN 1 + duplicates ELSE 0 END)::bigint
FROM events TABLESAMPLE SYSTEM (100.0 / %(every)s) REPEATABLE (0) GROUP BY type

-- name: count_waiting
SELECT count(*) FROM waiting

-- name: count_callbacks
SELECT verdict, count(*)
FROM callbacks TABLESAMPLE SYSTEM (100.0 / %(every)s) REPEATABLE (0) GROUP BY verdict

-- name: count_deliveries
SELECT state, count(*)
FROM deliveries TABLESAMPLE SYSTEM (100.0 / %(every)s) REPEATABLE (0) GROUP BY state

-- name: count_given_up
-- Deliveries that ended without success, as far as there are not more than `most`.
SELECT 'discarded', count(*) FROM (SELECT 1 FROM deliveries WHERE state = 'discarded' LIMIT %(most)s) found
UNION ALL
SELECT 'cancelled', count(*) FROM (SELECT 1 FROM deliveries WHERE state = 'cancelled' LIMIT %(most)s) found

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
SELECT outcome, count(*)
FROM attempts TABLESAMPLE SYSTEM (100.0 / %(every)s) REPEATABLE (0) GROUP BY outcome

-- name: count_rejections
SELECT provider, reason, sum(count)::bigint, sum(CASE WHEN day >= %(since)s THEN count ELSE 0 END)::bigint
FROM rejections GROUP BY provider, reason

-- name: url_keys
SELECT fingerprint FROM url_keys ORDER BY first_seen_at DESC, seq DESC

-- name: handlers
SELECT name, seen_at FROM handlers ORDER BY name

-- name: processes
SELECT * FROM processes WHERE seen_at >= %(since)s OR dead_at >= %(now)s ORDER BY role, started_at
