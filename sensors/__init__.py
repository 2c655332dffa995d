"""Sensors and schedules: they decide when work is asked for, and do none of it."""
