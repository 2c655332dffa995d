"""The domain, pure: no Dagster, no DuckDB, no input or output. One concept per module."""
