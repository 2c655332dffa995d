"""Failures that come along, to try triage on.

Belongs here: workloads that fail in a known share of trials for a known cause. Not here: workloads for real investigations.
"""
