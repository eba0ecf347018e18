-- What both sides are asked, in the same words, when all is copied; but for what only PostgreSQL has a table for. Rows that belong to an event or a delivery name it
-- by its id: so it is proven that they belong to the same one still, whatever its number is now.

-- name: tasks
SELECT * FROM tasks

-- name: events
SELECT * FROM events

-- name: facts
SELECT f.key, e.id AS event_id FROM facts f LEFT JOIN events e ON e.seq = f.event_seq

-- name: facts_of_sqlite
SELECT id AS key, id AS event_id FROM events
UNION ALL SELECT event_key, id FROM events WHERE event_key IS NOT NULL
UNION ALL SELECT coalesce(fact_key, task_id || ':' || id), id FROM events
WHERE fact_key IS NOT NULL OR task_id IS NOT NULL

-- name: waiting
SELECT e.id AS event_id, w.hold_until, w.received_at FROM waiting w LEFT JOIN events e ON e.seq = w.event_seq

-- name: waiting_of_sqlite
SELECT id AS event_id, hold_until, received_at FROM events WHERE fanned_out_at IS NULL AND standing = 'accepted'

-- name: callbacks
SELECT * FROM callbacks

-- name: handlers
SELECT * FROM handlers

-- name: deliveries
SELECT e.id AS event_id, d.* FROM deliveries d LEFT JOIN events e ON e.seq = d.event_seq

-- name: attempts
SELECT d.id AS delivery_id, a.* FROM attempts a LEFT JOIN deliveries d ON d.seq = a.delivery_seq

-- name: starts
SELECT * FROM starts

-- name: steps
SELECT e.id AS event_id, s.* FROM steps s LEFT JOIN events e ON e.seq = s.event_seq

-- name: results
SELECT e.id AS event_id, r.* FROM results r LEFT JOIN events e ON e.seq = r.event_seq

-- name: rejections
SELECT * FROM rejections

-- name: expectations
SELECT * FROM expectations

-- name: processes
SELECT * FROM processes

-- name: url_keys
SELECT * FROM url_keys
