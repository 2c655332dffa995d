"""Triage: which mitigation makes a failure go away, and whether it only looks so because everything got slower.

Belongs here: the pure half of triage, one concept per module: recipes and their mistakes, names, secrets, what is
registered, cells made concrete, trials, statistics, confounds and their evidence, the matrix as a document. Not here: files,
processes, entry points, running anything (`resources.triage`).
"""
