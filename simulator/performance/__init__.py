"""Seconds and joules of a step, and bytes of a model: physics first, then coefficients."""
