"""What exists: partitions, the lifecycle graph, coverage, gaps, and their checks."""
