"""Thin wrappers of the metrics for `evaluate.load`; each folder can be pushed as a Space."""
