-- Proven rows by model family and instance family, most first
SELECT model_family, instance_family, COUNT(*) as proven_count FROM mlcc_ci.benchmark_results
  WHERE status = 'completed' GROUP BY model_family, instance_family ORDER BY proven_count DESC;
