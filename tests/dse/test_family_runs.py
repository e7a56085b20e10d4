"""The runs of families as commands: what is held, cleared, gone on with and refused, and what their pages say of it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from typer.testing import CliRunner, Result

from dse.cli.main import app
from dse.cli.screen import watch
from dse.cli.searching import Searching
from dse.family.folder import load_answer
from dse.spec import StudySpec
from simulator import SpecError

from .test_family import BASE, LABELS

SHORT = {**BASE, "budget": {"trials": 3}}
ALONE = {key: value for key, value in SHORT.items() if key not in ("scenarios", "alternatives")}


def write(file: Path, given: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["run", *map(str, words)])


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A file of the family with small budgets."""
    file = tmp_path / "tiny.yaml"
    write(file, SHORT)
    return file


def written(folder: Path) -> set[str]:
    """Return the files in a folder and below."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what makes runs stop, as by Ctrl-C, with the member of a number; with 0 none stops any more."""
    run, left = Searching.run, [0]

    def stopping(how: Searching, spec: StudySpec, *given: Any, **told: bool) -> Any:
        left[0] -= 1
        result = run(how, spec, *given, **told)
        return replace(result, interrupted=True) if left[0] == 0 else result

    monkeypatch.setattr(Searching, "run", stopping)
    return partial(left.__setitem__, 0)


def test_page_says_what_the_command_line_changed(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert command(tiny, "-j", "1", "--rate", "3", "--trials", "2", "--seed", "9", "--out", folder).exit_code == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "dse run tiny.yaml --trials 2 --seed 9 --rate 3.0</code>" in page
    assert "Changed on the command line" in page
    assert "without what the command line changed" in page
    said = (folder / "report.md").read_text(encoding="utf-8")
    assert "Changed on the command line: `--trials 2 --seed 9 --rate 3.0`." in said
    assert CliRunner().invoke(app, ["report", str(folder)]).exit_code == 0
    assert (folder / "report.html").read_text(encoding="utf-8") == page
    assert command(tiny, "-j", "1", "--out", folder, "--overwrite").exit_code == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "dse run tiny.yaml</code>" in page
    assert "command line" not in page
    data = json.loads((folder / "family.json").read_text(encoding="utf-8"))
    (folder / "family.json").write_text(json.dumps({"family": data["family"], "whole": True}), encoding="utf-8")
    with pytest.raises(SpecError, match="another version of dse"):
        load_answer(folder)


def test_links_lead_to_the_members_from_wherever_the_page_is(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(tiny, "-j", "1", "--trials", "1", "--out", "runs/a [b] #1").exit_code == 0
    (tmp_path / "pages").mkdir()
    for page in (Path("agents.html"), Path("pages/agents.html"), tmp_path / "runs/a [b] #1/again.html"):
        shown = CliRunner().invoke(app, ["report", "runs/a [b] #1", "--out", str(page)])
        assert shown.stdout == f"{page}\n"
        links = re.findall(r'href="([^"]*report\.html)"', page.read_text(encoding="utf-8"))
        assert len(links) == len(LABELS)
        assert all((page.parent / unquote(unescape(link))).is_file() for link in links)


def test_overwriting_clears_all_members_at_once(tiny: Path, tmp_path: Path, ctrl_c: Callable[[int], None]) -> None:
    folder = tmp_path / "out"
    assert command(tiny, "-j", "1", "--out", folder).exit_code == 0
    (folder / "fast/short/notes.txt").write_text("one's own")
    write(tiny, {**SHORT, "seed": 5, "scenarios": {"slow": {}, "slower": {"workload.arrivals.rate_rps": 1.0}}})
    ctrl_c(1)
    stopped = command(tiny, "-j", "1", "--out", folder, "--overwrite")
    assert stopped.exit_code == 130
    run = {f"slow/short/{name}" for name in ("trials.journal", "study.json", "front.csv", "report.html")}
    assert written(folder) == {"family.json", "fast/short/notes.txt", "slow/short/trials.parquet", *run}
    assert not (folder / "fast/long").exists()
    with pytest.raises(SpecError, match="stopped before all its members came to an end"):
        load_answer(folder)
    assert command(tiny, "-j", "1", "--out", folder, "--resume").exit_code == 0
    assert [found.member.label for found in load_answer(folder).founds] == [
        *("slow/short", "slow/long", "slower/short", "slower/long")
    ]


def test_a_folder_holds_a_study_or_a_family(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    alone = tmp_path / "alone" / "tiny.yaml"
    alone.parent.mkdir()
    write(alone, ALONE)
    assert command(alone, "-j", "1", "-q").stdout == "runs/tiny/report.html\n"
    study = {path: (tmp_path / "runs/tiny" / path).read_bytes() for path in written(tmp_path / "runs/tiny")}
    assert command(tiny, "-j", "1", "-q").stdout == "runs/tiny-2/report.html\n"
    assert command(alone, "-j", "1", "-q").stdout == "runs/tiny-3/report.html\n"
    refused = command(tiny, "-j", "1", "--out", "runs/tiny")
    assert "holds the run of a single study" in str(refused.exception)
    refused = command(alone, "-j", "1", "--out", "runs/tiny-2")
    assert "holds the run of a family of studies" in str(refused.exception)
    assert "family.json is missing" in str(command(tiny, "--out", "runs/tiny", "--resume").exception)
    assert study == {path: (tmp_path / "runs/tiny" / path).read_bytes() for path in written(tmp_path / "runs/tiny")}
    family_files = written(tmp_path / "runs/tiny-2")
    for folder in ("runs/tiny", "runs/tiny-2"):
        assert command(tiny, "-j", "1", "--out", folder, "--overwrite").exit_code == 0
        assert written(tmp_path / folder) == family_files
    assert command(alone, "-j", "1", "--out", "runs/tiny-2", "--overwrite").exit_code == 0
    assert written(tmp_path / "runs/tiny-2") == set(study)
    assert not (tmp_path / "runs/tiny-2/slow").exists()


def test_only_the_same_family_goes_on(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert command(tiny, "-j", "1", "--out", folder).exit_code == 0
    before = (folder / "family.json").read_bytes()
    for changes, said in (
        ({"name": "other"}, "holds the run of family 'tiny', given 'other'"),
        ({"scenarios": {"slow": {}}}, "other members, among them fast/short, fast/long"),
        ({"seed": 3}, "holds trials of a different"),
    ):
        write(tiny, {**SHORT, **changes})
        assert said in str(command(tiny, "-j", "1", "--out", folder, "--resume").exception)
        assert (folder / "family.json").read_bytes() == before
    more = {"slow": {}, "fast": BASE["scenarios"]["fast"], "slower": {"workload.arrivals.rate_rps": 1.0}}
    write(tiny, {**SHORT, "scenarios": more})
    assert command(tiny, "-j", "1", "--out", folder, "--resume").exit_code == 0
    assert len(load_answer(folder).founds) == 6


def test_the_command_that_is_printed_goes_on(
    tiny: Path, ctrl_c: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny.parent)
    trace = tiny.with_name("a trace.csv")
    lines = [f"2023-11-16 18:15:{second:02}.0,374,44" for second in range(40)]
    trace.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]))
    options = ["--trials", "2", "--jobs", "1", "--seed", "7", "--sampler", "random", "--trace", trace, "--rate", "2"]
    for asked in ("tiny.yaml", "tiny.yaml/fast/long"):
        ctrl_c(1)
        storage = ["--storage", f"sqlite:///{asked.count('/')}.db"]
        stopped = command(asked, *options, *storage, "--requests", "30", "--confirm", "-q", "--out", "my [runs]")
        assert stopped.exit_code == 130
        line = stopped.stderr.splitlines()[-1]
        words = shlex.split(line.removeprefix("stopped; go on with: "))
        assert words[:3] == ["dse", "run", asked]
        assert words[-3:] == ["--out", "my [runs]", "--resume"]
        assert {"--seed", "--trace", str(trace), "--requests", "--confirm", *storage} <= {*words}
        ctrl_c(0)
        going_on = command(*words[2:])
        assert going_on.exit_code == 0, going_on.exception
        assert going_on.stdout == "my [runs]/report.html\n"
        shutil.rmtree("my [runs]")


def test_no_password_is_printed(tiny: Path, ctrl_c: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.parent)
    ctrl_c(1)
    monkeypatch.setattr("dse.cli.searching.watch", partial(_without_storage, watch))
    stopped = command("tiny.yaml", "-j", "1", "--storage", "postgresql://me:secret@host/x?sslmode=require")
    assert stopped.exit_code == 130
    assert "postgresql+psycopg://me:***@host/x?sslmode=require" in stopped.stderr
    assert "secret" not in stopped.stderr


def _without_storage(run: Callable[..., Any], *given: Any, **how: Any) -> Any:
    return run(*given, **{**how, "storage": None})


@pytest.mark.parametrize("asked", ["tiny.yaml", "tiny.yaml/fast/long"])
def test_a_run_that_fails_before_it_writes_leaves_nothing(
    asked: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny.parent)

    def failing(*_: object, **__: object) -> None:
        raise SpecError("--storage: no such host")

    with monkeypatch.context() as broken:
        broken.setattr("dse.cli.searching.watch", failing)
        assert "no such host" in str(command(asked, "-j", "1").exception)
        assert not Path("runs").exists()
    assert command(asked, "-j", "1", "--trials", "1").exit_code == 0
    assert len(list(Path("runs").iterdir())) == 1
