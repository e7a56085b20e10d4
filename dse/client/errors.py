"""What can go wrong between a client and its service."""

from __future__ import annotations

from typing import Any

from simulator.errors import Problem, SpecError


class ProblemError(SpecError):
    """The service refused: problem details (RFC 9457) as one line that names every field at fault.

    ``problems`` has each field with what is wrong and what was given.

    Attributes
    ----------
    status
        HTTP status.
    title, detail
        What kind of problem, and what it is this time.
    type
        URI of the kind of problem.
    """

    def __init__(self, status: int, title: str, detail: str = "", *, type: str = "", errors: object = ()) -> None:
        self.status, self.title, self.detail, self.type = status, title, detail, type
        problems = _problems(errors)
        parts = [detail, *(_line(each) for each in problems if each.message not in detail)]
        said = "; ".join(part for part in parts if part)
        super().__init__(f"{title}: {said}" if said else title, problems)

    @classmethod
    def of(cls, status: int, reason: str, body: Any) -> ProblemError:
        """Return the error that an answer says.

        Parameters
        ----------
        status, reason
            Of the answer.
        body
            Its JSON; no object if it comes from elsewhere, as a proxy's page does.
        """
        if not isinstance(body, dict):
            return cls(status, f"{status} {reason}".strip())
        title, detail, type = (str(body.get(name) or "") for name in ("title", "detail", "type"))
        return cls(status, title or f"{status} {reason}".strip(), detail, type=type, errors=body.get("errors"))


def _problems(errors: object) -> tuple[Problem, ...]:
    found = [each for each in errors if isinstance(each, dict)] if isinstance(errors, list | tuple) else []
    return tuple(
        Problem(
            field=str(each.get("field") or ""),
            message=str(each.get("message") or ""),
            given=None if each.get("given") is None else str(each["given"]),
        )
        for each in found
    )


def _line(problem: Problem) -> str:
    place = f"{problem.field}: " if problem.field else ""
    return f"{place}{problem.message}" + ("" if problem.given is None else f", given {problem.given}")


class ServiceAway(ConnectionError):
    """No service answers at the address, or not in time."""


class StudyEnded(RuntimeError):
    """A study that was waited for failed or was cancelled.

    Attributes
    ----------
    state
        ``failed`` or ``cancelled``.
    reason
        Why it failed; empty if it did not.
    """

    def __init__(self, name: str, state: str, reason: str) -> None:
        self.state, self.reason = state, reason
        super().__init__(f"study {name}: {state}" + (f": {reason}" if reason else ""))


class NoRecommendation(LookupError):
    """No design of a study keeps its promises, or none does so far."""
