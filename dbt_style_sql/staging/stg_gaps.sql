WITH gaps AS (
    SELECT * FROM {{ source('mlcc_ci', 'gap_list') }}
)

SELECT * FROM gaps
