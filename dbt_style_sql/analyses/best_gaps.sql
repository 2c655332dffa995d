-- The 20 best supported gaps that a run may be started for
SELECT gap_rank, deployment_config, model_family, instance_family, quantization, tp_degree, deployment_target, neighbours, reason
FROM mlcc_ci.gap_candidates
ORDER BY gap_rank
LIMIT 20
