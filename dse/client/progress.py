"""How a study that is waited for gets on, on screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from dse.service.answers.records import StudySummary


@contextmanager
def shown(study: StudySummary) -> Iterator[Callable[[StudySummary], None]]:
    """Show a line that renews itself; without a terminal, a line every tenth of the budget and at each new state.

    Yields
    ------
    Callable
        To be called with what was heard last.
    """
    console = Console(stderr=True, highlight=False)
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(study.name, total=_total(study), state=_state(study))
        said = ("", -1)

        def show(now: StudySummary) -> None:
            nonlocal said
            bar.update(task, completed=now.simulated, total=_total(now), state=_state(now))
            news = (now.state, now.simulated * 10 // _total(now))
            if not console.is_terminal and news != said:
                said = news
                console.print(f"{now.name}: {_state(now)}", markup=False, soft_wrap=True)

        yield show


def _total(study: StudySummary) -> int:
    return max(1, min(study.trials, study.designs))


def _state(study: StudySummary) -> str:
    return (
        f"{study.state}, {study.simulated:,}/{_total(study):,} simulated, {study.feasible} feasible, "
        f"front {study.front}"
    )


@contextmanager
def bytes_shown(name: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """Show how much of a file was sent.

    Yields
    ------
    Callable
        To be called with the bytes sent so far and all.
    """
    console = Console(stderr=True, highlight=False)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=total)

        def show(sent: int, total: int) -> None:
            bar.update(task, completed=sent, total=total)

        yield show
