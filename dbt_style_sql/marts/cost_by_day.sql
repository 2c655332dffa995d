WITH attempts AS (
    SELECT * FROM {{ ref('stg_attempts') }}
),

days AS (
    SELECT
        ended_date AS day,
        run_type,
        count(*) AS runs,
        count(*) FILTER (WHERE status = 'completed') AS completed,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        count(*) FILTER (WHERE status = 'unfeasible') AS unfeasible,
        count(*) FILTER (WHERE state = 'interrupted') AS interrupted,
        count(*) FILTER (WHERE cost_usd IS NULL) AS without_cost,
        sum(seconds) AS seconds,
        sum(cost_usd) AS cost_usd
    FROM attempts
    WHERE state IN ('finished', 'interrupted')
    GROUP BY ended_date, run_type
),

priced AS (
    SELECT
        day,
        run_type,
        runs,
        completed,
        failed,
        unfeasible,
        interrupted,
        without_cost,
        seconds,
        cost_usd,
        cost_usd / CAST(NULLIF(completed, 0) AS double) AS usd_per_completed
    FROM days
)

SELECT * FROM priced
