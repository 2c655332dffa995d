-- The front of cost against time to first token and throughput, cheapest first within each model and workload
SELECT model_name, workload, instance_type, deployment_config, quantization, tp_degree, concurrency,
  cost_per_1m_tokens, ttft_p99_ms, output_token_throughput_tps
FROM mlcc_ci.pareto_front
ORDER BY model_name, workload, cost_per_1m_tokens, ttft_p99_ms, concurrency
