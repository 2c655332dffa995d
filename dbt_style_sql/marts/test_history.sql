WITH attempts AS (
    SELECT * FROM {{ ref('stg_attempts') }}
),

ended AS (
    SELECT * FROM {{ ref('int_ended_attempts') }}
),

records AS (
    SELECT * FROM {{ ref('stg_records') }}
),

history AS (
    SELECT
        attempts.run_id,
        attempts.config_id,
        records.name,
        records.deployment_config,
        records.model_family,
        records.instance_type,
        attempts.generation,
        attempts.round,
        attempts.run_type,
        attempts.tier,
        attempts.state,
        attempts.status,
        attempts.test_status,
        ended.passed,
        ended.passed_before AND NOT ended.passed AS failed_after_pass,
        ended.recency,
        attempts.failure_category,
        attempts.reason,
        attempts.started_at,
        attempts.ended_at,
        attempts.seconds,
        attempts.cost_usd
    FROM ended
    INNER JOIN attempts ON ended.run_id = attempts.run_id
    LEFT JOIN records ON attempts.config_id = records.config_id
)

SELECT * FROM history
