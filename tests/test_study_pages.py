"""The pages of shipped studies quote what their commands print, within one per cent; what is to be tried works."""

from __future__ import annotations

import re
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dse.library import family_names
from tests.figures import PRINTS, printed
from tests.test_examples import ROOT

STUDIES = ROOT / "studies"
PAGES = sorted(path.stem for path in STUDIES.glob("*.md"))
SOLVED = {"finite-chat", "finite-code", "finite-rag"}
"""Spaces to measure searches with, not questions of a user: docs/samplers.md is about them."""

NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?!\w)")
TOLERANCE = 0.01
MOST_CPU_S = 240
"""Two minutes of two processors."""

BLOCKS = [
    pytest.param(page, found["command"], found["printed"], id=f"{page}: {found['command']}")
    for page in PAGES
    for found in PRINTS.finditer((STUDIES / f"{page}.md").read_text(encoding="utf-8"))
]


def numbers(text: str) -> list[float]:
    """Return the numbers that stand alone; those in names, such as ``TP4``, are words."""
    return [float(each.replace(",", "")) for each in NUMBER.findall(text)]


def test_every_study_has_a_page() -> None:
    assert set(family_names()) - SOLVED == set(PAGES) - {"README"}


@pytest.mark.parametrize("page", PAGES)
def test_page_says_what_a_reader_needs(page: str) -> None:
    text = (STUDIES / f"{page}.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    for heading in ("Question", "Method", "Result", "Published and found", "Limits", "Try"):
        assert heading in headings, f"{page}.md lacks ## {heading}"
    assert f"<!-- prints: dse run {page} --markdown -->" in text
    assert text.count("<!-- prints: ") == text.count("<!-- end of print -->") == len(PRINTS.findall(text))


@pytest.mark.parametrize(("page", "command", "quoted"), BLOCKS)
def test_page_quotes_its_commands(page: str, command: str, quoted: str, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun_s = time.monotonic()
    found = printed(command, str(tmp_path))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert NUMBER.sub("#", found) == NUMBER.sub("#", quoted), f"python -m tests.figures studies/{page}.md"
    assert numbers(found) == pytest.approx(numbers(quoted), rel=TOLERANCE)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{command}: {cpu_s:.0f} s of CPU, {time.monotonic() - begun_s:.0f} s")
    assert cpu_s <= MOST_CPU_S


@pytest.mark.parametrize("page", PAGES)
def test_what_is_to_be_tried_works(page: str, tmp_path: Path) -> None:
    """Every command of the last section, with a few trials."""
    last = (STUDIES / f"{page}.md").read_text(encoding="utf-8").partition("## Try")[2]
    commands = [line.partition("#")[0].strip() for line in re.findall(r"^dse .*$", last, re.MULTILINE)]
    assert commands
    for command in commands:
        words = shlex.split(command)
        if words[1] == "run":
            words += ["--trials", "4", "--jobs", "1"]
        done = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False
        )
        # 3: four trials may find nothing that keeps every promise.
        assert done.returncode in {0, 3}, f"{command}\n{done.stderr[-2000:]}"
        assert "Traceback" not in done.stderr
