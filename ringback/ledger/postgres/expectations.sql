-- Statements about silence: how long tasks take, and which pushes never came.

-- name: newest_settled
-- As many rows as the limit says are read, by an index of what has settled, newest first. A task that settled by a push,
-- by the fetch that a hint asked for, or that had no push to wait for: of any other the time is that of our question.
SELECT provider, replace(form, '\u0000', '')::json ->> 'model', greatest(0, settled_at - accepted_at) FROM (
    SELECT provider, form, state, settled_by, settled_at, accepted_at, url_key, kept FROM tasks
    WHERE settled_at IS NOT NULL AND pruned = 0 ORDER BY settled_at DESC LIMIT %(most)s) newest
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
        SELECT id, provider, state, settled_by, settled_at, url_key, accepted_at, fetches, callbacks, form
        FROM tasks
        WHERE settled_at IS NOT NULL AND pruned = 0 AND settled_at >= %(since)s
        ORDER BY settled_at DESC LIMIT %(most)s) settled
    WHERE settled.url_key IS NOT NULL AND settled.accepted_at IS NOT NULL AND settled.settled_by <> 'submission'
      AND settled.state <> 'cancelled' AND (settled.settled_by <> 'ringback' OR settled.state = 'expired')
      AND (settled.state = 'expired'
           OR jsonb_typeof(replace(settled.form, '\u0000', '')::jsonb -> 'callback_events') IS DISTINCT FROM 'array'
           OR replace(settled.form, '\u0000', '')::jsonb -> 'callback_events' ? settled.state)) judged
GROUP BY provider, outcome

-- name: pushes_reach
-- When the oldest of them settled, where there are more than are looked at.
SELECT settled_at FROM tasks WHERE settled_at IS NOT NULL AND pruned = 0 AND settled_at >= %(since)s
ORDER BY settled_at DESC LIMIT 1 OFFSET %(most)s
