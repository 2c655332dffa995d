WITH levels AS (
    SELECT * FROM {{ ref('int_measured_levels') }}
),

candidates AS (
    SELECT
        run_id,
        config_id,
        COALESCE(executor, 'imported') AS executor,
        deployment_config,
        COALESCE(model_name, '') AS model_name,
        instance_type,
        quantization,
        tp_degree,
        deployment_target,
        COALESCE(workload, '') AS workload,
        concurrency,
        cost_per_1m_tokens,
        ttft_p99_ms,
        output_token_throughput_tps
    FROM levels
    WHERE
        recency = 1
        AND cost_per_1m_tokens IS NOT NULL
        AND ttft_p99_ms IS NOT NULL
        AND output_token_throughput_tps IS NOT NULL
),

beaten AS (
    SELECT
        worse.run_id,
        worse.workload,
        worse.concurrency,
        count(*) FILTER (WHERE better.instance_type = worse.instance_type) AS beaten_by_same_hardware,
        count(*) AS beaten_by
    FROM candidates AS worse
    INNER JOIN candidates AS better
        ON worse.model_name = better.model_name
        AND worse.workload = better.workload
        AND worse.executor = better.executor
        AND better.cost_per_1m_tokens <= worse.cost_per_1m_tokens
        AND better.ttft_p99_ms <= worse.ttft_p99_ms
        AND better.output_token_throughput_tps >= worse.output_token_throughput_tps
        AND (
            better.cost_per_1m_tokens < worse.cost_per_1m_tokens
            OR better.ttft_p99_ms < worse.ttft_p99_ms
            OR better.output_token_throughput_tps > worse.output_token_throughput_tps
        )
    GROUP BY worse.run_id, worse.workload, worse.concurrency
),

front AS (
    SELECT
        candidates.model_name,
        candidates.workload,
        candidates.executor,
        candidates.instance_type,
        candidates.config_id,
        candidates.run_id,
        candidates.concurrency,
        candidates.deployment_config,
        candidates.quantization,
        candidates.tp_degree,
        candidates.deployment_target,
        candidates.cost_per_1m_tokens,
        candidates.ttft_p99_ms,
        candidates.output_token_throughput_tps,
        beaten.beaten_by IS NULL AS best_on_any_hardware
    FROM candidates
    LEFT JOIN beaten
        ON candidates.run_id = beaten.run_id
        AND candidates.workload = beaten.workload
        AND candidates.concurrency = beaten.concurrency
    WHERE COALESCE(beaten.beaten_by_same_hardware, 0) = 0
)

SELECT * FROM front
