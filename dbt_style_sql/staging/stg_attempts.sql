WITH attempts AS (
    SELECT * FROM {{ source('mlcc_ci', 'ci_attempts') }}
),

dated AS (
    SELECT
        run_id,
        config_id,
        generation,
        round,
        run_type,
        tier,
        state,
        status,
        test_status,
        started_at,
        ended_at,
        TRY_CAST(substr(ended_at, 1, 10) AS date) AS ended_date,
        seconds,
        cost_usd,
        failure_category,
        failure_retryable,
        reason
    FROM attempts
)

SELECT * FROM dated
