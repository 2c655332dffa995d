"""The `local` executor: every stage done for real on this machine."""
