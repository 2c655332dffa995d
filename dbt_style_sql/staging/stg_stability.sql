WITH stability AS (
    SELECT * FROM {{ source('mlcc_ci', 'ci_stability') }}
)

SELECT * FROM stability
