-- Statements of retention. The lists are found on the connection that cannot write, and looked at again inside the
-- transaction that takes something away.

-- name: settled_tasks
-- By an index that holds only what has settled, oldest end first, from where the last step came to.
SELECT settled_at, seq FROM tasks
WHERE settled_at IS NOT NULL AND pruned = :level AND settled_at < :before AND (settled_at, seq) > (:moment, :seq)
ORDER BY settled_at, seq LIMIT :limit

-- name: tasks_to_prune
-- With whether its parent's events may be replayed: then the key under which it was submitted must still be there.
SELECT seq, id, provider, state, pruned, settled_at, fetch_at IS NOT NULL,
       EXISTS (SELECT 1 FROM tasks p WHERE p.id = tasks.parent AND p.pruned < 2)
FROM tasks WHERE seq IN (SELECT value FROM json_each(:seqs)) AND settled_at IS NOT NULL

-- name: events_to_prune
-- All events of these tasks, with what their deliveries say about them: how often nothing is settled yet, and the last
-- time anything was.
SELECT given.value, e.seq, e.last_seen_at, coalesce(max(d.settled_at), 0),
       (e.fanned_out_at IS NULL AND e.standing = 'accepted') + count(d.seq) - count(d.settled_at)
FROM json_each(:tasks) given
CROSS JOIN events e ON e.fact_key > given.value || ':' AND e.fact_key < given.value || ';'
LEFT JOIN deliveries d ON d.event_seq = e.seq
GROUP BY e.seq
UNION ALL
SELECT given.value, e.seq, e.last_seen_at, coalesce(max(d.settled_at), 0),
       (e.fanned_out_at IS NULL AND e.standing = 'accepted') + count(d.seq) - count(d.settled_at)
FROM json_each(:tasks) given
CROSS JOIN events e ON e.fact_key IS NULL AND e.task_id = given.value
LEFT JOIN deliveries d ON d.event_seq = e.seq
GROUP BY e.seq

-- name: lock_tasks
-- SQLite's writers exclude each other: there is nothing to lock.

-- name: lock_events
-- SQLite's writers exclude each other: there is nothing to lock.

-- name: requests_heard
-- When the last request was kept for each of these tasks.
SELECT task_id, max(received_at) FROM callbacks WHERE task_id IN (SELECT value FROM json_each(:tasks)) GROUP BY task_id

-- name: other_events
-- Those that are about no task.
SELECT received_at, seq FROM events
WHERE task_id IS NULL AND pruned = :level AND received_at < :before AND (received_at, seq) > (:moment, :seq)
ORDER BY received_at, seq LIMIT :limit

-- name: other_events_to_prune
SELECT e.seq, e.id, e.provider, e.pruned, max(e.last_seen_at, coalesce(max(d.settled_at), 0)),
       (e.fanned_out_at IS NULL AND e.standing = 'accepted') + count(d.seq) - count(d.settled_at)
FROM events e LEFT JOIN deliveries d ON d.event_seq = e.seq
WHERE e.seq IN (SELECT value FROM json_each(:seqs))
GROUP BY e.seq

-- name: old_requests
-- Whose bodies are still there. Those of a task that is known go with it, the others by themselves.
SELECT c.received_at, c.seq, EXISTS (SELECT 1 FROM tasks WHERE tasks.id = c.task_id) FROM callbacks c
WHERE c.body IS NOT NULL AND c.received_at < :before AND (c.received_at, c.seq) > (:moment, :seq)
ORDER BY c.received_at, c.seq LIMIT :limit

-- name: drop_old_requests
DELETE FROM callbacks WHERE seq IN (SELECT value FROM json_each(:seqs))
    AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = callbacks.task_id)

-- name: old_rejections
SELECT count(*) FROM rejections WHERE day < :day

-- name: drop_rejections
DELETE FROM rejections WHERE day < :day

-- name: empty_event_bodies
-- One that has lost all but its keys stays so, although news made its task whole again: it must not be replayed.
UPDATE events SET body = x'', headers = '[]', pruned = max(pruned, :level)
WHERE seq IN (SELECT value FROM json_each(:events))

-- name: empty_requests_of_tasks
UPDATE callbacks SET body = NULL, headers = '[]' WHERE task_id IN (SELECT value FROM json_each(:tasks))

-- name: empty_requests_of_events
-- The request that made an event about no task; its body was in the event.
UPDATE callbacks SET headers = '[]' WHERE event_id IN (SELECT value FROM json_each(:ids))

-- name: drop_attempts
DELETE FROM attempts WHERE delivery_seq IN (
    SELECT seq FROM deliveries WHERE event_seq IN (SELECT value FROM json_each(:events)))

-- name: drop_deliveries
DELETE FROM deliveries WHERE event_seq IN (SELECT value FROM json_each(:events))

-- name: drop_results
-- What was stored stays where it is. With an event that goes whole, these go by themselves.
DELETE FROM results WHERE event_seq IN (SELECT value FROM json_each(:events))

-- name: drop_requests_of_tasks
DELETE FROM callbacks WHERE task_id IN (SELECT value FROM json_each(:tasks))

-- name: drop_requests_of_events
DELETE FROM callbacks WHERE event_id IN (SELECT value FROM json_each(:ids))

-- name: empty_events
-- The keys stay, and what tells how often the fact came.
UPDATE events SET body = x'', headers = '[]', results = '[]', error = NULL, pruned = :level
WHERE seq IN (SELECT value FROM json_each(:events))

-- name: mark_tasks
UPDATE tasks SET pruned = :level WHERE seq IN (SELECT value FROM json_each(:seqs))

-- name: empty_tasks
-- The user's key stays, and what it was for: the same request under it must not buy a second time.
UPDATE tasks SET form = NULL, metadata = '{}', send_note = NULL, pruned = :level
WHERE seq IN (SELECT value FROM json_each(:seqs))

-- name: drop_events
DELETE FROM events WHERE seq IN (SELECT value FROM json_each(:events))

-- name: drop_tasks
DELETE FROM tasks WHERE seq IN (SELECT value FROM json_each(:seqs))
