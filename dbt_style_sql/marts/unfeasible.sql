WITH verdicts AS (
    SELECT * FROM {{ ref('stg_verdicts') }}
),

runs AS (
    SELECT * FROM {{ ref('int_run_results') }}
),

refuted AS (
    SELECT
        COALESCE(deployment_config, '') AS deployment_config,
        COALESCE(model_family, '') AS model_family,
        COALESCE(instance_family, '') AS instance_family,
        COALESCE(quantization, '') AS quantization,
        COALESCE(CAST(tp_degree AS varchar), '') AS tp_degree,
        COALESCE(deployment_target, '') AS deployment_target,
        run_id,
        config_id,
        failure_stage,
        failure_category,
        row_number() OVER (
            PARTITION BY deployment_config, model_family, instance_family, quantization, tp_degree, deployment_target
            ORDER BY run_timestamp DESC NULLS LAST, run_id DESC NULLS LAST
        ) AS recency
    FROM runs
    WHERE status = 'unfeasible'
),

judged AS (
    SELECT
        verdicts.deployment_config,
        verdicts.model_family,
        verdicts.instance_family,
        verdicts.quantization,
        verdicts.tp_degree,
        verdicts.deployment_target,
        verdicts.live,
        verdicts.why,
        verdicts.since,
        refuted.run_id,
        refuted.config_id,
        refuted.failure_stage,
        refuted.failure_category
    FROM verdicts
    LEFT JOIN refuted
        ON verdicts.deployment_config = refuted.deployment_config
        AND verdicts.model_family = refuted.model_family
        AND verdicts.instance_family = refuted.instance_family
        AND verdicts.quantization = refuted.quantization
        AND verdicts.tp_degree = refuted.tp_degree
        AND verdicts.deployment_target = refuted.deployment_target
        AND refuted.recency = 1
)

SELECT * FROM judged
