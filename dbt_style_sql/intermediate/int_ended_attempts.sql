WITH attempts AS (
    SELECT * FROM {{ ref('stg_attempts') }}
),

ended AS (
    SELECT
        run_id,
        config_id,
        generation,
        test_status = 'pass' AS passed
    FROM attempts
    WHERE state IN ('finished', 'interrupted')
),

tested AS (
    SELECT
        run_id,
        passed,
        lag(passed) OVER (PARTITION BY config_id ORDER BY generation) AS passed_before,
        row_number() OVER (PARTITION BY config_id ORDER BY generation DESC) AS recency
    FROM ended
    WHERE passed IS NOT NULL
),

ordered AS (
    SELECT
        ended.run_id,
        ended.passed,
        tested.passed_before,
        tested.recency
    FROM ended
    LEFT JOIN tested ON ended.run_id = tested.run_id
)

SELECT * FROM ordered
