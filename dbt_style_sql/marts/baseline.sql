WITH series AS (
    SELECT * FROM {{ ref('int_metric_series') }}
),

latest AS (
    SELECT * FROM series WHERE recency = 1
),

earlier AS (
    SELECT
        config_id,
        executor,
        workload,
        concurrency,
        metric,
        count(*) AS earlier_runs,
        max(value) FILTER (WHERE recency = 2) AS previous_value,
        CASE WHEN higher_is_better THEN max(value) ELSE min(value) END AS best_value
    FROM series
    WHERE recency > 1
    GROUP BY config_id, executor, workload, concurrency, metric, higher_is_better
),

recent AS (
    SELECT
        config_id,
        executor,
        workload,
        concurrency,
        metric,
        value,
        row_number() OVER (
            PARTITION BY config_id, executor, workload, concurrency, metric
            ORDER BY value, recency
        ) AS place,
        count(*) OVER (PARTITION BY config_id, executor, workload, concurrency, metric) AS places
    FROM series
    WHERE recency BETWEEN 2 AND 6
),

medians AS (
    SELECT
        config_id,
        executor,
        workload,
        concurrency,
        metric,
        avg(value) AS median_value
    FROM recent
    WHERE 2 * place BETWEEN places AND places + 2
    GROUP BY config_id, executor, workload, concurrency, metric
),

compared AS (
    SELECT
        latest.config_id,
        latest.executor,
        latest.workload,
        latest.concurrency,
        latest.metric,
        latest.higher_is_better,
        latest.run_id,
        latest.value,
        COALESCE(earlier.earlier_runs, 0) AS earlier_runs,
        earlier.previous_value,
        earlier.best_value,
        medians.median_value,
        (latest.value - medians.median_value) / NULLIF(abs(medians.median_value), 0e0) * 100e0 AS change_pct
    FROM latest
    LEFT JOIN earlier
        ON latest.config_id = earlier.config_id
        AND latest.executor IS NOT DISTINCT FROM earlier.executor
        AND latest.workload IS NOT DISTINCT FROM earlier.workload
        AND latest.concurrency = earlier.concurrency
        AND latest.metric = earlier.metric
    LEFT JOIN medians
        ON latest.config_id = medians.config_id
        AND latest.executor IS NOT DISTINCT FROM medians.executor
        AND latest.workload IS NOT DISTINCT FROM medians.workload
        AND latest.concurrency = medians.concurrency
        AND latest.metric = medians.metric
)

SELECT * FROM compared
