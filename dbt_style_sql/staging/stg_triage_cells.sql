WITH cells AS (
    SELECT * FROM {{ source('mlcc_ci', 'triage_cells') }}
)

SELECT * FROM cells
