"""Named variations of a deployment and workload, side by side, held against what was published.

``run_comparison(load_comparison("kv-tiers"))`` returns a table with a row for each case.
"""

from dse.comparison.library import comparison_names, load_comparison
from dse.comparison.run import comparison_table, run_comparison
from dse.comparison.spec import Comparison
from dse.comparison.verdict import Verdict, verdicts

__all__ = [
    "Comparison",
    "Verdict",
    "comparison_names",
    "comparison_table",
    "load_comparison",
    "run_comparison",
    "verdicts",
]
