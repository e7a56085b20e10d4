"""What ``dse run`` shows: progress while it searches, and the front when it is done."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.progress import Progress as Bar
from rich.table import Table

from dse.certificate.ledger import MEANINGS, Certificate
from dse.cli.console import err, out, print_titled, progress
from dse.evaluation import Evaluation
from dse.execution import default_jobs
from dse.family import Answer, Found
from dse.family.tables import Table as FamilyTable
from dse.family.tables import front_table, members_table, recommendation
from dse.output import FRONT, REPORT
from dse.pareto import evenly
from dse.progress import Progress
from dse.provenance import front_caveat
from dse.result import StudyResult, compare
from dse.spec import StudySpec
from dse.study import run_study
from dse.words import figure, heading, open_designs, percent, promise, row, seconds, short
from simulator import Requests

ROWS = 12
"""Front designs shown in the terminal; the files hold all."""


class _Screen(Progress):
    """Progress as a line that renews itself; without a terminal, a line every tenth of the budget."""

    def __init__(self, spec: StudySpec, bar: Bar) -> None:
        super().__init__(spec)
        self._bar = bar
        self._total = min(spec.budget.trials, spec.space.space.size)
        self._task = bar.add_task(spec.name, total=self._total, state="forecasting, starting processes")
        self._said = 0

    def evaluated(self, evaluation: Evaluation) -> None:
        """Count the design and renew the line."""
        super().evaluated(evaluation)
        left = self.left_s
        state = (
            f"{self.simulated:,}/{self._total:,} simulated, {self.excluded} excluded, "
            f"{self.feasible} feasible, front {self.front_size}"
        )
        if len(self.spec.objectives) > 1:
            state += f", hypervolume {self.hypervolume:.3f}"
        if left is not None:
            state += f", {left:.0f} s left"
        self._bar.update(self._task, completed=self.simulated, state=state)
        if not err.is_terminal and self.simulated * 10 // self._total > self._said:
            self._said += 1
            err.print(f"{self.spec.name}: {state}", soft_wrap=True)


def watch(
    spec: StudySpec,
    load: tuple[Requests, ...],
    *,
    jobs: int | None,
    journal: Path,
    quiet: bool,
    backend: str,
    scheduler: str | None,
    storage: str | None,
) -> StudyResult:
    """Run a study with its progress on screen."""
    run = partial(
        run_study,
        spec,
        jobs=jobs,
        journal=journal,
        requests=load,
        backend=backend,
        scheduler=scheduler,
        storage=storage,
        say=lambda line: err.print(line, soft_wrap=True),
    )
    if quiet:
        return run()
    with progress() as bar:
        return run(listener=_Screen(spec, bar))


def confirmed_on_screen(result: StudyResult, *, jobs: int | None, quiet: bool) -> StudyResult:
    """Return a result with what replications say of its front."""
    from dse.confidence import Sureness, confirm

    if not quiet:
        err.print("confirming the front on other draws of the load", style="dim")
    confirmation = confirm(result, result.spec.confidence, jobs=jobs or default_jobs())
    return replace(result, sureness=Sureness.of(confirmation))


def show_result(result: StudyResult, folder: Path) -> None:
    """Print the front, the recommendation and why its neighbours lost."""
    clock = result.clock
    excluded = len(result.evaluations) - len(result.simulated)
    share = clock.proposing_s / clock.wall_s if clock.wall_s else 0.0
    out.print(
        f"{len(result.simulated)} designs simulated, {excluded} excluded before simulation, "
        f"{len(result.feasible)} feasible, front {len(result.front)}, in {clock.wall_s:.1f} s "
        f"(simulator {clock.simulator_cpu_s:.1f} CPU s, proposing and keeping trials {share:.0%} of the time)",
        soft_wrap=True,
    )
    if result.certificate:
        _show_certificate(result.certificate)
    elif len(result.simulated) < result.spec.budget.trials and not result.interrupted:
        out.print("it ended before its budget was used: out of time, or nothing new was proposed any more")
    if result.recommended is None:
        _show_nearest(result)
    else:
        _show_front(result, result.recommended)
    out.print(f"\nreport: {folder / REPORT}\nfront:  {folder / FRONT}", soft_wrap=True)


def _show_certificate(certificate: Certificate) -> None:
    """Print what became of every design of the space."""
    table = Table(
        title="What is proved of the space", title_justify="left", box=None, pad_edge=False, show_header=False
    )
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    table.add_row(f"{certificate.designs:,}", "designs, of which")
    for status, meaning in MEANINGS.items():
        if certificate.counts[status]:
            table.add_row(f"{certificate.counts[status]:,}", meaning)
    out.print(table)
    out.print(f"{open_designs(certificate)}\n", soft_wrap=True)


def _show_front(result: StudyResult, recommended: Evaluation) -> None:
    spec, front = result.spec, result.distinct_front
    knee = front.index(recommended)
    shown = set(evenly(len(front), ROWS, knee))
    table = Table(title=f"Pareto front of {spec.name}", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    table.add_column("clients", overflow="fold")
    for name in spec.objectives:
        table.add_column(heading(name), justify="right", no_wrap=True)
    table.add_column("limited by")
    for index, evaluation in enumerate(front):
        if index in shown:
            values = [figure(n, v) for n, v in zip(spec.objectives, evaluation.objectives, strict=True)]
            mark, style = ("→", "bold") if index == knee else ("", None)
            table.add_row(mark, short(result.deployment(evaluation)), *values, evaluation.bottleneck, style=style)
    out.print(table)
    if len(shown) < len(result.front):
        out.print(f"({len(result.front) - len(shown)} more in {FRONT})", style="dim")
    out.print()
    print_titled("recommended", row(result.deployment(recommended)))
    for slo in spec.slos:
        reached = (1 + recommended.figures[f"{slo.name}_excess"]) * slo.limit_s
        out.print(f"  {slo.metric} p{slo.percentile:g} {seconds(reached)} of {seconds(slo.limit_s)} allowed")
    for neighbour in (knee - 1, knee + 1):
        if 0 <= neighbour < len(front):
            other = front[neighbour]
            out.print(f"  not {row(result.deployment(other))}: {compare(spec, other, recommended)}", soft_wrap=True)
    if result.sureness:
        print_titled("how sure", result.sureness.summary)
    note = front_caveat(result)
    if note:
        out.print(f"on the front, {note}", style="dim", soft_wrap=True)


def _show_nearest(result: StudyResult) -> None:
    simulated = sorted(result.simulated, key=lambda e: sum(max(0.0, v) for v in e.constraints.values()))
    if not simulated:
        out.print("no design could be simulated: all exceed the limits or the memory", style="bold")
        return
    nearest = simulated[0]
    missed = [
        promise(name) if name == "finite" else f"{promise(name)} by {percent(nearest.figures[f'{name}_excess'])}"
        for name in nearest.broken
    ]
    out.print(f"no design keeps every {'promise' if result.spec.constraints else 'SLO'}", style="bold")
    out.print(f"nearest: {row(result.deployment(nearest))}, which misses {', '.join(missed)}", soft_wrap=True)


def show_member(found: Found) -> None:
    """Say in a line how the study of a member went, on the error output: the answer is the whole family's."""
    result = found.result
    err.print(
        f"{found.member.label}: {len(result.simulated)} designs simulated, {len(result.feasible)} feasible, front "
        f"{len(result.front)}, in {result.clock.wall_s:.1f} s",
        soft_wrap=True,
    )


def show_answer(answer: Answer, folder: Path) -> None:
    """Print members, fronts and recommendations of a family."""
    _show_table(members_table(answer))
    for front in answer.fronts:
        out.print()
        if front.designs:
            _show_table(front_table(answer, front))
    out.print()
    for front in answer.fronts:
        print_titled("recommended", recommendation(answer, front))
    out.print(f"\nreport: {folder / REPORT}\nfront:  {folder / FRONT}", soft_wrap=True)


def _show_table(given: FamilyTable) -> None:
    table = Table(title=given.title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for place, title in enumerate(given.head):
        is_number = place in given.numbers
        table.add_column(title, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    for place, cells in enumerate(given.rows):
        mark, style = ("→", "bold") if place == given.marked else ("", None)
        table.add_row(mark, *cells, style=style)
    out.print(table)
    if given.note:
        out.print(given.note, style="dim", soft_wrap=True)
