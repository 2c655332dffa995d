"""Declared knowledge: YAML data, one concept per file, the records it is read into, and the loader."""
