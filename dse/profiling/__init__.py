"""Measure one's own accelerators: kernels and collectives, in the tables that ``dse calibrate`` reads."""
