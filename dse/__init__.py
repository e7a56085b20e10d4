"""Design-space exploration of LLM inference: ``run_study(...) -> StudyResult``."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dse.client.client import Client
    from dse.library import load_study, study_names
    from dse.result import StudyResult
    from dse.spec import StudySpec
    from dse.study import run_study

__version__: str
__all__ = ["Client", "StudyResult", "StudySpec", "load_study", "run_study", "study_names"]

_HOMES = {
    "Client": "dse.client.client",
    "StudyResult": "dse.result",
    "StudySpec": "dse.spec",
    "load_study": "dse.library",
    "run_study": "dse.study",
    "study_names": "dse.library",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that importing one part of the package does not import all."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("dse-llm")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
