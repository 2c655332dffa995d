-- Why attempts failed: categories with their runs, most first
SELECT failure_category, count(*) AS runs, count(DISTINCT config_id) AS configurations, max(ended_at) AS last_at
FROM mlcc_ci.test_history
WHERE failure_category IS NOT NULL
GROUP BY failure_category
ORDER BY runs DESC, failure_category
