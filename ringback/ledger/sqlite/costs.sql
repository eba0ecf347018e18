-- Statements about money. What a task comes to is said once, in the view `costs` of schema.sql.

-- name: newest
-- The last row, by which a later look tells that everything up to it is still what was counted.
SELECT seq, id FROM tasks WHERE seq = (SELECT max(seq) FROM tasks)

-- name: spent
-- Our ids begin with the time, so that a day and a month are ranges of the index that every task is in anyway.
SELECT coalesce(sum(CASE WHEN id >= :day AND id < :next_day THEN spent END), 0), coalesce(sum(spent), 0)
FROM costs WHERE id >= :month AND id < :next_month

-- name: still_there
SELECT 1 FROM tasks WHERE seq = :seq AND id = :id

-- name: spent_since
-- The same of the rows that were added since a count. The sign keeps the planner from walking the whole month.
SELECT coalesce(sum(CASE WHEN id >= :day AND id < :next_day THEN spent END), 0), coalesce(sum(spent), 0)
FROM costs WHERE seq > :seq AND +id >= :month AND +id < :next_month

-- name: costs
-- A difference of a few micro-dollars is rounding: some providers charge in units of their own.
SELECT date(created_at / 1000000, 'unixepoch') AS day, provider, model, state, NULL AS task_id,
       count(*) AS tasks, sum(price) AS expected, sum(charged) AS charged, sum(refunded) AS refunded,
       sum(spent - (price - coalesce(refunded, 0))) AS difference,
       sum(CASE WHEN price IS NULL THEN charged END) AS unexpected, sum(spent) AS spent, count(charged) AS told,
       sum(abs(spent - (price - coalesce(refunded, 0))) > :rounding) AS differing,
       sum(price IS NULL AND charged IS NULL) AS unknown,
       sum(CASE WHEN bought AND charged IS NULL THEN refunded END) AS assumed
FROM costs
WHERE (:since IS NULL OR created_at >= :since) AND (:until IS NULL OR created_at < :until)
  AND (:provider IS NULL OR provider = :provider)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4

-- name: costs_of_tasks
SELECT date(created_at / 1000000, 'unixepoch') AS day, provider, model, state, id AS task_id,
       1 AS tasks, price AS expected, charged, refunded, spent - (price - coalesce(refunded, 0)) AS difference,
       CASE WHEN price IS NULL THEN charged END AS unexpected, spent, charged IS NOT NULL AS told,
       abs(spent - (price - coalesce(refunded, 0))) > :rounding AS differing,
       price IS NULL AND charged IS NULL AS unknown, CASE WHEN bought AND charged IS NULL THEN refunded END AS assumed
FROM costs
WHERE (:since IS NULL OR created_at >= :since) AND (:until IS NULL OR created_at < :until)
  AND (:provider IS NULL OR provider = :provider)
ORDER BY seq DESC LIMIT :limit

-- name: differing
-- Tasks that settled lately, by the index of settled ones; what is pruned is not news.
SELECT * FROM tasks WHERE seq IN (
    SELECT seq FROM costs
    WHERE pruned = 0 AND settled_at >= :since AND settled_at < :until AND charged IS NOT NULL
      AND abs(spent - (price - coalesce(refunded, 0))) > :rounding
    ORDER BY settled_at LIMIT :limit)
ORDER BY settled_at
