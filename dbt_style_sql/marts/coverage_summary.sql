WITH vectors AS (
    SELECT * FROM {{ ref('stg_vectors') }}
),

counted AS (
    SELECT
        deployment_config,
        model_family,
        count(*) AS possible,
        count(*) FILTER (WHERE status = 'proven') AS proven,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        count(*) FILTER (WHERE status = 'unfeasible') AS unfeasible,
        count(*) FILTER (WHERE status = 'untested') AS untested,
        count(*) FILTER (WHERE stale) AS stale
    FROM vectors
    GROUP BY deployment_config, model_family
),

shared AS (
    SELECT
        deployment_config,
        model_family,
        possible,
        proven,
        failed,
        unfeasible,
        untested,
        stale,
        CAST(proven AS double) / possible AS proven_share
    FROM counted
)

SELECT * FROM shared
