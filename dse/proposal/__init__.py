"""Which designs to simulate next, from forecasts, what trials taught, and what designs cannot beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dse.certificate.ledger import Certificate
    from dse.evaluation import Evaluation
    from dse.spec import StudySpec
    from search_spaces import Design
    from simulator import Requests


class Search(Protocol):
    """What is known of the designs of a study, and which to simulate next."""

    def learn(self, evaluations: Sequence[Evaluation]) -> None:
        """Take in what was found out about designs, in order of proposal."""

    def propose(self, count: int) -> list[Design]:
        """Return designs that were not proposed before; none if nothing is left."""

    def is_certified(self, gap: float) -> bool:
        """Tell whether the designs of which nothing is proved could add at most a share of the hypervolume."""

    @property
    def certificate(self) -> Certificate | None:
        """What is proved of the space; None if it is too large to list."""


def search_of(spec: StudySpec, load: tuple[Requests, ...], seed: int) -> Search:
    """Return the search of a study's space: of all its designs, if they can be listed.

    Parameters
    ----------
    spec, load
        The study and the requests of each of its workloads.
    seed
        Of designs that are drawn.
    """
    from dse.proposal.finite import LISTABLE, FiniteSearch
    from dse.proposal.sampled import SampledSearch

    if spec.space.space.size <= LISTABLE:
        return FiniteSearch(spec, load)
    return SampledSearch(spec, load, seed)
