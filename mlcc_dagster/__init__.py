"""The platform's own package: the domain (`core`), the commands (`cli`) and the assembled Dagster definitions."""
