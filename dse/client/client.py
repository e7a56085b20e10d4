"""The service as Python sees it: ``Client("http://127.0.0.1:8000").create("chat", trials=200)``."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import quote

from dse.client.connection import Connection
from dse.client.documents import Document, is_name, plain
from dse.client.study import RemoteStudy
from dse.service.answers.records import State, Study, StudyCheck, StudyList
from simulator.errors import SpecError

ADDRESS: Final = "http://127.0.0.1:8000"
"""Where ``dse serve`` listens unless told otherwise."""
PIECE: Final = 1 << 20
"""Bytes of an upload read at once."""
PAGE: Final = 1_000
"""Studies asked for at once."""
MEDIA_TYPES: Final = {".csv": "text/csv", ".jsonl": "application/x-ndjson", ".gz": "application/gzip"}
Scope = Literal["read", "run", "admin"]


class Client:
    """A service: studies, single simulations, catalog, traces and tokens.

    What can be repeated safely is, while the service is away or busy: reads, uploads, and creating a study, which
    carries a key of its own so that it is made once.

    Parameters
    ----------
    url
        Address of the service; ``DSE_URL``, else http://127.0.0.1:8000, if None.
    token
        Made by ``dse token create``; ``DSE_TOKEN`` if None. A service on loopback asks for none.
    patience_s
        How long requests are repeated while a service that answered before is away, or is busy.
    timeout_s
        How long an answer may take.

    Examples
    --------
    >>> studies = Client("http://127.0.0.1:8000")  # doctest: +SKIP
    >>> study = studies.create("chat", trials=200).wait()  # doctest: +SKIP
    >>> print(study.front())  # doctest: +SKIP
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        patience_s: float = 60.0,
        timeout_s: float = 120.0,
    ) -> None:
        self._connection = Connection(
            url or os.environ.get("DSE_URL") or ADDRESS,
            token or os.environ.get("DSE_TOKEN"),
            patience_s=patience_s,
            timeout_s=timeout_s,
        )

    @property
    def url(self) -> str:
        """Address of the service."""
        return self._connection.url

    def __enter__(self) -> Self:
        """Use the client as a context that closes its connections."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._connection.close()

    # Studies

    def create(
        self,
        spec: Document,
        *,
        trials: int | None = None,
        timeout_s: float | None = None,
        certified: float | None = None,
        seed: int | None = None,
        idempotency_key: str | None = None,
    ) -> RemoteStudy:
        """Create a study; it runs as soon as a worker is free.

        Parameters
        ----------
        spec
            Name of a shipped study, path of a YAML file, YAML, plain data, or a ``StudySpec``.
        trials, timeout_s, certified
            Budget instead of the study's: designs to simulate, seconds, the share that what is left could add.
        seed
            Of the search, instead of the study's.
        idempotency_key
            The same key with the same study gives the same study, also from another process; one of its own if None.

        Raises
        ------
        ProblemError
            If the service refuses it: every field at fault is named.
        """
        data = _changed(self._spec(spec), trials=trials, timeout_s=timeout_s, certified=certified, seed=seed)
        key = idempotency_key or uuid.uuid4().hex
        made = self._connection.json(
            "POST", "/v1/studies", json=data, headers={"Idempotency-Key": key}, repeatable=True
        )
        return RemoteStudy(self._connection, Study.model_validate(made))

    def check(self, spec: Document) -> StudyCheck:
        """Return what a study would search: designs, dimensions, requests, objectives; nothing is stored."""
        answer = self._connection.json("POST", "/v1/studies/check", json=self._spec(spec), repeatable=True)
        return StudyCheck.model_validate(answer)

    def get(self, id: str) -> RemoteStudy:
        """Return a study by its id."""
        found = self._connection.json("GET", f"/v1/studies/{quote(id, safe='')}")
        return RemoteStudy(self._connection, Study.model_validate(found))

    def list(self, *, state: State | None = None, search: str = "") -> Sequence[RemoteStudy]:
        """Return all studies, the newest first.

        Parameters
        ----------
        state
            Only those in this state.
        search
            Only those with this text in name or question.
        """
        return tuple(self._studies(state, search))

    def find(self, name: str) -> RemoteStudy:
        """Return the newest study of a name.

        Raises
        ------
        SpecError
            If there is none.
        """
        found = next((study for study in self._studies(None, name) if study.name == name), None)
        if found is None:
            raise SpecError(f"study: none called {name!r} at {self.url}")
        return found.refresh()

    def _studies(self, state: State | None, search: str) -> Iterator[RemoteStudy]:
        given = {"state": state, "search": search or None, "limit": PAGE}
        asked = {name: value for name, value in given.items() if value is not None}
        after: str | None = None
        while True:
            params = asked if after is None else {**asked, "after": after}
            page = StudyList.model_validate(self._connection.json("GET", "/v1/studies", params=params))
            for summary in page.studies:
                yield RemoteStudy(self._connection, summary)
            if page.next is None:
                return
            after = page.next

    def _spec(self, spec: Document) -> dict[str, Any]:
        if is_name(spec):
            data: dict[str, Any] = self._connection.json("GET", f"/v1/catalog/studies/{quote(str(spec), safe='')}")
            return data
        return plain(spec, "study")

    # Answers at once

    def simulate(
        self, deployment: Document, workload: Document, *, slos: Sequence[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        """Simulate a deployment on a workload; figures as ``dse simulate --json`` prints them.

        Parameters
        ----------
        deployment, workload
            Path of a YAML file, YAML, plain data, or ``Deployment`` and ``Workload``.
        slos
            Promises to hold it against, as in a study.
        """
        return self._once("simulate", deployment, workload, slos=list(slos))

    def capacity(
        self, deployment: Document, workload: Document, *, slos: Sequence[Mapping[str, Any]] = (), **options: Any
    ) -> dict[str, Any]:
        """Find the highest rate that a deployment sustains; figures as ``dse capacity --json`` prints them.

        Parameters
        ----------
        deployment, workload, slos
            As for :meth:`simulate`.
        **options
            ``tolerance`` and ``replications``, as for ``dse capacity``.
        """
        return self._once("capacity", deployment, workload, slos=list(slos), **options)

    def explain(self, deployment: Document, workload: Document | None = None, **options: Any) -> dict[str, Any]:
        """Take a step apart, operator by operator; figures as ``dse explain --json`` prints them.

        Parameters
        ----------
        deployment, workload
            As for :meth:`simulate`; the workload's pipeline says which services there are.
        **options
            ``pool``, ``prompt_tokens``, ``context_tokens``, ``output_tokens``, ``batch``, ``steps``.
        """
        return self._once("explain", deployment, workload, **options)

    def _once(self, what: str, deployment: Document, workload: Document | None, **options: Any) -> dict[str, Any]:
        body = {"deployment": plain(deployment, "deployment"), **options}
        if workload is not None:
            body["workload"] = plain(workload, "workload")
        answer: dict[str, Any] = self._connection.json("POST", f"/v1/{what}", json=body, repeatable=True)
        return answer

    # Catalog and traces

    def catalog(self) -> dict[str, Any]:
        """Return what specifications may name: models, hardware, engines, metrics, samplers, shipped studies."""
        found: dict[str, Any] = self._connection.json("GET", "/v1/catalog")
        return found

    def session(self) -> dict[str, Any]:
        """Return the service's version, what the token may do, limits, and living workers."""
        found: dict[str, Any] = self._connection.json("GET", "/v1/session")
        return found

    def upload_trace(
        self,
        path: str | Path,
        name: str | None = None,
        *,
        progress: bool | Callable[[int, int], None] = False,
    ) -> dict[str, Any]:
        """Send a trace; specifications name it as ``trace: {path: NAME}``.

        The file is read piece by piece, so its size is no matter. The same content under the same name is no error.

        Parameters
        ----------
        path
            Of an Azure CSV, Mooncake JSONL or plain CSV file, compressed or not.
        name
            What specifications will call it; the file's name if None.
        progress
            True shows a bar; a function is called with the bytes sent so far and all.

        Returns
        -------
        dict
            The service's answer, as in :meth:`traces`.

        Raises
        ------
        SpecError
            If the file cannot be read.
        ProblemError
            If the service refuses it: too large, no trace, another content under this name.
        """
        file = Path(path)
        try:
            total = file.stat().st_size
        except OSError as error:
            raise SpecError(f"{path}: {error.strerror}") from None
        with ExitStack() as stack:
            tell = progress if callable(progress) else None
            if progress is True:
                from dse.client.progress import bytes_shown

                tell = stack.enter_context(bytes_shown(file.name, total))
            answer: dict[str, Any] = self._connection.json(
                "PUT",
                f"/v1/traces/{quote(name or file.name, safe='')}",
                body=lambda: _pieces(file, total, tell),
                headers={"Content-Type": _media_type(file), "Content-Length": str(total)},
            )
        return answer

    def traces(self) -> Sequence[dict[str, Any]]:
        """Return what was uploaded."""
        return _listed(self._connection.json("GET", "/v1/traces"), "traces")

    def delete_trace(self, name: str) -> None:
        """Delete a trace that no study uses."""
        self._connection.send("DELETE", f"/v1/traces/{quote(name, safe='')}")

    # Tokens

    def tokens(self) -> Sequence[dict[str, Any]]:
        """Return all tokens, without their secrets."""
        return _listed(self._connection.json("GET", "/v1/tokens"), "tokens")

    def create_token(self, name: str, scope: Scope = "run", *, days: float | None = None) -> dict[str, Any]:
        """Make a token; the answer is the only place that ever shows its secret.

        Parameters
        ----------
        name
            Whose it is.
        scope
            ``read``, ``run`` (and read) or ``admin`` (and run).
        days
            How long it is valid; for ever if None.
        """
        body = {"name": name, "scope": scope} | ({} if days is None else {"days": days})
        made: dict[str, Any] = self._connection.json("POST", "/v1/tokens", json=body)
        return made

    def revoke_token(self, id: str) -> None:
        """Make a token invalid at once."""
        self._connection.send("DELETE", f"/v1/tokens/{quote(id, safe='')}")


def _changed(spec: dict[str, Any], *, seed: int | None, **budget: float | None) -> dict[str, Any]:
    """Return a specification with what was given instead of its own."""
    given = {name: value for name, value in budget.items() if value is not None}
    if given:
        # A certificate takes as many trials as it takes, whatever the specification says.
        own = {**spec.get("budget", {})}
        if "certified" in given:
            own.pop("trials", None)
        spec = {**spec, "budget": {**own, **given}}
    return spec if seed is None else {**spec, "seed": seed}


def _listed(answer: Any, name: str) -> Sequence[dict[str, Any]]:
    """Return the list of an answer that is one, or an object that holds it."""
    return tuple(answer[name] if isinstance(answer, dict) else answer)


def _pieces(file: Path, total: int, tell: Callable[[int, int], None] | None) -> Iterator[bytes]:
    """Yield a file piece by piece, and tell how far it is."""
    sent = 0
    with file.open("rb") as source:
        while piece := source.read(PIECE):
            yield piece
            sent += len(piece)
            if tell is not None:
                tell(sent, total)


def _media_type(file: Path) -> str:
    """Return what an upload says it is; the service looks for itself."""
    return MEDIA_TYPES.get(file.suffix.lower(), "application/octet-stream")
