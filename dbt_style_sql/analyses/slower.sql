-- Metrics that are more than 10 % worse than the median of the five runs before
SELECT config_id, workload, concurrency, metric, value, median_value, change_pct, earlier_runs
FROM mlcc_ci.baseline
WHERE (higher_is_better AND change_pct < -10) OR (NOT higher_is_better AND change_pct > 10)
ORDER BY abs(change_pct) DESC, config_id, metric
