-- What the last 30 days with runs cost, newest first
SELECT day, sum(runs) AS runs, sum(completed) AS completed, sum(cost_usd) AS cost_usd
FROM mlcc_ci.cost_by_day
GROUP BY day
ORDER BY day DESC
LIMIT 30
