WITH vectors AS (
    SELECT * FROM {{ source('mlcc_ci', 'possible_vectors') }}
)

SELECT * FROM vectors
