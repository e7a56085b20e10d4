"""Exact placement: layers over a pipeline of unequal accelerators, stages of a workload over hosts.

Both are mixed-integer programs with times and memory of the simulator's cost model, solved by HiGHS; what comes back
has the solver's own proof.
"""

from dse.placement.seeds import planned_choices, with_planned_layers
from dse.placement.spec import Devices, Host, SplitSpec, StagesSpec
from dse.placement.split import SplitPlan, plan_split
from dse.placement.stages import StagesPlan, plan_stages

__all__ = [
    "Devices",
    "Host",
    "SplitPlan",
    "SplitSpec",
    "StagesPlan",
    "StagesSpec",
    "plan_split",
    "plan_stages",
    "planned_choices",
    "with_planned_layers",
]
