"""Where the time of a step goes, and what fits: answers of the cost model, without a simulation."""

from dse.explain.breakdown import Conditions, DeploymentBreakdown, explain_deployment
from dse.explain.fitting import Fit, FitRequest, NoFit, fit

__all__ = [
    "Conditions",
    "DeploymentBreakdown",
    "Fit",
    "FitRequest",
    "NoFit",
    "explain_deployment",
    "fit",
]
