WITH results AS (
    SELECT * FROM {{ ref('stg_results') }}
),

proven AS (
    SELECT
        model_family,
        instance_family,
        count(DISTINCT config_id) AS proven_configurations,
        count(DISTINCT run_id) AS proven_runs,
        count(*) AS proven_rows,
        min(run_timestamp) AS first_proven_at,
        max(run_timestamp) AS last_proven_at
    FROM results
    WHERE status = 'completed'
    GROUP BY model_family, instance_family
)

SELECT * FROM proven
