"""Coefficients of the cost model from measurements of others."""
