WITH stability AS (
    SELECT * FROM {{ ref('stg_stability') }}
),

records AS (
    SELECT * FROM {{ ref('stg_records') }}
),

judged AS (
    SELECT
        stability.config_id,
        records.name,
        records.tier,
        records.deployment_config,
        records.model_family,
        records.instance_type,
        stability.course,
        stability.known_flaky,
        stability.runs,
        stability.passes,
        stability.pass_share_low,
        stability.pass_share_high,
        stability.flips,
        stability.flip_rate,
        stability.recoveries,
        stability.failing_streak,
        stability.chance
    FROM stability
    LEFT JOIN records ON stability.config_id = records.config_id
)

SELECT * FROM judged
