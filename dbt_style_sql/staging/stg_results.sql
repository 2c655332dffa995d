WITH results AS (
    SELECT * FROM {{ source('mlcc_ci', 'benchmark_results') }}
),

renamed AS (
    SELECT
        run_id,
        config_id,
        status,
        run_type,
        executor,
        run_timestamp,
        TRY_CAST(substr(run_timestamp, 1, 10) AS date) AS run_date,
        deployment_config,
        model_name,
        model_family,
        instance_type,
        instance_family,
        quantization,
        tensor_parallel_degree AS tp_degree,
        deployment_target,
        workload,
        concurrency,
        request_throughput_rps,
        output_token_throughput_tps,
        ttft_p50_ms,
        ttft_p90_ms,
        ttft_p99_ms,
        itl_p90_ms,
        e2e_latency_p90_ms,
        e2e_latency_p99_ms,
        error_rate,
        cost_per_1m_tokens,
        cost_usd,
        failure_stage,
        failure_category,
        failure_reason,
        failure_retryable,
        engine
    FROM results
)

SELECT * FROM renamed
