WITH runs AS (
    SELECT * FROM {{ ref('int_run_results') }}
),

ranked AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY config_id
            ORDER BY run_timestamp DESC NULLS LAST, run_id DESC NULLS LAST
        ) AS recency,
        count(*) OVER (PARTITION BY config_id) AS runs
    FROM runs
    WHERE config_id IS NOT NULL
),

latest AS (
    SELECT
        config_id,
        run_id,
        status,
        run_type,
        executor,
        run_timestamp,
        deployment_config,
        model_name,
        model_family,
        instance_type,
        instance_family,
        quantization,
        tp_degree,
        deployment_target,
        failure_stage,
        failure_category,
        failure_reason,
        runs,
        measured_levels,
        best_request_throughput_rps,
        best_output_token_throughput_tps,
        lowest_ttft_p99_ms,
        lowest_cost_per_1m_tokens,
        cost_usd
    FROM ranked
    WHERE recency = 1
)

SELECT * FROM latest
