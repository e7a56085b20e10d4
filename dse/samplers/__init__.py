"""Who proposes designs: Optuna's samplers by name, and agents that learn. One file a sampler."""

from dse.samplers.registry import AUTO, POPULATION, SAMPLERS, SCREENED, make_sampler

__all__ = ["AUTO", "POPULATION", "SAMPLERS", "SCREENED", "make_sampler"]
