"""SQL text and its YAML, importable as data; no code."""
