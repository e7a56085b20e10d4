"""The requests of one workload as parallel arrays."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simulator.workload.prefixes import Prefixes
from simulator.workload.sessions import Sessions

#: Picoseconds in a second: times are integers, so that the simulation is exact.
PS_PER_S: Final = 1_000_000_000_000
#: Longest span of arrivals in seconds: int64 picoseconds hold 106 days, and the last request must finish too.
MAX_DURATION_S: Final = 90 * 86_400
#: ``deadline_ps`` of a request without a deadline beside some that have one: 6 days, so that arrival plus deadline
#: fits int64 up to the end of the clock.
NO_DEADLINE_PS: Final = 6 * 86_400 * PS_PER_S

#: Optional arrays with their types.
_OPTIONAL: Final[dict[str, type[np.integer[Any]]]] = {
    "query_tokens": np.int32,
    "media_tokens": np.int32,
    "way": np.int32,
    "priority": np.int32,
    "deadline_ps": np.int64,
    "adapter": np.int32,
    "request_class": np.int32,
}


@dataclass(frozen=True, eq=False)
class Requests:
    """Requests in order of arrival; the first arrives at 0.

    A row is one call of an LLM with the services around it. Calls that follow others are rows too: they stand behind
    the first call of their session, with its arrival. The constructor casts, sorts sessions by arrival (those of the
    same instant keep their order) and shifts as needed. The arrays are read-only. What is None a plain workload does
    not need.

    Parameters
    ----------
    arrival_ps
        Arrival times in picoseconds, shape ``(n,)``, int64; of calls that follow others that of their session.
    prompt_tokens, output_tokens
        Tokens to read, before retrieval adds documents, and to write, shape ``(n,)``, int32, at least 1.
    query_tokens
        Tokens of the text that arrived with this call, shape ``(n,)``, int32: without system prompt, history and
        media. The prompt if None.
    media_tokens
        Patches of images (frames of sound) to encode, shape ``(n,)``, int32. 0 if None.
    way
        Index into ``ways``, shape ``(n,)``, int32. 0 if None.
    ways
        Names of the stages of each way, in order; empty if the way is that of the only pipeline.
    priority
        The smaller, the more urgent, shape ``(n,)``, int32. 0 if None.
    deadline_ps
        Picoseconds after the call's arrival, shape ``(n,)``, int64; :data:`NO_DEADLINE_PS` for those without.
    adapter
        Number of the adapter, 0 for none, shape ``(n,)``, int32. 0 if None.
    request_class
        Index into ``classes``, shape ``(n,)``, int32.
    classes
        Names of the classes; empty if there are none.
    sessions
        Which calls follow which; if None every row is a session of its own.
    prefixes
        Which prompts begin alike; None: not looked at.

    Raises
    ------
    ValueError
        If there is no request, shapes differ, a request has less than one token, or an index is out of range.
    """

    arrival_ps: NDArray[np.int64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    query_tokens: NDArray[np.int32] | None = None
    media_tokens: NDArray[np.int32] | None = None
    way: NDArray[np.int32] | None = None
    ways: tuple[tuple[str, ...], ...] = ()
    priority: NDArray[np.int32] | None = None
    deadline_ps: NDArray[np.int64] | None = None
    adapter: NDArray[np.int32] | None = None
    request_class: NDArray[np.int32] | None = None
    classes: tuple[str, ...] = ()
    sessions: Sessions | None = None
    prefixes: Prefixes | None = None

    def __post_init__(self) -> None:
        """Bring the arrays to the promised form."""
        arrays: dict[str, NDArray[Any]] = {
            "arrival_ps": np.array(self.arrival_ps, dtype=np.int64),
            "prompt_tokens": np.array(self.prompt_tokens, dtype=np.int32),
            "output_tokens": np.array(self.output_tokens, dtype=np.int32),
        }
        shape = arrays["arrival_ps"].shape
        if len(shape) != 1 or any(array.shape != shape for array in arrays.values()):
            raise ValueError(
                "requests: three arrays of one length are needed, "
                f"given shapes {', '.join(str(array.shape) for array in arrays.values())}"
            )
        if not shape[0]:
            raise ValueError("requests: at least one is needed, given none")
        for name, kind in _OPTIONAL.items():
            if getattr(self, name) is not None:
                arrays[name] = np.array(getattr(self, name), dtype=kind)
                if arrays[name].shape != shape:
                    raise ValueError(f"requests: {name} has the shape {arrays[name].shape}, the requests {shape}")
        self._check(arrays)
        sessions, prefixes = self.sessions, self.prefixes
        arrival_ps = arrays["arrival_ps"]
        first = arrival_ps if sessions is None else arrival_ps[sessions.first_rows]
        if np.any(first[1:] < first[:-1]):
            rows: NDArray[np.int64] = np.argsort(first, kind="stable")
            if sessions is not None:
                sessions, rows = sessions.reordered(rows)
            arrays = {name: array[rows] for name, array in arrays.items()}
            prefixes = prefixes.of_rows(rows) if prefixes is not None else None
        if sessions is not None:
            arrays["arrival_ps"] = arrays["arrival_ps"][sessions.first_rows][sessions.session]
        arrays["arrival_ps"] -= arrays["arrival_ps"][0]
        for name, array in arrays.items():
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        object.__setattr__(self, "sessions", sessions)
        object.__setattr__(self, "prefixes", prefixes)

    def _check(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Refuse values out of range."""
        n = arrays["arrival_ps"].size
        if arrays["prompt_tokens"].min() < 1 or arrays["output_tokens"].min() < 1:
            raise ValueError("requests: every prompt and output needs at least 1 token")
        for name in ("query_tokens", "media_tokens", "adapter", "deadline_ps"):
            if name in arrays and arrays[name].min() < 0:
                raise ValueError(f"requests: {name} must not be negative")
        for name, names in (("way", self.ways), ("request_class", self.classes)):
            if name in arrays and not 0 <= arrays[name].min() <= arrays[name].max() < len(names):
                raise ValueError(f"requests: {name} must be from 0 to {len(names) - 1}")
        for part in ("sessions", "prefixes"):
            if getattr(self, part) is not None and len(getattr(self, part)) != n:
                raise ValueError(f"requests: {part} has {len(getattr(self, part))} rows, the requests {n}")
        if self.prefixes is not None:
            known = self.prefixes.prompt_chunks.astype(np.int64) * self.prefixes.chunk_tokens
            if np.any(known > arrays["prompt_tokens"]):
                raise ValueError("requests: prompt_chunks are longer than the prompt")

    def __len__(self) -> int:
        """Return the number of rows: of calls of the LLM."""
        return int(self.arrival_ps.size)

    @property
    def session_count(self) -> int:
        """Number of sessions; of requests, if they do not follow each other."""
        return len(self) if self.sessions is None else self.sessions.count

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last arrival."""
        return float(self.arrival_ps[-1]) / PS_PER_S

    @property
    def rate_rps(self) -> float:
        """Mean rate of requests (sessions) per second: gaps by duration; infinite if all arrive at once."""
        return (self.session_count - 1) / self.duration_s if self.duration_s > 0 else math.inf

    def first(self, count: int) -> Requests:
        """Return the first ``count`` sessions (requests, if they do not follow each other), all if there are fewer."""
        return self.between(0, min(count, self.session_count))

    def between(self, first: int, last: int) -> Requests:
        """Return the sessions ``first … last - 1`` (requests, if they do not follow each other).

        Parameters
        ----------
        first, last
            Numbers in order of arrival, from 0; the last is not among them, and at most their count.

        Raises
        ------
        ValueError
            If nothing would be left.
        """
        numbers = np.arange(first, last)
        sessions, rows = (None, numbers) if self.sessions is None else self.sessions.reordered(numbers)
        names = ("arrival_ps", "prompt_tokens", "output_tokens", *_OPTIONAL)
        given = {name: getattr(self, name) for name in names}
        arrays: dict[str, Any] = {name: None if array is None else array[rows] for name, array in given.items()}
        return Requests(
            **arrays,
            ways=self.ways,
            classes=self.classes,
            sessions=sessions,
            prefixes=self.prefixes.of_rows(rows, compact=True) if self.prefixes is not None else None,
        )

    def fingerprint(self) -> str:
        """Return 16 hex digits of the SHA-256 of everything: equal for equal requests."""
        digest = hashlib.sha256()
        for array, dtype in (
            (self.arrival_ps, "<i8"),
            (self.prompt_tokens, "<i4"),
            (self.output_tokens, "<i4"),
        ):
            digest.update(array.astype(dtype).tobytes())
        for name in (*_OPTIONAL, "ways", "classes"):
            value = getattr(self, name)
            if isinstance(value, np.ndarray):
                digest.update(name.encode() + value.astype(f"<i{value.itemsize}").tobytes())
            elif value:
                digest.update(f"{name}{value!r}".encode())
        for part in (self.sessions, self.prefixes):
            for field in fields(part) if part is not None else ():
                value = np.asarray(getattr(part, field.name))
                digest.update(field.name.encode() + value.astype(f"<i{value.itemsize}").tobytes())
        return digest.hexdigest()[:16]
