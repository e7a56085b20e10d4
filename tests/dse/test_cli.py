"""The command line as its user meets it: in processes of its own, exit codes, files, messages."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from dse.cli.main import main

from .conftest import SMALL


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder that holds the small study."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({**SMALL, "budget": {"trials": 20}}))
    return path


def dse(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["dse", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dse", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study, what it found, and a deployment."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("study.yaml").write_text(yaml.safe_dump({**SMALL, "budget": {"trials": 20}}))
        assert dse(patch, "run", "study.yaml", "--jobs", "1", "--out", "study", "-q") == 0
        recommended = json.loads(Path("study/study.json").read_text())["recommended"]
        Path("deployment.yaml").write_text(yaml.safe_dump(recommended["deployment"]))
    return folder


FILES = ("front.csv", "report.html", "study.json", "trials.journal", "trials.parquet")


def test_run_writes_everything(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dse(monkeypatch, "run", str(study), "--jobs", "1", "--out", "here") == 0
    printed = capsys.readouterr().out
    assert "recommended" in printed
    assert "here/report.html" in printed
    assert sorted(os.listdir("here")) == sorted(FILES)
    data = json.loads(Path("here/study.json").read_text())
    assert data["simulated"] == 20
    front, trials = pd.read_csv("here/front.csv"), pd.read_parquet("here/trials.parquet")
    assert len(front) == len(data["front"]) == trials["on_front"].sum()
    assert trials["simulated"].sum() == 20

    # A deployment from the front is one that `dse simulate` takes.
    Path("deployment.yaml").write_text(yaml.safe_dump(data["recommended"]["deployment"]))
    assert dse(monkeypatch, "simulate", "deployment.yaml", "--rate", "4", "--requests", "300") == 0

    # The same command does not destroy what is there; with --resume it goes on.
    assert dse(monkeypatch, "run", str(study), "--out", "here") == 2
    assert dse(monkeypatch, "run", str(study), "--out", "here", "--resume", "--trials", "30", "-q") == 0
    assert json.loads(Path("here/study.json").read_text())["simulated"] == 30
    before = Path("here/report.html").read_text()
    Path("here/report.html").unlink()
    assert dse(monkeypatch, "report", "here") == 0
    assert Path("here/report.html").read_text() == before


def test_runs_without_out_get_their_own_folder(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("runs/small", "runs/small-2"):
        assert dse(monkeypatch, "run", str(study), "--jobs", "1", "--trials", "5", "-q") == 0
        assert (Path(folder) / "report.html").exists()


def test_nothing_feasible_is_exit_code_3(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    impossible = {**SMALL, "slos": [{"metric": "ttft", "percentile": 99, "limit_s": 1e-6}]}
    study.write_text(yaml.safe_dump(impossible))
    assert dse(monkeypatch, "run", str(study), "--jobs", "1", "--trials", "5") == 3
    assert "no design keeps every SLO" in capsys.readouterr().out


def test_no_finite_objective_is_told(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers of one token have no time per output token."""
    lengths = {kind: {"distribution": "constant", "tokens": 1} for kind in ("prompt", "output")}
    workload = {**SMALL["workload"], "lengths": lengths}
    study.write_text(yaml.safe_dump({**SMALL, "workload": workload, "slos": [], "objectives": ["tpot_p90_s"]}))
    assert dse(monkeypatch, "run", str(study), "--jobs", "1", "--trials", "5", "--out", "here") == 3
    assert "misses a finite value of every objective" in capsys.readouterr().out
    json.loads(Path("here/study.json").read_text())


def test_simulate_json_and_slo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "llama-3.1-8b", "--tp", "1", "--requests", "200", "--json"]
    assert dse(monkeypatch, "simulate", *options, "--slo", "e2e:50:0.001") == 3
    figures = json.loads(capsys.readouterr().out)
    assert figures["requests"] == 200
    assert figures["pools"][0]["name"] == "main"


DEPLOYMENT = {
    "pools": [
        {"name": "weak", "stage": "weak", "model": "llama-3.1-8b", "accelerator": "h100-sxm", "prefix_cache": {}},
        {
            "name": "strong",
            "stage": "strong",
            "model": "llama-3.1-70b",
            "accelerator": "h100-sxm",
            "tp": 4,
            "batching": {"order": "priority"},
        },
    ],
    "routers": [{"stage": "strong", "router": "session_affinity"}],
    "services": [{"stage": "guard", "device": "l4"}],
    "tiers": [{"name": "host", "clients": 1, "memory_gb": 100, "gb_per_s": 50}],
}
AGENTS = {
    "requests": 40,
    "arrivals": {"process": "poisson", "rate_rps": 2},
    "lengths": {"statistics": "azure-2023-conversation"},
    "pipeline": [
        {
            "kind": "cascade",
            "stages": ["weak", "strong"],
            "fallback": [0.3],
            "judge": {"kind": "guard", "applies_to": "output"},
        }
    ],
    "classes": [
        {"name": "chat", "share": 3, "session": {"turns": 3, "wait_s": 5, "prompt_tokens": 50, "keep": "offload"}},
        {"name": "hard", "share": 1, "priority": 1},
    ],
}


@pytest.fixture
def agents(study: Path) -> list[str]:
    """Two models, a judge, tiers, classes and sessions; return the arguments that simulate them."""
    study.with_name("deployment.yaml").write_text(yaml.safe_dump(DEPLOYMENT))
    study.with_name("agents.yaml").write_text(yaml.safe_dump(AGENTS))
    return ["simulate", "deployment.yaml", "--workload", "agents.yaml"]


def test_simulate_several_models_sessions_and_tiers(
    agents: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dse(monkeypatch, *agents, "--slo", "session:100:3600") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:1] == ["session"] for line in lines)
    assert any(line.startswith("pool weak: ") and "prefix cache spared" in line for line in lines)
    assert not any(line.startswith("pool strong: ") and "prefix cache" in line for line in lines)
    assert any(line.startswith("service guard on l4: ") for line in lines)
    assert any(line.startswith("tier host") and "prompt tokens fetched" in line for line in lines)
    assert lines[-1].startswith("session p100: ")
    assert lines[-1].endswith("kept (100.00% within)")
    assert dse(monkeypatch, *agents, "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["sessions"] == 40
    assert 0 < figures["session_p50_s"] <= figures["session_p99_s"]
    assert [pool["name"] for pool in figures["pools"]] == ["weak", "strong"]
    assert figures["pools"][0]["cache_hits"] > 0
    assert figures["tiers"]
    assert dse(monkeypatch, *agents, "--slo", "session:50:0.001") == 3


def test_simulate_writes_what_happened_when(
    agents: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gzip

    before = set(Path().iterdir())
    files = ["--trace-out", "trace.json.gz", "--series-out", "series.csv", "--requests-csv", "requests.csv.gz"]
    assert dse(monkeypatch, *agents, *files) == 0
    written = capsys.readouterr().out
    assert {path.name for path in set(Path().iterdir()) - before} == set(files[1::2])
    with gzip.open("trace.json.gz") as file:
        assert json.load(file)["traceEvents"]
    assert len(pd.read_csv("series.csv")) == 200
    assert len(pd.read_csv("requests.csv.gz")) > 40
    # Keeping a log changes nothing.
    assert dse(monkeypatch, *agents) == 0
    assert capsys.readouterr().out == written


HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BAD_FILES = {
    "empty.csv": "",
    "header.csv": HEADER,
    "cut.csv": f"{HEADER}2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,39",
    "nan.csv": f"{HEADER}2023-11-16 18:15:46.6805900,nan,44\n",
    "syntax.yaml": "name: [",
    "list.yaml": "- 1\n",
    "unknown_key.yaml": yaml.safe_dump({**SMALL, "objectve": 1}),
    "negative_rate.yaml": yaml.safe_dump(
        {**SMALL, "workload": {**SMALL["workload"], "arrivals": {"process": "poisson", "rate_rps": -4}}}
    ),
    "nan_limit.yaml": yaml.safe_dump(
        {**SMALL, "slos": [{"metric": "ttft", "percentile": 90, "limit_s": float("nan")}]}
    ),
    "empty_space.yaml": yaml.safe_dump({**SMALL, "space": {**SMALL["space"], "clients": []}}),
    "bad_objective.yaml": yaml.safe_dump({**SMALL, "objectives": ["speed"]}),
    "deployment.yaml": yaml.safe_dump(DEPLOYMENT),
    "agents.yaml": yaml.safe_dump(AGENTS),
    "models.yaml": yaml.safe_dump({**SMALL, "workload": AGENTS}),
    "bad_hardware.yaml": yaml.safe_dump({**SMALL, "space": {**SMALL["space"], "accelerators": ["h100"]}}),
}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "chatt"], ["'chatt'", "chat"]),
        (["run", "missing.yaml"], ["missing.yaml", "No such file"]),
        (["run", "unknown_key.yaml"], ["unknown_key.yaml", "objectve", "allowed", "objectives"]),
        (["run", "negative_rate.yaml"], ["rate_rps", "-4", "greater than 0"]),
        (["run", "nan_limit.yaml"], ["limit_s", "finite"]),
        (["run", "bad_objective.yaml"], ["objectives", "'speed'", "usd_per_hour"]),
        (["run", "bad_hardware.yaml"], ["'h100'", "h100-sxm"]),
        (["run", "syntax.yaml"], ["syntax.yaml", "not valid YAML", "line"]),
        (["run", "empty_space.yaml"], ["clients", "at least one value"]),
        (["run", "list.yaml"], ["list.yaml"]),
        (["run", "small.yaml", "--rate", "-1"], ["--rate", "-1"]),
        (["run", "small.yaml", "--rate", "nan"], ["--rate", "nan"]),
        (["run", "small.yaml", "--jobs", "0"], ["--jobs", "0"]),
        (["run", "small.yaml", "--sampler", "magic"], ["sampler", "'magic'", "nsga2"]),
        (["run", "small.yaml", "--trace", "empty.csv"], ["empty.csv"]),
        (["run", "small.yaml", "--trace", "header.csv"], ["header.csv"]),
        (["run", "small.yaml", "--trace", "cut.csv"], ["cut.csv", "row 2"]),
        (["run", "small.yaml", "--trace", "nan.csv"], ["nan.csv", "ContextTokens"]),
        (["run", "small.yaml", "--out", "small.yaml/x"], ["small.yaml/x", "cannot write"]),
        (["run", "small.yaml", "--out", "nowhere", "--resume"], ["nowhere", "no run to resume"]),
        (["run", "small.yaml", "--resume", "--overwrite"], ["--resume", "--overwrite"]),
        (["report", "nowhere"], ["nowhere", "no finished run"]),
        (["simulate", "--model", "llama-3.1-8b", "--tp", "3"], ["tp", "3", "allowed: 1, 2, 4, 8"]),
        (["simulate", "--model", "llama-3.1-405b", "--tp", "8"], ["405b", "GB", "raise tp"]),
        (["simulate", "--model", "bge-large-en", "--tp", "1"], ["bge-large-en", "encoder"]),
        (["simulate", "--slo", "fast"], ["--slo", "'fast'", "ttft:99:2"]),
        (["simulate", "--clients", "0"], ["clients", "0"]),
        (["simulate", "--workload", "small.yaml"], ["small.yaml"]),
        (["simulate", "--slo", "session:90:60"], ["session_p90_s", "no sessions"]),
        (["simulate", "--slo", "speed:90:60"], ["speed", "session"]),
        (["simulate", "--trace-out", "nowhere/trace.json"], ["nowhere/trace.json", "no folder nowhere"]),
        (["simulate", "--series-out", "."], [".", "it is a folder"]),
        (["simulate", "deployment.yaml"], ["'weak'", "LLM stages: llm"]),
        (["simulate", "--workload", "agents.yaml"], ["'llm'", "weak, strong"]),
        (["simulate", "deployment.yaml", "--workload", "agents.yaml", "--trace", "x.csv"], ["x.csv", "sessions"]),
        (["run", "models.yaml"], ["models.yaml", "weak, strong", "stages: given none"]),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str],
    words: list[str],
    study: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, content in BAD_FILES.items():
        Path(name).write_text(content)
    before = sorted(Path().rglob("*"))
    assert dse(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err
    assert sorted(Path().rglob("*")) == before, "something was left behind"
    assert study.exists()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_control_c_keeps_what_is_there_and_resume_goes_on(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = start("run", str(study), "--trials", "100000", "--jobs", "2", "--out", "long")
    _wait_for_trials(Path("long/trials.journal"), 30)
    os.killpg(long.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    _, complaint = long.communicate(timeout=60)
    assert long.returncode == 130, complaint
    assert "Traceback" not in complaint
    assert "--resume" in complaint
    done = json.loads(Path("long/study.json").read_text())
    assert done["interrupted"]
    assert done["simulated"] > 0
    more = str(done["simulated"] + 10)
    assert dse(monkeypatch, "run", str(study), "--out", "long", "--resume", "--trials", more, "-q") == 0
    assert json.loads(Path("long/study.json").read_text())["simulated"] == int(more)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_kill_loses_no_finished_trial(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = start("run", str(study), "--trials", "100000", "--jobs", "1", "--out", "killed")
    journal = Path("killed/trials.journal")
    _wait_for_trials(journal, 30)
    victim.kill()
    victim.wait(timeout=60)
    lines = sum(line.endswith(b"\n") for line in journal.read_bytes().splitlines(keepends=True))
    assert dse(monkeypatch, "run", str(study), "--out", "killed", "--resume", "--trials", "20", "-q") == 0
    result = json.loads(Path("killed/study.json").read_text())
    assert result["simulated"] + result["excluded"] >= lines - 10


def _wait_for_trials(journal: Path, lines: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.05)
    raise AssertionError(f"{journal} did not grow")


def test_two_runs_do_not_share_a_folder(study: Path) -> None:
    """Both start at once with the same name: each gets a folder. In one folder the second is refused."""
    both = [start("run", str(study), "--jobs", "1", "-q") for _ in range(2)]
    printed = {run.communicate(timeout=90)[0].strip() for run in both}
    assert printed == {"runs/small/report.html", "runs/small-2/report.html"}
    first = start("run", str(study), "--out", "one", "--trials", "100000", "--jobs", "1")
    _wait_for_trials(Path("one/trials.journal"), 5)
    second = start("run", str(study), "--out", "one", "--resume", "--jobs", "1")
    complaint = second.communicate(timeout=60)[1]
    assert second.returncode == 2
    assert "another run is using it" in complaint
    first.kill()
    first.wait(timeout=60)


def test_report_leaves_the_journal_alone(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dse(monkeypatch, "run", str(study), "--jobs", "1", "--out", "here", "-q") == 0
    journal = Path("here/trials.journal")
    before = journal.read_bytes()
    assert dse(monkeypatch, "report", "here") == 0
    assert journal.read_bytes() == before
    journal.unlink()
    assert dse(monkeypatch, "report", "here") == 2
    assert not journal.exists()
    Path("here/study.json").write_text("[]")
    assert dse(monkeypatch, "report", "here") == 2


@pytest.mark.parametrize(
    "command",
    [
        "run study.yaml --jobs 1 --out PLACE",
        "run study.yaml --jobs 1 --out PLACE -q",
        "report study -o PLACE.html",
        "why study --slice main.tp -o PLACE.html",
        "explain -o PLACE.html",
        "capacity deployment.yaml --requests 200 --slo ttft:90:2 --rates 1:2:2 --plot PLACE.html",
        "export deployment.yaml -o PLACE",
        "plan --model llama-3.1-8b --devices l4:2 -o PLACE.yaml",
    ],
)
def test_brackets_in_paths_are_no_markup(
    finished: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    place = f"[red]:x:{len(os.listdir())}"
    assert dse(monkeypatch, *command.replace("PLACE", place).split()) == 0
    printed = capsys.readouterr()
    assert place in printed.out + printed.err


def test_only_one_file_of_the_commands_makes_consoles() -> None:
    """What it makes takes text as it is; whatever reads markup elsewhere would lose brackets in names."""
    reading = re.compile(r"Console\(|TextColumn|from_markup|markup=True|rich\.markup")
    folder = Path(main.__code__.co_filename).parent
    assert [file.name for file in sorted(folder.glob("*.py")) if reading.search(file.read_text())] == ["console.py"]


def test_lists_and_schema(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for what, word in (
        ("studies", "chat"),
        ("models", "llama-3.1-70b"),
        ("hardware", "mi300x"),
        ("engines", "trtllm-0.14"),
    ):
        assert dse(monkeypatch, "list", what) == 0
        assert word in capsys.readouterr().out
    assert dse(monkeypatch, "schema", "study") == 0
    assert "objectives" in json.loads(capsys.readouterr().out)["properties"]
