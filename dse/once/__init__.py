"""One question, one answer as plain data: what commands print with --json, and the service answers at once."""

from dse.once.capacity import capacity_figures, rows_of
from dse.once.plain import finite
from dse.once.simulation import simulation_figures

__all__ = ["capacity_figures", "finite", "rows_of", "simulation_figures"]
