"""Writes anew what commands print into the pages that quote them.

``python -m tests.figures`` does all of it (many minutes), ``python -m tests.figures examples explain`` a part, and
``python -m tests.figures studies/agents.md`` one page of a shipped study.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from simulator import Scenario, catalog, simulate
from simulator.spec.engine_profile import EngineProfile
from tests.test_examples import FIGURE, ROOT

DOCS = ROOT / "docs"
EXAMPLE = re.compile(r"^\|.*`dse simulate (docs/examples/[\w-]+\.yaml)`")
QUOTED = re.compile(r"(?<=```\n)\$ (dse [^\n]*)\n(…\n)?(.*?)(?=```)", re.DOTALL)
FINDING = re.compile(r"(?<=<!-- dse compare )([\w-]+)( --markdown -->\n).*?(?=<!-- end of )", re.DOTALL)
PRINTS = re.compile(
    r"(?<=<!-- prints: )(?P<command>dse [^\n]*?)(?P<mark> -->\n)(?P<printed>.*?)(?=<!-- end of print)", re.DOTALL
)
ENGINES = re.compile(r"(?<=<!-- engines -->\n).*?(?=<!-- end of engines -->)", re.DOTALL)


def rounded(value: float, as_before: str) -> str:
    """Return a value with as many significant digits as the figure before, two at least; whole numbers in full."""
    if value == round(value):
        return f"{value:,.0f}"
    digits = max(2, len(as_before.replace(",", "").replace(".", "").lstrip("0")))
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])
    return f"{value:,.{max(0, digits - 1 - exponent)}f}"


def with_figures(row: str) -> str:
    """Return a row of the examples with the figures that its command prints now; other lines as they are."""
    found = EXAMPLE.match(row)
    if not found:
        return row
    given = Scenario.from_yaml(Path(found[1]))
    summary = simulate(given.deployment, given.workload).summary()
    return FIGURE.sub(lambda figure: f"`{figure[1]}` {rounded(summary[figure[1]], figure[2])}", row)


def printed(command: str, folder: str | None = None) -> str:
    """Return what a command prints in a folder, without spaces at the ends of lines."""
    words = [sys.executable, "-m", *shlex.split(command)]
    environment = {**os.environ, "COLUMNS": "400"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    assert done.returncode in {0, 3}, done.stderr  # 3: a claim of a finding fails
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


def quoted(found: re.Match[str]) -> str:
    """Return a block with its command and what it prints; where something was left out before, the last paragraph."""
    output = printed(found[1])
    if found[2]:
        output = output.rstrip("\n").split("\n\n")[-1] + "\n"
    return f"$ {found[1]}\n{found[2] or ''}{output}"


def engine_row(name: str) -> str:
    """Return a row of the table of engines."""
    profile = catalog.engine_profile(name)
    given = profile.defaults.model_dump(exclude_none=True)
    where = f"fitted on {', '.join(f'`{each}`' for each in profile.accelerators)}"
    cells = [
        f"`{name}`",
        where if profile.calibrated == "yes" else "by hand",
        f"{profile.step_us:,.0f}" + (f" + {profile.parallel_step_us:,.0f}" if profile.parallel_step_us else ""),
        f"{profile.sequence_us:.3g}",
        f"{profile.launch_share:.2g}",
        f"{profile.eager_layer_us:,.0f}" + (f" from {profile.graph_tokens + 1}" if profile.graph_tokens else ""),
        f"{profile.prompt_step_us:,.0f}",
        f"{profile.request_us / 1000:.2g}",
        _slower(profile),
        _reductions(profile),
        ", ".join(f"{field} {str(value).lower()}" for field, value in given.items()),
    ]
    return f"| {' | '.join(cells)} |"


def _slower(profile: EngineProfile) -> str:
    chips = {*profile.compute_slowdown, *profile.host_slowdown}
    return "; ".join(
        f"`{chip}` {profile.compute_slowdown.get(chip, 1.0):.3g}, {profile.host_slowdown.get(chip, 1.0):.3g}"
        for chip in sorted(chips)
    )


def _reductions(profile: EngineProfile) -> str:
    words = "own" if profile.own_all_reduce else "the library's"
    if profile.collective_us:
        words += f", {profile.collective_us:.2g} µs more"
    if profile.bulk_tokens is not None:
        words += f", from {profile.bulk_tokens + 1} tokens on {profile.bulk_share:.2g} of the rate besides"
    return words


def rewrite(page: Path, change: Callable[[str], str]) -> None:
    """Change a page and say which lines are new."""
    before = page.read_text(encoding="utf-8")
    after = change(before)
    page.write_text(after, encoding="utf-8")
    known = set(before.splitlines())
    for line in after.splitlines():
        if line not in known:
            print(line)


def examples() -> None:
    rewrite(DOCS / "examples.md", lambda text: "".join(map(with_figures, text.splitlines(keepends=True))))


def explain() -> None:
    rewrite(DOCS / "explain.md", lambda text: QUOTED.sub(quoted, text))


def findings() -> None:
    def table(found: re.Match[str]) -> str:
        return found[1] + found[2] + printed(f"dse compare {found[1]} --markdown")

    rewrite(ROOT / "studies" / "findings" / "README.md", lambda text: FINDING.sub(table, text))


def study_page(page: Path) -> None:
    """Write the tables of a shipped study's page anew."""

    def table(found: re.Match[str]) -> str:
        # What commands write must not stand in the tree.
        with TemporaryDirectory() as folder:
            return found["command"] + found["mark"] + printed(found["command"], folder)

    rewrite(page, lambda text: PRINTS.sub(table, text))


def studies() -> None:
    for page in sorted((ROOT / "studies").glob("*.md")):
        study_page(page)


def engines() -> None:
    head = (
        "| engine | status | step_us | sequence_us | launch_share | eager_layer_us | prompt_step_us | request, ms "
        "| arithmetic, host slower | all-reduces | defaults |\n" + "|---" * 11 + "|\n"
    )
    table = head + "".join(f"{engine_row(name)}\n" for name in catalog.engine_names())
    rewrite(DOCS / "cost-model.md", lambda text: ENGINES.sub(lambda _: table, text))


PAGES: Final = {each.__name__: each for each in (examples, explain, engines, findings, studies)}

if __name__ == "__main__":
    os.chdir(ROOT)
    for name in sys.argv[1:] or PAGES:
        if name.endswith(".md"):
            study_page(ROOT / name)
        else:
            PAGES[name]()
