WITH verdicts AS (
    SELECT * FROM {{ source('mlcc_ci', 'unfeasible_verdicts') }}
)

SELECT * FROM verdicts
