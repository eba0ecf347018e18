-- Statements about silence: how long tasks take, and which pushes never came. What settled lately is found by the events
-- that said so, in whose numbers the time is: an index by time of the tasks themselves would have every callback rewrite
-- its task's entries in all of them. At most ten times as many events are read as tasks are wanted, and from a minute
-- before the time asked for. A task settled when the event came that said so.

-- name: newest_settled
-- A task that settled by a push, by the fetch that a hint asked for, or that had no push to wait for: of any other the
-- time is that of our question.
SELECT provider, replace(form, '\u0000', '')::json ->> 'model', greatest(0, settled_at - accepted_at) FROM (
    SELECT t.* FROM (
        SELECT id, task_id, type, seq FROM events WHERE seq > 0 ORDER BY seq DESC LIMIT 10 * %(most)s) lately
    CROSS JOIN LATERAL (
        SELECT * FROM tasks WHERE id = lately.task_id AND settled_event = lately.id AND pruned = 0 LIMIT 1) t
    WHERE type = 'task.completed' OR type = 'task.failed' OR type = 'task.cancelled' OR type = 'task.expired'
    ORDER BY lately.seq DESC LIMIT %(most)s) newest
WHERE state = 'completed' AND accepted_at IS NOT NULL AND form IS NOT NULL
  AND (settled_by = 'callback' OR (settled_by = 'poll' AND (url_key IS NULL OR kept > 0)))

-- name: expectations
SELECT provider, model, count, median, p95, learned_at FROM expectations ORDER BY provider, model

-- name: learn
INSERT INTO expectations (provider, model, count, median, p95, learned_at)
SELECT value ->> 0, value ->> 1, (value ->> 2)::bigint, (value ->> 3)::bigint, (value ->> 4)::bigint,
       (value ->> 5)::bigint
FROM jsonb_array_elements(%(rows)s) ORDER BY 1, 2
ON CONFLICT (provider, model) DO UPDATE SET count = excluded.count, median = excluded.median, p95 = excluded.p95,
                          learned_at = excluded.learned_at

-- name: pushes
-- What became of the pushes that were expected, for the newest tasks that settled since then: as many rows as the limit
-- says are read. Where a poll was first, a request that came for the task tells whether its push came after all; a step
-- on the way does not. No push is expected of a task that was cancelled, or of an end that it was not to be told of.
SELECT provider, outcome, count(*), count(*) FILTER (WHERE settled_by = 'poll'),
       count(*) FILTER (WHERE settled_by = 'ringback')
FROM (
    SELECT settled.provider, settled.settled_by, CASE
        WHEN settled.settled_by = 'callback' THEN CASE settled.fetches WHEN 0 THEN 'on_time' ELSE 'late' END
        WHEN settled.callbacks = 0 THEN 'missing'
        WHEN EXISTS (SELECT 1 FROM callbacks c WHERE c.task_id = settled.id AND c.received_at <= settled.settled_at)
            THEN CASE WHEN settled.fetches <= 1 THEN 'on_time' ELSE 'late' END
        WHEN EXISTS (SELECT 1 FROM callbacks c WHERE c.task_id = settled.id) THEN 'late'
        WHEN EXISTS (
            SELECT 1 FROM facts f
            CROSS JOIN LATERAL (SELECT * FROM events WHERE seq = f.event_seq LIMIT 1) e
            WHERE f.key > settled.id || ':' AND f.key < settled.id || ';' AND e.fact_key IS NOT NULL
              AND e.type <> 'task.progressed' AND (e.source = 'callback' OR e.duplicates > 0))
            THEN 'late'
        ELSE 'missing' END AS outcome
    FROM (
        SELECT t.* FROM (
            SELECT id, task_id, type, seq FROM events
            WHERE seq > greatest(0, (%(since)s / 1000 - 60000) << 20) AND received_at >= %(since)s
            ORDER BY seq DESC LIMIT 10 * %(most)s) lately
        CROSS JOIN LATERAL (
            SELECT * FROM tasks WHERE id = lately.task_id AND settled_event = lately.id AND pruned = 0 LIMIT 1) t
        WHERE type = 'task.completed' OR type = 'task.failed' OR type = 'task.cancelled' OR type = 'task.expired'
        ORDER BY lately.seq DESC LIMIT %(most)s) settled
    WHERE settled.url_key IS NOT NULL AND settled.accepted_at IS NOT NULL AND settled.settled_by <> 'submission'
      AND settled.state <> 'cancelled' AND (settled.settled_by <> 'ringback' OR settled.state = 'expired')
      AND (settled.state = 'expired'
           OR jsonb_typeof(replace(settled.form, '\u0000', '')::jsonb -> 'callback_events') IS DISTINCT FROM 'array'
           OR replace(settled.form, '\u0000', '')::jsonb -> 'callback_events' ? settled.state)) judged
GROUP BY provider, outcome

-- name: pushes_reach
-- When the oldest of them settled, where there are more than are looked at; or when the last event came that was read,
-- where there were too many between them.
WITH lately AS MATERIALIZED (
    SELECT id, task_id, type, seq, received_at FROM events
    WHERE seq > greatest(0, (%(since)s / 1000 - 60000) << 20) AND received_at >= %(since)s
    ORDER BY seq DESC LIMIT 10 * %(most)s),
settled AS MATERIALIZED (
    SELECT t.settled_at FROM lately
    CROSS JOIN LATERAL (
        SELECT * FROM tasks WHERE id = lately.task_id AND settled_event = lately.id AND pruned = 0 LIMIT 1) t
    WHERE type = 'task.completed' OR type = 'task.failed' OR type = 'task.cancelled' OR type = 'task.expired'
    ORDER BY lately.seq DESC LIMIT 1 + %(most)s)
(SELECT min(settled_at) FROM settled HAVING count(*) > %(most)s)
UNION ALL (SELECT min(received_at) FROM lately
           HAVING count(*) = 10 * %(most)s AND (SELECT count(*) FROM settled) <= %(most)s)
