-- Statements of retention. The lists are found on the connection that cannot write, and looked at again inside the
-- transaction that takes something away.

-- name: settled_tasks
-- Oldest first, from where the last step came to; nothing ends before it was made.
SELECT created_at, seq FROM tasks
WHERE pruned = %(level)s AND created_at < %(before)s AND settled_at < %(before)s
  AND (created_at, seq) > (%(moment)s, %(seq)s)
ORDER BY created_at, seq LIMIT %(limit)s

-- name: tasks_to_prune
-- With whether its parent's events may be replayed: then the key under which it was submitted must still be there.
-- A subquery where EXISTS would do: of that, PostgreSQL may make a hash of the whole table.
SELECT seq, id, provider, state, pruned, settled_at, fetch_at IS NOT NULL,
       coalesce((SELECT p.pruned < 2 FROM tasks p WHERE p.id = tasks.parent), false)
FROM tasks WHERE seq = ANY (ARRAY(SELECT json_array_elements_text(%(seqs)s)::bigint)) AND settled_at IS NOT NULL

-- name: events_to_prune
-- All events of these tasks, with what their deliveries say about them: how often nothing is settled yet, and the last
-- time anything was.
SELECT given.value, e.seq, e.last_seen_at, coalesce(d.settled_at, 0),
       (SELECT count(*) FROM waiting w WHERE w.event_seq = e.seq) + d.unsettled
FROM json_array_elements_text(%(tasks)s) given (value)
CROSS JOIN LATERAL (
    SELECT event_seq FROM facts WHERE key > given.value || ':' AND key < given.value || ';' OFFSET 0) f
CROSS JOIN LATERAL (SELECT * FROM events WHERE seq = f.event_seq LIMIT 1) e
CROSS JOIN LATERAL (
    SELECT max(settled_at) AS settled_at, count(*) - count(settled_at) AS unsettled
    FROM deliveries WHERE event_seq = f.event_seq) d

-- name: lock_tasks
-- With their events, in that order: nobody may add to them until the commit.
WITH locked AS MATERIALIZED (
    SELECT id FROM tasks WHERE seq = ANY (ARRAY(SELECT json_array_elements_text(%(seqs)s)::bigint))
    ORDER BY id FOR UPDATE)
SELECT e.seq FROM (
    SELECT f.event_seq FROM locked
    CROSS JOIN LATERAL (
        SELECT event_seq FROM facts WHERE key > locked.id || ':' AND key < locked.id || ';' OFFSET 0) f
    ORDER BY f.event_seq) theirs
CROSS JOIN LATERAL (SELECT seq FROM events WHERE seq = theirs.event_seq FOR UPDATE) e

-- name: lock_events
SELECT e.seq FROM (SELECT value::bigint AS seq FROM json_array_elements_text(%(seqs)s) ORDER BY 1) given
CROSS JOIN LATERAL (SELECT seq FROM events WHERE seq = given.seq FOR UPDATE) e

-- name: requests_heard
-- When the last request was kept for each of these tasks.
SELECT task_id, max(received_at) FROM callbacks
WHERE task_id = ANY (ARRAY(SELECT json_array_elements_text(%(tasks)s)))
GROUP BY task_id

-- name: other_events
-- Those that are about no task.
SELECT received_at, seq FROM events
WHERE task_id IS NULL AND pruned = %(level)s AND received_at < %(before)s AND (received_at, seq) > (%(moment)s, %(seq)s)
ORDER BY received_at, seq LIMIT %(limit)s

-- name: other_events_to_prune
SELECT e.seq, e.id, e.provider, e.pruned, greatest(e.last_seen_at, coalesce(d.settled_at, 0)),
       (SELECT count(*) FROM waiting w WHERE w.event_seq = e.seq) + d.unsettled
FROM json_array_elements_text(%(seqs)s)
CROSS JOIN LATERAL (SELECT * FROM events WHERE seq = value::bigint LIMIT 1) e
CROSS JOIN LATERAL (
    SELECT max(settled_at) AS settled_at, count(*) - count(settled_at) AS unsettled
    FROM deliveries WHERE event_seq = e.seq) d

-- name: old_requests
-- Whose bodies are still there. Those of a task that is known go with it, the others by themselves.
SELECT c.received_at, c.seq, (SELECT tasks.seq FROM tasks WHERE tasks.id = c.task_id) IS NOT NULL FROM callbacks c
WHERE c.body IS NOT NULL AND c.received_at < %(before)s AND (c.received_at, c.seq) > (%(moment)s, %(seq)s)
ORDER BY c.received_at, c.seq LIMIT %(limit)s

-- name: drop_old_requests
DELETE FROM callbacks WHERE seq = ANY (ARRAY(SELECT json_array_elements_text(%(seqs)s)::bigint))
    AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = callbacks.task_id)

-- name: old_rejections
SELECT count(*) FROM rejections WHERE day < %(day)s

-- name: drop_rejections
DELETE FROM rejections WHERE day < %(day)s

-- name: empty_event_bodies
-- One that has lost all but its keys stays so, although news made its task whole again: it must not be replayed.
UPDATE events SET body = ''::bytea, headers = '[]', pruned = greatest(pruned, %(level)s)
WHERE seq = ANY (ARRAY(SELECT json_array_elements_text(%(events)s)::bigint))
  AND seq >= (SELECT min(value::bigint) FROM json_array_elements_text(%(events)s))
  AND seq <= (SELECT max(value::bigint) FROM json_array_elements_text(%(events)s))

-- name: empty_requests_of_tasks
UPDATE callbacks SET body = NULL, headers = '[]' WHERE task_id = ANY (ARRAY(SELECT json_array_elements_text(%(tasks)s)))

-- name: empty_requests_of_events
-- The request that made an event about no task; its body was in the event.
UPDATE callbacks SET headers = '[]' WHERE event_id = ANY (ARRAY(SELECT json_array_elements_text(%(ids)s)))

-- name: drop_attempts
DELETE FROM attempts WHERE delivery_seq = ANY (ARRAY(
    SELECT seq FROM deliveries WHERE event_seq = ANY (ARRAY(SELECT json_array_elements_text(%(events)s)::bigint))))

-- name: drop_deliveries
DELETE FROM deliveries WHERE event_seq = ANY (ARRAY(SELECT json_array_elements_text(%(events)s)::bigint))

-- name: drop_results
-- What was stored stays where it is. With an event that goes whole, these go by themselves.
DELETE FROM results WHERE event_seq = ANY (ARRAY(SELECT json_array_elements_text(%(events)s)::bigint))

-- name: drop_requests_of_tasks
DELETE FROM callbacks WHERE task_id = ANY (ARRAY(SELECT json_array_elements_text(%(tasks)s)))

-- name: drop_requests_of_events
DELETE FROM callbacks WHERE event_id = ANY (ARRAY(SELECT json_array_elements_text(%(ids)s)))

-- name: empty_events
-- The keys stay, and what tells how often the fact came. Such an event lies below zero, in the partition of those (its
-- seq is lowered by 2^62): so nothing is left in that of its week, which can be dropped. When it was fanned out is told
-- by its deliveries, which go after it. Its steps go: it is never replayed.
WITH no_steps AS (
    DELETE FROM steps WHERE event_seq = ANY (ARRAY(SELECT json_array_elements_text(%(events)s)::bigint))),
emptied AS (
    UPDATE events SET body = ''::bytea, headers = '[]', results = '[]', error = NULL, pruned = %(level)s,
                      fanned_out_at = coalesce(
                          fanned_out_at, (SELECT min(created_at) FROM deliveries WHERE event_seq = events.seq)),
                      seq = CASE WHEN seq > 0 THEN seq - 4611686018427387904 ELSE seq END
    WHERE seq = ANY (ARRAY(SELECT json_array_elements_text(%(events)s)::bigint))
      AND seq >= (SELECT min(value::bigint) FROM json_array_elements_text(%(events)s))
      AND seq <= (SELECT max(value::bigint) FROM json_array_elements_text(%(events)s))
    RETURNING id, task_id, event_key, fact_key)
UPDATE facts SET event_seq = event_seq - 4611686018427387904
WHERE event_seq > 0 AND key = ANY (ARRAY(
    SELECT unnest(ARRAY[id, event_key, coalesce(fact_key, task_id || ':' || id)]) FROM emptied))

-- name: mark_tasks
UPDATE tasks SET pruned = %(level)s WHERE seq = ANY (ARRAY(SELECT json_array_elements_text(%(seqs)s)::bigint))

-- name: empty_tasks
-- The user's key stays, and what it was for: the same request under it must not buy a second time.
UPDATE tasks SET form = NULL, metadata = '{}', send_note = NULL, pruned = %(level)s
WHERE seq = ANY (ARRAY(SELECT json_array_elements_text(%(seqs)s)::bigint))

-- name: drop_events
-- With all that only belongs to them.
WITH no_steps AS (
    DELETE FROM steps WHERE event_seq = ANY (ARRAY(SELECT json_array_elements_text(%(events)s)::bigint))),
no_results AS (
    DELETE FROM results WHERE event_seq = ANY (ARRAY(SELECT json_array_elements_text(%(events)s)::bigint))),
gone AS (
    DELETE FROM events
    WHERE seq = ANY (ARRAY(SELECT json_array_elements_text(%(events)s)::bigint))
      AND seq >= (SELECT min(value::bigint) FROM json_array_elements_text(%(events)s))
      AND seq <= (SELECT max(value::bigint) FROM json_array_elements_text(%(events)s))
    RETURNING id, task_id, event_key, fact_key)
DELETE FROM facts WHERE key = ANY (ARRAY(
    SELECT unnest(ARRAY[id, event_key, coalesce(fact_key, task_id || ':' || id)]) FROM gone))

-- name: drop_tasks
WITH unasked AS (
    DELETE FROM fetches WHERE task_seq = ANY (ARRAY(SELECT json_array_elements_text(%(seqs)s)::bigint)))
DELETE FROM tasks WHERE seq = ANY (ARRAY(SELECT json_array_elements_text(%(seqs)s)::bigint))
