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

from dse.family.answer import Answer
from dse.family.markdown import answer_markdown
from dse.family.page import render_family
from dse.family.spec import FamilySpec
from dse.output import FRONT, MARKDOWN, REPORT, write_whole

FAMILY: Final = "family.json"
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
    text = f"# {answer.family.name}\n\n{answer.family.question}\n\n{answer_markdown(answer)}\n"
    write_whole(folder / MARKDOWN, lambda path: path.write_text(text, encoding="utf-8"))
    page = render_family(answer)
    write_whole(folder / REPORT, lambda path: path.write_text(page, encoding="utf-8"))
    mark(answer.family, folder, whole=True)
