-- What is known bad and why, newest first
SELECT config_id, model_family, instance_family, deployment_config, failure_reason FROM
  mlcc_ci.benchmark_results WHERE status = 'unfeasible' ORDER BY run_timestamp DESC;
