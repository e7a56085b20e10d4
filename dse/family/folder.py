"""The folder of a family's run: the folder of each member, and beside them what they say together.

==================  ==================================================================
``family.json``     the family, what was changed on the command line, and whether all members came to an end
``report.html``     the answer, which leads to the members' reports
``report.md``       its tables
``members.csv``     a row for each member
``front.csv``       the designs of all fronts
``LABEL/``          the run of a member (:mod:`dse.output`)
==================  ==================================================================
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dse.family.answer import Answer, Found
from dse.family.markdown import answer_markdown
from dse.family.page import render_family
from dse.family.spec import FamilySpec, Member
from dse.output import FAMILY, FRONT, MARKDOWN, MEMBERS, REPORT, load, write_whole
from simulator import SpecError


def mark(family: FamilySpec, options: Sequence[str], folder: Path, *, whole: bool) -> None:
    """Write which family runs, or ran, in a folder.

    Written in place, not moved there: the file is what holds the folder (:func:`dse.output.claim`).
    """
    data = {"family": family.model_dump(mode="json", exclude_none=True), "options": [*options], "whole": whole}
    (folder / FAMILY).write_text(json.dumps(data, indent=2), encoding="utf-8")


def check_same(family: FamilySpec, folder: Path) -> None:
    """Check that the run in a folder is that of a family, perhaps with fewer members, before it goes on.

    Raises
    ------
    SpecError
        If it is another one.
    """
    # Empty if the run was killed before it began.
    if not (folder / FAMILY).stat().st_size:
        return
    earlier, _ = _read(folder)
    if earlier.name != family.name:
        raise SpecError(f"{folder}: holds the run of family {earlier.name!r}, given {family.name!r}; use another --out")
    labels = {member.label for member in family.members}
    if gone := [member.label for member in earlier.members if member.label not in labels]:
        raise SpecError(
            f"{folder}: holds the run of a family {family.name!r} with other members, among them {', '.join(gone)}; "
            "replace it with --overwrite, or use another --out"
        )


def save_answer(answer: Answer, folder: Path) -> None:
    """Write everything but the members' own folders."""
    write_whole(folder / MEMBERS, lambda path: answer.members.to_csv(path, index=False))
    write_whole(folder / FRONT, lambda path: answer.front_table.to_csv(path, index=False))
    save_answer_markdown(answer, folder / MARKDOWN)
    save_answer_report(answer, folder / REPORT, folder)
    mark(answer.family, answer.options, folder, whole=True)


def save_answer_report(answer: Answer, path: Path, folder: Path) -> None:
    """Write the page of an answer, whose members ran in a folder."""
    runs = Path(os.path.relpath(folder, path.parent)).as_posix()
    page = render_family(answer, "" if runs == "." else f"{quote(runs)}/")
    write_whole(path, lambda target: target.write_text(page, encoding="utf-8"))


def save_answer_markdown(answer: Answer, path: Path) -> None:
    """Write the tables of an answer."""
    changed = f"Changed on the command line: `{answer.command_options}`.\n\n" if answer.options else ""
    text = f"# {answer.family.name}\n\n{answer.family.question}\n\n{changed}{answer_markdown(answer)}\n"
    write_whole(path, lambda target: target.write_text(text, encoding="utf-8"))


def load_answer(folder: Path) -> Answer:
    """Return the answer of a family from its folder.

    Raises
    ------
    SpecError
        If the folder holds no family, or not all members came to an end.
    """
    family, data = _read(folder)
    if not data.get("whole"):
        raise SpecError(f"{folder}: the run stopped before all its members came to an end; go on with --resume")
    if "options" not in data:
        raise SpecError(f"{folder / FAMILY}: written by another version of dse: it has no options; go on with --resume")
    founds = []
    for member in family.members:
        result = load(folder / member.label)
        # What was changed on the command line stands in the member's own run.
        founds.append(Found(Member(member.scenario, member.alternative, result.spec), result))
    return Answer(family, tuple(founds), tuple(data["options"]))


def _read(folder: Path) -> tuple[FamilySpec, dict[str, Any]]:
    """Return the family that ran in a folder, and all that was written of it."""
    path = folder / FAMILY
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise SpecError(f"{path}: not written by dse run") from None
    if not isinstance(data, dict):
        raise SpecError(f"{path}: not written by dse run")
    return FamilySpec.parse(data.get("family"), source=str(path)), data
