"""How ``dse run`` runs a study, or one after the other the members of a family, and keeps what they found."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import typer

from dse.cli.console import INTERRUPTED, NOT_FEASIBLE, announce_compilation, err, out
from dse.cli.screen import confirmed_on_screen, show_answer, show_member, show_result, watch
from dse.evaluation import build_load
from dse.family import Answer, FamilySpec, Found, Member
from dse.family.folder import check_same, mark, save_answer
from dse.family.markdown import answer_markdown
from dse.output import FAMILY, JOURNAL, REPORT, claim, save
from dse.result import StudyResult
from dse.spec import StudySpec
from simulator import Requests


@dataclass(frozen=True)
class Searching:
    """What the command line says of how to run, not of what.

    Attributes
    ----------
    jobs
        Processes; all processors if None.
    quiet, markdown
        Whether to print the path of the report alone, or the answer as Markdown.
    backend, scheduler, storage
        What evaluates, the address of a cluster, the database to share trials.
    resume, overwrite
        Whether to go on with what is in the folder, or to replace it.
    """

    jobs: int | None
    quiet: bool
    markdown: bool
    backend: str
    scheduler: str | None
    storage: str | None
    resume: bool
    overwrite: bool

    def run(self, spec: StudySpec, load: tuple[Requests, ...], folder: Path, *, told: bool = True) -> StudyResult:
        """Run a study in a folder that is held, and write what it found.

        Parameters
        ----------
        spec, load, folder
            The study, the requests of its workloads, and where its results go.
        told
            Whether to show how it gets on.
        """
        quiet = self.quiet or not told
        result = watch(
            spec,
            load,
            jobs=self.jobs,
            journal=folder / JOURNAL,
            quiet=quiet,
            backend=self.backend,
            scheduler=self.scheduler,
            storage=self.storage,
        )
        if spec.confidence and result.front and not result.interrupted:
            result = confirmed_on_screen(result, jobs=self.jobs, quiet=quiet)
        save(result, folder)
        return result


def run_alone(how: Searching, command: Sequence[str], spec: StudySpec, wanted: Path | None) -> None:
    """Run a study and show what it found.

    Parameters
    ----------
    how
        How to run it.
    command
        The command that was given, without what it says of the folder.
    spec
        The study.
    wanted
        Folder of the results; ``runs/NAME`` if None, with a number if there is one already.
    """
    load = build_load(spec)
    with _held(how, wanted, spec.name, JOURNAL) as folder:
        announce_compilation()
        result = how.run(spec, load, folder)
    if how.quiet:
        out.print(str(folder / REPORT), soft_wrap=True)
    elif how.markdown:
        typer.echo(answer_markdown(_of_one(spec, result)))
    else:
        show_result(result, folder)
    if result.interrupted:
        _stopped(command, folder)
    if not result.front:
        raise typer.Exit(NOT_FEASIBLE)


def run_together(
    how: Searching,
    command: Sequence[str],
    family: FamilySpec,
    members: Sequence[Member],
    options: Sequence[str],
    wanted: Path | None,
) -> None:
    """Run the members of a family one after the other, and show what they found together.

    Parameters
    ----------
    how, command, wanted
        As for :func:`run_alone`.
    family
        The family.
    members
        Its members, with what was changed on the command line.
    options
        What was changed there, word by word.
    """
    founds: list[Found] = []
    # All before a folder is made: what is wrong with one of them leaves nothing behind.
    loads = [build_load(member.spec) for member in members]
    with _held(how, wanted, family.name, FAMILY) as folder:
        if how.resume:
            check_same(family, folder)
        else:
            mark(family, options, folder, whole=False)
        announce_compilation()
        for member, load in zip(members, loads, strict=True):
            here = folder / member.label
            going_on = how.resume and (here / JOURNAL).exists()
            with claim(here, resume=going_on, overwrite=how.overwrite):
                # Without a terminal a line for each member is enough.
                founds.append(Found(member, how.run(member.spec, load, here, told=err.is_terminal)))
            # When going on not before: a member that refuses leaves all as it is.
            mark(family, options, folder, whole=False)
            if founds[-1].result.interrupted:
                _stopped(command, folder)
            if not how.quiet:
                show_member(founds[-1])
        answer = Answer(family, tuple(founds), tuple(options))
        save_answer(answer, folder)
    if how.quiet:
        out.print(str(folder / REPORT), soft_wrap=True)
    elif how.markdown:
        typer.echo(answer_markdown(answer))
    else:
        show_answer(answer, folder)
    if not all(front.designs for front in answer.fronts):
        raise typer.Exit(NOT_FEASIBLE)


def _held(how: Searching, wanted: Path | None, name: str, mark: str) -> AbstractContextManager[Path]:
    """Return the hold on a folder for results."""
    place = wanted or Path("runs") / name
    return claim(place, resume=how.resume, overwrite=how.overwrite, numbered=wanted is None, mark=mark)


def _of_one(spec: StudySpec, result: StudyResult) -> Answer:
    """Return the result of a study that stands alone as the answer of a family."""
    family = FamilySpec.model_construct(**dict(spec))
    return Answer(family, (Found(Member("", "", spec), result),))


def _stopped(command: Sequence[str], folder: Path) -> NoReturn:
    again = shlex.join([*command, "--out", str(folder), "--resume"])
    err.print(f"stopped; go on with: {again}", soft_wrap=True)
    raise typer.Exit(INTERRUPTED)
