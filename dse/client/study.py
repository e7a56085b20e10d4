"""A study that a service keeps, and one of its trials."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self
from urllib.parse import quote

import yaml

from dse.client.connection import Connection
from dse.client.errors import NoRecommendation, StudyEnded
from dse.client.watch import ENDED, Event, watch
from dse.service.answers.records import (
    Comparison,
    Deployable,
    Explanation,
    Front,
    Simulation,
    State,
    Study,
    StudySummary,
    Trial,
    TrialDetail,
    TrialPage,
    WhatIfAnswer,
)

if TYPE_CHECKING:
    import pandas as pd

PAGE: Final = 1_000
"""Trials asked for at once."""
Export = Literal["front.csv", "trials.csv", "trials.parquet", "study.json", "study.yaml"]
"""Files that a service makes of a study."""
Target = Literal["vllm", "sglang", "kubernetes", "llm-d", "dynamo", "ray-serve", "all"]
"""What a design can be deployed by."""


class RemoteStudy:
    """A study of a service. Made by :class:`dse.Client`.

    Attributes
    ----------
    id
        Names the study at its service.
    summary
        What was last heard of it; :meth:`refresh` asks again.
    """

    def __init__(self, connection: Connection, summary: StudySummary) -> None:
        self._connection = connection
        self.id, self.summary = summary.id, summary
        self._whole = summary if isinstance(summary, Study) else None

    def __repr__(self) -> str:
        """Return what was last heard of the study, in short."""
        s = self.summary
        return (
            f"<study {s.name} {s.id}: {s.state}, {s.simulated} of {s.trials} simulated, {s.feasible} feasible, "
            f"{s.front} on the front>"
        )

    @property
    def name(self) -> str:
        """Name of the study, as its specification says."""
        return self.summary.name

    @property
    def state(self) -> State:
        """What it was doing when last heard of."""
        return self.summary.state

    @property
    def spec(self) -> dict[str, Any]:
        """The specification as plain data; :meth:`dse.StudySpec.parse` reads it."""
        return self._study.spec

    @property
    def objectives(self) -> tuple[str, ...]:
        """What it optimises."""
        return tuple(each.name for each in self._study.objectives)

    @property
    def _study(self) -> Study:
        """The whole study; what it is never changes, so one answer is enough."""
        if self._whole is None:
            self.refresh()
        assert self._whole is not None
        return self._whole

    def refresh(self) -> Self:
        """Ask how the study is doing."""
        self.summary = self._whole = Study.model_validate(self._json("GET", ""))
        return self

    # How it goes on

    def pause(self) -> Self:
        """Let the study rest after the designs that are being simulated."""
        return self._ask("pause")

    def resume(self) -> Self:
        """Go on with a study that was paused or cancelled, or that failed."""
        return self._ask("resume")

    def cancel(self) -> Self:
        """End the study; what it found stays."""
        return self._ask("cancel")

    def delete(self) -> None:
        """Delete the study with all its trials; it must not be waiting or running."""
        self._connection.send("DELETE", self._path(""))

    def watch(self, *, after: str = "") -> Iterator[Event]:
        """Yield what happens until the study ends, over reconnections, restarts and pauses.

        Parameters
        ----------
        after
            ``id`` of an event, to leave out the trials before it; all trials so far come first if empty.

        Raises
        ------
        ServiceAway
            If the service is away for longer than the client's patience.
        """
        for event in watch(self._connection, self.id, after=after):
            self._heard(event)
            yield event

    def wait(self, timeout_s: float | None = None, *, progress: bool = False) -> Self:
        """Wait until the study has finished.

        Parameters
        ----------
        timeout_s
            Longest wait; as long as it takes if None.
        progress
            Whether to show how it gets on.

        Raises
        ------
        TimeoutError
            If it takes longer. The study goes on.
        StudyEnded
            If it failed or was cancelled.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        with ExitStack() as stack:
            show = None
            if progress:
                from dse.client.progress import shown

                show = stack.enter_context(shown(self.summary))
            for event in watch(self._connection, self.id, until_s=until_s):
                self._heard(event)
                if show is not None:
                    show(self.summary)
        if self.state not in ENDED:
            raise TimeoutError(f"study {self.name}: {self.state} after {timeout_s:g} s")
        if self.state != "finished":
            raise StudyEnded(self.name, self.state, self.summary.reason)
        return self.refresh()

    # What it found

    def front(self, *, choices: bool = False) -> pd.DataFrame:
        """Return the Pareto front, by the first objective: how it does, what binds, which design is recommended.

        Parameters
        ----------
        choices
            Whether to add a column for each choice of the designs.
        """
        front = Front.model_validate(self._json("GET", "/front"))
        table = self._table(front.trials).drop(columns=["simulated", "feasible", "broken", "reason"])
        table.insert(0, "recommended", table.index == front.recommended)
        if choices:
            return table.dropna(axis="columns", how="all")
        return table[["recommended", *self.objectives, "bottleneck", "label"]]

    def trials(self, *, feasible: bool | None = None, simulated: bool | None = None) -> pd.DataFrame:
        """Return one row a distinct design, by its number.

        Parameters
        ----------
        feasible, simulated
            Only those that are, or are not.
        """
        given = {"feasible": feasible, "simulated": simulated}
        asked = {name: str(value).lower() for name, value in given.items() if value is not None}
        found: list[Trial] = []
        after: int | None = 0
        while after is not None:
            page = TrialPage.model_validate(
                self._json("GET", "/trials", params={**asked, "after": after, "limit": PAGE})
            )
            found += page.trials
            after = page.next
        return self._table(found).sort_index()

    @property
    def recommended(self) -> RemoteTrial:
        """The design to start from: the knee of the front.

        Raises
        ------
        NoRecommendation
            If no design keeps every promise, or none does so far.
        """
        front = Front.model_validate(self._json("GET", "/front"))
        if front.recommended is None:
            raise NoRecommendation(
                f"study {self.name}: none of {front.simulated} designs keeps every promise and limit"
            )
        return self.trial(front.recommended)

    def trial(self, number: int) -> RemoteTrial:
        """Return one design with all that is known of it.

        Parameters
        ----------
        number
            Its place in the order of proposal, as in the index of :meth:`trials`.
        """
        detail = TrialDetail.model_validate(self._json("GET", f"/trials/{number}"))
        return RemoteTrial(self, detail)

    def simulation(self, number: int) -> Simulation:
        """Return distributions, stages and series of a design, which is simulated again for it."""
        return Simulation.model_validate(self._json("GET", f"/trials/{number}/simulation"))

    def deployment_yaml(self, number: int) -> str:
        """Return a design as YAML that ``dse simulate`` reads, with the engines' defaults written out."""
        return self._connection.send("GET", self._path(f"/trials/{number}/deployment")).text

    def deployable(
        self, number: int, target: Target = "vllm", *, load: bool = False, requests: int | None = None
    ) -> Deployable:
        """Return the files that deploy a design, and what they do not hold; see :meth:`RemoteTrial.export`.

        Parameters
        ----------
        number
            Of the trial.
        target
            One of :data:`dse.export.TARGETS`.
        load
            Whether to add the load that the prediction can be held against.
        requests
            Of that load at most; all if None.
        """
        asked: dict[str, Any] = {"form": "json", "load": str(load).lower()}
        if requests is not None:
            asked["requests"] = requests
        return Deployable.model_validate(self._json("GET", f"/trials/{number}/exports/{target}", params=asked))

    def compare(self, first: int, second: int) -> Comparison:
        """Return what differs between two designs, and in what they do.

        Parameters
        ----------
        first, second
            Numbers of two simulated trials.

        Raises
        ------
        ProblemError
            If the study has no such trial.
        """
        return Comparison.model_validate(self._json("GET", "/compare", params={"first": first, "second": second}))

    def why(self, first: int, second: int) -> list[str]:
        """Return how much each choice contributes to the difference of two designs, a sentence for each objective.

        Parameters
        ----------
        first, second
            Numbers of two simulated trials. The designs between them are simulated by the service, which takes a while.

        Raises
        ------
        ProblemError
            If the study has no such trial, or the two are the same design.
        """
        answer = self._json("GET", "/why", params={"first": first, "second": second})
        return Explanation.model_validate(answer).said

    def what_if(
        self,
        *,
        usd_per_hour: Mapping[str, float] | None = None,
        electricity_usd_per_kwh: float = 0.0,
        rate_factor: float = 1.0,
    ) -> WhatIfAnswer:
        """Return the front at other prices or another rate.

        Parameters
        ----------
        usd_per_hour
            Price of devices by their catalogued name.
        electricity_usd_per_kwh
            Price of energy, added to that of devices.
        rate_factor
            Rate of requests by the study's.
        """
        question = {
            "usd_per_hour": dict(usd_per_hour or {}),
            "electricity_usd_per_kwh": electricity_usd_per_kwh,
            "rate_factor": rate_factor,
        }
        return WhatIfAnswer.model_validate(self._json("POST", "/what-if", json=question, repeatable=True))

    def export(self, name: Export, path: str | Path | None = None) -> Path:
        """Write one of the files that the service makes of the study.

        Parameters
        ----------
        name
            ``trials.parquet`` and ``trials.csv`` have every figure of every design; ``study.json`` what ``dse run``
            writes.
        path
            Where to; ``name`` in the working folder if None.
        """
        return self._save(f"/exports/{name}", path or name)

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report of the study, one HTML file that needs nothing else.

        Parameters
        ----------
        path
            Where to; the study's name with ``.html`` in the working folder if None.
        """
        return self._save("/report", path or f"{self.name}.html")

    # Of use to all

    def _path(self, rest: str) -> str:
        return f"/v1/studies/{quote(self.id, safe='')}{rest}"

    def _json(self, method: str, rest: str, **options: Any) -> Any:
        return self._connection.json(method, self._path(rest), **options)

    def _ask(self, what: str) -> Self:
        self.summary = self._whole = Study.model_validate(self._json("POST", f"/{what}"))
        return self

    def _heard(self, event: Event) -> None:
        if event.study is not None:
            self.summary = event.study

    def _save(self, rest: str, path: str | Path) -> Path:
        content = self._connection.send("GET", self._path(rest)).content
        Path(path).write_bytes(content)
        return Path(path)

    def _table(self, trials: list[Trial]) -> pd.DataFrame:
        import pandas as pd

        rows = [
            {
                "simulated": each.simulated,
                "feasible": each.feasible,
                **dict(zip(self.objectives, each.objectives, strict=True)),
                **each.design,
                "bottleneck": each.bottleneck,
                "label": each.label,
                "broken": ", ".join(each.broken),
                "reason": each.reason,
            }
            for each in trials
        ]
        # Designs differ in the choices that they have.
        choices = dict.fromkeys(name for each in trials for name in each.design)
        columns = ["simulated", "feasible", *self.objectives, *choices, "bottleneck", "label", "broken", "reason"]
        return pd.DataFrame(rows, columns=columns, index=pd.Index([each.number for each in trials], name="trial"))


class RemoteTrial:
    """One design of a study, and how it did.

    Attributes
    ----------
    detail
        All that the service says of it without simulating it again.
    """

    def __init__(self, study: RemoteStudy, detail: TrialDetail) -> None:
        self._study, self.detail = study, detail

    def __repr__(self) -> str:
        """Return the design in a few words."""
        return f"<trial {self.number} of {self._study.name}: {self.detail.label}>"

    @property
    def number(self) -> int:
        """Its place in the order of proposal."""
        return self.detail.number

    @property
    def design(self) -> dict[str, Any]:
        """The choices."""
        return self.detail.design

    @property
    def figures(self) -> dict[str, float | None]:
        """Every metric by its name."""
        return {each.name: each.value for each in self.detail.figures}

    @property
    def deployment(self) -> dict[str, Any]:
        """The deployment as plain data; :meth:`simulator.Deployment.parse` reads it."""
        data: dict[str, Any] = yaml.safe_load(self.deployment_yaml())
        return data

    def deployment_yaml(self) -> str:
        """Return the deployment as YAML that ``dse simulate`` reads."""
        return self._study.deployment_yaml(self.number)

    def simulation(self) -> Simulation:
        """Return distributions, stages and series; the design is simulated again for it."""
        return self._study.simulation(self.number)

    def export(
        self,
        target: Target = "vllm",
        folder: str | Path = "deploy",
        *,
        load: bool = False,
        requests: int | None = None,
        overwrite: bool = False,
    ) -> Deployable:
        """Write the files that deploy the design, as ``dse export`` does, and return them with their notes.

        Parameters
        ----------
        target
            Engine or platform; ``all`` for every one, each in a folder of its name.
        folder
            Where to.
        load
            Also scripts that replay the study's workload against it, in the folder ``load``.
        requests
            How many requests to replay; all of the study's if None.
        overwrite
            Replace files that are there.

        Raises
        ------
        ProblemError
            If the target cannot hold the design.
        SpecError
            If files are there already, or the service names one that would not lie in the folder; then none is written.
        """
        from dse.export.bundle import write_bundle

        found = self._study.deployable(self.number, target, load=load, requests=requests)
        write_bundle(found.files, Path(folder), overwrite=overwrite)
        return found
