"""What docs/search-spaces.md shows: its examples run, and its table has every dimension and no other."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import yaml

from search_spaces import ServingSpace
from tests.search_spaces.test_serving import SPACE

PAGE = (Path(__file__).parents[2] / "docs" / "search-spaces.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the blocks of a language on the page."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_python_example_prints_what_the_page_says() -> None:
    (code,), (expected,) = blocks("python"), blocks("text")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "docs/search-spaces.md", "exec"), {})
    assert printed.getvalue() == expected


def test_the_studies_on_the_page_are_spaces() -> None:
    for text in blocks("yaml"):
        assert ServingSpace.parse(yaml.safe_load(text)["space"]).space.size > 1000


def test_the_table_has_every_dimension() -> None:
    told = set()
    for line in PAGE.splitlines():
        if line.startswith(("| `", "| *")):
            first = line.split("|")[1]
            for name in first.replace("*pool*`", "`POOL").replace("*stage*`", "`STAGE").split(","):
                told.add(name.strip().strip("`"))
    pools, stages = ("main", "extra", "prefill", "decode"), ("embed", "retrieve")
    names = set()
    for dimension in SPACE.dimensions:
        owner, _, what = dimension.name.rpartition(".")
        if owner in stages:
            names.add(f"STAGE.{what}")
        elif owner in pools and f"POOL.{what}" in told:
            names.add(f"POOL.{what}")
        else:
            names.add(dimension.name)
    assert told == names
