WITH levels AS (
    SELECT * FROM {{ ref('int_measured_levels') }}
),

long AS (
    SELECT
        config_id, executor, workload, concurrency, run_id, recency,
        'output_token_throughput_tps' AS metric, true AS higher_is_better, output_token_throughput_tps AS value
    FROM levels
    UNION ALL
    SELECT
        config_id, executor, workload, concurrency, run_id, recency,
        'ttft_p90_ms' AS metric, false AS higher_is_better, ttft_p90_ms AS value
    FROM levels
    UNION ALL
    SELECT
        config_id, executor, workload, concurrency, run_id, recency,
        'itl_p90_ms' AS metric, false AS higher_is_better, itl_p90_ms AS value
    FROM levels
    UNION ALL
    SELECT
        config_id, executor, workload, concurrency, run_id, recency,
        'e2e_latency_p90_ms' AS metric, false AS higher_is_better, e2e_latency_p90_ms AS value
    FROM levels
),

series AS (
    SELECT
        config_id,
        executor,
        workload,
        concurrency,
        metric,
        higher_is_better,
        run_id,
        value,
        row_number() OVER (
            PARTITION BY config_id, executor, workload, concurrency, metric
            ORDER BY recency
        ) AS recency
    FROM long
    WHERE value IS NOT NULL
)

SELECT * FROM series
