-- Statements about steps: what a handler did once and for all with one event.

-- name: finish_steps
-- The fence: only the delivery's current attempt can record. A step that is recorded already stays as it is.
INSERT INTO steps (event_seq, handler, name, attempt, done_at)
SELECT d.event_seq, d.handler, json_extract(value, '$[2]'), d.attempt, json_extract(value, '$[3]')
FROM json_each(:rows)
JOIN deliveries d ON d.id = json_extract(value, '$[0]')
WHERE d.attempt = json_extract(value, '$[1]') AND d.state = 'running'
ON CONFLICT (event_seq, handler, name) DO NOTHING

-- name: current_attempts
SELECT d.attempt FROM json_each(:rows)
JOIN deliveries d ON d.id = json_extract(value, '$[0]')
WHERE d.attempt = json_extract(value, '$[1]') AND d.state = 'running'

-- name: claimed_steps
SELECT d.id AS delivery_id, s.name FROM deliveries d
JOIN steps s ON s.event_seq = d.event_seq AND s.handler = d.handler
WHERE d.seq IN (SELECT value FROM json_each(:deliveries))

-- name: steps_of_deliveries
SELECT d.id AS delivery_id, s.name, s.attempt, s.done_at FROM deliveries d
JOIN steps s ON s.event_seq = d.event_seq AND s.handler = d.handler
WHERE d.id IN (SELECT value FROM json_each(:ids)) ORDER BY s.done_at, s.name
