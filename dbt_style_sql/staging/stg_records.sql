WITH records AS (
    SELECT * FROM {{ source('mlcc_ci', 'ci_records') }}
),

named AS (
    SELECT
        config_id,
        COALESCE(catalog_id, config_id) AS name,
        tier,
        test_status,
        deployment_config,
        model_name,
        model_family,
        instance_type,
        instance_family,
        quantization,
        tp_degree,
        deployment_target
    FROM records
)

SELECT * FROM named
