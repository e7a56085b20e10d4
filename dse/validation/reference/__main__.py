"""``python -m dse.validation.reference DIR -o docs/fidelity.md``: write the page of the shared reference data."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dse.cli.console import BAD_INPUT, NOT_FEASIBLE, announce_compilation, err
from dse.output import check_place, write_whole
from dse.validation.reference.page import render, study
from dse.validation.reference.row import Options
from dse.validation.reference.rows import ROWS
from simulator.errors import SpecError, unknown_name


def main(arguments: list[str] | None = None) -> int:
    """Run the studies, write the page, return 3 if a bar is not kept."""
    parser = argparse.ArgumentParser(prog="python -m dse.validation.reference", description=__doc__)
    parser.add_argument("reference", type=Path, metavar="DIR", help="folder of the reference measurements")
    parser.add_argument("-o", "--out", type=Path, required=True, help="Markdown to write, e.g. docs/fidelity.md")
    parser.add_argument("-j", "--jobs", type=int, help="processes; all processors if absent")
    parser.add_argument("--only", help="names of rows, with commas: " + ", ".join(row.name for row in ROWS))
    given = parser.parse_args(arguments)
    try:
        check_place(given.out)
        names = given.only.split(",") if given.only else [row.name for row in ROWS]
        known = {row.name: row for row in ROWS}
        for name in names:
            if name not in known:
                raise unknown_name("--only", name, known)
        announce_compilation()
        findings, absent = study(
            given.reference,
            [known[name] for name in names],
            Options(jobs=given.jobs),
            lambda name: err.print(f"{name} …", soft_wrap=True),
        )
    except SpecError as error:
        err.print(f"error: {error}", markup=False, soft_wrap=True)
        return BAD_INPUT
    page = render(findings, absent)
    write_whole(given.out, lambda path: path.write_text(page, encoding="utf-8"))
    missed = [finding.data for finding in findings if not finding.kept]
    for data in missed:
        err.print(f"bar not kept: {data}", style="red", markup=False, soft_wrap=True)
    return NOT_FEASIBLE if missed else 0


if __name__ == "__main__":
    sys.exit(main())
