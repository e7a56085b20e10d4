"""The folder of a family's run: the folder of each member, and beside them what they say together.

==================  ==================================================================
``family.json``     the family as it was asked, and whether all members came to an end
``report.html``     the answer, which leads to the members' reports
``report.md``       its tables
``members.csv``     a row for each member
``front.csv``       the designs of all fronts
``LABEL/``          the run of a member (:mod:`dse.output`)
==================  ==================================================================
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from dse.family.answer import Answer, Found
from dse.family.markdown import answer_markdown
from dse.family.page import render_family
from dse.family.spec import FamilySpec, Member
from dse.output import FAMILY, FRONT, MARKDOWN, REPORT, load, write_whole
from simulator import SpecError

MEMBERS: Final = "members.csv"


def mark(family: FamilySpec, folder: Path, *, whole: bool) -> None:
    """Write which family runs, or ran, in a folder.

    Written in place, not moved there: the file is what holds the folder (:func:`dse.output.claim`).
    """
    text = json.dumps({"family": family.model_dump(mode="json", exclude_none=True), "whole": whole}, indent=2)
    (folder / FAMILY).write_text(text, encoding="utf-8")


def save_answer(answer: Answer, folder: Path) -> None:
    """Write everything but the members' own folders."""
    write_whole(folder / MEMBERS, lambda path: answer.members.to_csv(path, index=False))
    write_whole(folder / FRONT, lambda path: answer.front_table.to_csv(path, index=False))
    save_answer_markdown(answer, folder / MARKDOWN)
    save_answer_report(answer, folder / REPORT)
    mark(answer.family, folder, whole=True)


def save_answer_report(answer: Answer, path: Path) -> None:
    """Write the page of an answer."""
    page = render_family(answer)
    write_whole(path, lambda target: target.write_text(page, encoding="utf-8"))


def save_answer_markdown(answer: Answer, path: Path) -> None:
    """Write the tables of an answer."""
    text = f"# {answer.family.name}\n\n{answer.family.question}\n\n{answer_markdown(answer)}\n"
    write_whole(path, lambda target: target.write_text(text, encoding="utf-8"))


def load_answer(folder: Path) -> Answer:
    """Return the answer of a family from its folder.

    Raises
    ------
    SpecError
        If the folder holds no family, or the run of a member is not whole.
    """
    path = folder / FAMILY
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise SpecError(f"{path}: not written by dse run") from None
    family = FamilySpec.parse(data.get("family") if isinstance(data, dict) else None, source=str(path))
    founds = []
    for member in family.members:
        result = load(folder / member.label)
        # What was changed on the command line stands in the member's own run.
        founds.append(Found(Member(member.scenario, member.alternative, result.spec), result))
    return Answer(family, tuple(founds))
