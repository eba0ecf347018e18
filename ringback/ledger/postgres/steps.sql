-- Statements about steps: what a handler did once and for all with one event.

-- name: finish_steps
-- The fence: only the delivery's current attempt can record, and it stays so until the commit. A step that is recorded
-- already stays as it is.
INSERT INTO steps (event_seq, handler, name, attempt, done_at)
SELECT d.event_seq, d.handler, value ->> 2, d.attempt, (value ->> 3)::bigint
FROM jsonb_array_elements(%(rows)s)
JOIN deliveries d ON d.id = value ->> 0
WHERE d.attempt = value ->> 1 AND d.state = 'running'
FOR SHARE OF d
ON CONFLICT (event_seq, handler, name) DO NOTHING

-- name: current_attempts
SELECT d.attempt FROM jsonb_array_elements(%(rows)s)
JOIN deliveries d ON d.id = value ->> 0
WHERE d.attempt = value ->> 1 AND d.state = 'running'

-- name: claimed_steps
SELECT d.id AS delivery_id, s.name FROM deliveries d
JOIN steps s ON s.event_seq = d.event_seq AND s.handler = d.handler
WHERE d.seq = ANY (ARRAY(SELECT json_array_elements_text(%(deliveries)s)::bigint))

-- name: steps_of_deliveries
SELECT d.id AS delivery_id, s.name, s.attempt, s.done_at FROM deliveries d
JOIN steps s ON s.event_seq = d.event_seq AND s.handler = d.handler
WHERE d.id = ANY (ARRAY(SELECT json_array_elements_text(%(ids)s))) ORDER BY s.done_at, s.name
