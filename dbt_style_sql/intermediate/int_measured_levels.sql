WITH results AS (
    SELECT * FROM {{ ref('stg_results') }}
),

measured AS (
    SELECT
        run_id,
        config_id,
        executor,
        run_timestamp,
        deployment_config,
        model_name,
        instance_type,
        quantization,
        tp_degree,
        deployment_target,
        workload,
        concurrency,
        output_token_throughput_tps,
        ttft_p90_ms,
        ttft_p99_ms,
        itl_p90_ms,
        e2e_latency_p90_ms,
        cost_per_1m_tokens,
        row_number() OVER (
            PARTITION BY config_id, executor, workload, concurrency
            ORDER BY run_timestamp DESC NULLS LAST, run_id DESC NULLS LAST
        ) AS recency
    FROM results
    WHERE status = 'completed' AND concurrency > 0
)

SELECT * FROM measured
