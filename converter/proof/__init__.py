"""Artifacts -> rows, controls, verdict: run as files by child processes, compared, and the check shown to fail."""
