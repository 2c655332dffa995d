-- What is proven of what is possible, by server and model family, least proven first
SELECT deployment_config, model_family, proven, possible, proven_share, stale
FROM mlcc_ci.coverage_summary
ORDER BY proven_share, deployment_config, model_family
