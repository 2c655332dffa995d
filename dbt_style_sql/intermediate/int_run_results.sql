WITH results AS (
    SELECT * FROM {{ ref('stg_results') }}
),

runs AS (
    SELECT
        run_id,
        config_id,
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
        cost_usd,
        count(*) FILTER (WHERE concurrency > 0) AS measured_levels,
        max(request_throughput_rps) AS best_request_throughput_rps,
        max(output_token_throughput_tps) AS best_output_token_throughput_tps,
        min(ttft_p99_ms) AS lowest_ttft_p99_ms,
        min(cost_per_1m_tokens) AS lowest_cost_per_1m_tokens
    FROM results
    GROUP BY
        run_id,
        config_id,
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
        cost_usd
)

SELECT * FROM runs
