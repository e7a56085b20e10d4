"""Design-space exploration of LLM inference: ``run_study(...) -> StudyResult``."""

from typing import TYPE_CHECKING, Any

from dse.library import load_study, study_names
from dse.spec import StudySpec

if TYPE_CHECKING:
    from dse.result import StudyResult
    from dse.study import run_study

__all__ = ["StudyResult", "StudySpec", "load_study", "run_study", "study_names"]


def __getattr__(name: str) -> Any:
    """Import what needs Optuna on first use: commands that only list or simulate start at once."""
    if name == "run_study":
        from dse.study import run_study

        return run_study
    if name == "StudyResult":
        from dse.result import StudyResult

        return StudyResult
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
