"""Faults on purpose: workers and producers that are killed and frozen, databases that are restarted, and an audit."""
