"""Client of a ``dse serve``: studies made, watched and read over HTTP."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dse.client.client import Client
    from dse.client.errors import NoRecommendation, ProblemError, ServiceAway, StudyEnded
    from dse.client.study import RemoteStudy, RemoteTrial
    from dse.client.watch import Event

__all__ = [
    "Client",
    "Event",
    "NoRecommendation",
    "ProblemError",
    "RemoteStudy",
    "RemoteTrial",
    "ServiceAway",
    "StudyEnded",
]

_HOMES = {
    "Client": "dse.client.client",
    "Event": "dse.client.watch",
    "NoRecommendation": "dse.client.errors",
    "ProblemError": "dse.client.errors",
    "RemoteStudy": "dse.client.study",
    "RemoteTrial": "dse.client.study",
    "ServiceAway": "dse.client.errors",
    "StudyEnded": "dse.client.errors",
}


def __getattr__(name: str) -> Any:
    """Import on first use: httpx is an extra, and slow to import."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
