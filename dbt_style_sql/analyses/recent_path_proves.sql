-- The last 20 results of path proving, newest first
SELECT config_id, model_family, instance_family, deployment_config, status FROM mlcc_ci.benchmark_results
  WHERE run_type = 'path_prove' ORDER BY run_timestamp DESC LIMIT 20;
