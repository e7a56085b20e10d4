"""How many calls of LLMs a workload makes at most, told without drawing them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

from simulator.errors import SpecError
from simulator.files import named_file
from simulator.spec.classes import ResolvedClass
from simulator.spec.distributions import ConstantCount, CountDistribution, GeometricCount, PoissonCount, UniformCount
from simulator.spec.llm_stages import CascadeStage, ReasonStage
from simulator.spec.stages import the_llm
from simulator.spec.workload import DEFAULT_REQUESTS, Trace, Workload

#: What is drawn exceeds a bound with at most the probability exp(-_SURE), 1e-15.
_SURE: Final = 34.5
_PIECE_BYTES: Final = 1 << 20


def requests_of(workload: Workload) -> int:
    """Return an upper bound of the requests that :func:`~simulator.workload.build_requests` makes of a workload.

    Every turn of a session, branch of thought and stage of a cascade counts. What is random is taken so large that
    more is drawn with a probability below 1e-12; a session is taken to end by its number of turns alone. Of a trace
    the rows are counted, at most the ``requests`` to keep.

    Parameters
    ----------
    workload
        Any; nothing is drawn, and a trace is not parsed.

    Raises
    ------
    SpecError
        If the trace cannot be read.
    """
    if workload.trace is None:
        sessions = workload.requests or DEFAULT_REQUESTS
    else:
        sessions = _rows_of(workload.trace, workload.requests)
    classes = workload.resolved_classes
    if len(classes) == 1:
        return _calls_of(classes[0], sessions)
    shares = math.fsum(each.share for each in classes)
    by_class = sum(_calls_of(each, _most_drawn(sessions, each.share / shares)) for each in classes)
    return min(by_class, max(_calls_of(each, sessions) for each in classes))


def _calls_of(each: ResolvedClass, sessions: int) -> int:
    """Return the calls that so many sessions of a class make at most."""
    turns = sessions if each.session is None else _sum_of(each.session.turns, sessions)
    llm = the_llm(each.pipeline)
    match llm:
        case CascadeStage():
            sure = next((place for place, chance in enumerate(llm.fallback) if not chance), len(llm.fallback))
            return turns * (1 + sure)
        case ReasonStage() if llm.branches > 1:
            return turns * (llm.branches + 2)
        case _:
            return turns


def _most_drawn(n: int, share: float) -> int:
    """Return how often something of this probability comes in ``n`` draws at most (Bernstein's inequality)."""
    third = _SURE / 3
    return min(n, math.ceil(n * share + third + math.sqrt(third**2 + 2 * _SURE * n * share)))


def _sum_of(counts: CountDistribution, n: int) -> int:
    """Return the sum of ``n`` draws at most."""
    match counts:
        case ConstantCount():
            return n * counts.count
        case UniformCount():
            return n * counts.high
        case GeometricCount():
            return math.ceil(n * counts.mean * _excess(_SURE / n)) if counts.mean > 1 else n
        case PoissonCount():
            # Bernstein's inequality, as above: a Poisson number is the limit of rare events among many.
            mean, third = n * counts.mean, _SURE / 3
            return math.ceil(mean + third + math.sqrt(third**2 + 2 * _SURE * mean))


def _excess(tail: float) -> float:
    """Return the x above 1 with ``x - 1 - ln x = tail``.

    A sum of n geometric numbers exceeds x times its mean with a probability of at most exp(-n (x - 1 - ln x))
    (Janson, Statistics & Probability Letters 135, 2018, theorem 2.1).
    """
    low, high = 1.0, 2 * tail + 4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if middle - 1 - math.log(middle) < tail else (low, middle)
    return high


def _rows_of(trace: Trace, limit: int | None) -> int:
    """Return the rows of a trace at most: its lines, or in a file of JSON objects their opening braces."""
    path = named_file(trace.path, "trace")
    try:
        rows = _count(path, limit)
    except OSError as error:
        raise SpecError(f"{trace.path}: {error.strerror or error}") from None
    return rows if limit is None else min(rows, limit)


def _count(path: Path, limit: int | None) -> int:
    count, after_return, objects = 0, False, None
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            if objects is None:
                start = piece.removeprefix(b"\xef\xbb\xbf").lstrip()
                objects = start.startswith(b"{") if start else None
            if objects:
                count += piece.count(b"{")
            else:
                # A line ends by \n, \r or both; the header stands for a last line that does not end.
                count += piece.count(b"\n") + piece.count(b"\r") - piece.count(b"\r\n")
                count -= after_return and piece.startswith(b"\n")
                after_return = piece.endswith(b"\r")
            if limit is not None and count >= limit:
                break
    return count
