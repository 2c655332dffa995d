WITH gaps AS (
    SELECT * FROM {{ ref('stg_gaps') }}
),

startable AS (
    SELECT
        gap_rank,
        deployment_config,
        model_family,
        instance_family,
        quantization,
        tp_degree,
        deployment_target,
        neighbours,
        reason,
        detail
    FROM gaps
    WHERE startable
)

SELECT * FROM startable
